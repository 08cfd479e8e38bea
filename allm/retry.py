"""Retry: (error, attempt, content seen) -> restart after a delay, or give up. Pure: no clock, no randomness of its own."""

import sys
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from allm.errors import ADAPTER_REASONS, ErrorInfo, ValidationError
from allm.plain import Value

__all__ = ["Decision", "GiveUp", "RestartAfter", "Retry"]

RETRIED: Final = (
    "rate_limited", "overloaded", "server_error", "service_unavailable", "timeout", "connection_closed", "truncated",
    "malformed_response",
)  # fmt: skip


class RestartAfter(msgspec.Struct, frozen=True):
    """Start the next attempt after `delay` seconds."""

    delay: float


class GiveUp(msgspec.Struct, frozen=True):
    """No further attempt."""


Decision: TypeAlias = RestartAfter | GiveUp


class Retry(Value, frozen=True, kw_only=True):
    """The retry policy of an engine, which is the restart policy of its calls.

    `max_attempts` counts the first one. The delay before attempt n+1 is `min(max_delay, base_delay * 2**(n-1))` seconds, times a
    factor drawn from `1-jitter .. 1+jitter`; a provider's Retry-After replaces it, and one longer than `max_retry_after` ends the call.
    `mid_stream` says what happens to a failure after content: `auto` restarts folds and fails streams.
    """

    max_attempts: int = 3
    base_delay: float = 0.5
    max_delay: float = 30.0
    jitter: float = 0.25
    retry_on: tuple[str, ...] = RETRIED
    respect_retry_after: bool = True
    max_retry_after: float = 120.0
    mid_stream: Literal["auto", "restart", "fail"] = "auto"

    def __post_init__(self) -> None:
        if type(self.retry_on) is not tuple:
            force_setattr(self, "retry_on", tuple(self.retry_on))
        _check("retry.max_attempts", self.max_attempts, 1)
        if not isinstance(self.max_attempts, int):
            raise ValidationError.at("retry.max_attempts", f"must be a whole number, got {self.max_attempts!r}")
        for name in ("base_delay", "max_delay", "jitter", "max_retry_after"):
            _check(f"retry.{name}", getattr(self, name), 0)
        if self.jitter > 1:
            raise ValidationError.at("retry.jitter", "must lie in 0..1")
        if self.mid_stream not in ("auto", "restart", "fail"):
            raise ValidationError.at("retry.mid_stream", f"unknown mode {self.mid_stream!r}")
        if unknown := set(self.retry_on) - ADAPTER_REASONS:
            raise ValidationError.at("retry.retry_on", f"unknown reasons {sorted(unknown)}")

    @classmethod
    def none(cls) -> "Retry":
        """One attempt only."""
        return cls(max_attempts=1)

    def decide(self, error: ErrorInfo, attempt: int, content_seen: bool, folding: bool, random: float) -> Decision:
        """What follows after attempt number `attempt` (from 1) ended with `error`.

        `content_seen`: something that a caller would have to forget had been produced. `folding`: nobody watches the deltas.
        `random` is drawn from 0..1 by the caller. `should_retry`, True or False in the error's metadata, comes before `retry_on`: so
        says the provider (`x-should-retry`), or whoever knows that another attempt brings the same.
        """
        if attempt >= self.max_attempts or not self._retries(error):
            return GiveUp()
        if content_seen and not (self.mid_stream == "restart" or (self.mid_stream == "auto" and folding)):
            return GiveUp()
        if error.retry_after is not None and self.respect_retry_after:
            return RestartAfter(max(0.0, error.retry_after)) if error.retry_after <= self.max_retry_after else GiveUp()
        return RestartAfter(self.backoff(attempt) * (1 + self.jitter * (2 * random - 1)))

    def _retries(self, error: ErrorInfo) -> bool:
        told = error.metadata.get("should_retry")
        return told if isinstance(told, bool) else error.reason in self.retry_on and error.reason != "quota_exceeded"

    def backoff(self, attempt: int) -> float:
        """Seconds before attempt `attempt + 1`, without jitter."""
        return min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, 60))


def _check(path: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= sys.float_info.max:
        raise ValidationError.at(path, f"must be a number of at least {least:g}, got {value!r}")
