"""Structured output: formats from types, answers read as these types, and what is wrong with one in words for the model."""

import dataclasses
import gc
import subprocess
import sys
import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, cast

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import allm
from allm import ChatResult, JsonSchema, Response, Thread, ValidationError
from allm.codec import from_json, to_json
from allm.schemas import problem
from allm.structured import as_format, parse, problem_of, type_name


@dataclasses.dataclass
class City:
    name: str
    people: int | None = None


class Movie(TypedDict):
    title: str


class Node(msgspec.Struct):
    name: str
    kids: list["Node"] = []


class Model(pydantic.BaseModel):
    size: int = pydantic.Field(ge=1)
    tags: list[str] = []


CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


def format_of(hint: Any) -> JsonSchema:
    found = as_format(hint)
    assert isinstance(found, JsonSchema)
    return found


def answer(text: str, hint: Any = None) -> Response:
    named = {} if hint is None else {"response_type": type_name(as_format(hint))}
    return Response(message=allm.assistant(text), finish_reason="stop", metadata=named)


@pytest.mark.parametrize("given", ["json", "text", allm.json_schema("a", {"type": "object"})])
def test_what_is_a_format_stays_as_it_is(given: Any) -> None:
    assert as_format(given) is given
    assert (type_name(given) is None) == isinstance(given, str)


def test_an_answer_to_a_schema_by_hand_is_held_against_it() -> None:
    form = allm.json_schema("a", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert answer('{"n": 1}', form).parsed == {"n": 1}
    with pytest.raises(ValidationError, match="n: expected integer"):
        _ = answer('{"n": "1"}', form).parsed
    for number in range(300):  # the latest ones are remembered
        type_name(allm.json_schema("b", {"const": number}))
    assert answer('{"n": 1}', form).parsed == {"n": 1}
    assert as_format({"name": "a", "schema": form.schema, "strict": True}) == form


@pytest.mark.parametrize("given", ["xml", None, {"type": "object"}, 3, complex, Any])
def test_what_is_no_type_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError, match="response_format"):
        as_format(given)


def test_a_type_is_asked_for_as_strict_modes_want_it() -> None:
    assert as_format(City) == JsonSchema("City", CITY, True)


@pytest.mark.parametrize(
    ("hint", "strict"),
    [
        *((hint, True) for hint in (City, Movie, Node, Model, list[City], Literal["a", "b"], uuid.UUID)),
        *((hint, False) for hint in (dict[str, int], list[Any], tuple[int, str], dict)),
    ],
    ids=str,
)
def test_every_format_is_an_object_with_a_name_that_providers_take(hint: Any, strict: bool) -> None:
    form = format_of(hint)
    assert form.strict is strict
    assert form.schema["type"] == "object"
    assert form.name.replace("_", "").replace("-", "").isalnum()
    assert len(form.name) <= 64
    if strict:
        closed(form.schema)


def closed(schema: Any) -> None:
    """Each object lists all its fields as required and takes no others; nothing has a default."""
    if isinstance(schema, Mapping):
        given = cast("Mapping[str, Any]", schema)
        assert "default" not in given
        if given.get("type") == "object":
            assert given["additionalProperties"] is False
            assert sorted(given["required"]) == sorted(given["properties"])
        closed(list(given.values()))
    elif isinstance(schema, list | tuple):
        for inner in cast("list[Any]", schema):
            closed(inner)


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (City, '{"name":"Paris","people":2.0}', City("Paris", 2)),
        (City, '{"name":"Paris"}', City("Paris")),
        (City, '```json\n{"name":"Paris","people":null}\n```', City("Paris")),
        (City, '\n  ```\n{"name":"Paris"}```  \n', City("Paris")),
        (Movie, '{"title":"M"}', {"title": "M"}),
        (Node, '{"name":"a","kids":[{"name":"b","kids":[]}]}', Node("a", [Node("b")])),
        (Model, '{"size":2,"tags":["x"]}', Model(size=2, tags=["x"])),
        (list[City], '{"value":[{"name":"Paris","people":1}]}', [City("Paris", 1)]),
        (list[City], '[{"name":"Paris"}]', [City("Paris")]),
        (Literal["yes", "no"], '{"value":"no"}', "no"),
        (dict[str, int], '{"a":1}', {"a": 1}),
    ],
    ids=str,
)
def test_the_answer_is_read_as_the_type(hint: Any, text: str, value: Any) -> None:
    assert answer(text, hint).parsed == value
    assert type(answer(text, hint).parsed) is type(value)
    assert problem_of(text, as_format(hint)) is None
    result = ChatResult(Thread(), (), answer(text, hint), "completed")
    assert result.parsed == value
    assert from_json(to_json(result), ChatResult).parsed == value


@pytest.mark.parametrize(
    ("hint", "text", "wrong"),
    [
        (City, "Paris", "the answer is no JSON"),
        (City, "```json\nParis\n```", "the answer is no JSON"),
        (City, "[" * 5_000, "the answer is no JSON"),
        (City, '{"people":1}', "name: it is required, but missing"),
        (City, '{"name":3}', "name: expected string, got 3"),
        (Model, '{"size":0,"tags":[]}', "size: expected at least 1, got 0"),
        (list[City], '{"value":[{"name":1,"people":1}]}', "value[0].name: expected string, got 1"),
        (uuid.UUID, '{"value":"x"}', "Invalid UUID"),
    ],
)
def test_what_does_not_fit_is_told_for_the_model_and_raised_for_the_user(hint: Any, text: str, wrong: str) -> None:
    found = problem_of(text, as_format(hint))
    assert found is not None
    assert found.startswith(wrong)
    with pytest.raises(ValidationError) as caught:
        _ = answer(text, hint).parsed
    assert found in caught.value.message


def test_without_a_type_the_answer_is_plain_json() -> None:
    assert answer('```json\n{"a":[1]}\n```').parsed == {"a": [1]}
    with pytest.raises(ValidationError, match="no JSON"):
        _ = answer("no").parsed
    assert ChatResult(Thread(), (), None, "completed").parsed is None


@pytest.mark.parametrize("form", [None, "text"])
def test_text_is_never_wrong(form: Any) -> None:
    assert problem_of("anything", form) is None


def test_json_and_schemas_written_by_hand_are_checked_too() -> None:
    schema = allm.json_schema("City", {"type": "object", "required": ["name"]})
    assert problem_of("{}", "json") is None
    assert (problem_of("", "json") or "").startswith("the answer is no JSON")
    assert problem_of("{}", schema) == "name: it is required, but missing"
    assert problem_of('{"name":1}', schema) is None


# What is remembered


def test_the_same_type_has_the_same_format_and_two_of_one_name_do_not() -> None:
    first: Any = dataclasses.make_dataclass("Twin", [("a", int)])
    second: Any = dataclasses.make_dataclass("Twin", [("a", int)])
    assert as_format(first) is as_format(first)
    assert format_of(first).name != format_of(second).name
    assert type(answer('{"a":1}', first).parsed) is first
    assert type(answer('{"a":1}', second).parsed) is second


def test_a_schema_by_hand_of_the_same_name_is_not_taken_for_the_type() -> None:
    by_hand = type_name(allm.json_schema(format_of(City).name, {"type": "object"}))
    assert by_hand is not None
    assert by_hand.startswith("schema:")
    assert type_name(from_json(to_json(format_of(City)), JsonSchema)) == f"{__name__}:City"


def test_a_type_that_is_gone_is_forgotten() -> None:
    gone: Any = dataclasses.make_dataclass("Gone", [("a", int)])
    response, form = answer('{"a":1}', gone), as_format(gone)
    del gone
    gc.collect()
    assert str(type_name(form)).startswith("schema:")
    assert response.parsed == {"a": 1}


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "City", "other:City", "", 3, None, "nowhere.to.be:Found"])
def test_a_name_that_is_not_remembered_imports_nothing_and_means_nothing(name: Any) -> None:
    as_format(City)
    modules = set(sys.modules)
    assert parse('{"name":"Paris"}', name) == {"name": "Paris"}
    assert set(sys.modules) == modules


def test_in_another_process_the_answer_is_plain_json() -> None:
    document = to_json(answer('{"name":"Paris","people":null}', City))
    source = "import sys, allm; print(allm.from_json(sys.stdin.buffer.read()).parsed)"
    done = subprocess.run([sys.executable, "-c", source], input=document, capture_output=True, check=True, timeout=50)
    assert done.stdout.decode().strip() == "{'name': 'Paris', 'people': None}"


def test_type_expressions_are_not_remembered_without_end() -> None:
    from allm import structured

    for n in range(600):
        as_format(Literal[f"{n}"])  # pyright: ignore[reportInvalidTypeForm]
    assert len([entry for entry in structured._entries.values() if entry.weak is None]) <= 256  # pyright: ignore[reportPrivateUsage]


@given(st.builds(City, st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.none() | st.integers(-(1 << 63), (1 << 63) - 1)))
def test_whatever_the_type_encodes_fits_its_schema_and_comes_back(city: City) -> None:
    text = msgspec.json.encode(city).decode()
    assert problem(msgspec.json.decode(text), format_of(City).schema) is None
    assert answer(text, City).parsed == city


def test_a_refusal_says_so_where_an_answer_was_to_be_read() -> None:
    for text in ("", "I will not."):
        refused = Response(message=allm.assistant(text), finish_reason="content_filter", refusal="I will not.")
        with pytest.raises(allm.ValidationError, match=r"parsed: the model refused: I will not\."):
            _ = refused.parsed


# Around the JSON


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "Paris"}\n```',
        '```\n{"name": "Paris"}   \n  ```  ',
        'Here it is:\n```json\n{"name": "Paris"}\n```\nAnything else?',
        'Here it is: {"name": "Paris"}',
        '{"name": "Paris"}\n',
        '{"name": "Paris"}\nAnything else?',
        'Here: {"name": "Paris"}. Anything else?',
        "<think>\nA {town}, and in France.\n</think>\n" + '{"name": "Paris"}',
        "<think>{}</think>" + 'It is: {"name": "Paris"} as I said',
        '{}{"name": "Paris"}',
        '"{\\"name\\": \\"Paris\\"}"',
    ],
)
def test_what_stands_around_the_answer_is_none_of_it(text: str) -> None:
    assert parse(text) == {"name": "Paris"}


def test_a_fence_within_the_answer_is_part_of_it() -> None:
    assert parse('{"code": "```\\nx\\n```"}') == {"code": "```\nx\n```"}


def test_blanks_without_end_are_read_in_a_moment() -> None:
    """In a process that ends after 5 seconds of work, the start included."""
    source = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
import allm
from allm.structured import problem_of
blanks = " " * 1_000_000
for text in ("```\\n" + blanks + "x", "```\\n" + blanks + "```" + blanks, "{" + blanks, "``` " * 250_000, "x" + "[" * 500_000 + "]"):
    assert problem_of(text, "json").startswith("the answer is no JSON")
    try:
        allm.Response(message=allm.assistant(text), finish_reason="stop").parsed
    except allm.ValidationError:
        continue
    raise AssertionError(text[:10])
print("done")
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=50)
    assert done.stdout == "done\n", (done.returncode, done.stderr[-2_000:])
