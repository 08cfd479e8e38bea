"""A message that waits for its time, whichever source of time sends it: taken back, sent once, sent again and again."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from pykka import ActorDeadError, ActorRef

from allm.supervisors import log
from allm.supervisors.exits import text_of
from allm.supervisors.here import here

__all__ = ["Clock", "Tick", "Timer", "checked", "deliver", "interval_of", "seconds_of"]

Clock = Callable[[], float]


class Tick(NamedTuple):
    """A timer's message, in a mailbox that is kept: for this incarnation only."""

    cell: Any
    message: Any


class Timer:
    """A message that waits; each source of time has a subclass of its own."""

    __slots__ = ("_cell", "_clock", "_interval", "_message", "_open", "_ref", "when")

    def __init__(self, when: float, ref: ActorRef[Any] | None, message: Any, clock: Clock, interval: float = 0.0) -> None:
        self.when = when
        self._ref = ref
        self._message = message
        self._clock = clock
        self._interval = interval
        self._cell = _own(ref)  # the incarnation it ends with
        self._open = [True]  # popped by whoever settles it: list.pop is atomic

    def fire(self) -> None:
        ref, message, cell = self._ref, self._message, self._cell
        again = self._interval > 0 and not (self._ended() if cell is None else cell.exit is not None)
        if not (bool(self._open) if again else self._settle()) or ref is None:
            return
        try:
            if cell is None or not hasattr(cell, "kept"):
                deliver(ref, message)
            elif cell.exit is None:
                deliver(ref, Tick(cell, message))
        except Exception as error:  # this timer's own affair
            log.error("timer_failed", error=text_of(error, repr))
        if again:
            self.when += self._interval * max(1.0, (self._clock() - self.when) // self._interval + 1)
            self._again()

    def _ended(self) -> bool:
        return self._ref is None or not self._ref.is_alive()

    def _again(self) -> None:
        """Have it sent at its next time."""
        raise NotImplementedError

    def cancel(self) -> float | None:
        left = max(0.0, self.when - self._clock())
        return left if self._settle() else None

    def remaining(self) -> float | None:
        return max(0.0, self.when - self._clock()) if self._open else None

    def _settle(self) -> bool:
        try:
            self._open.pop()
        except IndexError:
            return False
        self._ref = self._message = None
        return True


def _own(ref: ActorRef[Any] | None) -> Any:
    """The actor's cell if it is the actor itself that sets a timer: in a handler, or before it is launched."""
    cell: Any = getattr(ref.actor_inbox, "acting", None) if ref is not None else None
    return cell if cell is not None and (cell is here.cell or cell.dispatcher is None) else None


def deliver(ref: ActorRef[Any], message: Any) -> None:
    """Tell it, dead or alive: nobody is there to hear of the failure."""
    put: Callable[[Any], None] | None = getattr(ref.actor_inbox, "put_message", None)
    if put is not None:  # not counted by a bound; and a supervisor on its way down still keeps its deadlines
        put(message)
        return
    try:
        ref.tell(message)
    except ActorDeadError:
        return
    except BaseException as error:  # an actor of another kind: whoever delivers is nobody whom that may end
        log.error("not_delivered", actor=text_of(ref), error=text_of(error, repr))


def seconds_of(seconds: object, what: str) -> float:
    """A number that times can be compared with; anything else is refused, as a heap that holds it loses its order."""
    if seconds.__class__ is float and seconds == seconds:  # nearly always
        return cast("float", seconds)
    if not isinstance(seconds, (float, int)) and not isinstance(seconds, numbers.Real):
        raise TypeError(f"{what} is a number of seconds, not {type(seconds).__name__}")
    try:
        real = float(seconds)
    except OverflowError:
        raise ValueError(f"{what} is too long") from None
    if real != real:
        raise ValueError(f"{what} is a number of seconds, not NaN")
    return real


def interval_of(seconds: object) -> float:
    """A number of seconds above 0; anything else is refused."""
    interval = seconds_of(seconds, "interval")
    if interval <= 0:
        raise ValueError(f"interval must be more than 0 seconds, not {seconds!r}")
    return interval


def checked(ref: object) -> ActorRef[Any]:
    """The ref of an actor; anything else is refused."""
    if not isinstance(ref, ActorRef):
        raise TypeError(f"a timer tells a message to the ref of an actor, not to {type(ref).__name__}")
    return cast("ActorRef[Any]", ref)
