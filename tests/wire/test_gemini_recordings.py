"""Recorded answers of the Gemini wire: any framing folds alike, the order is legal, and the vendor's own client agrees.

Scored are the exchanges that are recorded truth and within what the vendor's client itself reads. All of them are replayed; those
beyond it (arrays, enums as numbers, several candidates) must be read too, and arguments in pieces, which that client does not join.
"""

import functools
import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allm
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.folding import fold
from allm.messages import ReasoningPart, TextPart, ToolCallPart
from allm.order import OrderChecker
from allm.providers.gemini import Gemini
from allm.responses import Response
from tests import corpus
from tests.corpus import Exchange, requires_recordings
from tests.wire.chat import cut, joined
from tests.wire.gemini import body_of, decoder
from tests.wire.judging import GEMINI, Judge, judged

PROVIDERS = ("gemini.generate", "gemini.stream")
UNSCORED = {
    "suspected_synthetic", "official_mock", "several_stream_starts", "multi_choice", "json_array_stream", "enum_as_int",
    "truncated_by_keeper",
}  # fmt: skip
COUNTS = {"input": "input_tokens", "output": "output_tokens", "cached": "cached_input_tokens", "reasoning": "reasoning_tokens"}
SEEDS = 10  # framings of each stream, beside those of single bytes (of streams below SHORT bytes) and with other ends of line
EXAMPLES = 100  # framings by hypothesis, of streams drawn from all of them
SHORT = 8_000

pytestmark = requires_recordings


@functools.cache
def exchange(name: str) -> Exchange:
    return corpus.load(name)


@functools.cache
def every() -> list[Exchange]:
    return [exchange(name) for name in corpus.ids(*PROVIDERS)]


def is_scored(read: Exchange) -> bool:
    limits = ("fallback", "limit", "judge_limit")
    return not UNSCORED & read.tags and not any(read.expected.get(limit) for limit in limits)


@functools.cache
def of(*, stream: bool | None = None, failed: bool = False) -> list[Exchange]:
    """The scored exchanges of this kind."""
    found = [read for read in every() if is_scored(read) and (read.response["status"] >= 400) == failed]
    return [read for read in found if stream in (None, read.is_stream)]


def stream(*pieces: bytes) -> list[Event]:
    told = decoder()
    return [event for piece in pieces for event in told.feed(piece)] + told.end()


@functools.cache
def events_of(name: str) -> list[Event]:
    read = exchange(name)
    return stream(read.body) if read.is_stream else decoder().body(read.body)


@functools.cache
def answers() -> list[tuple[Exchange, Response]]:
    found = [(read, events_of(read.id)[-1]) for read in of()]
    return [(read, last.response) for read, last in found if isinstance(last, MessageCompleted)]


def random_pieces(data: bytes, pick: random.Random) -> list[bytes]:
    pieces: list[bytes] = []
    while data:
        size = pick.choice((1, 2, 3, 7, 40, 200, 1000, 5000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def packed(text: str | None) -> str:
    return "".join((text or "").split())


def in_pieces(want: Mapping[str, Any]) -> bool:
    """Whether arguments come in pieces: the vendor's client gives each piece as a call of its own."""
    return any(call.get("partial") for call in want["tool_calls"])


def differences(want: Mapping[str, Any], got: Response) -> dict[str, tuple[object, object]]:
    """What the vendor's client made of the answer and we did not: what -> (expected, got)."""
    named = [call for call in want["tool_calls"] if call["name"]]
    pieces = in_pieces(want)
    told: list[tuple[Any, ...]] = [(call["name"], {} if pieces else call["arguments"] or {}, call["id"]) for call in named]
    ours: list[tuple[Any, ...]] = [(call.name, {} if pieces else call.arguments, call.id) for call in got.tool_calls]
    if len(told) == len(ours):
        told = [(*each[:2], each[2] or mine[2]) for each, mine in zip(told, ours, strict=True)]
    pairs: dict[str, tuple[object, object]] = {"text": (want.get("text") or "", got.output_text), "calls": (told, ours)}
    if want.get("finish") or want.get("block_reason"):
        pairs["finish"] = (want.get("finish") or want["block_reason"], got.raw_finish_reason)
    if want.get("reasoning"):
        pairs["reasoning"] = (packed(want["reasoning"]), packed(got.reasoning_text))
    images = [image["sha256"] for image in want.get("images") or () if image.get("sha256")]
    if images:
        pairs["images"] = (images, [hashlib.sha256(part.image.to_binary()).hexdigest() for part in got.images])
    usage: dict[str, int | None] = dict(want["usage"] or {})
    if usage.get("output") is not None:
        usage["output"] = (usage["output"] or 0) + (usage["reasoning"] or 0)
    if usage.get("input") is not None:  # the vendor's client does not count what its tools gave to read; the total does
        usage["input"] = (usage["input"] or 0) + got.usage.extra.get("toolUsePromptTokenCount", 0)
    for name, field in COUNTS.items():
        if (count := usage.get(name)) is not None:
            pairs[name] = (count, getattr(got.usage, field))
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


def test_there_are_recordings_of_every_kind() -> None:
    assert len(of(stream=True)) > 50
    assert len(of(stream=False)) > 200
    assert len(of(failed=True)) >= 3


def test_the_answer_is_what_the_vendors_own_client_makes_of_it() -> None:
    assert {read.id: found for read in of() if (found := problems(read))} == {}


def problems(read: Exchange) -> dict[str, tuple[object, object]]:
    last = events_of(read.id)[-1]
    if isinstance(last, MessageCompleted):
        return differences(read.expected, last.response)
    if isinstance(last, ErrorOccurred):
        return {"error": (None, last.error)} if read.expected["ok"] else {}
    truncated = read.is_stream and not read.expected.get("finish")
    return {} if truncated else {"end": ("a terminal event", last)}


def test_arguments_in_pieces_are_joined() -> None:
    found = [got for read, got in answers() if in_pieces(read.expected)]
    assert len(found) >= 3
    for got in found:
        assert all(call.arguments or call.name == "read_theme" for call in got.tool_calls)


def test_every_signature_is_kept_and_sent_back() -> None:
    signed = 0
    for read, got in answers():
        told = read.body.count(b'"thoughtSignature"')
        sent = [part for turn in body_of(allm.request([allm.user("Hi"), got.message]))["contents"][1:] for part in turn["parts"]]
        kept = [part["thoughtSignature"] for part in sent if "thoughtSignature" in part]
        assert (len(kept), all(signature.encode() in read.body for signature in kept)) == (told, True), read.id
        signed += bool(told)
    assert signed > 50


@judged
def test_every_answer_can_be_sent_back(judge: Judge) -> None:
    bodies: list[dict[str, Any]] = []
    for _, got in answers():
        results = [allm.tool_result(call.id, "done") for call in got.tool_calls]
        bodies.append(body_of(allm.request([allm.user("Hi"), got.message, *results])))
    assert len(bodies) > 200
    assert judge.refused(GEMINI, bodies) == []


def test_the_order_is_legal_and_the_events_fold_to_the_response() -> None:
    for read in every():
        if read.response["status"] >= 400:
            continue
        checker = OrderChecker()
        events = events_of(read.id)
        for event in events:
            checker.check(event)
        last = events[-1] if events else None
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


def test_a_framing_of_single_bytes_gives_the_same_events() -> None:
    short = [read for read in of(stream=True) if len(read.body) < SHORT]
    assert len(short) > 20
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
    compared = 0
    for read in of(stream=False):
        last = events_of(read.id)[-1]
        if isinstance(last, MessageCompleted) and last.response.raw_finish_reason is not None:
            assert fold(stream(b"data: " + b" ".join(read.body.splitlines()) + b"\r\n\r\n")) == last.response, read.id
            compared += 1
    assert compared > 200


def test_what_the_vendors_client_does_not_read_is_read_too() -> None:
    """A stream in one array, enums that are numbers, mocks by the vendor's own hand."""
    beyond = [read for read in every() if not is_scored(read) and read.response["status"] < 400]
    ended = 0
    for read in beyond:
        events = events_of(read.id)
        last = events[-1] if events else None
        ended += isinstance(last, MessageCompleted)
        if read.tags & {"json_array_stream", "enum_as_int"} and read.expected.get("ok"):
            assert isinstance(last, MessageCompleted), read.id
            assert differences(read.expected, last.response) == {}, read.id
        if isinstance(last, MessageCompleted):
            assert not (last.response.raw_finish_reason or "").isdigit(), read.id
    assert ended > 40


LIKELY = {
    400: {"invalid_request", "context_length_exceeded", "authentication"}, 403: {"permission", "authentication"}, 404: {"not_found"},
    429: {"rate_limited", "quota_exceeded"},
}  # fmt: skip


def test_an_error_answer_has_a_reason_that_fits_its_status() -> None:
    failed = [read for read in every() if read.response["status"] >= 400]
    assert len(failed) > 10
    for read in failed:
        status = read.response["status"]
        headers = {key.lower(): str(value) for key, value in read.response["headers"].items()}
        error = Gemini().failure(status, headers, read.body)
        assert (error.status, error.reason in LIKELY[status]) == (status, True), read.id
        body: Any = json.loads(read.body)
        assert error.message == body["error"]["message"], read.id
        if b"API_KEY_INVALID" in read.body:
            assert error.reason == "authentication", read.id
        if b"retryDelay" in read.body:
            assert error.retry_after, read.id


def test_parts_that_are_kept_are_of_known_kinds() -> None:
    kinds = {type(part) for _, got in answers() for part in got.message.parts}
    assert {TextPart, ReasoningPart, ToolCallPart} <= kinds
