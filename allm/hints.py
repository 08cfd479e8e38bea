"""Type hints as JSON Schema, and JSON as what the hints promise: whatever msgspec understands, and pydantic models if there are any."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Final, cast, get_args, get_origin
from weakref import WeakKeyDictionary

import msgspec

from allm.annotations import understood
from allm.arrays import with_items
from allm.errors import ValidationError
from allm.formats import add_formats

__all__ = ["convert", "describe", "said_of", "schema_of", "thaw"]

Schema = dict[str, Any]

_INLINED: Final = 2_000
"""Schemas that inlining may make; a graph of types that would grow beyond keeps its definitions."""

_schemas: "WeakKeyDictionary[type, Schema]" = WeakKeyDictionary()
"""Those of classes, as long as these live: a call that wants its answer as one asks for the schema each time (0.6 ms)."""

_PLACE: Final = re.compile(r"(?s)(.*) - at `\$(.*)`")


def schema_of(hint: Any) -> Schema:
    """The JSON Schema of a type: definitions inlined unless they are recursive, no unknown fields, no titles.

    Raises ValidationError for a type that has none.
    """
    known = _schemas.get(hint) if isinstance(hint, type) else None
    if known is None:
        schemas, definitions = describe({"type": hint})
        known = {**schemas["type"], **({"$defs": definitions} if definitions else {})}
        if isinstance(hint, type):
            _schemas[hint] = known
    return dict(known)


def describe(hints: Mapping[str, Any]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """(name -> schema, the definitions that they share) of several types. Raises ValidationError naming the one that has none."""
    models: dict[str, Schema] = {}

    def from_elsewhere(kind: Any) -> Schema:
        if kind is object:
            return {"title": "anything"}  # an empty one is taken for none; titles are dropped
        if _is_path(kind):
            return {"type": "string"}
        if not _is_model(kind):
            raise NotImplementedError
        return _model_schema(kind, models)

    for name, hint in hints.items():
        _check(name, hint)
    types = tuple(map(understood, hints.values()))
    try:
        schemas, components = msgspec.json.schema_components(types, schema_hook=from_elsewhere, ref_template="#/$defs/{name}")
    except (TypeError, NotImplementedError) as error:
        raise ValidationError.at(next(iter(hints), "type"), f"there is no JSON Schema for it: {error}") from None
    add_formats(types, schemas, components)
    return _Tidy({**components, **models}).all(dict(zip(hints, schemas, strict=True)))


def convert(value: Any, hint: Any, path: str) -> Any:
    """JSON as the type that `hint` names. Raises ValidationError, in words that a model can use, with the place below `path`."""
    plain = thaw(value)
    try:
        try:
            return msgspec.convert(plain, hint, dec_hook=_from_json)
        except msgspec.ValidationError:
            return msgspec.convert(_whole(plain), hint, dec_hook=_from_json)  # 3.0 is an integer in JSON Schema
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        problem, place = (found[1], found[2]) if found else (str(error), "")
        raise ValidationError.at(path + place, problem) from None
    except Exception as error:  # of a constructor or a validator of the user's
        raise ValidationError.at(path, f"{type(error).__name__}: {error}") from None


def thaw(value: Any) -> Any:
    """A copy of JSON that its owner may change: lists for tuples, plain dicts."""
    if isinstance(value, Mapping):
        return {name: thaw(item) for name, item in cast("Mapping[str, Any]", value).items()}
    return [thaw(item) for item in cast("list[Any]", value)] if isinstance(value, list | tuple) else value


def _check(name: str, hint: Any) -> None:
    """What msgspec cannot read back shall fail where the tool is declared, not when it is first called."""
    try:
        msgspec.json.Decoder(hint, dec_hook=_from_json)
    except Exception as error:  # TypeError, and NameError of a forward reference inside
        raise ValidationError.at(name, f"this type is not understood: {_plainly(error)}") from None


def _plainly(error: Exception) -> str:
    """What is wrong with a type, without the advice that msgspec has for its own users."""
    return str(error).partition(", please")[0].partition("\n")[0].partition(" - did you")[0]


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in cast("dict[str, Any]", value).items()}
    return [_whole(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def said_of(hint: Any) -> str:
    """What `Annotated` says of it in words: a plain string, or something with a `description`."""
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    texts = [note if isinstance(note, str) else getattr(note, "description", None) for note in notes]
    return next((text for text in texts if isinstance(text, str) and text), "")


# Pydantic models, by their methods: the library need not be there


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and all(callable(getattr(kind, name, None)) for name in ("model_json_schema", "model_validate"))


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, PurePath)


def _model_schema(model: Any, models: dict[str, Schema]) -> Schema:
    """Its schema; the definitions are moved to `models`, under names that nobody else has."""
    prefix = f"{model.__name__}{len(models)}_"
    schema: Schema = dict(model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}"))
    models.update({prefix + name: definition for name, definition in schema.pop("$defs", {}).items()})
    return schema


def _from_json(kind: Any, value: Any) -> Any:
    if kind is object:
        return value
    if _is_path(kind) and isinstance(value, str):
        return kind(value)
    if not _is_model(kind):
        raise NotImplementedError(f"{kind!r} cannot be made from JSON")
    try:
        return kind.model_validate(value)
    except ValueError as error:
        problems: Any = getattr(error, "errors", None)
        if problems is None:
            raise
        first = problems()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


# Tidying: what every provider accepts


_TYPES: Final[dict[type, str]] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


class _Tidy:
    """One pass over schemas: references inlined unless they are recursive, objects closed, titles and discriminators dropped."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._kept: dict[str, Schema] = {}
        self._open: list[str] = []
        self._recursive = {name for name in definitions if name in self._reached(name)}
        self._left = _INLINED

    def all(self, schemas: Mapping[str, Schema]) -> tuple[dict[str, Schema], dict[str, Schema]]:
        found = {name: with_items(self._schema(schema)) for name, schema in schemas.items()}
        return found, {name: with_items(schema) for name, schema in self._kept.items()}

    def _reached(self, name: str) -> set[str]:
        """The definitions that this one refers to, directly or not."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for found in _references(self._definitions.get(waiting.pop(), {})):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
        return seen

    def _schema(self, schema: Any) -> Any:
        if not isinstance(schema, Mapping):
            return schema
        self._left -= 1
        given = cast("Mapping[str, Any]", schema)
        if isinstance(reference := given.get("$ref"), str):
            return self._reference(reference, {name: item for name, item in given.items() if name not in ("$ref", "title")})
        tidy = {name: self._keyword(name, item) for name, item in given.items() if name not in ("title", "discriminator")}
        if "properties" in tidy:
            tidy.setdefault("additionalProperties", False)
        if "type" not in tidy and tidy.get("enum"):
            kinds = list(dict.fromkeys(_TYPES[type(item)] for item in tidy["enum"] if type(item) in _TYPES))
            tidy["type"] = kinds[0] if len(kinds) == 1 else kinds
        return tidy

    def _keyword(self, name: str, item: Any) -> Any:
        if name in ("properties", "patternProperties") and isinstance(item, Mapping):
            return {key: self._schema(inner) for key, inner in cast("Mapping[str, Any]", item).items()}
        if name in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(item, list | tuple):
            return [self._schema(inner) for inner in cast("list[Any]", item)]
        return self._schema(item) if name in ("items", "additionalProperties", "not", "propertyNames", "contains") else item

    def _reference(self, reference: str, beside: Schema) -> Schema:
        name = reference.removeprefix("#/$defs/")
        if name not in self._recursive and self._left > 0 and name in self._definitions:
            return {**self._schema(self._definitions[name]), **beside}
        if name not in self._kept and name in self._definitions:
            self._kept[name] = {}  # its place, for the references inside to itself
            self._kept[name] = self._schema(self._definitions[name])
        return {"$ref": reference, **beside}


def _references(schema: Any) -> set[str]:
    """The names of all definitions that are referred to in it."""
    if isinstance(schema, Mapping):
        items = cast("Mapping[str, Any]", schema)
        inner = {name for item in items.values() for name in _references(item)}
        reference = items.get("$ref")
        return inner | {reference.removeprefix("#/$defs/")} if isinstance(reference, str) else inner
    return {name for item in cast("list[Any]", schema) for name in _references(item)} if isinstance(schema, list | tuple) else set()
