"""What a dispatcher is: something that gives an actor's cell its turns, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

from allm.supervisors.exits import Exit
from allm.supervisors.timers import Timers

__all__ = ["Dispatcher", "Lane", "Runnable", "is_dispatcher"]


class Runnable(Protocol):
    """A cell, as a dispatcher sees it."""

    lane: Lane
    flag: Lock

    def claim(self) -> bool:
        """Raise the run flag if there is mail and it is down."""
        ...

    @property
    def exit(self) -> Exit | None:
        """Not None once it has ended: it needs no more turns."""
        ...

    @property
    def busy(self) -> object:
        """Not None during a turn."""
        ...

    @property
    def leads(self) -> bool:
        """Whether it is a supervisor: its turns are short, and others wait for it."""
        ...

    @property
    def urgent(self) -> bool:
        """Whether it waits for a turn that handlers that hang may not keep back: a supervisor's, or one for a signal."""
        ...

    @property
    def name(self) -> str:
        """For thread names and errors."""
        ...

    def turn(self) -> bool:
        """Handle some messages; never raises. True: more wait, give it another turn. Only with the run flag raised, and never twice
        at a time."""
        ...

    def mend(self) -> None:
        """End it where its last turn, or its end, was interrupted by the recursion limit."""
        ...

    def cancel(self, exit: Exit) -> bool:
        """End it without a turn: the dispatcher can give none."""
        ...


class Lane(Protocol):
    """Where a cell asks for a turn."""

    def schedule(self, runnable: Runnable, /) -> None:
        """Give it a turn soon. Called by whoever raised the run flag; any thread; never raises."""
        ...

    def urge(self, runnable: Runnable, /) -> None:
        """A signal waits for it, which handlers that hang may not keep back. After `schedule`; any thread; never raises."""
        ...

    def rescue(self, stranded: Sequence[Runnable], /) -> None:
        """Schedule those that are not in the queue: a sender may have been interrupted before it did. Any thread."""
        ...

    def retire(self, runnable: Runnable, busy: bool, /) -> None:
        """It was ended from outside; `busy`: in the middle of a turn, whose thread may never come back."""
        ...


def is_dispatcher(value: object) -> bool:
    """Whether it is one: an object, not the class of some."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in ("launch", "inline", "timers"))


class Dispatcher(Protocol):
    """Gives actors their turns."""

    @property
    def timers(self) -> Timers:
        """The timers that go with it."""
        ...

    def launch(self, runnable: Runnable, /) -> bool:
        """Set its lane and give it its first turn; True when that turn was run before returning."""
        ...

    def inline(self) -> bool:
        """Whether `launch` on this thread runs the first turn before it returns."""
        ...
