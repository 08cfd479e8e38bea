"""An actor with children: the door to a `Keeper`, and an end that comes after the ends of all children.

Slots and timers report to its mailbox, requests come to `on_receive`. When a parent ends for whatever reason, a bug of its
own included, its children are stopped first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from allm.supervisors import decisions, log
from allm.supervisors.actor import Actor
from allm.supervisors.answers import count, describe
from allm.supervisors.cell import Shutdown
from allm.supervisors.children import State
from allm.supervisors.cutting import cut
from allm.supervisors.exits import Exit, Leave
from allm.supervisors.inbox import fail
from allm.supervisors.keeper import REPORTS, Keeper
from allm.supervisors.requests import ChildInfo, CountChildren, Counts, GetSpec, Refused, WhichChild, WhichChildren
from allm.supervisors.slots import Slot
from allm.supervisors.spec import SpecError
from allm.supervisors.timers import Timers

__all__ = ["Parent"]


class Parent(Actor):
    """An actor that supervises; see `Supervisor` and `DynamicSupervisor`.

    `handlers` names the method for each type of message that others may send, which pass through `on_receive`.
    """

    child_type: ClassVar[str] = "supervisor"
    leads: ClassVar[bool] = True
    trap_exits: ClassVar[bool] = True
    handlers: ClassVar[dict[type, str]] = {
        WhichChildren: "_which",
        WhichChild: "_which_one",
        CountChildren: "_counts",
        GetSpec: "_spec",
    }

    def __init__(self, state: State, timers: Timers | None = None, extra: tuple[Any, ...] = ()) -> None:
        super().__init__()
        if timers is not None and (isinstance(timers, type) or not hasattr(timers, "send_after") or not hasattr(timers, "now")):
            raise SpecError("invalid_timers", timers)
        self._actor_timers = timers
        self._state = state
        self._keeper = Keeper(state, self.actor_inbox, self, timers, extra)
        self.actor_inbox.cuts = [self._cut]

    # -- for subclasses

    def on_child_gone(self, child: Slot, exit: Exit) -> None:
        """A child ended and will not come back. On the supervisor's own thread; after a kill on the killer's."""

    def on_child_restarting(self, child: Slot, exit: Exit, delay: float) -> None:
        """A child ended and will be started again after `delay`. On the supervisor's own thread."""

    def slots(self) -> list[Slot]:
        """Every slot, in start order. Any thread."""
        state = self.__dict__.get("_state")  # not there while another thread is still in its ``__init__``
        return list(state.children) if state is not None else []

    def slot(self, id: Hashable) -> Slot | None:
        """The slot with this id, in O(1); None under a template, whose children share one. Any thread."""
        state = self.__dict__.get("_state")
        return state.children.get(id) if state is not None else None

    def children(self) -> list[ChildInfo]:
        """The children now, newest first. Any thread."""
        return [describe(slot) for slot in reversed(self.slots())]

    @property
    def _final(self) -> Exit | None:
        """The exit it ends with, once it does."""
        return self._state.final

    @property
    def _timers(self) -> Timers:
        return self._keeper.timers

    # -- questions

    def _found(self, child: Hashable) -> Slot | None:
        """The child that a question is about."""
        return self.slot(child)

    def _which(self, _: WhichChildren) -> list[ChildInfo]:
        return self.children()

    def _which_one(self, request: WhichChild) -> Any:
        slot = self._found(request.id)
        return Refused("not_found") if slot is None else describe(slot)

    def _counts(self, _: CountChildren) -> Counts:
        return count(self.slots())

    def _spec(self, request: GetSpec) -> Any:
        slot = self._found(request.id)
        return Refused("not_found") if slot is None else slot.spec

    # -- messages

    def on_receive(self, message: Any) -> Any:
        """Requests; anything else is logged and dropped."""
        name = self.handlers.get(message.__class__)
        if name is None:
            return super().on_receive(message)
        return getattr(self, name)(message)

    # Whatever is raised below is the beginning of the end, not the end: there are children to stop.

    def _handle_receive(self, message: Any) -> Any:
        try:
            take = REPORTS.get(message.__class__)
            return super()._handle_receive(message) if take is None else take(self._keeper, message)
        except BaseException as error:
            self._caught(error)

    def _actor_open(self) -> bool:
        try:
            self.on_start()
            return self._actor_ready()
        except BaseException as error:
            self._caught(error)
        return False

    def _actor_ready(self) -> bool:
        """Complete the start after `on_start`; False: `Cell.acknowledge` comes later."""
        return True

    def _actor_signal(self, signal: Any) -> None:
        try:
            if isinstance(signal, Shutdown):
                self._end_with(signal.exit)
            else:
                super()._actor_signal(signal)
        except BaseException as error:
            self._caught(error)

    def _caught(self, error: BaseException) -> None:
        if not isinstance(error, Leave):
            self._end_with(self._crashed(error), crashed=True)
        elif self._keeper.over:
            raise error
        else:
            self._end_with(error.exit)

    def _crashed(self, error: BaseException) -> Exit:
        envelope = self.actor_inbox.envelope
        exit = Exit.from_exception(error)
        if isinstance(error, Exception) and envelope is not None and envelope.reply_to is not None:
            fail(envelope.reply_to, error)
        log.error("supervisor_crashed", supervisor=self.actor_inbox.name, exit=exit.to_data())
        if self._state.final is not None:  # crashed while it was stopping: no second try
            self._cut()
            self._keeper.over = True
            raise Leave(self._state.final)
        return exit

    def _end_with(self, exit: Exit, *, crashed: bool = False) -> None:
        """Stop all children, then end with this exit; the first reason holds."""
        try:
            self._keeper.feed(decisions.Shutdown(exit, crashed))
        except Leave:
            raise
        except BaseException as error:
            self._crashed(error)

    def _cut(self) -> None:
        """The supervisor is killed: its children are, too."""
        cut(self._keeper)
