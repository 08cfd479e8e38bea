"""Recorded answers of the Responses wire: any framing folds alike, the order is legal, and the vendor's own client agrees.

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
from allm.providers.openai_responses import OpenAIResponses
from allm.requests import Request
from allm.responses import Response
from tests import corpus
from tests.corpus import Exchange, requires_recordings
from tests.wire.chat import cut, failure, joined
from tests.wire.judging import RESPONSES, Judge, judged
from tests.wire.responses import decoder

UNSCORED = {"suspected_synthetic", "official_mock", "several_stream_starts", "truncated_by_keeper"}
SEEDS = 3  # framings of each stream, beside those of single bytes (of streams below SHORT bytes) and with other ends of line
SHORT = 10_000
ODD = {
    "vai-packages-azure-src-fixtures-azure-deepseek-reasoning-1-29aa16-0",  # a body of Chat: its text is elsewhere
    "vai-packages-openai-src-responses-fixtures-openai-shell-container-1-chunks-739034-0",  # its keeper shortened the deltas, not the whole
}

pytestmark = requires_recordings


@functools.cache
def exchange(name: str) -> Exchange:
    return corpus.load(name)


@functools.cache
def of(*, stream: bool | None = None, failed: bool = False) -> list[Exchange]:
    """The scored exchanges of this kind."""
    read = [exchange(name) for name in corpus.ids("openai.responses") if name not in ODD]
    limits = ("fallback", "limit", "judge_limit")
    scored = [each for each in read if not UNSCORED & each.tags and not any(each.expected.get(limit) for limit in limits)]
    return [each for each in scored if (each.response["status"] >= 400) == failed and stream in (None, each.is_stream)]


def stream(*pieces: bytes) -> list[Event]:
    made = decoder()
    return [event for piece in pieces for event in made.feed(piece)] + made.end()


@functools.cache
def events_of(name: str) -> list[Event]:
    read = exchange(name)
    return stream(read.body) if read.is_stream else decoder().body(read.body)


def packed(text: str | None) -> str:
    """Without white space: reasoning in parts may be joined by a blank line, its deltas are not."""
    return "".join((text or "").split())


def problems(read: Exchange) -> dict[str, tuple[object, object]]:
    """What the vendor's client made of the answer and we did not: what -> (expected, got)."""
    want, last = read.expected, events_of(read.id)[-1]
    if isinstance(last, ErrorOccurred):
        return {"error": (None, last.error)} if want["ok"] else {}
    assert isinstance(last, MessageCompleted), read.id
    got = last.response
    usage: dict[str, int | None] = want["usage"] or {}
    pairs: dict[str, tuple[object, object]] = {
        "text": (want["text"] or "", got.text),
        "calls": (
            [(call["id"], call["name"], call["arguments"] or {}) for call in want["tool_calls"]],
            [(call.id, call.name, call.arguments) for call in got.tool_calls],
        ),
        "finish": (want["finish"], got.raw_finish_reason),
        "reasoning": (packed(want["reasoning"]), packed(got.reasoning_text)),
        "refusal": (want["refusal"], got.refusal),
        "images": ([each["bytes"] for each in want["images"]], [len(each.image.data or b"") for each in got.images]),
    }
    counts = {"input": "input_tokens", "output": "output_tokens", "total": "total_tokens", "cached": "cached_input_tokens"}
    counts |= {"cache_write": "cache_write_input_tokens", "reasoning": "reasoning_tokens"}
    pairs |= {f"{name} tokens": (usage[name], getattr(got.usage, count)) for name, count in counts.items() if usage.get(name) is not None}
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


def test_there_are_recordings_of_every_kind() -> None:
    assert len(of(stream=True)) > 100
    assert len(of(stream=False)) > 380
    assert len(of(failed=True)) > 5


def test_the_answer_is_what_the_vendors_own_client_makes_of_it() -> None:
    assert {read.id: found for read in of() if (found := problems(read))} == {}


def test_what_is_odd_is_read_as_it_was_told() -> None:
    chat, shortened = sorted(ODD)
    assert failure(events_of(chat))[0] == "malformed_response"
    last = events_of(shortened)[-1]
    assert isinstance(last, MessageCompleted)
    assert last.response.text == exchange(shortened).expected["delta_text"]


def test_the_order_is_legal_and_the_events_fold_to_the_response() -> None:
    for read in of():
        checker = OrderChecker()
        events = events_of(read.id)
        for each in events:
            checker.check(each)
        last = events[-1]
        if isinstance(last, MessageCompleted):
            assert fold(events) == last.response, read.id
            so_far = fold(events[:-1])
            assert isinstance(so_far, Response)
            assert so_far.message == last.response.message, read.id


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


def whole_of(read: Exchange) -> dict[str, Any] | None:
    """The response that the terminal event of a stream holds."""
    lines = [line[5:] for line in read.body.splitlines() if line.startswith(b"data:")]
    last: Any = json.loads(lines[-1])
    found: dict[str, Any] | None = last.get("response")
    return found


def test_a_stream_and_the_body_in_its_last_event_say_the_same() -> None:
    compared = 0
    for read in of(stream=True):
        last, body = events_of(read.id)[-1], whole_of(read)
        if isinstance(last, MessageCompleted) and body is not None and body["output"]:
            again = decoder().body(json.dumps(body).encode())[-1]
            assert isinstance(again, MessageCompleted)
            ours, theirs = last.response, again.response
            assert (ours.text, ours.tool_calls, ours.usage) == (theirs.text, theirs.tool_calls, theirs.usage), read.id
            kinds = [sorted(type(part).__name__ for part in each.message.parts) for each in (ours, theirs)]
            assert kinds[0] == kinds[1], read.id
            compared += 1
    assert compared > 100


LIKELY = {400: {"invalid_request", "not_found"}, 401: {"authentication"}, 429: {"quota_exceeded"}}


def test_an_error_answer_has_a_reason_that_fits_its_status() -> None:
    for read in of(failed=True):
        status = read.response["status"]
        error = OpenAIResponses().failure(status, {key.lower(): str(value) for key, value in read.response["headers"].items()}, read.body)
        assert (error.status, error.reason in LIKELY[status]) == (status, True), read.id
        assert error.message == read.response["body"]["error"]["message"], read.id


@judged
def test_what_was_answered_can_be_sent_back(judge: Judge) -> None:
    bodies: list[Any] = []
    for read in of():
        last = events_of(read.id)[-1]
        if isinstance(last, MessageCompleted):
            came = last.response.message
            thread = (allm.user("Hi"), came, *(allm.tool_result(call.id, "ok") for call in came.tool_calls), allm.user("And?"))
            sent = OpenAIResponses().request(Engine("openai.responses:gpt-5"), Request(thread), "https://api.openai.com/v1", True)
            bodies.append(json.loads(sent.body))
    assert len(bodies) > 100
    assert judge.refused(RESPONSES, bodies) == []
