"""Freezing of payloads: what users and providers supply becomes JSON types when a value is made, or is refused with its path."""

from collections.abc import Mapping
from typing import Any

from allm.arrays import with_items
from allm.errors import ValidationError
from allm.plain import FrozenDict, Json, NotJson, frozen

__all__ = ["freeze", "freeze_dict", "frozen_schema"]


def freeze(value: Any, path: str = "value", depth: int = 0) -> Json:
    """`value` as JSON types: tuples for lists, dicts with string keys. `depth` counts from there to the limit of nesting.

    Raises ValidationError that names the path of whatever is not JSON: a live object, NaN, a lone surrogate, an integer beyond
    64 bits (JSON readers disagree on these), or nesting deeper than MAX_DEPTH.
    """
    try:
        return frozen(value, depth)
    except NotJson as refused:
        raise ValidationError.at(path + "".join(reversed(refused.path)), refused.problem) from None


def freeze_dict(value: Any, path: str, depth: int = 0) -> dict[str, Json]:
    """`freeze` for a payload that must be an object."""
    if not isinstance(value, Mapping):
        raise ValidationError.at(path, f"expected an object, got {type(value).__name__}")
    return freeze(value, path, depth) if value else {}


def frozen_schema(value: Any, path: str) -> dict[str, Json]:
    """`freeze_dict` for a JSON Schema, whose arrays say then what their items are. One that belongs to a value was looked through."""
    found: dict[str, Json] = freeze_dict(value, path) if type(value) is FrozenDict else with_items(freeze_dict(value, path))
    return found
