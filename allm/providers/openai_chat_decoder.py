"""OpenAI Chat Completions: bytes -> events.

The chunk that comes by the thousand is decoded by a typed decoder (0.4 us; `json.loads` takes 3.9); one that it refuses is read field by
field. A body that came in one piece is a chunk whose choices hold `message` in place of `delta`, and goes the same way.

What hosts do differently, and where it is dealt with: usage in a last chunk without choices, beside the choices, on a choice, or in every
chunk (the last one that counts anything counts); calls (`openai_chat_calls`); choices without a delta; content in the finishing chunk;
errors in place of a chunk, on a choice or in a delta (`error_bodies`); streams without `[DONE]`.

The end marker is a finish reason. `[DONE]` alone is one only at a host none of whose chunks has that field: at another it ends an answer
that was given up. What follows a finish reason can add to the answer (usage), but not fail it.
"""

from typing import Any

import msgspec

from allm.blocks import CallContext
from allm.errors import ErrorInfo
from allm.events import Event, RawChunk
from allm.providers.decoding import SseWireDecoder, is_whole, noted, storable
from allm.providers.error_bodies import error_in_json, error_told, says_something
from allm.providers.finish_words import finish_of, is_reason, later
from allm.providers.ids import real_names
from allm.providers.loose import decode_answer, read_loosely
from allm.providers.openai_chat_calls import ChatCalls
from allm.providers.openai_chat_chunk import Choice, Chunk, Delta, counts, decode_chunk, joined, usage_of
from allm.providers.openai_chat_hosts import host_of, tells_back
from allm.providers.openai_chat_kept import Kept, image_of, other_part
from allm.responses import FinishReason, Response
from allm.sse import BARE, Frame
from allm.wire_json import MalformedJson, is_array, is_object

__all__ = ["ChatDecoder"]

_BESIDE = ("service_tier", "system_fingerprint", "citations", "search_results")
"""What stands beside the choices and goes to the metadata; the first chunk and the last one tell all of it."""


class ChatDecoder(SseWireDecoder):
    """One attempt's answer -> events."""

    PROVIDER = "openai"
    ANSWER = "choices"

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self.build.names = real_names(context.tools)
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._last: Chunk | None = None
        self._refusal: list[str] = []
        self._whole = False
        self._told_back = tells_back(host_of(context.base_url))
        self._calls = ChatCalls(self.build, context.answer_tool)
        self._kept = Kept()
        self._chosen = False
        self._may_finish = False

    def end(self) -> list[Event]:
        """The stream ended. A finish reason seen is the end marker (`[DONE]` may be); without one there is no terminal event."""
        if not self.ended:
            # An event that was cut off in its midst tells of a truncation, not of a host that writes nonsense.
            self._read([frame for frame in self._sse.close() if frame.data == b"[DONE]" or is_whole(frame.data)])
        if not self.ended and self._finish is not None:
            self._complete()
        return self.build.take()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body. Perplexity's has a `delta` beside its `message`."""
        self._whole = True
        self._data(data)
        if not self.ended:
            if self._finish is None and not self.build.has_content and not self._kept:
                self._malformed("the body holds no choice")
            else:
                self._complete(raw=storable(data) if self._raw_chunks else None)
        return self.build.take()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self.build.partial(finish, error, usage_of(self._usage))
        return self.build.take(), response

    # events of the stream

    def _frames(self, frames: list[Frame]) -> None:
        for event, data in frames:
            if self.ended:
                return
            if event and event == b"error":
                self._error_event(data)
            elif event and event == BARE:
                self._bare(data)
            elif data == b"[DONE]":
                self._done()
            else:
                self._data(data)

    def _done(self) -> None:
        """`[DONE]`. Behind chunks that could have told why they end and did not, or behind none at all, it ends no answer."""
        if self._finish is not None or (self._chosen and not self._may_finish):
            self._complete()

    def _is_answer(self, told: dict[str, Any]) -> bool:
        choices = told.get("choices")
        return is_array(choices) and any(is_object(choice) and is_object(choice.get("message")) for choice in choices)

    def _data(self, data: bytes) -> None:
        try:
            chunk = decode_chunk(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            odd = self._odd_chunk(data)
            if odd is None:
                return
            chunk = odd
        if self._raw_chunks and (raw := storable(data)) is not None:
            self.build.events.append(RawChunk(raw))
        choices = chunk.choices
        # Nearly every chunk has choices, and none of both errors: one comparison.
        strange = chunk.error is not chunk.errors or (not choices and not (chunk.usage and counts(chunk.usage)))
        if strange and (error := error_in_json(data)) is not None:
            self._refused(error)
            return
        if not self.build.started and (chunk.id or choices):
            self.build.start(chunk.id if isinstance(chunk.id, str) else None, chunk.model)
            self._extras(chunk)
        if choices:
            for choice in choices:
                if not choice.index:
                    self._choice(choice)
        if chunk.usage:
            self._count(chunk.usage)
        self._last = chunk

    def _odd_chunk(self, data: bytes) -> Chunk | None:
        """A chunk that the typed decoder refused: read it field by field, or fail the attempt if it is no JSON object."""
        if not data.strip():
            return None
        try:
            told = decode_answer(data)
        except MalformedJson:
            self._malformed("a chunk of the answer is no JSON")
            return None
        if not is_object(told):
            if (error := error_told(told)) is not None:
                self._refused(error)
                return None
            self._malformed(f"a chunk of the answer is not of this wire: {type(told).__name__} in place of an object")
            return None
        chunk = read_loosely(told, Chunk)
        if told.get("choices") and not chunk.choices:
            self._malformed("a chunk of the answer is not of this wire: its choices cannot be read")
            return None
        return chunk

    def _choice(self, choice: Choice) -> None:
        delta = choice.delta
        if (delta is None or self._whole) and choice.message is not None:
            delta = self._untold(choice.message) if self._chosen and not self._whole else choice.message
        if choice.error is not None or (delta is not None and delta.error is not None):
            error = choice.error if says_something(choice.error) else delta.error if delta is not None else None
            if says_something(error):
                return self._refused(error_told({"error": error}))
        if delta is not None:
            self._chosen = True
            self._delta(delta)
        finish = choice.finish_reason
        if finish is None or (finish is not msgspec.UNSET and not is_reason(finish)):
            self._may_finish = True
        elif finish:
            self._finish = later(self._finish, finish)
        if choice.usage:
            self._count(choice.usage)
        return None

    def _untold(self, message: Delta) -> Delta:
        """What the whole message, behind its deltas, says beyond them."""
        told, content = self.build.message(), message.content
        more = content[len(told.text) :] if isinstance(content, str) and content.startswith(told.text) else None
        return Delta(
            content=more if told.text else content,
            reasoning_content=None if told.reasoning_text else message.reasoning_content or message.reasoning,
            refusal=None if self._refusal else message.refusal,
            tool_calls=None if self._calls.begun else message.tool_calls,
            function_call=None if self._calls.begun else message.function_call,
            images=message.images,
            annotations=message.annotations,
            error=message.error,
        )

    def _delta(self, delta: Delta) -> None:
        content = delta.content
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details is not None:
            self._reasoning(delta)
        if content:
            if isinstance(content, str):
                self.build.text(content)
            else:
                self._parts(content)
        if delta.refusal:
            self._refusal.append(delta.refusal)
            self.progress = True
        if delta.tool_calls:
            self._calls.chunk()
            for call in delta.tool_calls:
                if call.custom is not None:
                    self._calls.told(call.index, call.id, call.custom.name, call.custom.input)
                elif call.function is not None:
                    self._calls.told(call.index, call.id, call.function.name, call.function.arguments, call.extra_content)
                else:
                    self._calls.told(call.index, call.id, None, None, call.extra_content)
        elif delta.function_call is not None:
            self._calls.legacy(delta.function_call.name, delta.function_call.arguments)
        # Two of these are one only where neither came: two comparisons in place of four.
        if delta.images is not delta.annotations or delta.audio is not delta.thinking_blocks:
            self._beside(delta)

    def _reasoning(self, delta: Delta) -> None:
        """Reasoning has three names; two of them in one delta say the same."""
        shown = self._kept.details(delta.reasoning_details)
        text = delta.reasoning_content or delta.reasoning
        if text:
            self._kept.reasoning = "reasoning_content" if delta.reasoning_content else "reasoning"
        if text or (shown and self._kept.reasoning is None):
            self.build.reasoning(text or shown)
        else:
            self.progress = True

    def _parts(self, content: list[Any]) -> None:
        """Content as a list of parts, as Mistral's reasoning models give it."""
        for part in content:
            if isinstance(part, str) and part:
                self.build.text(part)
            if not is_object(part):
                continue
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                for piece in inner if is_array(inner) else [{"text": inner}]:
                    if is_object(piece) and isinstance(piece.get("text"), str) and piece["text"]:
                        self.build.reasoning(piece["text"])
            elif isinstance(part.get("text"), str) or part.get("type") == "text":
                if text := part.get("text"):
                    self.build.text(text)
            elif (made := image_of(part) or other_part(str(part.get("type", "unknown")), part)) is not None:
                self.build.whole(made)

    def _beside(self, delta: Delta) -> None:
        """What an answer holds beside text and calls."""
        self.progress = True
        for part in self._kept.images(delta.images):
            self.build.whole(part)
        self._kept.annotations(delta.annotations)
        self._kept.audio(delta.audio)
        if shown := self._kept.thinking(delta.thinking_blocks, bool(delta.reasoning_content or delta.reasoning)):
            self.build.reasoning(shown)

    def _count(self, usage: dict[str, Any]) -> None:
        if usage.get("prompt_tokens") and usage.get("completion_tokens"):
            self._usage = usage
        else:
            self._usage = joined(self._usage, usage)

    def _extras(self, chunk: Chunk) -> None:
        for name in _BESIDE:
            value = getattr(chunk, name)
            if isinstance(value, str) and value.isascii():
                self._metadata[name] = value
            elif value is not None:
                self._metadata.update(noted({name: value}))
        if is_object(chunk.x_groq) and not self._usage and is_object(usage := chunk.x_groq.get("usage")):
            self._usage = usage

    # the end

    def _finished(self) -> bool:
        return self._finish is not None and finish_of(self._finish) != "error"

    def _complete(self, raw: Any = None) -> None:
        self.ended = True
        groq = self._last.x_groq if self._last is not None else None
        if groq is not None and (error := error_told({"x_groq": groq})) is not None:
            return self.fail(self._error_of(error))  # Groq stopped the stream early, and tells it beside a finish reason
        if self._finish is None and self._calls.silent:
            return self.fail(ErrorInfo("stream", "truncated", "the stream ended within a tool call", provider=self.PROVIDER))
        finish = finish_of(self._finish)
        if self.failed(finish, self._finish):
            return None
        if self._last is not None and not self._whole:
            self._extras(self._last)
        if not self.build.started:
            self.build.start(None, None)
        self.build.close_block()
        beside_calls = self._calls.end(whole=finish != "length")
        for part in self._kept.parts():
            self.build.whole(part)
        if self._told_back is not None and self._calls:
            for part in self._kept.turn(self._told_back, beside_calls, self._calls.ids()):
                self.build.whole(part)
        self.build.complete(
            finish,
            raw_finish=self._finish,
            usage=usage_of(self._usage),
            refusal="".join(self._refusal) or None,
            metadata=self._metadata,
            raw=raw,
        )
        return None
