"""Conformance of a decoder: bytes -> events, with no server. Part of `AdapterConformance`."""

import json
import pickle
import random
from collections.abc import Iterator
from typing import Any, Final

from allm.codec import from_json, to_json
from allm.errors import ADAPTER_REASONS, ErrorInfo
from allm.events import (
    ErrorOccurred,
    Event,
    MessageCompleted,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
)
from allm.order import BLOCKS
from allm.responses import Response
from allm.testing.conformance_base import CALLS, TEXT, Conformance, completed, decode, legal
from allm.testing.simulator import Reply
from allm.testing.wires.script import Failure

__all__ = ["DecodingTests"]

_BROKEN: Final = ErrorInfo("adapter", "connection_closed", "the connection broke")
_NEW_FIELD: Final = {"x_conformance": {"new": [1, None, "x"]}}


class DecodingTests(Conformance):
    """What every decoder must do with every answer."""

    def test_the_events_of_an_answer_come_in_legal_order_and_say_all_of_it(self) -> None:
        for reply in self._replies():
            response = completed(decode(self._decoder(), self._stream(reply)), reply)
            _says(response, reply)

    def test_one_body_says_the_same_as_the_stream(self) -> None:
        for reply in self._replies():
            streamed = completed(decode(self._decoder(), self._stream(reply)), reply)
            whole = completed(self._decoder().body(self._body(reply)), reply)
            assert _comparable(whole) == _comparable(streamed), f"the body says {whole}, the stream {streamed}"

    def test_any_cutting_of_the_stream_into_pieces_folds_alike(self) -> None:
        self._wire()
        for reply in self._replies():
            stream = b"".join(self._stream(reply))
            expected = completed(decode(self._decoder(), [stream]), reply)
            for pieces in _cuttings(stream):
                events = decode(self._decoder(), pieces)
                about = f"in {len(pieces)} pieces: {reply}"
                assert completed(events, about) == expected, about
                said = "".join(event.delta for event in events if isinstance(event, TextDelta))
                thought = "".join(event.delta for event in events if isinstance(event, ReasoningDelta))
                assert (said, thought) == (expected.text, expected.reasoning_text), f"the deltas do not add up: {about}"

    def test_block_ids_are_unique_never_empty_and_not_used_again_by_the_next_attempt(self) -> None:
        used: set[str] = set()
        for generation in (1, 2, 3):
            for reply in self._replies()[-1:]:
                decoder = self._decoder(generation)
                ids = [event_id for event in decode(decoder, self._stream(reply)) for event_id in _block_ids(event)]
                assert ids, "no block has an id"
                assert all(isinstance(each, str) and each for each in ids), f"block ids are texts: {ids}"
                assert used.isdisjoint(ids), f"block ids of an earlier attempt came again: {used & set(ids)}"
                assert set(ids) <= set(decoder.block_ids()), "block_ids() names all blocks so far"
                used |= set(ids)

    def test_tool_calls_have_ids_of_their_own_also_beside_those_of_the_thread(self) -> None:
        if not self.tools:
            return
        first = completed(decode(self._decoder(), self._stream(CALLS))).tool_calls
        again = completed(decode(self._decoder(used_ids=[call.id for call in first]), self._stream(CALLS))).tool_calls
        ids = [call.id for call in (*first, *again)]
        assert all(ids), f"a call has no id: {ids}"
        assert len(set(ids)) == len(ids), f"an id that the thread already has came again: {ids}"

    def test_a_stream_that_is_cut_anywhere_before_its_end_marker_is_no_success(self) -> None:
        self._wire()
        for reply in self._replies():
            start, deltas, _ = self._frames(reply)
            content = b"".join((*start, *deltas))
            for at in {0, len(content), *range(0, len(content), 13)}:
                decoder = self._decoder()
                events = legal(decode(decoder, [content[:at]] if at else []), f"cut after {at} bytes")
                assert not any(isinstance(event, MessageCompleted) for event in events), f"cut after {at} bytes, and taken for whole"

    def test_what_is_cut_at_the_end_marker_is_whole_or_no_success(self) -> None:
        self._wire()
        start, deltas, end = self._frames(TEXT)
        content, last = b"".join((*start, *deltas)), b"".join(end)
        whole = completed(decode(self._decoder(), [content + last]))
        for at in range(len(last)):
            ended = [event for event in decode(self._decoder(), [content + last[:at]]) if isinstance(event, MessageCompleted)]
            assert all(event.response.message == whole.message for event in ended), f"taken for whole, and something is missing: {ended}"

    def test_a_body_that_is_cut_is_no_success(self) -> None:
        body = self._body(TEXT)
        for at in range(1, len(body) - 1, 7):
            decoder = self._decoder()
            events = legal([*decoder.body(body[:at]), *decoder.end()], f"a body of {at} of {len(body)} bytes")
            assert not any(isinstance(event, MessageCompleted) for event in events), f"cut after {at} bytes, and taken for whole"

    def test_what_came_is_kept_when_the_stream_breaks_off(self) -> None:
        for reply in self._replies():
            frames = self._stream(reply)
            for count in range(len(frames)):
                decoder = self._decoder()
                events: list[Event] = []
                for frame in frames[:count]:
                    events += decoder.feed(frame)
                if any(isinstance(event, MessageCompleted) for event in events):
                    continue
                said = "".join(event.delta for event in events if isinstance(event, TextDelta))
                assert decoder.has_content or not said, "content came, and has_content denies it"
                closing, partial = decoder.partial("cancelled", None)
                about = f"cancelled after {count} frames"
                legal([*events, *closing, MessageCompleted(partial)], about)
                assert partial.finish_reason == "cancelled", about
                assert partial.text == said, f"{about}: {partial.text!r} is left of {said!r}"
                _survives(partial)

    def test_a_partial_answer_carries_its_error(self) -> None:
        decoder = self._decoder()
        for frame in self._stream(TEXT)[:-1]:
            decoder.feed(frame)
        _, partial = decoder.partial("error", _BROKEN)
        assert (partial.finish_reason, partial.error) == ("error", _BROKEN), f"the error is not told: {partial}"

    def test_nothing_comes_after_the_terminal_event(self) -> None:
        stream = self._stream(TEXT)
        decoder = self._decoder()
        completed(decode(decoder, stream))
        more = [*decoder.feed(b"".join(stream)), *decoder.end()]
        assert more == [], f"after the end came {more}"

    def test_events_of_an_unknown_kind_are_not_fatal(self) -> None:
        for unknown in self.unknown:
            for reply in self._replies():
                start, deltas, end = self._frames(reply)
                for at in range(len(deltas) + 1):
                    pieces = (*start, *deltas[:at], unknown, *deltas[at:], *end)
                    _says(completed(decode(self._decoder(), pieces), unknown), reply)

    def test_fields_of_an_unknown_name_are_not_fatal(self) -> None:
        for reply in self._replies():
            plain = completed(decode(self._decoder(), self._stream(reply)))
            odd = completed(decode(self._decoder(), [_with_new_field(frame) for frame in self._stream(reply)]))
            assert odd.message == plain.message, f"a new field made {odd.message} of {plain.message}"
        if self.wire is not None:
            whole = completed(self._decoder().body(_with_new_field(self._body(TEXT))))
            _says(whole, TEXT)

    def test_a_malformed_chunk_fails_the_attempt(self) -> None:
        start, deltas, end = self._frames(TEXT)
        events = legal(decode(self._decoder(), [*start, *deltas[:1], self._wire().malformed, *deltas[1:], *end]))
        assert events, "no event at all"
        last = events[-1]
        assert isinstance(last, ErrorOccurred), f"a chunk that is no JSON was passed over: {last}"
        assert last.error.reason == "malformed_response", last.error

    def test_an_error_that_the_provider_tells_inside_the_stream_ends_it(self) -> None:
        start, deltas, end = self._frames(TEXT)
        told = self._wire().stream_error(Failure(500, "it broke"))
        events = legal(decode(self._decoder(), [*start, *deltas[:1], told, *deltas[1:], *end]))
        last = events[-1] if events else None
        assert isinstance(last, ErrorOccurred), f"the provider's error was passed over: {last}"
        assert last.error.kind == "adapter", last.error
        assert last.error.reason in ADAPTER_REASONS, last.error
        assert "it broke" in last.error.message, last.error

    def test_raw_chunks_change_nothing_else(self) -> None:
        for reply in self._replies():
            plain = completed(decode(self._decoder(), self._stream(reply)))
            raw = completed(decode(self._decoder(raw=True), self._stream(reply)))
            assert raw.message == plain.message, f"raw chunks made {raw.message} of {plain.message}"

    def test_every_event_survives_json_and_pickle(self) -> None:
        for reply in self._replies():
            for event in decode(self._decoder(), self._stream(reply)):
                _survives(event)

    def _stream(self, reply: Reply) -> tuple[bytes, ...]:
        start, deltas, end = self._frames(reply)
        return (*start, *deltas, *end)


def _says(response: Response, reply: Reply) -> None:
    """Whether the response is what the reply says."""
    assert response.text == reply.text, f"{response.text!r} instead of {reply.text!r}"
    assert response.reasoning_text == reply.reasoning, f"{response.reasoning_text!r} instead of {reply.reasoning!r}"
    calls = tuple((call.name, call.arguments) for call in response.tool_calls)
    assert calls == reply.tool_calls, f"{calls} instead of {reply.tool_calls}"
    finish = "tool_calls" if reply.tool_calls else "stop"
    assert response.finish_reason == finish, f"{response.finish_reason!r} instead of {finish!r}"
    usage = response.usage  # None is "not reported"
    assert usage.input_tokens in (None, reply.input_tokens), f"{usage} instead of {reply.input_tokens} input tokens"
    assert usage.output_tokens in (None, reply.told_tokens()), f"{usage} instead of {reply.told_tokens()} output tokens"


def _comparable(response: Response) -> tuple[Any, ...]:
    """What must be the same however the answer came: all but what was told about the way."""
    calls = tuple((call.name, call.arguments) for call in response.tool_calls)
    said = response.text, response.reasoning_text, calls
    return (*said, response.finish_reason, response.raw_finish_reason, response.refusal, response.model, response.usage)


def _cuttings(stream: bytes) -> Iterator[list[bytes]]:
    """Ways to cut it: by one byte, by some sizes, and at random places (always the same ones)."""
    for size in (1, 2, 3, 7, 64, 1000):
        yield [stream[at : at + size] for at in range(0, len(stream), size)]
    chance = random.Random(1)
    for _ in range(20):
        cuts = sorted(chance.sample(range(1, len(stream)), min(len(stream) - 1, chance.randint(1, 9))))
        yield [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def _block_ids(event: Event) -> list[str]:
    kind = BLOCKS.get(type(event))
    return [getattr(event, "id", "")] if kind is not None or isinstance(event, ToolCallCompleted) else []


def _with_new_field(data: bytes) -> bytes:
    """The same with one field more in each object that stands in a line of its own."""
    return b"".join(_line(line) for line in data.splitlines(keepends=True))


def _line(line: bytes) -> bytes:
    head, brace, _ = line.partition(b"{")
    if not brace or head not in (b"", b"data: "):
        return line
    text = line[len(head) :].rstrip(b"\r\n")
    end = line[len(head) + len(text) :]
    return head + json.dumps({**json.loads(text), **_NEW_FIELD}, ensure_ascii=False, separators=(",", ":")).encode() + end


def _survives(value: Any) -> None:
    assert from_json(to_json(value)) == value, f"changed by JSON: {value}"
    assert pickle.loads(pickle.dumps(value)) == value, f"changed by pickle: {value}"
