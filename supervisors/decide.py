"""The decisions of a supervisor, as a function of its state: `decide(state, report) -> actions`.

The state is plain data (`children`), changed here and nowhere else; no actor, thread, clock or random number is inside. The time, the
random number for a delay and the word of a child's policy come with the report that needs them (`Judge` asks, `Judged` brings them).
`TABLE` has a row for each report in each phase; what is in no row is refused.

A supervisor with ordered children does one thing after the other: steps wait in `queue`, and the queue waits for the child it has
started or stopped last. What must not mix with that (an end to be judged, a delay that is over, a request) is held until the queue is
empty. Without an order each child is dealt with at once. When the supervisor ends, both are emptied: what is left to do is to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from allm.supervisors.children import DOWN, RESTARTING, RUNNING, STARTING, STOPPING, Child, Phase, State, Step
from allm.supervisors.decisions import (
    Action,
    Add,
    Answer,
    Arrange,
    Begin,
    Decline,
    Delete,
    Disarm,
    Down,
    Due,
    Ended,
    Failed,
    Gone,
    Halt,
    Judged,
    Judgement,
    Leave,
    Refuse,
    Report,
    Revive,
    Shutdown,
    Stop,
    Tell,
    Up,
)
from allm.supervisors.exits import SHUTDOWN, Exit, SupervisionError
from allm.supervisors.spec import bare
from allm.supervisors.steps import do, drop, end, idle, leave_down, resume, start, stop, take
from allm.supervisors.verdicts import due, judge, judge_now, judged, left_aside

__all__ = ["TABLE", "UnknownReport", "decide"]

_DEEPEST = 16
"""Failed starts inside failed starts that a reason tells one by one; of more the middle is left out."""


class UnknownReport(SupervisionError):
    """A report that cannot come in this phase: a fault of whoever drives the supervisor."""


def decide(state: State, report: Report) -> list[Action]:
    """Change the state as the report demands; the actions to be carried out, in this order."""
    rule = _RULES[state.phase].get(report.__class__)
    if rule is None:
        raise UnknownReport(f"{type(report).__name__} while {state.phase}")
    actions: list[Action] = []
    rule(state, report, actions)
    if state.queue or state.held or state.phase == "ending":
        _advance(state, actions)
    return actions


def _advance(state: State, actions: list[Action]) -> None:
    """Take steps until one waits; then what is held, one by one; at the end leave."""
    while state.waiting is None:
        if state.queue:
            take(state, state.queue.popleft(), actions)
        elif state.held:
            held = state.held.popleft()
            _NOW[type(held)](state, held, actions)
        elif state.phase == "ending" and (state.ordered or not len(state.children)):
            for child in state.children.in_reverse():
                drop(state, child, child.exit or SHUTDOWN, actions)
            state.phase = "over"
            actions.append(Leave(state.final or SHUTDOWN))
        else:
            return


# -- the first start


def _begin(state: State, report: Begin, actions: list[Action]) -> None:
    for child in report.children:
        state.children.add(child)
    state.queue.extend(Step("start", child, "first") for child in report.children)
    state.queue.append(Step("ready"))


# -- what becomes of children


def _up(state: State, report: Up, actions: list[Action]) -> None:
    child = report.child
    child.status, child.up_since = RUNNING, report.now
    spec = child.spec
    if spec.restart == "temporary" and spec.policy is None:
        child.start = None  # it will not be started again: its arguments are not kept
        if len(spec.start) > 2 or spec.start[1]:
            child.spec = bare(spec)
    reply, child.reply = child.reply, None
    if reply is not None:
        actions.append(Answer(reply, child))
    resume(state, child)


def _failed(state: State, report: Failed, actions: list[Action]) -> None:
    child, exit = report
    child.status, child.exit = DOWN, exit
    resume(state, child)
    reply, child.reply = child.reply, None
    if exit.kind == "ignore":
        _left_out(state, child, exit, actions)
    else:
        actions.append(Tell("start_error", child, exit))
        if child.why == "first":
            drop(state, child, exit, actions)
            end(state, _not_started(child, exit), actions)
        elif child.why == "revived":
            actions.append(Gone(child, exit))
        elif child.why == "added":
            drop(state, child, exit, actions)
        else:
            if child.why == "restart":
                state.queue.clear()  # the rest of its group follows when it is up
            judge(state, child, exit, True, actions)
    if reply is not None:
        actions.append(Refuse(reply, exit))


def _not_started(child: Child, exit: Exit) -> Exit:
    """The reason of a supervisor whose first children did not come up; bounded however deep the tree is."""
    reason, depth = exit, 0
    while (inner := _inner(reason)) is not None:
        reason, depth = inner, depth + 1
    told = exit if depth < _DEEPEST else reason
    return Exit("shutdown", {"failed_to_start_child": str(child.id), "reason": told.to_data()})


def _inner(exit: Exit) -> Exit | None:
    detail = exit.detail
    if not isinstance(detail, dict) or "failed_to_start_child" not in detail:
        return None
    return Exit.from_data(cast("dict[str, Any]", detail)["reason"])


def _left_out(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """A start that was ignored: the spec stays, unless temporary or without a place of its own."""
    if not state.ordered or child.spec.restart == "temporary":
        drop(state, child, exit, actions)
    elif child.why != "first":
        actions.append(Gone(child, exit))


def _down(state: State, report: Down, actions: list[Action]) -> None:
    child, exit = report
    before = child.status
    if before is STARTING:
        actions.append(Ended(child, exit))
        _failed(state, Failed(child, exit), actions)
        return
    child.status, child.exit = DOWN, exit
    if before is STOPPING:
        _check_stop(child, exit, actions)
        actions.append(Ended(child, exit))
        _stopped(state, child, exit, actions)
        return
    if exit.abnormal or child.spec.restart == "permanent":
        actions.append(Tell("child_terminated", child, exit))
    actions.append(Ended(child, exit))
    if state.ordered and (state.held or not idle(state)):
        state.held.append(Judgement(child, exit, child.generation, False))
    else:
        judge(state, child, exit, False, actions)


def _stopped(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """A child that was told to stop has ended. One that was stopped for another's restart keeps its place and its mailbox."""
    if not state.ordered or child.spec.restart == "temporary" or state.phase == "ending":
        drop(state, child, exit, actions)
    elif child.why != "aside" or child.waiters:
        actions.append(Gone(child, exit))
    resume(state, child)


def _check_stop(child: Child, exit: Exit, actions: list[Action]) -> None:
    """Report an end other than the ordered one; it is no error of the stop."""
    ordered = "killed" if child.spec.shutdown == "brutal_kill" else "shutdown"
    if exit.kind != ordered and (exit.abnormal or (exit.kind == "normal" and child.spec.restart == "permanent")):
        actions.append(Tell("shutdown_error", child, exit))


# -- verdicts


# -- requests


def _add(state: State, report: Add, actions: list[Action]) -> None:
    child, reply = report
    there = state.children.get(child.id)
    if there is not None:
        actions.append(Decline(reply, "already_started" if there.up else "already_present", there))
    elif state.most is not None and len(state.children) >= state.most:
        actions.append(Decline(reply, "max_children"))
    else:
        state.children.add(child)
        start(state, child, "added", reply, actions)


def _stop_one(state: State, report: Stop, actions: list[Action]) -> None:
    child = report.child if isinstance(report.child, Child) else state.children.get(report.child)
    if child is None or not state.children.holds(child):
        actions.append(Decline(report.reply, "not_found"))
        return
    if child.up:
        child.waiters = (*child.waiters, report.reply)
        stop(state, child, actions)
        return
    if child.status is RESTARTING:
        child.status = DOWN
        actions.append(Disarm(child))
        for other in left_aside(state, child):  # as in OTP they stay down
            other.why = "added"
            actions.append(Gone(other, other.exit or SHUTDOWN))
    leave_down(state, child, child.exit or SHUTDOWN, actions)
    actions.append(Answer(report.reply, None))


def _revive(state: State, report: Revive, actions: list[Action]) -> None:
    child = _found_down(state, report, actions)
    if child is not None:
        start(state, child, "revived", report.reply, actions)


def _delete(state: State, report: Delete, actions: list[Action]) -> None:
    child = _found_down(state, report, actions)
    if child is not None:
        drop(state, child, child.exit or SHUTDOWN, actions)
        actions.append(Answer(report.reply, None))


def _found_down(state: State, report: Revive | Delete, actions: list[Action]) -> Child | None:
    child = state.children.get(report.id)
    if child is not None and child.status is DOWN:
        return child
    reason = "not_found" if child is None else "restarting" if child.status is RESTARTING else "running"
    actions.append(Decline(report.reply, reason, child))
    return None


def _arrange(state: State, report: Arrange, actions: list[Action]) -> None:
    old = [child for id in report.stop if (child := state.children.get(id)) is not None]
    new = [child for id in report.start if (child := state.children.get(id)) is not None and child.status is DOWN]
    do(state, [Step("stop", child) for child in old], actions)
    do(state, [Step("start", child, "arranged") for child in new], actions)
    do(state, [Step("answer", reply=report.reply, value=report.value)], actions)


# -- the end


def _shutdown(state: State, report: Shutdown, actions: list[Action]) -> None:
    ordered = [child for child in state.children if child.status is STOPPING] if report.crashed else []
    end(state, report.exit, actions)
    actions.extend(Halt(child, again=True) for child in ordered)  # what was ordered last may not have been done


def _failed_at_the_end(state: State, report: Failed | Down, actions: list[Action]) -> None:
    child, exit = report
    child.status, child.exit = DOWN, exit
    _check_stop(child, exit, actions)
    if isinstance(report, Down):
        actions.append(Ended(child, exit))
    _stopped(state, child, exit, actions)


def _too_late(state: State, report: Add | Revive | Delete | Arrange, actions: list[Action]) -> None:
    actions.append(Decline(report.reply, "shutting_down"))


def _stop_at_the_end(state: State, report: Stop, actions: list[Action]) -> None:
    """Note who waits for the stop: the child is being stopped, or will be in its turn."""
    child = report.child if isinstance(report.child, Child) else state.children.get(report.child)
    if child is None or not child.up or not state.children.holds(child):
        actions.append(Answer(report.reply, None))
    else:
        child.waiters = (*child.waiters, report.reply)


def _nothing(state: State, report: Report, actions: list[Action]) -> None:
    """Ignore a report that came too late to mean anything."""


def _hold(state: State, report: Any, actions: list[Action]) -> None:
    """Deal with it when nothing else goes on; without an order that is now."""
    if state.ordered:
        state.held.append(report)
    else:
        _NOW[type(report)](state, report, actions)


Rule = Callable[[State, Any, list[Action]], None]

_NOW: Final[Mapping[type, Rule]] = {
    Judgement: judge_now,
    Due: due,
    Add: _add,
    Stop: _stop_one,
    Revive: _revive,
    Delete: _delete,
    Arrange: _arrange,
}
"""What is done with a report that had to wait, once nothing else goes on."""

_LIVING: Final[Mapping[type, Rule]] = {
    Up: _up,
    Failed: _failed,
    Down: _down,
    Judged: judged,
    Due: _hold,
    Add: _hold,
    Stop: _hold,
    Revive: _hold,
    Delete: _hold,
    Arrange: _hold,
    Shutdown: _shutdown,
}

_ENDING: Final[Mapping[type, Rule]] = {
    Up: _up,
    Failed: _failed_at_the_end,
    Down: _failed_at_the_end,
    Judged: _nothing,
    Due: _nothing,
    Add: _too_late,
    Stop: _stop_at_the_end,
    Revive: _too_late,
    Delete: _too_late,
    Arrange: _too_late,
    Shutdown: _nothing,  # the first reason holds
}

_RULES: Final[Mapping[Phase, Mapping[type, Rule]]] = {
    "beginning": {Begin: _begin, **_LIVING},
    "serving": _LIVING,
    "ending": _ENDING,
    "over": dict.fromkeys(_ENDING, _nothing),
}

TABLE: Final[Mapping[tuple[Phase, type], Rule]] = {
    (phase, report): rule for phase, rules in _RULES.items() for report, rule in rules.items()
}
"""The rule for each report in each phase."""
