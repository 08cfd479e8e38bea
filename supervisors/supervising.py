"""What static and dynamic supervisors share: verdicts on children that ended, reports, the restart budget."""

from __future__ import annotations

import random
from typing import ClassVar

from allm.supervisors import events, log
from allm.supervisors.answers import describe
from allm.supervisors.exits import Exit
from allm.supervisors.parent import Parent
from allm.supervisors.policy import GIVE_UP, GiveUp, Restart, Window, should_restart
from allm.supervisors.requests import ChildInfo
from allm.supervisors.slots import RESTARTING, RUNNING, STOPPING, Ended, RestartNow, Slot
from allm.supervisors.spec import Flags
from allm.supervisors.timers import Timers

__all__ = ["Supervising"]


class Supervising(Parent):
    """The common part; see `Supervisor` and `DynamicSupervisor`."""

    reports: ClassVar[dict[type, str]] = {**Parent.reports, RestartNow: "_retry"}

    def __init__(self, flags: Flags, timers: Timers | None = None) -> None:
        super().__init__(timers)
        self._flags = flags
        self._window = Window(flags.max_restarts, flags.max_seconds)
        self._random = random.random

    def on_child_restarting(self, child: Slot, exit: Exit, delay: float) -> None:
        """A child ended and will be started again after `delay`. On the supervisor's own thread."""

    def children(self) -> list[ChildInfo]:
        """The children now, newest first. Any thread."""
        return [describe(slot) for slot in reversed(self.slots())]

    # -- reports

    def _ended(self, message: Ended) -> None:
        slot, generation, exit, _ = message
        if slot.generation == generation:
            if slot.status is STOPPING or self._final is not None:
                self._check_stop(slot, exit)
            elif slot.status is RUNNING and (exit.abnormal or slot.spec.restart == "permanent"):
                self._report("child_terminated", slot, exit)
        super()._ended(message)

    def _check_stop(self, slot: Slot, exit: Exit) -> None:
        """Report an end other than the ordered one; not an error of the stop."""
        if not slot.up:
            return
        ordered = "killed" if slot.spec.shutdown == "brutal_kill" else "shutdown"
        if exit.kind != ordered and (exit.abnormal or (exit.kind == "normal" and slot.spec.restart == "permanent")):
            self._report("shutdown_error", slot, exit)

    def _report(self, context: events.Context, slot: Slot, exit: Exit) -> None:
        if events.wanted():
            spec = slot.spec
            offender = events.Offender(slot.id, spec.type, spec.restart, spec.shutdown, slot.generation)
            # An end that a policy of its own decides on is its way of working: the restart, or the giving up, has a line of its own.
            level: log.Level = "info" if context == "child_terminated" and spec.policy is not None else "error"
            events.emit(events.SupervisorReport(self.actor_inbox.name, context, exit, offender), spec.context, level)

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
        self._reset_after(slot, getattr(policy, "reset_after", None))
        try:
            verdict = policy.decide(exit, slot.failures + 1)
        except Exception as error:
            log.error("policy_failed", supervisor=self.actor_inbox.name, child=slot.id, error=error)
            return GIVE_UP
        if isinstance(verdict, Restart) and verdict.counted:
            slot.failures += 1
        return verdict

    def _reset_after(self, slot: Slot, seconds: float | None) -> None:
        """Count failures anew after a good run."""
        if slot.up_since is not None and seconds is not None and self._timers.now() - slot.up_since > seconds:
            slot.failures = 0
        slot.up_since = None

    def _backoff(self, slot: Slot) -> float:
        backoff = slot.spec.backoff
        if backoff is None:
            return 0.0
        self._reset_after(slot, backoff.reset_after)
        slot.failures += 1
        return backoff.delay(slot.failures, self._random())

    def _wait_to_restart(self, slot: Slot, exit: Exit, delay: float, through_mailbox: bool) -> bool:
        """Note the restart; True when it comes later, as a message, False when it is due now."""
        slot.status = RESTARTING
        slot.restarts += 1
        self.on_child_restarting(slot, exit, delay)
        if events.wanted("warning"):
            events.emit(events.ChildRestarting(self.actor_inbox.name, slot.id, exit, slot.restarts, delay), slot.spec.context)
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
        if events.wanted():
            events.emit(events.Escalated(self.actor_inbox.name, slot.id, exit))
        self._end_with(reason)
