"""The edges of a process: a fork leaves no live actor behind, the end of the program stops all trees in order.

Installed when the first actor is launched. No signal handlers: SIGINT, and a SIGTERM that the program turns into an
exit, end in `atexit` like any other end.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable
from typing import Any

from allm.supervisors import log
from allm.supervisors.cell import Cell, Shutdown, alive
from allm.supervisors.clock import clock
from allm.supervisors.exits import FORKED, SHUTDOWN, ActorExited
from allm.supervisors.futures import Reply
from allm.supervisors.here import exiting, forked, here, threaded

__all__ = ["EXIT_DEADLINE", "drain", "install"]

EXIT_DEADLINE = 5.0
"""Seconds that all trees together have at the end of the program; what hangs after that is let go."""

installed: list[bool] = []
inherited: list[Any] = []
"""In a forked child: the parent's actors, kept and never closed; closing what they hold would disturb the parent."""


def install() -> None:
    """Hook into fork and exit, once."""
    if not installed:
        installed.append(True)
        os.register_at_fork(after_in_child=_after_fork)
        atexit.register(drain)


def _after_fork() -> None:
    # No locks are taken: a thread that held one may not exist here.
    here.cell = here.lender = None
    dead = list(alive.values())
    alive.clear()
    inherited.append((dead, [cell.body for cell in dead]))
    for cell in dead:
        cell.once.acquire(False)
        cell.exit = FORKED
        cell.body = None
        cell.closed = True
        cell.stopped.set()
        cell.reject()
        for reply in _open(cell):
            reply.after_fork(ActorExited(cell.name, FORKED))
    for resource in [*threaded, *forked]:
        resource.after_fork()


def _open(cell: Cell) -> list[Reply[Any]]:
    """The asks that it had in hand, for which there is no thread here to answer them."""
    envelope = cell.envelope
    asks = [envelope.reply_to if envelope is not None else None, *(cell.stoppers or ()), *(cell.later or ())]
    return [reply for reply in asks if isinstance(reply, Reply)]


def drain(deadline: float | None = None) -> list[str]:
    """Stop every tree, in parallel, within the deadline; the names of those that had to be let go.

    Starts no thread: at the end of the program the system refuses them. Pools that have no worker any more are run
    by the calling thread.
    """
    exiting.append(True)
    end = clock.now() + (EXIT_DEADLINE if deadline is None else deadline)
    roots = [cell for cell in list(alive.values()) if cell.owner is None]
    for cell in roots:
        if _runs(cell):
            cell.put_signal(Shutdown(SHUTDOWN))
        else:
            cell.cancel()
    while any(cell.exit is None for cell in roots) and clock.now() < end:
        if not _help():
            time.sleep(0.002)
    log.flush(min(1.0, max(0.1, end - clock.now())))
    exiting.clear()
    left = [cell for cell in roots if cell.exit is None]
    for cell in left:
        cell.cancel()
    return [each.name for cell in left for each in cell.abandoned or (cell,)]


def _help() -> bool:
    """Do a piece of the work of every pool and timer that has no thread."""
    helped = [resource.help() for resource in list(threaded)]
    return any(helped)


def _runs(cell: Cell) -> bool:
    running: Callable[[], bool] | None = getattr(cell.dispatcher, "running", None)
    return running is None or running()
