"""The net under the scheduler: each second, look for what a thread that was interrupted has left undone.

An exception may arrive between any two bytecodes of a sender: after its message is in the mailbox and before anybody
was told, after the run flag is raised and before the actor is in a queue. The sender cannot always make that good (the
next exception may hit the repair), and who suffers is somebody else. So whoever waits, waits with a clock that calls
`pulse`, and every dispatcher's loop has a beat that does. A pulse may come too often: an actor that is scheduled twice
is given one turn (see `inbox`).
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from allm.supervisors import log
from allm.supervisors.cell import Cell, alive, interrupted
from allm.supervisors.clock import clock
from allm.supervisors.exits import CallTimeout, text_of
from allm.supervisors.here import threaded

__all__ = ["PULSE", "acquire", "get", "mend_all", "pulse"]

T = TypeVar("T")

PULSE = 1.0
"""Seconds between two looks."""
_SHARE = 200
"""A look that costs much (100,000 actors: 5 ms) is taken less often: this many times what it cost apart."""
_LONGEST = 5.0
"""Seconds between two looks at most, whatever they cost."""

_due = [0.0]
"""When the next look may be taken. A list: written by any thread, a race costs one look too many."""


def pulse() -> None:
    """Schedule every actor that has mail, is not in a turn and not in its dispatcher's queue; hire missing workers. Any thread."""
    began = clock.now()
    if began < _due[0]:
        return
    _due[0] = began + PULSE * 0.9
    worked = clock.worked()  # not by the clock on the wall: a thread that had no processor meanwhile would not come back for long
    mend_all(interrupted)
    stranded: dict[Any, list[Cell]] = {}
    for cell in list(alive.values()):
        if (cell.user or cell.signals) and cell.busy is None and (lane := getattr(cell, "lane", None)) is not None:
            stranded.setdefault(lane, []).append(cell)
    for lane, cells in stranded.items():
        if (rescue := getattr(lane, "rescue", None)) is not None:  # a dispatcher of the program's own may have none
            rescue(cells)
    for resource in list(threaded):
        resource.look()
    _due[0] = began + min(_LONGEST, max(PULSE * 0.9, (clock.worked() - worked) * _SHARE))


def mend_all(broken: list[Any]) -> None:
    """Mend each; one that cannot be mended costs itself alone. An interruption, or too little room for it, leaves the rest for later."""
    for each in broken.copy():
        try:
            each.mend()
        except RecursionError:
            raise
        except Exception as error:
            log.error("not_mended", actor=each.name, error=text_of(error, repr))
        with suppress(ValueError):  # another thread mended it, too
            broken.remove(each)


def acquire(gate: threading.Lock, timeout: float | None = None, done: Callable[[], object] | None = None) -> bool:
    """Acquire a lock that another thread releases, with a pulse each second; False after `timeout`. `done`: it need not be waited for."""
    end = None if timeout is None else clock.now() + timeout
    while True:
        left = PULSE if end is None else max(0.0, min(PULSE, end - clock.now()))
        if gate.acquire(timeout=left) or (done is not None and done()):
            return True
        if end is not None and clock.now() >= end:
            return False
        _look()


def get(source: queue.SimpleQueue[T], timeout: float | None = None) -> T:
    """Take the next item of a queue, with a pulse each second; raises `queue.Empty` after `timeout`."""
    end = None if timeout is None else clock.now() + timeout
    while True:
        left = PULSE if end is None else max(0.0, min(PULSE, end - clock.now()))
        try:
            return source.get(timeout=left)
        except queue.Empty:
            if end is not None and clock.now() >= end:
                raise
        _look()


def _look() -> None:
    if sys.is_finalizing():
        raise CallTimeout("the interpreter is ending: what this thread waits for will not come")
    pulse()
