"""A supervisor of a fixed list of children, started in order, stopped in reverse, restarted by a strategy.

Starting all, or stopping a group and starting it again, is a queue of steps (`steps`). Deaths that come meanwhile
are judged when the queue is empty; a shutdown clears the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from allm.supervisors.administration import Administration
from allm.supervisors.exits import SHUTDOWN, Exit, Leave
from allm.supervisors.policy import AutoShutdown, Restart, Strategy, Window, affected
from allm.supervisors.slots import DOWN, RESTARTING, STOPPING, RestartNow, Slot
from allm.supervisors.spec import Child, ChildSpec, Flags, check_specs, is_tuple
from allm.supervisors.timers import Timers

__all__ = ["Supervisor"]


class Supervisor(Administration):
    """Static children. Its own start is complete when all of theirs are; if one fails, the others are stopped.

    The children are given, or a subclass returns them from `init`.
    """

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
        super().__init__(Flags(strategy, max_restarts, max_seconds, auto_shutdown), timers)
        self._specs = check_specs(children, auto_shutdown)
        self._complete = self._beginning = False

    def init(self) -> Any:
        """Specs, or ``(specs, flags)``, or an ``ignore`` exit; None: those given to the constructor."""
        return None

    # -- the first start

    def _actor_ready(self) -> bool:
        self._configure(self.init())
        for spec in self._specs:
            self._slots[spec.id] = Slot(spec, self.actor_inbox)
        del self._specs
        self._failed = self._first_failed
        self._steps.add(partial(self._start_step, slot) for slot in self.slots())
        self._steps.add([self._completed])
        self._beginning = True
        self._steps.advance()
        self._beginning = False
        return self._complete

    def _configure(self, answer: Any) -> None:
        if answer is None:
            return
        if isinstance(answer, Exit):
            raise Leave(answer)
        specs: Any = answer
        if is_tuple(answer) and len(answer) == 2:
            specs, self._flags = answer[0], Flags.of(answer[1])
            self._window = Window(self._flags.max_restarts, self._flags.max_seconds)
        if not isinstance(specs, (list, tuple)):
            raise Leave(Exit("bad_return", {"callback": "init", "type": type(answer).__name__}))
        self._specs = check_specs(cast("list[ChildSpec]", specs), self._flags.auto_shutdown)

    def _completed(self) -> None:
        self._complete = True
        if not self._beginning:
            self.actor_inbox.acknowledge()

    def _first_failed(self, slot: Slot, exit: Exit) -> None:
        if exit.kind == "ignore":
            self._left_out(slot)
            return
        self._report("start_error", slot, exit)
        self._drop(slot, exit)
        detail = {"failed_to_start_child": str(slot.id), "reason": exit.to_data()}
        self._end_with(Exit("shutdown", detail))

    # -- what children report

    def _up(self, slot: Slot) -> None:
        self._let_go(slot)
        self._steps.resume(slot)

    def _stopped(self, slot: Slot, exit: Exit) -> None:
        if slot.spec.restart == "temporary" or self._final is not None:
            self._drop(slot, exit)
        elif slot.waiters:
            self._gone(slot, exit)
        self._steps.resume(slot)

    def _start_failed(self, slot: Slot, exit: Exit) -> None:
        self._steps.waiting = None
        self._failed(slot, exit)
        self._steps.advance()

    def _judge(self, slot: Slot, exit: Exit) -> None:
        self._steps.when_idle(partial(self._judge_now, slot, exit, slot.generation))

    def _judge_now(self, slot: Slot, exit: Exit, generation: int) -> None:
        # Meanwhile a group restart may have started it again, or a request removed it.
        if slot.generation == generation and slot.status is DOWN and self._slots.get(slot.id) is slot:
            self._again(slot, exit, retried=False)

    # -- restarting

    def _again(self, slot: Slot, exit: Exit, *, retried: bool) -> None:
        verdict = self._verdict(slot, exit)
        if verdict is None:
            self._drop(slot, exit)
            self._escalate(slot, exit)
        elif not isinstance(verdict, Restart):
            self._ended_for_good(slot, exit)
        else:
            later = self._wait_to_restart(slot, exit, verdict.delay, retried)
            group = self._group(slot)
            slot.group = [] if group == [slot] else group
            self._steps.add(partial(self._stop_step, other) for other in reversed(group) if other is not slot)
            if not later:
                self._steps.add([partial(self._start_group, slot)])

    def _group(self, slot: Slot) -> list[Slot]:
        strategy = self._flags.strategy
        return [slot] if strategy == "one_for_one" else affected(strategy, self.slots(), slot)

    def _ended_for_good(self, slot: Slot, exit: Exit) -> None:
        """A child ended by itself and is not restarted."""
        self._left(slot, exit)
        if slot.spec.significant and self._was_last(slot):
            self._end_with(Exit("shutdown", "auto_shutdown"))

    def _was_last(self, slot: Slot) -> bool:
        if self._flags.auto_shutdown == "any_significant":
            return True
        others = (other for other in self._slots.values() if other is not slot and other.spec.significant)
        return not any(other.up or other.status is RESTARTING for other in others)

    def _retry(self, message: RestartNow) -> None:
        self._steps.when_idle(partial(self._retry_now, message))

    def _retry_now(self, message: RestartNow) -> None:
        slot = message.slot
        if slot.generation == message.generation and slot.status is RESTARTING:
            slot.timer = None
            self._start_group(slot)

    def _start_group(self, slot: Slot) -> None:
        """Stop what runs of the group, then start all of it, and whoever was stopped when the strategy was another."""
        group = self._group(slot)
        if slot.group:
            stopped = {id(other) for other in (*group, *slot.group)}
            group, slot.group = [other for other in self.slots() if id(other) in stopped], []
        self._failed = self._restart_failed
        self._steps.add(partial(self._stop_step, other) for other in reversed(group) if other.up)
        self._steps.add(partial(self._start_if_kept, other) for other in group)

    def _start_if_kept(self, slot: Slot) -> None:
        if self._slots.get(slot.id) is slot and slot.start is not None:
            slot.disarm()
            self._start_step(slot)

    def _restart_failed(self, slot: Slot, exit: Exit) -> None:
        if exit.kind == "ignore":
            self._left_out(slot)
            return
        self._report("start_error", slot, exit)
        self._steps.clear()
        self._again(slot, exit, retried=True)

    # -- the end

    def _stop_all(self) -> None:
        steps = self._steps
        steps.clear(held=True)
        if steps.waiting is not None and steps.waiting.status is not STOPPING:
            steps.waiting = None  # it starts, and is stopped in its turn; or its end was being dealt with when a hook failed
        steps.add(partial(self._stop_step, slot) for slot in reversed(self.slots()))
        steps.add([self._all_stopped])
        steps.advance()

    def _all_stopped(self) -> None:
        for slot in reversed(self.slots()):
            self._drop(slot, slot.exit or SHUTDOWN)
        self._leave()
