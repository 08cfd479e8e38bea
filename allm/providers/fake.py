"""A provider that plays a script: for tests of bots, with no network in them.

An item of a script is a tuple of its kind and what belongs to it:

    ("text", "Hello")                        a delta of text
    ("reasoning", "Hm.")                     a delta of reasoning
    ("tool_call", "name", {"city": "Oslo"})  a whole call; a third value is its id
    ("tool_call_delta", {"index": 0, "id": "c1", "name": "f", "arguments": '{"a":'})
    ("usage", {"input_tokens": 3})           fields of `allm.Usage`
    ("raw_chunk", {...})                     for those who ask for raw chunks
    ("finish", "stop")                       the end marker; a script without one is a truncated stream
    ("error", "rate_limited")                the attempt fails here; details as a third value: {"retry_after": 1, "status": 429, ...}
    ("preflight_error", reason)              the same, and only as the first item: the request itself is refused
    ("stream_error", reason)                 the same, and only after content
    ("delay", 0.5)                           seconds to wait

`adapter_opts`: `script` for every call, or `scripts` with one for each call in turn (a cursor per engine that counts calls, not
attempts; past the end: `no_scripted_response`), `retry_until_call=n` (the first n-1 attempts of each call fail), `record=True`.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from allm.blocks import CallContext, MessageBuilder
from allm.engine import Engine
from allm.errors import ADAPTER_REASONS, ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event, RawChunk
from allm.providers.adapter import Script
from allm.providers.failures import failure
from allm.providers.fake_log import log_of
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.usage import Usage
from allm.wire_json import decode, encode

__all__ = ["Fake", "FakeDecoder"]

_ARITY: Final[dict[str, tuple[int, int]]] = {
    "text": (1, 1), "reasoning": (1, 1), "tool_call": (1, 3), "tool_call_delta": (1, 1), "usage": (1, 1), "raw_chunk": (1, 1),
    "finish": (1, 1), "error": (1, 2), "preflight_error": (1, 2), "stream_error": (1, 2), "delay": (1, 1),
}  # fmt: skip
_ERRORS = ("error", "preflight_error", "stream_error")
_FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter", "error": "error",
}  # fmt: skip


_NONE: Final = (("error", "no_scripted_response"),)
_TEXT: Final = ("a text", str)
_OBJECT: Final = ("an object", dict)
_VALUES: Final[dict[str, tuple[tuple[str, Any], ...]]] = {
    "text": (_TEXT,), "reasoning": (_TEXT,), "tool_call": (_TEXT, _OBJECT, _TEXT), "tool_call_delta": (_OBJECT,),
    "usage": (_OBJECT,), "raw_chunk": (("anything", object),), "finish": (_TEXT,), "error": (_TEXT, _OBJECT),
    "preflight_error": (_TEXT, _OBJECT), "stream_error": (_TEXT, _OBJECT), "delay": (("seconds", (int, float)),),
}  # fmt: skip


class _CallDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


class Fake:
    """The adapter `fake`."""

    name = "fake"
    provider = "fake"

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> Script:
        """The script for the engine's next call."""
        _retry_until(engine)
        number = log_of(engine).next(request, bool(engine.adapter_opts.get("record")))
        return Script(tuple(_steps(*_script(engine.adapter_opts, number))))

    def decoder(self, engine: Engine, context: CallContext) -> "FakeDecoder":
        """A decoder for one attempt."""
        return FakeDecoder(context, _retry_until(engine))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """A fake has no HTTP answers; third-party subclasses may."""
        return failure(self.provider, status, headers, body)


def _retry_until(engine: Engine) -> int:
    value = engine.adapter_opts.get("retry_until_call", 1)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValidationError.at("adapter_opts.retry_until_call", f"expected a whole number, got {value!r}")
    return value


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def _script(opts: Mapping[str, Any], number: int) -> tuple[Any, str]:
    """The script of call `number`, and its path."""
    if (scripts := opts.get("scripts")) is None:
        return opts.get("script", _NONE), "adapter_opts.script"
    if not _is_tuple(scripts):
        raise ValidationError.at("adapter_opts.scripts", f"expected scripts, got {scripts!r}")
    return scripts[number] if number < len(scripts) else _NONE, f"adapter_opts.scripts[{number}]"


def _steps(script: Any, path: str) -> list[tuple[float, bytes]]:
    if not _is_tuple(script):
        raise ValidationError.at(path, f"expected items, got {script!r}")
    steps: list[tuple[float, bytes]] = []
    wait = 0.0
    for i, item in enumerate(script):
        _check(item, i, f"{path}[{i}]")
        if item[0] == "delay":
            wait += float(item[1])
            continue
        steps.append((wait, encode(item)))
        wait = 0.0
    return [*steps, (wait, b"")] if wait else steps


def _check(item: Any, index: int, path: str) -> None:
    if not _is_tuple(item) or not item or not isinstance(item[0], str) or item[0] not in _ARITY:
        raise ValidationError.at(path, f"expected (kind, ...) with a kind of {sorted(_ARITY)}, got {item!r}")
    least, most = _ARITY[item[0]]
    if not least <= len(item) - 1 <= most:
        raise ValidationError.at(path, f"{item[0]!r} takes {least} to {most} values, got {len(item) - 1}")
    for value, (wanted, kinds) in zip(item[1:], _VALUES[item[0]], strict=False):
        if (isinstance(value, bool) and kinds is not object) or not isinstance(value, kinds):
            raise ValidationError.at(path, f"{item[0]!r} takes {wanted} here, got {value!r}")
    if item[0] in _ERRORS:
        _check_error(path, *item[1:])
    if item[0] == "preflight_error" and index:
        raise ValidationError.at(path, "a preflight error comes first")
    if item[0] == "stream_error" and not index:
        raise ValidationError.at(path, "a stream error comes after content")
    if item[0] == "finish" and item[1] not in _FINISH:
        raise ValidationError.at(path, f"unknown finish reason {item[1]!r}")
    if item[0] == "usage":
        _check_fields(path, item[1], Usage)
    if item[0] == "tool_call_delta":
        _check_fields(path, item[1], _CallDelta)
    if item[0] == "delay" and item[1] < 0:
        raise ValidationError.at(path, f"a delay is at least 0 seconds, got {item[1]!r}")


def _check_error(path: str, reason: str, details: Mapping[str, Any] | None = None) -> None:
    if reason not in ADAPTER_REASONS:
        raise ValidationError.at(path, f"unknown reason {reason!r}")
    _check_fields(path, {"kind": "", "reason": "", "message": "", **(details or {})}, ErrorInfo)


def _check_fields(path: str, given: Mapping[str, Any], of: type[msgspec.Struct]) -> None:
    if unknown := given.keys() - set(of.__struct_fields__):
        raise ValidationError.at(path, f"unknown fields {sorted(unknown)}")
    try:
        msgspec.convert(given, of)
    except msgspec.ValidationError as error:
        raise ValidationError.at(path, str(error)) from None


class FakeDecoder:
    """One attempt: items of a script -> events."""

    def __init__(self, context: CallContext, retry_until: int) -> None:
        self._build = MessageBuilder(context)
        self._raw_chunks = context.include_raw_chunks
        self._early = context.generation < retry_until
        self._usage = Usage()
        self._ended = False
        self.progress = False

    @property
    def has_content(self) -> bool:
        """Whether a caller would have to forget something."""
        return self._build.has_content

    def block_ids(self) -> tuple[str, ...]:
        """The ids of all blocks so far."""
        return self._build.block_ids()

    def headers(self, headers: Mapping[str, str]) -> None:
        """A script has none."""

    def feed(self, data: bytes) -> list[Event]:
        """The events of one item."""
        if self._early:
            self._fail("service_unavailable", {"message": "this attempt fails, as retry_until_call says"})
        elif data and not self._ended:
            self._item(*decode(data))
        return self._build.take()

    def end(self) -> list[Event]:
        """The script ended."""
        return self._build.take()

    def body(self, data: bytes) -> list[Event]:
        """A script is never one body."""
        return self.feed(data)

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self._build.partial(finish, error, self._usage)
        return self._build.take(), response

    def _item(self, kind: str, value: Any, *more: Any) -> None:
        build = self._build
        if kind in _ERRORS:
            self._fail(value, *more)
            return
        if not build.started:
            build.start(None, None)
        match kind:
            case "text":
                build.text(value)
            case "reasoning":
                build.reasoning(value)
            case "tool_call":
                arguments: dict[str, Any] = more[0] if more else {}
                build.call(object(), more[1] if len(more) > 1 else None, value, encode(arguments).decode())
            case "tool_call_delta":
                build.call(value.get("index", 0), value.get("id"), value.get("name"), value.get("arguments"))
            case "usage":
                self._usage = Usage(**value)
            case "raw_chunk":
                if self._raw_chunks:
                    build.events.append(RawChunk(value))
            case _:
                self._ended = True
                build.complete(_FINISH[value], raw_finish=value, usage=self._usage)

    def _fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        self._ended = True
        told = {"kind": "adapter", "message": f"the script says {reason}", "provider": "fake", **(details or {}), "reason": reason}
        self._build.events.append(ErrorOccurred(msgspec.convert(told, ErrorInfo)))
