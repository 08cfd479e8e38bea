"""OpenAI Chat Completions: neutral requests to bodies, also judged by the vendor's own published types.

The judge runs where `ALLM_JUDGE_PYTHON` names an interpreter that has the vendor's client and pydantic; it lives beside the recordings.
"""

import base64
import functools
import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Unknown
from allm.providers.openai_chat import OpenAIChat
from tests import corpus

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
        "broken arguments go back broken",
        said(
            *HI, Message("assistant", (ToolCallPart("c1", "f", {}, '{"a":'), ToolCallPart("c2", "g", {}, ""))), allm.tool_result("c1", "no")
        ),
        messages=[
            *SAID,
            {"role": "assistant", "content": None, "tool_calls": [call('{"a":', "f"), call("", "g", "c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": "no"},
        ],
    ),
    Case(
        "a result in parts",
        said(Message("tool", (TextPart("rain"), TextPart("y")), tool_call_id="c1")),
        messages=[{"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "rain"}, {"type": "text", "text": "y"}]}],
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
    Case("an assistant who said nothing", said(Message("assistant"), *HI), messages=[{"role": "assistant", "content": ""}, *SAID]),
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
        asked(response_format=allm.json_schema("answer", SCHEMA, strict=False)),
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False}}},
    ),
    Case("any JSON", asked(response_format="json"), {"response_format": {"type": "json_object"}}),
    Case("plain text", asked(response_format="text"), {"response_format": {"type": "text"}}),
    Case(
        "a cache to be kept for long",
        asked(prompt_cache={"key": "user-1", "retention": "long"}),
        {"prompt_cache_key": "user-1", "prompt_cache_retention": "24h"},
    ),
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
    for stream, accept in ((True, "text/event-stream"), (False, "application/json")):
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
    ],
    ids=["file by address", "call of a user"],
)
def test_what_the_wire_cannot_carry_is_refused_with_its_path(message: Message, problem: str) -> None:
    with pytest.raises(allm.ValidationError, match=problem):
        OpenAIChat().request(engine(), said(*HI, message), OWN, True)


JUDGE = corpus.folder().parent / "judge"
PYTHON = os.environ.get("ALLM_JUDGE_PYTHON", "")
_ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from judge_requests import judge
print(json.dumps([judge("openai.chat", body) for body in json.load(sys.stdin)]))
"""


@functools.cache
def judgements() -> dict[tuple[str, bool], dict[str, Any]]:
    keys = [(case.name, stream) for case in CASES if case.judged for stream in (False, True)]
    bodies = [sent(case, stream) for case in CASES if case.judged for stream in (False, True)]
    return dict(zip(keys, ask(json.dumps(bodies)), strict=True))


def ask(bodies: str) -> list[dict[str, Any]]:
    done = subprocess.run([PYTHON, "-c", _ASK, str(JUDGE)], input=bodies, capture_output=True, text=True, check=True, timeout=50)
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


judged = pytest.mark.skipif(
    not PYTHON or not (JUDGE / "judge_requests.py").is_file(),
    reason="no judge of requests: ALLM_JUDGE_PYTHON names no interpreter, or the judge is absent",
)


@judged
@pytest.mark.parametrize("case", [case for case in CASES if case.judged], ids=lambda case: case.name)
def test_the_vendors_own_types_accept_the_body(case: Case) -> None:
    for stream in (False, True):
        verdict = judgements()[case.name, stream]
        assert verdict["ok"], verdict["errors"]


@judged
def test_the_judge_refuses_a_body_that_is_wrong() -> None:
    (verdict,) = ask(json.dumps([{"model": "m", "messages": SAID, "temprature": 1}]))
    assert not verdict["ok"]
