"""What a call is asked to do, checked and merged: options win over request fields, these over the engine's, these over the library's."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from allm.actors.call import Options, Plan
from allm.actors.options import CallOptions, ServiceOptions
from allm.actors.outgoing import asked_in_time, asks_functions, outgoing
from allm.actors.runtime import Runtime, default_runtime
from allm.actors.vault import KeyHandle
from allm.engine import Engine, merge_tools
from allm.environment import PROVIDERS, environment
from allm.errors import ValidationError
from allm.events import Event
from allm.freezing import freeze_dict
from allm.messages import Message, Thread, user
from allm.providers.registry import adapter_for
from allm.requests import Request, ToolSpec
from allm.retry import Retry
from allm.settings import Timeouts
from allm.structured import as_format, type_name
from allm.tools import Tool, as_tool, spec_of
from allm.urls import HTTP, problem_of
from allm.validate import validate

if TYPE_CHECKING:
    from allm.actors.turn_plan import TurnPlan

__all__ = [
    "Ask", "as_request", "base_url_of", "call_options", "callback_of", "checked_base_url", "checked_engine",
    "checked_runtime", "kept_key", "merge", "own_tools", "plan_call", "refuse_unknown", "with_key",
]  # fmt: skip

Ask: TypeAlias = str | Message | Sequence[Message] | Thread | Request
"""What a call takes: a text, a message, messages, a thread or a request."""

_FIELDS = (
    "model", "tool_choice", "temperature", "top_p", "max_tokens", "stop", "seed", "reasoning", "response_format", "prompt_cache",
)  # fmt: skip
_SAID: Final = attrgetter(*_FIELDS)
_SILENT: Final = Request((user(""),))

AnyPlan = TypeVar("AnyPlan", Plan, "TurnPlan")


def plan_call(engine: Engine, request: Ask, opts: CallOptions, folding: bool) -> tuple[Plan, Runtime | None]:
    """(plan, runtime) of one round trip. Takes the key out of `opts`, so that no frame of a traceback holds it."""
    return with_key(opts, lambda: _plan(engine, request, opts, folding))


def with_key(opts: ServiceOptions, make: Callable[[], AnyPlan]) -> tuple[AnyPlan, Runtime | None]:
    """The plan that `make` gives, with the call's own key in the vault of its runtime."""
    runtime, handle = kept_key(opts)
    try:
        plan = make()
    except BaseException:
        if handle is not None and runtime is not None:
            runtime.vault.drop(handle)
        raise
    plan.key = handle
    return plan, runtime


def kept_key(opts: ServiceOptions) -> tuple[Runtime | None, KeyHandle | None]:
    """(runtime, handle): the call's own key goes from `opts` into the vault of its runtime, which is started if need be. It is out of
    `opts` also where that raises."""
    try:
        runtime = checked_runtime(opts.get("runtime"))
        if opts.get("api_key") is None:
            return runtime, None
        runtime = runtime or default_runtime()
        return runtime, runtime.vault.put(cast("str", opts.pop("api_key")))
    finally:
        opts.pop("api_key", None)


def checked_runtime(runtime: Any) -> Runtime | None:
    """The runtime of a call, if one was given. Raises ValidationError for what is none."""
    if runtime is not None and not isinstance(runtime, Runtime):
        raise ValidationError.at("runtime", f"expected an allm.Runtime, got {type(runtime).__name__}")
    return runtime


def _plan(engine: Engine, request: Ask, opts: Mapping[str, Any], folding: bool) -> Plan:
    refuse_unknown(opts, CallOptions.__optional_keys__)
    merged = merge(checked_engine(engine), as_request(request), opts)
    validate(merged)
    options = call_options(engine, merged, opts, folding)
    plan = Plan(engine, adapter_for(engine.adapter), base_url_of(engine), merged, options, callback_of(opts.get("on_event")))
    plan.outgoing = partial(outgoing, engine, merged, options.request_id, {})
    make = partial(plan.outgoing, False)
    if asks_functions(engine):
        runtime = checked_runtime(opts.get("runtime")) or default_runtime()
        plan.request = asked_in_time(engine, runtime, options.timeouts.callback, make)
    else:
        plan.request = make()
    return plan


def checked_engine(engine: Any) -> Engine:
    """The engine, if it is one."""
    if not isinstance(engine, Engine):
        raise ValidationError.at("engine", f"expected an allm.Engine, got {type(engine).__name__}")
    return engine


def refuse_unknown(opts: Any, known: frozenset[str]) -> None:
    """Raises TypeError for options that there are not; they are taken out of `opts` then, as a key may stand there under a wrong name."""
    if unknown := opts.keys() - known:
        for name in unknown:
            del opts[name]
        raise TypeError(f"unknown options {sorted(unknown)}; what only the provider knows goes into options={{...}}")


def call_options(engine: Engine, request: Request, opts: Mapping[str, Any], folding: bool) -> Options:
    """What is the same for every attempt of a call."""
    request_id = opts.get("request_id") or f"req-{os.urandom(8).hex()}"
    if not isinstance(request_id, str):
        raise ValidationError.at("request_id", f"expected text, got {type(request_id).__name__}")
    return Options(
        request_id=request_id,
        retry=_typed(opts.get("retry"), Retry, "retry") or engine.retry,
        timeouts=_typed(opts.get("timeouts"), Timeouts, "timeouts") or engine.timeouts,
        folding=folding,
        one_body=_wire(opts.get("wire") or engine.params.get("wire", "sse")),
        text_deltas=opts.get("emit_text_deltas", True),
        tool_deltas=opts.get("emit_tool_deltas", True),
        raw_chunks=opts.get("include_raw_chunks", False),
        metadata=request.metadata,
        response_type=type_name(request.response_format),
    )


def base_url_of(engine: Engine) -> str:
    """Where the engine's calls go."""
    return checked_base_url(adapter_for(engine.adapter).provider, engine.base_url)


def checked_base_url(provider: str, given: str | None) -> str:
    """`given`, else the provider's own address. Paths are appended to it, so that nothing may follow its own."""
    url = environment.base_url(provider, given)
    # Which schemes there are, an adapter of somebody else's knows for itself; so does one that has no address.
    schemes = HTTP if provider in PROVIDERS else None
    find = problem_of if "@" in url else _known_problem  # what may be a password is kept nowhere
    problem = find(url, schemes) if url or given else None
    if problem is not None:
        raise ValidationError.at("engine.base_url", problem)
    return url


@lru_cache(256)
def _known_problem(url: str, schemes: tuple[str, ...] | None) -> str | None:
    """`problem_of`, worked out once: an engine makes many calls."""
    return problem_of(url, schemes)


def callback_of(on_event: Any) -> Callable[[Event], object] | None:
    """The caller's `on_event`, if it is one."""
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


def merge(engine: Engine, request: Request, opts: Mapping[str, Any]) -> Request:
    """The request with everything that options and engine say, but for what is made anew at each sending (`outgoing`)."""
    # Most calls say none of these: one look at all of them.
    said = engine.params or _SAID(request) != _SAID(_SILENT) or not opts.keys().isdisjoint(_FIELDS)
    fields = _fields(engine, request, opts) if said else {}
    tools: Sequence[Tool | ToolSpec] = request.tools
    if engine.tools or opts.get("tools"):
        tools = merge_tools(engine.tools, merge_tools(request.tools, own_tools(opts)))
    extra = engine.params.get("options"), request.options, opts.get("options")
    return Request(
        request.messages,
        tools=tuple(spec_of(tool) for tool in tools),
        structured_finalize=request.structured_finalize,
        options={name: value for given in extra if given for name, value in freeze_dict(given, "options").items()},
        metadata={**engine.metadata, **request.metadata, **(freeze_dict(told, "metadata") if (told := opts.get("metadata")) else {})},
        **fields,
    )


def _fields(engine: Engine, request: Request, opts: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in _FIELDS:
        value = opts.get(name)
        if value is None:
            value = getattr(request, name)
        if value is None or (name == "stop" and value == ()):
            value = engine.params.get(name)
        if value is not None:
            fields[name] = value if name != "response_format" else as_format(value)
    return fields


def own_tools(opts: Mapping[str, Any]) -> Sequence[Tool | ToolSpec]:
    """The call's own tools; they replace the engine's by name, but not one another."""
    tools = opts.get("tools") or ()
    if not isinstance(tools, list | tuple):
        raise ValidationError.at("tools", f"expected a list of tools, got {type(tools).__name__}")
    checked = [as_tool(tool, f"tools[{i}]") for i, tool in enumerate(cast("Sequence[Any]", tools))]
    for i, tool in enumerate(checked):
        if any(tool.name == other.name for other in checked[:i]):
            raise ValidationError.at(f"tools[{i}].name", f"two tools are called {tool.name!r}")
    return checked


def _wire(value: Any) -> bool:
    if value not in ("sse", "json"):
        raise ValidationError.at("wire", f"expected 'sse' or 'json', got {value!r}")
    return bool(value == "json")


def _typed(value: Any, kind: type[Any], path: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ValidationError.at(path, f"expected allm.{kind.__name__}(...), got {type(value).__name__}")
    return value
