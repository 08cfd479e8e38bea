"""Actors in the making: the dispatcher and the kept mailbox that a new actor takes over from the code that makes it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from allm.supervisors.dispatch import Dispatcher, ThreadDispatcher
from allm.supervisors.mailbox import Kept
from allm.supervisors.timers import Timers

if TYPE_CHECKING:
    from allm.supervisors.actor import Actor

__all__ = ["THREADS", "construct", "given", "inherited", "prepare", "spawning"]

THREADS: Final = ThreadDispatcher()
"""Where actors run when nothing else is said."""


class _Given(threading.local):
    dispatcher: Dispatcher | None = None
    kept: Kept | None = None
    timers: Timers | None = None


given: Final = _Given()
"""What the code that runs on this thread has for the actors it makes."""


@contextmanager
def spawning(dispatcher: Dispatcher, timers: Timers | None = None) -> Generator[None]:
    """While inside, what starts on this thread has this dispatcher, and these timers: how start functions inherit them."""
    before = given.dispatcher, given.timers
    given.dispatcher, given.timers = dispatcher, timers
    try:
        yield
    finally:
        given.dispatcher, given.timers = before


def inherited() -> Dispatcher:
    """The dispatcher of the supervisor that called this start function."""
    return given.dispatcher or THREADS


def construct(actor_class: type[Actor], kept: Kept | None, *args: Any, **kwargs: Any) -> Actor:
    """Make an actor, on a mailbox that is kept if there is one; it takes that over when it is launched."""
    if kept is None:
        return actor_class(*args, **kwargs)
    given.kept = kept
    try:
        return actor_class(*args, **kwargs)
    finally:
        given.kept = None


def prepare(actor_class: type[Actor], kept: Kept | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Actor:
    """Make an actor whose ``__init__`` runs in its own first turn, on its own dispatcher and in its own name."""
    new = actor_class.__new__
    actor = new(actor_class) if new is object.__new__ else new(actor_class, *args, **kwargs)
    given.kept = kept
    try:
        actor._equip()  # pyright: ignore[reportPrivateUsage]
    finally:
        given.kept = None
    actor._initial = (args, kwargs)  # pyright: ignore[reportPrivateUsage]
    return actor
