"""A sequential reference of supervision, written from OTP's rules; it calls nothing of ours and knows no thread.

What takes turns in a live tree is here a queue of things to do (`World.todo`), and a static supervisor is a generator:
OTP's supervisor blocks while it starts or ends a child, so the generator rests there, and what it is told meanwhile
waits in its inbox. A shutdown or a bug of its own drops the generator and begins the end. Its children end with it.

What is not OTP's is what the contract says of Python: a restart may be delayed by a backoff, a child may be hung, and
one that is killed ends at once for everybody else.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

__all__ = ["Boss", "Kid", "Leaf", "Place", "Static", "Swarm", "Ticket", "Tree", "World"]

Path: TypeAlias = tuple[str, ...]
Wait: TypeAlias = Callable[[], bool]
Steps: TypeAlias = Generator[Wait, None, None]

UP = ("starting", "running", "stopping")
ORDERLY = ("normal", "shutdown", "ignore")
LONG = 60.0
"""A run longer than this, in seconds, begins a backoff anew."""


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

    def plant(self, tree: Tree) -> Boss:
        """A root of its own."""
        root = boss(self, (), None, 1, tree)
        root.begin()
        self.run()
        return root

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


def seen(place: Place) -> Any:
    """What can be seen of a child: id, status, restarts, and what is below it."""
    below = [seen(inner) for inner in place.proc.places] if isinstance(place.proc, Boss) else None
    return place.id, place.status, place.restarts, below


class Place:
    """A child in its supervisor, over all its incarnations."""

    def __init__(self, home: Boss, kid: Kid) -> None:
        self.home, self.kid, self.id = home, kid, kid.id
        self.status = "down"
        self.was_up = False  # the incarnation of now
        self.generation = self.restarts = self.failures = 0
        self.up_since: float | None = None
        self.exit = "shutdown"
        self.proc: Proc | None = None
        self.timer: Timer | None = None
        self.starter: Ticket | None = None  # who asked a dynamic supervisor for it
        self.waiters: list[Ticket] = []  # who asked for its end

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.action = self.timer = None

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


class Boss(Proc):
    """What both kinds of supervisor do: watch their children, and reckon with their budget."""

    def __init__(self, world: World, path: Path, place: Place | None, generation: int, tree: Tree) -> None:
        super().__init__(world, path, place, generation)
        self.tree = tree
        self.places: list[Place] = []
        self.final: str | None = None
        self.spent: list[float] = []
        self.asked: list[Ticket] = []
        world.made[path] += 1
        self.key = path, world.made[path]
        if tree.dynamic:
            world.unordered.add(self.key)

    def tell(self, event: tuple[Any, ...]) -> None:
        self.world.events[self.key].append(event)

    def find(self, id: str) -> Place | None:
        return next((place for place in self.places if place.id == id), None)

    def request(self, what: str, argument: Any) -> Ticket:
        """Ask it for a change."""
        ticket = Ticket("dead" if self.final is not None else None)
        if ticket.answer is None:
            self.asked.append(ticket)
            self.take(what, argument, ticket)
        return ticket

    def crash(self) -> Ticket:
        """A bug of its own."""
        if self.final is not None:
            return Ticket("dead")
        self.shut("error")
        return Ticket("error")

    def take(self, what: str, argument: Any, ticket: Ticket) -> None:
        raise NotImplementedError

    def came_up(self, place: Place) -> None:
        raise NotImplementedError

    def start_failed(self, place: Place) -> None:
        raise NotImplementedError

    def ended_alone(self, place: Place, kind: str) -> None:
        raise NotImplementedError

    def stopped(self, place: Place) -> None:
        raise NotImplementedError

    # -- children

    def spawn(self, place: Place) -> None:
        place.generation += 1
        place.status, place.was_up = "starting", False
        path = (*self.path, place.id)
        if place.kid.below is None:
            place.proc = Leaf(self.world, path, place, place.generation)
        else:
            place.proc = boss(self.world, path, place, place.generation, place.kid.below)
        if place.kid.start_timeout is not None:
            place.arm(place.kid.start_timeout, partial(place.proc.kill, "error"))
        place.proc.begin()

    def end_child(self, place: Place) -> None:
        """Tell a child to end, and give it its time."""
        place.disarm()
        place.status = "stopping"
        assert place.proc is not None
        if place.kid.shutdown == "brutal_kill":
            place.proc.kill()
            return
        if place.kid.shutdown != "infinity":
            place.arm(place.kid.shutdown, place.proc.kill)
        place.proc.shut("shutdown")

    def child_started(self, place: Place, generation: int) -> None:
        if self.exit is not None or place.generation != generation or place.status != "starting":
            return
        place.disarm()
        place.status, place.up_since, place.was_up = "running", self.world.now, True
        self.tell(("started", place.id, generation))
        self.came_up(place)

    def child_ended(self, place: Place, generation: int, kind: str) -> None:
        if self.exit is not None or place.generation != generation or place.status not in UP:
            return
        place.disarm()
        before, place.status, place.proc, place.exit = place.status, "down", None, kind
        if place.was_up:
            self.tell(("ended", place.id, generation, kind))
        if before == "stopping" or self.final is not None:
            self.stopped(place)
        elif before == "running":
            self.ended_alone(place, kind)
        else:
            self.start_failed(place)

    def forget(self, place: Place) -> None:
        if place in self.places:
            self.places.remove(place)
        self.gone(place)

    def gone(self, place: Place) -> None:
        """Who waits for its end need not wait longer."""
        place.disarm()
        for ticket in place.waiters:
            ticket.answer = "ok"
        place.waiters = []

    # -- restarts

    def verdict(self, place: Place, kind: str, *, retried: bool) -> str | float:
        """Seconds until the restart, or "leave" it, or "escalate"."""
        restart = place.kid.restart
        if restart == "temporary" or (restart == "transient" and kind in ORDERLY and not retried):
            return "leave"
        now = self.world.now
        self.spent = [*(then for then in self.spent if now - then <= self.tree.max_seconds), now]
        if len(self.spent) > self.tree.max_restarts:
            return "escalate"
        if place.kid.backoff is None:
            return 0.0
        if place.up_since is not None and now - place.up_since > LONG:
            place.failures = 0
        place.up_since = None
        place.failures += 1
        first, longest = place.kid.backoff
        return min(longest, first * 2.0 ** (place.failures - 1))

    def will_restart(self, place: Place, kind: str, delay: float) -> None:
        place.status = "restarting"
        place.restarts += 1
        self.tell(("restarting", place.id, kind, place.restarts, delay))

    def give_up(self, place: Place, kind: str) -> None:
        self.tell(("escalated", place.id, kind))

    # -- the end

    def kill(self, kind: str = "killed") -> None:
        if self.exit is not None:
            return
        self.world.unordered.add(self.key)
        self.done(kind)
        for place in self.places:
            place.disarm()
            proc, place.proc, place.status = place.proc, None, "down"
            if proc is not None:
                proc.kill()
            if proc is not None and place.was_up:
                self.tell(("ended", place.id, place.generation, proc.exit))

    def done(self, kind: str) -> None:
        """All children are down, or were killed with it."""
        self.final = kind
        for ticket in self.asked:
            ticket.answer = ticket.answer or "dead"
        self.over(kind)


class Static(Boss):
    """OTP's supervisor. `task` is what it does now, and rests until `waits_for` holds."""

    def __init__(self, world: World, path: Path, place: Place | None, generation: int, tree: Tree) -> None:
        super().__init__(world, path, place, generation, tree)
        self.inbox: deque[tuple[Any, ...]] = deque()
        self.task: Steps = self.life()
        self.waits_for: Wait = lambda: True
        self.ending: Place | None = None

    def begin(self) -> None:
        self.places = [Place(self, kid) for kid in self.tree.kids]
        self.pump()

    def pump(self) -> None:
        """Go on as far as possible."""
        while self.exit is None and self.waits_for():
            self.waits_for = next(self.task)

    def life(self) -> Steps:
        for place in list(self.places):
            yield from self.bring_up(place)
            if place.status == "down" and place.exit != "ignore":
                self.forget(place)
                yield from self.finish("shutdown")
            elif place.status == "down":
                self.left_out(place)
        self.started()
        while True:
            yield lambda: bool(self.inbox)
            what, *rest = self.inbox.popleft()
            yield from getattr(self, f"on_{what}")(*rest)

    # -- what happens

    def put(self, *message: Any) -> None:
        self.inbox.append(message)
        self.pump()

    def take(self, what: str, argument: Any, ticket: Ticket) -> None:
        self.put(what, argument, ticket)

    def came_up(self, place: Place) -> None:
        self.pump()

    def start_failed(self, place: Place) -> None:
        self.pump()

    def ended_alone(self, place: Place, kind: str) -> None:
        self.put("exit", place, place.generation, kind)

    def stopped(self, place: Place) -> None:
        if place.kid.restart == "temporary" or self.final is not None:
            self.forget(place)
        elif place.waiters:
            self.gone(place)
        self.pump()

    def shut(self, kind: str) -> None:
        if self.final is None:
            self.task.close()
            self.task, self.waits_for = self.finish(kind), lambda: True
            self.pump()

    # -- one child, step by step

    def bring_up(self, place: Place) -> Steps:
        self.spawn(place)
        yield lambda: place.status != "starting"

    def take_down(self, place: Place) -> Steps:
        if place.status in ("starting", "running"):
            self.end_child(place)
        if place.status == "stopping":
            self.ending = place
            yield lambda: place.status != "stopping"
        elif place.status == "restarting":
            place.disarm()
            place.status = "down"

    def clear(self, group: list[Place]) -> Steps:
        """End a group; the temporary ones are not to come back with it, also those that ended by themselves just now."""
        for place in reversed(group):
            yield from self.take_down(place)
            if place.kid.restart == "temporary":
                self.forget(place)

    def left_out(self, place: Place) -> None:
        if place.kid.restart == "temporary":
            self.forget(place)

    def finish(self, kind: str) -> Steps:
        """The end: the child that it was ending already, the others in reverse, then itself."""
        self.final = kind
        if (place := self.ending) is not None:
            yield lambda: place.status != "stopping"
        for place in reversed(list(self.places)):
            yield from self.take_down(place)
        for place in list(self.places):
            self.forget(place)
        self.done(kind)
        yield lambda: False

    # -- ends and restarts

    def on_exit(self, place: Place, generation: int, kind: str) -> Steps:
        if place.generation == generation and place.status == "down" and place in self.places:
            yield from self.judge(place, kind, retried=False)

    def judge(self, place: Place, kind: str, *, retried: bool) -> Steps:
        verdict = self.verdict(place, kind, retried=retried)
        if verdict == "escalate":
            self.forget(place)
            self.give_up(place, kind)
            yield from self.finish("shutdown")
        elif isinstance(verdict, float):
            generation = place.generation
            self.will_restart(place, kind, verdict)
            if verdict > 0:
                place.arm(verdict, partial(self.put, "retry", place, generation))
            elif retried:
                self.inbox.append(("retry", place, generation))
            yield from self.clear([other for other in self.group(place) if other is not place])
            if verdict == 0 and not retried:
                yield from self.start_group(place)
        else:
            if place.kid.restart == "temporary":
                self.forget(place)
            if place.kid.significant and self.was_last(place):
                yield from self.finish("shutdown")

    def was_last(self, place: Place) -> bool:
        others = (other for other in self.places if other is not place and other.kid.significant)
        return self.tree.auto_shutdown == "any_significant" or all(other.status == "down" for other in others)

    def on_retry(self, place: Place, generation: int) -> Steps:
        if place.generation == generation and place.status == "restarting":
            place.timer = None
            yield from self.start_group(place)

    def group(self, place: Place) -> list[Place]:
        if self.tree.strategy == "one_for_one":
            return [place]
        return self.places[self.places.index(place) :] if self.tree.strategy == "rest_for_one" else list(self.places)

    def start_group(self, place: Place) -> Steps:
        group = self.group(place)
        yield from self.clear([other for other in group if other.status != "restarting"])
        for other in group:
            if other not in self.places:
                continue
            other.disarm()
            yield from self.bring_up(other)
            if other.status == "down" and other.exit == "ignore":
                self.left_out(other)
            elif other.status == "down":
                yield from self.judge(other, other.exit, retried=True)
                return

    # -- requests

    def on_start(self, kid: Kid, ticket: Ticket) -> Steps:
        place = self.find(kid.id)
        if place is not None:
            ticket.answer = "already_started" if place.proc is not None else "already_present"
            return
        place = Place(self, kid)
        self.places.append(place)
        yield from self.bring_up_for(place, ticket)
        if ticket.answer == "start_error":
            self.forget(place)

    def bring_up_for(self, place: Place, ticket: Ticket) -> Steps:
        yield from self.bring_up(place)
        ticket.answer = "start_error" if place.status == "down" and place.exit != "ignore" else "ok"
        if place.status == "down" and place.exit == "ignore":
            self.left_out(place)

    def on_terminate(self, id: str, ticket: Ticket) -> Steps:
        place = self.find(id)
        if place is None:
            ticket.answer = "not_found"
        elif place.status in UP:
            place.waiters.append(ticket)
            yield from self.take_down(place)
        else:
            yield from self.take_down(place)
            if place.kid.restart == "temporary":
                self.forget(place)
            ticket.answer = "ok"

    def on_restart(self, id: str, ticket: Ticket) -> Steps:
        place = self.find(id)
        if place is None or place.status != "down":
            ticket.answer = refusal(place)
        else:
            yield from self.bring_up_for(place, ticket)

    def on_delete(self, id: str, ticket: Ticket) -> Steps:
        place = self.find(id)
        if place is None or place.status != "down":
            ticket.answer = refusal(place)
        else:
            self.places.remove(place)
            ticket.answer = "ok"
        return
        yield


def refusal(place: Place | None) -> str:
    """Why a child that is not down, or not there, cannot be restarted or deleted."""
    if place is None:
        return "not_found"
    return "restarting" if place.status == "restarting" else "running"


class Swarm(Boss):
    """A dynamic supervisor: children come and go by themselves, side by side."""

    def begin(self) -> None:
        self.started()

    def take(self, what: str, argument: Any, ticket: Ticket) -> None:
        if what == "start":
            place = Place(self, argument)
            place.starter = ticket
            self.places.append(place)
            self.spawn(place)
            return
        place = self.find(argument)
        if what != "terminate":
            ticket.answer = "dynamic"
        elif place is None:
            ticket.answer = "not_found"
        elif place.status == "restarting":
            self.forget(place)
            ticket.answer = "ok"
        else:
            place.waiters.append(ticket)
            if place.status != "stopping":
                self.end_child(place)

    def came_up(self, place: Place) -> None:
        starter, place.starter = place.starter, None
        if starter is not None:
            starter.answer = "ok"

    def start_failed(self, place: Place) -> None:
        if place.restarts and place.exit != "ignore":
            self.judge(place, place.exit, retried=True)
        else:
            self.forget(place)

    def ended_alone(self, place: Place, kind: str) -> None:
        self.judge(place, kind, retried=False)

    def stopped(self, place: Place) -> None:
        self.forget(place)

    def judge(self, place: Place, kind: str, *, retried: bool) -> None:
        verdict = self.verdict(place, kind, retried=retried)
        if not isinstance(verdict, float):
            self.forget(place)
            if verdict == "escalate":
                self.give_up(place, kind)
                self.shut("shutdown")
            return
        generation = place.generation
        self.will_restart(place, kind, verdict)
        if verdict > 0:
            place.arm(verdict, lambda: self.retry(place, generation))
        elif retried:
            self.world.todo.append(lambda: self.retry(place, generation))
        else:
            self.spawn(place)

    def retry(self, place: Place, generation: int) -> None:
        if self.exit is None and place.generation == generation and place.status == "restarting":
            place.timer = None
            self.spawn(place)

    def forget(self, place: Place) -> None:
        if place not in self.places:
            return
        place.status = "down"
        super().forget(place)
        starter, place.starter = place.starter, None
        if starter is not None:
            starter.answer = "ok" if place.exit == "ignore" else "start_error"
        if self.final is not None and not self.places and self.exit is None:
            self.done(self.final)

    def shut(self, kind: str) -> None:
        if self.final is not None:
            return
        self.final = kind
        for place in list(self.places):
            if place.status in ("starting", "running"):
                self.end_child(place)
            elif place.status == "restarting":
                self.forget(place)
        if not self.places and self.exit is None:
            self.done(kind)


def boss(world: World, path: Path, place: Place | None, generation: int, tree: Tree) -> Boss:
    """A supervisor of the kind that the tree says."""
    return (Swarm if tree.dynamic else Static)(world, path, place, generation, tree)
