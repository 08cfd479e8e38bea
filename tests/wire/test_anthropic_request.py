"""Anthropic Messages: neutral requests to bodies, also judged by the vendor's own published types."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Unknown
from allm.providers.adapter import EITHER
from allm.providers.answer_ways import ANSWER_TOOL
from allm.providers.anthropic import Anthropic
from allm.providers.anthropic_thread import MAX_IMAGE, NO_MESSAGE, NO_RESULT
from allm.providers.ids import wire_id, wire_names
from tests.wire.judging import MESSAGES, Judge, judged

URL = "https://api.anthropic.com"
PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = "https://example.org/a.png"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
LOOSE: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
CLOSED: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
WEATHER = ToolSpec("weather", "Tells the weather.", SCHEMA)
NOW = ToolSpec("now")
NOW_TOOL: dict[str, Any] = {"name": "now", "input_schema": {"type": "object", "properties": {}}}
HI = (allm.user("Hi"),)
SAID = [{"role": "user", "content": "Hi"}]
NEW, MIDDLE, OLD, OTHER = "claude-opus-4-8", "claude-sonnet-4-6", "claude-3-5-haiku-20241022", "bench-1"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Case:
    """A request, and what its body has beside `model`, `messages`, `max_tokens` and `stream`."""

    name: str
    request: Request
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[dict[str, Any]] = field(default_factory=lambda: SAID)
    max_tokens: int = 4096
    model: str = "claude-sonnet-4-5"
    opts: dict[str, Any] = field(default_factory=dict[str, Any])


def asked(**fields: Any) -> Request:
    return Request(HI, **fields)


def said(*messages: Message, **fields: Any) -> Request:
    return Request(messages, **fields)


def parts(*given: Any) -> Request:
    return said(Message("user", given))


def user(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def use(id: str = "c1", name: str = "weather", **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def result(content: Any = None, id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, **({} if content is None else {"content": content}), **more}


def missing(id: str = "c1") -> dict[str, Any]:
    return result(NO_RESULT, id, is_error=True)


def called(*calls: Any, thought: tuple[Any, ...] = ()) -> Message:
    made: list[Any] = [call if isinstance(call, TextPart | ProviderPart) else ToolCallPart(*call) for call in calls]
    return Message("assistant", (*thought, *made))


def calling(*content: dict[str, Any], answer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*SAID, {"role": "assistant", "content": list(content)}, {"role": "user", "content": answer}]


CALLED_TOOLS = {"tools": [{"name": "weather", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}}
FORGED = {"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}}
C1 = ("c1", "weather", {"city": "Oslo"})
SIGNED = ReasoningPart("Hm", "sig", None, "anthropic")
SECRET = ReasoningPart("", None, "x1", "anthropic")
CITED = {
    "type": "char_location",
    "cited_text": "x",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
}
SEARCHED = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}}
FOUND: dict[str, Any] = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
ORPHAN = ProviderPart("anthropic", "server_tool_use", SEARCHED)
ANSWER = ProviderPart("anthropic", "web_search_tool_result", FOUND)
DOTTED = wire_names(["a_b", "a.b"], 128)["a.b"]
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def answer_tool(schema: dict[str, Any], name: str = " (answer)") -> dict[str, Any]:
    return {"name": ANSWER_TOOL, "description": f"Gives the final answer{name}.", "input_schema": schema}


THREADS = [
    Case("a bare question", asked()),
    Case("a system message", said(allm.system("Be brief."), *HI), {"system": "Be brief."}),
    Case(
        "system messages in several places come first",
        said(allm.system("a"), *HI, allm.system("b"), allm.assistant("Hello."), Message("user", "Bye")),
        {"system": [text("a"), text("b")]},
        [*SAID, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Bye"}],
    ),
    Case(
        "a model that takes them in place gets them in place",
        said(allm.system("a"), *HI, allm.system("b"), allm.assistant("Hello."), allm.system("c"), Message("user", "Bye"), allm.system(" ")),
        {"system": "a"},
        [
            *SAID,
            {"role": "system", "content": "b"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Bye"},
            {"role": "system", "content": "c"},
        ],
        model=NEW,
    ),
    Case(
        "in place is after a user's turn only",
        said(*HI, allm.assistant("Hello."), allm.system("b")),
        {"system": "b"},
        [*SAID, {"role": "assistant", "content": "Hello."}],
        model=NEW,
    ),
    Case(
        "where system messages go can be told",
        said(*HI, allm.system("b")),
        messages=[*SAID, {"role": "system", "content": "b"}],
        opts={"system": "in_place"},
    ),
    Case("and told to be first", said(*HI, allm.system("b")), {"system": "b"}, model=NEW, opts={"system": "first"}),
    Case("nothing but instructions", said(allm.system("Write.")), {"system": "Write."}, [{"role": "user", "content": NO_MESSAGE}]),
    Case(
        "several turns with names",
        said(Message("user", "Hi", name="ann"), allm.assistant("Hello."), Message("user", "Hi", name="bob")),
        messages=[*SAID, {"role": "assistant", "content": "Hello."}, *SAID],
    ),
    Case("two messages of the user's are one turn", said(*HI, *HI), messages=user(text("Hi"), text("Hi"))),
    Case(
        "two messages of the assistant's are one turn",
        said(*HI, allm.assistant("a"), allm.assistant("b"), *HI),
        messages=[*SAID, {"role": "assistant", "content": [text("a"), text("b")]}, *SAID],
    ),
    Case(
        "a thread may begin with the assistant",
        said(allm.assistant("Hello."), *HI),
        messages=[{"role": "assistant", "content": "Hello."}, *SAID],
    ),
    Case(
        "an answer to go on with has no blanks at its end",
        said(*HI, allm.assistant("So \n")),
        messages=[*SAID, {"role": "assistant", "content": "So"}],
    ),
    Case(
        "who said nothing is left out",
        said(*HI, Message("assistant"), Message("user", "  "), Message("assistant", (TextPart("\n"),)), *HI),
        messages=user(text("Hi"), text("Hi")),
    ),
    Case(
        "a call and its result",
        said(*HI, called(TextPart("Let me see."), C1), allm.tool_result("c1", "rain")),
        CALLED_TOOLS,
        calling(text("Let me see."), use(city="Oslo"), answer=[result("rain")]),
    ),
    Case(
        "results of parallel calls are one turn, in the order of the calls, before what the user said",
        said(*HI, called(C1, ("c2", "weather")), Message("user", "Well?"), allm.tool_result("c2", "sun"), allm.tool_result("c1", "rain")),
        CALLED_TOOLS,
        calling(use(city="Oslo"), use("c2"), answer=[result("rain"), result("sun", "c2"), text("Well?")]),
    ),
    Case(
        "a call without a result gets one that says so",
        said(*HI, called(C1), allm.assistant("Never mind."), *HI),
        CALLED_TOOLS,
        [*calling(use(city="Oslo"), answer=[missing()]), {"role": "assistant", "content": "Never mind."}, *SAID],
    ),
    Case(
        "calls told in two messages are of one turn",
        said(*HI, called(C1), called(("c2", "weather")), allm.tool_result("c1", "rain"), allm.tool_result("c2", "sun")),
        CALLED_TOOLS,
        calling(use(city="Oslo"), use("c2"), answer=[result("rain"), result("sun", "c2")]),
    ),
    Case(
        "tools among the options are not declared again, nor forbidden",
        said(*HI, called(C1), allm.tool_result("c1", "rain"), options={"tools": [NOW_TOOL]}),
        {"tools": [NOW_TOOL]},
        calling(use(city="Oslo"), answer=[result("rain")]),
    ),
    Case("a thread that ends with a call", said(*HI, called(C1)), CALLED_TOOLS, calling(use(city="Oslo"), answer=[missing()])),
    Case(
        "a result without its call is told as text",
        said(*HI, allm.tool_result("c9", "rain")),
        messages=user(text("Hi"), text("Result of the tool call c9:"), text("rain")),
    ),
    Case(
        "ids of other wires are replaced, the same id in a later turn too",
        said(
            *HI, called(("a.b:1", "weather")), allm.tool_result("a.b:1", "x"), called(("a.b:1", "weather")), allm.tool_result("a.b:1", "y")
        ),
        CALLED_TOOLS,
        [
            *calling(use(wire_id("a.b:1")), answer=[result("x", wire_id("a.b:1"))]),
            {"role": "assistant", "content": [use(wire_id("a.b:1.2"))]},
            {"role": "user", "content": [result("y", wire_id("a.b:1.2"))]},
        ],
    ),
    Case(
        "one id for two calls in a turn",
        said(*HI, called(("0", "weather"), ("0", "weather")), allm.tool_result("0", "x"), allm.tool_result("0", "y")),
        CALLED_TOOLS,
        calling(use("0"), use(wire_id("0.2")), answer=[result("x", "0"), result("y", wire_id("0.2"))]),
    ),
    Case(
        "a name of another wire is replaced",
        said(*HI, called(("c1", "a.b:c")), allm.tool_result("c1", "x")),
        {**CALLED_TOOLS, "tools": [{"name": "a_b_c", "input_schema": {"type": "object"}}]},
        calling(use(name="a_b_c"), answer=[result("x")]),
    ),
    Case(
        "broken arguments go back as none",
        said(*HI, called(("c1", "weather", {}, '{"a":'))),
        CALLED_TOOLS,
        calling(use(), answer=[missing()]),
    ),
    Case(
        "a result in parts, of nothing, and of an error",
        said(
            *HI,
            called(C1, ("c2", "weather"), ("c3", "weather")),
            Message("tool", (TextPart("rain"), ImagePart(Image.from_url(PICTURE))), tool_call_id="c1"),
            allm.tool_result("c2", " "),
            Message("tool", (TextPart("broken"),), tool_call_id="c3", metadata={"is_error": True}),
        ),
        CALLED_TOOLS,
        calling(
            use(city="Oslo"),
            use("c2"),
            use("c3"),
            answer=[
                result([text("rain"), {"type": "image", "source": {"type": "url", "url": PICTURE}}]),
                result(id="c2"),
                result("broken", "c3", is_error=True),
            ],
        ),
    ),
    Case(
        "reasoning goes back as it was signed",
        said(*HI, called(C1, thought=(SIGNED, SECRET)), allm.tool_result("c1", "rain")),
        CALLED_TOOLS,
        calling(
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "x1"},
            use(city="Oslo"),
            answer=[result("rain")],
        ),
    ),
    Case(
        "reasoning of others, or unsigned, is left out",
        said(
            *HI,
            Message(
                "assistant",
                (ReasoningPart("a"), ReasoningPart("b", "s", None, "gemini"), ReasoningPart("c", provider="anthropic"), TextPart("d")),
            ),
            *HI,
        ),
        messages=[*SAID, {"role": "assistant", "content": "d"}, *SAID],
    ),
    Case(
        "reasoning that was cut off is left out",
        said(*HI, Message("assistant", (TextPart("a"), SIGNED)), *HI, Message("assistant", (SIGNED,))),
        messages=[*SAID, {"role": "assistant", "content": "a"}, *SAID],
    ),
    Case(
        "blocks of its own keep their places, those of others are left out",
        said(
            *HI,
            Message(
                "assistant",
                (
                    TextPart("a"),
                    ProviderPart("anthropic", "citations", {"citations": [{**CITED, "file_id": None}]}),
                    ProviderPart("anthropic", "server_tool_use", SEARCHED),
                    ProviderPart("anthropic", "web_search_tool_result", FOUND),
                    ProviderPart("gemini", "x", {"x": 1}),
                    Unknown("new", {"type": "new"}),
                    TextPart("b"),
                ),
            ),
            *HI,
        ),
        messages=[*SAID, {"role": "assistant", "content": [text("a", citations=[CITED]), SEARCHED, FOUND, text("b")]}, *SAID],
    ),
    Case(
        "a server tool's call without its result is left out, and the turn if it was nothing else",
        said(
            *HI,
            Message("assistant", (TextPart("a"), ReasoningPart("Hm", "sig", None, "anthropic"), ORPHAN)),
            *HI,
            Message("assistant", (ProviderPart("anthropic", "mcp_tool_use", {"id": "mcptoolu_1", "name": "x", "input": {}}),)),
            *HI,
        ),
        messages=[*SAID, {"role": "assistant", "content": "a"}, {"role": "user", "content": [text("Hi"), text("Hi")]}],
    ),
    Case(
        "and so is a result whose call is gone",
        said(*HI, Message("assistant", (ANSWER, TextPart("b"))), *HI),
        messages=[*SAID, {"role": "assistant", "content": "b"}, *SAID],
    ),
    Case(
        "it stays where the answer goes on with it: at the end, or behind the results of the calls beside it",
        said(*HI, Message("assistant", (ORPHAN, ToolCallPart(*C1))), allm.tool_result("c1", "rain")),
        CALLED_TOOLS,
        [*SAID, {"role": "assistant", "content": [SEARCHED, use(city="Oslo")]}, {"role": "user", "content": [result("rain")]}],
    ),
    Case(
        "a server tool's result may come in a later turn",
        said(
            *HI,
            Message("assistant", (ORPHAN, ToolCallPart(*C1))),
            allm.tool_result("c1", "rain"),
            Message("assistant", (ANSWER, TextPart("b"))),
            *HI,
        ),
        CALLED_TOOLS,
        [
            *SAID,
            {"role": "assistant", "content": [SEARCHED, use(city="Oslo")]},
            {"role": "user", "content": [result("rain")]},
            {"role": "assistant", "content": [FOUND, text("b")]},
            *SAID,
        ],
    ),
    Case(
        "an assistant that said nothing is left out",
        said(*HI, Message("assistant"), Message("assistant", (TextPart(" "), ReasoningPart("Hm"))), *HI),
        messages=[{"role": "user", "content": [text("Hi"), text("Hi")]}],
    ),
    Case(
        "arguments that are no object go back as an empty one",
        said(*HI, called(("c1", "weather", {}, '{"city": "Os')), allm.tool_result("c1", "rain")),
        CALLED_TOOLS,
        calling(use(), answer=[result("rain")]),
    ),
    Case(
        "a tool whose name the wire does not allow is declared, chosen and called by the same one",
        said(*HI, called(("c1", "a.b")), allm.tool_result("c1", "rain"), tools=(ToolSpec("a_b"), ToolSpec("a.b")), tool_choice="a.b"),
        {
            "tools": [{**NOW_TOOL, "name": "a_b"}, {**NOW_TOOL, "name": DOTTED}],
            "tool_choice": {"type": "tool", "name": DOTTED},
        },
        calling(use(name=DOTTED), answer=[result("rain")]),
    ),
    Case(
        "a tool's schema has no alternatives at its top",
        asked(tools=(ToolSpec("f", schema={"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]}),)),
        {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}]},
    ),
    Case(
        "who called goes back with the call",
        said(
            *HI,
            called(C1, ProviderPart("anthropic", "tool_use", {"id": "c1", "caller": {"type": "direct"}})),
            allm.tool_result("c1", "rain"),
        ),
        CALLED_TOOLS,
        calling({**use(city="Oslo"), "caller": {"type": "direct"}}, answer=[result("rain")]),
    ),
    Case(
        "citations and callers of nothing are left out",
        said(
            *HI, Message("assistant", (ProviderPart("anthropic", "citations"), ProviderPart("anthropic", "tool_use"), TextPart("b"))), *HI
        ),
        messages=[*SAID, {"role": "assistant", "content": "b"}, *SAID],
    ),
    Case(
        "an image that the assistant made is shown by the user",
        said(*HI, Message("assistant", (ImagePart(Image.from_binary(PNG)),)), Message("user", "Bluer.")),
        messages=user(
            text("Hi"),
            text("The assistant made an image:"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)}},
            text("Bluer."),
        ),
    ),
    Case(
        "what the assistant made and the wire does not take is told of",
        said(
            *HI,
            Message(
                "assistant",
                (TextPart("Here."), ImagePart(Image.from_url("gs://b/a.png")), FilePart(data=b"w", mime="audio/wav")),
            ),
            Message("user", "Bluer."),
        ),
        messages=[
            *SAID,
            {"role": "assistant", "content": "Here."},
            *user(text("The assistant made an image."), text("The assistant made a file."), text("Bluer.")),
        ],
    ),
]

CONTENTS = [
    Case(
        "an image by its address",
        parts(TextPart("Look:"), ImagePart(Image.from_url(PICTURE), "high")),
        messages=user(text("Look:"), {"type": "image", "source": {"type": "url", "url": PICTURE}}),
    ),
    *(
        Case(
            f"an image by its bytes, {mime}",
            parts(ImagePart(Image.from_binary(b"x", mime))),
            messages=user({"type": "image", "source": {"type": "base64", "media_type": wired, "data": b64(b"x")}}),
        )
        for mime, wired in [
            ("image/png", "image/png"),
            ("image/jpeg", "image/jpeg"),
            ("image/jpg", "image/jpeg"),
            ("image/gif", "image/gif"),
            ("image/webp", "image/webp"),
        ]
    ),
    Case(
        "documents",
        parts(
            FilePart(data=b"%PDF", mime="application/pdf", name="a.pdf"), FilePart(data=b"%PDF"), FilePart(url="https://example.org/a.pdf")
        ),
        messages=user(
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": b64(b"%PDF")}, "title": "a.pdf"},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": b64(b"%PDF")}},
            {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        ),
    ),
    Case(
        "texts and images as files",
        parts(
            FilePart(data=b"a,b", mime="text/csv; charset=utf-8", name="a.csv"), FilePart(data=PNG), FilePart(url=PICTURE, mime="image/png")
        ),
        messages=user(
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a,b"}, "title": "a.csv"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)}},
            {"type": "image", "source": {"type": "url", "url": PICTURE}},
        ),
    ),
    Case(
        "a block of the provider's own goes back to it, others' are left out",
        parts(
            TextPart("a"),
            ProviderPart("anthropic", "container_upload", {"file_id": "f1"}),
            ProviderPart("gemini", "x", {"x": 1}),
            ReasoningPart("hm"),
            Unknown("new", {"type": "new"}),
        ),
        messages=user(text("a"), {"type": "container_upload", "file_id": "f1"}),
    ),
]

TOOLS = [
    Case(
        "tools",
        asked(tools=(WEATHER, NOW, ToolSpec("odd", "", {"properties": {}}))),
        {
            "tools": [
                {"name": "weather", "input_schema": SCHEMA, "description": "Tells the weather."},
                NOW_TOOL,
                {"name": "odd", "input_schema": {"type": "object", "properties": {}}},
            ]
        },
    ),
    *(
        Case(f"tool choice {word}", asked(tools=(NOW,), tool_choice=word), {"tools": [NOW_TOOL], "tool_choice": wired})
        for word, wired in [
            ("auto", {"type": "auto"}),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            ("now", {"type": "tool", "name": "now"}),
        ]
    ),
    Case("a tool choice without tools", asked(tool_choice="auto")),
]

PARAMETERS = [
    Case("sampling", asked(temperature=0.0, top_p=0.5, seed=7), {"temperature": 0.0, "top_p": 0.5}),
    Case("more heat than the wire has", asked(temperature=1.7), {"temperature": 1}),
    Case("words to stop at", asked(stop=("END", "STOP")), {"stop_sequences": ["END", "STOP"]}),
    Case("the most tokens", asked(max_tokens=5), max_tokens=5),
    Case("the most tokens for an engine", asked(), max_tokens=9000, opts={"max_tokens": 9000}),
    Case("options go in unchanged", asked(options={"top_k": 5, "service_tier": "auto"}), {"top_k": 5, "service_tier": "auto"}),
    Case(
        "options override", asked(temperature=1, options={"temperature": 0.25, "model": "other"}), {"temperature": 0.25, "model": "other"}
    ),
    Case("the request's model comes before the engine's", asked(model="mine"), {"model": "mine"}),
    Case("a cache for a while", asked(prompt_cache={"key": "u"}), messages=user(text("Hi", **EPHEMERAL))),
    Case(
        "a cache for long, of tools, system and thread",
        said(allm.system("a"), *HI, tools=(WEATHER, NOW), prompt_cache={"retention": "long"}),
        {
            "system": [text("a", **HOUR)],
            "tools": [{"name": "weather", "input_schema": SCHEMA, "description": "Tells the weather."}, {**NOW_TOOL, **HOUR}],
        },
        user(text("Hi", **HOUR)),
    ),
]

THINKING = [
    *(
        Case(
            f"reasoning {given} in tokens",
            asked(reasoning=given),
            {"thinking": {"type": "enabled", "budget_tokens": budget}},
            max_tokens=4096 + budget,
        )
        for given, budget in [("low", 2048), ("medium", 8192), ("high", 24576), (1, 1024), (5000, 5000)]
    ),
    *(
        Case(
            f"reasoning {given} as an effort",
            asked(reasoning=given),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": word}},
            model=NEW,
        )
        for given, word in [("low", "low"), ("medium", "medium"), ("high", "high"), (2048, "low"), (2049, "medium"), (99999, "high")]
    ),
    Case(
        "both are taken: an effort",
        asked(reasoning="low"),
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        model=MIDDLE,
    ),
    Case(
        "both are taken: tokens",
        asked(reasoning=3000),
        {"thinking": {"type": "enabled", "budget_tokens": 3000}},
        max_tokens=7096,
        model=MIDDLE,
    ),
    Case("no reasoning of who does not by itself", asked(reasoning="none")),
    Case("no reasoning of who may", asked(reasoning=0), {"thinking": {"type": "disabled"}}, model=NEW),
    Case("a Claude without a version is the newest", asked(reasoning="none"), {"thinking": {"type": "disabled"}}, model="claude-latest"),
    Case(
        "a version can be told",
        asked(reasoning="low"),
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        model=OTHER,
        opts={"model_version": [5, 0]},
    ),
    Case(
        "tokens enough stay",
        asked(reasoning=1024, max_tokens=1025),
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        max_tokens=1025,
    ),
    Case(
        "tokens too few grow",
        asked(reasoning=1024, max_tokens=1024),
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        max_tokens=2048,
    ),
    Case(
        "a budget among the options",
        asked(options={"thinking": {"type": "enabled", "budget_tokens": 6000}}),
        {"thinking": {"type": "enabled", "budget_tokens": 6000}},
        max_tokens=10096,
    ),
    Case(
        "an effort among the options leaves the format",
        asked(response_format=allm.json_schema("answer", SCHEMA), options={"output_config": {"effort": "max"}}),
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "max"}},
        model=NEW,
    ),
    Case(
        "thinking does not begin in the midst of a turn",
        said(*HI, called(("c1", "f")), allm.tool_result("c1", "x"), called(("c2", "f")), allm.tool_result("c2", "y"), reasoning="low"),
        FORGED,
        [
            *calling(use(name="f"), answer=[result("x")]),
            {"role": "assistant", "content": [use("c2", "f")]},
            {"role": "user", "content": [result("y", "c2")]},
        ],
    ),
    Case(
        "thinking goes on in a turn that began with it",
        said(*HI, called(("c1", "f"), thought=(SIGNED,)), allm.tool_result("c1", "x"), reasoning=1024),
        {**FORGED, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        calling({"type": "thinking", "thinking": "Hm", "signature": "sig"}, use(name="f"), answer=[result("x")]),
        max_tokens=5120,
    ),
    Case(
        "thinking begins in a new turn",
        said(allm.assistant("Hello."), *HI, reasoning=1024),
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        [{"role": "assistant", "content": "Hello."}, *SAID],
        max_tokens=5120,
    ),
]

FORMAT = {"type": "json_schema", "schema": CLOSED}
ONLY_ANSWER = {"tool_choice": {"type": "tool", "name": ANSWER_TOOL}}


def formed(schema: Any, strict: bool = True, **fields: Any) -> Request:
    return asked(response_format=allm.json_schema("answer", schema, strict), **fields)


NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "list": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "maxItems": 9},
        "many": {"type": "array", "items": {"type": "string"}, "minItems": 5},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "$defs": {"item": {"type": "object", "properties": {"n": {"const": 1}}}},
}
NESTED_CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "list": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1},
        "many": {"type": "array", "items": {"type": "string"}},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "$defs": {"item": {"type": "object", "properties": {"n": {"const": 1}}, "additionalProperties": False}},
    "additionalProperties": False,
}
BEYOND: dict[str, Any] = {
    "an open object": {"type": "object", "properties": {}, "additionalProperties": True},
    "any object": {"type": "object"},
    "one of several": {"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}]}}},
    "a schema that is none": {"type": "object", "properties": {"a": True}},
    "odd items": {"type": "object", "properties": {"a": {"type": "array", "items": False}}},
    "odd properties": {"type": "object", "properties": None},
    "a schema within itself": {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "definitions in a circle": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}},
    },
}

FORMATS = [
    Case("a schema", formed(LOOSE), {"output_config": {"format": FORMAT}}),
    Case("a nested schema", formed(NESTED), {"output_config": {"format": {"type": "json_schema", "schema": NESTED_CLOSED}}}),
    Case("a schema that is not strict and fits", formed(CLOSED, strict=False), {"output_config": {"format": FORMAT}}),
    Case("a schema that is not strict and does not", formed(LOOSE, strict=False), {"tools": [answer_tool(LOOSE)], **ONLY_ANSWER}),
    Case(
        "a schema and an effort",
        formed(CLOSED, reasoning="low"),
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low", "format": FORMAT}},
        model=NEW,
    ),
    *(
        Case(f"beyond what is native: {name}", formed(schema), {"tools": [answer_tool({"type": "object", **schema})], **ONLY_ANSWER})
        for name, schema in BEYOND.items()
    ),
    Case("a schema for an older model", formed(CLOSED), {"tools": [answer_tool(CLOSED)], **ONLY_ANSWER}, model=OLD),
    Case("a schema for another maker's", formed(CLOSED), {"tools": [answer_tool(CLOSED)], **ONLY_ANSWER}, model=OTHER),
    Case("any JSON", asked(response_format="json"), {"tools": [answer_tool({"type": "object"}, "")], **ONLY_ANSWER}),
    Case("plain text", asked(response_format="text")),
    Case(
        "a schema beside tools",
        formed(CLOSED, tools=(NOW,)),
        {"tools": [NOW_TOOL, answer_tool(CLOSED)], "tool_choice": {"type": "any"}},
        model=OLD,
    ),
    Case(
        "a schema beside a tool that must be called",
        formed(CLOSED, tools=(NOW,), tool_choice="now"),
        {"tools": [NOW_TOOL, answer_tool(CLOSED)], "tool_choice": {"type": "tool", "name": "now"}},
        model=OLD,
    ),
    Case(
        "a schema beside tools that may not be called",
        formed(CLOSED, tools=(NOW,), tool_choice="none"),
        {"tools": [NOW_TOOL, answer_tool(CLOSED)], **ONLY_ANSWER},
        model=OLD,
    ),
    Case(
        "who thinks is not forced",
        formed(BEYOND["any object"], reasoning=1024),
        {
            "tools": [answer_tool({"type": "object"})],
            "tool_choice": {"type": "auto"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
        max_tokens=5120,
    ),
]

CASES = [*THREADS, *CONTENTS, *TOOLS, *PARAMETERS, *THINKING, *FORMATS]
by_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def sent(case: Case, stream: bool) -> dict[str, Any]:
    engine = Engine(f"anthropic:{case.model}", adapter_opts=case.opts)
    body: dict[str, Any] = json.loads(Anthropic().request(engine, case.request, URL, stream).body)
    return body


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@by_case
def test_a_neutral_request_has_the_body_that_says_the_same(case: Case) -> None:
    expected = {"model": case.model, "max_tokens": case.max_tokens, "messages": case.messages, **case.body}
    assert sent(case, stream=False) == expected
    assert sent(case, stream=True) == {"stream": True, **expected}


def test_the_request_names_its_address_and_the_place_of_the_key_but_no_key() -> None:
    for stream, accept in ((True, EITHER), (False, "application/json")):
        request = Anthropic().request(Engine("anthropic:claude-x"), asked(), "http://localhost:8080", stream)
        assert (request.method, request.url) == ("POST", "http://localhost:8080/v1/messages")
        assert dict(request.headers) == {"content-type": "application/json", "accept": accept, "anthropic-version": "2023-06-01"}
        assert (request.key_header, request.key_prefix) == ("x-api-key", "")


@pytest.mark.parametrize(("beta", "header"), [("a-1", "a-1"), (["a-1", "b-2"], "a-1,b-2")])
def test_betas_are_named_in_a_header(beta: Any, header: str) -> None:
    engine = Engine("anthropic:claude-x", adapter_opts={"beta": beta})
    assert dict(Anthropic().request(engine, asked(), URL, True).headers)["anthropic-beta"] == header


def test_a_cache_mark_skips_reasoning() -> None:
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    request = said(*HI, Message("assistant", (ProviderPart("anthropic", "thinking", thinking),)), prompt_cache={})
    assert sent(Case("", request), False)["messages"] == user(text("Hi", **EPHEMERAL))
    only = said(Message("user", (ProviderPart("anthropic", "thinking", thinking),)), prompt_cache={})
    assert sent(Case("", only), False)["messages"] == user(thinking)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("claude-2.1", "budget"),
        ("claude-instant-1.2", "budget"),
        ("claude-3-opus-20240229", "budget"),
        ("claude-3-7-sonnet-latest", "budget"),
        ("claude-opus-4-20250514", "budget"),
        ("claude-opus-4-1-20250805", "budget"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "budget"),
        ("anthropic/claude-opus-4.6", "effort"),
        ("claude-opus-4-7", "effort"),
        ("claude-sonnet-5", "effort"),
        ("claude-opus-10-1", "effort"),
        ("kimi-k2", "budget"),
    ],
)
def test_a_model_tells_its_version(name: str, reasons: str) -> None:
    body = sent(Case("", asked(reasoning="low"), model=name), False)
    assert body["thinking"]["type"] == {"budget": "enabled", "effort": "adaptive"}[reasons]


BIG = b"\x89PNG\r\n\x1a\n" + bytes(MAX_IMAGE // 4 * 3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (ImagePart(Image.from_binary(b"BM")), r"\.image: this wire takes JPEG, PNG, GIF and WebP, not image/bmp"),
        (ImagePart(Image.from_binary(BIG)), r"\.image: 7864328 bytes are too many: this wire takes 7864320 at most"),
        (ImagePart(Image.from_url("http://example.org/a.png")), r"\.image: this wire takes https addresses only, not http"),
        (ImagePart(Image.from_url("gs://b/a.png")), r"\.image: this wire takes https addresses only, not gs"),
        (FilePart(data=b"w", mime="audio/wav"), r": this wire takes PDFs, texts and images, not audio/wav"),
        (FilePart(data=b"w"), r": this wire takes PDFs, texts and images, not a file of unknown type; give mime="),
        (FilePart(url="https://a.example/a.txt", mime="text/plain"), r": this wire takes addresses of PDFs and images, not text/plain"),
        (FilePart(data=b"\xff", mime="text/plain"), r": the text is not UTF-8"),
        (FilePart(data=b"BM", mime="image/bmp"), r"\.image: this wire takes JPEG"),
        (ToolCallPart("c", "f"), r": a tool call belongs into an assistant's message"),
    ],
    ids=str,
)
def test_what_the_wire_cannot_carry_is_refused_with_its_path(content: Any, problem: str) -> None:
    for message in (Message("user", (TextPart("a"), content)), Message("tool", (TextPart("a"), content), tool_call_id="c1")):
        with pytest.raises(allm.ValidationError, match=r"messages\[1\]\.content\[1\]" + problem):
            sent(Case("", said(*HI, message)), True)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (FilePart(data=b"%PDF"), "this wire takes text only in a system message"),
        (ImagePart(Image.from_url("https://a.example/a.png")), "this wire takes text only in a system message"),
        (ToolCallPart("c", "f"), "a tool call belongs into an assistant's message"),
    ],
    ids=str,
)
def test_an_instruction_that_the_wire_cannot_carry_is_refused_and_not_left_out(content: Any, problem: str) -> None:
    for before in ((), HI):
        with pytest.raises(allm.ValidationError, match=rf"messages\[{len(before)}\]\.content\[1\]: {problem}"):
            sent(Case("", said(*before, Message("system", (TextPart("a"), content)), *HI)), True)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (asked(stop=("END", "\n")), r"stop\[1\]: this wire takes no white space"),
        (asked(tools=(ToolSpec(ANSWER_TOOL),)), r"tools\[0\]\.name"),
    ],
    ids=["stop", "reserved name"],
)
def test_parameters_that_the_wire_cannot_carry_are_refused_with_their_path(request_: Request, problem: str) -> None:
    with pytest.raises(allm.ValidationError, match=problem):
        sent(Case("", request_), True)


@judged
def test_the_vendors_own_types_accept_the_bodies(judge: Judge) -> None:
    assert judge.refused(MESSAGES, [sent(case, stream) for case in CASES for stream in (False, True)]) == []


@judged
def test_the_judge_refuses_a_body_that_is_wrong(judge: Judge) -> None:
    assert judge.errors(MESSAGES, {"model": "m", "messages": SAID})
    assert judge.errors(MESSAGES, {"model": "m", "messages": SAID, "max_tokens": 1, "max_tokns": 1})
