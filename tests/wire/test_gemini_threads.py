"""Threads of any maker, sent to Gemini: whatever is in them, the body has the shape that the wire wants, and nothing of it is lost."""

import base64
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allm
from allm import FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part, Unknown
from tests.wire.gemini import OTHER, SIGNED, body_of
from tests.wire.judging import GEMINI, Judge, judged

PNG = b"\x89PNG\r\n\x1a\n"
MODELS = ["gemini-2.5-flash", "gemini-2.0-flash", "gemini-3-pro-preview", "gemini-3-pro-image-preview", "gemini-flash-latest"]

_ids = st.sampled_from(["call_abc", "toolu_01", "0", "x8i00o1q", "call_req_b1.1", "functions.f:0", "né id", "c" * 100])
_names = st.sampled_from(["f", "weather", "a.b-c_d"])
_texts = st.sampled_from(["", "a", "Hello.", "𝄞 é\n", '{"a": 1}', "[1]", "{", '"x"'])
_signatures = st.none() | st.sampled_from([SIGNED, OTHER, "not one", "sig"])
_makers = st.sampled_from(["gemini", "anthropic", "openai", None])
_json = st.dictionaries(st.sampled_from(["a", "b_c"]), st.none() | st.integers(0, 9) | st.text(max_size=3), max_size=2)
_images = st.builds(
    ImagePart,
    st.sampled_from([Image(data=PNG), Image(data=b"x", mime="image/webp"), Image(url="https://example.org/a.jpg"), Image(url="gs://a/b")]),
)
_files = st.sampled_from(
    [FilePart(data=b"%PDF", mime="application/pdf"), FilePart(data=b"t", name="a.txt"), FilePart(url="https://example.org/a")]
)
_other: st.SearchStrategy[Part] = st.one_of(
    st.builds(ReasoningPart, _texts, _signatures, st.none(), _makers),
    st.builds(ProviderPart, st.sampled_from(["anthropic", "openai"]), st.just("x"), _json),
    st.just(ProviderPart("gemini", "executableCode", {"executableCode": {"code": "1", "language": "PYTHON"}})),
    st.just(ProviderPart("gemini", "thoughtSignature", {"thoughtSignature": SIGNED})),
    st.just(Unknown("new", {"type": "new"})),
)
_shown = st.builds(TextPart, _texts) | _images | _files | _other
_called = st.builds(ToolCallPart, _ids, _names, _json, st.none() | st.just("{"), _signatures)
_signed = st.builds(TextPart, _texts, _signatures)
_messages = st.one_of(
    st.builds(Message, st.just("system"), _texts),
    st.builds(Message, st.just("user"), _texts | st.lists(_shown, max_size=3).map(tuple)),
    st.builds(Message, st.just("assistant"), _texts | st.lists(_signed | _called | _images | _files | _other, max_size=4).map(tuple)),
    st.builds(Message, st.just("tool"), _texts | st.lists(_shown, max_size=2).map(tuple), tool_call_id=_ids),
)
threads = st.lists(_messages, min_size=1, max_size=10).map(tuple)


def kinds(turn: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part[kind] for part in turn["parts"] if kind in part]


def shape_is_right(body: dict[str, Any], checked: bool) -> None:
    """What the service asks of the order of a thread."""
    contents: list[dict[str, Any]] = body["contents"]
    assert [turn["role"] for turn in contents] == [("user", "model")[i % 2] for i in range(len(contents))]
    for turn, following in zip(contents, [*contents[1:], None], strict=True):
        assert turn["parts"]
        calls = kinds(turn, "functionCall")
        results = kinds(following, "functionResponse") if following else []
        assert [(call["name"], call.get("id")) for call in calls] == [(result["name"], result.get("id")) for result in results]
        if following:
            assert all("functionResponse" in part for part in following["parts"][: len(results)])
        first = next((part for part in turn["parts"] if "functionCall" in part), None)
        assert not checked or first is None or "thoughtSignature" in first
    for part in (part for turn in contents for part in turn["parts"] if "thoughtSignature" in part):
        base64.b64decode(part["thoughtSignature"], validate=True)
    for result in (result for turn in contents for result in kinds(turn, "functionResponse")):
        assert isinstance(result["response"], dict)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(threads, st.sampled_from(MODELS))
def test_any_thread_has_the_shape_that_the_wire_wants(thread: tuple[Message, ...], model: str) -> None:
    shape_is_right(body_of(Request(thread), model), checked=model not in MODELS[:2])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(threads)
def test_nothing_that_was_said_is_lost(thread: tuple[Message, ...]) -> None:
    body = body_of(Request(thread))
    sent = json.dumps(body, ensure_ascii=False)
    for message in thread:
        for part in message.parts:
            match part:
                case TextPart(text):
                    assert json.dumps(text, ensure_ascii=False)[1:-1] in sent or message.role == "tool"
                case ToolCallPart(_, name):
                    assert f'"name": "{name}"' in sent
                case ImagePart(Image(data=data)) | FilePart(data=data) if data is not None:
                    assert base64.b64encode(data).decode() in sent
                case _:
                    pass
    calls = sum(len(message.tool_calls) for message in thread if message.role == "assistant")
    assert sum(len(kinds(turn, "functionCall")) for turn in body["contents"]) == calls
    assert sum(len(kinds(turn, "functionResponse")) for turn in body["contents"]) == calls


@settings(max_examples=200, deadline=None)
@given(threads, st.sampled_from(MODELS))
def test_a_request_is_the_same_whenever_it_is_made(thread: tuple[Message, ...], model: str) -> None:
    again = tuple(allm.from_json(allm.to_json(message)) for message in thread)
    assert body_of(Request(thread), model) == body_of(Request(again), model)


@judged
def test_the_vendors_own_types_accept_any_thread(judge: Judge) -> None:
    bodies: list[dict[str, Any]] = []

    @settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(threads, st.sampled_from(MODELS), st.sampled_from(["none", "low", "medium", "high", 0, 500, None]), st.booleans())
    def collect(thread: tuple[Message, ...], model: str, reasoning: Any, with_tools: bool) -> None:
        tools = (ToolSpec("f", "", {"type": "object", "properties": {}}),) if with_tools else ()
        bodies.append(body_of(Request(thread, tools=tools, reasoning=reasoning, response_format=allm.json_schema("a", {})), model))

    collect()
    assert len(bodies) > 200
    assert judge.refused(GEMINI, bodies) == []
