"""A child's place in its supervisor: it stays while incarnations come and go.

What the child's cell has to say reaches the supervisor as messages in its mailbox, with the generation they are
about; a report of an older generation is void. Only a child that starts inline, on the supervisor's own loop,
is seen at once.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from pykka import ActorRef

from allm.supervisors.cell import Cell
from allm.supervisors.children import DOWN, RESTARTING, RUNNING, STARTING, STOPPING, Child
from allm.supervisors.exits import Exit
from allm.supervisors.foreign import Foreign
from allm.supervisors.mailbox import Kept
from allm.supervisors.spec import ChildSpec

if TYPE_CHECKING:
    from allm.supervisors.timers import TimerRef

__all__ = ["DOWN", "RESTARTING", "RUNNING", "STARTING", "STOPPING", "Began", "Deadline", "Ended", "Made", "RestartNow", "Slot"]


class Slot(Child):
    """A child with its live parts. Runs on the supervisor's thread, but for the four methods a cell calls."""

    __slots__ = ("began", "cell", "ended_inline", "extra", "home", "inline", "kept", "made", "present", "ref", "timer")

    def __init__(self, spec: ChildSpec, home: Cell) -> None:
        super().__init__(spec)
        self.kept = Kept(spec.max_redeliver) if spec.mailbox == "keep" else None
        self.cell: Cell | Foreign | None = None
        self.home = home
        self.ref: ActorRef[Any] | None = None
        self.extra: Any = None
        self.timer: TimerRef | None = None
        self.present = Lock()  # taken by whoever tells the supervisor that it will not come back
        self.present.acquire()  # until it is started
        self.inline = False
        self.began = False  # inline
        self.ended_inline: Exit | None = None
        self.made: Made | None = None  # by its start function, and not taken yet

    def disarm(self) -> None:
        """Take back the timer that is about this child."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    # -- called by the child's cell, on any thread

    def child_started(self, cell: Cell) -> None:
        if self.inline and cell.generation == self.generation:
            self.began = True
        else:
            self.home.put_message(Began(self, cell.generation))

    def child_ended(self, cell: Cell, exit: Exit) -> None:
        if self.inline and not self.began and cell.generation == self.generation:
            self.ended_inline = exit  # an earlier one, killed while it was made, may be told of twice
        else:  # also when it came up and ended in one turn: that is no failed start
            if cell.started and self.status is STARTING:  # killed while it was telling so: twice told is once
                self.home.put_message(Began(self, cell.generation))
            self.home.put_message(Ended(self, cell.generation, exit, cell))

    def started(self, cell: Cell) -> None:
        """Take the start of a child that a start function made, as its watcher."""
        self.child_started(cell)

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Take the end of a child that a start function made; it may have come and gone before it was watched."""
        if cell.started and self.inline:
            self.child_started(cell)
        self.child_ended(cell, cell.exit or exit)


class Began(NamedTuple):
    """The child's start is complete."""

    slot: Slot
    generation: int


class Ended(NamedTuple):
    """The child is gone."""

    slot: Slot
    generation: int
    exit: Exit
    cell: Cell | Foreign


class Deadline(NamedTuple):
    """The time to stop, or to start, is over; `status` says which. A child may have gone on to the other meanwhile."""

    slot: Slot
    generation: int
    status: str


class RestartNow(NamedTuple):
    """The delay before a restart is over."""

    slot: Slot
    generation: int


class Made(NamedTuple):
    """A start function has returned, in a turn of its own; ``open`` is taken by whoever takes the result, or ends it."""

    slot: Slot
    generation: int
    result: Any
    cell: Cell
    open: Lock
