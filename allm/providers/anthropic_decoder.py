"""Anthropic Messages: bytes -> events.

The event that comes by the thousand is decoded by a typed decoder. A body that came in one piece is its blocks, each begun and ended,
and goes the same way.

What the wire does, and where it is dealt with: a `ping` between a block's start and its first delta; blanks before the last brace; usage
in `message_start` that is a placeholder, replaced by that of `message_delta` (whose input tokens may differ once server tools ran); tool
calls whose arguments are an empty text, or whole in the block's start; a signature after the thinking; blocks, deltas, events and stop
reasons that nobody knew when this was written; errors inside a 200.

Blocks of server tools are `ProviderPart`s. What a known block says beyond our parts follows it as one: `citations` of the text before
it, `tool_use` with the fields of the call before it that a call of ours has no place for.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from allm.blocks import CallContext
from allm.errors import ErrorInfo
from allm.events import Event, RawChunk
from allm.messages import ProviderPart
from allm.providers.answer_ways import ANSWER_TOOL
from allm.providers.anthropic_blocks import OpenBlock, blocks_of, input_of
from allm.providers.anthropic_terms import Delta, WireEvent, decode_event, joined, kind_of, maker_at, obj, usage_of
from allm.providers.anthropic_thread import MOST_NAME
from allm.providers.decoding import SseWireDecoder, is_whole, noted, storable, within_limits
from allm.providers.error_bodies import error_beside, error_in_json, error_told
from allm.providers.finish_words import finish_of, is_reason, later
from allm.providers.ids import real_names
from allm.providers.loose import decode_answer, read_loosely
from allm.responses import FinishReason, Response
from allm.sse import BARE, Frame
from allm.wire_json import MalformedJson, encode, is_array, is_object

__all__ = ["AnthropicDecoder"]


class AnthropicDecoder(SseWireDecoder):
    """One attempt's answer -> events."""

    PROVIDER = "anthropic"
    ANSWER = "content"
    LIMITS = "anthropic-ratelimit-"
    IDS = ("request-id",)

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self.build.names = real_names(context.tools, MOST_NAME)
        self._maker = maker_at(context.base_url)
        self._open: dict[int, OpenBlock] = {}
        self._current = -1
        self._newest = -1
        self._silent: int | None = None
        self._stop_reason: str | None = None
        self._answered = False
        self._usage: dict[str, Any] = {}
        self._refusal: str | None = None

    def end(self) -> list[Event]:
        """The stream ended. `message_stop`, or a stop reason seen, is the end marker; without one there is no terminal event."""
        if not self.ended:
            # An event that was cut off in its midst tells of a truncation, not of a host that writes nonsense.
            self._frames([frame for frame in self._sse.close() if is_whole(frame.data)])
        if not self.ended and self._stop_reason is not None:
            self._complete()
        return self.build.take()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        try:
            message = decode_answer(data)
        except MalformedJson:
            message = None
        if self._raw_chunks and (raw := storable(data)) is not None:
            self.build.events.append(RawChunk(raw))
        if (error := error_told(message)) is not None:
            self._refused(error)
        elif is_object(message) and (blocks := blocks_of(message.get("content"))) is not None:
            self._message(message)
            for index, block in enumerate(blocks):
                self._start(index, block)
                self._stop(index)
            self._finish(message)
            self._complete(raw=storable(data) if self._raw_chunks else None)
        else:
            self._malformed("the body is no message")
        return self.build.take()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self.build.partial(finish, error, usage_of(self._usage))
        return self.build.take(), response

    # events of the wire

    def _frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self.ended:
                return
            if frame.event == BARE:
                self._bare(frame.data)
            elif frame.event == b"error":
                self._error_event(frame.data)
            else:
                self._data(frame.data, frame.event)

    def _finished(self) -> bool:
        return self._stop_reason is not None and finish_of(self._stop_reason) != "error"

    def _data(self, data: bytes, name: bytes) -> None:
        if self._raw_chunks and (raw := storable(data)) is not None:
            self.build.events.append(RawChunk(raw))
        try:
            event = decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            odd = self._odd_event(data)
            if odd is None:
                return None
            event = odd
        if event.error is not None and (error := error_in_json(data)) is not None:
            return self._refused(error)
        match event.type or name.decode("ascii", "replace"):
            case "content_block_delta":
                if event.delta is not None:
                    self._delta(event.index if event.index >= 0 else max(self._newest, 0), event.delta, data)
            case "content_block_start":
                self._start(event.index if event.index >= 0 else self._newest + 1, event.content_block)
            case "content_block_stop":
                self._stop(event.index if event.index >= 0 else max(self._newest, 0))
            case "message_start":
                self._message(obj(event.message))
            case "message_delta":
                self._finish(msgspec.structs.asdict(event.delta) if event.delta is not None else {}, event)
            case "message_stop" if self._stop_reason is None and self._within_a_call():
                self.fail(ErrorInfo("stream", "truncated", "the stream ended within a tool call", provider=self.PROVIDER))
            case "message_stop":
                self._complete()
            case "error":
                self._error_event(data)
            case "ping":
                pass
            case _:
                self._unnamed(data)  # an event of a newer wire, or an error
        return None

    def _odd_event(self, data: bytes) -> WireEvent | None:
        """An event that the typed decoder refused: read it loosely, pass over what is unknown, or fail the attempt."""
        if data.strip() in (b"", b"[DONE]"):
            return None  # some hosts end every wire of theirs like Chat
        try:
            told = decode_answer(data)
        except MalformedJson:
            self._malformed("an event of the stream is no JSON")
            return None
        if is_object(told) and not isinstance(told.get("type", ""), str):
            self._malformed("an event of the stream has no type")
            return None
        if not is_object(told):
            if (error := error_told(told)) is not None:
                self._refused(error)
            return None
        delta = told.get("delta")
        if is_object(delta) and is_object(delta.get("partial_json")):
            delta["partial_json"] = encode(delta["partial_json"]).decode()
        return read_loosely(told, WireEvent)

    def _malformed(self, message: str) -> None:
        """What came is no event of this wire. Behind a finished answer it fails nothing: that is at its end then."""
        if self._stop_reason is None:
            super()._malformed(message)
        elif not self.ended:
            self._complete()

    def _message(self, message: dict[str, Any]) -> None:
        if not self.build.started:
            named, model = message.get("id"), message.get("model")
            self.build.start(named if isinstance(named, str) else None, model if isinstance(model, str) else None)
        if (error := error_beside(message)) is not None:
            return self._refused(error)
        self._count(message.get("usage"))
        self._note(message, ("container", "context_management"))
        return None

    def _finish(self, told: dict[str, Any], event: WireEvent | None = None) -> None:
        """Why the message ends, in a body or a `message_delta`, and what it cost. Later words replace earlier ones."""
        if (error := error_beside(told)) is not None:
            return self._refused(error)
        reason = told.get("stop_reason")
        if isinstance(reason, str) and is_reason(reason):
            self._stop_reason = later(self._stop_reason, reason)
        if self._stop_reason == "refusal":
            details = obj(told.get("stop_details"))
            why = details.get("explanation")
            self._refusal = why if isinstance(why, str) and why else self._refusal or "The provider refused to answer."
        self._note(told, ("stop_sequence", "stop_details", "container", "context_management"))
        if event is not None:
            self._count(event.usage)
            self._note({"context_management": event.context_management}, ("context_management",))
        return None

    def _count(self, usage: Any) -> None:
        self._usage = joined(self._usage, obj(usage))

    def _note(self, told: dict[str, Any], names: Iterable[str]) -> None:
        self._metadata.update(noted({name: told[name] for name in names if told.get(name) is not None}))

    # blocks

    def _start(self, index: int, block: Any) -> None:
        self._settle()
        if index in self._open:
            self._stop(index)  # a host that numbers all of them alike
        data = obj(block)
        kind = data.get("type")
        self._turn_to(index)
        self._newest = index
        self.progress = True
        match kind:
            case "text" | "thinking":
                begun = self._open[index] = OpenBlock(kind, data)
                self._write(kind, data.get(kind))
                if kind == "text" and is_array(data.get("citations")):
                    begun.citations.extend(data["citations"])
                elif isinstance(signature := data.get("signature"), str) and signature:
                    self.build.sign(signature, provider="anthropic", reasoning=True)
            case "error" if (error := error_told(data)) is not None:
                self._refused(error)
            case "redacted_thinking" if isinstance(data.get("data"), str):
                self._open[index] = OpenBlock("thinking", data)
                self.build.sign(data=data["data"], provider="anthropic", reasoning=True)
            case "tool_use" if data.get("name") == ANSWER_TOOL:
                self._open[index] = OpenBlock("answer", data)
                self.build.answer()
            case "tool_use" if isinstance(data.get("name"), str) and data["name"]:
                named = data.get("id")
                self._open[index] = OpenBlock("call", data)
                self.build.call(index, named if isinstance(named, str) else None, data["name"], None)
            case _:
                self._open[index] = OpenBlock("part", data)

    def _delta(self, index: int, delta: Delta, data: bytes) -> None:
        match delta.type:
            case "text_delta":
                if delta.text:
                    self._turn_to(index)
                    self.build.text(delta.text)
                elif delta.error is not None and (error := error_told({"error": delta.error})) is not None:
                    return self._refused(error)
            case "input_json_delta":
                if delta.partial_json:
                    self._input(index, delta.partial_json)
            case "thinking_delta":
                if delta.thinking:
                    self._turn_to(index)
                    self.build.reasoning(delta.thinking)
            case "signature_delta":
                if delta.signature:
                    self._turn_to(index)
                    self.progress = True
                    self.build.sign(delta.signature, provider="anthropic", reasoning=True)
            case "citations_delta" if index in self._open:
                self.progress = True
                self._open[index].citations.append(delta.citation)
            case "" if (kind := kind_of(delta)) is not None:
                delta.type = kind
                return self._delta(index, delta, data)
            case _:
                told = obj(obj(decode_answer(data)).get("delta"))
                if (error := error_beside(told)) is not None:
                    return self._refused(error)
                self._unknown_delta(index, told)
        return None

    def _input(self, index: int, piece: str) -> None:
        """More of the JSON that a call, the answer as a tool, or a server tool is given."""
        begun = self._open.get(index)
        if begun is None:
            return
        self._turn_to(index)
        begun.pieces.append(piece)
        if begun.kind == "call":
            self.build.call(index, None, None, piece)
        elif begun.kind == "answer":
            self._write("text", piece)
        else:
            self.progress = True

    def _unknown_delta(self, index: int, delta: dict[str, Any]) -> None:
        """A delta of a newer wire."""
        begun = self._open.get(index)
        if begun is None or begun.kind != "part":
            return
        self.progress = True
        begun.grow(delta)

    def _stop(self, index: int) -> None:
        self._turn_to(index)
        begun = self._open.pop(index, None)
        kind = "" if begun is None else begun.kind
        if begun is None or kind in ("text", "thinking"):
            if self._maker is not None:
                self.build.made_by(self._maker)
            # Where another block has begun meanwhile, citations do not stand behind their text: they name it.
            text = self.build.text_before_others() if begun is not None and begun.citations else None
            self.build.close_block()
            if begun is not None and begun.citations:
                self._whole("citations", {"citations": begun.citations, **({"of": text} if text is not None else {})})
        elif kind == "call":
            self._stop_call(index, begun)
        elif kind == "answer":
            if not begun.pieces:
                self.build.text(input_of(begun.data) or "{}")
            self._answered = True
            self.build.close_block()
        else:
            self._part(begun)

    def _within_a_call(self) -> bool:
        """Whether a call, as far as it came, is no whole one."""
        calls = [begun for begun in self._open.values() if begun.kind == "call"]
        return self._silent is not None or not all(is_whole(("".join(begun.pieces) or input_of(begun.data)).encode()) for begun in calls)

    def _stop_call(self, index: int, begun: OpenBlock) -> None:
        """Ends a call; one without a byte of input was cut off before it, or has none: what follows will tell."""
        if not begun.pieces and (given := input_of(begun.data)):
            begun.pieces.append(given)
            self.build.call(index, None, None, given)
        if begun.pieces:
            self.build.end_call(index)
        else:
            self._silent = index
        self._extras(begun.data)

    def _settle(self, whole: bool = True) -> None:
        """Ends the call without input: it is complete if the answer went on behind it, or came to its own end."""
        if self._silent is not None:
            self.build.end_call(self._silent, whole=whole)
            self._silent = None

    def _extras(self, data: dict[str, Any]) -> None:
        """What a call says beyond name and arguments. That the model called it directly goes without saying."""
        extras = {name: value for name, value in data.items() if name not in ("type", "id", "name", "input") and value is not None}
        if extras.get("caller") == {"type": "direct"}:
            del extras["caller"]
        if extras:
            self._whole("tool_use", {"id": data.get("id"), **extras})

    def _part(self, begun: OpenBlock) -> None:
        begun.join()
        kind = begun.data.get("type")
        self._whole(kind if isinstance(kind, str) else "unknown", begun.data)

    def _whole(self, kind: str, data: dict[str, Any]) -> None:
        """A block of the provider's own. One beyond the limits of our data is left out: it could be neither kept nor sent back."""
        kept = within_limits({"data": data})
        if kept:
            self.build.whole(ProviderPart("anthropic", kind, kept["data"]))

    def _write(self, kind: str, text: Any) -> None:
        if isinstance(text, str) and text:
            if kind == "text":
                self.build.text(text)
            else:
                self.build.reasoning(text)

    def _turn_to(self, index: int) -> None:
        """Each block of the wire is a block of ours, open until it ends: they may interleave."""
        if index != self._current:
            if not self.build.started:
                self.build.start(None, None)
            self._current = index
            self.build.turn_to(index)

    # the end

    def _complete(self, raw: Any = None) -> None:
        self.ended = True
        for index in list(self._open):
            self._stop(index)
        finish = finish_of(self._stop_reason)  # `pause_turn` is `other`: the thread, sent back as it is, goes on
        self._settle(whole=finish != "length")
        if self.failed(finish, self._stop_reason):
            return
        if finish == "tool_calls" and self._answered:
            finish = "stop"  # the builder makes it `tool_calls` where there are others
        self.build.complete(
            finish,
            raw_finish=self._stop_reason,
            usage=usage_of(self._usage),
            refusal=self._refusal,
            metadata=self._metadata,
            raw=raw,
        )
