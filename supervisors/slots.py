"""A child's place in its supervisor: it stays while incarnations come and go.

What the child's cell has to say reaches the supervisor as messages in its mailbox, with the generation they are
about; a report of an older generation is void. Only a child that starts inline, on the supervisor's own loop,
is seen at once.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pykka import ActorRef

from allm.supervisors.cell import Cell
from allm.supervisors.exits import Exit
from allm.supervisors.foreign import Foreign
from allm.supervisors.futures import Reply
from allm.supervisors.mailbox import Kept
from allm.supervisors.spec import ChildSpec, Start

if TYPE_CHECKING:
    from allm.supervisors.timers import TimerRef

__all__ = ["DOWN", "RESTARTING", "RUNNING", "STARTING", "STOPPING", "Began", "Deadline", "Ended", "RestartNow", "Slot"]

STARTING: Final = "starting"
RUNNING: Final = "running"
STOPPING: Final = "stopping"
RESTARTING: Final = "restarting"
DOWN: Final = "down"


class Slot:
    """One child. Runs on the supervisor's thread, but for the four methods a cell calls."""

    __slots__ = (
        "cell",
        "ended_inline",
        "exit",
        "extra",
        "failures",
        "generation",
        "group",
        "home",
        "id",
        "inline",
        "kept",
        "present",
        "ref",
        "reply",
        "restarts",
        "spec",
        "start",
        "status",
        "timer",
        "up_since",
        "waiters",
    )

    def __init__(self, spec: ChildSpec, home: Cell) -> None:
        self.id: Hashable = spec.id
        self.spec = spec
        self.start: Start | None = spec.start  # None once it will not be needed again
        self.kept = Kept(spec.max_redeliver) if spec.mailbox == "keep" else None
        self.cell: Cell | Foreign | None = None
        self.home = home
        self.ref: ActorRef[Any] | None = None
        self.status: str = DOWN
        self.generation = 0
        self.restarts = 0  # all of them
        self.group: list[Slot] = []  # those that were stopped for its restart
        self.failures = 0  # counted by the policy or the backoff
        self.up_since: float | None = None
        self.exit: Exit | None = None  # the last one
        self.extra: Any = None
        self.timer: TimerRef | None = None
        self.reply: Reply[Any] | None = None  # who asked for this start
        self.waiters: list[Reply[Any]] = []  # who asked for this stop
        self.present: list[bool] = []  # popped by whoever tells the supervisor that it will not come back
        self.inline = False
        self.ended_inline: Exit | None = None

    @property
    def up(self) -> bool:
        """Whether there is an incarnation that must be stopped."""
        return self.status in (STARTING, RUNNING, STOPPING)

    def disarm(self) -> None:
        """Take back the timer that is about this child."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    # -- called by the child's cell, on any thread

    def child_started(self, cell: Cell) -> None:
        if self.inline:
            self.status = RUNNING
        else:
            self.home.put_message(Began(self, cell.generation))

    def child_ended(self, cell: Cell, exit: Exit) -> None:
        if self.inline and self.status is not RUNNING:
            self.ended_inline = exit
        else:  # also when it came up and ended in one turn: that is no failed start
            if cell.started and self.status is STARTING:  # killed while it was telling so: twice told is once
                self.home.put_message(Began(self, cell.generation))
            self.home.put_message(Ended(self, cell.generation, exit, cell))

    def started(self, cell: Cell) -> None:
        """As a watcher of a child that a start function made."""
        self.child_started(cell)

    def ended(self, cell: Cell, exit: Exit) -> None:
        """As a watcher of a child that a start function made; it may have come and gone before it was watched."""
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
