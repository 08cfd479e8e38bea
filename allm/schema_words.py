"""The words for what does not fit a schema: what a model can best mend comes first."""

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

__all__ = ["words"]

_SHOWN: Final = 80
"""Characters of a value that a problem quotes."""

_LISTED: Final = 400

_ORDER: Final = (
    "falseSchema", "type", "constant", "const", "enum", "required", "additionalProperties", "propertyNames", "minProperties",
    "maxProperties", "minItems", "maxItems", "uniqueItems",
)  # fmt: skip
"""Errors of these kinds first, in this order, and an error of a value before one inside it."""


def words(errors: Sequence[Any], value: Any, schema: Any) -> list[str]:
    """Each error as `place: what is wrong`; `value` is what was checked, `schema` the terms that it was checked by."""
    told: dict[str, None] = {}
    for error in sorted(errors, key=_rank):
        for place, text in _said(error, value, schema):
            where = _place(place)
            told[f"{where}: {text}" if where else text] = None
    return list(told)


def _rank(error: Any) -> tuple[Any, ...]:
    kind = error.kind.name
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), len(error.instance_path)


def _place(path: Sequence[Any]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _said(error: Any, value: Any, schema: Any) -> list[tuple[list[Any], str]]:
    """(place, words) of an error; several where several fields are meant."""
    path: list[Any] = list(error.instance_path)
    kind, name = error.kind, error.kind.name
    found = _at(value, path)
    match name:
        case "required":
            return [([*path, kind.property], "it is required, but missing")]
        case "additionalProperties":
            there = _at(schema, list(error.schema_path)[:-1]) if error.schema_path else None
            names: dict[str, Any] = cast("dict[str, Any]", there).get("properties", {}) if isinstance(there, dict) else {}
            listed = f"there are: {', '.join(names)}" if names else "there are none"
            return [([*path, field], f"there is no such field ({_shorten(listed, _LISTED)})") for field in kind.unexpected]
        case "propertyNames":
            [(_, text), *_] = _said(kind.error, _Whole(kind.error.instance), schema)
            return [(path, f"the name of a field does not fit: {text}")]
        case "anyOf" | "oneOf":
            return [_alternatives(error, path, found, value, schema)]
        case _:
            return [(path, _simple(name, kind, found, error, schema))]


def _simple(name: str, kind: Any, found: Any, error: Any, schema: Any) -> str:
    got = _shown(found)
    match name:
        case "falseSchema":
            return f"nothing may be here, got {got}"
        case "type":
            wanted = _at(schema, list(error.schema_path))
            return f"expected {wanted if isinstance(wanted, str) else ' or '.join(wanted or kind.types)}, got {got}"
        case "const":
            return f"expected {_shown(kind.expected_value)}, got {got}"
        case "enum":
            return f"expected one of {_shorten(', '.join(_shown(item) for item in kind.options[:20]), _LISTED)}, got {got}"
        case "pattern":
            return f"expected text that matches {_shorten(kind.pattern, 200)}, got {got}"
        case "uniqueItems":
            return _twice(found)
        case "not":
            return f"{got} is what may not be here"
        case "contains":
            return "an item is missing that has to be there"
        case _ if name in _BOUNDS:
            size = len(cast("list[Any]", found)) if isinstance(found, list | dict | str) else None
            limit = kind.multiple_of if name == "multipleOf" else kind.limit
            return f"expected {_BOUNDS[name].format(_shown(limit))}, got {got if size is None else size}"
        case _:
            return _shorten(str(error.message), 200)


_BOUNDS: Final = {
    "minProperties": "at least {} fields", "maxProperties": "at most {} fields", "minItems": "at least {} items",
    "maxItems": "at most {} items", "minimum": "at least {}", "maximum": "at most {}", "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}", "multipleOf": "a multiple of {}", "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
}  # fmt: skip


def _alternatives(error: Any, path: list[Any], found: Any, value: Any, schema: Any) -> tuple[list[Any], str]:
    """What was meant, where one alternative alone fails further down; else what each of them wants."""
    context: list[list[Any]] = error.kind.context
    fitting = sum(not reasons for reasons in context)
    if error.kind.name == "oneOf" and fitting:
        return path, f"{fitting} of the alternatives fit {_shown(found)}, expected exactly one"
    wrongs = [_said(min(reasons, key=_rank), value, schema)[0] for reasons in context if reasons]
    deeper = [wrong for wrong in wrongs if len(wrong[0]) > len(path)]
    if len(deeper) == 1 or len(wrongs) == 1:
        return (deeper or wrongs)[0]
    texts = dict.fromkeys(f"{_place(place[len(path) :])}: {text}" if len(place) > len(path) else text for place, text in wrongs)
    return path, _shorten("none of the alternatives fits: " + "; or ".join(texts), 600)


def _twice(found: Any) -> str:
    seen: set[bytes] = set()
    for item in cast("list[Any]", found) if isinstance(found, list) else ():
        data = msgspec.json.encode(item, order="sorted")
        if data in seen:
            return f"{_shown(item)} is there twice"
        seen.add(data)
    return "an item is there twice"


class _Whole:
    """A value with no way into it: of the name of a field."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _at(value: Any, path: Sequence[Any]) -> Any:
    if isinstance(value, _Whole):
        return value.value
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _shown(value: Any) -> str:
    try:
        return _shorten(msgspec.json.encode(value).decode(), _SHOWN)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return _shorten(str(value), _SHOWN)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
