"""Recorded answers of the Chat wire: any framing folds alike, the order is legal, and the vendor's own client agrees.

Scored are the exchanges that are recorded truth and within what the vendor's client itself reads. All of them are replayed.
"""

import functools
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allm.blocks import CallContext
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.folding import fold
from allm.messages import ToolCallPart
from allm.order import OrderChecker
from allm.providers.failures import failure
from allm.providers.openai_chat import ChatDecoder
from allm.responses import Response
from tests import corpus
from tests.corpus import Exchange, requires_recordings
from tests.wire.chat import cut, joined

PROVIDERS = ("openai.chat", "compat.chat")
UNSCORED = {
    "suspected_synthetic", "official_mock", "several_stream_starts", "multi_choice", "json_array_stream", "enum_as_int",
    "legacy_function_call", "audio_in", "truncated_by_keeper",
}  # fmt: skip
COUNTS = {
    "input": "input_tokens", "output": "output_tokens", "cached": "cached_input_tokens", "cache_write": "cache_write_input_tokens",
    "reasoning": "reasoning_tokens",
}  # fmt: skip
SEEDS = 10  # framings of each stream, beside those of single bytes (of streams below SHORT bytes) and with other ends of line
EXAMPLES = 200  # framings by hypothesis, of streams drawn from all of them
SHORT = 20_000

pytestmark = requires_recordings


@functools.cache
def exchange(name: str) -> Exchange:
    return corpus.load(name)


@functools.cache
def scored() -> list[str]:
    def counts(read: Exchange) -> bool:
        limits = ("fallback", "limit", "judge_limit")
        return not UNSCORED & read.tags and not any(read.expected.get(limit) for limit in limits)

    return [name for name in corpus.ids(*PROVIDERS) if counts(exchange(name))]


@functools.cache
def of(*, stream: bool | None = None, failed: bool = False) -> list[Exchange]:
    """The scored exchanges of this kind."""
    return [read for read in map(exchange, scored()) if (read.response["status"] >= 400) == failed and stream in (None, is_stream(read))]


def is_stream(read: Exchange) -> bool:
    """OpenRouter's begin with a comment."""
    return read.is_stream or read.body.startswith(b":")


def decoder() -> ChatDecoder:
    return ChatDecoder(CallContext(request_id="req"))


def stream(*pieces: bytes) -> list[Event]:
    told = decoder()
    return [event for piece in pieces for event in told.feed(piece)] + told.end()


@functools.cache
def events_of(name: str) -> list[Event]:
    read = exchange(name)
    return stream(read.body) if is_stream(read) else decoder().body(read.body)


def random_pieces(data: bytes, pick: random.Random) -> list[bytes]:
    pieces: list[bytes] = []
    while data:
        size = pick.choice((1, 2, 3, 7, 40, 200, 1000, 5000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def packed(text: str | None) -> str:
    """Without white space: reasoning in parts may be joined by a blank line, its deltas are not."""
    return "".join((text or "").split())


def calls(got: tuple[ToolCallPart, ...], with_ids: bool) -> list[tuple[Any, ...]]:
    return [(call.name, call.arguments, *([call.id] if with_ids else [])) for call in got]


def differences(want: Mapping[str, Any], got: Response) -> dict[str, tuple[object, object]]:
    """What the vendor's client made of the answer and we did not: what -> (expected, got)."""
    named = all(call.get("id") for call in want["tool_calls"])
    pairs: dict[str, tuple[object, object]] = {
        "text": (want.get("text") or "", got.output_text),
        "calls": (
            [(call["name"], call["arguments"] or {}, *([call["id"]] if named else [])) for call in want["tool_calls"]],
            calls(got.tool_calls, named),
        ),
    }
    if want.get("finish"):
        pairs["finish"] = (want["finish"], got.raw_finish_reason)
    if want.get("refusal"):
        pairs["refusal"] = (want["refusal"], got.refusal)
    if want.get("reasoning"):
        pairs["reasoning"] = (packed(want["reasoning"]), packed(got.reasoning_text))
    usage: dict[str, int | None] = {**(want["usage"] or {})}
    told, thought = (usage.get("input") or 0) + (usage.get("output") or 0), usage.get("reasoning") or 0
    if thought and usage.get("total") == told + thought:  # xAI's clients leave reasoning out of the output; ours count each token
        usage["output"] = (usage.get("output") or 0) + thought
    for name, field in COUNTS.items():
        if (count := usage.get(name)) is not None:
            pairs[name] = (count, getattr(got.usage, field))
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


def test_there_are_recordings_of_every_kind() -> None:
    assert len(of(stream=True)) > 100
    assert len(of(stream=False)) > 300
    assert len(of(failed=True)) > 15


def test_the_answer_is_what_the_vendors_own_client_makes_of_it() -> None:
    assert {read.id: found for read in of() if (found := problems(read))} == {}


def problems(read: Exchange) -> dict[str, tuple[object, object]]:
    last = events_of(read.id)[-1]
    if isinstance(last, MessageCompleted):
        found = differences(read.expected, last.response)
        if not all(call.id for call in last.response.tool_calls):
            found["ids"] = ("an id for each call", last.response.tool_calls)
        return found
    if isinstance(last, ErrorOccurred):
        return {"error": (None, last.error)} if read.expected["ok"] else {}
    # Recorded without an end marker: the vendor's client takes it, this library must not.
    truncated = is_stream(read) and not read.expected.get("finish")
    return {} if truncated else {"end": ("a terminal event", last)}


def test_the_order_is_legal_and_the_events_fold_to_the_response() -> None:
    for read in of():
        checker = OrderChecker()
        events = events_of(read.id)
        for event in events:
            checker.check(event)
        last = events[-1]
        if isinstance(last, MessageCompleted):
            assert fold(events) == last.response, read.id
            so_far = fold(events[:-1])
            assert isinstance(so_far, Response)
            assert so_far.message == last.response.message, read.id


def test_every_seeded_framing_gives_the_same_events() -> None:
    for read in of(stream=True):
        expected = joined(events_of(read.id))
        for seed in range(SEEDS):
            pieces = random_pieces(read.body, random.Random(f"{seed}{read.id}"))
            assert joined(stream(*pieces)) == expected, (read.id, seed)


@pytest.mark.slow
def test_a_framing_of_single_bytes_gives_the_same_events() -> None:
    short = [read for read in of(stream=True) if len(read.body) < SHORT]
    assert len(short) > 90
    for read in short:
        pieces = (read.body[i : i + 1] for i in range(len(read.body)))
        assert joined(stream(*pieces)) == joined(events_of(read.id)), read.id


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_framing_gives_the_same_events(data: st.DataObject) -> None:
    read = data.draw(st.sampled_from(of(stream=True)).map(lambda read: read.id).map(exchange))
    places = data.draw(st.lists(st.integers(0, len(read.body)), max_size=30))
    assert joined(stream(*cut(read.body, places))) == joined(events_of(read.id))


def test_other_ends_of_line_give_the_same_events() -> None:
    for read in of(stream=True):
        body = read.body.replace(b"\r\n", b"\n")
        for end in (b"\r\n", b"\r"):
            assert stream(body.replace(b"\n", end)) == events_of(read.id), (read.id, end)


def test_a_body_and_the_stream_of_it_fold_alike() -> None:
    """The body as one chunk of a stream, its `message` in the place of the `delta`."""
    compared = 0
    for read in of(stream=False):
        last = events_of(read.id)[-1]
        choices: list[dict[str, Any]] = read.response.get("body", {}).get("choices") or []
        if not isinstance(last, MessageCompleted) or any("delta" in choice for choice in choices):
            continue  # an error, or both: a stream reads the delta
        streamed = stream(b"data: " + b" ".join(read.body.splitlines()) + b"\n\ndata: [DONE]\n\n")
        assert fold(streamed) == last.response, read.id
        compared += 1
    assert compared > 300


LIKELY = {
    400: {"invalid_request", "context_length_exceeded", "content_filter", "authentication", "not_found"},
    401: {"authentication"}, 403: {"permission", "authentication", "quota_exceeded"}, 404: {"not_found"},
    422: {"invalid_request"}, 429: {"rate_limited", "quota_exceeded", "overloaded", "context_length_exceeded"},
    500: {"server_error"}, 503: {"service_unavailable", "overloaded"},
}  # fmt: skip


def test_an_error_answer_has_a_reason_that_fits_its_status() -> None:
    for read in of(failed=True):
        status = read.response["status"]
        headers = {key.lower(): str(value) for key, value in read.response["headers"].items()}
        error = failure("openai", status, headers, read.body)
        assert (error.status, error.reason in LIKELY[status]) == (status, True), read.id
        body: dict[str, Any] = read.response.get("body") or {}
        told: Any = body.get("error")
        if isinstance(told, dict):
            assert error.message == told["message"], read.id
