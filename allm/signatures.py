"""Signatures of handlers: their parameters as a JSON Schema, and which of them takes the `ToolContext`."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Protocol, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import msgspec

from allm.annotations import Default, field_default
from allm.docstrings import parse_docstring
from allm.errors import ValidationError
from allm.freezing import freeze
from allm.hints import describe, said_of
from allm.messages import ToolCallPart

if TYPE_CHECKING:
    from allm.engine import Engine

__all__ = ["Cancelled", "Parameter", "Signature", "ToolContext", "context_of", "docstring_of", "read_signature"]


class Cancelled(Protocol):
    """Whether a call was cancelled or timed out; true once it was."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool:
        """Waits so many seconds (None: without end) until it is true; whether it is."""
        ...

    def __bool__(self) -> bool: ...


class _Never:
    """Of a call that nobody cancels."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        return False

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolContext:
    """What a handler is told beside its arguments: a parameter annotated with this class gets it, and the model never sees it.

    Live, and only for the time of the call: `resources` holds what the runtime was given (connections, clients), `cancelled` turns
    true when the call is cancelled or its time is over; a handler in a thread should look at it. Everything has a default, so that
    a handler can be tested with `ToolContext(context={...})`.
    """

    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resources: Mapping[str, Any] = field(default_factory=dict[str, Any])
    session_id: str | None = None
    request_id: str = ""
    tool_call: ToolCallPart = field(default_factory=lambda: ToolCallPart("", ""))
    engine: "Engine | None" = None
    cancelled: Cancelled = field(default_factory=_Never)


class Parameter(NamedTuple):
    """One parameter that the model fills in."""

    hint: Any
    required: bool
    field: Default | None = None
    """What a `pydantic.Field(...)` in the place of the default says."""


class Signature(NamedTuple):
    """What a handler takes. `unbound`: it is a method without its object."""

    description: str
    schema: dict[str, Any]
    parameters: dict[str, Parameter]
    context: str | None
    unbound: bool


_CONTEXT: Final = re.compile(r"\s*(?:(?:\w+\.)*Optional\[)?(?:\w+\.)*ToolContext\]?\s*(?:\|\s*None\s*)?")
_signatures: "WeakKeyDictionary[Any, dict[bool, Signature]]" = WeakKeyDictionary()
_contexts: "WeakKeyDictionary[Any, dict[bool, str | None]]" = WeakKeyDictionary()


def read_signature(function: Callable[..., Any]) -> Signature:
    """The signature of a handler, worked out once. Raises ValidationError naming a parameter that no model can fill in."""
    found: Signature = _once(_signatures, function, _read)
    return found


def context_of(function: Callable[..., Any]) -> str | None:
    """The name of the parameter that is annotated `ToolContext`; the others may be what they like."""
    found: str | None = _once(_contexts, function, _find_context)
    return found


def _once(cache: Any, function: Any, make: Callable[[Any], Any]) -> Any:
    """Kept as long as the function lives. A bound method is a new object at each access, so that its function stands for it."""
    key, bound = _key(function)
    if key is None:
        return make(function)
    kept: dict[bool, Any] = cache.setdefault(key, {})
    if bound not in kept:
        kept[bound] = make(function)
    return kept[bound]


def _key(function: Any) -> tuple[Any, bool]:
    if inspect.ismethod(function):
        return function.__func__, True
    given: Any = function
    if inspect.isfunction(function) or isinstance(function, partial):
        return given, False
    call = type(function).__call__
    return (call, True) if inspect.isfunction(call) else (None, False)


def _read(function: Callable[..., Any]) -> Signature:
    description, said = parse_docstring(docstring_of(function))
    given = _parameters(function)
    unbound = bool(given) and _is_self(given[0])
    context, hints, defaults, fields = None, dict[str, Any](), dict[str, Any](), dict[str, Default]()
    for parameter in given[1:] if unbound else given:
        hint = _hint(function, parameter)
        if context is None and _is_context(hint):
            context = parameter.name
            continue
        _check(parameter, hint)
        hints[parameter.name] = hint
        defaults[parameter.name] = parameter.default
        if (described := field_default(parameter.default, hint)) is not None:
            fields[parameter.name] = described
            hints[parameter.name] = described.hint
            defaults[parameter.name] = inspect.Parameter.empty if described.required else described.value()
    schema = _schema(hints, defaults, said)
    parameters = {name: Parameter(hint, defaults[name] is inspect.Parameter.empty, fields.get(name)) for name, hint in hints.items()}
    return Signature(description, schema, parameters, context, unbound)


def _find_context(function: Callable[..., Any]) -> str | None:
    try:
        given = _parameters(function)
    except ValidationError:  # a builtin that does not tell
        return None
    return next((p.name for p in given if _is_context(_hint(function, p))), None)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ValidationError.at("tool", f"{function!r} does not tell its parameters: {error}; give allm.Tool(schema=...)") from None


def _is_self(parameter: inspect.Parameter) -> bool:
    """The first parameter of a function in a class body; of a bound method it is not there."""
    return parameter.name in ("self", "cls") and parameter.annotation is inspect.Parameter.empty


def _check(parameter: inspect.Parameter, hint: Any) -> None:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ValidationError.at(parameter.name, f"a tool gets its arguments by name, it cannot have a {parameter.kind.description} one")
    if isinstance(hint, _Unresolved):
        raise ValidationError.at(parameter.name, f"the annotation {hint.text!r} cannot be resolved: {hint.error}")


# Annotations


class _Unresolved(NamedTuple):
    text: str
    error: str


def _hint(function: Any, parameter: inspect.Parameter) -> Any:
    """What the parameter is annotated with; anything (JSON) without. Text is evaluated where the function was defined."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Any
    target = _function_of(function)
    code = getattr(target, "__code__", None)
    cells = zip(code.co_freevars, target.__closure__ or (), strict=True) if code is not None else ()
    near = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
    holder: Any = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, getattr(target, "__globals__", {}), near, include_extras=True)["it"]
    except Exception as error:  # whatever the evaluation of somebody's text raises
        return _Unresolved(annotation if isinstance(annotation, str) else repr(annotation), f"{type(error).__name__}: {error}")


def _function_of(function: Any) -> Any:
    """The function whose annotations these are: below wrappers, partials, methods and callable objects."""
    while isinstance(function, partial):
        function = cast("Any", function).func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    return inspect.unwrap(getattr(function, "__func__", function))


def docstring_of(function: Any) -> str | None:
    """The docstring of a function, of what a partial holds, or of an object that is called."""
    while isinstance(function, partial):
        function = cast("Any", function).func
    plain = inspect.isroutine(function)
    return inspect.getdoc(function) if plain else inspect.getdoc(type(function).__call__) or inspect.getdoc(function)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _is_context(hint: Any) -> bool:
    if isinstance(hint, _Unresolved):  # perhaps imported for the type checker only
        return _CONTEXT.fullmatch(hint.text) is not None
    if get_origin(hint) is Annotated:
        return _is_context(get_args(hint)[0])
    return hint is ToolContext or ToolContext in get_args(hint)


# The schema


def _schema(hints: dict[str, Any], defaults: dict[str, Any], said: dict[str, str]) -> dict[str, Any]:
    schemas, definitions = describe(hints)
    properties = {name: _property(schemas[name], said_of(hint) or said.get(name, ""), defaults[name]) for name, hint in hints.items()}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required := [name for name, default in defaults.items() if default is inspect.Parameter.empty]:
        schema["required"] = required
    return {**schema, **({"$defs": definitions} if definitions else {})}


def _property(schema: dict[str, Any], said: str, default: Any) -> dict[str, Any]:
    found = {**schema, "description": said} if said and "description" not in schema else dict(schema)
    if default is not inspect.Parameter.empty:
        try:
            found["default"] = freeze(msgspec.to_builtins(default, str_keys=True))
        except Exception:  # a default that is not JSON is the function's own affair
            pass
    return found
