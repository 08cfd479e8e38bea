"""Array schemas say what their items are: `{"type": "array"}` alone is refused by OpenAI's wires and by Gemini's."""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from allm.plain import FrozenDict, FrozenList

__all__ = ["with_items"]

_ONE: Final = frozenset({
    "items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "propertyNames",
    "contains", "not", "if", "then", "else",
})  # fmt: skip
_LISTED: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})


def with_items(schema: Any) -> Any:
    """The schema with `"items": {}` (anything) in each array that has none; itself where nothing is lacking."""
    if not isinstance(schema, Mapping):
        return schema
    given = cast("Mapping[str, Any]", schema)
    found = {name: _keyword(name, value) for name, value in given.items()}
    kind = given.get("type")
    lacking = (kind == "array" or (isinstance(kind, list | tuple) and "array" in kind)) and "items" not in given
    if not lacking and all(found[name] is given[name] for name in found):
        return given
    return FrozenDict({**found, "items": FrozenDict()} if lacking else found)


def _keyword(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if name in _ONE:
            return with_items(value)
        named = cast("Mapping[str, Any]", value)
        return _same(value, {key: with_items(inner) for key, inner in named.items()}, FrozenDict) if name in _NAMED else named
    if isinstance(value, list | tuple) and name in _LISTED:
        listed = cast("list[Any]", value)
        return _same(listed, dict(enumerate(map(with_items, listed))), lambda found: FrozenList(found.values()))
    return cast("Any", value)


def _same(given: Any, found: dict[Any, Any], make: Callable[[Any], Any]) -> Any:
    """What was given if nothing in it has changed."""
    return given if all(found[key] is given[key] for key in found) else make(found)
