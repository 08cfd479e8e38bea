"""JSON Schema, as far as tools and structured output use it: what does not fit, in words that a model can use.

The check itself is jsonschema-rs' (docs/decisions/0005), of the terms that `schema_terms` keeps. Whatever schema and value are, nothing
is raised, and no more than a bounded amount of work is done: what would cost more is told as too large to be checked.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from allm.hints import schema_of, thaw
from allm.schema_costs import linear
from allm.schema_terms import Terms, TooMuch, terms_of
from allm.schema_words import words

__all__ = ["Checker", "checker", "known_checker", "problem", "schema_of"]

_BUDGET: Final = 10_000_000
"""Units of work (30 ns) that one check may take: about 0.3 s, in which no other thread runs."""

_WORDS: Final = 20_000
"""Units up to which all errors are looked for: each that is found costs some 20 us."""

_TOLD: Final = 5
"""Errors that are told at once."""

_KEPT: Final = 512

TOO_MUCH: Final = "nested too deeply, or too large, to be checked"
UNFIT: Final = "it does not fit the schema"


def problem(value: Any, schema: Any) -> str | None:
    """What in `value` (JSON) does not fit the schema, as `days: expected integer, got "three"`; None if it fits."""
    return checker(schema).problem(value)


class Checker:
    """A schema made ready for checks. Any thread."""

    __slots__ = ("_schema", "_terms", "_validator")

    def __init__(self, schema: Any) -> None:
        self._terms: Terms | None = None
        self._validator: Any = None
        try:
            self._terms = terms_of(schema)
            self._validator = _validator(self._terms.schema)
        except TooMuch:
            pass

    def cost(self, size: int) -> float:
        """Units that a value of `size` bytes of JSON costs at most."""
        terms = self._terms
        return _BUDGET + 1 if terms is None else terms.weight * size / 2 + terms.patterns * size

    def problem(self, value: Any) -> str | None:
        """What does not fit; several things one behind the other."""
        try:
            data = _encoded(value)
            plain = msgspec.json.decode(data)
        except RecursionError:
            return TOO_MUCH
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
            return "it is no JSON"
        terms, validator = self._terms, self._validator
        if terms is None or validator is None:
            return TOO_MUCH
        try:
            if self.cost(len(data)) > _BUDGET and terms.weight * _nodes(plain) + terms.patterns * len(data) > _BUDGET:
                return TOO_MUCH
            return None if validator.is_valid(plain) else self._told(plain)
        except Exception:  # a limit of the validator's: of recursion, of what is JSON
            return TOO_MUCH

    def _told(self, plain: Any) -> str:
        """What does not fit in a value that is known not to fit. The validator remembers nothing while it looks for errors."""
        terms = cast(Terms, self._terms)
        if terms.weight * _nodes(plain, max(terms.branches, 1.0)) <= _WORDS:
            errors = list(self._validator.iter_errors(plain))
        elif not terms.alternatives:
            errors = [self._first(plain)]
        else:
            return UNFIT
        told = words(errors, plain, terms.schema)
        more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        return "; ".join(told[:_TOLD]) + more if told else UNFIT

    def _first(self, plain: Any) -> Any:
        from jsonschema_rs import ValidationError

        try:
            self._validator.validate(plain)
        except ValidationError as error:
            return error
        raise AssertionError("a value that does not fit, fits")


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except TypeError:  # mappings of other kinds, as those who call `bind` themselves may give
        return msgspec.json.encode(thaw(value))


def _validator(schema: Any) -> Any:
    from jsonschema_rs import Draft202012Validator  # 20 ms, at the first schema

    try:
        return Draft202012Validator(schema, validate_formats=False, offline=True, pattern_options=linear())
    except Exception:  # of the library's own kinds: nested beyond its limit
        raise TooMuch from None


def _nodes(value: Any, ways: float = 1.0) -> float:
    """How many values a value has, itself included. With `ways`: how often they are looked at where each level has so many ways to the
    next one."""
    count, factor, level = 0.0, 1.0, [value]
    while level:
        count += len(level) * factor
        factor = min(factor * ways, 1e12)
        level = [item for found in level for item in _inside(found)]
    return count


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


# Kept, as a schema is checked against at each call of its tool

_checkers: dict[int, tuple[Any, Checker]] = {}
"""By the identity of the schema, which is kept with it: one that is not the same any more is never taken for it."""


def checker(schema: Any) -> Checker:
    """The checker of this schema, made at the first time. Schemas are not changed once they are in use."""
    found = known_checker(schema)
    if found is None:
        found = Checker(schema)
        if isinstance(schema, Mapping):
            _checkers[id(cast("Any", schema))] = (schema, found)
            while len(_checkers) > _KEPT:
                _checkers.pop(next(iter(_checkers)), None)
    return found


def known_checker(schema: Any) -> Checker | None:
    """The checker of this schema, if it was made already."""
    kept = _checkers.get(id(schema))
    return kept[1] if kept is not None and kept[0] is schema else None
