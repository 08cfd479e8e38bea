"""Neutral requests with everything that a request can say. Each is written for every wire and judged by the vendors' own types."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import allm
from allm import FilePart, Image, ImagePart, JsonSchema, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part, Unknown

__all__ = ["ROWS", "Row"]

CHAT, RESPONSES, ANTHROPIC, GEMINI = WIRES = ("openai.chat", "openai.responses", "anthropic", "gemini")

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PICTURE = "https://example.org/a.png"
SIGNED = base64.b64encode(b"proof of gemini").decode()
SEALED = json.dumps({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "proof-of-openai"})
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
OPEN: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {"list": {"type": "array", "items": {"$ref": "#/$defs/one"}}, "kind": {"enum": ["a", "b"]}},
    "required": ["list", "kind"],
    "additionalProperties": False,
    "$defs": {"one": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
}
WEATHER, NOW = ToolSpec("weather", "Tells the weather.", CITY), ToolSpec("now")
HI = allm.user("Hi")
UNICODE = '\u00e4\u20ac \U0001d11e \u2028 e\u0301 \u0645\u0631\u062d\u0628\u0627 \x7f "quoted" \\ </script>'


@dataclass(frozen=True)
class Row:
    """A request. `told`: what each body has in it; `only`: what the body for one wire has and no other; `refused`: what a wire says that
    cannot carry it."""

    name: str
    request: Request
    told: tuple[str, ...] = ()
    only: dict[str, str] = field(default_factory=dict[str, str])
    refused: dict[str, str] = field(default_factory=dict[str, str])


def asked(**fields: Any) -> Request:
    return Request((HI,), **fields)


def said(*messages: Message, **fields: Any) -> Request:
    return Request(messages, **fields)


def user(*parts: Part) -> Message:
    return Message("user", parts)


def made(*parts: Part) -> Message:
    return Message("assistant", parts)


def result(call_id: str, *parts: Part, **metadata: Any) -> Message:
    return Message("tool", parts, tool_call_id=call_id, metadata=metadata)


def call(call_id: str = "call_1", name: str = "weather", **arguments: Any) -> ToolCallPart:
    return ToolCallPart(call_id, name, arguments)


def thread(*parts: Part, **fields: Any) -> Request:
    """Something made by a model, in the midst of a thread."""
    return said(HI, made(*parts), allm.user("Go on."), **fields)


IMAGE = ImagePart(Image.from_binary(PNG))
BYTES = base64.b64encode(PNG).decode()
PDF = FilePart(data=b"%PDF-1.4", mime="application/pdf", name="a.pdf")
LONG = "very long, " * 20_000

_PLAIN = [
    Row("a bare question", asked(), ("Hi",)),
    Row("a system message", said(allm.system("Be brief."), HI), ("Be brief.", "Hi")),
    Row("two system messages at the start", said(allm.system("Be brief."), allm.system("Be kind."), HI), ("Be brief.", "Be kind.")),
    Row("a system message in the middle", said(HI, allm.assistant("Hello."), allm.system("Be brief."), allm.user("And?")), ("Be brief.",)),
    Row("a system message at the end", said(HI, allm.system("Be brief.")), ("Be brief.",)),
    Row("nothing but a system message", said(allm.system("Say hello.")), ("Say hello.",)),
    Row("several turns", said(HI, allm.assistant("Hello."), allm.user("And?"), allm.assistant("So."), allm.user("Bye")), ("And?", "So.")),
    Row("two messages of the user in a row", said(HI, allm.user("Are you there?")), ("Hi", "Are you there?")),
    Row("two messages of the assistant in a row", said(HI, allm.assistant("One."), allm.assistant("Two."), HI), ("One.", "Two.")),
    Row("the assistant begins", said(allm.assistant("Welcome."), HI), ("Welcome.",)),
    Row("the assistant ends", said(HI, allm.assistant("I would say ")), ("I would say",)),
    Row("an assistant who said nothing", said(HI, Message("assistant"), allm.user("And?")), ("And?",)),
    Row("an assistant with no parts", said(HI, made(), allm.user("And?")), ("And?",)),
    Row("a user who said nothing", said(Message("user")), ()),
    Row("blank text among parts", said(user(TextPart(""), TextPart("a"), TextPart(" \n"))), ("a",)),
    Row("names of speakers", said(Message("user", "Hi", name="ann"), Message("user", "Ho", name="bob")), ("Hi", "Ho")),
    Row("text in parts", said(user(TextPart("one"), TextPart("two"))), ("one", "two")),
    Row("unicode", said(allm.system(UNICODE), allm.user(UNICODE), allm.assistant(UNICODE), HI), ("\u00e4\u20ac", "\U0001d11e")),
    Row("very long text", said(allm.user(LONG)), (LONG,)),
    Row(
        "very many messages",
        said(*(message for n in range(200) for message in (allm.user(f"u{n}"), allm.assistant(f"a{n}"))), HI),
        ("u199",),
    ),
]

_TOOLS = [
    Row("tools", asked(tools=(WEATHER, NOW)), ("Tells the weather.", "now")),
    *(
        Row(f"tool choice {word}", asked(tools=(WEATHER, NOW), tool_choice=word), ("weather",))
        for word in ("auto", "none", "required", "now")
    ),
    Row("a tool choice without tools", asked(tool_choice="auto")),
    Row("a tool with an open schema", asked(tools=(ToolSpec("roll", "", OPEN),)), ("roll",)),
    Row("a tool with a schema of references", asked(tools=(ToolSpec("sort", "", NESTED),)), ("sort", "$defs")),
    Row("a call and its result", said(HI, made(call(city="Oslo")), allm.tool_result("call_1", "rain"), tools=(WEATHER,)), ("Oslo", "rain")),
    Row(
        "a call and its result, with no tools declared",
        said(HI, made(call(city="Oslo")), allm.tool_result("call_1", "rain")),
        ("Oslo", "rain"),
    ),
    Row(
        "text, then a call", said(HI, made(TextPart("I look."), call()), allm.tool_result("call_1", "rain"), tools=(WEATHER,)), ("I look.",)
    ),
    Row(
        "parallel calls, answered in another order",
        said(
            HI,
            made(call("a", city="Oslo"), call("b", city="Bonn")),
            allm.tool_result("b", "sun"),
            allm.tool_result("a", "rain"),
            tools=(WEATHER,),
        ),
        ("Oslo", "Bonn", "sun", "rain"),
    ),
    Row(
        "calls in several steps",
        said(HI, made(call("a")), allm.tool_result("a", "1"), made(call("b")), allm.tool_result("b", "2"), tools=(WEATHER,)),
        ("weather",),
    ),
    Row(
        "two messages of calls, then the results",
        said(HI, made(call("a")), made(call("b")), allm.tool_result("a", "x1"), allm.tool_result("b", "x2")),
        ("x1", "x2"),
    ),
    Row(
        "a result that is JSON",
        said(HI, made(call()), allm.tool_result("call_1", '{"sky": ["grey", 1.5, null]}'), tools=(WEATHER,)),
        ("grey",),
    ),
    Row("an empty result", said(HI, made(call()), allm.tool_result("call_1", ""), tools=(WEATHER,)), ("weather",)),
    Row(
        "a result that is an error",
        said(HI, made(call()), result("call_1", TextPart("no such city"), is_error=True), tools=(WEATHER,)),
        ("no such city",),
    ),
    Row("a result with an image", said(HI, made(call()), result("call_1", TextPart("look"), IMAGE), tools=(WEATHER,)), ("look", BYTES)),
    Row("a result that is only an image", said(HI, made(call()), result("call_1", IMAGE), tools=(WEATHER,)), (BYTES,)),
    Row("a result with an image by its address", said(HI, made(call()), result("call_1", ImagePart(Image.from_url(PICTURE)))), (PICTURE,)),
    Row("a result with a file", said(HI, made(call()), result("call_1", PDF), tools=(WEATHER,)), (base64.b64encode(b"%PDF-1.4").decode(),)),
    Row(
        "a result with a file that few wires take",
        said(HI, made(call()), result("call_1", TextPart("done"), FilePart(data=b"x", mime="video/x-y"))),
        ("done",),
        refused={RESPONSES: "takes no video", ANTHROPIC: "not video/x-y"},
    ),
    Row("a call without a result", thread(call()), ("weather", "Go on.")),
    Row("a result without its call", said(HI, allm.tool_result("gone", "orphaned"), HI), ("orphaned",)),
    Row("a result that comes late", said(HI, made(call()), allm.user("Hurry."), allm.tool_result("call_1", "rain")), ("Hurry.", "rain")),
    Row(
        "broken arguments",
        said(HI, made(ToolCallPart("call_1", "weather", {}, '{"city": ')), allm.tool_result("call_1", "what?")),
        ("what?",),
    ),
    Row("deep arguments", said(HI, made(call(a={"b": [{"c": [1.5, None, True]}]})), allm.tool_result("call_1", "x")), ("1.5",)),
    Row(
        "odd ids",
        said(
            HI,
            *(
                message
                for n, each in enumerate(("0", "a.b:1", "\u00e4 id", "x" * 200, ""))
                for message in (made(call(each, n=n)), allm.tool_result(each or "", f"r{n}"))
            ),
        ),
        ("r0", "r1", "r2", "r3", "r4"),
    ),
    Row(
        "one id used twice",
        said(HI, made(call("0")), allm.tool_result("0", "r1"), made(call("0")), allm.tool_result("0", "r2")),
        ("r1", "r2"),
    ),
    Row(
        "one id twice in a turn",
        said(HI, made(call("0"), call("0")), allm.tool_result("0", "r1"), allm.tool_result("0", "r2")),
        ("r1", "r2"),
    ),
    Row(
        "names of tools of other wires",
        said(HI, made(call("a", "functions.weather:now")), allm.tool_result("a", "rain")),
        ("weather", "rain"),
    ),
]

_MEDIA = [
    Row("an image by its bytes", said(user(TextPart("Look:"), IMAGE)), (BYTES,)),
    Row("an image by its address", said(user(TextPart("Look:"), ImagePart(Image.from_url(PICTURE)))), (PICTURE,)),
    Row("an image as a data URI", said(user(ImagePart(Image.from_data_uri(f"data:image/png;base64,{BYTES}")))), (BYTES,)),
    Row("images between texts", said(user(TextPart("one"), IMAGE, TextPart("two"), IMAGE, TextPart("three"))), ("one", "two", "three")),
    *(
        Row(f"an image in detail {detail}", said(user(ImagePart(Image.from_binary(PNG), detail))), (BYTES,))
        for detail in ("auto", "low", "high")
    ),
    *(
        Row(f"an image of type {mime}", said(user(ImagePart(Image(data=b"x", mime=mime)))), (mime,))
        for mime in ("image/jpeg", "image/webp")
    ),
    Row(
        "an image that one wire does not take",
        said(user(ImagePart(Image(data=b"GIF89a", mime="image/gif")))),
        ("image/gif",),
        refused={GEMINI: "not image/gif"},
    ),
    Row("an image that no wire takes", said(user(ImagePart(Image(data=b"BM")))), refused=dict.fromkeys(WIRES, "image/bmp")),
    Row("an image that a model made", thread(TextPart("Here."), IMAGE), ("Here.", BYTES)),
    Row("an image that a model made and no other takes", thread(TextPart("Here."), ImagePart(Image(data=b"BM"))), ("Here.",)),
    Row("a document", said(user(PDF)), (base64.b64encode(b"%PDF-1.4").decode(),)),
    Row(
        "a document by its address",
        said(user(FilePart(url="https://example.org/a.pdf", mime="application/pdf"))),
        ("a.pdf",),
        refused={CHAT: "not by URL"},
    ),
    Row("a file of text", said(user(FilePart(data=b"a,b", mime="text/plain", name="a.txt")))),
    Row(
        "speech",
        said(user(FilePart(data=b"RIFF", mime="audio/wav"))),
        (base64.b64encode(b"RIFF").decode(),),
        refused={RESPONSES: "no audio", ANTHROPIC: "not audio/wav"},
    ),
    Row("an image as a file", said(user(FilePart(data=PNG, mime="image/png"))), (BYTES,)),
]

_ANSWERS = [
    Row("any JSON", asked(response_format="json")),
    Row("plain text", asked(response_format="text")),
    Row("a schema", asked(response_format=JsonSchema("answer", CITY)), ("city",)),
    Row("a schema that is not strict", asked(response_format=JsonSchema("answer", OPEN, strict=False)), ("integer",)),
    Row("a schema with references", asked(response_format=JsonSchema("answer", NESTED)), ("$defs",)),
    Row("a schema beside tools", asked(response_format=JsonSchema("answer", CITY), tools=(NOW,)), ("city", "now")),
    Row(
        "a schema beside tools that are off", asked(response_format=JsonSchema("answer", CITY), tools=(NOW,), tool_choice="none"), ("city",)
    ),
    *(
        Row(f"a schema for {model}", asked(response_format=JsonSchema("answer", CITY), tools=(NOW,), model=model), ("city",))
        for model in ("claude-3-haiku-20240307", "claude-opus-4-8", "gemini-2.0-flash", "gemini-3-pro-preview", "gpt-5")
    ),
    *(Row(f"reasoning {given}", asked(reasoning=given)) for given in ("none", "low", "medium", "high", 0, 5000)),
    *(
        Row(f"reasoning for {model}", asked(reasoning="low", model=model))
        for model in ("claude-3-haiku-20240307", "claude-opus-4-8", "gemini-2.5-pro", "gemini-3-pro-preview", "gpt-5")
    ),
    Row("reasoning beside a schema and tools", asked(reasoning="low", response_format=JsonSchema("answer", CITY), tools=(NOW,)), ("city",)),
    Row(
        "reasoning goes back to Anthropic",
        thread(ReasoningPart("Hm.", "proof-of-anthropic", provider="anthropic"), TextPart("So.")),
        ("So.",),
        {"proof-of-anthropic": ANTHROPIC, "Hm.": ANTHROPIC},
    ),
    Row(
        "reasoning that Anthropic keeps to itself goes back",
        thread(ReasoningPart("", data="proof-of-anthropic", provider="anthropic"), TextPart("So.")),
        ("So.",),
        {"proof-of-anthropic": ANTHROPIC},
    ),
    Row(
        "reasoning goes back to OpenAI",
        thread(ReasoningPart("Hm.", data=SEALED, provider="openai"), TextPart("So.")),
        ("So.",),
        {"proof-of-openai": RESPONSES},
    ),
    Row(
        "reasoning goes back to Gemini",
        thread(ReasoningPart("Hm.", SIGNED, provider="gemini"), TextPart("So.", SIGNED)),
        ("So.",),
        {SIGNED: GEMINI},
    ),
    Row(
        "a signature on a call goes back to Gemini",
        said(HI, made(ToolCallPart("1", "now", signature=SIGNED)), allm.tool_result("1", "noon"), tools=(NOW,)),
        ("noon",),
        {SIGNED: GEMINI},
    ),
    Row("unsigned reasoning stays", thread(ReasoningPart("Hm, hm."), TextPart("So.")), ("So.",), {"Hm, hm.": ""}),
    Row("nothing but reasoning", thread(ReasoningPart("Hm, hm.", "s", provider="anthropic")), ("Go on.",), {"Hm, hm.": ""}),
    Row(
        "blocks of a maker's own",
        thread(
            TextPart("So."),
            ProviderPart("anthropic", "server_tool_use", {"id": "srvtoolu_1", "name": "web_search", "input": {"query": "of-anthropic"}}),
            ProviderPart("anthropic", "web_search_tool_result", {"tool_use_id": "srvtoolu_1", "content": []}),
            ProviderPart(
                "openai", "web_search_call", {"id": "ws_1", "status": "completed", "action": {"type": "search", "query": "of-openai"}}
            ),
            ProviderPart("gemini", "executableCode", {"executableCode": {"code": "of-gemini", "language": "PYTHON"}}),
            Unknown("newer", {"type": "newer", "said": "of-nobody"}),
        ),
        ("So.",),
        {"of-anthropic": ANTHROPIC, "of-openai": RESPONSES, "of-gemini": GEMINI, "of-nobody": ""},
    ),
]

_PARAMETERS = [
    Row("sampling", asked(temperature=0.5, top_p=0.9, max_tokens=100), ("0.5", "0.9", "100")),
    Row("a temperature of zero", asked(temperature=0.0)),
    Row("a temperature that one wire does not reach", asked(temperature=1.8)),
    Row("a seed", asked(seed=7)),
    Row("a word to stop at", asked(stop=("END",))),
    Row("words to stop at", asked(stop=("END", "STOP"))),
    Row("more words to stop at than one wire takes", asked(stop=tuple("abcdef")), refused={GEMINI: "at most 5"}),
    Row("a prompt cache", said(allm.system("Be brief."), HI, allm.assistant("Hello."), HI, tools=(NOW,), prompt_cache={"key": "user-1"})),
    Row("a prompt cache for long", said(allm.system("Be brief."), HI, prompt_cache={"key": "k" * 100, "retention": "long"})),
    Row("a prompt cache with no wishes", asked(prompt_cache={})),
    Row(
        "everything at once",
        said(
            allm.system("Be brief."),
            user(TextPart("Look:"), IMAGE),
            made(TextPart("I look."), call("a", city="Oslo")),
            result("a", TextPart("rain"), IMAGE),
            allm.user("And?"),
            tools=(WEATHER, NOW),
            tool_choice="weather",
            temperature=1,
            top_p=0.5,
            max_tokens=9000,
            stop=("END",),
            seed=1,
            reasoning="low",
            response_format=JsonSchema("answer", CITY),
            prompt_cache={"key": "k", "retention": "short"},
        ),
        ("Be brief.", "Look:", "I look.", "Oslo", "rain", "And?", BYTES),
    ),
]

ROWS = (*_PLAIN, *_TOOLS, *_MEDIA, *_ANSWERS, *_PARAMETERS)

OPTIONS: dict[str, dict[str, Any]] = {
    "openai.chat": {"user": "u-1", "logit_bias": {"1": 5}},
    "openai.responses": {"truncation": "auto", "text": {"verbosity": "low"}},
    "anthropic": {"service_tier": "auto", "metadata": {"user_id": "u-1"}},
    "gemini": {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}], "generationConfig": {"topK": 3}},
}
"""What goes through to one provider, for each wire."""
