"""JSON Schema, as far as tools and structured output use it: what does not fit, in words that a model can use.

Checked are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `patternProperties`, `propertyNames`,
`minProperties`, `maxProperties`, `items`, `prefixItems`, `minItems`, `maxItems`, `uniqueItems`, the bounds of numbers, `multipleOf`,
`minLength`, `maxLength`, `pattern`, `anyOf`, `oneOf`, `allOf`, `not`, and `$ref` into the same schema. Other keywords, formats and
keywords that are malformed say nothing. Whatever schema and value are, nothing is raised, and no more than a bounded amount of work
is done.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, cast

import msgspec

from allm.hints import schema_of
from allm.patterns import search

__all__ = ["problem", "schema_of"]

_DEPTH: Final = 128
"""Levels of schemas inside schemas, references followed."""

_STEPS: Final = 1_000_000
"""Schemas applied to values: about a second."""

_SHOWN: Final = 80
"""Characters of a value that a problem quotes."""


class _Wrong(NamedTuple):
    """What does not fit, and the way down to it."""

    place: str
    text: str


class _Exhausted(Exception):
    """The schema asks for more than is done."""


def problem(value: Any, schema: Any) -> str | None:
    """The first thing in `value` (JSON) that does not fit the schema, as `days: expected integer, got "three"`; None if it fits."""
    try:
        wrong = _Check(schema).apply(value, schema, 0)
    except (_Exhausted, RecursionError):
        return "nested too deeply, or too large, to be checked"
    if wrong is None:
        return None
    place = wrong.place.removeprefix(".")
    return f"{place}: {wrong.text}" if place else wrong.text


class _Check:
    """One check: the schema that references point into, and how much was done."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._left = _STEPS

    def apply(self, value: Any, schema: Any, depth: int) -> _Wrong | None:
        self._left -= 1
        if depth > _DEPTH or self._left < 0:
            raise _Exhausted
        if schema is False:
            return _Wrong("", f"nothing may be here, got {_shown(value)}")
        if not _is_object(schema):
            return None
        for keyword, check in _KEYWORDS:
            if keyword in schema and (wrong := check(self, value, schema[keyword], schema, depth + 1)) is not None:
                return wrong
        return None

    def fits(self, value: Any, schema: Any, depth: int) -> bool:
        return self.apply(value, schema, depth) is None


_Keyword: TypeAlias = Callable[[_Check, Any, Any, Mapping[str, Any], int], _Wrong | None]


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict) or isinstance(value, Mapping)  # noqa: SIM101 - the first is quick


def _is_array(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, list | tuple)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "object": _is_object,
    "array": _is_array,
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _type(check: _Check, value: Any, wanted: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    names = [wanted] if isinstance(wanted, str) else list(wanted) if _is_array(wanted) else []
    if not names or any(not isinstance(name, str) or name not in _KINDS for name in names):
        return None
    if any(_KINDS[name](value) for name in names):
        return None
    return _Wrong("", f"expected {' or '.join(names)}, got {_shown(value)}")


def _enum(check: _Check, value: Any, allowed: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_array(allowed) or _identity(value) in map(_identity, allowed):
        return None
    return _Wrong("", f"expected one of {_shorten(', '.join(_shown(item) for item in allowed[:20]), 400)}, got {_shown(value)}")


def _const(check: _Check, value: Any, only: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    return None if _identity(value) == _identity(only) else _Wrong("", f"expected {_shown(only)}, got {_shown(value)}")


# Objects


def _required(check: _Check, value: Any, names: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_object(value) or not _is_array(names):
        return None
    missing = next((name for name in names if isinstance(name, str) and name not in value), None)
    return _Wrong(f".{missing}", "it is required, but missing") if missing is not None else None


def _properties(check: _Check, value: Any, properties: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_object(value) or not _is_object(properties):
        return None
    for name, inner in properties.items():
        if name in value and (wrong := check.apply(value[name], inner, depth)) is not None:
            return _Wrong(f".{name}{wrong.place}", wrong.text)
    return None


def _pattern_properties(check: _Check, value: Any, patterns: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_object(value) or not _is_object(patterns):
        return None
    for pattern, inner in patterns.items():
        for name in value:
            if search(pattern, name) and (wrong := check.apply(value[name], inner, depth)) is not None:
                return _Wrong(f".{name}{wrong.place}", wrong.text)
    return None


def _additional(check: _Check, value: Any, inner: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_object(value) or inner is True:
        return None
    known = schema.get("properties")
    patterns = schema.get("patternProperties")
    names: Mapping[str, Any] = known if _is_object(known) else {}
    for name in value:
        if name in names or (_is_object(patterns) and any(search(pattern, name) is not False for pattern in patterns)):
            continue
        if inner is False:
            listed = f"there are: {', '.join(map(str, names))}" if names else "there are none"
            return _Wrong(f".{name}", f"there is no such field ({_shorten(listed, 400)})")
        if (wrong := check.apply(value[name], inner, depth)) is not None:
            return _Wrong(f".{name}{wrong.place}", wrong.text)
    return None


def _property_names(check: _Check, value: Any, inner: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    for name in value if _is_object(value) else ():
        if (wrong := check.apply(name, inner, depth)) is not None:
            return _Wrong("", f"the name of a field does not fit: {wrong.text}")
    return None


# Arrays


def _prefix_items(check: _Check, value: Any, schemas: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_array(value) or not _is_array(schemas):
        return None
    return _first_wrong(check, enumerate(zip(value, schemas, strict=False)), depth)


def _items(check: _Check, value: Any, inner: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_array(value):
        return None
    prefix = schema.get("prefixItems")
    start = len(prefix) if _is_array(prefix) else 0
    return _first_wrong(check, ((i, (value[i], inner)) for i in range(start, len(value))), depth)


def _first_wrong(check: _Check, items: Iterator[tuple[int, tuple[Any, Any]]], depth: int) -> _Wrong | None:
    for i, (item, inner) in items:
        if (wrong := check.apply(item, inner, depth)) is not None:
            return _Wrong(f"[{i}]{wrong.place}", wrong.text)
    return None


def _unique(check: _Check, value: Any, wanted: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_array(value) or wanted is not True:
        return None
    seen: set[Any] = set()
    for i, item in enumerate(value):
        if (identity := _identity(item)) in seen:
            return _Wrong(f"[{i}]", f"{_shown(item)} is there twice")
        seen.add(identity)
    return None


# Bounds


def _bound(measure: Callable[[Any], Any], breaks: Callable[[Any, Any], bool], words: str, whole: bool = True) -> _Keyword:
    def check(check: _Check, value: Any, limit: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
        if not _is_number(limit) or (whole and not _is_integer(limit)):
            return None
        size = measure(value)
        if size is None or not breaks(size, limit):
            return None
        return _Wrong("", f"expected {words.format(_shown(limit))}, got {_shown(value) if size is value else _shown(size)}")

    return check


def _number(value: Any) -> Any:
    return value if _is_number(value) else None


def _length(value: Any) -> Any:
    return len(value) if isinstance(value, str) else None


def _count(value: Any) -> Any:
    return len(value) if _is_array(value) else None


def _fields(value: Any) -> Any:
    return len(value) if _is_object(value) else None


def _is_no_multiple(value: Any, step: Any) -> bool:
    """By their decimal digits: 0.3 is a multiple of 0.1."""
    if step <= 0 or not math.isfinite(step) or not math.isfinite(value):
        return False
    return bool(value % step) if isinstance(value, int) and isinstance(step, int) else bool(Fraction(repr(value)) % Fraction(repr(step)))


def _pattern(check: _Check, value: Any, pattern: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not isinstance(value, str) or search(pattern, value) is not False:
        return None
    return _Wrong("", f"expected text that matches {_shorten(str(pattern), 200)}, got {_shown(value)}")


# Schemas of schemas


def _all_of(check: _Check, value: Any, schemas: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    found = (check.apply(value, inner, depth) for inner in schemas) if _is_array(schemas) else ()
    return next((wrong for wrong in found if wrong is not None), None)


def _any_of(check: _Check, value: Any, schemas: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_array(schemas) or not schemas:
        return None
    wrongs: list[_Wrong] = []
    for inner in schemas:
        if (wrong := check.apply(value, inner, depth)) is None:
            return None
        wrongs.append(wrong)
    # An alternative that fails further down is the one that was meant.
    deeper = [wrong for wrong in wrongs if wrong.place]
    if len(deeper) == 1 or len(wrongs) == 1:
        return (deeper or wrongs)[0]
    texts = dict.fromkeys(f"{wrong.place.removeprefix('.')}: {wrong.text}" if wrong.place else wrong.text for wrong in wrongs)
    return _Wrong("", _shorten("none of the alternatives fits: " + "; or ".join(texts), 600))


def _one_of(check: _Check, value: Any, schemas: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    if not _is_array(schemas) or not schemas:
        return None
    fitting = sum(check.fits(value, inner, depth) for inner in schemas)
    if fitting > 1:
        return _Wrong("", f"{fitting} of the alternatives fit {_shown(value)}, expected exactly one")
    return None if fitting else _any_of(check, value, schemas, schema, depth)


def _not(check: _Check, value: Any, inner: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    is_schema = isinstance(inner, bool) or _is_object(inner)
    return _Wrong("", f"{_shown(value)} is what may not be here") if is_schema and check.fits(value, inner, depth) else None


def _reference(check: _Check, value: Any, reference: Any, schema: Mapping[str, Any], depth: int) -> _Wrong | None:
    """A JSON pointer into the root; one that leads nowhere says nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = check.root
    for step in reference.removeprefix("#").removeprefix("/").split("/") if reference != "#" else ():
        name = step.replace("~1", "/").replace("~0", "~")
        if _is_object(found) and name in found:
            found = found[name]
        elif _is_array(found) and name.isdecimal() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            return None
    return check.apply(value, found, depth)


_KEYWORDS: Final[tuple[tuple[str, _Keyword], ...]] = (
    ("$ref", _reference),
    ("type", _type),
    ("const", _const),
    ("enum", _enum),
    ("required", _required),
    ("properties", _properties),
    ("patternProperties", _pattern_properties),
    ("additionalProperties", _additional),
    ("propertyNames", _property_names),
    ("minProperties", _bound(_fields, lambda size, limit: size < limit, "at least {} fields")),
    ("maxProperties", _bound(_fields, lambda size, limit: size > limit, "at most {} fields")),
    ("minItems", _bound(_count, lambda size, limit: size < limit, "at least {} items")),
    ("maxItems", _bound(_count, lambda size, limit: size > limit, "at most {} items")),
    ("prefixItems", _prefix_items),
    ("items", _items),
    ("uniqueItems", _unique),
    ("minimum", _bound(_number, lambda size, limit: size < limit, "at least {}", whole=False)),
    ("maximum", _bound(_number, lambda size, limit: size > limit, "at most {}", whole=False)),
    ("exclusiveMinimum", _bound(_number, lambda size, limit: size <= limit, "more than {}", whole=False)),
    ("exclusiveMaximum", _bound(_number, lambda size, limit: size >= limit, "less than {}", whole=False)),
    ("multipleOf", _bound(_number, _is_no_multiple, "a multiple of {}", whole=False)),
    ("minLength", _bound(_length, lambda size, limit: size < limit, "at least {} characters")),
    ("maxLength", _bound(_length, lambda size, limit: size > limit, "at most {} characters")),
    ("pattern", _pattern),
    ("allOf", _all_of),
    ("anyOf", _any_of),
    ("oneOf", _one_of),
    ("not", _not),
)
"""In this order: what a model can best mend comes first."""


def _identity(value: Any) -> Any:
    """Equal for equal JSON: 1 is 1.0, but True is not 1, and the order of fields says nothing."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return type(value), value
    if _is_object(value):
        return "object", frozenset((name, _identity(item)) for name, item in value.items())
    if _is_array(value):
        return "array", tuple(map(_identity, value))
    return value if _is_number(value) else (type(value), id(value))


def _shown(value: Any) -> str:
    try:
        return _shorten(msgspec.json.encode(value).decode(), _SHOWN)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return _shorten(cast("type[Any]", type(value)).__name__, _SHOWN)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
