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

from allm.errors import ErrorInfo
from allm.events import Event, RawChunk
from allm.providers.decoding import is_whole, noted, storable
from allm.providers.error_bodies import error_beside, error_in_json, error_told
from allm.providers.loose import decode_answer, read_loosely
from allm.providers.openai_responses_items import (
    CALLS,
    arguments_of,
    error_in,
    finish_told,
    objects,
    text_of,
    usage_of,
)
from allm.providers.openai_responses_matching import Item
from allm.providers.openai_responses_telling import ItemTeller
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


class ResponsesDecoder(ItemTeller):
    """One attempt's answer -> events."""

    ANSWER = "output"

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
        if kind == "error" or kind.endswith(".error"):
            self._error_event(data)
        elif event.error is not None and (error := error_in_json(data)) is not None:
            self._refused(error)
        elif not kind:
            self._unnamed(data)
        elif kind.endswith("_part.done"):
            self._part(decode_answer(data), event)
        elif kind == "response.content_part.added":
            self._part_begun(decode_answer(data), event)
        elif kind.endswith(".done") and kind[9:-5] in _PARTS:
            self._repeated(kind[9:-5], decode_answer(data), event)
        else:
            self._event(kind, event, data)

    def _event(self, kind: str, event: _Event, data: bytes) -> None:
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
            told = event.response if is_object(event.response) else {"error": {"message": event.message, "code": event.code}}
            self._terminal(_with_status(told, kind[9:]))
        elif kind in _QUIET:
            told = event.response if is_object(event.response) else {}
            if (error := error_beside(told)) is not None:
                return self._refused(error)
            self._begin(told)
        elif kind.startswith("response."):
            # A tool of the provider at work, or news of a kind that is not known yet: no content, but no silence either.
            self.progress = True
        else:
            self._unnamed(data)
        return None

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
            return read_loosely(told, _Event)
        self._malformed("an event of the answer is no object")
        return None

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

    def _part_begun(self, told: dict[str, Any], event: _Event) -> None:
        """A part begins; some hosts say the first of it, or all, with its start."""
        part = told.get("part")
        self.progress = True
        if is_object(part) and part.get("type") in ("output_text", "text") and (text := text_of(part.get("text"))):
            name = event.item_id or ""
            item = self._items.of_delta("message", event.output_index, name) or self._open("message", event.output_index, name)
            if not item.done:
                self._head(item, "text", event.content_index or 0, text)

    def _part(self, told: dict[str, Any], event: _Event) -> None:
        """The same, where the part is an object of its own."""
        part = told.get("part")
        name = _PIECES.get(text_of(part.get("type"))) if is_object(part) else None
        if name is not None and is_object(part):
            self._repeated(name, part, event)
        self.progress = True

    # the end

    def _terminal(self, response: dict[str, Any], raw: Any = None) -> None:
        error = error_beside(response)
        if error is None and response.get("status") == "failed":
            error = error_told(response.get("status_details")) or error_told({"error": response.get("last_error")})
            error = error or {"message": "the response failed"}
        if error is not None:
            self.fail(error_in(error))
            return
        self._begin(response)
        self.build.model = self.build.model or text_of(response.get("model")) or None
        output = objects(response.get("output"))
        if not output and not self.build.has_content and (text := text_of(response.get("output_text"))):
            output = [{"type": "message", "content": text}]  # the SDKs' short form, as some hosts have it
        self._output(output)
        self.ended = True
        self._metadata |= noted({name: response[name] for name in _BESIDE if response.get(name)})
        finish, word = finish_told(response)
        if self.failed(finish, word):
            return
        if finish == "stop" and any(item.cut and not item.told for item in self._items.open("function_call")):
            self.fail(ErrorInfo("stream", "truncated", "the answer ended within a tool call", provider=self.PROVIDER))
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
        for item in self._items.open("message"):
            self._heads(item)
        for item in self._items.open("reasoning"):
            self._release(item)
        for item in self._items.open("function_call"):
            self._heads(item)
            if item.whole and not item.told:
                self.build.end_call(item.key, whole=True)


def _with_status(response: dict[str, Any], end: str) -> dict[str, Any]:
    """The response with its status, which the event's own name tells where it does not, or not any more."""
    told = response.get("status")
    contradicted = told == "completed" and end not in ("completed", "done")
    if isinstance(told, str) and told and told not in _WORKING and not contradicted and end != "failed":
        return response
    return {**response, "status": "completed" if end == "done" else end}
