"""What supervisors report, as plain data, to whoever subscribed. Nothing is made while nobody did."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from allm.supervisors import log
from allm.supervisors.exits import Exit

__all__ = ["ChildEnded", "ChildRestarting", "ChildStarted", "Escalated", "emit", "listeners", "subscribe"]


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A child runs; `generation` counts its starts."""

    supervisor: str
    child: Hashable
    generation: int


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A child ended, for whatever reason."""

    supervisor: str
    child: Hashable
    generation: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class ChildRestarting:
    """A child will be started again after `delay` seconds."""

    supervisor: str
    child: Hashable
    exit: Exit
    restarts: int
    delay: float


@dataclass(frozen=True, slots=True)
class Escalated:
    """A supervisor gave up: its restart budget is spent."""

    supervisor: str
    child: Hashable
    exit: Exit


listeners: list[Callable[[Any], object]] = []


def subscribe(listener: Callable[[Any], object]) -> Callable[[], None]:
    """Call `listener` with every report, on the thread it arises on; the result takes it back."""
    listeners.append(listener)

    def unsubscribe() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return unsubscribe


def emit(event: Any) -> None:
    """Hand a report to all listeners; a listener's bug stays its own."""
    for listener in list(listeners):
        try:
            listener(event)
        except Exception as error:
            log.error("listener_failed", error=error)
