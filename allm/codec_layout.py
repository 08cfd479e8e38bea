"""What the annotations of a value's class say about its JSON, worked out once for each class: where the codec must look."""

import functools
import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin

import msgspec

from allm.messages import Unknown
from allm.plain import tag_of

__all__ = ["NUMBER", "Layout", "Place", "layout_of", "tag_of_class"]


class Place(NamedTuple):
    """What may stand at one position, as far as the walks must know."""

    payload: bool = False
    number: bool = False
    classes: Mapping[str, type[msgspec.Struct]] = types.MappingProxyType({})
    open: bool = False
    item: "Place | None" = None

    @property
    def only(self) -> str | None:
        """The tag that an object without one has here."""
        return next(iter(self.classes)) if len(self.classes) == 1 and not self.open else None

    @property
    def numeric(self) -> bool:
        """Whether a number may be found here or further down, payloads apart: these were checked when frozen."""
        inner = self.item is not None and self.item.numeric
        return self.number or inner or any(layout_of(cls).numeric for cls in self.classes.values())


NUMBER: Final = Place(number=True)


class Layout(NamedTuple):
    """The layout of one class: the fields to look into when reading (by their names in JSON) and when writing (as attributes)."""

    places: tuple[tuple[str, Place], ...]
    numeric: tuple[str, ...]


@functools.cache
def layout_of(cls: type[msgspec.Struct]) -> Layout:
    """The layout of a class of values."""
    fields = [(field, _place(field.type)) for field in msgspec.structs.fields(cls)]
    freezes = hasattr(cls, "__post_init__")  # then payloads are checked there, and once is enough
    return Layout(
        tuple((f.encode_name, place) for f, place in fields if place != Place() and not (freezes and place.payload)),
        tuple(field.name for field, place in fields if place.numeric),
    )


def _place(hint: Any) -> Place:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or hint is dict or origin is dict:
        return Place(payload=True)
    if hint is int or hint is float:
        return Place(number=True)
    if hint is Unknown:
        return Place(open=True)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return Place(classes={tag_of_class(hint): hint})
    if origin is tuple:
        return Place(item=_place(args[0]))
    if origin is Annotated:
        return _place(args[0])
    return functools.reduce(_either, map(_place, args)) if origin in (Union, types.UnionType) else Place()


def _either(a: Place, b: Place) -> Place:
    classes = {**a.classes, **b.classes}
    return Place(a.payload or b.payload, a.number or b.number, classes, a.open or b.open, a.item or b.item)


def tag_of_class(cls: type) -> str:
    """The tag that documents of this class have."""
    config = getattr(cls, "__struct_config__", None)
    return str(config.tag) if config is not None and config.tag is not None else tag_of(cls.__name__)
