"""OpenAI Chat Completions, and the many hosts that speak it: bytes -> events.

The chunk that comes by the thousand is decoded by a typed decoder (0.4 us; `json.loads` takes 3.9). A body that came in one piece is
a chunk whose choices hold `message` in place of `delta`, and goes the same way.

What hosts do differently, and where it is dealt with: usage in a last chunk without choices, beside the choices, or in every chunk (the
last one counts); tool deltas without index, with repeated ids and names, or whole in one delta; choices without a delta; content in
the finishing chunk; errors inside a 200; streams without `[DONE]`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import Event, RawChunk
from allm.providers.adapter import HttpRequest
from allm.providers.decoding import SseWireDecoder, storable, within_limits
from allm.providers.failures import error_of, failure
from allm.providers.finish_words import finish_of
from allm.providers.openai_chat_request import chat_body
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.usage import Usage
from allm.wire_json import MalformedJson, decode, encode, is_array, is_object

__all__ = ["ChatDecoder", "OpenAIChat"]

_LIMIT: Final = 1 << 63


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Delta(msgspec.Struct):
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: Any = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    citations: Any = None
    x_groq: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class OpenAIChat:
    """The wire `openai.chat`."""

    name = "openai.chat"
    provider = "openai"

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """`POST {base_url}/chat/completions`."""
        return HttpRequest(
            url=f"{base_url}/chat/completions",
            headers=(
                ("content-type", "application/json"),
                ("accept", "text/event-stream" if stream else "application/json"),
            ),
            body=encode(chat_body(engine, request, base_url, stream)),
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def decoder(self, engine: Engine, context: CallContext) -> "ChatDecoder":
        """A decoder for one attempt."""
        return ChatDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return failure(self.provider, status, headers, body)


class ChatDecoder(SseWireDecoder):
    """One attempt's answer -> events."""

    PROVIDER = "openai"

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._last: _Chunk | None = None
        self._refusal: list[str] = []
        self._whole = False

    def end(self) -> list[Event]:
        """The stream ended. A finish reason seen, or `[DONE]`, is the end marker; without one there is no terminal event."""
        if not self.ended:
            # An event that was cut off in its midst tells of a truncation, not of a host that writes nonsense.
            self._frames([frame for frame in self._sse.close() if _is_whole(frame.data)])
        if not self.ended and self._finish is not None:
            self._complete()
        return self.build.take()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body. Perplexity's has a `delta` beside its `message`."""
        self._whole = True
        self._data(data)
        if not self.ended:
            if self._finish is None and not self.build.has_content:
                self._malformed("the body holds no choice")
            else:
                self._complete(raw=storable(data) if self._raw_chunks else None)
        return self.build.take()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self.build.partial(finish, error, _usage(self._usage))
        return self.build.take(), response

    def _frames(self, frames: list[Any]) -> None:
        for event, data in frames:
            if self.ended:
                return
            if data == b"[DONE]":
                self._complete()
            else:
                self._data(data, failed=event == b"error")

    def _data(self, data: bytes, failed: bool = False) -> None:
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not data.strip():
                return
            odd = self._odd_chunk(data)
            if odd is None:
                return
            chunk = odd
        if self._raw_chunks and (raw := storable(data)) is not None:
            self.build.events.append(RawChunk(raw))
        if chunk.error is not None or failed:
            self.fail(error_of("openai", chunk.error if chunk.error is not None else storable(data)))
            return
        if not self.build.started and (chunk.id or chunk.choices):
            self.build.start(chunk.id if isinstance(chunk.id, str) else None, chunk.model)
            self._extras(chunk)
        if chunk.choices:
            for choice in chunk.choices:
                if choice.index == 0:
                    self._choice(choice)
        if chunk.usage:
            self._usage = chunk.usage
        self._last = chunk

    def _choice(self, choice: _Choice) -> None:
        delta = choice.delta if choice.delta is not None and not self._whole else choice.message or choice.delta
        if delta is not None:
            content = delta.content
            if delta.reasoning_content or delta.reasoning:
                self.build.reasoning(delta.reasoning_content or delta.reasoning or "")
            if content:
                if type(content) is str:
                    self.build.text(content)
                else:
                    self._parts(content)
            if delta.refusal:
                self._refusal.append(delta.refusal)
                self.progress = True
            if delta.tool_calls:
                for call in delta.tool_calls:
                    self._call(call)
            if delta.function_call is not None:
                self.build.call("function", None, delta.function_call.name, _raw(delta.function_call.arguments))
        if choice.finish_reason:
            self._finish = choice.finish_reason

    def _parts(self, content: Any) -> None:
        """Content as a list of parts, as Mistral's reasoning models give it."""
        for part in content:
            if not is_object(part):
                continue
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                for piece in inner if is_array(inner) else [{"text": inner}]:
                    if is_object(piece) and isinstance(piece.get("text"), str) and piece["text"]:
                        self.build.reasoning(piece["text"])
            elif isinstance(part.get("text"), str) and part["text"]:
                self.build.text(part["text"])

    def _call(self, call: _Call) -> None:
        key: Any = call.index
        if key is None:
            # No index at all: an id of its own makes a call, anything else belongs to the newest one.
            key = call.id or self.build.last_call() or 0
        if call.custom is not None:
            self.build.call(key, call.id, call.custom.name, call.custom.input)
        elif call.function is not None:
            self.build.call(key, call.id, call.function.name, _raw(call.function.arguments))
        else:
            self.build.call(key, call.id, None, None)

    def _extras(self, chunk: _Chunk) -> None:
        """What stands beside the choices; the first chunk and the last one tell all of it."""
        for name in ("service_tier", "system_fingerprint", "citations"):
            if (value := getattr(chunk, name)) is not None:
                self._metadata.update(within_limits({name: value}))
        if is_object(chunk.x_groq) and not self._usage:
            self._usage = _dict(chunk.x_groq.get("usage"))

    def _odd_chunk(self, data: bytes) -> _Chunk | None:
        """A chunk that the typed decoder refused: read it loosely, or fail the attempt."""
        try:
            return msgspec.convert(decode(data), _Chunk, strict=False)
        except MalformedJson:
            self._malformed("a chunk of the answer is no JSON")
        except (msgspec.ValidationError, RecursionError) as error:
            self._malformed(f"a chunk of the answer is not of this wire: {error}")
        return None

    def _complete(self, raw: Any = None) -> None:
        self.ended = True
        finish = finish_of(self._finish)
        if self.failed(finish, self._finish):
            return
        if self._last is not None:
            self._extras(self._last)
        self.build.complete(
            finish,
            raw_finish=self._finish,
            usage=_usage(self._usage),
            refusal="".join(self._refusal) or None,
            metadata=self._metadata,
            raw=raw,
        )


def _raw(arguments: Any) -> str | None:
    """Arguments are JSON as text; some hosts send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments
    return encode(arguments).decode()


def _is_whole(data: bytes) -> bool:
    """Whether a last event without its blank line came to its end."""
    try:
        return data == b"[DONE]" or decode(data) is not None
    except MalformedJson:
        return False


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LIMIT else None


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if is_object(value) else {}


def _usage(told: dict[str, Any]) -> Usage:
    """Usage in the library's terms; what has no place there goes to `extra`. Costs as OpenRouter and Perplexity report them."""
    if not told:
        return Usage()
    prompt, completion = _dict(told.get("prompt_tokens_details")), _dict(told.get("completion_tokens_details"))
    cost = told.get("cost")
    costs = _dict(cost)
    cached = _count(prompt.get("cached_tokens"))
    return Usage(
        input_tokens=_count(told.get("prompt_tokens")),
        output_tokens=_count(told.get("completion_tokens")),
        cached_input_tokens=cached if cached is not None else _count(told.get("prompt_cache_hit_tokens")),
        cache_write_input_tokens=_count(prompt.get("cache_write_tokens")),
        reasoning_tokens=_count(completion.get("reasoning_tokens")),
        total_tokens=_count(told.get("total_tokens")),
        input_cost=_cost(costs.get("input_tokens_cost")),
        output_cost=_cost(costs.get("output_tokens_cost")),
        total_cost=_cost(costs.get("total_cost") if costs else cost),
        extra=within_limits(_rest(told, _KNOWN_USAGE) | _rest(prompt, _KNOWN_PROMPT) | _rest(completion, _KNOWN_COMPLETION)),
    )


_KNOWN_USAGE = frozenset({
    "prompt_tokens", "completion_tokens", "total_tokens", "cost", "prompt_tokens_details", "completion_tokens_details",
    "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
})  # fmt: skip
_KNOWN_PROMPT = frozenset({"cached_tokens", "cache_write_tokens"})
_KNOWN_COMPLETION = frozenset({"reasoning_tokens"})


def _rest(told: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """What was counted and has no field of its own."""
    return {name: value for name, value in told.items() if value and name not in known}
