"""A tool's schema as the vendors take it: an object that says so, without alternatives or a reference at its top.

OpenAI refuses `anyOf`, `oneOf`, `allOf`, `enum` and `not` there, Anthropic the first three. What they say is checked here all the same,
when the model calls: the model is told of the properties, and that is all it needs.
"""

from typing import Any, Final, cast

from allm.wire_json import is_object

__all__ = ["plain_object"]

_BRANCHES: Final = ("allOf", "anyOf", "oneOf")
_REFUSED: Final = frozenset({*_BRANCHES, "enum", "not"})
_DEEPEST: Final = 16
"""Schemas within one another that are looked into."""


def plain_object(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as an object, with the properties of its branches and of what it refers to in place of these; itself where it is one."""
    if schema.get("type") == "object" and "$ref" not in schema and _REFUSED.isdisjoint(schema):
        return schema
    return {**_flat(_resolved(schema, schema), schema, _DEEPEST), "type": "object"}


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that this one refers to, over any others, with what it says itself."""
    for _ in range(_DEEPEST):
        if "$ref" not in schema:
            break
        schema = _target(schema, root)
    return {key: value for key, value in schema.items() if key != "$ref"}


def _flat(schema: dict[str, Any], root: dict[str, Any], depth: int) -> dict[str, Any]:
    properties: dict[str, Any] = dict(_object(schema.get("properties")))
    required: list[Any] = list(schema.get("required") or ())
    for key in _BRANCHES:
        for branch in _items(schema.get(key)) if depth else ():
            flat = _flat(_resolved(_object(branch), root), root, depth - 1)
            if key == "allOf":
                required += [name for name in flat.get("required", ()) if name not in required]
            for name, inner in _object(flat.get("properties")).items():
                known = properties.setdefault(name, inner)
                if known != inner:
                    properties[name] = {"anyOf": [known, inner]}
    kept = {key: value for key, value in schema.items() if key not in _REFUSED}
    if properties or "properties" in schema:
        kept["properties"] = properties
    if required:
        kept["required"] = required
    return kept


def _target(branch: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """What a branch refers to, in the schema's own definitions."""
    ref = branch.get("$ref")
    if not isinstance(ref, str):
        return branch
    _, _, where = ref.partition("#/")
    found: Any = root
    for step in where.split("/"):
        found = _object(found).get(step)
    return {**_object(found), **{key: value for key, value in branch.items() if key != "$ref"}}


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(cast("list[Any]", value)) if isinstance(value, list | tuple) else ()


def _object(value: Any) -> dict[str, Any]:
    return value if is_object(value) else {}
