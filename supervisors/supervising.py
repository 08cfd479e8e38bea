"""What static and dynamic supervisors share: how a child starts, stops and is judged, and how the end is reached.

A supervisor never blocks. That a child has started, that it has ended and that a time is over are messages, so it
runs on any dispatcher; a child on the supervisor's own loop starts inline. When a supervisor ends for whatever
reason, a bug of its own included, its children are stopped first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn

from allm.supervisors import events, log
from allm.supervisors.actor import Actor
from allm.supervisors.cell import Shutdown, alive
from allm.supervisors.exits import KILLED, SHUTDOWN, Exit, Leave
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.policy import GIVE_UP, GiveUp, Restart, Window, should_restart
from allm.supervisors.requests import ChildInfo, Counts, Refused
from allm.supervisors.slots import (
    DOWN,
    RESTARTING,
    RUNNING,
    STARTING,
    STOPPING,
    Began,
    Deadline,
    Ended,
    RestartNow,
    Slot,
)
from allm.supervisors.spec import Flags, SpecError
from allm.supervisors.starting import begin
from allm.supervisors.timers import Timers, shared_timers

__all__ = ["Supervising"]

Handler = Callable[[Any, Any], Any]


class Supervising(Actor):
    """The common part; see `Supervisor` and `DynamicSupervisor`."""

    child_type: ClassVar[str] = "supervisor"
    trap_exits: ClassVar[bool] = True
    handlers: ClassVar[dict[type, str]] = {
        Began: "_began",
        Ended: "_ended",
        Deadline: "_deadline",
        RestartNow: "_retry",
    }

    def __init__(self, flags: Flags, timers: Timers | None = None) -> None:
        super().__init__()
        self._flags = flags
        self._window = Window(flags.max_restarts, flags.max_seconds)
        self._own_timers = timers
        self._final: Exit | None = None
        self._over = False
        self._random = random.random
        self.actor_inbox.cuts = [self._cut]

    # -- for subclasses

    def on_child_restarting(self, child: Slot, exit: Exit, delay: float) -> None:
        """A child ended and will be started again after `delay`. On the supervisor's own thread."""

    def on_child_gone(self, child: Slot, exit: Exit) -> None:
        """A child ended and will not come back. On the supervisor's own thread; after a kill on the killer's."""

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

    # -- messages

    def on_receive(self, message: Any) -> Any:
        """Reports of children, timers and requests; anything else is logged and dropped."""
        name = self.handlers.get(type(message))
        if name is None:
            return super().on_receive(message)
        return getattr(self, name)(message)

    def _handle_receive(self, message: Any) -> Any:
        try:
            return super()._handle_receive(message)
        except Leave as leave:
            if self._over:
                raise
            exit = leave.exit
        except BaseException as error:
            exit = self._crashed(error)
        self._end_with(exit)
        return None

    def _begin(self) -> bool:
        try:
            self.on_start()
            return self._ready()
        except Leave as leave:
            if self._over:
                raise
            exit = leave.exit
        except BaseException as error:
            exit = self._crashed(error)
        self._end_with(exit)
        return False

    def _ready(self) -> bool:
        return True

    def _signal(self, signal: Any) -> None:
        if isinstance(signal, Shutdown):
            self._end_with(signal.exit)
        else:
            super()._signal(signal)

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
        if exit is not None:
            slot.status, slot.ref, slot.cell, slot.exit = DOWN, None, None, exit
        elif slot.status is RUNNING:
            self._note_up(slot)
        elif slot.spec.start_timeout is not None:
            self._arm(slot, slot.spec.start_timeout)
        return exit

    def _note_up(self, slot: Slot) -> None:
        if slot.spec.backoff is not None:
            slot.up_since = self._timers.now()
        if events.listeners:
            events.emit(events.ChildStarted(self.actor_inbox.name, slot.id, slot.generation))

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
        slot.timer = self._timers.send_after(delay, self.actor_ref, Deadline(slot, slot.generation))

    def _deadline(self, message: Deadline) -> None:
        slot, generation = message
        if slot.generation != generation or slot.cell is None:
            return
        slot.timer = None
        if slot.status is STOPPING:
            slot.cell.cancel(KILLED)
        elif slot.status is STARTING:
            slot.cell.cancel(Exit("error", "start_timeout"))

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
            self.actor_inbox.abandoned += cell.abandoned
        if slot.timer is not None:
            slot.disarm()
        before, slot.status, slot.ref, slot.cell, slot.exit = slot.status, DOWN, None, None, exit
        if events.listeners:
            events.emit(events.ChildEnded(self.actor_inbox.name, slot.id, slot.generation, exit))
        if before is STOPPING or self._final is not None:
            self._check_stop(slot, exit)
            self._stopped(slot, exit)
        elif before is RUNNING:
            if exit.abnormal or slot.spec.restart == "permanent":
                self._report("child_terminated", slot, exit)
            self._judge(slot, exit)
        else:
            self._start_failed(slot, exit)

    def _check_stop(self, slot: Slot, exit: Exit) -> None:
        """Report an end other than the ordered one; not an error of the stop."""
        ordered = "killed" if slot.spec.shutdown == "brutal_kill" else "shutdown"
        if exit.kind != ordered and (exit.abnormal or (exit.kind == "normal" and slot.spec.restart == "permanent")):
            self._report("shutdown_error", slot, exit)

    def _report(self, context: events.Context, slot: Slot, exit: Exit) -> None:
        if events.listeners or log.enabled():
            spec = slot.spec
            offender = events.Offender(slot.id, spec.type, spec.restart, spec.shutdown, slot.generation)
            events.report(events.SupervisorReport(self.actor_inbox.name, context, exit, offender))

    # -- verdicts

    def _verdict(self, slot: Slot, exit: Exit) -> Restart | GiveUp | None:
        """Whether to start it again, and when; None: the budget is spent, escalate."""
        spec = slot.spec
        if spec.policy is not None and exit.abnormal:
            verdict = self._ask_policy(slot, exit)
            if isinstance(verdict, Restart) or not verdict.escalate:
                return verdict
        if not should_restart(spec.restart, exit):
            return GIVE_UP
        if not self._window.admit(self._timers.now()):
            return None
        return Restart(self._backoff(slot))

    def _ask_policy(self, slot: Slot, exit: Exit) -> Restart | GiveUp:
        policy = slot.spec.policy
        assert policy is not None
        try:
            verdict = policy.decide(exit, slot.failures + 1)
        except Exception as error:
            log.error("policy_failed", supervisor=self.actor_inbox.name, child=slot.id, error=error)
            return GIVE_UP
        if isinstance(verdict, Restart) and verdict.counted:
            slot.failures += 1
        return verdict

    def _backoff(self, slot: Slot) -> float:
        backoff = slot.spec.backoff
        if backoff is None:
            return 0.0
        if slot.up_since and self._timers.now() - slot.up_since > backoff.reset_after:
            slot.failures = 0
        slot.up_since = 0.0
        slot.failures += 1
        return backoff.delay(slot.failures, self._random())

    def _wait_to_restart(self, slot: Slot, exit: Exit, delay: float, through_mailbox: bool) -> bool:
        """Note the restart; True when it comes later, as a message, False when it is due now."""
        slot.status = RESTARTING
        slot.restarts += 1
        self.on_child_restarting(slot, exit, delay)
        if events.listeners:
            events.emit(events.ChildRestarting(self.actor_inbox.name, slot.id, exit, slot.restarts, delay))
        if delay > 0:
            message = RestartNow(slot, slot.generation)
            slot.timer = self._timers.send_after(delay, self.actor_ref, message)
            return True
        if through_mailbox:
            self.actor_inbox.put_message(RestartNow(slot, slot.generation))
        return through_mailbox

    def _retry(self, message: RestartNow) -> None:
        raise NotImplementedError

    def _escalate(self, slot: Slot, exit: Exit) -> None:
        reason = Exit("shutdown", "reached_max_restart_intensity")
        self._report("shutdown", slot, reason)
        if events.listeners:
            events.emit(events.Escalated(self.actor_inbox.name, slot.id, exit))
        self._end_with(reason)

    def _gone(self, slot: Slot, exit: Exit) -> None:
        """The child will not come back."""
        slot.disarm()
        waiters, slot.waiters = slot.waiters, []
        for waiter in waiters:
            waiter.set(None)
        if slot.kept is not None and not slot.kept.buried:
            slot.kept.bury(exit)
        if not slot.gone and slot.generation:
            slot.gone = True
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
                self.actor_inbox.abandoned += cell.abandoned
            slot.status, slot.ref, slot.cell = DOWN, None, None
            try:
                self._gone(slot, KILLED if cell is not None or slot.exit is None else slot.exit)
            except Exception as error:
                log.error("hook_failed", supervisor=self.actor_inbox.name, error=error)

    # -- for requests

    @property
    def _dispatcher(self) -> Dispatcher:
        dispatcher = self.actor_inbox.dispatcher
        assert dispatcher is not None
        return dispatcher

    @property
    def _timers(self) -> Timers:
        if self._own_timers is None:
            dispatcher = self.actor_inbox.dispatcher
            self._own_timers = dispatcher.timers if dispatcher is not None else shared_timers()
        return self._own_timers

    def _result(self, slot: Slot) -> Any:
        return slot.ref if slot.extra is None else (slot.ref, slot.extra)

    def _count(self, slots: Iterable[Slot]) -> Counts:
        table = list(slots)
        supervisors = sum(slot.spec.type == "supervisor" for slot in table)
        active = sum(slot.status in (RUNNING, STOPPING) for slot in table)
        return Counts(len(table), active, supervisors, len(table) - supervisors)

    def children(self) -> list[ChildInfo]:
        """The children now, newest first. Any thread."""
        return [describe(slot) for slot in reversed(self.slots())]


def describe(slot: Slot) -> ChildInfo:
    """What is told of a child."""
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


def refused_spec(error: SpecError | TypeError) -> Refused:
    """The answer for a spec that is none."""
    return Refused(getattr(error, "reason", "invalid_child_spec"), exit=Exit.from_exception(error))
