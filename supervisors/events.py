"""What supervisors report, as plain data, to whoever subscribed. Nothing is made while nobody did."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from allm.supervisors import log
from allm.supervisors.exits import Exit

__all__ = [
    "ChildEnded",
    "ChildRestarting",
    "ChildStarted",
    "Context",
    "DeadLetter",
    "Escalated",
    "Offender",
    "SlowTurn",
    "SupervisorReport",
    "dead_letter",
    "emit",
    "listeners",
    "report",
    "subscribe",
]


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


Context: TypeAlias = Literal["start_error", "child_terminated", "shutdown_error", "shutdown"]


@dataclass(frozen=True, slots=True)
class Offender:
    """The child a report is about."""

    id: Hashable
    type: str | None
    restart: str
    shutdown: str | float | None
    generation: int


@dataclass(frozen=True, slots=True)
class SupervisorReport:
    """Something a supervisor had to deal with: OTP's supervisor report, with its four contexts."""

    supervisor: str
    context: Context
    reason: Exit
    offender: Offender


listeners: list[Callable[[Any], object]] = []


def subscribe(listener: Callable[[Any], object]) -> Callable[[], None]:
    """Call `listener` with every report, on the thread it arises on; the result takes it back."""
    listeners.append(listener)

    def unsubscribe() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return unsubscribe


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message nobody handled: its actor ended first, its mailbox was full, or it failed too often."""

    actor: str
    message: Any
    exit: Exit
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SlowTurn:
    """Handlers of an actor held an event loop for longer than its dispatcher was told to bear."""

    actor: str
    seconds: float


def dead_letter(actor: str, message: Any, exit: Exit, error: str | None = None) -> None:
    """Report a message that was lost."""
    if listeners:
        emit(DeadLetter(actor, message, exit, error))


def report(event: SupervisorReport) -> None:
    """Hand it to all listeners and to the log."""
    log.error(
        "supervisor_report",
        supervisor=event.supervisor,
        context=event.context,
        reason=event.reason.to_data(),
        child=str(event.offender.id),
    )
    emit(event)


def emit(event: Any) -> None:
    """Hand a report to all listeners; a listener's bug stays its own."""
    for listener in list(listeners):
        try:
            listener(event)
        except Exception as error:
            log.error("listener_failed", error=error)
