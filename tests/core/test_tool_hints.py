"""Annotations of tools as the model reads them: formats, bounds, fields of pydantic, arrays with items; and what is no tool."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportMissingTypeArgument=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false

import datetime as dt
import decimal
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

import allm
from allm.arrays import with_items
from allm.hints import schema_of
from allm.requests import ToolSpec
from allm.tools import ToolContext, as_tool, bind

pydantic = pytest.importorskip("pydantic")
annotated_types = pytest.importorskip("annotated_types")

DECIMAL = [{"type": "number"}, {"type": "string", "format": "decimal"}]
MOMENT = {"type": "string", "format": "date-time"}


@dataclass
class Visit:
    at: dt.datetime
    until: dt.time | None
    price: decimal.Decimal
    then: "list[Visit] | None" = None


class Trip(TypedDict):
    days: list[dt.datetime]


class Leg(NamedTuple):
    at: dt.datetime
    n: int


class Stay(msgspec.Struct):
    at: dt.datetime
    note: str = ""


FORMATS: dict[str, tuple[Any, Any]] = {
    "a datetime": (dt.datetime, MOMENT),
    "a time": (dt.time, {"type": "string", "format": "time"}),
    "a date": (dt.date, {"type": "string", "format": "date"}),
    "perhaps a datetime": (dt.datetime | None, {"anyOf": [MOMENT, {"type": "null"}]}),
    "a list of them": (list[dt.datetime], {"type": "array", "items": MOMENT}),
    "a dict of lists of them": (
        dict[str, list[dt.datetime]],
        {"type": "object", "additionalProperties": {"type": "array", "items": MOMENT}},
    ),
    "one of several": (
        dt.datetime | list[dt.time] | int,
        {"anyOf": [MOMENT, {"type": "array", "items": {"type": "string", "format": "time"}}, {"type": "integer"}]},
    ),
    "a decimal": (decimal.Decimal, {"anyOf": DECIMAL}),
    "perhaps a decimal": (decimal.Decimal | None, {"anyOf": [*DECIMAL, {"type": "null"}]}),
    "decimals": (list[decimal.Decimal], {"type": "array", "items": {"anyOf": DECIMAL}}),
    "a path": (Path, {"type": "string"}),
    "paths": (list[PurePosixPath], {"type": "array", "items": {"type": "string"}}),
}  # fmt: skip


@pytest.mark.parametrize("what", FORMATS)
def test_a_type_tells_its_format(what: str) -> None:
    hint, schema = FORMATS[what]
    assert schema_of(hint) == schema


def test_so_do_the_fields_of_classes_recursive_ones_too() -> None:
    visit = schema_of(list[Visit])
    fields = visit["$defs"]["Visit"]["properties"]
    assert fields["at"] == MOMENT
    assert fields["until"] == {"anyOf": [{"type": "string", "format": "time"}, {"type": "null"}]}
    assert fields["price"] == {"anyOf": DECIMAL}
    assert schema_of(Trip)["properties"]["days"]["items"] == MOMENT
    assert schema_of(Stay | None)["anyOf"][0]["properties"]["at"] == MOMENT
    assert schema_of(tuple[dt.datetime, int])["prefixItems"][0] == MOMENT


def call(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """The handler called as a model calls it."""
    tool = as_tool(function)
    assert isinstance(tool, allm.Tool)
    args, kwargs = bind(tool, arguments, ToolContext())
    return function(*args, **kwargs)


def test_arguments_come_as_these_types() -> None:
    def pay(amount: decimal.Decimal, file: Path, files: list[PurePosixPath], at: dt.datetime) -> Any:
        return amount, file, files, at

    found = call(pay, amount=1.5, file="/a", files=["b"], at="2026-01-02T03:04:05Z")
    assert found == (decimal.Decimal("1.5"), Path("/a"), [PurePosixPath("b")], dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    assert call(pay, amount="1.50", file="/a", files=[], at="2026-01-02T03:04:05")[0].as_tuple().digits == (1, 5, 0)
    with pytest.raises(allm.ToolError, match="amount"):
        call(pay, amount="much", file="/a", files=[], at="2026-01-02T03:04:05")


# pydantic's fields


def test_a_field_in_the_place_of_a_default_is_not_given_to_the_handler() -> None:
    def find(
        text: str = pydantic.Field(description="what to look for", min_length=2),
        most: int = pydantic.Field(default=7, ge=1, le=9, description="how many"),
        tags: list[str] = pydantic.Field(default_factory=list, max_length=3),  # noqa: B008
        also: str | None = pydantic.Field(None),
    ) -> Any:
        return text, most, tags, also

    schema = as_tool(find).schema
    assert schema["required"] == ["text"]
    assert schema["properties"]["text"] == {"type": "string", "minLength": 2, "description": "what to look for"}
    assert schema["properties"]["most"] == {"type": "integer", "minimum": 1, "maximum": 9, "description": "how many", "default": 7}
    assert schema["properties"]["tags"]["maxItems"] == 3
    assert call(find, text="ab") == ("ab", 7, [], None)
    assert call(find, text="ab", most=2, tags=["x"], also="y") == ("ab", 2, ["x"], "y")
    assert call(find, text="ab")[2] is not call(find, text="ab")[2]
    for wrong in ({}, {"text": "a"}, {"text": "ab", "most": 0}, {"text": "ab", "most": 10}, {"text": "ab", "tags": list("abcd")}):
        with pytest.raises(allm.ToolError):
            call(find, **wrong)


def test_nor_where_the_tool_has_a_schema_of_its_own() -> None:
    def find(most: int = pydantic.Field(default=7)) -> Any:
        return most

    tool = allm.Tool(name="find", schema={"type": "object"}, handler=find)
    args, kwargs = bind(tool, {}, ToolContext())
    assert find(*args, **kwargs) == 7


def test_bounds_of_an_annotation_are_kept() -> None:
    def roll(
        sides: Annotated[int, pydantic.Field(ge=2, lt=100, description="of the die")],
        share: Annotated[float | None, annotated_types.Gt(0), annotated_types.Le(1)] = None,
        names: Annotated[list[Annotated[str, pydantic.Field(pattern="^[a-z]+$", max_length=5)]], annotated_types.Len(1, 2)] = ["a"],  # noqa: B006
        even: Annotated[int, annotated_types.MultipleOf(2)] = 2,
        stake: Annotated[decimal.Decimal, pydantic.Field(ge=0)] = decimal.Decimal(1),
    ) -> Any:
        return sides, share, names, even, stake

    properties = as_tool(roll).schema["properties"]
    assert properties["sides"] == {"type": "integer", "minimum": 2, "exclusiveMaximum": 100, "description": "of the die"}
    assert (properties["share"]["exclusiveMinimum"], properties["share"]["maximum"]) == (0, 1)
    assert (properties["names"]["minItems"], properties["names"]["maxItems"]) == (1, 2)
    assert properties["names"]["items"] == {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5}
    assert properties["even"]["multipleOf"] == 2
    assert properties["stake"]["minimum"] == 0
    assert call(roll, sides=6, share=0.5, names=["ab"], even=4)[:4] == (6, 0.5, ["ab"], 4)
    wrong: list[dict[str, Any]] = [
        {"sides": 1},
        {"sides": 100},
        {"sides": 2, "share": 0},
        {"sides": 2, "names": []},
        {"sides": 2, "names": ["A"]},
    ]
    for arguments in [*wrong, {"sides": 2, "even": 3}, {"sides": 2, "stake": -1}]:
        with pytest.raises(allm.ToolError):
            call(roll, **arguments)


def test_a_type_that_is_not_understood_is_refused_in_words_of_ours() -> None:
    class Odd:
        pass

    def tool(x: Odd) -> None: ...

    with pytest.raises(allm.ValidationError, match="x: ") as caught:
        as_tool(tool)
    assert "dec_hook" not in str(caught.value)
    assert "please" not in str(caught.value)


# arrays

BARE: Any = {"type": "array"}
OPEN: Any = {"type": "array", "items": {}}
ARRAYS: dict[str, tuple[Any, Any]] = {
    "bare": ({"type": "array"}, OPEN),
    "among types": ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
    "in a field": ({"properties": {"a": {"type": "array"}}}, {"properties": {"a": OPEN}}),
    "a field called items": ({"properties": {"items": {"type": "array"}}}, {"properties": {"items": OPEN}}),
    "in an array": ({"type": "array", "items": BARE}, {"type": "array", "items": OPEN}),
    "one of several": ({"anyOf": [{"type": "array"}, {"type": "null"}]}, {"anyOf": [OPEN, {"type": "null"}]}),
    "in definitions": ({"$defs": {"a": {"type": "array"}}}, {"$defs": {"a": OPEN}}),
    "of patterns": ({"patternProperties": {"^a": {"type": "array"}}}, {"patternProperties": {"^a": OPEN}}),
    "further fields": ({"additionalProperties": {"type": "array"}}, {"additionalProperties": OPEN}),
    "with the first items": ({"type": "array", "prefixItems": [BARE]}, {"type": "array", "prefixItems": [OPEN], "items": {}}),
    "none": ({"type": "array", "items": False}, {"type": "array", "items": False}),
    "a default that looks like one": ({"default": BARE, "enum": [BARE]}, {"default": BARE, "enum": [BARE]}),
}  # fmt: skip


@pytest.mark.parametrize("what", ARRAYS)
@pytest.mark.parametrize(
    "make", [with_items, lambda schema: ToolSpec("t", "", schema).schema, lambda schema: allm.Tool(name="t", schema=schema).schema]
)
def test_an_array_says_what_its_items_are(what: str, make: Callable[[Any], Any]) -> None:
    given, expected = ARRAYS[what]
    assert make(given) == expected


def test_a_schema_that_lacks_nothing_is_the_same_object() -> None:
    schema = allm.Tool(name="t", schema={"type": "object", "properties": {"a": OPEN}}).schema
    assert with_items(schema) is schema
    assert ToolSpec("t", "", schema).schema is schema


@pytest.mark.parametrize("hint", [list, tuple, set, frozenset, list[list], dict[str, list], list | None])  # type: ignore[type-arg]
def test_so_does_that_of_a_bare_type(hint: Any) -> None:
    assert '"items"' in msgspec.json.encode(schema_of(hint)).decode()
    assert with_items(schema_of(hint)) == schema_of(hint)


# generators


def numbers() -> Iterator[int]:
    yield 1


async def later() -> AsyncIterator[int]:
    yield 1


class Box:
    def each(self) -> Iterator[int]:
        yield 1

    def __call__(self) -> Iterator[int]:
        yield 1


GENERATORS: dict[str, Any] = {
    "a function": numbers,
    "an asynchronous one": later,
    "a method": Box().each,
    "an object": Box(),
    "a partial": functools.partial(numbers),
}


@pytest.mark.parametrize("what", GENERATORS)
@pytest.mark.parametrize("declare", [as_tool, lambda it: allm.Tool(name="t", handler=it), lambda it: allm.Engine("fake:any", tools=[it])])
def test_a_generator_is_refused_where_it_is_declared(what: str, declare: Callable[[Any], Any]) -> None:
    with pytest.raises(allm.ValidationError, match=r"handler: a generator gives its values one by one.*return a list"):
        declare(GENERATORS[what])


@pytest.mark.parametrize("function", [numbers, later])
def test_the_decorator_refuses_one(function: Any) -> None:
    with pytest.raises(allm.ValidationError, match="generator"):
        allm.tool(function)
