"""What is sent of a tool: a schema without alternatives at its top, a name that the wire allows."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import allm
from allm import Engine, Message, Request, ToolCallPart, ToolSpec
from allm.providers.adapter import HttpRequest
from allm.providers.ids import dotted_name, real_names, wire_names
from allm.providers.registry import adapter_for
from allm.providers.tool_schemas import plain_object

A, B = {"type": "string"}, {"type": "integer"}


CASES: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"type": "object", "properties": {"a": A}}, None),
    ({"type": "object", "properties": {"a": A}, "anyOf": [{"required": ["a"]}]}, {"type": "object", "properties": {"a": A}}),
    ({"oneOf": [{"properties": {"a": A}}, {"properties": {"b": B}}]}, {"type": "object", "properties": {"a": A, "b": B}}),
    ({"anyOf": [{"properties": {"a": A}}, {"properties": {"a": B}}]}, {"type": "object", "properties": {"a": {"anyOf": [A, B]}}}),
    (
        {"required": ["a"], "allOf": [{"properties": {"b": B}, "required": ["a", "b"]}]},
        {"type": "object", "properties": {"b": B}, "required": ["a", "b"]},
    ),
    (
        {"anyOf": [{"$ref": "#/$defs/One"}], "$defs": {"One": {"properties": {"a": A}}}},
        {"type": "object", "properties": {"a": A}, "$defs": {"One": {"properties": {"a": A}}}},
    ),
    ({"anyOf": [{"anyOf": [{"properties": {"a": A}}]}]}, {"type": "object", "properties": {"a": A}}),
    ({"type": "object", "not": {}, "enum": [{}]}, {"type": "object"}),
    ({"anyOf": [5, {"properties": 5}, {"$ref": "#/none"}, {"$ref": "http://x"}], "properties": {}}, {"type": "object", "properties": {}}),
    ({"anyOf": ({"properties": {"a": A}},)}, {"type": "object", "properties": {"a": A}}),
    ({"properties": {"a": A}}, {"type": "object", "properties": {"a": A}}),
    ({"type": ["object", "null"], "properties": {"a": A}}, {"type": "object", "properties": {"a": A}}),
    (
        {"$ref": "#/$defs/One", "$defs": {"One": {"$ref": "#/$defs/Two"}, "Two": {"oneOf": [{"properties": {"a": A}}]}}},
        {
            "type": "object",
            "properties": {"a": A},
            "$defs": {"One": {"$ref": "#/$defs/Two"}, "Two": {"oneOf": [{"properties": {"a": A}}]}},
        },
    ),
    ({"$ref": "#"}, {"type": "object"}),
    (
        {"$ref": "#/$defs/Me", "$defs": {"Me": {"type": "object", "properties": {"me": {"$ref": "#/$defs/Me"}}}}},
        {
            "type": "object",
            "properties": {"me": {"$ref": "#/$defs/Me"}},
            "$defs": {"Me": {"type": "object", "properties": {"me": {"$ref": "#/$defs/Me"}}}},
        },
    ),
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


@given(NAMES)
def test_names_of_the_wire_that_takes_dots_keep_them(names: list[str]) -> None:
    sent = wire_names(names, allowed=dotted_name)
    assert len(set(sent.values())) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", each) for each in sent.values())
    back = real_names(names, allowed=dotted_name)
    assert [back.get(sent[name], sent[name]) for name in names] == names


WIRES = ["openai.chat", "openai.responses", "anthropic", "gemini"]


def body(wire: str, request: Request) -> Any:
    adapter = adapter_for(wire)
    sent = adapter.request(Engine(f"{wire}:m"), request, "https://host.example", False)
    assert isinstance(sent, HttpRequest)
    return json.loads(sent.body)


def declared(wire: str, told: Any) -> list[Any]:
    tools = told["tools"][0]["functionDeclarations"] if wire == "gemini" else told["tools"]
    return [tool.get("function", tool) for tool in tools]


def schema_of(tool: Any) -> Any:
    return next((tool[name] for name in ("parameters", "input_schema", "parametersJsonSchema") if name in tool), None)


@pytest.mark.parametrize("wire", WIRES)
def test_no_wire_is_sent_alternatives_or_a_reference_at_the_top_of_a_schema(wire: str) -> None:
    schemas = [schema for schema, _ in CASES if plain_object(schema).get("properties")]
    tools = tuple(ToolSpec(f"t{i}", "A tool.", schema) for i, schema in enumerate(schemas))
    sent = [schema_of(tool) for tool in declared(wire, body(wire, Request((allm.user("Hi"),), tools=tools)))]
    assert sent == [plain_object(schema) for schema in schemas]
    assert all(
        schema["type"] == "object" and schema.keys().isdisjoint({"anyOf", "oneOf", "allOf", "not", "enum", "$ref"}) for schema in sent
    )


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", ["crm.look up", "1/st", "ä", "x" * 200])
def test_a_tool_has_one_name_on_a_wire_wherever_it_is_named(wire: str, name: str) -> None:
    thread = (allm.user("Hi"), Message("assistant", (ToolCallPart("c1", name, {}, "{}"),)), allm.tool_result("c1", "rain"))
    told = body(wire, Request(thread, tools=(ToolSpec(name, "A tool.", {"type": "object"}),), tool_choice=name))
    (sent,) = [tool["name"] for tool in declared(wire, told)]
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}" if wire == "gemini" else r"[a-zA-Z0-9_-]{1,128}", sent)
    text = json.dumps(told)
    assert json.dumps(name) not in text
    assert text.count(json.dumps(sent)) == (4 if wire == "gemini" else 3)
