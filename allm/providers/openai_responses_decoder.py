"""OpenAI Responses: bytes -> events.

An answer is a list of items; a stream tells how each of them grows, and at its end the whole list again. A body in one piece is that list
and nothing else, and goes the same way. The event that comes by the thousand is decoded by a typed decoder.

Correlation is by `output_index`: item ids may change between an item's start and its end, and llama.cpp sends no index at all (then the
id decides, then the newest item of the kind). What was told in deltas is kept, so that whatever repeats an item whole (its end, the
terminal event) adds only what was missing: a host that leaves out deltas, or ends, or both, is understood all the same. Where the whole
contradicts the deltas, these hold: they were handed on.

The end marker is one of the terminal events `response.completed`, `.incomplete`, `.failed` and `error`; the last two may both come, and
the first of them counts.
"""

from typing import Any, Final

import msgspec

from allm.blocks import CallContext
from allm.errors import ErrorInfo
from allm.events import Event, RawChunk
from allm.messages import Part
from allm.providers.decoding import SseWireDecoder, is_whole, storable, within_limits
from allm.providers.openai_responses_items import (
    MAKER,
    call_left_over,
    error_in,
    finish_told,
    image_left_over,
    image_of,
    message_left_over,
    objects,
    provider_part,
    reasoning_data,
    reasoning_texts,
    text_of,
    usage_of,
)
from allm.responses import FinishReason, Response
from allm.sse import Frame
from allm.wire_json import MalformedJson, decode, is_array, is_object

__all__ = ["ResponsesDecoder"]

_QUIET: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
"""What is told without anything having been done."""

_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
"""The kinds of item that call a tool of ours -> the field that holds what it is called with."""

_BESIDE: Final = ("service_tier", "moderation", "content_filters")
"""What stands beside the answer and goes to its metadata."""


class _Event(msgspec.Struct):
    type: str | None = None
    delta: Any = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    item: Any = None
    response: Any = None
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode


class _Item:
    """One item of the answer. `told`: (what, index of the part) -> the pieces that were told of it."""

    __slots__ = ("done", "key", "kind", "told")

    def __init__(self, kind: str, key: int) -> None:
        self.kind = kind
        self.key = key
        self.told: dict[tuple[str, int], list[str]] = {}
        self.done = False


class ResponsesDecoder(SseWireDecoder):
    """One attempt's answer -> events."""

    PROVIDER = MAKER

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self._items: list[_Item] = []
        self._by_index: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._current: _Item | None = None
        self._place: tuple[int | None, int | None, str | None] | None = None
        self._pieces: list[str] = []
        self._refusal: list[str] = []

    def end(self) -> list[Event]:
        """The stream ended: a last event without its blank line is read. Only the terminal event itself is an end marker."""
        if not self.ended:
            self._frames([frame for frame in self._sse.close() if is_whole(frame.data)])
        return self.build.take()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        try:
            response = decode(data)
        except MalformedJson:
            response = None
        if is_object(response) and is_array(response.get("output")):
            self._terminal(response, raw=storable(data) if self._raw_chunks else None)
        elif is_object(response) and response.get("error") is not None:
            self.fail(error_in(response["error"]))
        else:
            self._malformed("the body is no response of this wire")
        return self.build.take()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far. Usage comes with the terminal event only."""
        response = self.build.partial(finish, error)
        return self.build.take(), response

    # events

    def _frames(self, frames: list[Frame]) -> None:
        for name, data in frames:
            if self.ended:
                return
            self._data(data, failed=name == b"error")

    def _data(self, data: bytes, failed: bool) -> None:
        try:
            event = _decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            odd = self._odd_event(data)
            if odd is None:
                return
            event = odd
        if self._raw_chunks and (raw := storable(data)) is not None:
            self.build.events.append(RawChunk(raw))
        if event.type == "response.output_text.delta":
            self._text(event)
        elif failed or event.type == "error" or (event.type is None and event.error is not None):
            self.fail(error_in(event.error or {"code": event.code, "message": event.message, "param": event.param}))
        elif event.type is not None:
            self._event(event.type, event)

    def _event(self, kind: str, event: _Event) -> None:
        match kind:
            case "response.function_call_arguments.delta":
                self._delta(event, "function_call", "arguments", 0)
            case "response.custom_tool_call_input.delta":
                self._delta(event, "custom_tool_call", "input", 0)
            case "response.reasoning_summary_text.delta":
                self._delta(event, "reasoning", "summary", event.summary_index)
            case "response.reasoning_text.delta":
                self._delta(event, "reasoning", "content", event.content_index)
            case "response.refusal.delta":
                self._delta(event, "message", "refusal", event.content_index)
            case "response.output_item.added" if is_object(event.item):
                self._added(event.output_index, event.item)
            case "response.output_item.done" if is_object(event.item):
                self._done(event.output_index, event.item)
            case "response.completed" | "response.incomplete" | "response.failed":
                self._terminal({"status": kind.partition(".")[2], **(event.response if is_object(event.response) else {})})
            case _ if kind in _QUIET:
                self._begin(event.response if is_object(event.response) else {})
            case _:
                # A tool of the provider at work, or news of a kind that is not known yet: no content, but no silence either.
                self.progress = self.progress or kind.startswith("response.")

    def _odd_event(self, data: bytes) -> _Event | None:
        """An event that the typed decoder refused: read it loosely, or fail the attempt."""
        if not data.strip() or data == b"[DONE]":
            return None  # a proxy's; the end of this wire is another
        try:
            return msgspec.convert(decode(data), _Event, strict=False)
        except MalformedJson:
            self._malformed("an event of the answer is no JSON")
        except (msgspec.ValidationError, RecursionError) as error:
            self._malformed(f"an event of the answer is not of this wire: {error}")
        return None

    def _begin(self, response: dict[str, Any]) -> None:
        if not self.build.started:
            self.build.start(text_of(response.get("id")) or None, text_of(response.get("model")) or None)

    # items

    def _text(self, event: _Event) -> None:
        """The one that comes by the thousand: as long as it goes on where it was, nothing is looked up (a third of the time)."""
        piece, place = event.delta, (event.output_index, event.content_index, event.item_id)
        if place == self._place and piece and type(piece) is str:
            self._pieces.append(piece)
            self.build.text(piece)
        elif (item := self._delta(event, "message", "text", event.content_index)) is not None:
            self._place, self._pieces = place, item.told["text", event.content_index or 0]

    def _delta(self, event: _Event, kind: str, what: str, index: int | None) -> _Item | None:
        """More of an item, which is begun if nothing told of its beginning. None if there was nothing in it."""
        if not event.delta or not isinstance(event.delta, str):
            return None
        item = self._find(event.output_index, event.item_id, kind) or self._open(event.output_index, event.item_id, kind)
        self._tell(item, what, index or 0, event.delta)
        return item

    def _find(self, index: int | None, name: str | None, kind: str) -> _Item | None:
        """The unfinished item of this kind that an event is about. None for an index that is new."""
        placed = self._by_index.get(index) if index is not None else None
        if placed is not None and placed.kind == kind and not placed.done:
            return placed
        named = self._by_id.get(name) if name is not None else None
        if named is not None and named.kind == kind and not named.done:
            return named
        if index is not None and placed is None:
            return None
        return next((item for item in reversed(self._items) if item.kind == kind and not item.done), None)

    def _open(self, index: int | None, name: str | None, kind: str) -> _Item:
        self._begin({})
        item = _Item(kind, len(self._items))
        self._items.append(item)
        self._place = None
        if index is not None:
            self._by_index[index] = item
        if name:
            self._by_id[name] = item
        return item

    def _added(self, index: int | None, data: dict[str, Any]) -> None:
        item = self._open(index, text_of(data.get("id")), text_of(data.get("type")))
        self.progress = True
        if item.kind in _CALLS:
            self._by_id.setdefault(text_of(data.get("call_id")), item)  # what llama.cpp's deltas name instead of the item
            self._tell_call(item, data)

    def _done(self, index: int | None, data: dict[str, Any]) -> None:
        kind, name = text_of(data.get("type")), text_of(data.get("id")) or text_of(data.get("call_id"))
        self._finish(self._find(index, name, kind) or self._open(index, name, kind), data)
        self.progress = True

    def _finish(self, item: _Item, data: dict[str, Any]) -> None:
        """The item is whole: tells of it what was not told yet."""
        item.done = True
        self._place = None
        match item.kind:
            case "message":
                self._finish_message(item, data)
            case "reasoning":
                self._finish_reasoning(item, data)
            case "function_call" | "custom_tool_call":
                self._tell_call(item, data)
                self.build.end_call(item.key)
                self._whole(call_left_over(data))
            case "image_generation_call" if (image := image_of(data)) is not None:
                self._whole(image)
                self._whole(image_left_over(data))
            case _:
                self._whole(provider_part(item.kind, data))

    def _finish_message(self, item: _Item, data: dict[str, Any]) -> None:
        for i, part in enumerate(objects(data.get("content"))):
            self._rest(item, "text", i, text_of(part.get("text")))
            self._rest(item, "refusal", i, text_of(part.get("refusal")))
        if self._current is item:
            self.build.close_block()
        self._whole(message_left_over(data))

    def _finish_reasoning(self, item: _Item, data: dict[str, Any]) -> None:
        for what, i, text in reasoning_texts(data):
            self._rest(item, what, i, text)
        if (signed := reasoning_data(data)) is not None:
            self._turn_to(item)
            self.build.sign(data=signed, provider=MAKER, reasoning=True)
        if self._current is item:
            self.build.close_block()

    def _tell_call(self, item: _Item, data: dict[str, Any]) -> None:
        self.build.call(item.key, text_of(data.get("call_id")) or None, text_of(data.get("name")) or None, None)
        self._rest(item, _CALLS[item.kind], 0, text_of(data.get(_CALLS[item.kind])))

    def _rest(self, item: _Item, what: str, index: int, text: str) -> None:
        """`text` is all of it: tells what its deltas did not."""
        told = "".join(item.told.get((what, index), ()))
        if len(text) > len(told) and text.startswith(told):
            self._tell(item, what, index, text[len(told) :])

    def _tell(self, item: _Item, what: str, index: int, piece: str) -> None:
        pieces = item.told.get((what, index))
        if pieces is None:
            pieces = item.told[what, index] = []
        pieces.append(piece)
        match what:
            case "text":
                self._turn_to(item)
                self.build.text(piece)
            case "refusal":
                self._refusal.append(piece)
                self.progress = True
            case "arguments" | "input":
                self.build.call(item.key, None, None, piece)
            case _:
                self._turn_to(item)
                self.build.reasoning(piece if len(pieces) > 1 or len(item.told) == 1 else f"\n\n{piece}")

    def _turn_to(self, item: _Item) -> None:
        """Text of another item is another block, also where nothing stands between them."""
        if self._current is not item:
            self.build.close_block()
            self._current = item
            self._place = None

    def _whole(self, part: Part | None) -> None:
        if part is not None:
            self.build.whole(part)

    # the end

    def _terminal(self, response: dict[str, Any], raw: Any = None) -> None:
        if response.get("status") == "failed":
            self.fail(error_in(response.get("error") or {"message": "the response failed"}))
            return
        self._begin(response)
        self.build.model = self.build.model or text_of(response.get("model")) or None
        self._output(objects(response.get("output")))
        self.ended = True
        self._metadata |= within_limits({name: response[name] for name in _BESIDE if response.get(name)})
        finish, word = finish_told(response)
        if self.failed(finish, word):
            return
        self.build.complete(
            finish,
            raw_finish=word,
            usage=usage_of(response.get("usage")),
            refusal="".join(self._refusal) or None,
            metadata=self._metadata,
            raw=raw,
        )

    def _output(self, output: list[dict[str, Any]]) -> None:
        """The whole list: what the stream did not tell to its end, or not at all, is told now."""
        for i, data in enumerate(output):
            kind = text_of(data.get("type"))
            known = self._items[i] if i < len(self._items) else self._open(None, None, kind)
            if known.kind == kind and not known.done:
                self._finish(known, data)
