"""What of a JSON Schema is checked, and what a check may cost: schemas come from strangers, too (MCP servers, stored engines).

Kept are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `patternProperties`, `propertyNames`,
`dependentRequired`, `minProperties`, `maxProperties`, `items`, `prefixItems`, `contains`, `minItems`, `maxItems`, `uniqueItems`, the
bounds of numbers, `multipleOf`, `minLength`, `maxLength`, `pattern`, `anyOf`, `oneOf`, `allOf`, `not`, `if`, `then`, `else`, and
`$ref` into the same schema. Other keywords, formats, keywords that are malformed, references that lead nowhere and patterns that the
linear matcher does not take (look-arounds, back-references, programs over 64 KiB) say nothing.

The validator holds the interpreter while it works, so that its work is estimated before: a *weight* is what a schema may cost for each
node of a value, alternatives summed, in units of about 30 ns (measured with jsonschema-rs 0.61). Recursive references are remembered
by the validator for each node, and so counted once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

__all__ = ["Terms", "TooMuch", "terms_of"]

_DEPTH: Final = 128
"""Levels of schemas inside schemas."""

_NODES: Final = 100_000
"""Schemas inside one schema."""

_FRACTION: Final = 100
"""Units of a comparison with a number that is no integer: it is made with exact fractions."""

_MULTIPLE: Final = 1_000
"""And of a division by one."""

_LONGEST_PATTERN: Final = 10_000

_PROGRAMS: Final = ((1 << 11, 0.5), (1 << 12, 2.0), (1 << 13, 60.0), (1 << 14, 120.0), (1 << 15, 240.0), (1 << 16, 480.0))
"""(bytes of a pattern's program, units for each byte of a text)."""

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
        costs = _Costs(definitions)
        total = costs.of(cleaned)
        branches = 0.0
        for name in costs.recursive:
            again = costs.known(name)
            total, branches = total.plus(again), max(branches, again.branches)
    except RecursionError:
        raise TooMuch from None
    whole: Any = {**cast("dict[str, Any]", cleaned), "$defs": definitions} if definitions and isinstance(cleaned, dict) else cleaned
    return Terms(whole, total.weight, total.patterns, branches, cleaner.alternatives)


@functools.lru_cache(maxsize=1024)
def _pattern_units(pattern: str) -> float | None:
    """Units for each byte of a text that the pattern looks at, by the size of its program; None: the linear matcher does not take it.

    Up to 4 KiB 2 to 6 ns were measured, of programs made to be slow; beyond that (`^[ab]*a[ab]{500}[ab]*x$`) up to 8 us.
    """
    from jsonschema_rs import Draft202012Validator

    if len(pattern) > _LONGEST_PATTERN:
        return None
    for size, units in _PROGRAMS:
        try:
            Draft202012Validator({"pattern": pattern}, pattern_options=linear(size))
        except Exception:  # of the library's own kinds; whatever it is, the program is larger, or there is none
            continue
        return units
    return None


def linear(size: int = 1 << 16) -> Any:
    """The options of the matcher: its programs have at most `size` bytes, and it never backtracks."""
    from jsonschema_rs import RegexOptions

    return RegexOptions(size_limit=size, dfa_size_limit=1 << 20)


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
            if clean is not None and (kept := clean(self, value, depth + 1)) is not None:
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
        return None if named is None else {pattern: item for pattern, item in named.items() if _pattern_units(pattern) is not None}

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
    return given if isinstance(given, str) and _pattern_units(given) is not None else None


_WORDS: Final[dict[str, Callable[[_Cleaner, Any, int], Any]]] = {
    "$ref": _Cleaner.reference, "type": _kinds, "enum": _values, "const": _constant, "required": _texts, "dependentRequired": _dependent,
    "properties": _Cleaner.named, "patternProperties": _Cleaner.patterned, "additionalProperties": _Cleaner.one,
    "propertyNames": _Cleaner.one, "minProperties": _size, "maxProperties": _size, "prefixItems": _Cleaner.many, "items": _Cleaner.one,
    "contains": _Cleaner.one, "minItems": _size, "maxItems": _size, "uniqueItems": _flag, "minimum": _bound, "maximum": _bound,
    "exclusiveMinimum": _bound, "exclusiveMaximum": _bound, "multipleOf": _step, "minLength": _size, "maxLength": _size,
    "pattern": _pattern, "anyOf": _Cleaner.many, "oneOf": _Cleaner.many, "allOf": _Cleaner.many, "not": _Cleaner.one,
    "if": _Cleaner.one, "then": _Cleaner.one, "else": _Cleaner.one,
}  # fmt: skip
"""The keywords, each with what makes of its value one that the validator takes; None: it says nothing."""


# Costs


class _Cost(NamedTuple):
    weight: float = 0.0
    patterns: float = 0.0
    branches: float = 0.0

    def plus(self, other: "_Cost") -> "_Cost":
        return _Cost(self.weight + other.weight, self.patterns + other.patterns, self.branches + other.branches)

    def at_least(self, other: "_Cost") -> "_Cost":
        return _Cost(max(self.weight, other.weight), max(self.patterns, other.patterns), max(self.branches, other.branches))


class _Costs:
    """The costs of cleaned schemas. Fields of different names, and items at different places, are different nodes: the dearest counts."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._known: dict[str, _Cost | None] = {}  # None: it is being worked out
        self.recursive: set[str] = set()

    def of(self, schema: Any) -> _Cost:
        if not isinstance(schema, dict):
            return _Cost(1)
        terms = cast("dict[str, Any]", schema)
        total = _Cost(1 + _own_weight(terms), _units(terms["pattern"]) if "pattern" in terms else 0)
        for word in ("anyOf", "oneOf", "allOf"):
            for inner in terms.get(word, ()):
                total = total.plus(self.of(inner))
        for word in ("not", "if", "then", "else", "propertyNames", "additionalProperties", "contains"):
            if word in terms:
                total = total.plus(self.of(terms[word]))
        for pattern, inner in terms.get("patternProperties", {}).items():
            total = total.plus(self.of(inner)).plus(_Cost(0, _units(pattern)))
        total = total.plus(self._dearest(terms.get("properties", {}).values()))
        total = total.plus(self._dearest([*terms.get("prefixItems", ()), *([terms["items"]] if "items" in terms else ())]))
        return total.plus(self._referred(terms["$ref"])) if "$ref" in terms else total

    def known(self, name: str) -> _Cost:
        """The cost of a definition that was met; where it comes back to itself, that counts once."""
        return self._known[name] or _Cost()

    def _dearest(self, schemas: Any) -> _Cost:
        found = _Cost()
        for schema in schemas:
            found = found.at_least(self.of(schema))
        return found

    def _referred(self, reference: str) -> _Cost:
        name = reference.removeprefix("#/$defs/")
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.of(self._definitions[name])
        known = self._known[name]
        if known is None:
            self.recursive.add(name)
            return _Cost(1, 0, 1)
        return known


def _units(pattern: str) -> float:
    return _pattern_units(pattern) or 0


def _own_weight(terms: Mapping[str, Any]) -> float:
    """Units of what is said of the node itself. A text is looked up in an `enum` at once, anything else compared one by one."""
    weight = (len(terms.get("required", ())) + len(terms.get("dependentRequired", ()))) * 0.5
    for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        weight += _FRACTION * isinstance(terms.get(word), float)
    weight += _MULTIPLE * isinstance(terms.get("multipleOf"), float)
    weight += sum(_compared(item) for item in terms.get("enum", ()) if not isinstance(item, str))
    weight += _compared(terms["const"]) if "const" in terms else 0
    return weight + 10 * ("uniqueItems" in terms)


def _compared(value: Any) -> float:
    if isinstance(value, dict):
        return 2 + sum(_compared(item) for item in cast("dict[str, Any]", value).values())
    if isinstance(value, list):
        return 2 + sum(_compared(item) for item in cast("list[Any]", value))
    return _FRACTION if isinstance(value, float) else 2
