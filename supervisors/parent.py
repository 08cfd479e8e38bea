"""An actor that has children: how one starts and stops, and how it itself ends after all of them.

A parent never blocks. That a child has started, that it has ended and that a time is over are messages, so it runs
on any dispatcher; a child on the parent's own loop starts inline. When a parent ends for whatever reason, a bug of
its own included, its children are stopped first.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from allm.supervisors import events, log
from allm.supervisors.actor import Actor
from allm.supervisors.cell import Shutdown
from allm.supervisors.exits import KILLED, SHUTDOWN, Exit, Leave
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.slots import DOWN, RUNNING, STARTING, STOPPING, Began, Deadline, Ended, Slot
from allm.supervisors.starting import begin
from allm.supervisors.timers import Timers

__all__ = ["Parent"]


class Parent(Actor):
    """The mechanism under supervisors; what a child's end means is for subclasses to say.

    `reports` names the method for each type of message that slots and timers send, `handlers` for those that
    others may send, which pass through `on_receive`.
    """

    child_type: ClassVar[str] = "supervisor"
    leads: ClassVar[bool] = True
    trap_exits: ClassVar[bool] = True
    reports: ClassVar[dict[type, str]] = {Began: "_began", Ended: "_ended", Deadline: "_deadline"}
    handlers: ClassVar[dict[type, str]] = {}

    def __init__(self, timers: Timers | None = None) -> None:
        super().__init__()
        self._actor_timers = timers
        self._own_timers = timers
        self._final: Exit | None = None  # why it ends, once it does
        self._over = False  # and all children are down
        self.actor_inbox.cuts = [self._cut]

    # -- for subclasses

    def on_child_gone(self, child: Slot, exit: Exit) -> None:
        """A child ended and will not come back. On the parent's own thread; after a kill on the killer's."""

    def slots(self) -> list[Slot]:
        """Every slot, in start order."""
        raise NotImplementedError

    def _judge(self, slot: Slot, exit: Exit) -> None:
        """A running child ended by itself, or a restart failed."""
        raise NotImplementedError

    def _stopped(self, slot: Slot, exit: Exit) -> None:
        """A child that was told to stop has ended."""
        raise NotImplementedError

    def _start_failed(self, slot: Slot, exit: Exit) -> None:
        """A child that was starting has ended."""
        raise NotImplementedError

    def _up(self, slot: Slot) -> None:
        """A child that was starting runs."""
        raise NotImplementedError

    def _stop_all(self) -> None:
        """Begin to stop all children; `_leave` when none is left."""
        raise NotImplementedError

    def _actor_ready(self) -> bool:
        """What a start takes after `on_start`; False: `Cell.acknowledge` comes later."""
        return True

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
            name = self.reports.get(message.__class__)
            return super()._handle_receive(message) if name is None else getattr(self, name)(message)
        except BaseException as error:
            self._caught(error)

    def _actor_begin(self) -> bool:
        try:
            self.on_start()
            return self._actor_ready()
        except BaseException as error:
            self._caught(error)
        return False

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
            self._end_with(self._crashed(error))
        elif self._over:
            raise error
        else:
            self._end_with(error.exit)

    def _crashed(self, error: BaseException) -> Exit:
        envelope = self.actor_inbox.envelope
        exit = Exit.from_exception(error)
        if isinstance(error, Exception) and envelope is not None and envelope.reply_to is not None:
            envelope.reply_to.set_exception((type(error), error, None))
        log.error("supervisor_crashed", supervisor=self.actor_inbox.name, exit=exit.to_data())
        if self._final is not None:  # crashed while it was stopping: no second try
            self._cut()
            self._leave()
        return exit

    # -- starting and stopping one child

    def _launch(self, slot: Slot, extra: tuple[Any, ...] = ()) -> Exit | None:
        exit = begin(slot, self._dispatcher, extra)
        if self.actor_inbox.exit is not None:  # killed meanwhile, perhaps before the child could be seen
            self._cut()
            self._over = True
            raise Leave(KILLED)
        if exit is not None:
            slot.status, slot.ref, slot.cell, slot.exit = DOWN, None, None, exit
        elif slot.status is RUNNING:
            self._note_up(slot)
        elif slot.spec.start_timeout is not None:
            self._arm(slot, slot.spec.start_timeout)
        return exit

    def _note_up(self, slot: Slot) -> None:
        if slot.spec.backoff is not None or slot.spec.policy is not None:
            slot.up_since = self._timers.now()
        if events.wanted("info"):
            events.emit(events.ChildStarted(self.actor_inbox.name, slot.id, slot.generation), slot.spec.context)

    def _shut(self, slot: Slot, exit: Exit = SHUTDOWN) -> None:
        """Tell a child to stop and set its deadline."""
        slot.disarm()
        slot.status = STOPPING
        cell, shutdown = slot.cell, slot.spec.shutdown
        assert cell is not None
        if shutdown == "brutal_kill":
            cell.cancel(KILLED)
            return
        if isinstance(shutdown, (int, float)):
            self._arm(slot, shutdown)
        cell.put_signal(Shutdown(exit))

    def _arm(self, slot: Slot, delay: float) -> None:
        slot.timer = self._timers.send_after(delay, self.actor_ref, Deadline(slot, slot.generation, slot.status))

    def _deadline(self, message: Deadline) -> None:
        slot, generation, status = message
        if slot.generation != generation or slot.status is not status or slot.cell is None:
            return
        slot.timer = None
        slot.cell.cancel(KILLED if status is STOPPING else Exit("error", "start_timeout"))

    def _began(self, message: Began) -> None:
        slot, generation = message
        if slot.generation != generation or slot.status is not STARTING:
            return
        slot.disarm()
        slot.status = RUNNING
        self._note_up(slot)
        self._up(slot)

    def _ended(self, message: Ended) -> None:
        slot, generation, exit, cell = message
        if slot.generation != generation or not slot.up:
            return
        if cell.abandoned:
            self.actor_inbox.leave_behind(cell.abandoned)
        if slot.timer is not None:
            slot.disarm()
        before, slot.status, slot.ref, slot.cell, slot.exit = slot.status, DOWN, None, None, exit
        if events.wanted("info"):
            events.emit(events.ChildEnded(self.actor_inbox.name, slot.id, slot.generation, exit), slot.spec.context)
        if before is STOPPING or self._final is not None:
            self._stopped(slot, exit)
        elif before is RUNNING:
            self._judge(slot, exit)
        else:
            self._start_failed(slot, exit)

    def _gone(self, slot: Slot, exit: Exit) -> None:
        """The child will not come back."""
        slot.disarm()
        waiters, slot.waiters = slot.waiters, []
        for waiter in waiters:
            waiter.set(None)
        if slot.kept is not None and not slot.kept.buried:
            slot.kept.bury(exit)
        if _pop(slot.present):  # after a kill its thread and the killer's may meet here
            self.on_child_gone(slot, exit)

    # -- the end

    def _end_with(self, exit: Exit) -> None:
        """Stop all children, then end with this exit; the first reason holds."""
        if self._final is not None:
            return
        self._final = exit
        self.actor_stopped.set()
        try:
            self._stop_all()
        except Leave:
            raise
        except BaseException as error:
            self._crashed(error)

    def _leave(self) -> NoReturn:
        self._over = True
        raise Leave(self._final or SHUTDOWN)

    def _cut(self) -> None:
        """The supervisor is killed: its children are, too."""
        for slot in self.slots():
            slot.disarm()
            cell = slot.cell
            if cell is not None:
                cell.cancel(KILLED)
                self.actor_inbox.leave_behind(cell.abandoned)
            slot.status, slot.ref, slot.cell = DOWN, None, None
            if cell is not None and events.wanted("info"):
                ended = events.ChildEnded(self.actor_inbox.name, slot.id, slot.generation, cell.exit or KILLED)
                events.emit(ended, slot.spec.context)
            try:
                self._gone(slot, KILLED if cell is not None or slot.exit is None else slot.exit)
            except Exception as error:
                log.error("hook_failed", supervisor=self.actor_inbox.name, error=error)

    @property
    def _dispatcher(self) -> Dispatcher:
        dispatcher = self.actor_inbox.dispatcher
        assert dispatcher is not None
        return dispatcher

    @property
    def _timers(self) -> Timers:
        if self._own_timers is None:
            self._own_timers = self.actor_inbox.timers
        return self._own_timers


def _pop(once: list[bool]) -> bool:
    try:
        return once.pop()
    except IndexError:
        return False
