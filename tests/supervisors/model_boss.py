"""The part of the reference that both kinds of supervisor share: they watch their children, and reckon with their budget."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.supervisors.model import UP, Leaf, Path, Place, Proc, Ticket, Tree, World

__all__ = ["Boss", "seen"]

ORDERLY = ("normal", "shutdown", "ignore")
LONG = 60.0
"""A run longer than this, in seconds, begins a backoff anew."""


def seen(place: Place) -> Any:
    """What can be seen of a child: id, status, restarts, and what is below it."""
    below = [seen(inner) for inner in place.proc.places] if isinstance(place.proc, Boss) else None
    return place.id, place.status, place.restarts, below


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
            place.proc = self.world.boss(self.world, path, place, place.generation, place.kid.below)
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
        starter, place.starter = place.starter, None
        if starter is not None:  # it was ended before it was up
            starter.answer = "ok" if place.exit == "ignore" else "start_error"

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
