"""What the process does to the runtimes in it: at exit they are drained, after a fork the child gives up those of its parent."""

import atexit
import os
import weakref
from typing import Any, Protocol

__all__ = ["enter", "leave"]

_AT_EXIT = 2.0
"""Seconds in which what still runs at exit is cut."""


class Runs(Protocol):
    """A runtime, as far as this is concerned."""

    def cut(self, timeout: float) -> Any:
        """Ends it within a deadline. Starts no thread and opens no connection."""

    def inherited(self) -> None:
        """In a child after a fork."""


_alive: "weakref.WeakSet[Runs]" = weakref.WeakSet()
_inherited: list[Runs] = []
"""Kept in the child for good: what a finaliser would close is the parent's."""


def enter(runtime: Runs) -> None:
    """A runtime has started."""
    _alive.add(runtime)
    atexit.unregister(_drain)  # what is registered last runs first: before the drain of all actors, which knows of no calls
    atexit.register(_drain)


def leave(runtime: Runs) -> None:
    """A runtime has ended."""
    _alive.discard(runtime)


def _drain() -> None:
    for runtime in list(_alive):
        runtime.cut(_AT_EXIT)


def _after_fork() -> None:
    _inherited.extend(_alive)
    for runtime in list(_alive):
        runtime.inherited()
    _alive.clear()


os.register_at_fork(after_in_child=_after_fork)
