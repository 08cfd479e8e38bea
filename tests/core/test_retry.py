"""The retry policy: an error, an attempt and what was seen, to a delay or the end."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm import Retry, ValidationError
from allm.errors import ADAPTER_REASONS, ErrorInfo
from allm.retry import RETRIED, GiveUp, RestartAfter

GONE = GiveUp()


def error(reason: str = "server_error", retry_after: float | None = None) -> ErrorInfo:
    return ErrorInfo("adapter", reason, "it broke", retry_after=retry_after)


def decide(
    policy: Retry, what: ErrorInfo, attempt: int = 1, content: bool = False, folding: bool = False, random: float = 0.5
) -> RestartAfter | GiveUp:
    return policy.decide(what, attempt, content, folding, random)


@pytest.mark.parametrize("reason", sorted(ADAPTER_REASONS))
def test_the_default_policy_retries_what_may_pass_of_itself(reason: str) -> None:
    expected = RestartAfter(0.5) if reason in RETRIED else GONE
    assert decide(Retry(), error(reason)) == expected


def test_the_list_of_what_is_retried_is_the_contracts() -> None:
    assert Retry().retry_on == (
        "rate_limited", "overloaded", "server_error", "service_unavailable", "timeout", "connection_closed", "truncated",
        "malformed_response",
    )  # fmt: skip


def test_a_spent_quota_is_never_retried_even_when_it_is_named() -> None:
    assert decide(Retry(retry_on=("quota_exceeded",)), error("quota_exceeded", retry_after=1)) == GONE


@pytest.mark.parametrize(
    ("policy", "retry_after", "expected"),
    [
        (Retry(), 7.0, RestartAfter(7.0)),
        (Retry(), 0.0, RestartAfter(0.0)),
        (Retry(), 120.0, RestartAfter(120.0)),
        (Retry(), 120.1, GONE),
        (Retry(), math.inf, GONE),
        (Retry(), math.nan, GONE),
        (Retry(), -5.0, RestartAfter(0.0)),
        (Retry(max_retry_after=5), 6.0, GONE),
        (Retry(respect_retry_after=False), 7.0, RestartAfter(0.5)),
        (Retry(respect_retry_after=False), 1e9, RestartAfter(0.5)),
        (Retry(max_delay=1), 7.0, RestartAfter(7.0)),
    ],
)
def test_retry_after_replaces_the_delay_and_a_long_one_ends_the_call(policy: Retry, retry_after: float, expected: object) -> None:
    assert decide(policy, error("rate_limited", retry_after), random=0.5) == expected


@pytest.mark.parametrize(
    ("mode", "folding", "content", "again"),
    [
        ("auto", False, False, True),
        ("auto", True, False, True),
        ("auto", True, True, True),
        ("auto", False, True, False),
        ("restart", False, True, True),
        ("restart", True, True, True),
        ("restart", False, False, True),
        ("fail", False, True, False),
        ("fail", True, True, False),
        ("fail", False, False, True),
        ("fail", True, False, True),
    ],
)
def test_after_content_the_mode_decides(mode: Any, folding: bool, content: bool, again: bool) -> None:
    decision = decide(Retry(mid_stream=mode), error(), content=content, folding=folding)
    assert isinstance(decision, RestartAfter) == again


@pytest.mark.parametrize(("attempt", "delay"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (1000, 30.0)])
def test_delays_double_up_to_the_longest(attempt: int, delay: float) -> None:
    policy = Retry(max_attempts=10_000)
    assert policy.backoff(attempt) == delay
    assert decide(policy, error(), attempt, random=0.5) == RestartAfter(delay)
    assert decide(policy, error(), attempt, random=0) == RestartAfter(delay * 0.75)
    assert decide(policy, error(), attempt, random=1) == RestartAfter(delay * 1.25)


def test_one_attempt_is_no_retry() -> None:
    assert Retry.none().max_attempts == 1
    assert decide(Retry.none(), error("rate_limited", 0)) == GONE


_seconds = st.floats(0, 1e6)
_policies = st.builds(
    Retry,
    max_attempts=st.integers(1, 50),
    base_delay=_seconds,
    max_delay=_seconds,
    jitter=st.floats(0, 1),
    retry_on=st.lists(st.sampled_from(sorted(ADAPTER_REASONS))).map(tuple),
    respect_retry_after=st.booleans(),
    max_retry_after=_seconds,
    mid_stream=st.sampled_from(["auto", "restart", "fail"]),
)
_errors = st.builds(error, st.sampled_from(sorted(ADAPTER_REASONS)), st.none() | st.floats())


@settings(deadline=None, max_examples=300)
@given(_policies, _errors, st.integers(1, 60), st.booleans(), st.booleans(), st.floats(0, 1))
def test_a_restart_is_within_the_attempts_and_its_delay_within_the_formula(
    policy: Retry, what: ErrorInfo, attempt: int, content: bool, folding: bool, random: float
) -> None:
    decision = policy.decide(what, attempt, content, folding, random)
    if isinstance(decision, GiveUp):
        return
    assert attempt < policy.max_attempts
    assert what.reason in policy.retry_on
    if what.retry_after is not None and policy.respect_retry_after:
        assert decision.delay == max(0.0, what.retry_after)
        assert decision.delay <= policy.max_retry_after
    else:
        plain = min(policy.max_delay, policy.base_delay * 2.0 ** (attempt - 1))
        slack = 1e-9 * plain
        assert plain * (1 - policy.jitter) - slack <= decision.delay <= plain * (1 + policy.jitter) + slack
    assert decision.delay >= 0


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"max_attempts": 0}, "retry.max_attempts"),
        ({"max_attempts": 2.5}, "retry.max_attempts"),
        ({"max_attempts": True}, "retry.max_attempts"),
        ({"max_attempts": "3"}, "retry.max_attempts"),
        ({"base_delay": -0.1}, "retry.base_delay"),
        ({"base_delay": math.nan}, "retry.base_delay"),
        ({"base_delay": 10**400}, "retry.base_delay"),
        ({"max_delay": math.inf}, "retry.max_delay"),
        ({"jitter": 1.1}, "retry.jitter"),
        ({"jitter": -1}, "retry.jitter"),
        ({"max_retry_after": None}, "retry.max_retry_after"),
        ({"mid_stream": "resume"}, "retry.mid_stream"),
        ({"retry_on": ("rate_limited", "bad_luck")}, "retry.retry_on"),
        ({"retry_on": "timeout"}, "retry.retry_on"),
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Retry(**fields)
    assert caught.value.metadata == {"path": path}


def test_reasons_may_be_given_as_a_list() -> None:
    reasons: Any = ["timeout"]
    assert Retry(retry_on=reasons).retry_on == ("timeout",)


def test_an_unknown_setting_is_a_type_error() -> None:
    fields: Any = {"attempts": 3}
    with pytest.raises(TypeError):
        Retry(**fields)
