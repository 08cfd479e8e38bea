"""Bounds on what comes from outside."""

from collections.abc import Iterator
from typing import Any

import pytest

import allm
from allm.limits import limits, set_limits


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    before = limits()
    yield
    set_limits(before)


def test_the_limits_of_the_process_are_set_by_configure() -> None:
    allm.configure(limits=allm.Limits(calls=7))
    assert limits().calls == 7
    allm.configure()
    assert limits().calls == 7


@pytest.mark.parametrize("name", allm.Limits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "5", None])
def test_a_limit_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        allm.Limits(**{name: value})
    assert caught.value.metadata == {"path": f"limits.{name}"}


def test_only_limits_are_limits() -> None:
    wrong: Any = {"calls": 7}
    with pytest.raises(allm.ValidationError, match=r"expected allm\.Limits, got dict"):
        allm.configure(limits=wrong)
