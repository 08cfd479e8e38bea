"""A supervisor of a fixed list of children, started in order, stopped in reverse, restarted by a strategy.

What takes several steps (start all, stop a group and start it again) is a queue of steps; a step that waits for a
child leaves the supervisor free for messages. Requests and deaths that come meanwhile are held until the queue is
empty, questions are answered at once, and a shutdown clears the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from allm.supervisors.exits import SHUTDOWN, Exit
from allm.supervisors.policy import AutoShutdown, Restart, Strategy, affected
from allm.supervisors.requests import (
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
from allm.supervisors.spec import ChildSpec, Flags, SpecError, check_significant, check_specs
from allm.supervisors.supervising import Supervising, describe, refused_start
from allm.supervisors.timers import Timers

__all__ = ["Supervisor"]

Step = Callable[[], None]


class Supervisor(Supervising):
    """Static children. Its own start is complete when all of theirs are; if one fails, the others are stopped."""

    handlers: ClassVar[dict[type, str]] = {
        **Supervising.handlers,
        StartChild: "_start_child",
        StopChild: "_stop_child",
        RestartChild: "_restart_child",
        DeleteChild: "_delete_child",
        WhichChildren: "_which",
        WhichChild: "_which_one",
        CountChildren: "_counts",
        GetSpec: "_spec",
    }

    def __init__(
        self,
        children: Iterable[ChildSpec | Mapping[str, Any]] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        timers: Timers | None = None,
    ) -> None:
        super().__init__(Flags(strategy, max_restarts, max_seconds, auto_shutdown), timers)
        self._slots: dict[Hashable, Slot] = {}  # in start order
        for spec in check_specs(children, auto_shutdown):
            self._slots[spec.id] = Slot(spec, self.actor_inbox)
        self._steps: deque[Step] = deque()
        self._waiting: Slot | None = None
        self._held: deque[Step] = deque()
        self._failed: Callable[[Slot, Exit], None] = self._first_failed
        self._complete = self._beginning = False

    def slots(self) -> list[Slot]:
        return list(self._slots.values())

    # -- the queue of steps

    def _advance(self) -> None:
        while self._waiting is None:
            if self._steps:
                self._steps.popleft()()
            elif self._held:
                self._held.popleft()()
            else:
                return

    @property
    def _busy(self) -> bool:
        return self._waiting is not None or bool(self._steps)

    def _start_step(self, slot: Slot) -> None:
        exit = self._launch(slot)
        if exit is not None:
            self._failed(slot, exit)
        elif slot.status is STARTING:
            self._waiting = slot
        else:
            self._let_go(slot)

    def _stop_step(self, slot: Slot) -> None:
        if slot.status in (STARTING, RUNNING):
            self._shut(slot)
        if slot.status is STOPPING:
            self._waiting = slot
        elif slot.status is RESTARTING:
            slot.disarm()
            slot.status = DOWN

    def _let_go(self, slot: Slot) -> None:
        if slot.spec.restart == "temporary" and slot.spec.policy is None:
            slot.start = None

    # -- what children report

    def _up(self, slot: Slot) -> None:
        self._let_go(slot)
        self._resume(slot)

    def _resume(self, slot: Slot) -> None:
        if self._waiting is slot:
            self._waiting = None
        self._advance()

    def _stopped(self, slot: Slot, exit: Exit) -> None:
        if slot.spec.restart == "temporary" or self._final is not None:
            self._drop(slot, exit)
        elif slot.waiters:
            self._gone(slot, exit)
        self._resume(slot)

    def _start_failed(self, slot: Slot, exit: Exit) -> None:
        self._waiting = None
        self._failed(slot, exit)
        self._advance()

    def _judge(self, slot: Slot, exit: Exit) -> None:
        if self._busy:
            self._held.append(partial(self._judge_later, slot, exit, slot.generation))
        else:
            self._again(slot, exit, retried=False)
            self._advance()

    def _judge_later(self, slot: Slot, exit: Exit, generation: int) -> None:
        if slot.generation == generation and slot.status is DOWN and slot.id in self._slots:
            self._again(slot, exit, retried=False)

    def _drop(self, slot: Slot, exit: Exit) -> None:
        if self._slots.get(slot.id) is slot:
            del self._slots[slot.id]
        self._gone(slot, exit)

    # -- restarting

    def _again(self, slot: Slot, exit: Exit, *, retried: bool) -> None:
        verdict = self._verdict(slot, exit)
        if verdict is None:
            self._drop(slot, exit)
            self._escalate(slot, exit)
        elif not isinstance(verdict, Restart):
            self._left(slot, exit)
        else:
            later = self._wait_to_restart(slot, exit, verdict.delay, retried)
            group = affected(self._flags.strategy, self.slots(), slot)
            self._steps.extend(partial(self._stop_step, other) for other in reversed(group) if other is not slot)
            if not later:
                self._steps.append(partial(self._start_group, slot))

    def _left(self, slot: Slot, exit: Exit) -> None:
        """A child ended and is not restarted: a temporary one is forgotten, another keeps its spec."""
        significant = slot.spec.significant
        if slot.spec.restart == "temporary":
            self._drop(slot, exit)
        else:
            self._gone(slot, exit)
        if significant and self._last_significant(slot):
            self._end_with(Exit("shutdown", "auto_shutdown"))

    def _last_significant(self, slot: Slot) -> bool:
        if self._flags.auto_shutdown == "any_significant":
            return True
        others = (other for other in self._slots.values() if other is not slot)
        return not any(other.spec.significant and (other.up or other.status is RESTARTING) for other in others)

    def _retry(self, message: RestartNow) -> None:
        slot, generation = message
        if slot.generation != generation or slot.status is not RESTARTING or self._final is not None:
            return
        slot.timer = None
        if self._busy:
            self._held.append(partial(self._retry, message))
            return
        self._start_group(slot)
        self._advance()

    def _start_group(self, slot: Slot) -> None:
        """Stop what runs of the group, then start all of it."""
        group = affected(self._flags.strategy, self.slots(), slot)
        self._failed = self._restart_failed
        self._steps.extend(partial(self._stop_step, other) for other in reversed(group) if other.up)
        self._steps.extend(partial(self._start_if_kept, other) for other in group)

    def _start_if_kept(self, slot: Slot) -> None:
        if slot.id in self._slots and slot.start is not None:
            slot.disarm()
            self._start_step(slot)

    def _restart_failed(self, slot: Slot, exit: Exit) -> None:
        if exit.kind == "ignore":
            self._ignored(slot)
            return
        self._steps.clear()
        self._again(slot, exit, retried=True)

    def _ignored(self, slot: Slot) -> None:
        slot.status = DOWN
        if slot.spec.restart == "temporary":
            self._drop(slot, Exit("ignore"))

    # -- the first start

    def _ready(self) -> bool:
        self._steps.extend(partial(self._start_step, slot) for slot in self.slots())
        self._steps.append(self._completed)
        self._beginning = True
        self._advance()
        self._beginning = False
        return self._complete

    def _completed(self) -> None:
        self._complete = True
        if not self._beginning:
            self.actor_inbox.acknowledge()

    def _first_failed(self, slot: Slot, exit: Exit) -> None:
        if exit.kind == "ignore":
            self._ignored(slot)
            return
        detail = {"failed_to_start_child": str(slot.id), "reason": exit.to_data()}
        self._drop(slot, exit)
        self._end_with(Exit("shutdown", detail))

    # -- requests

    def _when_idle(self, step: Step) -> None:
        self._held.append(step)
        if not self._busy:
            self._advance()

    def _start_child(self, request: StartChild) -> Any:
        try:
            spec = ChildSpec.of(request.spec)
            check_significant(spec, self._flags.auto_shutdown)
        except (SpecError, TypeError) as error:
            return Refused(getattr(error, "reason", "invalid_child_spec"), exit=Exit.from_exception(error))
        reply = self.later()

        def run() -> None:
            slot = self._slots.get(spec.id)
            if slot is not None:
                reply.set(Refused("already_started" if slot.ref is not None else "already_present", ref=slot.ref))
                return
            self._slots[spec.id] = slot = Slot(spec, self.actor_inbox)
            self._start_for(slot, reply, keep=False)

        self._when_idle(run)
        return None

    def _start_for(self, slot: Slot, reply: Any, *, keep: bool) -> None:
        def failed(slot: Slot, exit: Exit) -> None:
            if exit.kind == "ignore":
                self._ignored(slot)
            elif not keep:
                self._drop(slot, exit)
            reply.set(refused_start(exit))
            self._steps.clear()

        self._failed = failed
        self._steps.append(partial(self._start_step, slot))
        self._steps.append(lambda: reply.set(self._result(slot)))

    def _stop_child(self, request: StopChild) -> Any:
        reply = self.later()

        def run() -> None:
            slot = self._slots.get(request.child)
            if slot is None:
                reply.set(Refused("not_found"))
            elif slot.up:
                slot.waiters.append(reply)
                self._steps.append(partial(self._stop_step, slot))
            else:
                self._stop_step(slot)
                reply.set(None)

        self._when_idle(run)
        return None

    def _restart_child(self, request: RestartChild) -> Any:
        reply = self.later()

        def run() -> None:
            slot = self._slots.get(request.id)
            if slot is None or slot.status is not DOWN:
                reply.set(_not_down(slot))
            else:
                self._start_for(slot, reply, keep=True)

        self._when_idle(run)
        return None

    def _delete_child(self, request: DeleteChild) -> Any:
        reply = self.later()

        def run() -> None:
            slot = self._slots.get(request.id)
            if slot is None or slot.status is not DOWN:
                reply.set(_not_down(slot))
            else:
                del self._slots[slot.id]
                reply.set(None)

        self._when_idle(run)
        return None

    # -- questions: answered at once, whatever goes on

    def _which(self, _: WhichChildren) -> list[ChildInfo]:
        return self.children()

    def _which_one(self, request: WhichChild) -> Any:
        slot = self._slots.get(request.id)
        return Refused("not_found") if slot is None else describe(slot)

    def _counts(self, _: CountChildren) -> Counts:
        return self._count(self.slots())

    def _spec(self, request: GetSpec) -> Any:
        slot = self._slots.get(request.id)
        return Refused("not_found") if slot is None else slot.spec

    # -- the end

    def _stop_all(self) -> None:
        self._steps.clear()
        self._held.clear()
        if self._waiting is not None and self._waiting.status is STARTING:
            self._waiting = None
        self._steps.extend(partial(self._stop_step, slot) for slot in reversed(self.slots()))
        self._steps.append(self._all_stopped)
        self._advance()

    def _all_stopped(self) -> None:
        for slot in reversed(self.slots()):
            self._drop(slot, slot.exit or SHUTDOWN)
        self._leave()


def _not_down(slot: Slot | None) -> Refused:
    if slot is None:
        return Refused("not_found")
    return Refused("restarting" if slot.status is RESTARTING else "running", ref=slot.ref)
