"""Payloads become JSON types when a value is made, or are refused with their path."""

import math
import threading
from collections import OrderedDict
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.errors import ValidationError
from allm.freezing import freeze, freeze_dict
from allm.messages import Message, ToolCallPart
from allm.plain import MAX_DEPTH, FrozenDict, FrozenList, tag_of

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Color(StrEnum):
    RED = "red"


class Degrees(float):
    """A float of somebody's own."""


class Size(IntEnum):
    BIG = 3


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


@settings(deadline=None)
@given(_json)
def test_a_frozen_payload_equals_what_it_was_made_of_in_both_directions(value: Any) -> None:
    frozen = freeze(value)
    assert frozen == value
    assert value == frozen
    assert freeze(frozen) == frozen


def test_lists_and_tuples_become_tuples_that_equal_both() -> None:
    frozen = freeze({"a": [1, (2, [3])]})
    assert isinstance(frozen["a"], FrozenList)
    assert frozen == {"a": [1, [2, [3]]]}
    assert frozen == {"a": [1, [2, [3]]]}
    assert frozen == {"a": (1, (2, (3,)))}


def test_a_frozen_list_is_a_tuple_with_the_hash_of_one_and_differs_where_its_items_do() -> None:
    items = FrozenList((1, 2))
    assert (items == [1, 2], items == (1, 2), items == [1, 2], items != [1, 2]) == (True, True, True, False)
    assert (items == [1], items != [1, 3], items == "12", items == {1, 2}) == (False, True, False, False)
    assert hash(items) == hash((1, 2))


def test_a_payload_is_copied_so_that_later_changes_do_not_show() -> None:
    given: dict[str, Any] = {"a": {"b": [1]}}
    message = Message("user", "hi", metadata=given)
    given["a"]["b"].append(2)
    given["c"] = 3
    assert message.metadata == {"a": {"b": [1]}}


def test_enums_and_other_mappings_become_plain_types() -> None:
    frozen = freeze({Color.RED: Size.BIG, "m": MappingProxyType({"n": Color.RED}), "o": OrderedDict(p=Degrees(2.5))})
    assert frozen == {"red": 3, "m": {"n": "red"}, "o": {"p": 2.5}}
    assert [type(key) for key in frozen] == [str, str, str]
    assert (type(frozen["red"]), type(frozen["m"]), type(frozen["m"]["n"]), type(frozen["o"]["p"])) == (int, FrozenDict, str, float)


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ({"a": [1, {"b": math.nan}]}, "value.a[1].b", "nan is not JSON"),
        ({"a": math.inf}, "value.a", "inf is not JSON"),
        ([1, [2, object()]], "value[1][1]", "object is not JSON"),
        ({"lock": threading.Lock()}, "value.lock", "lock is not JSON"),
        ({"f": print}, "value.f", "builtin_function_or_method is not JSON"),
        ({"raw": b"bytes"}, "value.raw", "bytes is not JSON"),
        ({"s": {1, 2}}, "value.s", "set is not JSON"),
        ({"s": "\ud83d"}, "value.s", "text with a lone surrogate cannot be encoded"),
        ({"o": {"\udc00": 1}}, "value.o.'\\udc00'", "text with a lone surrogate cannot be encoded"),
        ({"o": {1: 2}}, "value.o", "the key 1 is no string"),
        ({"o": {None: 2}}, "value.o", "the key None is no string"),
        ({"n": 1 << 64}, "value.n", "an integer beyond 64 bits"),
        ({"n": -(1 << 63) - 1}, "value.n", "an integer beyond 64 bits"),
        (nested(MAX_DEPTH + 1), "value" + "[0]" * MAX_DEPTH, f"nested deeper than {MAX_DEPTH} levels"),
    ],
    ids=lambda value: value[-40:] if isinstance(value, str) else "",
)
def test_what_is_not_json_is_refused_with_its_path(value: Any, path: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        freeze(value)
    assert caught.value.metadata["path"] == path
    assert caught.value.message.endswith(f": {problem}")


@pytest.mark.parametrize("value", [(1 << 64) - 1, -(1 << 63), nested(MAX_DEPTH), "𝄞", "\x00", 1.5e308])
def test_what_lies_at_the_limit_is_kept(value: Any) -> None:
    assert freeze(value) == value


def test_a_payload_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValidationError, match="nested deeper"):
        freeze(loop)


@pytest.mark.parametrize("value", [[1], "text", None, 5])
def test_a_payload_that_must_be_an_object_is_refused_when_it_is_none(value: Any) -> None:
    with pytest.raises(ValidationError, match="arguments: expected an object, got"):
        freeze_dict(value, "arguments")


def test_values_freeze_their_payloads_when_they_are_made() -> None:
    with pytest.raises(ValidationError) as caught:
        ToolCallPart("c", "f", {"city": [object()]})
    assert caught.value.metadata == {"path": "arguments.city[0]"}
    assert isinstance(ToolCallPart("c", "f", {"cities": ["Oslo"]}).arguments["cities"], tuple)


@pytest.mark.parametrize(("name", "tag"), [("TextDelta", "text_delta"), ("Http", "http"), ("ToolCallPart", "tool_call_part")])
def test_the_tag_of_a_class_is_its_name_in_snake_case(name: str, tag: str) -> None:
    assert tag_of(name) == tag
