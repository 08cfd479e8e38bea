"""Reports of supervisors and actors, as plain data: to whoever subscribed, and to the log where the program configured one.

Nothing is made while nobody listens: who has something to tell asks `wanted` first.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

from allm.supervisors import log
from allm.supervisors.exits import Exit, Json, text_of
from allm.supervisors.ticks import Tick

__all__ = [
    "ActorCrashed",
    "ChildEnded",
    "ChildRestarting",
    "ChildStarted",
    "Context",
    "DeadLetter",
    "Escalated",
    "Event",
    "Offender",
    "RootEnded",
    "SlowTurn",
    "SupervisorReport",
    "dead_letter",
    "emit",
    "listeners",
    "subscribe",
    "wanted",
]


class Event:
    """A report, as listeners get it. `name` and `level` are those of its line in the log."""

    __slots__ = ()
    name: ClassVar[str]
    level: ClassVar[log.Level]

    def to_data(self) -> dict[str, Json]:
        """The event as JSON types: its fields, and ``event``, its name. An id that is no JSON is told by its text."""
        return {"event": self.name, **_fields(self)}


@dataclass(frozen=True, slots=True)
class ChildStarted(Event):
    """A child runs; `generation` counts its starts."""

    name = "child_started"
    level = "info"

    supervisor: str
    child: Hashable
    generation: int


@dataclass(frozen=True, slots=True)
class ChildEnded(Event):
    """A child ended, for whatever reason."""

    name = "child_ended"
    level = "info"

    supervisor: str
    child: Hashable
    generation: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class ChildRestarting(Event):
    """A child will be started again after `delay` seconds."""

    name = "child_restarting"
    level = "warning"

    supervisor: str
    child: Hashable
    exit: Exit
    restarts: int
    delay: float


@dataclass(frozen=True, slots=True)
class Escalated(Event):
    """A supervisor gave up: its restart budget is spent."""

    name = "escalated"
    level = "error"

    supervisor: str
    child: Hashable
    exit: Exit


@dataclass(frozen=True, slots=True)
class ActorCrashed(Event):
    """An actor that no supervisor started ended by an exception."""

    name = "actor_crashed"
    level = "error"

    actor: str
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
class SupervisorReport(Event):
    """Something a supervisor had to deal with: OTP's supervisor report, with its four contexts."""

    name = "supervisor_report"
    level = "error"

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
class DeadLetter(Event):
    """A message nobody handled: its actor ended first, its mailbox was full, or it failed too often.

    As data it holds the name of the message's type only: the message is a program's own.
    """

    name = "dead_letter"
    level = "warning"

    actor: str
    message: Any
    exit: Exit
    error: str | None = None

    def to_data(self) -> dict[str, Json]:
        """See `Event.to_data`."""
        return {"event": self.name, **_fields(self), "message": type(self.message).__name__}


@dataclass(frozen=True, slots=True)
class SlowTurn(Event):
    """Handlers of an actor held an event loop for longer than its dispatcher was told to bear."""

    name = "slow_turn"
    level = "warning"

    actor: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RootEnded(Event):
    """The tree of a program (`run`) is down, or never came up; `code` is the program's exit code.

    `signal` is the one it was ended by, `cause` the child that a supervisor gave up on before.
    """

    name = "root_ended"
    level = "error"

    root: str
    exit: Exit
    code: int
    signal: str | None = None
    started: bool = True
    cause: dict[str, Any] | None = None


def wanted(level: log.Level = "error") -> bool:
    """Whether anybody would hear of an event of this level."""
    return bool(listeners) or log.enabled(level)


def dead_letter(actor: str, message: Any, exit: Exit, error: str | None = None) -> None:
    """Report a message that was lost."""
    if wanted("warning"):
        message = message.message if isinstance(message, Tick) else message
        emit(DeadLetter(actor, message, exit, error))


def emit(event: Event, context: contextvars.Context | None = None, level: log.Level | None = None) -> None:
    """Hand an event to the log and to all listeners; a listener's bug stays its own.

    Its line has the context of what it is about, if that has one, and the event's own level unless another is given.
    """
    level = level or event.level
    if log.enabled(level):
        values = event.to_data()
        log.write(level, str(values.pop("event")), values, context)
    for listener in list(listeners):
        try:
            listener(event)
        except BaseException as error:  # a SystemExit too: who has something to tell is a supervisor, or a dying actor
            log.error("listener_failed", error=text_of(error, repr))


def _fields(record: Event | Offender) -> dict[str, Json]:
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}  # type: ignore[arg-type]


def _plain(value: Any) -> Json:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Exit):
        return value.to_data()
    if isinstance(value, dict):
        return value  # of JSON types  # pyright: ignore[reportUnknownVariableType]
    return _fields(value) if isinstance(value, Offender) else text_of(value)
