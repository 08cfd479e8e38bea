"""A supervisor as plain data: its children with their statuses, what is to be done for them, what waits.

Nothing here knows of actors, threads or clocks: `decide` works on these alone, and so do its tests. A supervisor's own
children are `Slot`s, which hold the live parts as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from allm.supervisors.exits import Exit
from allm.supervisors.policy import Window
from allm.supervisors.spec import ChildSpec, Flags, Start

__all__ = ["DOWN", "RESTARTING", "RUNNING", "STARTING", "STOPPING", "Child", "Children", "Phase", "State", "Step", "Why"]

STARTING: Final = "starting"
RUNNING: Final = "running"
STOPPING: Final = "stopping"
RESTARTING: Final = "restarting"
DOWN: Final = "down"

Why: TypeAlias = Literal["first", "added", "revived", "arranged", "restart", "aside"]
"""What a child was last started for, which says what its failure means; ``aside``: stopped for another's restart."""

Phase: TypeAlias = Literal["beginning", "serving", "ending", "over"]


class Child:
    """A child, whose incarnations come and go."""

    __slots__ = (
        "exit",
        "failures",
        "generation",
        "group",
        "id",
        "reply",
        "restarts",
        "spec",
        "start",
        "status",
        "up_since",
        "waiters",
        "why",
    )

    def __init__(self, spec: ChildSpec) -> None:
        self.id: Hashable = spec.id
        self.spec = spec
        self.start: Start | None = spec.start  # None once it will not be needed again
        self.status: str = DOWN
        self.why: Why = "added"
        self.generation = 0  # counted by whoever starts it
        self.restarts = 0  # all of them
        self.failures = 0  # counted by the policy or the backoff
        self.up_since = 0.0
        self.exit: Exit | None = None  # the last one
        self.group: Sequence[Child] = ()  # those that were stopped for its restart
        self.reply: Any = None  # who asked for this start
        self.waiters: tuple[Any, ...] = ()  # who asked for this stop

    @property
    def up(self) -> bool:
        """Whether there is an incarnation that must be stopped."""
        return self.status in (STARTING, RUNNING, STOPPING)


class Children:
    """The children in start order, each found in O(1) by its id, or, where all have the id of a template, only by itself."""

    __slots__ = ("_table", "_template")

    def __init__(self, template: bool = False) -> None:
        self._table: dict[Hashable, Child] = {}
        self._template = template

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._table.values()))

    def in_reverse(self) -> list[Child]:
        """The newest first."""
        return list(reversed(self._table.values()))

    def get(self, id: Hashable) -> Child | None:
        """The child with this id; None when there is none, and under a template. Any thread."""
        if self._template:
            return None
        try:
            return self._table.get(id)
        except BaseException:  # what strangers send may refuse to be hashed or compared: it is no child's id
            return None

    def check(self, id: Hashable) -> None:
        """Raise what its hash, or a comparison with the ids that are there, raises: such a child could not be found again."""
        if not self._template:
            self._table.get(id)

    def holds(self, child: Child) -> bool:
        """Whether this very child is there."""
        return self._table.get(child if self._template else child.id) is child

    def add(self, child: Child) -> None:
        """Put it after the others, or in the place of who has its id."""
        self._table[self._key(child)] = child

    def remove(self, child: Child) -> None:
        """Take it out."""
        del self._table[self._key(child)]

    def replace(self, children: Iterable[Child]) -> None:
        """Put these children, in this order, in the place of all."""
        self._table = {self._key(child): child for child in children}

    def _key(self, child: Child) -> Hashable:
        return child if self._template else child.id


class Step(NamedTuple):
    """A thing that is done after others."""

    kind: Literal["start", "start again", "stop", "stop aside", "group", "ready", "answer"]
    child: Child | None = None
    why: Why = "added"
    reply: Any = None
    value: Any = None


class State:
    """The state a supervisor decides from. `ordered`: its children one after the other, in start order; else each by itself, at once."""

    __slots__ = ("children", "final", "flags", "held", "most", "ordered", "phase", "queue", "waiting", "window")

    def __init__(self, flags: Flags, *, ordered: bool, template: bool = False, most: int | None = None) -> None:
        self.ordered = ordered
        self.most = most  # children at a time
        self.children = Children(template)
        self.phase: Phase = "beginning" if ordered else "serving"
        self.final: Exit | None = None  # why it ends, once it does
        self.queue: deque[Step] = deque()
        self.held: deque[Any] = deque()  # reports that must not mix with what is going on
        self.waiting: Child | None = None  # whose report the queue waits for
        self.configure(flags)

    def configure(self, flags: Flags) -> None:
        """Take these flags from now on, with a new budget."""
        self.flags = flags
        self.window = Window(flags.max_restarts, flags.max_seconds)
