"""What a check by a schema may cost at most, worked out before it is made: the validator holds the interpreter while it works.

A *weight* is what a schema may cost for each node of a value, alternatives summed, in units of about 30 ns (measured with jsonschema-rs
0.61). Recursive references are remembered by the validator for each node, and so counted once.
"""

import functools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

__all__ = ["Cost", "Costs", "linear", "pattern_units"]

_FRACTION: Final = 100
"""Units of a comparison with a number that is no integer: it is made with exact fractions."""

_MULTIPLE: Final = 1_000
"""And of a division by one."""

_LONGEST_PATTERN: Final = 10_000

_PROGRAMS: Final = ((1 << 11, 0.5), (1 << 12, 2.0), (1 << 13, 60.0), (1 << 14, 120.0), (1 << 15, 240.0), (1 << 16, 480.0))
"""(bytes of a pattern's program, units for each byte of a text)."""


class Cost(NamedTuple):
    weight: float = 0.0
    patterns: float = 0.0
    branches: float = 0.0

    def plus(self, other: "Cost") -> "Cost":
        return Cost(self.weight + other.weight, self.patterns + other.patterns, self.branches + other.branches)

    def at_least(self, other: "Cost") -> "Cost":
        return Cost(max(self.weight, other.weight), max(self.patterns, other.patterns), max(self.branches, other.branches))


class Costs:
    """The costs of cleaned schemas. Fields of different names, and items at different places, are different nodes: the dearest counts."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._known: dict[str, Cost | None] = {}  # None: it is being worked out
        self.recursive: set[str] = set()

    def of(self, schema: Any) -> Cost:
        if not isinstance(schema, dict):
            return Cost(1)
        terms = cast("dict[str, Any]", schema)
        total = Cost(1 + _own_weight(terms), _units(terms["pattern"]) if "pattern" in terms else 0)
        for word in ("anyOf", "oneOf", "allOf"):
            for inner in terms.get(word, ()):
                total = total.plus(self.of(inner))
        for word in ("not", "if", "then", "else", "propertyNames", "additionalProperties", "contains"):
            if word in terms:
                total = total.plus(self.of(terms[word]))
        for pattern, inner in terms.get("patternProperties", {}).items():
            total = total.plus(self.of(inner)).plus(Cost(0, _units(pattern)))
        total = total.plus(self._dearest(terms.get("properties", {}).values()))
        total = total.plus(self._dearest([*terms.get("prefixItems", ()), *([terms["items"]] if "items" in terms else ())]))
        return total.plus(self._referred(terms["$ref"])) if "$ref" in terms else total

    def known(self, name: str) -> Cost:
        """The cost of a definition that was met; where it comes back to itself, that counts once."""
        return self._known[name] or Cost()

    def _dearest(self, schemas: Any) -> Cost:
        found = Cost()
        for schema in schemas:
            found = found.at_least(self.of(schema))
        return found

    def _referred(self, reference: str) -> Cost:
        name = reference.removeprefix("#/$defs/")
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.of(self._definitions[name])
        known = self._known[name]
        if known is None:
            self.recursive.add(name)
            return Cost(1, 0, 1)
        return known


def _units(pattern: str) -> float:
    return pattern_units(pattern) or 0


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


# Patterns


@functools.lru_cache(maxsize=1024)
def pattern_units(pattern: str) -> float | None:
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
