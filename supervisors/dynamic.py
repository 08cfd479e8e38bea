"""A supervisor of children that are started one by one, independent of each other, ended in parallel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from allm.supervisors import decisions
from allm.supervisors.answers import Given, refused_spec, started
from allm.supervisors.cell import cell_of, is_ref
from allm.supervisors.children import State
from allm.supervisors.parent import Parent
from allm.supervisors.policy import AutoShutdown
from allm.supervisors.requests import ChangeSpecs, DeleteChild, Refused, RestartChild, StartChild, StopChild
from allm.supervisors.slots import STARTING, Slot
from allm.supervisors.spec import ChildSpec, Flags, SpecError, Start, check_significant
from allm.supervisors.timers import Timers

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(Parent):
    """Children by `StartChild` and `StopChild`; starting and ending one costs O(1) whatever their number.

    An id is taken until its child is gone; children of a template have no ids of their own, only refs. `extra_arguments`
    go before each child's own. `max_children` counts those that wait for a restart, too.
    """

    handlers: ClassVar[dict[type, str]] = {
        **Parent.handlers,
        StartChild: "_start_child",
        StopChild: "_stop_child",
        RestartChild: "_refuse",
        DeleteChild: "_refuse",
        ChangeSpecs: "_change",
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
        self._template = None if template is None else _checked(template)
        flags = Flags("one_for_one", max_restarts, max_seconds)
        super().__init__(State(flags, ordered=False, template=template is not None, most=max_children), timers, extra_arguments)

    def add(self, spec: ChildSpec) -> Slot | Refused | None:
        """Start a child, from the supervisor's own thread; None when the child asked to be left out."""
        there = self.slot(spec.id)
        if there is not None and there.cell is not None and there.cell.exit is not None:
            self._keeper.reap(there, there.cell.exit, there.cell)  # what is on its way to say so comes too late
        slot, given = Slot(spec, self.actor_inbox), Given()
        self._keeper.feed(decisions.Add(slot, given))
        return given.value if given.done and (given.value is None or isinstance(given.value, Refused)) else slot

    # -- requests

    def _start_child(self, request: StartChild) -> Any:
        if self._final is not None:
            return Refused("shutting_down")
        try:
            spec = self._spec_for(request.spec)
            self._state.children.check(spec.id)
        except BaseException as error:  # a stranger's mapping, or id, may raise anything
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

    def _refuse(self, _: object) -> Refused:
        return Refused("simple_one_for_one" if self._template is not None else "dynamic")

    def _change(self, request: ChangeSpecs) -> Any:
        """New flags, and a new template for starts and restarts to come."""
        try:
            specs = [_checked(spec) for spec in request.children]
            if len(specs) != (0 if self._template is None else 1):
                raise SpecError("bad_start_spec", len(specs))
            flags = None if request.flags is None else Flags.of(request.flags)
        except BaseException as error:
            return refused_spec(error)
        self._template = specs[0] if specs else None
        if flags is not None:
            self._state.configure(flags)
        return None

    def _stop_child(self, request: StopChild) -> Any:
        if self._template is not None and not is_ref(request.child):
            return Refused("simple_one_for_one")
        slot = self._find(request.child)
        if slot is None:
            return None if self._was_mine(request.child) else Refused("not_found")
        return self._keeper.feed(decisions.Stop(slot, self.later()))

    def _found(self, child: Hashable) -> Slot | None:
        return self._find(child) if self._template is None else None

    def _find(self, child: Hashable) -> Slot | None:
        if not is_ref(child):
            return self.slot(child)
        cell = cell_of(child)
        owner = cell.owner if cell is not None else None
        if cell is None:
            return next((slot for slot in self.slots() if slot.ref is child), None)
        return owner if isinstance(owner, Slot) and self._state.children.holds(owner) else None

    def _was_mine(self, child: Hashable) -> bool:
        cell = cell_of(child) if is_ref(child) else None
        return cell is not None and isinstance(cell.owner, Slot) and cell.owner.home is self.actor_inbox


def _checked(value: ChildSpec | Mapping[str, Any]) -> ChildSpec:
    spec = ChildSpec.of(value)
    check_significant(spec, "never")
    return spec
