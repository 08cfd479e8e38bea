"""What is sent of a tool: a schema without alternatives at its top, a name that the wire allows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm.providers.ids import real_names, wire_names
from allm.providers.tool_schemas import plain_object

A, B = {"type": "string"}, {"type": "integer"}


CASES: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"type": "object", "properties": {"a": A}}, None),
    ({"type": "object", "properties": {"a": A}, "anyOf": [{"required": ["a"]}]}, {"type": "object", "properties": {"a": A}}),
    ({"oneOf": [{"properties": {"a": A}}, {"properties": {"b": B}}]}, {"properties": {"a": A, "b": B}}),
    ({"anyOf": [{"properties": {"a": A}}, {"properties": {"a": B}}]}, {"properties": {"a": {"anyOf": [A, B]}}}),
    (
        {"required": ["a"], "allOf": [{"properties": {"b": B}, "required": ["a", "b"]}]},
        {"properties": {"b": B}, "required": ["a", "b"]},
    ),
    (
        {"anyOf": [{"$ref": "#/$defs/One"}], "$defs": {"One": {"properties": {"a": A}}}},
        {"properties": {"a": A}, "$defs": {"One": {"properties": {"a": A}}}},
    ),
    ({"anyOf": [{"anyOf": [{"properties": {"a": A}}]}]}, {"properties": {"a": A}}),
    ({"type": "object", "not": {}, "enum": [{}]}, {"type": "object"}),
    ({"anyOf": [5, {"properties": 5}, {"$ref": "#/none"}, {"$ref": "http://x"}], "properties": {}}, {"properties": {}}),
    ({"anyOf": ({"properties": {"a": A}},)}, {"properties": {"a": A}}),
]


@pytest.mark.parametrize(("schema", "plain"), CASES)
def test_alternatives_at_the_top_become_properties(schema: dict[str, Any], plain: dict[str, Any] | None) -> None:
    assert plain_object(schema) == (schema if plain is None else plain)


def test_a_schema_within_itself_is_looked_into_so_far_and_no_further() -> None:
    schema: dict[str, Any] = {"properties": {"a": A}, "anyOf": [{"$ref": "#/"}, {"$ref": "#"}]}
    schema["$defs"] = {"T": {"anyOf": [{"$ref": "#/$defs/T"}], "properties": {"b": B}}}
    schema["anyOf"].append({"$ref": "#/$defs/T"})
    assert plain_object(schema)["properties"] == {"a": A, "b": B}


NAMES = st.lists(st.text("ab_. :é", max_size=4) | st.just("x" * 200), max_size=8, unique=True)


@given(NAMES)
def test_no_two_tools_have_one_name_and_each_is_found_again(names: list[str]) -> None:
    sent = wire_names(names)
    assert len(set(sent.values())) == len(names)
    assert all(0 < len(each) <= 64 and set(each) <= set("abcdef0123456789x_") for each in sent.values())
    back = real_names(names)
    assert [back.get(sent[name], sent[name]) for name in names] == names


def test_a_name_that_the_wire_allows_is_sent_as_it_is_also_beside_one_that_becomes_it() -> None:
    assert wire_names(["a.b", "a_b"])["a_b"] == "a_b"
    assert real_names(["a_b", "c"]) == {}
