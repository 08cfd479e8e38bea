"""JSON in and out: one document for any value, read by older and newer versions of the library.

A document is the value's own JSON object with `"v"`, the version of the format, put first. Readers ignore fields that
they do not know; fields are only added, with defaults; a tag is never reused. An object with an unknown tag becomes
`Unknown` and encodes back unchanged, but only where the annotations admit one (a part, an event, the document itself):
payloads that happen to have a "type" are never looked into. A change that breaks readers raises VERSION and adds one
pure function to MIGRATIONS.

Whatever the bytes are, `from_json` gives a value or raises ValidationError.
"""

import copy
import importlib
import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, TypeVar, overload

import msgspec
from msgspec.structs import force_setattr

from allm import (
    callables,
    embeddings,
    errors,
    events,
    image_requests,
    images,
    messages,
    moderation,
    requests,
    responses,
    retry,
    settings,
    usage,
)
from allm.codec_layout import NUMBER, Place, layout_of, tag_of_class
from allm.errors import ErrorInfo, ValidationError
from allm.freezing import freeze, freeze_dict
from allm.messages import Unknown
from allm.plain import MAX_DEPTH, Value
from allm.trust import reading

__all__ = [
    "DATA_MODULES", "MAX_BYTES", "MIGRATIONS", "VERSION", "from_json", "known_types", "register_decoder",
    "register_encoder", "to_json",
]  # fmt: skip

VERSION: Final = 1
"""The version of the format that is written."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From version n to n + 1: a pure function of the whole document, without its `v`. No entry means no change."""

MAX_BYTES: Final = 256 << 20
"""The largest document that is read unless the caller says otherwise: a thread with many images fits. For input of strangers, say less."""

_DOCUMENT_DEPTH: Final = 2 * MAX_DEPTH
"""A payload may have MAX_DEPTH levels; what carries it never has as many (no type is nested in itself)."""

DATA_MODULES: Final = tuple(
    module.__name__
    for module in (
        callables,
        embeddings,
        errors,
        events,
        image_requests,
        images,
        messages,
        moderation,
        requests,
        responses,
        retry,
        settings,
        usage,
    )
)
"""Their classes are known from the start, and each of them has a golden document. Others are known once imported."""

_LATER: Final = {
    "engine": "allm.engine", "tool": "allm.tools", "ask_user": "allm.tools", "halt": "allm.tools", "tool_outcome": "allm.tools",
    "keep_last": "allm.history", "token_budget": "allm.history",
}  # fmt: skip
"""The modules that are imported when a document with this tag is first read."""

_REFUSED: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)
"""What msgspec raises, UnicodeError among the ValueErrors."""

_FLOATS: Final[set[Any]] = {float}

_CONTAINERS: Final[frozenset[Any]] = frozenset({dict, list})

_T = TypeVar("_T")
_encoders: dict[type, Callable[[Any], dict[str, Any]]] = {}
_decoders: dict[str, Callable[[dict[str, Any]], Any]] = {}
_classes: dict[str, type[msgspec.Struct]] = {}


def to_json(value: Any) -> bytes:
    """`value` as a JSON document.

    Raises ValidationError for what is no value of this library, and for numbers and text that JSON cannot carry.
    """
    kind: Any = value.__class__
    if not isinstance(value, Value | ErrorInfo):
        raise ValidationError.at("value", f"{kind.__name__} is no value of this library")
    if to_plain := _encoders.get(kind) or getattr(kind, "to_plain", None):
        return _document({"type": tag_of_class(kind), **to_plain(value)})
    if isinstance(value, Unknown):
        return _document(_contents(value), value.data.get("v"))
    try:
        data = msgspec.json.encode(value)
        if b'"$unknown"' in data:  # or the text of somebody; the slow way is right for both
            data = msgspec.json.encode(_without_unknown(value))
        if layout_of(kind).numeric and not _sound(value):
            raise ValueError("a number that JSON cannot carry")
    except _REFUSED as error:
        _audit(value, tag_of_class(kind))
        raise ValidationError.at(tag_of_class(kind), str(error)) from None
    return b'{"v":%d,' % VERSION + data[1:]


@overload
def from_json(data: bytes | str, type: type[_T], trusted: bool = False, *, max_bytes: int = MAX_BYTES) -> _T: ...
@overload
def from_json(data: bytes | str, type: Any = None, trusted: bool = False, *, max_bytes: int = MAX_BYTES) -> Any: ...
def from_json(data: bytes | str, type: Any = None, trusted: bool = False, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value that `to_json` was given. With `type` (a class or a union of classes) it must be one of these.

    An engine, a tool or HTTP settings with what is as good as code (names of callables, adapters and transports, a proxy,
    `verify=False`) are read only if the document is `trusted`; see `allm.trust`. Raises ValidationError for everything else.
    """
    with reading(bool(trusted)):
        return _read(data, type, max_bytes)


def _read(data: bytes | str, type: Any, max_bytes: int) -> Any:
    try:
        document = _parse(data, max_bytes)
        version = _version(document)
        tag = document.get("type")
        if not isinstance(tag, str):
            raise ValidationError.at("type", "the document names no type")
        if (cls := _class_of(tag)) is None and tag not in _decoders:
            _expect(Unknown, type, tag)
            return Unknown(tag, {"v": version, **document} if version > VERSION else document)
        if cls is not None:
            _expect(cls, type, tag)
        return _value(document, tag, cls, type)
    except ValidationError:
        raise
    except _REFUSED as error:
        raise _refused(error) from None


def known_types() -> dict[str, type[msgspec.Struct]]:
    """The classes of all values by their tags, as far as their modules are imported. `Unknown` is none of them."""
    found: dict[str, type[msgspec.Struct]] = {tag_of_class(ErrorInfo): ErrorInfo}
    for cls in _subclasses(Value):
        if cls is not Unknown:
            found.setdefault(tag_of_class(cls), cls)
    return found


def register_encoder(cls: type[_T], to_plain: Callable[[_T], dict[str, Any]]) -> None:
    """Lets `to_plain` say what the document of a `cls` contains, as its method of that name does where it has one.

    It is asked for whole documents only, not for values inside others. What it raises reaches the writer.
    """
    _encoders[cls] = to_plain


def register_decoder(tag: str, from_plain: Callable[[dict[str, Any]], Any]) -> None:
    """Lets `from_plain` make the value of a document with this tag, as the class method of that name does where a class has one;
    whatever it raises becomes a ValidationError."""
    _decoders[tag] = from_plain


# Reading


def _parse(data: bytes | str, max_bytes: int) -> dict[str, Any]:
    if not isinstance(data, bytes | str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError.at("document", f"expected bytes or text, got {type(data).__name__}")
    if len(data) > max_bytes or len(raw := data.encode() if isinstance(data, str) else data) > max_bytes:
        raise ValidationError.at("document", f"larger than {max_bytes} bytes")
    document = msgspec.json.decode(raw, type=dict[str, Any])
    if raw.count(b"{") + raw.count(b"[") > _DOCUMENT_DEPTH:
        _check_depth(document)
    return document


def _check_depth(document: Any) -> None:
    """Level by level, so that no depth is too much for the check itself."""
    level: list[Any] = [document]
    for _ in range(_DOCUMENT_DEPTH):
        items = chain.from_iterable([holder.values() if holder.__class__ is dict else holder for holder in level])
        level = [item for item in items if item.__class__ in _CONTAINERS]
        if not level:
            return
    raise ValidationError.at("document", f"nested deeper than {_DOCUMENT_DEPTH} levels")


def _version(document: dict[str, Any]) -> int:
    """Takes `v` out of the document and migrates an older one, in place; a newer one is read as far as we know it."""
    version = document.pop("v", 1)
    if type(version) is not int or not 1 <= version < 1 << 63:
        raise ValidationError.at("v", "expected a version, a whole number from 1")
    for older in range(version, VERSION):
        if migrate := MIGRATIONS.get(older):
            try:
                migrated = migrate(dict(document))
            except Exception as error:
                raise ValidationError.at("document", f"cannot be migrated from version {older}: {error!r}") from None
            document.clear()
            document.update(migrated)
    return version


def _expect(cls: type, wanted: Any, tag: str) -> None:
    if wanted is not None and not issubclass(cls, wanted):
        raise ValidationError.at("type", f"expected {getattr(wanted, '__name__', wanted)}, the document is a {tag!r}")


def _value(document: dict[str, Any], tag: str, cls: type[msgspec.Struct] | None, wanted: Any) -> Any:
    try:
        if from_plain := _decoders.get(tag) or getattr(cls, "from_plain", None):
            value = from_plain(freeze_dict(document, tag))
            _expect(value.__class__, wanted, tag)
            return value
        assert cls is not None
        _settle_fields(document, cls, "")
        return msgspec.convert(document, cls)
    except (ValidationError, *_REFUSED):
        raise
    except Exception as error:  # of a constructor, which was not made for what strangers write
        raise ValidationError.at(tag, f"cannot be read: {error!r}") from None


def _settle_fields(document: dict[str, Any], cls: type[msgspec.Struct], prefix: str) -> None:
    for name, place in layout_of(cls).places:
        if (item := document.get(name)) is not None:
            document[name] = _settle(item, place, prefix + name)


def _settle(item: Any, place: Place, path: str) -> Any:
    """The item made ready for `convert`: payloads and numbers checked, unknown objects wrapped."""
    kind = item.__class__
    if place.payload or (place.number and (kind is int or kind is float)):
        return freeze(item, path)
    if kind is list and place.item is not None:
        if place.item == NUMBER and _all_finite(item):
            return item
        return [_settle(each, place.item, f"{path}[{i}]") for i, each in enumerate(item)]
    if kind is dict and place.classes:
        tag = item.get("type") or place.only
        if not isinstance(tag, str):
            raise ValidationError.at(path, "the object names no type")
        if cls := place.classes.get(tag):
            _settle_fields(item, cls, f"{path}.")
        elif place.open:
            return Unknown(tag, item)
    return item


def _refused(error: Exception) -> ValidationError:
    """The error for what msgspec said; it ends in `` - at `$.the.path` ``."""
    if isinstance(error, RecursionError):
        return ValidationError.at("document", "nested too deeply")
    problem, _, path = str(error).partition(" - at `$")
    path = "" if "..." in path else path.rstrip("`").lstrip(".")  # msgspec does not tell the keys of plain dicts
    return ValidationError.at(path or "document", problem)


# Writing


def _document(plain: dict[str, Any], newer: Any = None) -> bytes:
    """A document of these contents, written by us or, as `newer` says, by a newer version."""
    if newer is not None and (type(newer) is not int or newer <= VERSION):
        raise ValidationError.at("unknown.data.v", "only a version newer than ours may stand here")
    try:
        return msgspec.json.encode({"v": newer or VERSION, **{key: item for key, item in plain.items() if key != "v"}})
    except _REFUSED as error:
        _audit(tuple(plain.values()), str(plain["type"]))
        raise ValidationError.at("document", str(error)) from None


def _contents(unknown: Unknown) -> dict[str, Any]:
    if unknown.data.get("type") != unknown.tag:
        raise ValidationError.at("unknown.data.type", f"expected the tag, {unknown.tag!r}")
    return unknown.data


def _without_unknown(value: Any) -> Any:
    """A copy of the value with the data of each Unknown in its place."""
    kind = value.__class__
    if kind is Unknown:
        return _contents(value)
    if kind is tuple:
        return tuple(map(_without_unknown, value))
    if not isinstance(value, msgspec.Struct):
        return value
    result = copy.copy(value)
    for name in value.__struct_fields__:
        force_setattr(result, name, _without_unknown(getattr(value, name)))
    return result


def _sound(value: Any) -> bool:
    """Whether JSON carries every number (msgspec writes NaN as null, and integers of any size)."""
    kind = value.__class__
    if kind is float:
        return math.isfinite(value)
    if kind is int:
        return bool(-1 << 63 <= value < 1 << 64)
    if kind is tuple:
        return _all_finite(value) or all(map(_sound, value))
    if isinstance(value, msgspec.Struct):
        return all(_sound(getattr(value, name)) for name in layout_of(kind).numeric)
    return True


def _all_finite(values: Any) -> bool:
    """Whether these are floats, all finite, seen at a glance: a vector of 1,536 takes 20 us, and 300 if each is looked at.

    A sum is finite only if its terms are; one that is not says nothing.
    """
    return {*map(type, values)} == _FLOATS and math.isfinite(sum(values))


def _audit(value: Any, path: str) -> None:
    """Raises the ValidationError that names what cannot be encoded, if it can be found."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _audit(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            _audit(item, f"{path}[{i}]")
    elif not isinstance(value, bytes | bytearray | memoryview):
        freeze(value, path)


def _class_of(tag: str) -> type[msgspec.Struct] | None:
    if tag not in _classes:
        if tag in _LATER:
            importlib.import_module(_LATER[tag])
        _classes.update(known_types())  # perhaps of a module that was imported since
    return _classes.get(tag)


def _subclasses(cls: type[Value]) -> Iterator[type[Value]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
