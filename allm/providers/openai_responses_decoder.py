"""OpenAI Responses: bytes -> events.

An answer is a list of items; a stream tells how each of them grows, and at its end the whole list again. A body in one piece is that list
and nothing else, and goes the same way. The event that comes by the thousand is decoded by a typed decoder.

Which item an event is about is decided in `openai_responses_matching`. What was told in deltas is kept, so that whatever repeats a part
or an item whole (`*.done`, the item's end, the terminal event) adds only what was missing: a host that leaves out deltas, or ends, or
both, is understood all the same, and one that says everything three times is told once. Where the whole contradicts the deltas, these
hold: they were handed on. Items may interleave: each text is a block of its own.

The end marker is one of the terminal events `response.completed`, `.incomplete`, `.failed`, `.done` (other hosts) and `error`; several
may come, and the first of them counts.
"""

from typing import Any, Final

import msgspec

from allm.blocks import CallContext
from allm.errors import ErrorInfo
from allm.events import Event, RawChunk
from allm.messages import Part
from allm.providers.decoding import SseWireDecoder, is_whole, storable, within_limits
from allm.providers.error_bodies import error_told
from allm.providers.ids import real_names
from allm.providers.loose import decode_answer
from allm.providers.openai_responses_items import (
    CALLS,
    MAKER,
    arguments_of,
    call_left_over,
    error_in,
    finish_told,
    image_left_over,
    image_of,
    message_left_over,
    name_of,
    objects,
    provider_part,
    reasoning_data,
    reasoning_texts,
    text_of,
    usage_of,
)
from allm.providers.openai_responses_matching import Item, Items
from allm.responses import FinishReason, Response
from allm.sse import BARE, Frame
from allm.wire_json import MalformedJson, is_array, is_object

__all__ = ["ResponsesDecoder"]

_QUIET: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
"""What is told without anything having been done."""

_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled", "done"})
"""What `response.` is followed by in a terminal event."""

_WORKING: Final = frozenset({"queued", "in_progress"})

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


_PARTS: Final = {
    "output_text": ("message", "text", "content_index", "text"), "refusal": ("message", "refusal", "content_index", "refusal"),
    "reasoning_text": ("reasoning", "content", "content_index", "text"),
    "reasoning_summary_text": ("reasoning", "summary", "summary_index", "text"),
    "function_call_arguments": ("function_call", "arguments", "", "arguments"),
    "custom_tool_call_input": ("custom_tool_call", "input", "", "input"),
}  # fmt: skip
"""What `.delta` adds to and `.done` repeats whole -> (kind of item, part of it, field of the part's index, field of the whole)."""

_PIECES: Final = {"output_text": "output_text", "text": "output_text", "refusal": "refusal", "reasoning_text": "reasoning_text",
                  "summary_text": "reasoning_summary_text"}  # fmt: skip
"""The type of a part in `response.content_part.done` and `response.reasoning_summary_part.done` -> its name in `_PARTS`."""


class ResponsesDecoder(SseWireDecoder):
    """One attempt's answer -> events."""

    PROVIDER = MAKER
    ANSWER = "output"

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self.build.names = real_names(context.tools)
        self._items = Items()
        self._at: Any = None
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
            response = decode_answer(data)
        except MalformedJson:
            response = None
        if is_object(response) and is_array(response.get("output")):
            self._terminal(response, raw=storable(data) if self._raw_chunks else None)
        elif (error := error_told(response)) is not None:
            self._refused(error)
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
            if name == b"error":
                self._error_event(data)
            elif name == BARE:
                self._bare(data)
            else:
                self._data(data, name)

    def _error_of(self, error: Any) -> ErrorInfo:
        return error_in(error)

    def _data(self, data: bytes, name: bytes) -> None:
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
            return
        kind = event.type or name.decode("ascii", "replace")
        if kind == "error":
            self._error_event(data)
        elif not kind:
            self._unnamed(data)
        elif kind.endswith("_part.done"):
            self._part(decode_answer(data), event)
        elif kind.endswith(".done") and kind[9:-5] in _PARTS:
            self._repeated(kind[9:-5], decode_answer(data), event)
        else:
            self._event(kind, event)

    def _event(self, kind: str, event: _Event) -> None:
        part = _PARTS.get(kind[9:-6]) if kind.endswith(".delta") else None
        if part is not None:
            item = self._delta(event, part[0], part[1], getattr(event, part[2], None))
            if part[1] == "text" and item is not None:
                self._stay(event, item)
        elif kind == "response.output_item.added" and is_object(event.item):
            self._added(event.output_index, event.item)
        elif kind == "response.output_item.done" and is_object(event.item):
            self._done(event.output_index, event.item)
        elif kind.startswith("response.") and kind[9:] in _ENDS:
            self._terminal(_with_status(event.response if is_object(event.response) else {}, kind[9:]))
        elif kind in _QUIET:
            self._begin(event.response if is_object(event.response) else {})
        else:
            # A tool of the provider at work, or news of a kind that is not known yet: no content, but no silence either.
            self.progress = self.progress or kind.startswith("response.")

    def _odd_event(self, data: bytes) -> _Event | None:
        """An event that the typed decoder refused: read loosely, or it fails the attempt."""
        if not data.strip() or data.strip() == b"[DONE]":
            return None  # a proxy's; the end of this wire is another
        try:
            told = decode_answer(data)
        except MalformedJson:
            self._malformed("an event of the answer is no JSON")
            return None
        if is_object(told):
            return _loosely(told)
        self._malformed("an event of the answer is no object")
        return None

    def _begin(self, response: dict[str, Any]) -> None:
        if not self.build.started:
            self.build.start(name_of(response.get("id")) or None, text_of(response.get("model")) or None)

    # items

    def _text(self, event: _Event) -> None:
        """The one that comes by the thousand: as long as it goes on where it was, nothing is looked up (a third of the time)."""
        piece = event.delta
        if (event.output_index, event.content_index, event.item_id) == self._place and piece and type(piece) is str:
            self._pieces.append(piece)
            self.build.text(piece)
        elif (item := self._delta(event, "message", "text", event.content_index)) is not None:
            self._stay(event, item)

    def _stay(self, event: _Event, item: Item) -> None:
        """What follows may go on here."""
        self._place = event.output_index, event.content_index, event.item_id
        self._pieces = item.told["text", event.content_index or 0]

    def _delta(self, event: _Event, kind: str, what: str, index: int | None) -> Item | None:
        """More of an item, which is begun if nothing told of its beginning. None if there was nothing in it."""
        if not event.delta or not isinstance(event.delta, str):
            return None
        item = self._items.of_delta(kind, event.output_index, event.item_id) or self._open(kind, event.output_index, event.item_id or "")
        if item.done:
            return None
        self._tell(item, what, index or 0, event.delta)
        return item

    def _repeated(self, name: str, told: dict[str, Any], event: _Event) -> None:
        """A part is told whole at its end: what its deltas left out, or all of it where a host sends none."""
        kind, what, place, field = _PARTS[name]
        text = arguments_of(kind, {CALLS[kind]: told.get(field)}) if kind in CALLS else text_of(told.get(field))
        if not text:
            return
        item = self._items.of_delta(kind, event.output_index, event.item_id) or self._open(kind, event.output_index, event.item_id or "")
        if not item.done:
            if kind in CALLS and text_of(told.get("name")):
                self._name(item, told)
            self._rest(item, what, getattr(event, place, None) or 0, text)

    def _part(self, told: dict[str, Any], event: _Event) -> None:
        """The same, where the part is an object of its own."""
        part = told.get("part")
        name = _PIECES.get(text_of(part.get("type"))) if is_object(part) else None
        if name is not None and is_object(part):
            self._repeated(name, part, event)
        self.progress = True

    def _open(self, kind: str, index: int | None, name: str) -> Item:
        self._begin({})
        return self._items.begin(kind, index, name)

    def _added(self, index: int | None, data: dict[str, Any]) -> None:
        kind = text_of(data.get("type"))
        item = self._items.of_start(kind, index, data) or self._open(kind, index, name_of(data.get("id")))
        self.progress = True
        if kind in CALLS and not item.done:
            self._name(item, data)
            self._rest(item, CALLS[kind], 0, arguments_of(kind, data))

    def _done(self, index: int | None, data: dict[str, Any]) -> None:
        kind = text_of(data.get("type"))
        item = self._items.of_end(kind, index, data) or self._open(kind, index, name_of(data.get("id")))
        self._finish(item, data)
        self.progress = True

    def _finish(self, item: Item, data: dict[str, Any]) -> None:
        """The item is whole: tells of it what was not told yet."""
        if item.done:
            if item.kind == "message" and not item.told:
                self._finish_texts(item, data)  # its end was told without a word of it
            return
        self._turn_to(item.key)
        match item.kind:
            case "message":
                self._finish_texts(item, data)
                self._whole(message_left_over(data))
            case "reasoning":
                self._finish_reasoning(item, data)
            case "function_call" | "custom_tool_call":
                self._finish_call(item, data)
                return
            case "image_generation_call" if (image := image_of(data)) is not None:
                self._whole(image)
                self._whole(image_left_over(data))
            case _:
                self._whole(provider_part(item.kind, data))
        self._items.end(item)

    def _finish_texts(self, item: Item, data: dict[str, Any]) -> None:
        for i, part in enumerate(objects(data.get("content"))):
            self._rest(item, "text", i, text_of(part.get("text")))
            self._rest(item, "refusal", i, text_of(part.get("refusal")))
        for what, i in item.told:
            if what == "text":
                self._turn_to((item.key, i))
                self.build.close_block()
        self._turn_to(item.key)

    def _finish_reasoning(self, item: Item, data: dict[str, Any]) -> None:
        for what, i, text in reasoning_texts(data):
            self._rest(item, what, i, text)
        self._release(item)
        self._turn_to(item.key)
        if (signed := reasoning_data(data)) is not None:
            self.build.sign(data=signed, provider=MAKER, reasoning=True)
        self.build.close_block()

    def _finish_call(self, item: Item, data: dict[str, Any]) -> None:
        """A call without a byte of arguments stays open: the terminal event may bring them, or say that the answer was cut before."""
        self._name(item, data)
        self._rest(item, CALLS[item.kind], 0, arguments_of(item.kind, data))
        item.whole = data.get("status") == "completed"
        if item.told:
            self._end_call(item)
        if not item.beside:
            item.beside = True
            self._whole(call_left_over(item.kind, data))

    def _end_call(self, item: Item) -> None:
        self.build.end_call(item.key)
        self._items.end(item)

    def _name(self, item: Item, data: dict[str, Any]) -> None:
        """The name and the id of a call, told once."""
        self._turn_to(item.key)
        known = item.call_id
        self._items.call(item, data)
        self.build.call(item.key, None if known else item.call_id or None, item.name or None, None)

    def _rest(self, item: Item, what: str, index: int, text: str) -> None:
        """`text` is all of it: tells what its deltas did not."""
        if more := item.untold(what, index, text):
            self._tell(item, what, index, more)

    def _tell(self, item: Item, what: str, index: int, piece: str) -> None:
        pieces = item.told.get((what, index))
        if pieces is None:
            pieces = item.told[what, index] = []
        pieces.append(piece)
        match what:
            case "text":
                self._turn_to((item.key, index))
                self.build.text(piece)
            case "refusal":
                self._refusal.append(piece)
                self.progress = True
            case "arguments" | "input":
                self._turn_to(item.key)
                self.build.call(item.key, None, None, piece)
            case _:
                self._reason(item, what, piece, begins=len(pieces) == 1)

    def _reason(self, item: Item, what: str, piece: str, begins: bool) -> None:
        """Reasoning may be told twice, as a summary and as what was really thought: what came first is told, the other one when the item
        is whole, and only if it says something else."""
        first = item.lead is None
        item.lead = item.lead or what
        if item.lead != what:
            self.progress = True
            return
        self._turn_to(item.key)
        self.build.reasoning(f"\n\n{piece}" if begins and not first else piece)

    def _release(self, item: Item) -> None:
        """What was kept back of an item's reasoning, unless it was told already."""
        if item.lead is None or item.done:
            return
        other = "content" if item.lead == "summary" else "summary"
        told, kept = item.texts((item.lead,)), item.texts((other,))
        if "".join(kept.split()) not in ("", "".join(told.split())):
            more = (
                kept[len(told) :]
                if kept.startswith(told)
                else "\n\n".join(["", *(item.text(*part) for part in item.told if part[0] == other)])
            )
            self._turn_to(item.key)
            self.build.reasoning(more)

    def _turn_to(self, block: Any) -> None:
        """Each text of the answer is a block, and so is the reasoning of an item: they stay apart where they interleave."""
        if self._at != block:
            self._at = block
            self._place = None
            self.build.turn_to(block)

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
        for data, known in zip(output, self._items.of_output(output), strict=True):
            self._finish(known or self._open(text_of(data.get("type")), None, ""), data)
        for item in self._items.open("reasoning"):
            self._release(item)
        for item in self._items.open("function_call"):
            if item.whole and not item.told:
                self.build.end_call(item.key, whole=True)


def _loosely(told: dict[str, Any]) -> _Event:
    """The event without what is of another type than this wire's, for fields that are needed only if they are right."""
    places = {name: _place(told.get(name)) for name in ("output_index", "content_index", "summary_index")}
    whatever = {name: told.get(name) for name in ("delta", "item", "response", "error", "code", "message", "param")}
    return _Event(type=text_of(told.get("type")) or None, item_id=name_of(told.get("item_id")) or None, **places, **whatever)


def _place(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _with_status(response: dict[str, Any], end: str) -> dict[str, Any]:
    """The response with its status, which the event's own name tells where it does not, or not any more."""
    told = response.get("status")
    if isinstance(told, str) and told and told not in _WORKING:
        return response
    return {**response, "status": "completed" if end == "done" else end}
