"""The supervisors of the reference: OTP's rules, one message after the other.

A static one is a generator: OTP's supervisor blocks while it starts or ends a child, so the generator rests there, and what it is
told meanwhile waits in its inbox. A shutdown or a bug of its own drops the generator and begins the end: its children end first.

What is not OTP's is what the contract says of Python: a restart may be delayed by a backoff, a child may hang, and one that is killed
ends at once for everybody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeAlias

from tests.supervisors.model import UP, Kid, Path, Place, Ticket, Tree, World
from tests.supervisors.model_boss import Boss

__all__ = ["Static", "Swarm", "plant"]

Wait: TypeAlias = Callable[[], bool]
Steps: TypeAlias = Generator[Wait, None, None]


def plant(world: World, tree: Tree) -> Boss:
    """Start a root, and do all that follows."""
    world.boss = boss
    root = boss(world, (), None, 1, tree)
    root.begin()
    world.run()
    return root


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
        if self.ending is not None and self.ending.status == "stopping":
            yield from self.take_down(self.ending)
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
        place.starter = ticket
        yield from self.bring_up(place)
        place.starter = None
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
            self.places.append(Place(self, argument))
            self.places[-1].starter = ticket
            self.spawn(self.places[-1])
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
