"""Pure decisions about restarts: who restarts, when it is too much, who goes along, how long to wait.

No clock, no thread, no randomness of its own: times and a random number come in as arguments.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

from allm.supervisors.exits import Exit

__all__ = [
    "AutoShutdown",
    "Backoff",
    "GiveUp",
    "Policy",
    "Restart",
    "RestartType",
    "Strategy",
    "Window",
    "affected",
    "is_time",
    "should_restart",
]

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]

T = TypeVar("T")


_LONGEST: Final = 1e9
"""Seconds; more are for ever."""


def is_time(value: object, *, endless: bool = False) -> bool:
    """Whether it is a number of seconds that clocks can reckon with, not negative; a boolean is none. `endless`: or infinity."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value <= sys.float_info.max or (endless and value == math.inf)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay` seconds; not `counted`: the attempt number stays as it is."""

    delay: float = 0.0
    counted: bool = True

    def __post_init__(self) -> None:
        if not is_time(self.delay) or type(self.counted) is not bool:
            raise ValueError(f"not a restart: {self}")


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again. `escalate`: let restart type and budget decide instead."""

    escalate: bool = False

    def __post_init__(self) -> None:
        if type(self.escalate) is not bool:
            raise ValueError(f"not a giving up: {self}")


GIVE_UP: Final = GiveUp()


class Policy(Protocol):
    """A child's own word on its restarts; those spend none of the supervisor's budget.

    Asked on the supervisor's thread after each abnormal exit, and each failed start of a restart. A policy may have an
    attribute ``reset_after``: after a run of more than so many seconds attempts are counted from 1 again.
    """

    def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
        """`attempt` is the number of the run that ended, from 1."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow: ``first * factor ** (n - 1)``, at most `max`, `jitter` a share that is random.

    A run longer than `reset_after` seconds starts the series again.
    """

    first: float = 0.1
    factor: float = 2.0
    max: float = 30.0
    jitter: float = 0.0
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        times = is_time(self.first) and is_time(self.max, endless=True) and is_time(self.reset_after, endless=True)
        if not times or not is_time(self.factor) or self.factor < 1 or not is_time(self.jitter) or self.jitter > 1:
            raise ValueError(f"not a backoff: {self}")

    def delay(self, failures: int, random: float = 1.0) -> float:
        """Seconds before the restart that follows `failures` failures in a row; `random` in [0, 1)."""
        try:
            grown = min(self.max, self.first * float(self.factor) ** (failures - 1), _LONGEST)
        except OverflowError:
            grown = min(self.max, _LONGEST) if self.first else 0.0
        return grown * (1.0 - self.jitter * (1.0 - random))


def should_restart(restart: RestartType, exit: Exit) -> bool:
    """OTP's table: permanent always, transient after an abnormal exit, temporary never."""
    return restart == "permanent" or (restart == "transient" and exit.abnormal)


def affected(strategy: Strategy, children: Sequence[T], failed: T) -> list[T]:
    """The children a restart of `failed` takes along, itself included, in start order."""
    if strategy == "one_for_all":
        return list(children)
    if strategy == "rest_for_one":
        return list(children[children.index(failed) :])
    return [failed]


class Window:
    """The restart budget: a sliding window. A restart at ``then`` counts while ``now <= then + max_seconds``."""

    __slots__ = ("_times", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._times: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count a restart; False when it is one too many."""
        times = self._times
        times.append(now)
        while times[0] + self.max_seconds < now:
            times.popleft()
        return len(times) <= self.max_restarts

    def __len__(self) -> int:
        return len(self._times)
