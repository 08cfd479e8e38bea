"""The mechanism of a supervisor: it starts, stops and reaps children in slots, as `decide` says.

Runs in the turns of its supervisor and never blocks: that a child has started, that it has ended and that a time is over
are messages, so it works on any dispatcher; a child on the supervisor's own loop starts inline. What slots and timers tell
becomes a report; the actions that `decide` answers with are carried out here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

from allm.supervisors import decisions, log
from allm.supervisors.answers import refused_start, started
from allm.supervisors.cell import Cell, Shutdown
from allm.supervisors.children import State
from allm.supervisors.decide import decide
from allm.supervisors.exits import KILLED, SHUTDOWN, Exit, Leave, text_of
from allm.supervisors.foreign import Foreign
from allm.supervisors.inbox import answer
from allm.supervisors.mailbox import KeptCell
from allm.supervisors.policy import GIVE_UP, GiveUp, Restart
from allm.supervisors.reporting import report, tell_ended, tell_gave_up, tell_restarting, tell_started
from allm.supervisors.requests import Refused
from allm.supervisors.slots import DOWN, STARTING, STOPPING, Began, Deadline, Ended, Made, RestartNow, Slot
from allm.supervisors.starting import adopt, begin, discard
from allm.supervisors.timers import Timers
from allm.supervisors.verdicts import failures_by

__all__ = ["REPORTS", "Hooks", "Keeper"]


class Hooks(Protocol):
    """The supervisor, as its keeper sees it."""

    def on_child_gone(self, child: Slot, exit: Exit) -> None: ...
    def on_child_restarting(self, child: Slot, exit: Exit, delay: float) -> None: ...


class Keeper:
    """The children of one supervisor, kept as its state says."""

    __slots__ = ("_extra", "_hooks", "_timers", "cell", "over", "starting", "state")

    def __init__(self, state: State, cell: Cell, hooks: Hooks, timers: Timers | None, extra: tuple[Any, ...]) -> None:
        self.state = state
        self.cell = cell
        self.over = False  # all children are down: the supervisor may leave
        self.starting = False  # the supervisor is in its own start
        self._hooks = hooks
        self._timers = timers
        self._extra = extra  # arguments of every child, before its own

    @property
    def timers(self) -> Timers:
        """The timers given to this supervisor or to one above it, or the dispatcher's."""
        if self._timers is None:
            self._timers = self.cell.timers
        return self._timers

    def slots(self) -> list[Slot]:
        """Every slot, in start order. Any thread."""
        return cast("list[Slot]", list(self.state.children))

    def feed(self, report: decisions.Report) -> None:
        """Decide what a report means and do it, and the same for what comes of that at once.

        Every action of a decision is carried out, whatever another raises: the state says that it was.
        """
        reports = [report]
        raised: BaseException | None = None
        for each in reports:  # which grows meanwhile
            if self.over:
                break
            for action in decide(self.state, each):
                try:
                    more = _ACTS[action.__class__](self, action)
                except BaseException as error:
                    raised = raised or error
                else:
                    if more is not None:
                        reports.append(more)
        if raised is not None:
            raise raised

    # -- what slots and timers tell

    def began(self, message: Began) -> None:
        """A child's start is complete."""
        slot, generation = message
        if slot.generation == generation and slot.status is STARTING:
            slot.disarm()
            self.feed(self._note_up(slot))

    def ended(self, message: Ended) -> None:
        """A child has ended."""
        slot, generation, exit, cell = message
        if slot.generation == generation and slot.up and slot.cell is cell:
            self.reap(slot, exit, cell)

    def reap(self, slot: Slot, exit: Exit, cell: Cell | Foreign) -> None:
        """Take note of the end of an incarnation."""
        if cell.abandoned:
            self.cell.leave_behind(cell.abandoned)
        if slot.timer is not None:
            slot.disarm()
        slot.ref = slot.cell = None
        self.feed(decisions.Down(slot, exit))

    def made(self, message: Made) -> None:
        """A start function has returned."""
        slot = message.slot
        if slot.generation != message.generation or slot.cell is not message.cell or not slot.up:
            discard(message)
            return
        try:
            exit = adopt(message)
        except BaseException as error:
            exit = Exit.from_exception(error)
        if exit is not None:
            slot.disarm()
            slot.ref = slot.cell = None
            self.feed(decisions.Failed(slot, exit) if slot.status is STARTING else decisions.Down(slot, exit))
        elif slot.status is STOPPING:  # told so while the function ran; its time goes on
            self._signal(slot)

    def deadline(self, message: Deadline) -> None:
        """A child had its time to stop, or to start."""
        slot, generation, status = message
        if slot.generation != generation or slot.status is not status or slot.cell is None:
            return
        slot.timer, cell = None, slot.cell
        if not cell.cancel(KILLED if status is STOPPING else Exit("error", "start_timeout")):
            self._found_dead(slot, cell)

    def _found_dead(self, slot: Slot, cell: Cell | Foreign) -> None:
        """An incarnation has ended, whether a report of that comes or not."""
        if cell.started and slot.status is STARTING:
            self.feed(self._note_up(slot))
        self.reap(slot, cell.exit or KILLED, cell)

    def due(self, message: RestartNow) -> None:
        """The delay before a restart is over."""
        slot, generation = message
        if slot.generation == generation:
            slot.timer = None
            self.feed(decisions.Due(slot, generation))

    # -- a kill, on the killer's thread

    def kill(self, slot: Slot) -> Cell | Foreign | None:
        """End a child with its supervisor; the incarnation that there was."""
        slot.disarm()
        cell = slot.cell
        try:
            if cell is not None:
                cell.cancel(KILLED)
            if slot.made is not None:
                discard(slot.made)
        except BaseException as error:  # the others are to be killed all the same
            log.error("kill_failed", supervisor=self.cell.name, child=slot.id, error=text_of(error, repr))
        slot.status, slot.ref, slot.cell = DOWN, None, None
        return cell

    def settle(self, slot: Slot, cell: Cell | Foreign | None) -> None:
        """Do what follows the end of a child that was killed with its supervisor."""
        exit = KILLED if cell is not None or slot.exit is None else slot.exit
        try:
            if cell is not None:
                self.cell.leave_behind(cell.abandoned)
                tell_ended(self.cell.name, slot, cell.exit or KILLED)
            self._gone(decisions.Gone(slot, exit))
        except BaseException as error:
            log.error("hook_failed", supervisor=self.cell.name, child=slot.id, error=text_of(error, repr))

    # -- actions

    def _launch(self, action: decisions.Launch) -> decisions.Report | None:
        slot = cast("Slot", action.child)
        dispatcher = self.cell.dispatcher
        assert dispatcher is not None
        exit = begin(slot, dispatcher, self._extra)
        if self.cell.exit is not None:  # killed meanwhile, perhaps before the child could be seen
            for each in self.slots():
                self.settle(each, self.kill(each))
            self.over = True
            raise Leave(KILLED)
        if exit is not None:
            slot.ref = slot.cell = None
            return decisions.Failed(slot, exit)
        if slot.began:
            return self._note_up(slot)
        if slot.spec.start_timeout is not None:
            self._arm(slot, slot.spec.start_timeout)
        return None

    def _note_up(self, slot: Slot) -> decisions.Up:
        tell_started(self.cell.name, slot)
        timed = slot.spec.backoff is not None or slot.spec.policy is not None
        return decisions.Up(slot, self.timers.now()) if timed else decisions.Up(slot)

    def _halt(self, action: decisions.Halt) -> decisions.Report | None:
        """Tell a child to stop and set its deadline."""
        slot = cast("Slot", action.child)
        if action.again and slot.timer is not None:
            return None
        slot.disarm()
        cell, shutdown = slot.cell, slot.spec.shutdown
        if cell is None or (cell.exit is not None and slot.made is None):  # the report of its end may be on its way, or may not
            slot.ref = slot.cell = None
            return decisions.Down(slot, cell.exit or KILLED if cell is not None else slot.exit or KILLED)
        if isinstance(shutdown, (int, float)):
            self._arm(slot, shutdown)
        self._signal(slot)
        return None

    def _signal(self, slot: Slot) -> None:
        cell = slot.cell
        if cell is not None and slot.spec.shutdown == "brutal_kill":
            cell.cancel(KILLED)
        elif cell is not None:
            cell.put_signal(Shutdown(SHUTDOWN))

    def _arm(self, slot: Slot, delay: float) -> None:
        slot.timer = self._send(delay, Deadline(slot, slot.generation, slot.status))

    def _send(self, delay: float, message: Any) -> Any:
        ref = self.cell.ref
        return self.timers.send_after(delay, ref, message) if ref is not None else None

    def _judge(self, action: decisions.Judge) -> decisions.Report:
        slot, exit, retried, ask = cast("tuple[Slot, Exit, bool, bool]", action)
        now = self.timers.now()
        word = self._ask_policy(slot, exit, now) if ask else None
        return decisions.Judged(slot, exit, retried, now, random.random(), word)

    def _ask_policy(self, slot: Slot, exit: Exit, now: float) -> Restart | GiveUp:
        policy = slot.spec.policy
        assert policy is not None
        try:
            word: object = policy.decide(exit, failures_by(slot, now, policy) + 1)
            if isinstance(word, Restart):
                return Restart(word.delay, word.counted)  # checked once more: subclasses may answer anything
            if isinstance(word, GiveUp):
                return GiveUp(word.escalate)
            raise TypeError(f"{type(policy).__name__}.decide returned {type(word).__name__}, not a Restart or GiveUp")
        except BaseException as error:
            log.error("policy_failed", supervisor=self.cell.name, child=slot.id, error=text_of(error, repr))
            return GIVE_UP

    def _restarting(self, action: decisions.Restarting) -> None:
        slot, exit, delay = cast("tuple[Slot, Exit, float]", action)
        self._hook(self._hooks.on_child_restarting, slot, exit, delay)
        tell_restarting(self.cell.name, slot, exit, delay)

    def _pause(self, action: decisions.Pause) -> None:
        slot, delay = cast("tuple[Slot, float]", action)
        message = RestartNow(slot, slot.generation)
        if delay > 0:
            slot.timer = self._send(delay, message)
        else:
            self.cell.put_message(message)

    def _disarm(self, action: decisions.Disarm) -> None:
        cast("Slot", action.child).disarm()

    def _gone(self, action: decisions.Gone) -> None:
        """Bury what is left of a child that will not come back, and tell those who wait for that."""
        slot, exit = cast("tuple[Slot, Exit]", action)
        slot.disarm()
        waiters, slot.waiters = slot.waiters, ()
        for waiter in waiters:
            answer(waiter, None)
        if slot.kept is not None and not slot.kept.buried:
            slot.kept.bury(exit)
        if slot.present.acquire(False):  # after a kill its thread and the killer's may meet here
            self._hook(self._hooks.on_child_gone, slot, exit)

    def _hook(self, hook: Callable[..., None], slot: Slot, *args: Any) -> None:
        """Call a hook; what it raises is about this child alone, but for the wish to end."""
        try:
            hook(slot, *args)
        except Leave:
            raise
        except BaseException as error:
            log.error("hook_failed", supervisor=self.cell.name, child=slot.id, error=text_of(error, repr))

    def _told_ended(self, action: decisions.Ended) -> None:
        tell_ended(self.cell.name, cast("Slot", action.child), action.exit)

    def _tell(self, action: decisions.Tell) -> None:
        report(self.cell.name, action.context, cast("Slot", action.child), action.exit)

    def _gave_up(self, action: decisions.GaveUp) -> None:
        tell_gave_up(self.cell.name, cast("Slot", action.child), action.exit)

    def _broken(self, action: decisions.Broken) -> None:
        log.error(action.what, supervisor=self.cell.name, child=action.child.id, error=text_of(action.error, repr))

    def _answer(self, action: decisions.Answer) -> None:
        value = action.value
        answer(action.reply, started(value) if isinstance(value, Slot) else value)

    def _decline(self, action: decisions.Decline) -> None:
        child = cast("Slot | None", action.child)
        answer(action.reply, Refused(action.reason, ref=child.ref if child is not None else None))

    def _refuse(self, action: decisions.Refuse) -> None:
        answer(action.reply, refused_start(action.exit))

    def _ready(self, action: decisions.Ready) -> None:
        if not self.starting:
            self.cell.acknowledge()

    def _ending(self, action: decisions.Ending) -> None:
        if not isinstance(self.cell, KeptCell):  # there the flag is that of all incarnations
            self.cell.stopped.set()

    def _leave(self, action: decisions.Leave) -> None:
        self.over = True
        raise Leave(action.exit)

    acts: Final[Mapping[type, Callable[..., decisions.Report | None]]] = {
        decisions.Launch: _launch,
        decisions.Halt: _halt,
        decisions.Judge: _judge,
        decisions.Restarting: _restarting,
        decisions.Pause: _pause,
        decisions.Disarm: _disarm,
        decisions.Gone: _gone,
        decisions.Ended: _told_ended,
        decisions.Tell: _tell,
        decisions.GaveUp: _gave_up,
        decisions.Broken: _broken,
        decisions.Answer: _answer,
        decisions.Decline: _decline,
        decisions.Refuse: _refuse,
        decisions.Ready: _ready,
        decisions.Ending: _ending,
        decisions.Leave: _leave,
    }
    """How each action is carried out; what comes of it at once is a report."""


_ACTS: Final = Keeper.acts

REPORTS: Final[Mapping[type, Callable[[Keeper, Any], None]]] = {
    Began: Keeper.began,
    Ended: Keeper.ended,
    Made: Keeper.made,
    Deadline: Keeper.deadline,
    RestartNow: Keeper.due,
}
"""What takes each message that slots and timers send to a supervisor."""
