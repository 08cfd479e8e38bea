"""Usage adds up, and what was not reported stays unknown."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from allm import Usage

COUNTED = [name for name in Usage.__struct_fields__ if name != "extra"]


def _usage(fields: dict[str, Any]) -> Usage:
    return Usage(**fields)


_usages = st.fixed_dictionaries(
    {}, optional={name: st.none() | st.integers(0, 1000) for name in COUNTED}
).map(_usage)  # fmt: skip


def test_unknown_is_not_zero() -> None:
    total = Usage(input_tokens=3, total_cost=0.5) + Usage(input_tokens=4, output_tokens=0)
    assert total == Usage(input_tokens=7, output_tokens=0, total_cost=0.5)
    assert total.cached_input_tokens is None


@settings(deadline=None)
@given(_usages, _usages, _usages)
def test_addition_does_not_care_for_order_and_nothing_adds_nothing(a: Usage, b: Usage, c: Usage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a


@settings(deadline=None)
@given(_usages, _usages)
def test_a_field_of_the_sum_is_unknown_only_if_both_are(a: Usage, b: Usage) -> None:
    for name in COUNTED:
        told = [value for value in (getattr(a, name), getattr(b, name)) if value is not None]
        assert getattr(a + b, name) == (sum(told) if told else None)
