"""The check of JSON by a schema: like the reference implementation where both say something, in words, and never raising."""

import dataclasses
import enum
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm import ValidationError
from allm.freezing import freeze
from allm.schemas import problem, schema_of

DAYS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}, "units": {"enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"city": "Paris"}, None),
        ({"city": "Paris", "days": 3.0}, None),
        ({"city": "Paris", "days": "three"}, 'days: expected integer, got "three"'),
        ({"city": "Paris", "days": True}, "days: expected integer, got true"),
        ({"city": "Paris", "days": 10}, "days: expected at most 9, got 10"),
        ({"days": 1}, "city: it is required, but missing"),
        ({"city": "Paris", "unit": "c"}, "unit: there is no such field (there are: city, days, units)"),
        ({"city": "Paris", "units": "k"}, 'units: expected one of "c", "f", got "k"'),
        ("Paris", 'expected object, got "Paris"'),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(value: Any, expected: str | None) -> None:
    assert problem(value, DAYS) == expected
    assert problem(freeze(value), freeze(DAYS)) == expected


def test_the_place_goes_down_through_lists_and_references() -> None:
    schema = {"type": "array", "items": {"$ref": "#/$defs/p"}, "$defs": {"p": {"type": "object", "properties": {"x": {"type": "number"}}}}}
    assert problem([{"x": 1}, {"x": None}], schema) == "[1].x: expected number, got null"


def test_of_several_alternatives_the_one_that_was_meant_is_told() -> None:
    schema = {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "integer"}}}]}
    assert problem({"x": "1"}, schema) == 'x: expected integer, got "1"'
    assert problem(3, schema) == "none of the alternatives fits: expected null, got 3; or expected object, got 3"


def test_a_recursive_schema_checks_a_tree_to_its_leaves() -> None:
    schema = {
        "$defs": {"n": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}},
        "$ref": "#/$defs/n",
    }
    assert problem({"kids": [{"kids": []}, {}]}, schema) is None
    assert problem({"kids": [{"kids": [3]}]}, schema) == "kids[0].kids[0]: expected object, got 3"


def test_a_long_value_is_quoted_short() -> None:
    assert len(problem("x" * 100_000, {"type": "integer"}) or "") < 150


# Against the reference implementation

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 4) | st.sampled_from([0.0, 1.0, 1.5, -2.0]) | st.sampled_from(["", "a", "ab", "b1", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c1"]), inner, max_size=3),
    max_leaves=6,
)
_kinds = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
_small = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": _kinds | st.lists(_kinds, min_size=1, max_size=3, unique=True),
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "required": st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
            "additionalProperties": inner,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "[0-9]"]), inner, max_size=2),
            "propertyNames": st.fixed_dictionaries({"maxLength": _small}),
            "minProperties": _small, "maxProperties": _small, "minItems": _small, "maxItems": _small, "uniqueItems": st.booleans(),
            "items": inner, "prefixItems": some, "minLength": _small, "maxLength": _small,
            "pattern": st.sampled_from(["^a", "b$", "[0-9]+", "a|b", "^(a|b)*$"]),
            "minimum": st.integers(-3, 3), "maximum": st.integers(-3, 3), "exclusiveMinimum": st.integers(-3, 3) | st.just(0.5),
            "exclusiveMaximum": st.integers(-3, 3), "multipleOf": st.integers(1, 3),
            "enum": st.lists(json_values, min_size=1, max_size=3), "const": json_values,
            "anyOf": some, "oneOf": some, "allOf": some, "not": inner,
            "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]),
        },
    )  # fmt: skip


schemas: st.SearchStrategy[Any] = st.recursive(st.booleans() | _schemas(st.booleans()), _schemas, max_leaves=4)


@settings(max_examples=150, deadline=None)
@given(schemas, json_values, _kinds)
def test_it_agrees_with_the_reference_implementation(schema: Any, value: Any, kind: str) -> None:
    if not isinstance(schema, bool):
        schema = {**schema, "$defs": {"x": {"type": kind}, "y": {"properties": {"a": {"$ref": "#/$defs/y"}}, "maxProperties": 2}}}
    reference: Any = jsonschema.Draft202012Validator(schema)
    expected = reference.is_valid(value)
    assert (problem(value, schema) is None) == expected, problem(value, schema)
    assert problem(freeze(value), freeze(schema)) == problem(value, schema)


# Hostile input

_words = st.sampled_from([
    "type", "properties", "required", "additionalProperties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf", "not",
    "$ref", "$defs", "minimum", "multipleOf", "minLength", "pattern", "uniqueItems", "patternProperties", "propertyNames", "maxItems",
])  # fmt: skip
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=2)


def _wild(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = _words | st.text(max_size=2) | st.integers()
    return st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(keys, inner, max_size=4)


_anything: st.SearchStrategy[Any] = st.recursive(_leaves | _kinds | st.sampled_from(["#", "(a+)+$"]), _wild, max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(_anything, _anything)
def test_whatever_schema_and_value_are_nothing_is_raised(schema: Any, value: Any) -> None:
    assert problem(value, schema) is None or isinstance(problem(value, schema), str)


def _nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = wrap(value)
    return value


LOOP = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}
FORKS: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}
TOO_MUCH = "nested too deeply, or too large, to be checked"


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        (1, {"$ref": "#"}, None),
        (1, LOOP, None),
        (1, {"$ref": "#/$defs/d0", "$defs": {**FORKS, "d60": {"type": "string"}}}, TOO_MUCH),
        (_nested(20_000, lambda inner: [inner]), {"items": {"$ref": "#"}}, TOO_MUCH),
        (1, _nested(20_000, lambda inner: {"not": inner}), TOO_MUCH),
        (_nested(20_000, lambda inner: {"a": inner}), {"enum": [1]}, TOO_MUCH),
    ],
    ids=["loop", "forking loop", "forks", "deep value", "deep schema", "deep identity"],
)
def test_what_has_no_end_takes_no_time(value: Any, schema: Any, expected: str | None) -> None:
    assert problem(value, schema) == expected


EXPRESSION: dict[str, Any] = {
    "$ref": "#/$defs/e",
    "$defs": {
        "e": {
            "anyOf": [
                {"type": "integer"},
                *(
                    {"type": "object", "properties": {"of": {"$ref": "#/$defs/e"}, "op": {"const": op}}, "required": ["of", "op"]}
                    for op in "-!~"
                ),
            ]
        }
    },
}


def test_a_recursive_choice_is_checked_however_deep_and_told_in_bounded_words() -> None:
    for levels in (1, 4, 60):
        assert problem(_nested_in(levels, 1), EXPRESSION) is None
        assert problem(_nested_in(levels, "x"), EXPRESSION) is not None
    assert "expected integer" in (problem(_nested_in(1, "x"), EXPRESSION) or "")
    assert problem(_nested_in(60, "x"), EXPRESSION) == "it does not fit the schema"


def _nested_in(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = {"op": "-", "of": value}
    return value


def test_all_that_is_wrong_is_told_up_to_a_bound() -> None:
    wrong = problem({"days": 0, "units": "k", "city": 1}, DAYS)
    assert wrong == 'city: expected string, got 1; units: expected one of "c", "f", got "k"; days: expected at least 1, got 0'
    many = problem(["x"] * 20, {"items": {"type": "integer"}}) or ""
    assert many.count("expected integer") == 5
    assert many.endswith("and 15 more")


@pytest.mark.parametrize(
    "schema", [{"type": 3}, {"type": "strange"}, {"$ref": "#/nowhere"}, {"$ref": "http://x"}, {"pattern": "("}, {"items": 3}]
)
def test_what_is_malformed_says_nothing(schema: Any) -> None:
    assert problem([1], schema) is None
    assert problem("text", schema) is None
    assert problem("text", {"allOf": [schema, {"maxLength": 2}]}) == "expected at most 2 characters, got 4"


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (r"^\d{4}-\d{2}-\d{2}$", "2026-01-31", True),
        (r"^\d{4}-\d{2}-\d{2}$", "tomorrow", False),
        (r"^[^@]+@[^@]+\.[a-z]+$", "somebody.with-a.long-name@an.example-of-a-long-host.org", True),
        (r"^(\d{1,3}\.){3}\d{1,3}$", "192.168.100.200", True),
        (r"^[A-Z]{2,3}[0-9a-f-]{36}$", "AB" + "0" * 36, True),
        (r"^[\]a\\]+$", "]a\\", True),
        (r"^(?:[a-z0-9]+-)*[a-z0-9]+$", "a-" * 24 + "!", False),
        (r"^(a+)+$", "a" * 100_000 + "!", False),
        (r"^(a|a)*$", "a" * 22 + "b", False),
        (r"(?x)^(a +) +$", "a" * 3_000 + "b", False),
    ],
)
def test_a_pattern_is_checked_whatever_the_length_of_the_text(pattern: str, text: str, fits: bool) -> None:
    assert (problem(text, {"pattern": pattern}) is None) is fits


@pytest.mark.parametrize("pattern", ["(", "^(?=.*[0-9]).{8,}$", r"(a)\1", "^(a+)(?#x)+$", "[ab]*a[ab]{20000}x", "x" * 20_000])
def test_a_pattern_beyond_the_linear_matcher_says_nothing(pattern: str) -> None:
    assert problem("text", {"pattern": pattern}) is None
    assert problem({"text": 1}, {"patternProperties": {pattern: False}, "additionalProperties": False}) is None


HUGE: dict[str, tuple[str, str, str]] = {  # what: (value, schema, what is said) as Python
    "words": ('{"x": ["word999"] * 90_000}', '{"properties": {"x": {"items": {"enum": [f"word{n}" for n in range(1_000)]}}}}', "None"),
    "wrong words": ('["no"] * 90_000', '{"items": {"enum": [f"word{n}" for n in range(1_000)]}}', '"[0]: expected one of"'),
    "objects": ('[{"a": 2_999}] * 90_000', '{"items": {"enum": [{"a": n} for n in range(3_000)]}}', '"nested too deeply"'),
    "fractions": ("[2999.5] * 90_000", '{"items": {"enum": [n + 0.5 for n in range(3_000)]}}', '"nested too deeply"'),
    "patterns for fields": ('{f"x{n}y": 1 for n in range(3_000)}', '{"patternProperties": {f"^x{n}.*y$": {} for n in range(300)}}', "None"),
    "patterns": ('["a" * 22 + "b"] * 40_000', '{"items": {"pattern": "^(a|a)*$"}}', '"[0]: expected text that matches"'),
    "a pattern's states": ('"ab" * 500_000', '{"pattern": "^[ab]*a[ab]{500}[ab]*x$"}', '"nested too deeply"'),
    "unlike pairs": ("[[n, -1] for n in range(12_000)]", '{"uniqueItems": True, "items": {"maxItems": 2}}', "None"),
    "wrong items": ('["x"] * 90_000', '{"items": {"type": "integer"}}', '"[0]: expected integer"'),
    "wrong choices": (
        '[{"a": "x" * 100}] * 9_000',
        '{"items": {"anyOf": [{"type": "null"}, {"required": ["b"]}, {"properties": {"a": {"type": "integer"}}}]}}',
        '"it does not fit the schema"',
    ),
    "missing fields": ("[{}] * 3_000", '{"items": {"required": [f"r{n}" for n in range(1_000)]}}', '"[0].r0: it is required"'),
    "comments": ('{"aaa": 1}', '{"required": ["b"], "patternProperties": {"^(a+)(?#x)+$": {}}}', '"b: it is required"'),
}


def test_huge_values_and_hostile_schemas_cost_seconds_at_most_in_all() -> None:
    """In a process that ends after that much work of its processor: 7 seconds for all of them, the start included."""
    cases = ", ".join(f"({name!r}, {value}, {schema}, {said})" for name, (value, schema, said) in HUGE.items())
    source = f"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (7, 7))
from allm.schemas import problem
for name, value, schema, said in [{cases}]:
    found = problem(value, schema)
    assert found is None if said is None else (found or "").startswith(said), (name, found)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=50)
    assert done.stdout == "done\n", (done.returncode, done.stderr[-2_000:])


# Schemas of types


@dataclasses.dataclass
class Point:
    """Where."""

    x: int
    y: float = 0.5


class Movie(TypedDict, total=False):
    title: str


class Node(msgspec.Struct):
    name: str
    kids: list["Node"] = []


class Tone(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Leaf(pydantic.BaseModel):
    size: int = pydantic.Field(ge=1, description="in cm")


class Tree(pydantic.BaseModel):
    leaves: list[Leaf]
    next: "Tree | None" = None


POINT = {
    "type": "object",
    "description": "Where.",
    "properties": {"x": {"type": "integer"}, "y": {"type": "number", "default": 0.5}},
    "required": ["x"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (Any, {}),
        (object, {}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (Literal["a", None], {"enum": [None, "a"], "type": ["null", "string"]}),
        (Tone, {"enum": ["high", "low"], "type": "string"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Annotated[int, msgspec.Meta(ge=1)], {"type": "integer", "minimum": 1}),
        (Point, POINT),
        (list[Point], {"type": "array", "items": POINT}),
        (Movie, {"type": "object", "properties": {"title": {"type": "string"}}, "required": [], "additionalProperties": False}),
        (
            Leaf,
            {
                "type": "object",
                "properties": {"size": {"type": "integer", "minimum": 1, "description": "in cm"}},
                "required": ["size"],
                "additionalProperties": False,
            },
        ),
    ],
    ids=str,
)
def test_a_type_has_a_schema_without_titles_or_references(hint: Any, schema: Any) -> None:
    assert schema_of(hint) == schema


def test_recursive_types_keep_their_definitions_and_these_lead_somewhere() -> None:
    node = schema_of(Node)
    assert problem({"name": "a", "kids": [{"name": "b", "kids": [{"name": 1}]}]}, node) == "kids[0].kids[0].name: expected string, got 1"
    tree = schema_of(list[Tree])
    assert problem([{"leaves": [], "next": {"leaves": [{"size": 0}]}}], tree) == "[0].next.leaves[0].size: expected at least 1, got 0"


def test_a_type_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValidationError, match="complex"):
        schema_of(complex)
    with pytest.raises(ValidationError, match="more than one"):
        schema_of(Point | Node | Movie)


@pytest.mark.parametrize("schema", [{"const": None}, {"type": ["object", "null"], "const": None}, {"properties": {"a": {"const": None}}}])
def test_a_constant_may_be_null(schema: dict[str, Any]) -> None:
    good, bad = ({"a": None}, {"a": 1}) if "properties" in schema else (None, {})
    assert problem(good, schema) is None
    assert "null" in (problem(bad, schema) or "")
