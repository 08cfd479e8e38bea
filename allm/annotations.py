"""What people write into annotations and defaults beside a type, in pydantic's words, understood without pydantic."""

import functools
import types
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, cast, get_args, get_origin

import msgspec

__all__ = ["Default", "field_default", "understood"]

_BOUNDS: Final = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "multiple_of": "multipleOf", "pattern": "pattern",
}  # fmt: skip
_LENGTHS: Final = ("min_length", "max_length")


class Default(NamedTuple):
    """What a `pydantic.Field(...)` in the place of a default says: the hint with its notes, whether a value must be given, else what."""

    hint: Any
    required: bool
    field: Any

    def value(self) -> Any:
        """The default, made anew where it has a factory."""
        factory = self.field.default_factory
        return factory() if factory is not None else self.field.default


def field_default(default: Any, hint: Any) -> Default | None:
    """What a default that is a field description means; None for any other default."""
    kind = cast("type[Any]", type(default))
    if kind.__name__ != "FieldInfo" or not callable(getattr(default, "is_required", None)):
        return None
    return Default(Annotated[hint, default], bool(default.is_required()), default)


def understood(hint: Any) -> Any:
    """The type with the bounds of its annotations (`annotated_types`, `pydantic.Field`) as msgspec has them in a schema."""
    origin, args = get_origin(hint), get_args(hint)
    try:
        if origin is Annotated:
            inner, notes = understood(args[0]), args[1:]
            bounds = _bounds(notes, _kind(inner))
            return Annotated[(inner, *notes, *([msgspec.Meta(extra_json_schema=bounds)] if bounds else []))]
        if not args or origin is Literal:
            return hint
        inside = tuple(understood(arg) for arg in args)
        if all(new is old for new, old in zip(inside, args, strict=True)):
            return hint
        if origin in (Union, types.UnionType):
            return functools.reduce(_either, inside)
        return origin[inside]
    except TypeError:  # a form that cannot be put together again stays as it is
        return hint


def _either(one: Any, other: Any) -> Any:
    return one | other


def _kind(hint: Any) -> str:
    """Which lengths the bounds of a type are of."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kinds = {get_origin(arg) or arg for arg in (get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,))}
    if kinds & {list, tuple, set, frozenset}:
        return "Items"
    return "Properties" if dict in kinds else "Length"


def _bounds(notes: tuple[Any, ...], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for note in _flat(notes):
        if isinstance(note, msgspec.Meta):
            continue
        for name, keyword in _BOUNDS.items():
            if _is_plain(value := getattr(note, name, None)):
                found[keyword] = value
        for name in _LENGTHS:
            if isinstance(value := getattr(note, name, None), int) and not isinstance(value, bool):
                found[f"{name[:3]}{kind}"] = value
    return found


def _flat(notes: tuple[Any, ...]) -> list[Any]:
    """The notes, and those that a field description holds."""
    found: list[Any] = []
    for note in notes:
        held = getattr(note, "metadata", None)
        found += [note, *(cast("list[Any]", held) if isinstance(held, list | tuple) else [])]
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
