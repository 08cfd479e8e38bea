"""The life of an actor, from outside: start it and wait until it is up, stop it and wait until it is down, kill it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from pykka import ActorRef

from allm.supervisors.actor import Actor
from allm.supervisors.cell import Cell, Shutdown, cell_of
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.exits import KILLED, SHUTDOWN, Exit, SupervisionError
from allm.supervisors.futures import Reply
from allm.supervisors.here import AskCycle, here

__all__ = ["StartError", "end_of", "kill", "start_and_wait", "start_of", "stop", "wait_started"]

A = TypeVar("A", bound=Actor)


class StartError(SupervisionError):
    """An actor did not come up; ``exit`` says why (kind ``ignore``: it did not want to)."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(f"not started: {exit.kind} {exit.detail if exit.detail is not None else ''}".rstrip())
        self.exit = exit


class _Started:
    """A watcher that answers once with the start, or fails with the reason there was none."""

    def __init__(self) -> None:
        self.reply: Reply[None] = Reply()

    def started(self, cell: Cell) -> None:
        self.reply.answer(None)

    def ended(self, cell: Cell, exit: Exit) -> None:
        self.reply.fail(StartError(cell.exit or exit))


class _Ended:
    """A watcher that answers once with the end."""

    def __init__(self) -> None:
        self.reply: Reply[Exit] = Reply()

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, exit: Exit) -> None:
        self.reply.answer(exit)


@contextmanager
def start_of(ref: ActorRef[Any]) -> Generator[Reply[None]]:
    """Watch for the start of an actor: the future of it, which fails with `StartError` when there is none."""
    cell, watcher = _own(ref), _Started()
    watcher.reply.target = cell
    cell.watch(watcher, watcher)
    try:
        yield watcher.reply
    finally:
        cell.unwatch(watcher)


@contextmanager
def end_of(ref: ActorRef[Any], reason: Exit) -> Generator[Reply[Exit]]:
    """Tell an actor to end: the future of its exit."""
    cell, watcher = _own(ref), _Ended()
    if here.cell is cell:
        raise AskCycle(f"calling_self: {cell.name} cannot wait for its own end; use exit")
    watcher.reply.target = cell
    cell.watch(watcher, watcher)
    cell.put_signal(Shutdown(reason))
    try:
        yield watcher.reply
    finally:
        cell.unwatch(watcher)


def wait_started(ref: ActorRef[Any], timeout: float | None = None) -> None:
    """Return when its start is complete (a supervisor: all its children's too); `StartError` when it failed."""
    with start_of(ref) as start:
        start.get(timeout=timeout)


def start_and_wait(
    actor_class: type[A], *args: Any, on: Dispatcher | None = None, timeout: float | None = None, **kwargs: Any
) -> ActorRef[A]:
    """Start an actor and return when its start is complete; `StartError` when it failed.

    Whatever keeps it from waiting (the time is over, it may not block here) ends the actor: nobody else has its ref.
    """
    ref = actor_class.start_on(on, *args, **kwargs) if on is not None else actor_class.start(*args, **kwargs)
    try:
        wait_started(ref, timeout)
    except BaseException:
        kill(ref)
        raise
    return ref


def stop(ref: ActorRef[Any], reason: Exit = SHUTDOWN, timeout: float | None = None) -> Exit:
    """End an actor with a reason, ahead of its mailbox, and return its exit when it (and its children) are down."""
    with end_of(ref, reason) as end:
        return end.get(timeout=timeout)


def kill(ref: ActorRef[Any], reason: Exit = KILLED) -> bool:
    """End an actor at once, without its `on_exit`; False when it was dead. A handler that runs is abandoned."""
    return _own(ref).cancel(reason)


def _own(ref: ActorRef[Any]) -> Cell:
    """The cell behind a ref; TypeError for a plain Pykka actor."""
    cell = cell_of(ref)
    if cell is None:
        raise TypeError(f"{ref} is a plain Pykka actor")
    return cell
