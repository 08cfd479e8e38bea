"""What a static supervisor answers. Changes wait until no start, stop or restart is going on; questions do not."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, ClassVar

from allm.supervisors.answers import count, describe, refused_spec, refused_start, started
from allm.supervisors.exits import Exit
from allm.supervisors.futures import Reply
from allm.supervisors.policy import Window
from allm.supervisors.requests import (
    ChangeSpecs,
    ChildInfo,
    CountChildren,
    Counts,
    DeleteChild,
    GetSpec,
    Refused,
    RestartChild,
    StartChild,
    StopChild,
    WhichChild,
    WhichChildren,
)
from allm.supervisors.slots import DOWN, RESTARTING, RUNNING, STARTING, STOPPING, Slot
from allm.supervisors.spec import ChildSpec, Flags, SpecError, bare, check_significant, check_specs, hashable
from allm.supervisors.steps import Steps
from allm.supervisors.supervising import Supervising
from allm.supervisors.timers import Timers

__all__ = ["Administration"]


class Administration(Supervising):
    """Slots by id, in start order, and the requests about them."""

    handlers: ClassVar[dict[type, str]] = {
        StartChild: "_start_child",
        StopChild: "_stop_child",
        RestartChild: "_restart_child",
        DeleteChild: "_delete_child",
        WhichChildren: "_which",
        WhichChild: "_which_one",
        CountChildren: "_counts",
        GetSpec: "_spec",
        ChangeSpecs: "_change",
    }

    def __init__(self, flags: Flags, timers: Timers | None = None) -> None:
        super().__init__(flags, timers)
        self._slots: dict[Hashable, Slot] = {}
        self._steps = Steps()
        self._failed: Callable[[Slot, Exit], None] = self._dropped  # what a failed start leads to, just now

    def slots(self) -> list[Slot]:
        """The children in start order."""
        return list(self._slots.values())

    def _find(self, id: Hashable) -> Slot | None:
        return self._slots.get(id) if hashable(id) else None

    # -- steps

    def _start_step(self, slot: Slot) -> None:
        exit = self._launch(slot)
        if exit is not None:
            self._failed(slot, exit)
        elif slot.status is STARTING:
            self._steps.waiting = slot
        else:
            self._let_go(slot)

    def _stop_step(self, slot: Slot) -> None:
        if slot.status in (STARTING, RUNNING):
            self._shut(slot)
        if slot.status is STOPPING:
            self._steps.waiting = slot
        elif slot.status is RESTARTING:
            slot.disarm()
            slot.status = DOWN

    def _let_go(self, slot: Slot) -> None:
        """A child that will not be started again: its arguments are not kept."""
        if slot.spec.restart == "temporary" and slot.spec.policy is None:
            slot.start = None
            slot.spec = bare(slot.spec)

    def _dropped(self, slot: Slot, exit: Exit) -> None:
        self._drop(slot, exit)

    def _drop(self, slot: Slot, exit: Exit) -> None:
        if self._slots.get(slot.id) is slot:
            del self._slots[slot.id]
        self._gone(slot, exit)

    def _left(self, slot: Slot, exit: Exit) -> None:
        """A child that is down and not to be restarted: a temporary one is forgotten, another keeps its spec."""
        if slot.spec.restart == "temporary":
            self._drop(slot, exit)
        else:
            self._gone(slot, exit)

    def _left_out(self, slot: Slot) -> None:
        """A start that was ignored: the spec stays, unless temporary."""
        slot.status = DOWN
        if slot.spec.restart == "temporary":
            self._drop(slot, Exit("ignore"))

    # -- changes

    def _when_idle(self, work: Callable[[Reply[Any]], None]) -> None:
        self._steps.when_idle(partial(work, self.later()))

    def _start_child(self, request: StartChild) -> Any:
        try:
            spec = ChildSpec.of(request.spec)
            check_significant(spec, self._flags.auto_shutdown)
        except (SpecError, TypeError) as error:
            return refused_spec(error)
        return self._when_idle(partial(self._add, spec))

    def _add(self, spec: ChildSpec, reply: Reply[Any]) -> None:
        slot = self._slots.get(spec.id)
        if slot is not None:
            reply.set(Refused("already_started" if slot.ref is not None else "already_present", ref=slot.ref))
            return
        self._slots[spec.id] = slot = Slot(spec, self.actor_inbox)
        self._start_for(slot, reply, self._dropped)

    def _start_for(self, slot: Slot, reply: Reply[Any], otherwise: Callable[[Slot, Exit], None] | None) -> None:
        def failed(slot: Slot, exit: Exit) -> None:
            self._steps.clear()
            if exit.kind == "ignore":
                self._left_out(slot)
            else:
                self._report("start_error", slot, exit)
                if otherwise is not None:
                    otherwise(slot, exit)
            reply.set(refused_start(exit))

        self._failed = failed
        self._steps.add([partial(self._start_step, slot), lambda: reply.set(started(slot))])

    def _stop_child(self, request: StopChild) -> Any:
        return self._when_idle(partial(self._terminate, request.child))

    def _terminate(self, child: Hashable, reply: Reply[Any]) -> None:
        slot = self._find(child)
        if slot is None:
            reply.set(Refused("not_found"))
        elif slot.up:
            slot.waiters.append(reply)
            self._steps.add([partial(self._stop_step, slot)])
        else:
            self._stop_step(slot)
            self._left(slot, slot.exit or Exit("shutdown"))
            reply.set(None)

    def _restart_child(self, request: RestartChild) -> Any:
        return self._when_idle(partial(self._bring_back, request.id))

    def _bring_back(self, id: Hashable, reply: Reply[Any]) -> None:
        slot = self._find(id)
        if slot is None or slot.status is not DOWN:
            reply.set(_not_down(slot))
        else:
            self._start_for(slot, reply, None)

    def _delete_child(self, request: DeleteChild) -> Any:
        return self._when_idle(partial(self._delete, request.id))

    def _delete(self, id: Hashable, reply: Reply[Any]) -> None:
        slot = self._find(id)
        if slot is None or slot.status is not DOWN:
            reply.set(_not_down(slot))
        else:
            del self._slots[id]
            reply.set(None)

    def _change(self, request: ChangeSpecs) -> Any:
        flags = request.flags or self._flags
        try:
            specs = check_specs(request.children, flags.auto_shutdown)
            new = {spec.id for spec in specs}
            stay = [slot for slot in self.slots() if slot.id not in new]
            for slot in stay:
                check_significant(slot.spec, flags.auto_shutdown)
        except (SpecError, TypeError) as error:
            return refused_spec(error)
        slots = {slot.id: slot for slot in stay}
        for spec in specs:
            slots[spec.id] = self._respecified(spec)
        self._slots = slots
        self._flags = flags
        self._window = Window(flags.max_restarts, flags.max_seconds)
        return None

    def _respecified(self, spec: ChildSpec) -> Slot:
        slot = self._slots.get(spec.id)
        if slot is None:
            return Slot(spec, self.actor_inbox)
        slot.spec, slot.start = spec, spec.start
        return slot

    # -- questions

    def _which(self, _: WhichChildren) -> list[ChildInfo]:
        return self.children()

    def _which_one(self, request: WhichChild) -> Any:
        slot = self._find(request.id)
        return Refused("not_found") if slot is None else describe(slot)

    def _counts(self, _: CountChildren) -> Counts:
        return count(self.slots())

    def _spec(self, request: GetSpec) -> Any:
        slot = self._find(request.id)
        return Refused("not_found") if slot is None else slot.spec


def _not_down(slot: Slot | None) -> Refused:
    if slot is None:
        return Refused("not_found")
    return Refused("restarting" if slot.status is RESTARTING else "running", ref=slot.ref)
