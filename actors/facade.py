"""Plain calls: their options, checked and merged into a plan, and the two ways to make them.

Options win over request fields, these over the engine's, these over the library's.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from allm.actors.call import Options, Plan
from allm.actors.handle import Stream
from allm.actors.runtime import Runtime, default_runtime
from allm.callables import resolve_callable
from allm.engine import Engine, merge_tools
from allm.environment import environment
from allm.errors import ValidationError
from allm.events import Event
from allm.freezing import freeze_dict
from allm.messages import Message, Thread, system, user
from allm.plain import Value
from allm.providers.registry import adapter_for
from allm.requests import Request, ToolSpec
from allm.responses import Response
from allm.retry import Retry
from allm.settings import Timeouts
from allm.tools import Tool, spec_of
from allm.validate import validate

__all__ = ["Ask", "TurnContext", "generate", "plan_call", "stream_generate"]

Ask: TypeAlias = "str | Message | Sequence[Message] | Thread | Request"
"""What a call takes: a text, a message, messages, a thread or a request."""

_FIELDS = (
    "model", "tool_choice", "temperature", "top_p", "max_tokens", "stop", "seed", "reasoning", "response_format", "prompt_cache",
)  # fmt: skip
_KNOWN = frozenset({
    *_FIELDS, "tools", "options", "api_key", "retry", "timeouts", "request_id", "runtime", "on_event", "wire", "emit_text_deltas",
    "emit_tool_deltas", "include_raw_chunks", "metadata",
})  # fmt: skip


class TurnContext(Value, frozen=True, kw_only=True):
    """What an `instructions` function is told."""

    request_id: str
    session_id: str | None = None
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


def generate(engine: Engine, request: Ask, **opts: Any) -> Response:
    """One round trip: the response. Blocks; see `allm.aio.generate` for asyncio.

    Raises AdapterError when the call failed before any content and its retries are spent; after content the response carries the
    partial text, `finish_reason="error"` and `error`. Raises ValidationError, before anything is sent, for bad input.
    """
    return Stream(*plan_call(engine, request, opts, folding=True)).response()


def stream_generate(engine: Engine, request: Ask, **opts: Any) -> Stream:
    """One round trip as a `Stream` of its events. Nothing is sent before the first one is asked for."""
    return Stream(*plan_call(engine, request, opts, folding=False))


def plan_call(engine: Engine, request: Ask, opts: dict[str, Any], folding: bool) -> tuple[Plan, Runtime | None]:
    """(plan, runtime) of a call. Takes the key out of `opts`, so that no frame of a traceback holds it."""
    runtime: Runtime | None = opts.get("runtime")
    handle = None
    if opts.get("api_key") is not None:
        runtime = runtime or default_runtime()
        handle = runtime.vault.put(opts.pop("api_key"))
    try:
        plan = _plan(engine, request, opts, folding)
    except BaseException:
        if handle is not None and runtime is not None:
            runtime.vault.drop(handle)
        raise
    plan.key = handle
    return plan, runtime


def _plan(engine: Engine, request: Ask, opts: dict[str, Any], folding: bool) -> Plan:
    if not isinstance(engine, Engine):
        raise ValidationError.at("engine", f"expected an allm.Engine, got {type(engine).__name__}")
    if unknown := opts.keys() - _KNOWN:
        raise TypeError(f"unknown options {sorted(unknown)}; what only the provider knows goes into options={{...}}")
    adapter = adapter_for(engine.adapter)
    request_id = opts.get("request_id") or f"req-{os.urandom(8).hex()}"
    if not isinstance(request_id, str):
        raise ValidationError.at("request_id", f"expected text, got {type(request_id).__name__}")
    merged = merge(engine, as_request(request), opts, request_id)
    validate(merged)
    options = Options(
        request_id=request_id,
        retry=_typed(opts.get("retry"), Retry, "retry") or engine.retry,
        timeouts=_typed(opts.get("timeouts"), Timeouts, "timeouts") or engine.timeouts,
        folding=folding,
        one_body=_wire(opts.get("wire", "sse")),
        text_deltas=opts.get("emit_text_deltas", True),
        tool_deltas=opts.get("emit_tool_deltas", True),
        raw_chunks=opts.get("include_raw_chunks", False),
        metadata=merged.metadata,
    )
    return Plan(engine, adapter, _base_url(engine, adapter.provider), merged, options, _callback(opts.get("on_event")))


def _base_url(engine: Engine, provider: str) -> str:
    """Where calls go. Paths are appended to it, so that nothing may follow its own."""
    url = environment.base_url(provider, engine.base_url)
    if any(mark in url for mark in "?#@ "):
        raise ValidationError.at("engine.base_url", "an address without user name, query or fragment is expected")
    return url


def _callback(on_event: Any) -> Callable[[Event], object] | None:
    if on_event is not None and (not callable(on_event) or inspect.iscoroutinefunction(on_event)):
        raise ValidationError.at("on_event", "expected a function that takes an event (no coroutine function)")
    callback: Callable[[Event], object] | None = on_event
    return callback


def as_request(ask: Any) -> Request:
    """The request that the caller means."""
    if isinstance(ask, Request):
        return ask
    if isinstance(ask, str):
        return Request((user(ask),))
    if isinstance(ask, Message):
        return Request((ask,))
    if isinstance(ask, Thread):
        return Request(ask.messages)
    if isinstance(ask, list | tuple):
        return Request(tuple(cast("Sequence[Message]", ask)))
    raise ValidationError.at("request", f"expected text, messages, a thread or a request, got {type(ask).__name__}")


def merge(engine: Engine, request: Request, opts: Mapping[str, Any], request_id: str) -> Request:
    """The request with everything that options and engine say."""
    fields: dict[str, Any] = {}
    for name in _FIELDS:
        value = opts.get(name)
        if value is None:
            value = getattr(request, name)
        if value is None or (name == "stop" and value == ()):
            value = engine.params.get(name)
        if value is not None:
            fields[name] = value
    messages = request.messages
    if engine.instructions is not None:
        messages = (system(_instructions(engine, request, request_id)), *messages)
    tools: Sequence[Tool | ToolSpec] = request.tools
    if engine.tools or opts.get("tools"):
        tools = merge_tools(engine.tools, merge_tools(request.tools, _tools(opts.get("tools") or ())))
    extra = engine.params.get("options"), request.options, opts.get("options")
    return Request(
        messages,
        tools=tuple(spec_of(tool) for tool in tools),
        structured_finalize=request.structured_finalize,
        options={name: value for given in extra if given for name, value in freeze_dict(given, "options").items()},
        metadata={**engine.metadata, **request.metadata, **freeze_dict(opts.get("metadata") or {}, "metadata")},
        **fields,
    )


def _tools(tools: Any) -> Sequence[Tool | ToolSpec]:
    """The call's own tools; they replace the engine's by name, but not one another."""
    if not isinstance(tools, list | tuple):
        raise ValidationError.at("tools", f"expected a list of tools, got {type(tools).__name__}")
    checked = cast("Sequence[Tool | ToolSpec]", tools)
    for i, tool in enumerate(checked):
        if not isinstance(tool, Tool | ToolSpec):
            raise ValidationError.at(f"tools[{i}]", f"expected a tool, got {type(tool).__name__}")
        if any(tool.name == other.name for other in checked[:i]):
            raise ValidationError.at(f"tools[{i}].name", f"two tools are called {tool.name!r}")
    return checked


def _instructions(engine: Engine, request: Request, request_id: str) -> str:
    if isinstance(engine.instructions, str) and not _is_path(engine.instructions):
        return engine.instructions
    text = resolve_callable(engine.instructions, "engine.instructions")(
        TurnContext(request_id=request_id, context=engine.context, metadata=request.metadata)
    )
    if not isinstance(text, str):
        raise ValidationError.at("engine.instructions", f"the function gave {type(text).__name__}, not text")
    return text


def _is_path(text: str) -> bool:
    """Whether instructions are `"module:function"`: nothing that a person writes to a model looks like that."""
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _wire(value: Any) -> bool:
    if value not in ("sse", "json"):
        raise ValidationError.at("wire", f"expected 'sse' or 'json', got {value!r}")
    return bool(value == "json")


def _typed(value: Any, kind: type[Any], path: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ValidationError.at(path, f"expected allm.{kind.__name__}(...), got {type(value).__name__}")
    return value
