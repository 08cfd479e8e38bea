"""What handlers give becomes JSON: subclasses, numpy's scalars, keys that are no text, and what has no JSON form is refused."""

import datetime as dt
import decimal
import enum
import uuid
from collections import Counter, OrderedDict, deque
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import allm
from allm.freezing import freeze
from allm.results import plain

UTC = dt.UTC
SOME = uuid.UUID(int=7)


class Stamp(dt.datetime):
    """Like pandas' and pendulum's: a datetime with more in it."""

    def isoformat(self, *_: Any, **__: Any) -> str:
        raise AssertionError("its own words may be any")


class NotATime(dt.datetime):
    """Like pandas' NaT: a datetime by its class, equal to nothing, itself included."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = dt.datetime.__hash__


class Day(dt.date):
    pass


class Hour(dt.time):
    pass


class Span(dt.timedelta):
    pass


class Money(decimal.Decimal):
    pass


class Id(uuid.UUID):
    pass


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: Any


class Scalar:
    """Like numpy's: it knows what it is in Python's types."""

    def __init__(self, value: Any, kind: str = "i") -> None:
        self._value = value
        self.dtype = SimpleNamespace(kind=kind)

    dtype: Any = None

    def tolist(self) -> Any:
        return self._value

    def __str__(self) -> str:
        return f"<{self._value}>"


class Tally(Scalar):
    def __hash__(self) -> int:
        return 1


RESULTS: dict[str, tuple[Any, Any]] = {
    "a datetime of a subclass": (Stamp(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
    "a time that is none": (NotATime(2026, 1, 1), None),
    "a date": (Day(2026, 1, 2), "2026-01-02"),
    "a time": (Hour(1, 2, 3), "01:02:03"),
    "a timedelta": (Span(hours=1), "PT3600S"),
    "a decimal": (Money("1.50"), "1.50"),
    "a UUID": (Id(int=7), str(SOME)),
    "a path": (Path("/tmp/a"), "/tmp/a"),
    "a pure path": (PurePosixPath("a/b"), "a/b"),
    "a deque": (deque([1, Stamp(2026, 1, 1)]), [1, "2026-01-01T00:00:00"]),
    "a range": (range(3), [0, 1, 2]),
    "views of a dict": ([{"a": 1}.keys(), {"a": 2}.values(), {"a": 3}.items()], [["a"], [2], [["a", 3]]]),
    "an enum with a value that is no scalar": (Colour.PAIR, [1, 2]),
    "wei": (10**24, str(10**24)),
    "wei below zero, inside": ({"n": [-(10**24)]}, {"n": [str(-(10**24))]}),
    "the largest and the smallest integer": ([2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
    "a scalar of numpy": ({"n": Scalar(3)}, {"n": 3}),
    "an array of numpy": (Scalar([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "a date of numpy": (Scalar(1767225600000000000, "M"), "<1767225600000000000>"),
    "keys": (
        {dt.date(2026, 1, 2): 1, SOME: 2, Colour.RED: 3, Level.HIGH: 4, 5: 5, 1.5: 6, True: 7, Money("2.50"): 8, Stamp(2026, 1, 1): 9},
        {"2026-01-02": 1, str(SOME): 2, "red": 3, "3": 4, "5": 5, "1.5": 6, "true": 7, "2.50": 8, "2026-01-01T00:00:00": 9},
    ),
    "keys of numpy": ({Tally(8): 1}, {"8": 1}),
    "a counter": (Counter("aab"), {"a": 2, "b": 1}),
    "an ordered dict in a named tuple": (Point(1, OrderedDict(b=Day(2026, 1, 1))), [1, {"b": "2026-01-01"}]),
}  # fmt: skip


@pytest.mark.parametrize("what", RESULTS)
def test_what_has_a_form_in_json_is_given_in_it(what: str) -> None:
    given, expected = RESULTS[what]
    assert freeze(plain(given)) == freeze(expected)


@pytest.mark.parametrize(
    "value", [object(), {"a": [lambda: 1]}, {(1, 2): 3}, {None: 1}, b"bytes", float("nan"), {"a": {1, object()}}, {b"k": 1}]
)
def test_what_has_none_is_refused(value: Any) -> None:
    with pytest.raises(allm.ValidationError):
        freeze(plain(value), "result")


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, {dt.date(2026, 1, 2): 1, "2026-01-02": 2}, {Colour.RED: 1, "red": 2}])
def test_keys_that_are_one_in_json_are_refused(value: Any) -> None:
    with pytest.raises(allm.ValidationError, match="one in JSON"):
        plain(value)


def test_a_value_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(allm.ValidationError, match="nested deeper"):
        plain(value)


def test_a_tool_gives_such_results_to_the_model() -> None:
    def wallet() -> Any:
        return {Level.HIGH: Money("0.1"), "wei": 10**24, "at": Stamp(2026, 1, 2, tzinfo=UTC), "file": Path("/a")}

    script: list[Any] = [[("tool_call", "wallet", {}, "c"), ("finish", "tool_calls")], [("text", "done"), ("finish", "stop")]]
    result = allm.chat(allm.Engine("fake:any", adapter_opts={"scripts": script}, tools=[wallet]), "Go.")
    (told,) = [message.text for message in result.thread.messages if message.role == "tool"]
    assert told == '{"3":"0.1","wei":"1000000000000000000000000","at":"2026-01-02T00:00:00Z","file":"/a"}'
