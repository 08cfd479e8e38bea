"""Generated values of every type, from the annotations of their fields; what they cannot tell is said in `_SPECIAL`.

`values()` is any value, `value_of(cls)` one of a class, `payloads()` what users and providers supply, frozen.
"""

import functools
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from allm.callables import Importable
from allm.codec import DATA_MODULES, known_types
from allm.errors import ADAPTER_REASONS
from allm.freezing import freeze
from allm.images import Image
from allm.messages import Unknown
from allm.plain import MAX_DEPTH
from allm.retry import Retry
from allm.settings import Http, Timeouts

WEIRD = [
    "",
    "\x00",
    "\u2028\u2029",
    "\ufeff",
    "\uffff",
    "𝄞é",
    "e\u0301",
    '"$unknown"',
    "null",
    "type",
    "$unknown",
    "\\ud800",
]

texts: st.SearchStrategy[str] = st.sampled_from(WEIRD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
whole_numbers = st.sampled_from([0, 1, -(1 << 63), (1 << 64) - 1]) | st.integers(-(1 << 63), (1 << 64) - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
keys = st.sampled_from(["type", "v", "data", "tag", "metadata"]) | texts


def _wide(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)


def _deep(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"type": value}
    return value


@functools.cache
def payloads(levels: int = MAX_DEPTH) -> st.SearchStrategy[Any]:
    """JSON of anyone, as it is in a value: deep and wide, with objects that look like ours."""
    leaves = st.none() | st.booleans() | whole_numbers | numbers | texts
    ours = st.sampled_from([{"type": "text_part", "text": 1}, {"type": "new_part"}, {"type": "$unknown", "tag": "x"}])
    wide = st.recursive(leaves | ours, _wide, max_leaves=5)
    return (wide | st.integers(1, levels).map(_deep)).map(freeze)


@functools.cache
def objects() -> st.SearchStrategy[Any]:
    """Payloads that are objects."""
    return st.dictionaries(keys, payloads(MAX_DEPTH - 1), max_size=3)


@functools.cache
def unknowns() -> st.SearchStrategy[Any]:
    """What a newer version may have written."""
    tags = st.just("$unknown") | texts.map("new_{}".format)
    return st.builds(_unknown, tags, objects())


def _unknown(tag: str, fields: dict[str, Any]) -> Unknown:
    return Unknown(tag, {**{key: item for key, item in fields.items() if key != "v"}, "type": tag})


_PNG = b"\x89PNG\r\n\x1a\n"
_positive = st.floats(0.001, 1e6)
_SPECIAL: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
    Image: lambda: (
        st.builds(Image, data=st.binary(min_size=1, max_size=9), mime=texts)
        | st.builds(Image, data=st.binary(max_size=9).map(_PNG.__add__))
        | st.builds(Image, url=texts, mime=st.none() | texts)
    ),
    Unknown: unknowns,
    Retry: lambda: st.builds(
        Retry,
        max_attempts=st.integers(1, 9),
        base_delay=_positive,
        max_delay=_positive,
        jitter=st.floats(0, 1),
        retry_on=st.lists(st.sampled_from(sorted(ADAPTER_REASONS)), max_size=3).map(tuple),
        respect_retry_after=st.booleans(),
        mid_stream=st.sampled_from(["auto", "restart", "fail"]),
    ),
    Timeouts: lambda: st.builds(Timeouts, connect=st.none() | _positive, total=_positive | st.integers(1, 9)),
    Importable: lambda: st.builds(Importable, st.sampled_from(["mybot.prompts:brief", "a:B.c"])),
    Http: lambda: st.builds(
        Http,
        proxy=st.none() | st.sampled_from(["socks5://127.0.0.1:1", "http://127.0.0.1:3128", "https://proxy.test"]),
        verify=st.booleans() | texts,
        cert=st.none() | texts | st.tuples(texts, texts),
        headers=st.dictionaries(st.sampled_from(["a", "x-b"]), st.sampled_from(["", "e"])),
        max_connections=st.none() | st.integers(1, 9),
    ),
    Any: lambda: payloads(),
    str: lambda: texts,
    int: lambda: whole_numbers,
    float: lambda: numbers,
    bool: st.booleans,
    bytes: lambda: st.binary(max_size=9),
    type(None): st.none,
}


@functools.cache
def value_of(hint: Any) -> st.SearchStrategy[Any]:
    """What an annotation allows."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SPECIAL:
        return _SPECIAL[hint]()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([value_of(arg) for arg in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(value_of(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return objects() if args[1] is Any else st.dictionaries(texts, value_of(args[1]), max_size=2)
    if origin is Annotated:
        return value_of(args[0])
    raise NotImplementedError(f"say in _SPECIAL how {hint} is generated")


def _struct(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(cls)
    needed = {field.name: value_of(field.type) for field in fields if field.required}
    others = {field.name: value_of(field.type) for field in fields if not field.required}
    return st.fixed_dictionaries(needed, optional=others).map(lambda given: cls(**given))


def data_types() -> list[type[msgspec.Struct]]:
    """Every class of the data modules."""
    return [cls for cls in known_types().values() if cls.__module__ in DATA_MODULES]


def tag(value: Any) -> str:
    """What `type` says in the document of this value, or of the values of this class."""
    return str(value.__struct_config__.tag)


def values() -> st.SearchStrategy[Any]:
    """Any value of any type."""
    return st.one_of([*(value_of(cls) for cls in data_types()), unknowns()])
