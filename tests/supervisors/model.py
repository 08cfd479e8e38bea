"""A sequential reference of supervision, written from OTP's rules: the world, its clock, and workers that do as they are told.

It calls nothing of ours and knows no thread: what takes turns in a live tree is here a queue of things to do (`World.todo`).
The supervisors are in `model_boss` and `model_supervisors`.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from tests.supervisors.model_boss import Boss

__all__ = ["UP", "Kid", "Leaf", "Path", "Place", "Proc", "Ticket", "Timer", "Tree", "World", "personal"]

Path: TypeAlias = tuple[str, ...]

UP = ("starting", "running", "stopping")


@dataclass(frozen=True)
class Tree:
    """A supervisor: its kind, its flags and the children it begins with."""

    dynamic: bool = False
    strategy: Any = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: Any = "never"
    kids: tuple[Kid, ...] = ()


@dataclass(frozen=True)
class Kid:
    """A child: what its spec says. `below` is set when it is a supervisor, `backoff` is the first delay and the longest."""

    id: str
    restart: Any = "permanent"
    shutdown: Any = 5.0
    significant: bool = False
    backoff: tuple[float, float] | None = None
    start_timeout: float | None = None
    apart: bool = False
    below: Tree | None = None


def personal(kid: Kid, path: Path) -> Kid:
    """The child with times of its own, by a fraction of a second: no two timers of a tree are due at once, so their order is defined."""
    bit = crc32("/".join(path).encode()) % 2048 / 8192
    own: dict[str, Any] = {name: time + bit for name in ("shutdown", "start_timeout") if isinstance(time := getattr(kid, name), float)}
    backoff = None if kid.backoff is None else (kid.backoff[0] + bit, kid.backoff[1] + bit)
    return replace(kid, backoff=backoff, **own)


@dataclass
class Ticket:
    """What somebody asked, and the word for the answer once there is one."""

    answer: str | None = None


@dataclass(order=True)
class Timer:
    """Something to be done at a time."""

    when: float
    order: int
    action: Callable[[], None] | None = field(compare=False)


class World:
    """The clock, the queue of things to do, who lives, and what was told."""

    boss: Callable[..., Boss]
    """Makes a supervisor of the kind that its tree says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.todo: deque[Callable[[], None]] = deque()
        self.plans: dict[Path, deque[str]] = defaultdict(deque)
        self.alive: list[Proc] = []
        self.events: dict[tuple[Path, int], list[tuple[Any, ...]]] = defaultdict(list)
        self.made: Counter[Path] = Counter()
        self.unordered: set[tuple[Path, int]] = set()  # supervisors whose children end side by side
        self._timers: list[Timer] = []
        self._order = 0

    def run(self) -> None:
        """Do all there is to do."""
        while self.todo:
            self.todo.popleft()()

    def outcome(self, path: Path) -> str:
        """What the next start there comes to."""
        plan = self.plans[path]
        return plan.popleft() if plan else "ok"

    def arm(self, delay: float, action: Callable[[], None]) -> Timer:
        self._order += 1
        timer = Timer(self.now + delay, self._order, action)
        heapq.heappush(self._timers, timer)
        return timer

    def pending(self) -> list[float]:
        """The seconds left of all timers, the nearest first."""
        return sorted(timer.when - self.now for timer in self._timers if timer.action is not None)

    def fire(self, until: float) -> bool:
        """Move the clock to the next timer that is due by then, and do what it says; False when there is none."""
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0].when > until:
            self.now = until
            return False
        timer = heapq.heappop(self._timers)
        action, timer.action = timer.action, None
        self.now = timer.when
        assert action is not None
        action()
        self.run()
        return True


class Place:
    """A child in its supervisor, over all its incarnations."""

    def __init__(self, home: Boss, kid: Kid) -> None:
        self.home, self.id = home, kid.id
        self.kid = personal(kid, (*home.path, kid.id))
        self.status = "down"
        self.was_up = False  # the incarnation of now
        self.generation = self.restarts = self.failures = 0
        self.up_since: float | None = None
        self.exit = "shutdown"
        self.proc: Proc | None = None
        self.timer: Timer | None = None
        self.starter: Ticket | None = None  # who asked for the start that goes on
        self.waiters: list[Ticket] = []  # who asked for its end

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.action = None
            self.timer = None

    def arm(self, delay: float, action: Callable[[], None]) -> None:
        self.disarm()
        self.timer = self.home.world.arm(delay, action)


class Proc:
    """A process: a worker or a supervisor."""

    def __init__(self, world: World, path: Path, place: Place | None, generation: int) -> None:
        self.world, self.path, self.place, self.generation = world, path, place, generation
        self.exit: str | None = None
        world.alive.append(self)

    def begin(self) -> None:
        raise NotImplementedError

    def shut(self, kind: str) -> None:
        """An exit signal that asks for the end."""
        raise NotImplementedError

    def kill(self, kind: str = "killed") -> None:
        """An exit signal that cannot be refused."""
        raise NotImplementedError

    def started(self) -> None:
        place, generation = self.place, self.generation
        if place is not None:
            self.world.todo.append(lambda: place.home.child_started(place, generation))

    def over(self, kind: str) -> None:
        """Gone, and its supervisor hears of it."""
        place, generation = self.place, self.generation
        self.exit = kind
        self.world.alive.remove(self)
        if place is not None:
            self.world.todo.append(lambda: place.home.child_ended(place, generation, kind))


class Leaf(Proc):
    """A worker. `blocked` says what it hangs in: its start, its handler, or its last words."""

    def __init__(self, world: World, path: Path, place: Place, generation: int) -> None:
        super().__init__(world, path, place, generation)
        self.blocked: str | None = None
        self.deaf = False
        self.told: str | None = None
        self.dying: str | None = None
        self.mail: deque[tuple[str, Ticket]] = deque()
        self.current: tuple[str, Ticket] | None = None

    def begin(self) -> None:
        outcome = self.world.outcome(self.path)
        if outcome == "ok":
            self.started()
        elif outcome == "hang":
            self.blocked = "start"
        else:
            self.over("error" if outcome == "fail" else outcome)

    def ask(self, what: str) -> Ticket:
        """Send it a message."""
        ticket = Ticket("dead" if self.dying is not None else None)
        if ticket.answer is None:
            self.mail.append((what, ticket))
            self._work()
        return ticket

    def release(self) -> None:
        """What it hangs in comes to its end."""
        blocked, self.blocked = self.blocked, None
        if blocked == "exit":
            assert self.dying is not None
            self._finish(self.dying)
            return
        if blocked == "start":
            self.started()
        elif self.current is not None:
            self.current[1].answer, self.current = "ok", None
        self._work()

    def shut(self, kind: str) -> None:
        self.told = self.told or kind
        self._work()

    def kill(self, kind: str = "killed") -> None:
        if self.exit is None:
            self._finish(kind)

    def _work(self) -> None:
        while self.exit is None and self.blocked is None:
            if self.told is not None:
                self._leave(self.told)
            elif not self.mail:
                return
            else:
                self._handle(*self.mail.popleft())

    def _handle(self, what: str, ticket: Ticket) -> None:
        if what == "hold":
            self.blocked, self.current = "handler", (what, ticket)
        elif what in ("echo", "deafen"):
            self.deaf = self.deaf or what == "deafen"
            ticket.answer = "ok"
        else:
            self.current = (what, ticket)
            self._leave("error" if what == "crash" else what)

    def _leave(self, kind: str) -> None:
        if self.deaf:
            self.blocked, self.dying = "exit", kind
        else:
            self._finish(kind)

    def _finish(self, kind: str) -> None:
        if self.current is not None:
            what, ticket = self.current
            ticket.answer = "error" if what == "crash" and kind == "error" else "dead"
        for _, ticket in self.mail:
            ticket.answer = "dead"
        self.mail.clear()
        self.over(kind)
