"""A supervisor of a fixed list of children, started in order, stopped in reverse, restarted by a strategy.

Starting all, or stopping a group and starting it again, takes one step after the other. Deaths that come meanwhile
are judged when that is done, changes wait for it, questions do not; a shutdown ends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

from allm.supervisors import decisions
from allm.supervisors.answers import refused_spec
from allm.supervisors.children import State
from allm.supervisors.exits import Exit, Leave
from allm.supervisors.parent import Parent
from allm.supervisors.policy import AutoShutdown, Strategy
from allm.supervisors.requests import ChangeSpecs, DeleteChild, RestartChild, StartChild, StopChild
from allm.supervisors.slots import Slot
from allm.supervisors.spec import Child, ChildSpec, Flags, check_significant, check_specs, is_tuple
from allm.supervisors.timers import Timers

__all__ = ["Supervisor"]


class Supervisor(Parent):
    """Static children. Its own start is complete when all of theirs are; if one fails, the others are stopped.

    The children are given, or a subclass returns them from `init`.
    """

    handlers: ClassVar[dict[type, str]] = {
        **Parent.handlers,
        StartChild: "_start_child",
        StopChild: "_stop_child",
        RestartChild: "_restart_child",
        DeleteChild: "_delete_child",
        ChangeSpecs: "_change",
    }

    def __init__(
        self,
        children: Iterable[Child] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        timers: Timers | None = None,
    ) -> None:
        super().__init__(State(Flags(strategy, max_restarts, max_seconds, auto_shutdown), ordered=True), timers)
        self._specs = check_specs(children, auto_shutdown)

    def init(self) -> Any:
        """Specs, or ``(specs, flags)``, or an ``ignore`` exit; None: those given to the constructor."""
        return None

    # -- the first start

    def _actor_ready(self) -> bool:
        self._configure(self.init())
        slots = [Slot(spec, self.actor_inbox) for spec in self._specs]
        del self._specs
        self._keeper.starting = True
        try:
            self._keeper.feed(decisions.Begin(slots))
        finally:
            self._keeper.starting = False
        return self._state.phase == "serving"

    def _configure(self, answer: Any) -> None:
        if answer is None:
            return
        if isinstance(answer, Exit):
            raise Leave(answer)
        specs: Any = answer
        if is_tuple(answer) and len(answer) == 2:
            specs = answer[0]
            self._state.configure(Flags.of(answer[1]))
        if not isinstance(specs, (list, tuple)):
            raise Leave(Exit("bad_return", {"callback": "init", "type": type(answer).__name__}))
        self._specs = check_specs(cast("list[ChildSpec]", specs), self._state.flags.auto_shutdown)

    # -- requests

    def _start_child(self, request: StartChild) -> Any:
        try:
            spec = ChildSpec.of(request.spec)
            check_significant(spec, self._state.flags.auto_shutdown)
            self._state.children.check(spec.id)
        except BaseException as error:  # a stranger's mapping, or id, may raise anything
            return refused_spec(error)
        return self._keeper.feed(decisions.Add(Slot(spec, self.actor_inbox), self.later()))

    def _stop_child(self, request: StopChild) -> None:
        self._keeper.feed(decisions.Stop(request.child, self.later()))

    def _restart_child(self, request: RestartChild) -> None:
        self._keeper.feed(decisions.Revive(request.id, self.later()))

    def _delete_child(self, request: DeleteChild) -> None:
        self._keeper.feed(decisions.Delete(request.id, self.later()))

    def _change(self, request: ChangeSpecs) -> Any:
        try:
            flags = self._state.flags if request.flags is None else Flags.of(request.flags)
            specs = check_specs(request.children, flags.auto_shutdown)
            new = {spec.id for spec in specs}
            stay = [slot for slot in self.slots() if slot.id not in new]
            for slot in stay:
                check_significant(slot.spec, flags.auto_shutdown)
            for spec in specs:
                self._state.children.check(spec.id)
        except BaseException as error:
            return refused_spec(error)
        self._state.children.replace([*stay, *map(self._respecified, specs)])
        self._state.configure(flags)
        return None

    def _respecified(self, spec: ChildSpec) -> Slot:
        slot = self.slot(spec.id)
        if slot is None:
            return Slot(spec, self.actor_inbox)
        slot.spec, slot.start = spec, spec.start
        return slot
