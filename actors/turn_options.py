"""The options of steps and loops, checked and merged into a plan."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from allm.actors.call import Options
from allm.actors.options import LoopOptions
from allm.actors.request_plan import (
    Ask,
    as_request,
    base_url_of,
    call_options,
    callback_of,
    checked_engine,
    merge,
    own_tools,
    refuse_unknown,
    with_key,
)  # fmt: skip
from allm.actors.turn_plan import Functions, TurnPlan
from allm.callables import Importable, resolve_callable
from allm.engine import Engine
from allm.errors import ValidationError
from allm.freezing import freeze_dict
from allm.providers.registry import adapter_for
from allm.requests import JsonSchema, Request
from allm.tools import Tool
from allm.turn_data import NUDGE, TurnOptions, TurnState
from allm.validate import validate

if TYPE_CHECKING:
    from allm.actors.runtime import Runtime

__all__ = ["plan_turn"]

_POLICIES = ("continue", "halt")


def plan_turn(engine: Engine, request: Ask, opts: LoopOptions, folding: bool, single: bool) -> "tuple[TurnPlan, Runtime | None]":
    """(plan, runtime) of a step or a loop. Takes the key out of `opts`, so that no frame of a traceback holds it."""
    return with_key(opts, lambda: _plan(engine, as_request(request), opts, folding, single))


def _plan(engine: Engine, request: Request, opts: Mapping[str, Any], folding: bool, single: bool) -> TurnPlan:
    checked_engine(engine)
    refuse_unknown(opts, LoopOptions.__optional_keys__)
    merged = merge(engine, request, opts)
    tools = {tool.name: tool for tool in (*engine.tools, *own_tools(opts)) if isinstance(tool, Tool) and tool.handler is not None}
    specs = tuple(spec if spec.name in tools or spec.manual else replace(spec, manual=True) for spec in merged.tools)
    merged = replace(merged, tools=specs)
    validate(merged)
    options = call_options(engine, merged, opts, folding)
    given = {**engine.params, **{name: value for name, value in opts.items() if value is not None}}
    functions = Functions(
        _function(given.get("halt_when"), "halt_when"),
        _function(None if given.get("on_tool_error") in _POLICIES else given.get("on_tool_error"), "on_tool_error"),
        _function(engine.tool_executor, "engine.tool_executor"),
        _function(engine.tool_result_encoder, "engine.tool_result_encoder"),
    )
    state = TurnState(options=_turn_options(merged, given, options, functions, single), request=merged)
    context = {**engine.context, **freeze_dict(opts.get("context") or {}, "context")}
    adapter, base_url = adapter_for(engine.adapter), base_url_of(engine)
    return TurnPlan(engine, adapter, base_url, state, options, tools, functions, context, callback_of(opts.get("on_event")))


def _turn_options(request: Request, given: Mapping[str, Any], options: Options, functions: Functions, single: bool) -> TurnOptions:
    mode, policy = given.get("mode", "auto"), given.get("on_tool_error", "continue")
    if mode not in ("auto", "manual"):
        raise ValidationError.at("mode", f"expected 'auto' or 'manual', got {mode!r}")
    finalize = given.get("structured_finalize", request.structured_finalize)
    nudge = given.get("structured_finalize_nudge", NUDGE)
    if not isinstance(finalize, bool):
        raise ValidationError.at("structured_finalize", f"expected True or False, got {finalize!r}")
    if not isinstance(nudge, str):
        raise ValidationError.at("structured_finalize_nudge", f"expected text, got {type(nudge).__name__}")
    if finalize and not isinstance(request.response_format, JsonSchema):
        raise ValidationError.at("structured_finalize", "it needs a response_format: allm.json_schema(...) or a type")
    return TurnOptions(
        request_id=options.request_id,
        mode=mode,
        single=single,
        max_turns=_whole(given, "max_turns", 8, 1),
        max_reasks=_whole(given, "max_reasks", 1, 0),
        on_tool_error=policy if policy in _POLICIES else "continue",
        judged=functions.on_tool_error is not None,
        checked=functions.halt_when is not None,
        finalize=finalize and not single,
        nudge=nudge,
    )


def _whole(given: Mapping[str, Any], name: str, default: int, least: int) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValidationError.at(name, f"expected a whole number of at least {least}, got {value!r}")
    return value


def _function(value: Any, path: str) -> Callable[..., Any] | None:
    if value is None:
        return None
    if not callable(value) and not isinstance(value, Importable) and not (isinstance(value, str) and ":" in value):
        raise ValidationError.at(path, f"expected a function or 'module:function', got {value!r}")
    return resolve_callable(value, path)
