"""Tools: what a model may call, with the handler that runs here, and what a handler may give."""

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast, overload

from msgspec.structs import force_setattr, replace

from allm.callables import Importable, as_importable, resolve_callable
from allm.docstrings import parse_docstring
from allm.errors import ErrorInfo, ToolError, ValidationError
from allm.freezing import freeze, freeze_dict, frozen_schema
from allm.hints import convert, thaw
from allm.images import Image
from allm.plain import Json, Value
from allm.requests import ToolSpec
from allm.responses import HALTED_REASONS
from allm.schemas import problem
from allm.signatures import Signature, ToolContext, context_of, docstring_of, read_signature
from allm.trust import named_code, refuse_unless_trusted

__all__ = [
    "IMAGES",
    "AskUser",
    "Halt",
    "Illustrated",
    "Source",
    "Tool",
    "ToolContext",
    "ToolOutcome",
    "as_tool",
    "ask_user",
    "bind",
    "halt",
    "source_of",
    "spec_of",
    "tool",
]

_PATH = re.compile(r"[^\s:]+:[^\s:]+")

IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""The images that a result may have: what the wires take. One that takes fewer has a text in its place."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


class AskUser(Value, frozen=True):
    """Given by a handler: the loop halts, and the user is asked. See `ask_user`."""

    question: str
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _text(self.question, "question")
        force_setattr(self, "options", freeze_dict(self.options, "options"))


class Halt(Value, frozen=True):
    """Given by a handler: the loop halts for the reason named. See `halt`."""

    reason: str
    result: Json = None

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason or self.reason in HALTED_REASONS:
            raise ValidationError.at(
                "reason", f"expected a word of the tool's own, got {self.reason!r} (reserved: {sorted(HALTED_REASONS)})"
            )
        freeze(self.reason, "reason")
        force_setattr(self, "result", freeze(self.result, "result"))


class Illustrated(Value, frozen=True):
    """Given by a handler: a result, and images that the model sees beside it, where its wire takes images in results."""

    result: Json
    images: tuple[Image, ...]

    def __post_init__(self) -> None:
        force_setattr(self, "images", tuple(self.images))
        for i, image in enumerate(self.images):
            if not isinstance(image, Image) or image.data is None or image.mime not in IMAGES:
                raise ValidationError.at(f"images[{i}]", f"expected an allm.Image that holds bytes of {', '.join(sorted(IMAGES))}")


def ask_user(question: str, **options: Any) -> AskUser:
    """What a handler returns to have the user asked; `options` are plain data for who shows the question."""
    return AskUser(question, options)


def halt(reason: str, result: Any = None) -> Halt:
    """What a handler returns to end the loop; `reason` becomes the `halted_reason`, the model's thread gets `result`."""
    return Halt(reason, result)


class ToolOutcome(Value, frozen=True, kw_only=True):
    """How one execution of a tool ended: with a result, an error, a question (`ask`) or a halt. `content` is what the model reads of it,
    `images` what it sees beside that; `duration` is in seconds."""

    id: str
    name: str
    content: str = ""
    result: Json = None
    error: ErrorInfo | None = None
    ask: AskUser | None = None
    halt: Halt | None = None
    duration: float = 0.0
    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "result", freeze(self.result, "result"))


class Tool(Value, frozen=True, kw_only=True):
    """A tool. `schema` is the JSON Schema of its arguments; `handler` a callable or `"module:qualname"`, None for a manual tool.

    `timeout` is in seconds (None: the engine's `Timeouts.tool`), `max_result` in characters of the encoded result. `environment` is for
    `isolation="process"`: that process has the bot's environment variables except those whose names speak of a secret (`..._API_KEY`,
    `..._TOKEN`, `..._PASSWORD`, ...); name here the ones it needs, `"AWS_*"` for several, `"*"` for all.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] = {}
    handler: Any = None
    manual: bool = False
    timeout: float | None = None
    isolation: Literal["thread", "process"] = "thread"
    on_crash: Literal["fail", "retry"] = "fail"
    max_result: int = 1_000_000
    environment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _text(self.name, "tool.name")
        if not self.name:
            raise ValidationError.at("tool.name", "it is empty")
        _text(self.description, f"tools.{self.name}.description")
        force_setattr(self, "schema", frozen_schema(self.schema, f"tools.{self.name}.schema"))
        if is_generator(self.handler):
            raise ValidationError.at(f"tools.{self.name}.handler", _GENERATOR)
        if isinstance(handler := as_importable(self.handler), Importable):
            force_setattr(self, "handler", handler.path)
        for field, (expected, fits) in _FIELDS.items():
            if not fits(value := getattr(self, field)):
                raise ValidationError.at(f"tools.{self.name}.{field}", f"expected {expected}, got {value!r:.80}")
        if isinstance(self.handler, str):
            named_code(self.handler, f"tools.{self.name}.handler")
        if self.environment:
            refuse_unless_trusted(f"tools.{self.name}.environment", "variables of this process, secrets among them, would go to the tool")
        force_setattr(self, "environment", tuple(self.environment))

    @property
    def spec(self) -> ToolSpec:
        """What the model sees of it."""
        return ToolSpec(self.name, self.description, self.schema, self.manual)


_GENERATOR = "a generator gives its values one by one, and a tool has one result: return a list of them"


def is_generator(function: Any) -> bool:
    """Whether calling this function, partial, method or object makes a generator, or an asynchronous one."""
    called = (function, getattr(cast("Any", type(function)), "__call__", None))  # noqa: B004
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in called)


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "handler": (
        "a callable, 'module:name' or None",
        lambda it: it is None or callable(it) or (isinstance(it, str) and _PATH.fullmatch(it) is not None),
    ),
    "manual": ("True or False", lambda it: isinstance(it, bool)),
    "timeout": (
        "a positive number of seconds or None",
        lambda it: it is None or (_is_number(it, int | float) and 0 < it <= sys.float_info.max),
    ),
    "isolation": ("'thread' or 'process'", lambda it: it in ("thread", "process")),
    "on_crash": ("'fail' or 'retry'", lambda it: it in ("fail", "retry")),
    "max_result": ("a whole number of at least 1", lambda it: _is_number(it, int) and it >= 1),
    "environment": (
        "names of environment variables",
        lambda it: isinstance(it, list | tuple | set | frozenset) and all(isinstance(name, str) for name in cast("Any", it)),
    ),
}
"""What the fields of a tool may be; a wrong one would be found by the supervisor of tools, in the middle of a turn."""


@overload
def tool(function: _Function, /) -> _Function: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[str, Any] | None = None,
    manual: bool = False,
    timeout: float | None = None,
    isolation: Literal["thread", "process"] = "thread",
    on_crash: Literal["fail", "retry"] = "fail",
    max_result: int = 1_000_000,
    environment: Sequence[str] = (),
) -> Callable[[_Function], _Function]: ...
def tool(function: Any = None, /, **fields: Any) -> Any:
    """Makes a function a tool; it stays the same function. `@allm.tool`, or `@allm.tool(name=..., timeout=...)` with fields of `Tool`.

    Name, description and schema come from the function's name, signature and docstring (Google's, numpy's or Sphinx's style; or
    `Annotated[int, "how many"]`); the arguments come as the types that the signature names. A parameter annotated `ToolContext` is
    filled in by the library. With a `schema` of your own the arguments come as they are in JSON. Raises ValidationError naming a
    parameter that no model can fill in.
    """
    return partial(_mark, fields=fields) if function is None else _mark(function, fields)


def as_tool(given: Any, path: str = "tool") -> Tool | ToolSpec:
    """The tool that is meant: a Tool or a ToolSpec as it is; a function, method or callable object, decorated or not, made one.

    Raises ValidationError at `path` for anything else.
    """
    if isinstance(given, Tool | ToolSpec):
        return given
    if not callable(given) or isinstance(given, type):
        raise ValidationError.at(path, f"expected a function or an allm.Tool, got {given!r}")
    marked = getattr(given, "__allm_tool__", None)
    found = replace(marked, handler=given) if isinstance(marked, Tool) else _made(given, {})
    if not inspect.ismethod(given) and (signature := _signature(given)) is not None and signature.unbound:
        raise ValidationError.at(path, f"{found.name} is a method without its object; give the bound one: thing.{found.name}")
    return found


def bind(
    tool: Tool, arguments: Mapping[str, Any], context: ToolContext, *, checked: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) to call the tool's handler with: JSON arguments as the annotated types, and the context where it is asked for.

    `checked`: that the arguments fit the tool's schema is known.
    Raises ToolError("invalid_arguments") in words for the model; EngineError where a handler given by name cannot be imported.
    """
    handler = resolve_callable(tool.handler, f"tools.{tool.name}.handler")
    if not checked and (wrong := problem(arguments, tool.schema) if isinstance(arguments, Mapping) else "expected an object"):
        raise _invalid(tool, wrong)
    signature = _signature(handler)
    if signature is not None and signature.schema == tool.schema:
        filled = {**_defaults(signature), **_typed(tool, signature, arguments)}
        return (), {**filled, signature.context: context} if signature.context is not None else filled
    filled = {**(_defaults(signature) if signature is not None else {}), **thaw(arguments)}
    if name := context_of(handler):
        filled[name] = context
    try:
        inspect.signature(handler).bind(**filled)
    except TypeError as error:
        raise _invalid(tool, str(error)) from None
    except ValueError:  # a builtin that does not tell its parameters
        pass
    return (), filled


class Source(NamedTuple):
    """Where tools come from that others offer: `told` names it to people, `key` is the same for each connection to it."""

    told: str
    key: str


def source_of(tool: Tool | ToolSpec) -> Source | None:
    """Who offers this tool; None for one of the user's own. The handler says so, as `__allm_source__`."""
    handler = tool.handler if isinstance(tool, Tool) else None
    found: Any = getattr(handler, "__allm_source__", None) if inspect.isfunction(handler) else None
    return found if isinstance(found, Source) else None


def spec_of(tool: Tool | ToolSpec) -> ToolSpec:
    """The spec of a tool with or without handler."""
    return tool.spec if isinstance(tool, Tool) else tool


def _text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise ValidationError.at(path, f"expected text, got {type(value).__name__}")
    freeze(value, path)


def _mark(function: Any, fields: dict[str, Any]) -> Any:
    if isinstance(function, staticmethod | classmethod):
        raise ValidationError.at(
            "tool", f"put @{'staticmethod' if isinstance(function, staticmethod) else 'classmethod'} above @allm.tool"
        )  # what a class gives is another object
    if not inspect.isfunction(function):
        raise ValidationError.at("tool", f"@allm.tool decorates functions, got {function!r}; a callable object is given as it is")
    cast("Any", function).__allm_tool__ = _made(function, fields)
    return function


def _made(function: Any, fields: dict[str, Any]) -> Tool:
    name = fields.get("name") or getattr(function, "__name__", None) or _name_of(function)
    if name == "<lambda>":
        raise ValidationError.at("tool.name", "a lambda has no name; give allm.Tool(name=..., schema=..., handler=...)")
    given: dict[str, Any] = {field: value for field, value in fields.items() if value is not None}
    if "schema" not in given:
        signature = read_signature(function)
        given = {"description": signature.description, "schema": signature.schema, **given}
    else:
        given = {"description": parse_docstring(docstring_of(function))[0], **given}
    made: dict[str, Any] = {**given, "name": name, "handler": function}
    return Tool(**made)


def _name_of(function: Any) -> str:
    """Of a partial its function's, of a callable object its class's."""
    inner = getattr(function, "func", None)
    return str(getattr(inner, "__name__", None) or type(function).__name__)


def _signature(function: Any) -> Signature | None:
    try:
        return read_signature(function)
    except ValidationError:  # a handler with an explicit schema may take what it likes
        return None


def _typed(tool: Tool, signature: Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {name: convert(value, signature.parameters[name].hint, name) for name, value in arguments.items()}
    except ValidationError as error:
        raise _invalid(tool, error.message) from None


def _defaults(signature: Signature) -> dict[str, Any]:
    """Values for parameters whose own default is a description of a field: it is not for the handler."""
    return {name: each.field.value() for name, each in signature.parameters.items() if each.field is not None and not each.required}


def _invalid(tool: Tool, wrong: str) -> ToolError:
    return ToolError("invalid_arguments", f"the arguments of {tool.name} are wrong: {wrong}")
