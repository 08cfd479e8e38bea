"""OpenAI Responses: threads of any kind, made by any provider, are bodies that the vendor takes, and nothing said is lost."""

import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part, Unknown
from allm.providers.openai_responses import OpenAIResponses
from allm.providers.openai_responses_input import ITEMS
from tests.wire.chat import response
from tests.wire.judging import RESPONSES, Judge, judged
from tests.wire.responses import body, call, message, picture, thought, whole

EXAMPLES = 150
IDS = ["call_1", "toolu_1", "0", "a.b:1", "x" * 99, "ä", "functions.f:0"]
SEALED = json.dumps(thought("Hm."))
SEARCH = {"id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}

texts = st.sampled_from(["", " ", "\n\n", "a", "b \n", "ä€"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
text_parts = st.builds(TextPart, texts, st.none() | st.just("signature"))
image_parts = st.sampled_from(
    [ImagePart(Image.from_binary(b"\xff\xd8\xff")), ImagePart(Image.from_url("https://example.org/a.png"), "low")]
)
file_parts = st.sampled_from([FilePart(data=b"%PDF", name="a.pdf"), FilePart(url="https://example.org/a.pdf")])
made_parts = st.sampled_from([ImagePart(Image.from_binary(b"BM")), FilePart(url="gs://b/a.wav", mime="audio/wav")])
reasoning = st.builds(
    ReasoningPart,
    texts,
    st.none() | st.just("sig"),
    st.sampled_from([None, "data", SEALED]),
    st.sampled_from([None, "openai", "anthropic", "gemini"]),
)
foreign = st.sampled_from([ProviderPart("anthropic", "citations", {"x": 1}), ProviderPart("gemini", "x"), Unknown("new", {"type": "new"})])
own = st.sampled_from(
    [
        ProviderPart("openai", "web_search_call", SEARCH),
        ProviderPart("openai", "message", {"phase": "commentary"}),
        ProviderPart("openai", "image_generation_call", {"id": "ig_1", "status": "completed"}),
        ProviderPart("openai", "function_call", {"call_id": "call_1", "namespace": "crm"}),
        ProviderPart("openai", "never_heard_of", {"id": "x"}),
    ]
)
calls = st.builds(
    ToolCallPart,
    st.sampled_from(IDS),
    st.sampled_from(["weather", "a.b:c", "f" * 200]),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3) | texts, max_size=2),
    st.none() | st.just("{"),
    st.none() | st.just("signature"),
)


def content(*kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[str | tuple[Part, ...]]:
    return texts | st.lists(st.one_of(*kinds), max_size=4).map(tuple)


messages = st.one_of(
    st.builds(Message, st.just("system"), content(text_parts, foreign)),
    st.builds(Message, st.just("user"), content(text_parts, image_parts, file_parts, reasoning, foreign), st.none() | st.just("ann")),
    st.builds(Message, st.just("assistant"), content(text_parts, reasoning, calls, calls, foreign, own, image_parts, made_parts)),
    st.builds(Message, st.just("tool"), content(text_parts, image_parts, file_parts), tool_call_id=st.sampled_from(IDS)),
)
requests = st.builds(
    Request,
    st.lists(messages, min_size=1, max_size=10).map(tuple),
    model=st.sampled_from(["gpt-5", "gpt-4.1", "o3"]),
    tools=st.sampled_from([(), (ToolSpec("weather"), ToolSpec("now", "Tells the time.", {"type": "object"}))]),
    tool_choice=st.sampled_from([None, "auto", "none", "required"]),
    reasoning=st.sampled_from([None, "none", "low", 5000]),
    response_format=st.sampled_from([None, "text", "json", allm.json_schema("a", {"type": "object", "properties": {}})]),
    prompt_cache=st.sampled_from([None, {}, {"retention": "long"}]),
)


def body_of(request: Request) -> dict[str, Any]:
    sent = OpenAIResponses().request(Engine("openai.responses:gpt-5"), request, "https://api.openai.com/v1", True)
    made: dict[str, Any] = json.loads(sent.body)
    return made


def of(items: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if item.get("type") == kind]


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_each_call_is_answered_once_and_after_it_was_made(request: Request) -> None:
    items = body_of(request)["input"]
    made = [item["call_id"] for item in of(items, "function_call")]
    assert sorted(made) == sorted(item["call_id"] for item in of(items, "function_call_output"))
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in made)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", item["name"]) for item in of(items, "function_call"))
    seen: set[str] = set()
    for item in items:
        if item.get("type") == "function_call":
            seen.add(item["call_id"])
        elif item.get("type") == "function_call_output":
            assert item["call_id"] in seen


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_no_item_is_one_that_the_vendor_refuses(request: Request) -> None:
    items: list[dict[str, Any]] = body_of(request)["input"]
    assert items
    nothing: dict[str, Any] = {}
    for item, following in zip(items, [*items[1:], nothing], strict=True):
        kind = item.get("type", "message")
        assert kind in ITEMS | {"message", "reasoning", "function_call", "function_call_output", "image_generation_call"}
        if kind == "reasoning":
            assert item["encrypted_content"]
            assert following.get("role") != "user" or isinstance(following["content"], list)  # an image that was made
            assert following.get("type") != "function_call_output"
        if item.get("role") == "assistant":
            assert isinstance(item["content"], str)
            assert item["content"]
            assert "id" not in item


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_nothing_that_was_said_is_lost(request: Request) -> None:
    told = json.dumps(body_of(request), ensure_ascii=False)
    for each in request.messages:
        for part in each.parts:
            if isinstance(part, TextPart):
                assert json.dumps(part.text, ensure_ascii=False)[1:-1] in told


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_what_others_made_is_not_sent(request: Request) -> None:
    told = json.dumps(body_of(request))
    assert '"sig' not in told
    assert "citations" not in told
    assert "never_heard_of" not in told


@judged
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(request=requests)
def test_the_vendors_own_types_accept_any_thread(request: Request, judge: Judge) -> None:
    assert judge.errors(RESPONSES, body_of(request)) == []


def test_what_came_goes_back_in_meaning() -> None:
    items = [
        thought("Hm."), message("I look.", phase="commentary"), call('{"a":1}', namespace="crm"), {"type": "web_search_call", **SEARCH},
        picture(), thought("Well."), message("Rain.", id="msg_2"),
    ]  # fmt: skip
    came = response(whole(body(*items))).message
    back = body_of(Request((came, allm.tool_result("call_1", "x"))))["input"]
    assert [item["type"] for item in back] == [*(item["type"] for item in items), "function_call_output"]
    for was, now in zip(items, back, strict=False):
        kept = {key: value for key, value in was.items() if key not in ("id", "content", "status", "annotations", "output_format")}
        assert {key: now.get(key) for key in kept} == kept
    assert (back[1]["content"], back[6]["content"]) == ("I look.", "Rain.")
