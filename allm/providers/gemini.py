"""Gemini generateContent and streamGenerateContent: bytes -> events.

The chunk that comes by the thousand is decoded by a typed decoder; a whole body is a chunk, and goes the same way.

What this wire does in ways of its own: it has no end marker but a finish reason (or the reason why a prompt was refused); tool calls
end with STOP and mostly have no id; a signature comes on a call, on a text, or on an empty text after all others; thoughts are texts
that say so; an error is a bare JSON object between the events; a stream without `alt=sse` is one JSON array.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.events import Event, RawChunk
from allm.messages import ProviderPart
from allm.providers.adapter import EITHER, HttpRequest
from allm.providers.answer_ways import ANSWER_TOOL
from allm.providers.decoding import SseWireDecoder, storable
from allm.providers.error_bodies import error_in_json, error_told, says_something
from allm.providers.finish_words import finish_of, later
from allm.providers.gemini_answer import (
    EXTRAS,
    Candidate,
    Chunk,
    FunctionCall,
    Part,
    block_word,
    chunk_of,
    chunks_of,
    finish_word,
    is_whole,
    loose_part,
    media_of,
    usage_of,
    within_limits,
)
from allm.providers.gemini_arguments import StreamedArguments
from allm.providers.gemini_contents import SIGNATURE
from allm.providers.gemini_failures import gemini_error_of, gemini_failure
from allm.providers.gemini_request import gemini_body, gemini_path
from allm.providers.ids import dotted_name, real_names
from allm.providers.loose import decode_answer
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.sse import BARE, Frame
from allm.wire_json import MalformedJson, encode, is_object

__all__ = ["Gemini", "GeminiDecoder"]

_EMPTY: Final = (b"{}", b"[]", b"null")  # take nothing back


class Gemini:
    """The wire `gemini`."""

    name = "gemini"
    provider = "gemini"

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """`POST {base_url}/v1beta/models/{model}:generateContent`, or `:streamGenerateContent?alt=sse`."""
        return HttpRequest(
            url=base_url + gemini_path(request.model or engine.model, base_url, stream),
            headers=(
                ("content-type", "application/json"),
                ("accept", EITHER if stream else "application/json"),
            ),
            body=encode(gemini_body(engine, request)),
            key_header="x-goog-api-key",
        )

    def fetches(self, url: str) -> bool:
        """Whether an image at this address goes out by its bytes: this wire takes https and gs addresses."""
        return url.startswith("http://")

    def decoder(self, engine: Engine, context: CallContext) -> "GeminiDecoder":
        """A decoder for one attempt."""
        return GeminiDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return gemini_failure(status, headers, body)


class _OpenCall:
    """A call whose arguments come in pieces. `key` is None for the tool that carries the answer itself."""

    __slots__ = ("arguments", "key")

    def __init__(self, key: int | None, args: msgspec.Raw) -> None:
        self.key = key
        self.arguments = StreamedArguments(args)


class GeminiDecoder(SseWireDecoder):
    """One attempt's answer -> events."""

    PROVIDER = "gemini"
    ANSWER = "candidates"
    IDS = ("x-goog-request-id", "x-request-id")

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self.build.names = real_names(context.tools, allowed=dotted_name)
        self._finish: str | None = None
        self._blocked: str | None = None
        self._refusal: str | None = None
        self._usage: msgspec.Raw | None = None
        self._usage_before: msgspec.Raw | None = None
        self._extras: dict[str, msgspec.Raw] = {}
        self._calls = 0
        self._open: _OpenCall | None = None

    def end(self) -> list[Event]:
        """The stream ended. The end marker is a finish reason, or why the prompt was refused; without one there is no terminal event."""
        if not self.ended:
            # What was cut off in its midst tells of a truncation, not of a provider that writes nonsense.
            self._frames([frame for frame in self._sse.close() if is_whole(frame.data)])
        if not self.ended and (self._finish is not None or self._blocked is not None):
            self._complete()
        return self.build.take()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body. An array is a stream: it must have come to its end."""
        if self._several(data):
            if not self.ended and (self._finish is not None or self._blocked is not None):
                self._complete()
        elif not self.ended:
            if self._finish is None and self._blocked is None and not self.build.has_content:
                self._malformed("the body holds no candidate")
            else:
                self._complete(raw=storable(data) if self._raw_chunks else None)
        return self.build.take()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self.build.partial(finish, error, usage_of(self._usage, self._usage_before))
        return self.build.take(), response

    def _finished(self) -> bool:
        return self._finish is not None

    def _error_of(self, error: Any) -> ErrorInfo:
        return gemini_error_of(error)

    def _frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.event == BARE:
                self._several(frame.data)  # an error, or a stream that came as an array
            elif frame.event == b"error":
                self._error_event(frame.data)
            else:
                self._data(frame.data)

    def _several(self, data: bytes) -> bool:
        """Reads a chunk, or an array of them; True if it was an array."""
        if data.lstrip()[:1] != b"[":
            self._data(data)
            return False
        try:
            for chunk in chunks_of(data):
                self._data(chunk)
        except MalformedJson:
            self._malformed("the answer is no JSON")
        return True

    def _data(self, data: bytes) -> None:
        if self.ended or not data.strip():
            return None
        try:
            chunk = chunk_of(data)
        except MalformedJson:
            return None if data.strip() == b"[DONE]" else self._malformed("a chunk of the answer is no JSON")
        except msgspec.ValidationError as wrong:
            if data.split(maxsplit=1)[0][:2] in (b"[{", b"["):  # a host that puts the array's form into events
                self._several(data)
                return None
            return self._malformed(f"a chunk of the answer is not of this wire: {wrong}")
        if self._raw_chunks and (raw := storable(data)) is not None:
            self.build.events.append(RawChunk(raw))
        if chunk.error is not None or not chunk.candidates:  # nearly every chunk has candidates and no error: one look
            silent = not chunk.candidates and not chunk.promptFeedback
            if (silent or says_something(chunk.error)) and (told := error_in_json(data)) is not None:
                return self._refused(told)
        if not self.build.started and (chunk.candidates or chunk.responseId):
            self.build.start(chunk.responseId, chunk.modelVersion)
        if chunk.candidates:
            for place, candidate in enumerate(chunk.candidates):
                if (place if candidate.index is None else candidate.index) == 0:
                    self._candidate(candidate, place, data)
        self._beside(chunk)
        return None

    def _beside(self, chunk: Chunk) -> None:
        """What comes with a chunk's candidates, or in their place."""
        if chunk.usageMetadata:
            self._usage = chunk.usageMetadata
        if chunk.promptFeedback:
            self._extras["promptFeedback"] = chunk.promptFeedback
            told = decode_answer(bytes(chunk.promptFeedback))
            if is_object(told):
                message = told.get("blockReasonMessage")
                if isinstance(message, str) and message:
                    self._refusal = message
                    self._blocked = ""
                self._blocked = block_word(told.get("blockReason")) or self._blocked

    def _candidate(self, candidate: Candidate, place: int, data: bytes) -> None:
        content = candidate.content
        if content is not None and content.parts:
            for number, part in enumerate(content.parts):
                text = part.text
                if (  # `is_plain`, spelled out: it is asked of each piece of text
                    text
                    and part.functionCall is None
                    and part.inlineData is None
                    and part.executableCode is part.codeExecutionResult
                    and part.fileData is None
                ):
                    self._text(text, part)
                else:
                    self._mixed(part, data, place, number)
        if candidate.error is not None and (error := error_told({"error": candidate.error})) is not None:
            return self._refused(error)
        if candidate.finishReason is not None:
            if (word := finish_word(candidate.finishReason)) is not None:
                self._finish = later(self._finish, word)
            self._usage_before = self._usage or self._usage_before
        if candidate.finishMessage:
            self._refusal = candidate.finishMessage
        if not candidate.says_no_more():
            for name in EXTRAS:
                if (raw := getattr(candidate, name)) and bytes(raw) not in _EMPTY:
                    self._extras[name] = raw
        return None

    def _mixed(self, part: Part, data: bytes, place: int, number: int) -> None:
        """A part that is no text alone: the text in it comes first, and its signature belongs to what stands beside the text."""
        call = part.functionCall
        if part.text and part.thought:
            self.build.reasoning(part.text)
        elif part.text:
            self.build.text(part.text)
        if call is not None:
            self._call(call, part.thoughtSignature)
        if call is None or not part.is_plain():
            self._other(part, data, place, number)

    def _text(self, text: str, part: Part) -> None:
        build = self.build
        if part.thought:
            if text:
                build.reasoning(text)
        elif text:
            build.text(text)
        if part.thoughtSignature:
            # Signs what it comes with; an empty text signs what was written before it, or stands alone. What follows is another part.
            build.sign(part.thoughtSignature, reasoning=bool(part.thought), provider="gemini" if part.thought else None)
            build.close_block()

    def _call(self, call: FunctionCall, signature: str | None) -> None:
        """A call comes whole; or its name first, then its arguments in pieces, and an empty piece at the end."""
        if call.name:
            self._end_call()
            self._calls += 1
            key = None if call.name == ANSWER_TOOL else self._calls
            if key is not None:
                self.build.call(key, call.id, call.name, None)
            if not call.willContinue and not call.partialArgs:
                return self._whole_call(key, call.args, signature)
            self._open = _OpenCall(key, call.args)
        if self._open is None:
            return None
        if signature and self._open.key is not None:
            self.build.sign_call(self._open.key, signature)
        if call.partialArgs:
            self._open.arguments.add(call.partialArgs)
        self.progress = True
        if not call.willContinue:
            self._end_call()
        return None

    def _whole_call(self, key: int | None, args: msgspec.Raw, signature: str | None) -> None:
        text = bytes(args).decode("utf-8", "replace") if args and bytes(args) != b"null" else None
        if key is None:
            self._answered(text or "{}")  # its signature is one of a call, and would be refused on a text
            return
        self.build.call(key, None, None, text)
        if signature:
            self.build.sign_call(key, signature)
        self.build.end_call(key, whole=True)

    def _answered(self, text: str) -> None:
        self.build.answer()
        self.build.text(text)
        self.build.close_block()

    def _end_call(self, cut: bool = False) -> None:
        """The arguments that came in pieces are all there; or not (`cut`), and then what there is of them is no whole object."""
        call, self._open = self._open, None
        if call is None:
            return
        text = call.arguments.text()
        if call.key is None:
            self._answered(text)
        else:
            self.build.call(call.key, None, None, text[:-1] if cut else text)
            self.build.end_call(call.key)

    def _other(self, part: Part, data: bytes, place: int, number: int) -> None:
        """An image or a file; or a block that only its maker understands. A signature alone is that of an empty text."""
        media = media_of(part)
        if media is not None:
            self.build.whole(media)
            if part.thoughtSignature:
                self._provider_part(SIGNATURE, {SIGNATURE: part.thoughtSignature})
            return
        told = {name: value for name, value in loose_part(data, place, number).items() if name not in ("text", "functionCall")}
        kind = next((name for name, value in told.items() if name not in ("thought", SIGNATURE) and value is not None), None)
        if kind is None:
            self._text("", part)
        else:
            self._provider_part(kind, told)

    def _provider_part(self, kind: str, data: dict[str, Any]) -> None:
        try:
            self.build.whole(ProviderPart("gemini", kind, data))
        except ValidationError:
            return  # beyond the limits of a value of ours

    def _malformed(self, message: str) -> None:
        """What came is no chunk of this wire. Behind a finished answer it fails nothing: that is at its end then."""
        if self._finish is None and self._blocked is None:
            super()._malformed(message)
        elif not self.ended:
            self._complete()

    def _complete(self, raw: Any = None) -> None:
        self.ended = True
        word = self._finish if self._finish is not None else self._blocked or None
        finish = finish_of(word)
        if self.failed(finish, word):
            return
        if self._blocked is not None and (self._finish is None or finish in ("stop", "tool_calls")):
            finish = "content_filter"
            word = self._blocked or word
        self._end_call(cut=finish not in ("stop", "tool_calls"))
        refused = finish == "content_filter"
        metadata = {**self._metadata, **within_limits(self._extras)}
        if self._refusal and not refused:
            metadata["finishMessage"] = self._refusal
        refusal = self._refusal if refused else None
        self.build.complete(
            finish, raw_finish=word, usage=usage_of(self._usage, self._usage_before), refusal=refusal, metadata=metadata, raw=raw
        )
