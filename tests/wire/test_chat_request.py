"""OpenAI Chat Completions: neutral requests to bodies, also judged by the vendor's own published types."""

import base64
import functools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Unknown
from allm.providers.ids import wire_id
from allm.providers.openai_chat import OpenAIChat
from allm.providers.openai_chat_messages import MAX_BYTES, NO_RESULT
from tests.wire.judging import CHAT, Judge, judged

OWN = "https://api.openai.com/v1"
ELSEWHERE = "http://localhost:8080/v1"
PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = "https://example.org/a.png"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
WEATHER = ToolSpec("weather", "Tells the weather.", SCHEMA)
HI = (allm.user("Hi"),)
SAID = [{"role": "user", "content": "Hi"}]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Case:
    """A request, and what its body has beside `model`, `messages` and the fields of streaming."""

    name: str
    request: Request
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[dict[str, Any]] = field(default_factory=lambda: SAID)
    base_url: str = OWN
    opts: dict[str, Any] = field(default_factory=dict[str, Any])
    judged: bool = True  # False where the body is for a compatible host


def asked(**fields: Any) -> Request:
    return Request(HI, **fields)


def said(*messages: Message) -> Request:
    return Request(messages)


def parts(*given: Any) -> Request:
    return said(Message("user", given))


def user(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def call(arguments: str, name: str = "weather", id: str = "c1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def function(name: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


AGAIN = wire_id("c1 again", 0)
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}

CASES = [
    Case("a bare question", said(allm.user("Hi"))),
    Case("a system message", said(allm.system("Be brief."), allm.user("Hi")), messages=[{"role": "system", "content": "Be brief."}, *SAID]),
    Case(
        "several turns with names",
        said(Message("user", "Hi", name="ann"), allm.assistant("Hello."), Message("user", "Hi", name="bob")),
        messages=[
            {"role": "user", "name": "ann", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "name": "bob", "content": "Hi"},
        ],
    ),
    Case(
        "a call and its result",
        said(
            *HI,
            Message("assistant", (TextPart("Let me see."), ToolCallPart("c1", "weather", {"city": "Oslo"}))),
            allm.tool_result("c1", "rain"),
        ),
        messages=[
            *SAID,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [call('{"city":"Oslo"}')]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
    ),
    Case(
        "arguments go back as the model wrote them",
        said(
            *HI,
            Message("assistant", (ToolCallPart("c1", "weather", {"city": "Oslo"}, '{ "city" :\t"Oslo" }'),)),
            allm.tool_result("c1", ""),
        ),
        messages=[
            *SAID,
            {"role": "assistant", "content": None, "tool_calls": [call('{ "city" :\t"Oslo" }')]},
            {"role": "tool", "tool_call_id": "c1", "content": ""},
        ],
    ),
    Case(
        "broken arguments go back as an object",
        said(
            *HI, Message("assistant", (ToolCallPart("c1", "f", {}, '{"a":'), ToolCallPart("c2", "g", {}, ""))), allm.tool_result("c1", "no")
        ),
        messages=[
            *SAID,
            {"role": "assistant", "content": None, "tool_calls": [call("{}", "f"), call("{}", "g", "c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": "no"},
            {"role": "tool", "tool_call_id": "c2", "content": NO_RESULT},
        ],
    ),
    Case(
        "a result in parts",
        said(
            Message("assistant", (ToolCallPart("c1", "weather"),)),
            Message("tool", (TextPart("rain"), TextPart("y")), name="weather", tool_call_id="c1"),
        ),
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [call("{}")]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "rain"}, {"type": "text", "text": "y"}]},
        ],
    ),
    Case(
        "results stand behind the message that asked, a late one too, and what they show behind them",
        said(
            Message("assistant", (ToolCallPart("c1", "weather"), ToolCallPart("c1", "a.b:c"), ToolCallPart("x" * 41, "now"))),
            *HI,
            Message("tool", (ImagePart(Image.from_url(PICTURE)),), tool_call_id="c1"),
            allm.tool_result("c1", "second"),
            allm.tool_result("c1", "whose?"),
        ),
        messages=[
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call("{}"), call("{}", "a_b_c", AGAIN), call("{}", "now", wire_id("x" * 41, 0))],
            },
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            {"role": "tool", "tool_call_id": AGAIN, "content": "second"},
            {"role": "tool", "tool_call_id": wire_id("x" * 41, 0), "content": NO_RESULT},
            *user(
                {"type": "text", "text": "With the result of the tool call c1:"},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ),
            *SAID,
            {"role": "user", "content": "whose?"},
        ],
    ),
    Case(
        "what the assistant made is shown by the user, if the wire takes it",
        said(
            Message("assistant", (TextPart("Here."), ImagePart(Image.from_binary(PNG)), ImagePart(Image.from_binary(b"BM")))),
        ),
        messages=[
            {"role": "assistant", "content": "Here."},
            *user(
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}"}},
                {"type": "text", "text": "(an image of type image/bmp that cannot be shown here)"},
            ),
        ],
    ),
    Case(
        "what the Responses wire made stays in the thread",
        parts(ProviderPart("openai", "web_search_call", {"id": "ws_1"}), ProviderPart("openai", "input_image", {"file_id": "f"})),
        messages=[{"role": "user", "content": ""}],
    ),
    Case("no tool choice where there are no tools", asked(tool_choice="auto")),
    Case(
        "a tool choice for tools among the options",
        asked(tool_choice="auto", options={"tools": [function("now", NO_PARAMETERS)]}),
        {"tools": [function("now", NO_PARAMETERS)], "tool_choice": "auto"},
    ),
    Case(
        "reasoning and other makers' blocks stay in the thread",
        said(
            Message(
                "assistant",
                (ReasoningPart("hm"), TextPart("Hel"), ProviderPart("anthropic", "x"), Unknown("new", {"type": "new"}), TextPart("lo")),
            ),
            *HI,
        ),
        messages=[{"role": "assistant", "content": "Hello"}, *SAID],
    ),
    Case("an assistant who said nothing", said(Message("assistant"), *HI), messages=SAID),
    Case("one part of text is text", parts(TextPart("Hi"))),
    Case(
        "an image by its address",
        parts(TextPart("Look:"), ImagePart(Image.from_url(PICTURE))),
        messages=user({"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": PICTURE}}),
    ),
    Case(
        "an image by its bytes, in detail",
        parts(ImagePart(Image.from_binary(PNG), "high")),
        messages=user({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}", "detail": "high"}}),
    ),
    Case(
        "a document",
        parts(FilePart(data=b"%PDF", mime="application/pdf", name="a.pdf"), FilePart(data=b"%PDF")),
        messages=user(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{b64(b'%PDF')}"}},
            {"type": "file", "file": {"filename": "file", "file_data": f"data:application/pdf;base64,{b64(b'%PDF')}"}},
        ),
    ),
    Case(
        "speech",
        parts(FilePart(data=b"w", mime="audio/wav"), FilePart(data=b"m", mime="audio/mpeg")),
        messages=user(
            {"type": "input_audio", "input_audio": {"data": b64(b"w"), "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": b64(b"m"), "format": "mp3"}},
        ),
    ),
    Case(
        "a block of the provider's own goes back to it, others' are left out",
        parts(
            TextPart("a"),
            ProviderPart("openai", "text", {"type": "text", "text": "b"}),
            ProviderPart("gemini", "x", {"x": 1}),
            ReasoningPart("hm"),
            Unknown("new", {"type": "new"}),
        ),
        messages=user({"type": "text", "text": "a"}, {"type": "text", "text": "b"}),
    ),
    Case(
        "tools",
        asked(tools=(WEATHER, ToolSpec("now"))),
        {"tools": [function("weather", SCHEMA, description="Tells the weather."), function("now", NO_PARAMETERS)]},
    ),
    *(
        Case(
            f"tool choice {word}",
            asked(tools=(ToolSpec("now"),), tool_choice=word),
            {"tools": [function("now", NO_PARAMETERS)], "tool_choice": word},
        )
        for word in ("auto", "none", "required")
    ),
    Case(
        "one tool by its name",
        asked(tools=(ToolSpec("now"),), tool_choice="now"),
        {"tools": [function("now", NO_PARAMETERS)], "tool_choice": {"type": "function", "function": {"name": "now"}}},
    ),
    Case("sampling", asked(temperature=0.0, top_p=0.5, seed=0), {"temperature": 0.0, "top_p": 0.5, "seed": 0}),
    Case("a word to stop at", asked(stop=("END",)), {"stop": ["END"]}),
    Case("words to stop at", asked(stop=("END", "STOP")), {"stop": ["END", "STOP"]}),
    *(
        Case(f"reasoning {given}", asked(reasoning=given), {"reasoning_effort": word})
        for given, word in [
            ("none", "none"),
            ("low", "low"),
            ("medium", "medium"),
            ("high", "high"),
            (0, "none"),
            (1, "low"),
            (2048, "low"),
            (2049, "medium"),
            (8192, "medium"),
            (8193, "high"),
        ]
    ),
    Case(
        "a schema for the answer",
        asked(response_format=allm.json_schema("answer", SCHEMA)),
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}},
    ),
    Case(
        "a schema that is not strict",
        asked(response_format=allm.json_schema("my answer.é", SCHEMA, strict=False)),
        {"response_format": {"type": "json_schema", "json_schema": {"name": "my_answer__", "schema": SCHEMA, "strict": False}}},
    ),
    Case("any JSON", asked(response_format="json"), {"response_format": {"type": "json_object"}}),
    Case("plain text", asked(response_format="text"), {"response_format": {"type": "text"}}),
    Case(
        "a cache to be kept for long",
        asked(prompt_cache={"key": "user-1", "retention": "long"}),
        {"prompt_cache_key": "user-1", "prompt_cache_retention": "24h"},
    ),
    Case("a long key of the cache", asked(prompt_cache={"key": "k" * 65}), {"prompt_cache_key": wire_id("k" * 65)}),
    Case("a cache to be kept for a while", asked(prompt_cache={"key": None, "retention": "short"})),
    Case("the most tokens at the vendor", asked(max_tokens=5), {"max_completion_tokens": 5}),
    Case(
        "the most tokens at its European host", asked(max_tokens=5), {"max_completion_tokens": 5}, base_url="https://eu.api.openai.com/v1"
    ),
    Case("the most tokens at Azure", asked(max_tokens=5), {"max_completion_tokens": 5}, base_url="https://mine.openai.azure.com/openai/v1"),
    Case("the most tokens elsewhere", asked(max_tokens=5), {"max_tokens": 5}, base_url=ELSEWHERE),
    Case(
        "the most tokens at a host that says openai in its path",
        asked(max_tokens=5),
        {"max_tokens": 5},
        base_url="https://a.org/api.openai.com",
    ),
    Case("the most tokens in a field by name", asked(max_tokens=5), {"max_new": 5}, opts={"max_tokens_field": "max_new"}, judged=False),
    Case("options go in unchanged", asked(options={"user": "u-1", "logprobs": True}), {"user": "u-1", "logprobs": True}),
    Case(
        "options override", asked(temperature=1, options={"temperature": 0.25, "model": "other"}), {"temperature": 0.25, "model": "other"}
    ),
    Case("the request's model comes before the engine's", asked(model="mine"), {"model": "mine"}),
]
by_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@functools.cache
def engine() -> Engine:
    return Engine("openai.chat:gpt-4.1-mini")


def sent(case: Case, stream: bool) -> dict[str, Any]:
    request = OpenAIChat().request(engine().merge_opts(**case.opts), case.request, case.base_url, stream)
    body: dict[str, Any] = json.loads(request.body)
    return body


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 25
    assert len({case.name for case in CASES}) == len(CASES)


@by_case
def test_a_neutral_request_has_the_body_that_says_the_same(case: Case) -> None:
    expected = {"model": "gpt-4.1-mini", "messages": case.messages, **case.body}
    assert sent(case, stream=False) == expected
    assert sent(case, stream=True) == {"stream": True, "stream_options": {"include_usage": True}, **expected}


def test_a_host_that_knows_no_stream_options_gets_none() -> None:
    case = Case("", asked(), opts={"stream_options": False})
    assert sent(case, stream=True) == {"model": "gpt-4.1-mini", "messages": SAID, "stream": True}


def test_the_request_names_its_address_and_the_place_of_the_key_but_no_key() -> None:
    for stream, accept in ((True, "application/json, text/event-stream"), (False, "application/json")):
        request = OpenAIChat().request(engine(), asked(), ELSEWHERE, stream)
        assert (request.method, request.url) == ("POST", "http://localhost:8080/v1/chat/completions")
        assert dict(request.headers) == {"content-type": "application/json", "accept": accept}
        assert (request.key_header, request.key_prefix) == ("authorization", "Bearer ")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (
            Message("user", (TextPart("a"), FilePart(url="https://example.org/a.pdf"))),
            r"messages\[1\]\.content\[1\]: this wire takes files by their bytes",
        ),
        (Message("user", (ToolCallPart("c", "f"),)), r"messages\[1\]\.content\[0\]: a tool call belongs into an assistant's message"),
        (Message("user", (ImagePart(Image.from_binary(b"BM")),)), r"messages\[1\]\.content\[0\]\.image\.mime: this wire reads"),
        (Message("user", (ImagePart(Image.from_url("gs://a/b")),)), r"messages\[1\]\.content\[0\]\.image\.url: this wire fetches"),
        (Message("system", (ImagePart(Image.from_binary(PNG)),)), r"messages\[1\]\.content\[0\]: this wire takes text only"),
        (Message("user", (FilePart(data=bytes(MAX_BYTES + 1)),)), r"messages\[1\]\.content\[0\]\.data: 50000001 bytes are more"),
    ],
    ids=["file by address", "call of a user", "type of image", "address of image", "image of the system", "size"],
)
def test_what_the_wire_cannot_carry_is_refused_with_its_path(message: Message, problem: str) -> None:
    with pytest.raises(allm.ValidationError, match=problem):
        OpenAIChat().request(engine(), said(*HI, message), OWN, True)


@judged
def test_the_vendors_own_types_accept_every_body(judge: Judge) -> None:
    assert judge.refused(CHAT, [sent(case, stream) for case in CASES if case.judged for stream in (False, True)]) == []


@judged
def test_the_judge_refuses_a_body_that_is_wrong(judge: Judge) -> None:
    assert judge.errors(CHAT, {"model": "m", "messages": SAID, "temprature": 1})
