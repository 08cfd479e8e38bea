"""What of a JSON Schema is checked: schemas come from strangers, too (MCP servers, stored engines).

Kept are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `patternProperties`, `propertyNames`,
`dependentRequired`, `minProperties`, `maxProperties`, `items`, `prefixItems`, `contains`, `minItems`, `maxItems`, `uniqueItems`, the
bounds of numbers, `multipleOf`, `minLength`, `maxLength`, `pattern`, `anyOf`, `oneOf`, `allOf`, `not`, `if`, `then`, `else`, and
`$ref` into the same schema. Other keywords, formats, keywords that are malformed, references that lead nowhere and patterns that the
linear matcher does not take (look-arounds, back-references, programs over 64 KiB) say nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from allm.schema_costs import Costs, pattern_units

__all__ = ["Terms", "TooMuch", "terms_of"]

_DEPTH: Final = 128
"""Levels of schemas inside schemas."""

_NODES: Final = 100_000
"""Schemas inside one schema."""

_KINDS: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})


class TooMuch(Exception):
    """The schema is too deep, or too large."""


class Terms(NamedTuple):
    """A schema as it is checked. `weight` is units for each node of a value, `patterns` is units for each byte
    of its texts. `branches`:
    in how many ways a recursive schema comes back to itself. `alternatives`: whether there are any, so that an error has many reasons."""

    schema: Any
    weight: float
    patterns: float
    branches: float
    alternatives: bool


def terms_of(schema: Any) -> Terms:
    """The schema cleaned, and what it costs. Raises TooMuch."""
    cleaner = _Cleaner(schema)
    try:
        cleaned = cleaner.schema(schema, 0)
        definitions: dict[str, Any] = {}
        while cleaner.waiting:
            name, found = cleaner.waiting.popitem()
            definitions[name] = cleaner.schema(found, 0)
        costs = Costs(definitions)
        total = costs.of(cleaned)
        branches = 0.0
        for name in costs.recursive:
            again = costs.known(name)
            total, branches = total.plus(again), max(branches, again.branches)
    except RecursionError:
        raise TooMuch from None
    whole: Any = {**cast("dict[str, Any]", cleaned), "$defs": definitions} if definitions and isinstance(cleaned, dict) else cleaned
    return Terms(whole, total.weight, total.patterns, branches, cleaner.alternatives)


# Cleaning


class _Cleaner:
    """One pass over a schema. References become ones to `$defs`, as names in the order in which they were met."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._names: dict[str, str] = {}
        self._left = _NODES
        self.waiting: dict[str, Any] = {}
        self.alternatives = False

    def schema(self, given: Any, depth: int) -> Any:
        self._left -= 1
        if depth > _DEPTH or self._left < 0:
            raise TooMuch
        if isinstance(given, bool):
            return given
        if not isinstance(given, Mapping):
            return True
        terms = cast("Mapping[Any, Any]", given)
        made: dict[str, Any] = {}
        for word, value in terms.items():
            clean = _WORDS.get(word) if isinstance(word, str) else None
            if clean is not None and ((kept := clean(self, value, depth + 1)) is not None or word == "const"):
                made[word] = kept
        if isinstance(terms.get("items"), list | tuple):  # as drafts before 2020-12 have it
            made["prefixItems"] = [self.schema(item, depth + 1) for item in terms["items"]] or [True]
            made.pop("items", None)
        if "patternProperties" in made and len(made["patternProperties"]) < len(terms["patternProperties"]):
            made.pop("additionalProperties", None)  # which fields these are, the patterns that are not looked at would say
        self.alternatives = self.alternatives or "anyOf" in made or "oneOf" in made
        return made

    def many(self, given: Any, depth: int) -> Any:
        """A list of schemas."""
        return [self.schema(item, depth) for item in cast("list[Any]", given)] if isinstance(given, list | tuple) and given else None

    def named(self, given: Any, depth: int) -> Any:
        """Schemas by names."""
        if not isinstance(given, Mapping):
            return None
        return {name: self.schema(item, depth) for name, item in cast("Mapping[Any, Any]", given).items() if isinstance(name, str)}

    def patterned(self, given: Any, depth: int) -> Any:
        """Schemas by patterns."""
        named = self.named(given, depth)
        return None if named is None else {pattern: item for pattern, item in named.items() if pattern_units(pattern) is not None}

    def one(self, given: Any, depth: int) -> Any:
        """A schema."""
        return self.schema(given, depth) if isinstance(given, bool | Mapping) else None

    def reference(self, given: Any, _: int) -> Any:
        """A JSON pointer into the root."""
        if not isinstance(given, str) or not given.startswith("#"):
            return None
        if given not in self._names:
            found = _pointed(self._root, given)
            if not isinstance(found, bool | Mapping):
                return None
            name = self._names[given] = str(len(self._names))
            self.waiting[name] = found
        return f"#/$defs/{self._names[given]}"


def _pointed(root: Any, reference: str) -> Any:
    found = root
    for step in reference.removeprefix("#").removeprefix("/").split("/") if reference != "#" else ():
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = cast("Mapping[str, Any]", found)[name]
        elif isinstance(found, list | tuple) and name.isdecimal() and int(name[:9]) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(name[:9])]
        else:
            return None
    return found


def _kinds(_: _Cleaner, given: Any, __: int) -> Any:
    names: list[Any] = [given] if isinstance(given, str) else list(cast("list[Any]", given)) if isinstance(given, list | tuple) else []
    if not names or any(not isinstance(name, str) or name not in _KINDS for name in names):
        return None
    return names[0] if len(names) == 1 else list(dict.fromkeys(names))


def _texts(_: _Cleaner, given: Any, __: int) -> Any:
    if not isinstance(given, list | tuple):
        return None
    return list(dict.fromkeys(item for item in cast("list[Any]", given) if isinstance(item, str)))


def _dependent(cleaner: _Cleaner, given: Any, depth: int) -> Any:
    if not isinstance(given, Mapping):
        return None
    names = cast("Mapping[Any, Any]", given).items()
    return {name: texts for name, item in names if isinstance(name, str) and (texts := _texts(cleaner, item, depth)) is not None}


def _values(_: _Cleaner, given: Any, __: int) -> Any:
    if not isinstance(given, list | tuple):
        return None
    return _plain(cast("list[Any]", given), 0)


def _constant(_: _Cleaner, given: Any, __: int) -> Any:
    return _plain(given, 0)


def _plain(value: Any, depth: int) -> Any:
    """JSON in the types that the validator takes. Raises TooMuch."""
    if depth > _DEPTH:
        raise TooMuch
    if isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in cast("list[Any]", value)]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _size(_: _Cleaner, given: Any, __: int) -> Any:
    fits = _is_number(given) and given >= 0 and (isinstance(given, int) or given.is_integer())
    return int(given) if fits else None


def _bound(_: _Cleaner, given: Any, __: int) -> Any:
    return given if _is_number(given) else None


def _step(_: _Cleaner, given: Any, __: int) -> Any:
    return given if _is_number(given) and given > 0 else None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e300 < value < 1e300


def _flag(_: _Cleaner, given: Any, __: int) -> Any:
    return True if given is True else None


def _pattern(_: _Cleaner, given: Any, __: int) -> Any:
    return given if isinstance(given, str) and pattern_units(given) is not None else None


_WORDS: Final[dict[str, Callable[[_Cleaner, Any, int], Any]]] = {
    "$ref": _Cleaner.reference, "type": _kinds, "enum": _values, "const": _constant, "required": _texts, "dependentRequired": _dependent,
    "properties": _Cleaner.named, "patternProperties": _Cleaner.patterned, "additionalProperties": _Cleaner.one,
    "propertyNames": _Cleaner.one, "minProperties": _size, "maxProperties": _size, "prefixItems": _Cleaner.many, "items": _Cleaner.one,
    "contains": _Cleaner.one, "minItems": _size, "maxItems": _size, "uniqueItems": _flag, "minimum": _bound, "maximum": _bound,
    "exclusiveMinimum": _bound, "exclusiveMaximum": _bound, "multipleOf": _step, "minLength": _size, "maxLength": _size,
    "pattern": _pattern, "anyOf": _Cleaner.many, "oneOf": _Cleaner.many, "allOf": _Cleaner.many, "not": _Cleaner.one,
    "if": _Cleaner.one, "then": _Cleaner.one, "else": _Cleaner.one,
}  # fmt: skip
"""The keywords, each with what makes of its value one that the validator takes; None: it says nothing (but a `const` may be null)."""
