"""Values can be hashed, as what equals hashes alike: `functools.cache`, sets and dicts take engines, requests and responses."""

import functools
from typing import Any

import pytest
from hypothesis import given

import allm
from allm.codec import from_json, to_json
from allm.plain import FrozenDict
from allm.tools import Tool
from tests.golden.examples import EXAMPLES
from tests.strategies import values


def look(city: str) -> str:
    return city


class Unhashable:
    """A handler whose class compares by value and has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, city: str) -> str:
        return city

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)


@given(values())
def test_every_value_hashes_like_its_equal(value: Any) -> None:
    assert hash(value) == hash(from_json(to_json(value), trusted=True))
    assert value in {value}


def test_every_example_is_found_in_a_set() -> None:
    assert {*EXAMPLES} >= {from_json(to_json(value), trusted=True) for value in EXAMPLES}


@pytest.mark.parametrize("metadata", [{}, {"a": [1, {"b": [2.0, None]}]}, {"a": {}}], ids=str)
def test_lists_tuples_and_mappings_of_a_payload_hash_alike(metadata: dict[str, Any]) -> None:
    one = allm.Message("user", "hi", metadata=metadata)
    other = allm.Message("user", "hi", metadata=dict(from_json(to_json(one)).metadata))
    assert one == other
    assert hash(one) == hash(other)
    assert hash(FrozenDict(one.metadata)) == hash(FrozenDict(other.metadata))


def test_values_that_differ_have_hashes_that_differ() -> None:
    messages = [allm.Message(role, text, metadata={"n": n}) for role in ("user", "system") for text in ("a", "b") for n in range(20)]
    assert len({hash(message) for message in messages}) == len(messages)


def test_engines_are_taken_by_a_cache() -> None:
    calls: list[str] = []

    @functools.cache
    def price(engine: allm.Engine, request: allm.Request) -> int:
        calls.append(engine.model)
        return len(calls)

    engine = allm.Engine(
        "fake:a", id="e", tools=[look], keys={"openai": "k"}, params={"stop": ["x"]}, context={"user": {"id": 1}}, history=allm.keep_last(2)
    )
    again = engine.with_model("b").with_model("a")
    request = allm.request([allm.user("hi")], options={"x": [1]})
    assert price(engine, request) == price(again, allm.request([allm.user("hi")], options={"x": [1]})) == 1
    assert price(engine.with_model("b"), request) == 2
    assert {engine: 1}[again] == 1


def test_a_handler_without_a_hash_does_not_take_the_engines_away() -> None:
    engines = [allm.Engine("fake:a", id="e", tools=[Tool(name="t", handler=Unhashable())]) for _ in range(2)]
    assert engines[0] == engines[1]
    assert len({*engines}) == 1


def test_a_response_can_be_remembered() -> None:
    fake = allm.testing.Fake(
        [("reasoning", "hm"), ("tool_call", "look", {"city": "Oslo"}), ("usage", {"input_tokens": 1}), ("finish", "stop")]
    )
    response = allm.generate(fake.engine, "hi")
    assert {response: "seen"}[from_json(to_json(response))] == "seen"
    assert {response.message: "seen"}[from_json(to_json(response.message))] == "seen"
