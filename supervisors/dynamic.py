"""A supervisor of children that are started one by one, independent of each other, ended in parallel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from allm.supervisors.answers import count, describe, refused_spec, refused_start, started
from allm.supervisors.cell import cell_of, is_ref
from allm.supervisors.exits import Exit
from allm.supervisors.policy import AutoShutdown, Restart, Window
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
from allm.supervisors.slots import DOWN, RESTARTING, RUNNING, STARTING, STOPPING, RestartNow, Slot
from allm.supervisors.spec import ChildSpec, Flags, SpecError, Start, bare, check_significant, hashable
from allm.supervisors.supervising import Supervising
from allm.supervisors.timers import Timers

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(Supervising):
    """Children by `StartChild` and `StopChild`; starting and ending one costs O(1) whatever their number.

    An id need not be unique; `StopChild` by id means the newest that has it. `extra_arguments` go before each
    child's own. `max_children` counts those that wait for a restart, too.
    """

    handlers: ClassVar[dict[type, str]] = {
        StartChild: "_start_child",
        StopChild: "_stop_child",
        RestartChild: "_refuse",
        DeleteChild: "_refuse",
        GetSpec: "_spec",
        WhichChild: "_which_one",
        ChangeSpecs: "_change",
        WhichChildren: "_which",
        CountChildren: "_counts",
    }

    def __init__(
        self,
        *,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        max_children: int | None = None,
        extra_arguments: tuple[Any, ...] = (),
        template: ChildSpec | Mapping[str, Any] | None = None,
        auto_shutdown: AutoShutdown = "never",
        timers: Timers | None = None,
    ) -> None:
        if auto_shutdown != "never":
            raise SpecError("bad_combination", ("dynamic", "auto_shutdown", auto_shutdown))
        if max_children is not None and (type(max_children) is not int or max_children < 0):
            raise SpecError("invalid_max_children", max_children)
        super().__init__(Flags("one_for_one", max_restarts, max_seconds), timers)
        self._template = None if template is None else _checked(template)
        self._max_children = max_children
        self._extra = extra_arguments
        self._slots: dict[int, Slot] = {}  # by identity of the slot, in start order
        self._ids: dict[Hashable, Slot] = {}

    def slots(self) -> list[Slot]:
        return list(self._slots.values())

    # -- requests

    def _start_child(self, request: StartChild) -> Any:
        if self._final is not None:
            return Refused("shutting_down")
        try:
            spec = self._spec_for(request.spec)
        except (SpecError, TypeError) as error:
            return refused_spec(error)
        added = self.add(spec)
        if not isinstance(added, Slot):
            return added
        if added.status is STARTING:
            added.reply = self.later()
            return None
        return started(added)

    def _spec_for(self, wanted: Any) -> ChildSpec:
        if self._template is None:
            return _checked(wanted)
        function, args, *more = cast("tuple[Any, ...]", self._template.start)
        return replace(self._template, start=cast("Start", (function, (*args, *wanted), *more)))

    def add(self, spec: ChildSpec) -> Slot | Refused | None:
        """Start a child, from the supervisor's own thread; None when the child asked to be left out."""
        if self._max_children is not None and len(self._slots) >= self._max_children:
            return Refused("max_children")
        slot = Slot(spec, self.actor_inbox)
        self._slots[id(slot)] = slot
        self._ids[spec.id] = slot
        exit = self._launch(slot, self._extra)
        if exit is not None:
            self._start_error(slot, exit)
            return refused_start(exit)
        if slot.status is RUNNING:
            self._settle(slot)
        return slot

    def _refuse(self, _: object) -> Refused:
        return Refused("simple_one_for_one" if self._template is not None else "dynamic")

    def _which_one(self, request: WhichChild) -> Any:
        slot = self._find(request.id) if self._template is None else None
        return describe(slot) if slot is not None else Refused("not_found")

    def _spec(self, request: GetSpec) -> Any:
        slot = self._find(request.id) if self._template is None else None
        return slot.spec if slot is not None else Refused("not_found")

    def _change(self, request: ChangeSpecs) -> Any:
        """New flags, and a new template for starts and restarts to come."""
        try:
            specs = [_checked(spec) for spec in request.children]
            if len(specs) != (0 if self._template is None else 1):
                raise SpecError("bad_start_spec", len(specs))
        except (SpecError, TypeError) as error:
            return refused_spec(error)
        self._template = specs[0] if specs else None
        if request.flags is not None:
            self._flags = request.flags
            self._window = Window(request.flags.max_restarts, request.flags.max_seconds)
        return None

    def _stop_child(self, request: StopChild) -> Any:
        if self._template is not None and not is_ref(request.child):
            return Refused("simple_one_for_one")
        slot = self._find(request.child)
        if slot is None:
            return None if self._was_mine(request.child) else Refused("not_found")
        if slot.status is RESTARTING:
            self._forget(slot, slot.exit or Exit("shutdown"))
            return None
        slot.waiters.append(self.later())
        if slot.status is not STOPPING:
            self._shut(slot)
        return None

    def _find(self, child: Hashable) -> Slot | None:
        if not is_ref(child):
            return self._ids.get(child) if hashable(child) else None
        cell = cell_of(child)
        owner = cell.owner if cell is not None else None
        if cell is None:
            return next((slot for slot in self.slots() if slot.ref is child), None)
        return owner if isinstance(owner, Slot) and id(owner) in self._slots else None

    def _was_mine(self, child: Hashable) -> bool:
        cell = cell_of(child) if is_ref(child) else None
        return cell is not None and isinstance(cell.owner, Slot) and cell.owner.home is self.actor_inbox

    def _which(self, _: WhichChildren) -> list[ChildInfo]:
        return self.children()

    def _counts(self, _: CountChildren) -> Counts:
        return count(self.slots())

    # -- reports

    def _settle(self, slot: Slot) -> None:
        if slot.spec.policy is None and slot.spec.restart == "temporary":
            slot.start = None  # it will not be started again: let go of its arguments
            if len(slot.spec.start) > 2 or slot.spec.start[1]:
                slot.spec = bare(slot.spec)

    def _up(self, slot: Slot) -> None:
        self._settle(slot)
        reply, slot.reply = slot.reply, None
        if reply is not None:
            reply.set(started(slot))

    def _start_failed(self, slot: Slot, exit: Exit) -> None:
        if slot.restarts:
            self._restart_failed(slot, exit)
            return
        reply, slot.reply = slot.reply, None
        self._start_error(slot, exit)
        if reply is not None:
            reply.set(refused_start(exit))

    def _start_error(self, slot: Slot, exit: Exit) -> None:
        if exit.kind != "ignore":
            self._report("start_error", slot, exit)
        self._forget(slot, exit)

    def _judge(self, slot: Slot, exit: Exit) -> None:
        if self._again(slot, exit, retried=False):
            self._start_again(slot)

    def _again(self, slot: Slot, exit: Exit, *, retried: bool) -> bool:
        """Decide what follows; True: start it now. A retry of a failed start goes through the mailbox."""
        verdict = self._verdict(slot, exit)
        if isinstance(verdict, Restart):
            return not self._wait_to_restart(slot, exit, verdict.delay, retried)
        self._forget(slot, exit)
        if verdict is None:
            self._escalate(slot, exit)
        return False

    def _retry(self, message: RestartNow) -> None:
        slot, generation = message
        if slot.generation == generation and slot.status is RESTARTING and self._final is None:
            slot.timer = None
            self._start_again(slot)

    def _start_again(self, slot: Slot) -> None:
        exit = self._launch(slot, self._extra)
        if exit is not None:
            self._restart_failed(slot, exit)

    def _restart_failed(self, slot: Slot, exit: Exit) -> None:
        if exit.kind == "ignore":
            self._forget(slot, exit)
        else:
            self._report("start_error", slot, exit)
            self._again(slot, exit, retried=True)

    def _stopped(self, slot: Slot, exit: Exit) -> None:
        self._forget(slot, exit)

    def _forget(self, slot: Slot, exit: Exit) -> None:
        if self._slots.pop(id(slot), None) is None:
            return
        slot.status = DOWN  # its restart may be in the mailbox already
        if self._ids.get(slot.id) is slot:
            del self._ids[slot.id]
        self._gone(slot, exit)
        reply, slot.reply = slot.reply, None
        if reply is not None:  # it was stopped before it was up
            reply.set(refused_start(exit))
        if self._final is not None and not self._slots:
            self._leave()

    # -- the end

    def _stop_all(self) -> None:
        for slot in self.slots():
            if slot.status in (STARTING, RUNNING):
                self._shut(slot)
            elif slot.status is RESTARTING:
                self._forget(slot, slot.exit or Exit("shutdown"))
        if not self._slots:
            self._leave()


def _checked(value: ChildSpec | Mapping[str, Any]) -> ChildSpec:
    spec = ChildSpec.of(value)
    check_significant(spec, "never")
    return spec
