"""What msgspec leaves out of the schemas of its types: the formats of dates and times, and that a decimal may come as a number."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

__all__ = ["add_formats"]

Schema = dict[str, Any]


def add_formats(hints: Iterable[Any], schemas: Iterable[Schema], components: Mapping[str, Schema]) -> None:
    """Complete the schemas of these types in place, and the definitions that they refer to, by walking types and schemas side by side."""
    walk = _Walk(components)
    for hint, schema in zip(hints, schemas, strict=True):
        try:
            walk.type(inspect.type_info(hint), schema)
        except (TypeError, msgspec.MsgspecError):  # what cannot be looked into keeps its schema
            continue


class _Walk:
    def __init__(self, components: Mapping[str, Schema]) -> None:
        self._components = components
        self._seen: set[str] = set()

    def type(self, info: Any, schema: Any) -> None:
        """One type and its schema."""
        match info:
            case inspect.Metadata():
                self.type(info.type, schema)
            case inspect.UnionType():
                self._union(info.types, schema)
            case inspect.DateTimeType():
                schema.setdefault("format", "date-time")
            case inspect.TimeType():
                schema.setdefault("format", "time")
            case inspect.DecimalType():
                _decimal(schema)
            case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType() | inspect.CollectionType():
                if isinstance(items := schema.get("items"), dict):
                    self.type(info.item_type, items)
            case inspect.TupleType():
                for each, item in zip(info.item_types, schema.get("prefixItems", ()), strict=False):
                    self.type(each, item)
            case inspect.DictType():
                if isinstance(values := schema.get("additionalProperties"), dict):
                    self.type(info.value_type, values)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
                self._fields(info.fields, schema)
            case _:
                pass

    def _union(self, types: Iterable[Any], schema: Schema) -> None:
        """At most one of the members of a union is text in JSON, and one is an array, so that the schema tells which is which."""
        members: list[Schema] = schema.get("anyOf", [])
        for info in types:
            plain = info.type if isinstance(info, inspect.Metadata) else info
            for member in [each for each in members if _may_be(plain, each)]:
                self.type(info, member)
        flat: list[Schema] = [inner for member in members for inner in (member["anyOf"] if set(member) == {"anyOf"} else [member])]
        if flat:
            schema["anyOf"] = [member for i, member in enumerate(flat) if member not in flat[:i]]

    def _fields(self, fields: Iterable[Any], schema: Schema) -> None:
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        target = self._components.get(name, {}) if name else schema
        if name in self._seen:
            return
        self._seen.add(name)
        properties = target.get("properties", {})
        for field in fields:
            if isinstance(inner := properties.get(field.encode_name), dict):
                self.type(field.type, inner)


def _may_be(info: Any, schema: Schema) -> bool:
    """Whether this member of a union's schema is that of the type."""
    if isinstance(info, inspect.DateTimeType | inspect.TimeType | inspect.DecimalType):
        return schema.get("type") == "string"
    if isinstance(info, inspect.DictType):
        return schema.get("type") == "object"
    if isinstance(info, inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType):
        return str(schema.get("$ref", "")).endswith(f"/{info.cls.__name__}")
    return schema.get("type") == "array"


def _decimal(schema: Schema) -> None:
    if schema.get("type") == "string":
        del schema["type"]
        text = {"type": "string", **({"format": schema.pop("format")} if "format" in schema else {})}
        schema["anyOf"] = [{"type": "number"}, text]
