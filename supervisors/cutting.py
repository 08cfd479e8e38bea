"""The kill of a supervisor and of all below it: at once, on the killer's thread, however deep the tree is.

A kill that reaches a supervisor inside another kill on the same thread only notes it: the outermost one goes through
all that were noted, and calls no deeper. What must follow a child's end comes after the ends of all below it.
"""

from __future__ import annotations

import threading

from allm.supervisors.cell import Cell
from allm.supervisors.foreign import Foreign
from allm.supervisors.keeper import Keeper
from allm.supervisors.slots import Slot

__all__ = ["cut"]


class _Kills(threading.local):
    keepers: list[Keeper] | None = None


_kills = _Kills()


def cut(keeper: Keeper) -> None:
    """Kill the children of a supervisor that was killed, and theirs."""
    if _kills.keepers is not None:
        _kills.keepers.append(keeper)
        return
    keepers = _kills.keepers = [keeper]
    done: list[tuple[Keeper, Slot, Cell | Foreign | None]] = []
    try:
        for each in keepers:  # more are added meanwhile
            done.extend([(each, slot, each.kill(slot)) for slot in each.slots()])
    finally:
        _kills.keepers = None
    for each, slot, cell in reversed(done):
        each.settle(slot, cell)
