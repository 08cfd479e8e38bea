"""The present of this thread: the actor in its handler, the pool that lent the thread; and who waits for whom.

A blocking wait goes through `waiting`, which refuses it where it could never end: on a loop that a dispatcher
drains, and in a ring of actors that ask one another.
"""

from __future__ import annotations

import threading
import weakref
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop  # pyright: ignore[reportPrivateUsage]
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Protocol

from allm.supervisors.exits import Exit, SupervisionError

__all__ = [
    "AskCycle",
    "Fenced",
    "Lender",
    "Waiter",
    "WouldBlock",
    "awaiting",
    "call_soon",
    "exiting",
    "forked",
    "guard",
    "here",
    "on_loop",
    "ordered",
    "running_loop",
    "serve",
    "threaded",
    "waiting",
]

running_loop: Callable[[], AbstractEventLoop | None] = _get_running_loop
"""The loop that runs on this thread, or None, where `asyncio.get_running_loop` would raise; asked at every put."""


class WouldBlock(SupervisionError, RuntimeError):
    """A blocking wait on a loop's thread: whatever it waits for may need that very loop."""


class AskCycle(SupervisionError, RuntimeError):
    """Actors that ask one another in a ring; ``calling_self`` when the ring is one actor."""


class Fenced(SupervisionError, RuntimeError):
    """An effect of an actor that was killed while its handler ran: it is no longer this actor's to have."""


class Waiter(Protocol):
    """An actor's cell, or whatever else a wait may be for."""

    waiting_on: Waiter | None

    @property
    def acting(self) -> Waiter:
        """The waiter that stands for it at this moment: the incarnation that runs, where a mailbox outlives incarnations."""
        ...

    @property
    def exit(self) -> Exit | None:
        """Its exit, once it has ended."""
        ...

    @property
    def name(self) -> str:
        """Its name in errors."""
        ...


class Lender(Protocol):
    """A pool that takes back a worker's place while the worker waits."""

    def lend(self) -> None:
        """The calling worker starts to wait."""
        ...

    def reclaim(self) -> None:
        """The calling worker goes on."""
        ...


class _Here(threading.local):
    """``cell``: whose handler this thread is in. ``lender``: the pool it is a worker of. ``awaiter``: the actor whose handler
    is a coroutine in one of its steps: while it awaits, its mailbox waits."""

    awaiter: Waiter | None = None
    cell: Waiter | None = None
    lender: Lender | None = None


here = _Here()
threaded: weakref.WeakSet[Any] = weakref.WeakSet()
"""What has threads: in a forked child its ``after_fork()`` is called, at the end of the program its ``help()``, each
second while anybody waits its ``look()``, which hires whom an interrupted thread did not."""
forked: weakref.WeakSet[Any] = weakref.WeakSet()
"""What has a lock, or refers to actors, and nothing else of `threaded`: in a forked child its ``after_fork()`` is called."""
exiting: list[bool] = []
"""Not empty while the end of the program stops all trees."""
ordered: dict[Waiter, Callable[[], object]] = {}
"""What wakes an actor that waits for a supervisor above it: told to end by its own, it can wait no longer."""
_served: weakref.WeakKeyDictionary[AbstractEventLoop, weakref.WeakSet[Server]] = weakref.WeakKeyDictionary()


class Server(Protocol):
    """Who drains mailboxes on a loop."""

    def catch_up(self, done: Callable[[], bool]) -> None:
        """Do what is ready, until this is true; nothing while it is draining."""
        ...


def serve(loop: AbstractEventLoop, server: Server) -> None:
    """A dispatcher drains mailboxes on this loop: blocking waits there are refused from now on."""
    _served.setdefault(loop, weakref.WeakSet()).add(server)


def caught_up(done: Callable[[], bool]) -> bool:
    """On the thread of a loop that runs actors: whether doing what is ready there, before anything else, has made this true."""
    loop = running_loop()
    for server in list(_served.get(loop, ())) if loop is not None else ():
        server.catch_up(done)
    return done()


def on_loop(loop: AbstractEventLoop, function: Callable[[], Any]) -> bool:
    """Call a function on the loop's thread: now if we are there; False when the loop is closed."""
    if running_loop() is loop:
        function()
        return True
    return call_soon(loop, function)


def call_soon(loop: AbstractEventLoop, function: Callable[..., Any], *args: Any) -> bool:
    """Call a function on the loop's thread, soon and in an empty context; False when the loop is closed. Any thread.

    The loop would run it in the context of the caller, who may be anybody; a task or timer made there would keep it.
    """
    try:
        loop.call_soon_threadsafe(function, *args, context=Context())
    except RuntimeError:
        if not loop.is_closed():  # such as the caller's recursion limit
            raise
        return False
    return True


def guard() -> None:
    """Raise `Fenced` in a handler whose actor was killed: called before an effect (a write) that must not come from the dead."""
    cell = here.cell
    if cell is not None and cell.exit is not None:
        raise Fenced(f"{cell.name} is gone: {cell.exit.kind}")


class waiting:
    """Hold this while blocked on something that `target` is to answer."""

    __slots__ = ("_cell", "_lender", "_target", "_what")

    def __init__(self, target: Waiter | None, what: str) -> None:
        self._target = target
        self._what = what

    def __enter__(self) -> None:
        loop = running_loop()
        if loop is not None and loop in _served:
            raise WouldBlock(f"{self._what} would block the event loop that runs actors; use tell, or wait on another thread")
        cell, target = here.cell, self._target
        self._cell, self._lender = cell, here.lender
        if cell is not None and target is not None:
            cell.waiting_on = target
            try:
                _refuse_cycle(cell, target)
            except BaseException:
                cell.waiting_on = None
                raise
        if self._lender is not None:
            self._lender.lend()

    def __exit__(self, *_: object) -> None:
        try:
            if self._lender is not None:
                self._lender.reclaim()
        finally:
            if self._cell is not None:
                self._cell.waiting_on = None


@contextmanager
def awaiting(target: Waiter | None) -> Generator[None]:
    """Hold this while a handler that is a coroutine awaits what `target` is to answer: a ring is refused."""
    cell = here.awaiter
    if cell is None or target is None:
        yield
        return
    cell.waiting_on = target
    try:
        _refuse_cycle(cell, target)
        yield
    finally:
        cell.waiting_on = None


def _refuse_cycle(cell: Waiter | None, target: Waiter | None) -> None:
    ring: list[str] = []
    step = target
    while cell is not None and step is not None and len(ring) < 1000:
        step = step.acting
        ring.append(step.name)
        if step is cell:
            why = "calling_self" if len(ring) == 1 else "ask cycle"
            raise AskCycle(f"{why}: {' -> '.join([cell.name, *ring])}")
        step = step.waiting_on
