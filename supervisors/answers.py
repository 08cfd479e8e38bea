"""Answers of supervisors, made from slots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allm.supervisors.cell import alive
from allm.supervisors.exits import Exit
from allm.supervisors.requests import ChildInfo, Counts, Refused
from allm.supervisors.slots import RUNNING, STARTING, STOPPING, Slot

__all__ = ["Given", "count", "describe", "refused_spec", "refused_start", "started"]


class Given:
    """An answer in the place of a future, for a caller on the same thread."""

    __slots__ = ("done", "value")

    def __init__(self) -> None:
        self.done, self.value = False, None

    def answer(self, value: Any = None) -> None:
        """Answer."""
        self.done, self.value = True, value


def started(slot: Slot) -> Any:
    """The answer to a start: the ref, or the ref and the extra."""
    return slot.ref if slot.extra is None else (slot.ref, slot.extra)


def count(slots: Iterable[Slot]) -> Counts:
    """Count children."""
    table = list(slots)
    supervisors = sum(slot.spec.type == "supervisor" for slot in table)
    active = sum(slot.status in (RUNNING, STOPPING) for slot in table)
    return Counts(len(table), active, supervisors, len(table) - supervisors)


def describe(slot: Slot) -> ChildInfo:
    """Describe a child as it is now."""
    spec = slot.spec
    ref = None if slot.status is STARTING else slot.ref
    return ChildInfo(slot.id, ref, slot.status, spec.type or "worker", spec.modules, slot.restarts)


def refused_start(exit: Exit) -> Refused | None:
    """The answer for a start that failed; None for one that was ignored."""
    if exit.kind == "ignore":
        return None
    if exit.kind == "already_started":  # its name is taken: say by whom
        holder = alive.get(str(exit.detail))
        return Refused("already_started", ref=holder.ref if holder is not None else None, exit=exit)
    return Refused("start_error", exit=exit)


def refused_spec(error: BaseException) -> Refused:
    """The answer for a spec that was refused."""
    return Refused(getattr(error, "reason", "invalid_child_spec"), exit=Exit.from_exception(error))
