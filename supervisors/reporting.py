"""Reports of a supervisor on its children; nothing is made while nobody listens."""

from __future__ import annotations

from allm.supervisors import events, log
from allm.supervisors.exits import Exit
from allm.supervisors.slots import Slot

__all__ = ["report", "tell_ended", "tell_gave_up", "tell_restarting", "tell_started"]


def report(supervisor: str, context: events.Context, slot: Slot, exit: Exit) -> None:
    """Tell of something the supervisor had to deal with."""
    if events.wanted():
        spec = slot.spec
        offender = events.Offender(slot.id, spec.type, spec.restart, spec.shutdown, slot.generation)
        # An end that a policy of its own decides on is its way of working: the restart, or the giving up, has a line of its own.
        level: log.Level = "info" if context == "child_terminated" and spec.policy is not None else "error"
        events.emit(events.SupervisorReport(supervisor, context, exit, offender), spec.context, level)


def tell_started(supervisor: str, slot: Slot) -> None:
    """Tell that a child runs."""
    if events.wanted("info"):
        events.emit(events.ChildStarted(supervisor, slot.id, slot.generation), slot.spec.context)


def tell_ended(supervisor: str, slot: Slot, exit: Exit) -> None:
    """Tell that a child ended."""
    if events.wanted("info"):
        events.emit(events.ChildEnded(supervisor, slot.id, slot.generation, exit), slot.spec.context)


def tell_restarting(supervisor: str, slot: Slot, exit: Exit, delay: float) -> None:
    """Tell that a child will be started again."""
    if events.wanted("warning"):
        events.emit(events.ChildRestarting(supervisor, slot.id, exit, slot.restarts, delay), slot.spec.context)


def tell_gave_up(supervisor: str, slot: Slot, exit: Exit) -> None:
    """Tell that the restart budget is spent."""
    if events.wanted():
        events.emit(events.Escalated(supervisor, slot.id, exit))
