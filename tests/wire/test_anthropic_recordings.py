"""Recorded answers of the Messages wire: any framing folds alike, the order is legal, and the vendor's own client agrees.

Scored are the exchanges that are recorded truth and within what the vendor's client itself reads. All of them are replayed.
"""

import functools
import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allm
from allm.engine import Engine
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.folding import fold
from allm.order import OrderChecker
from allm.providers.anthropic import Anthropic
from allm.requests import Request
from allm.responses import Response
from allm.wire_json import encode
from tests import corpus
from tests.corpus import Exchange, requires_recordings
from tests.wire.anthropic import decoder, event
from tests.wire.chat import cut, joined
from tests.wire.judging import MESSAGES, Judge, judged

UNSCORED = {"suspected_synthetic", "official_mock", "several_stream_starts", "truncated_by_keeper"}
SEEDS = 3  # framings of each stream, beside those of single bytes (of streams below SHORT bytes) and with other ends of line
SHORT = 10_000

pytestmark = requires_recordings


@functools.cache
def exchange(name: str) -> Exchange:
    return corpus.load(name)


@functools.cache
def of(*, stream: bool | None = None, failed: bool = False) -> list[Exchange]:
    """The scored exchanges of this kind."""
    read = [exchange(name) for name in corpus.ids("anthropic.messages")]
    limits = ("fallback", "limit", "judge_limit")
    scored = [each for each in read if not UNSCORED & each.tags and not any(each.expected.get(limit) for limit in limits)]
    return [each for each in scored if (each.response["status"] >= 400) == failed and stream in (None, each.is_stream)]


def stream(*pieces: bytes) -> list[Event]:
    told = decoder()
    return [event for piece in pieces for event in told.feed(piece)] + told.end()


@functools.cache
def events_of(name: str) -> list[Event]:
    read = exchange(name)
    return stream(read.body) if read.is_stream else decoder().body(read.body)


def response_of(read: Exchange) -> Response:
    last = events_of(read.id)[-1]
    assert isinstance(last, MessageCompleted), (read.id, last)
    return last.response


def packed(text: str | None) -> str:
    """Without white space: reasoning in parts may be joined by a blank line, its deltas are not."""
    return "".join((text or "").split())


def in_order(arguments: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(arguments.items())


def problems(read: Exchange) -> dict[str, tuple[object, object]]:
    """What the vendor's client made of the answer and we did not: what -> (expected, got)."""
    want, got = read.expected, response_of(read)
    usage: dict[str, int | None] = want["usage"]
    whole = (usage["input"] or 0) + (usage["cached"] or 0) + (usage["cache_write"] or 0)
    pairs: dict[str, tuple[object, object]] = {
        "text": (want["text"] or "", got.text),
        "calls": (
            [(call["id"], call["name"], in_order(call["arguments"] or {})) for call in want["tool_calls"]],
            [(call.id, call.name, in_order(call.arguments)) for call in got.tool_calls],
        ),
        "finish": (want["finish"], got.raw_finish_reason),
        "input": (whole, got.usage.input_tokens),
        "output": (usage["output"], got.usage.output_tokens),
    }
    if want.get("reasoning"):
        pairs["reasoning"] = (packed(want["reasoning"]), packed(got.reasoning_text))
    counts = {"cached": "cached_input_tokens", "cache_write": "cache_write_input_tokens", "reasoning": "reasoning_tokens"}
    pairs |= {name: (usage[name], getattr(got.usage, count)) for name, count in counts.items() if usage.get(name) is not None}
    return {what: pair for what, pair in pairs.items() if encode(pair[0]) != encode(pair[1])}


def test_there_are_recordings_of_every_kind() -> None:
    assert len(of(stream=True)) > 80
    assert len(of(stream=False)) > 280
    assert len(of(failed=True)) > 4


def test_the_answer_is_what_the_vendors_own_client_makes_of_it() -> None:
    assert {read.id: found for read in of() if (found := problems(read))} == {}


def test_the_order_is_legal_and_the_events_fold_to_the_response() -> None:
    for read in of():
        checker = OrderChecker()
        events = events_of(read.id)
        for each in events:
            checker.check(each)
        assert fold(events) == response_of(read), read.id
        so_far = fold(events[:-1])
        assert isinstance(so_far, Response)
        assert so_far.message == response_of(read).message, read.id


def random_pieces(data: bytes, pick: random.Random) -> list[bytes]:
    pieces: list[bytes] = []
    while data:
        size = pick.choice((1, 2, 3, 7, 40, 200, 1000, 5000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def test_every_framing_gives_the_same_events() -> None:
    for read in of(stream=True):
        expected = joined(events_of(read.id))
        for seed in range(SEEDS):
            assert joined(stream(*random_pieces(read.body, random.Random(f"{seed}{read.id}")))) == expected, (read.id, seed)
        for end in (b"\r\n", b"\r"):
            assert joined(stream(read.body.replace(b"\n", end))) == expected, (read.id, end)
        if len(read.body) < SHORT:
            assert joined(stream(*(read.body[i : i + 1] for i in range(len(read.body))))) == expected, read.id


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_framing_gives_the_same_events(data: st.DataObject) -> None:
    read = data.draw(st.sampled_from(of(stream=True)).map(lambda read: read.id).map(exchange))
    places = data.draw(st.lists(st.integers(0, len(read.body)), max_size=30))
    assert joined(stream(*cut(read.body, places))) == joined(events_of(read.id))


def as_stream(body: dict[str, Any]) -> bytes:
    """The body as the wire would stream it, each block whole in its start."""
    data = event("message_start", message={**body, "content": [], "stop_reason": None})
    for index, block in enumerate(body["content"]):
        data += event("content_block_start", index=index, content_block=block) + event("content_block_stop", index=index)
    kept = {name: body[name] for name in ("stop_reason", "stop_sequence", "stop_details", "container") if name in body}
    return data + event("message_delta", delta=kept, usage=body["usage"]) + event("message_stop")


def test_a_body_and_the_stream_of_it_fold_alike() -> None:
    for read in of(stream=False):
        assert fold(stream(as_stream(json.loads(read.body)))) == response_of(read), read.id


def test_an_error_answer_has_a_reason_that_fits_its_status() -> None:
    for read in of(failed=True):
        status = read.response["status"]
        headers = {key.lower(): str(value) for key, value in read.response["headers"].items()}
        error = Anthropic().failure(status, headers, read.body)
        likely = {400: {"invalid_request", "context_length_exceeded"}, 401: {"authentication"}, 404: {"not_found"}}[status]
        assert error.reason in likely, read.id
        body: dict[str, Any] = read.response["body"]
        assert error.message == body["error"]["message"], read.id
        assert error.retry_after is None, read.id


def test_an_error_inside_a_recorded_stream_is_the_end() -> None:
    for read in of(stream=True)[:10]:
        told = decoder()
        events = told.feed(read.body[: read.body.rindex(b"event: message_delta")] + event("error", error={"type": "overloaded_error"}))
        assert isinstance(events[-1], ErrorOccurred), read.id
        assert events[-1].error.reason == "overloaded", read.id


BEYOND_THE_TYPES = {
    # Fields of results that the published types of requests do not have; they go back as they came all the same.
    "pai--test-web-tools-test-anthropic-supported-model-uses-20260209-web-tools-82ca33-0": "abort_reason",
    "prism-tests-Fixtures-anthropic-structured-with-provider-tool-native-1-1c0a56-0": "snippet",
    "prism-tests-Fixtures-anthropic-structured-with-provider-tool-toolcalling-1-4ff30c-0": "snippet",
}


@judged
def test_a_recorded_answer_can_be_sent_back(judge: Judge) -> None:
    bodies: dict[str, Any] = {}
    for read in of():
        answer = response_of(read)
        results = [allm.tool_result(call.id, "x") for call in answer.tool_calls]
        request = Request((allm.user("Hi"), answer.message, *results, allm.user("Go on.")))
        bodies[read.id] = json.loads(Anthropic().request(Engine("anthropic:claude-x"), request, "https://a.example", True).body)
    verdicts = zip(bodies, judge.verdicts(MESSAGES, list(bodies.values())), strict=True)
    refused = {name: errors for name, errors in verdicts if errors}
    assert refused.keys() == BEYOND_THE_TYPES.keys()
    for name, field in BEYOND_THE_TYPES.items():
        assert f"{field}: Extra inputs are not permitted" in refused[name][0]
