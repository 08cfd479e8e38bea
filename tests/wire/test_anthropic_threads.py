"""Anthropic Messages: threads of any kind, made by any provider, are bodies that the vendor takes, and nothing said is lost."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part, Unknown
from allm.providers.adapter import HttpRequest
from allm.providers.anthropic import Anthropic
from allm.providers.anthropic_decoder import AnthropicDecoder
from tests.wire.anthropic import decoder, message
from tests.wire.chat import response
from tests.wire.judging import MESSAGES, Judge, judged

EXAMPLES = 150
IDS = ["toolu_1", "call_1", "0", "a.b:1", "x" * 99, "", "\u00e4", "functions.f:0"]
SERVER = ProviderPart("anthropic", "server_tool_use", {"id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}})
WHERE = {"document_index": 0, "document_title": None, "start_char_index": 0, "end_char_index": 1, "file_id": None}
CITED = ProviderPart("anthropic", "citations", {"citations": [{"type": "char_location", "cited_text": "x", **WHERE}]})

texts = st.sampled_from(["", " ", "\n\n", "a", "b \n", "\u00e4\u20ac"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
text_parts = st.builds(TextPart, texts, st.none() | st.just("signature"))
image_parts = st.sampled_from([ImagePart(Image.from_binary(b"\xff\xd8\xff")), ImagePart(Image.from_url("https://example.org/a.png"))])
file_parts = st.sampled_from([FilePart(data=b"%PDF", name="a.pdf"), FilePart(data=b"a", mime="text/plain")])
made_parts = st.sampled_from(
    [ImagePart(Image.from_binary(b"BM")), FilePart(url="gs://b/a.wav", mime="audio/wav"), ImagePart(Image.from_url("gs://b/a"))]
)
reasoning = st.builds(
    ReasoningPart,
    texts,
    st.none() | st.just("sig"),
    st.none() | st.just("data"),
    st.sampled_from([None, "anthropic", "openai", "gemini"]),
)
foreign = st.sampled_from(
    [ProviderPart("openai", "web_search_call", {"id": "ws_1"}), ProviderPart("gemini", "x"), Unknown("new", {"type": "new"})]
)
calls = st.builds(
    ToolCallPart,
    st.sampled_from([name for name in IDS if name]),
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
    st.builds(
        Message,
        st.just("assistant"),
        content(text_parts, reasoning, calls, calls, foreign, image_parts, made_parts, st.sampled_from([SERVER, CITED])),
    ),
    st.builds(
        Message,
        st.just("tool"),
        content(text_parts, image_parts, file_parts),
        tool_call_id=st.sampled_from([name for name in IDS if name]),
        metadata=st.sampled_from([{}, {"is_error": True}]),
    ),
)
requests = st.builds(
    Request,
    st.lists(messages, min_size=1, max_size=10).map(tuple),
    model=st.sampled_from(["claude-opus-4-8", "claude-sonnet-4-6", "claude-sonnet-4-5", "claude-3-haiku-20240307", "bench-1"]),
    tools=st.sampled_from([(), (ToolSpec("weather"), ToolSpec("now", "Tells the time.", {"type": "object"}))]),
    tool_choice=st.sampled_from([None, "auto", "none", "required"]),
    reasoning=st.sampled_from([None, "none", "low", 5000]),
    response_format=st.sampled_from([None, "text", "json", allm.json_schema("a", {"type": "object", "properties": {}})]),
    prompt_cache=st.sampled_from([None, {}, {"retention": "long"}]),
)


def body_of(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(Anthropic().request(Engine("anthropic:claude-x"), request, "https://a.example", True).body)
    return body


def blocks(item: dict[str, Any]) -> list[dict[str, Any]]:
    content = item["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_turns_alternate_and_instructions_follow_a_user(request: Request) -> None:
    roles = [item["role"] for item in body_of(request)["messages"]]
    assert roles
    for before, after in pairwise(roles):
        assert (before, after) in {("user", "assistant"), ("assistant", "user"), ("user", "system"), ("system", "assistant")}
    assert roles[0] != "system"


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_each_call_is_answered_at_the_start_of_the_next_turn(request: Request) -> None:
    body = body_of(request)
    turns = [item for item in body["messages"] if item["role"] != "system"]
    used: list[str] = []
    waiting: list[str] = []
    for turn in turns:
        results = [block["tool_use_id"] for block in blocks(turn) if block["type"] == "tool_result"]
        assert results == waiting
        assert all(block["type"] == "tool_result" for block in blocks(turn)[: len(results)])
        waiting = [block["id"] for block in blocks(turn) if block["type"] == "tool_use"]
        used += waiting
    assert waiting == []
    assert len(set(used)) == len(used)
    assert all(each.isascii() and each.replace("-", "").replace("_", "").isalnum() and len(each) <= 64 for each in used)
    assert not used or body["tools"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_no_block_is_one_that_the_vendor_refuses(request: Request) -> None:
    body = body_of(request)
    for item in body["messages"]:
        kinds = [block["type"] for block in blocks(item)]
        assert kinds
        assert all(block["text"].strip() for block in blocks(item) if block["type"] == "text")
        if item["role"] == "assistant":
            assert not {"image", "document", "tool_result"} & {*kinds}
            assert kinds[-1] not in ("thinking", "redacted_thinking")
        else:
            assert not {"tool_use", "thinking", "redacted_thinking"} & {*kinds}
    last = blocks(body["messages"][-1])[-1]
    if body["messages"][-1]["role"] == "assistant" and last["type"] == "text":
        assert last["text"] == last["text"].rstrip()
    assert json.dumps(body).count("cache_control") <= 4
    assert body["max_tokens"] > body.get("thinking", {}).get("budget_tokens", 0)


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests)
def test_nothing_that_was_said_is_lost(request: Request) -> None:
    told = json.dumps(body_of(request), ensure_ascii=False)
    for each in request.messages:
        for part in each.parts:
            if isinstance(part, TextPart) and part.text.strip():
                assert json.dumps(part.text.rstrip(), ensure_ascii=False)[1:-1] in told


@judged
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(request=requests)
def test_the_vendors_own_types_accept_any_thread(request: Request, judge: Judge) -> None:
    assert judge.errors(MESSAGES, body_of(request)) == []


ANSWERS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"type": st.just("text"), "text": texts.filter(str.strip)}),
        st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts, "signature": st.just("sig")}),
        st.just({"type": "redacted_thinking", "data": "x"}),
        st.just({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}}),
        st.just({"type": "text", "text": "a", "citations": [{"type": "new", "cited_text": "x"}]}),
        st.just({"type": "new", "b": [1]}),
    ),
    max_size=5,
)


@given(ANSWERS, st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3)), max_size=3))
def test_an_answer_goes_back_as_it_came(given_blocks: list[dict[str, Any]], inputs: list[dict[str, int]]) -> None:
    uses = [{"type": "tool_use", "id": f"toolu_{n}", "name": "f", "input": given} for n, given in enumerate(inputs)]
    searched = any(block["type"] == "server_tool_use" for block in given_blocks)
    found = [{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": "x"}] if searched else []
    sent: list[dict[str, Any]] = [*given_blocks, *found, *uses]
    told: AnthropicDecoder = decoder()
    answer = response(told.body(json.dumps(message(*sent)).encode()))
    results = [allm.tool_result(call.id, "x") for call in answer.tool_calls]
    back = body_of(Request((allm.user("Hi"), answer.message, *results, allm.user("Go on."))))["messages"]
    while sent and "thinking" in sent[-1]["type"]:
        sent.pop()
    assert [block for item in back if item["role"] == "assistant" for block in blocks(item)] == sent


def test_an_instruction_without_a_turn_before_it_stands_behind_the_earlier_ones() -> None:
    thread = [allm.user("a"), allm.system("one"), allm.assistant("b"), allm.user(""), allm.system("two")]
    made = Anthropic().request(Engine("anthropic:claude-opus-4-8"), Request(tuple(thread)), "https://api.anthropic.com", True)
    assert isinstance(made, HttpRequest)
    body = json.loads(made.body)
    assert [message["content"] for message in body["messages"] if message["role"] == "system"] == [
        [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    ]
    assert "system" not in body
