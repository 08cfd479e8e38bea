"""What a report means, as a function of a supervisor's state: `decide(state, report) -> actions`.

The state is plain data (`children`), changed here and nowhere else; no actor, thread, clock or random number is inside. The time, the
random number for a delay and the word of a child's policy come with the report that needs them (`Judge` asks, `Judged` brings them).
`TABLE` has a row for each report in each phase; what is in no row is refused.

A supervisor with ordered children does one thing after the other: steps wait in `queue`, and the queue waits for the child it has
started or stopped last. What must not mix with that (an end to be judged, a delay that is over, a request) is held until the queue is
empty. Without an order each child is dealt with at once. When the supervisor ends, both are emptied: what is left to do is to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from allm.supervisors.children import DOWN, RESTARTING, RUNNING, STARTING, STOPPING, Child, Phase, State, Step
from allm.supervisors.decisions import (
    Action,
    Add,
    Answer,
    Arrange,
    Begin,
    Broken,
    Decline,
    Delete,
    Disarm,
    Down,
    Due,
    Ended,
    Ending,
    Failed,
    GaveUp,
    Gone,
    Halt,
    Judge,
    Judged,
    Judgement,
    Launch,
    Leave,
    Pause,
    Ready,
    Refuse,
    Report,
    Restarting,
    Revive,
    Shutdown,
    Stop,
    Tell,
    Up,
)
from allm.supervisors.exits import SHUTDOWN, Exit, SupervisionError
from allm.supervisors.policy import GIVE_UP, GiveUp, Restart, affected, should_restart
from allm.supervisors.spec import bare

__all__ = ["TABLE", "UnknownReport", "decide", "failures_by"]

_DEEPEST = 16
"""Failed starts inside failed starts that a reason tells one by one; of more the middle is left out."""


class UnknownReport(SupervisionError):
    """A report that cannot come in this phase: a fault of whoever drives the supervisor."""


def decide(state: State, report: Report) -> list[Action]:
    """Change the state as the report demands; what is to be done, in this order."""
    rule = TABLE.get((state.phase, type(report)))
    if rule is None:
        raise UnknownReport(f"{type(report).__name__} while {state.phase}")
    actions: list[Action] = []
    rule(state, report, actions)
    _advance(state, actions)
    return actions


def _advance(state: State, actions: list[Action]) -> None:
    """Take steps until one waits; then what is held, one by one; at the end leave."""
    while state.waiting is None:
        if state.queue:
            _take(state, state.queue.popleft(), actions)
        elif state.held:
            held = state.held.popleft()
            _NOW[type(held)](state, held, actions)
        elif state.phase == "ending" and (state.ordered or not len(state.children)):
            for child in state.children.in_reverse():
                _drop(state, child, child.exit or SHUTDOWN, actions)
            state.phase = "over"
            actions.append(Leave(state.final or SHUTDOWN))
        else:
            return


def _do(state: State, steps: Iterable[Step], actions: list[Action]) -> None:
    """Put steps at the end of what is going on; without an order take them at once."""
    if state.ordered:
        state.queue.extend(steps)
    else:
        for step in steps:
            _take(state, step, actions)


def _take(state: State, step: Step, actions: list[Action]) -> None:
    child = step.child
    if child is None:
        if step.kind == "ready":
            state.phase = "serving"
            actions.append(Ready())
        else:
            actions.append(Answer(step.reply, step.value))
    elif step.kind == "start":
        _start(state, child, step, actions)
    elif step.kind == "start again":
        if state.children.holds(child) and child.start is not None:
            _start(state, child, step, actions)
    elif step.kind == "group":
        _start_group(state, child, actions)
    else:
        _stop(state, child, actions, aside=step.kind == "stop aside")


def _start(state: State, child: Child, step: Step, actions: list[Action]) -> None:
    if child.status is RESTARTING:
        actions.append(Disarm(child))
    child.status, child.why = STARTING, step.why
    if step.reply is not None:
        child.reply = step.reply
    if state.ordered:
        state.waiting = child
    actions.append(Launch(child))


def _stop(state: State, child: Child, actions: list[Action], *, aside: bool) -> None:
    if child.status is RESTARTING:
        child.status = DOWN
        actions.append(Disarm(child))
    if not child.up:
        if aside and child.spec.restart == "temporary":  # it ended by itself just before: a bystander all the same
            _drop(state, child, child.exit or SHUTDOWN, actions)
        return
    child.why = "aside" if aside else child.why if child.why != "aside" else "added"
    if child.status is not STOPPING:
        child.status = STOPPING
        actions.append(Halt(child))
    if state.ordered:
        state.waiting = child


def _resume(state: State, child: Child) -> None:
    if state.waiting is child:
        state.waiting = None


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
    _resume(state, child)


def _failed(state: State, report: Failed, actions: list[Action]) -> None:
    child, exit = report
    child.status, child.exit = DOWN, exit
    _resume(state, child)
    reply, child.reply = child.reply, None
    if exit.kind == "ignore":
        _left_out(state, child, exit, actions)
    else:
        actions.append(Tell("start_error", child, exit))
        if child.why == "first":
            _drop(state, child, exit, actions)
            _end(state, _not_started(child, exit), actions)
        elif child.why == "revived":
            actions.append(Gone(child, exit))
        elif child.why == "added":
            _drop(state, child, exit, actions)
        else:
            if child.why == "restart":
                state.queue.clear()  # the rest of its group follows when it is up
            _judge(state, child, exit, True, actions)
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
        _drop(state, child, exit, actions)
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
    if state.ordered:
        state.held.append(Judgement(child, exit, child.generation, False))
    else:
        _judge(state, child, exit, False, actions)


def _stopped(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """A child that was told to stop has ended. One that was stopped for another's restart keeps its place and its mailbox."""
    if not state.ordered or child.spec.restart == "temporary" or state.phase == "ending":
        _drop(state, child, exit, actions)
    elif child.why != "aside" or child.waiters:
        actions.append(Gone(child, exit))
    _resume(state, child)


def _check_stop(child: Child, exit: Exit, actions: list[Action]) -> None:
    """Report an end other than the ordered one; it is no error of the stop."""
    ordered = "killed" if child.spec.shutdown == "brutal_kill" else "shutdown"
    if exit.kind != ordered and (exit.abnormal or (exit.kind == "normal" and child.spec.restart == "permanent")):
        actions.append(Tell("shutdown_error", child, exit))


def _drop(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """Forget the child."""
    if not state.children.holds(child):
        return
    state.children.remove(child)
    child.status = DOWN  # its restart may be on its way already
    actions.append(Gone(child, exit))
    reply, child.reply = child.reply, None
    if reply is not None:  # it was stopped before it was up
        actions.append(Refuse(reply, exit))


def _leave_down(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """A child is down and not to be restarted: a temporary one is forgotten, another keeps its spec."""
    if not state.ordered or child.spec.restart == "temporary":
        _drop(state, child, exit, actions)
    else:
        actions.append(Gone(child, exit))


# -- verdicts


def _judge_now(state: State, held: Judgement, actions: list[Action]) -> None:
    # Meanwhile a group restart may have started it again, or a request removed it.
    child = held.child
    if child.generation == held.generation and child.status is DOWN and state.children.holds(child):
        _judge(state, child, held.exit, held.retried, actions)


def _judge(state: State, child: Child, exit: Exit, retried: bool, actions: list[Action]) -> None:
    """Ask for what a verdict takes, unless it is clear without. A restart that failed is tried again whatever the reason."""
    ask = child.spec.policy is not None and (retried or exit.abnormal)
    if not ask and not _returns(child, exit, retried):
        _ended_for_good(state, child, exit, actions)
        return
    if state.ordered:
        state.waiting = child
    actions.append(Judge(child, exit, retried, ask))


def _returns(child: Child, exit: Exit, retried: bool) -> bool:
    return child.spec.restart != "temporary" if retried else should_restart(child.spec.restart, exit)


def _judged(state: State, report: Judged, actions: list[Action]) -> None:
    child, exit, retried = report.child, report.exit, report.retried
    _resume(state, child)
    if child.status is not DOWN or not state.children.holds(child):
        return
    verdict = _verdict(state, report, actions)
    if verdict is None:
        _drop(state, child, exit, actions)
        reason = Exit("shutdown", "reached_max_restart_intensity")
        actions.append(Tell("shutdown", child, reason))
        actions.append(GaveUp(child, exit))
        _end(state, reason, actions)
    elif not isinstance(verdict, Restart):
        _ended_for_good(state, child, exit, actions)
    else:
        _restart(state, child, exit, verdict.delay, retried, actions)


def _verdict(state: State, report: Judged, actions: list[Action]) -> Restart | GiveUp | None:
    """Whether to start it again, and when; None: the budget is spent."""
    child, word = report.child, report.word
    if isinstance(word, Restart):
        child.failures = failures_by(child, report.now, child.spec.policy) + word.counted
        child.up_since = 0.0
        return word
    if word is not None and not word.escalate:
        return word
    if not _returns(child, report.exit, report.retried):
        return GIVE_UP
    if not state.window.admit(report.now):
        return None
    return Restart(_delay(child, report, actions))


def failures_by(child: Child, now: float, by: object) -> int:
    """The failures in a row that count: none after a run of more than the ``reset_after`` of its policy or backoff."""
    try:
        seconds = getattr(by, "reset_after", None)
    except BaseException:  # a property of a stranger's policy: as if it had none
        seconds = None
    good = bool(child.up_since) and isinstance(seconds, (int, float)) and now - child.up_since > seconds
    return 0 if good else child.failures


def _delay(child: Child, report: Judged, actions: list[Action]) -> float:
    backoff = child.spec.backoff
    if backoff is None:
        return 0.0
    child.failures = failures_by(child, report.now, backoff) + 1
    child.up_since = 0.0
    try:
        return Restart(backoff.delay(child.failures, report.random)).delay
    except BaseException as error:  # a subclass may do and answer anything
        actions.append(Broken("backoff_failed", child, error))
        return 0.0


def _restart(state: State, child: Child, exit: Exit, delay: float, retried: bool, actions: list[Action]) -> None:
    """Stop the group and start it again, now or later. A failed restart is retried through the mailbox."""
    child.status = RESTARTING
    child.restarts += 1
    actions.append(Restarting(child, exit, delay))
    later = delay > 0 or retried
    if later:
        actions.append(Pause(child, delay))
    group = _group(state, child)
    child.group = group if len(group) > 1 else ()
    steps = [Step("stop aside", other) for other in reversed(group) if other is not child]
    if not later:
        steps.append(Step("group", child))
    _do(state, steps, actions)


def _group(state: State, child: Child) -> list[Child]:
    strategy = state.flags.strategy
    return [child] if strategy == "one_for_one" else affected(strategy, list(state.children), child)


def _due(state: State, report: Due, actions: list[Action]) -> None:
    child = report.child
    if child.generation == report.generation and child.status is RESTARTING:
        _start_group(state, child, actions)


def _start_group(state: State, child: Child, actions: list[Action]) -> None:
    """Stop what runs of the group, then start all of it, and whoever was stopped when the strategy was another."""
    group = _group(state, child)
    if child.group:
        stopped = {id(other) for other in (*group, *child.group)}
        group, child.group = [other for other in state.children if id(other) in stopped], ()
    _do(state, [Step("stop aside", other) for other in reversed(group) if other is not child], actions)
    _do(state, [Step("start again", other, "restart") for other in group], actions)


def _ended_for_good(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """A child ended by itself and is not restarted; those that were stopped for its restart are, without it."""
    left = _left_aside(state, child)
    _leave_down(state, child, exit, actions)
    if child.spec.significant and _was_last(state, child):
        _end(state, Exit("shutdown", "auto_shutdown"), actions)
    else:
        _do(state, [Step("start again", other, "restart") for other in left], actions)


def _left_aside(state: State, child: Child) -> list[Child]:
    """Those that were stopped for the restart of this child and for no other's that is still to come."""
    group, child.group = [*child.group, *_group(state, child)], ()
    left = [other for other in group if other is not child and other.status is DOWN and other.why == "aside"]
    if not left:
        return left
    kept = {id(other) for waiting in state.children if waiting.status is RESTARTING for other in waiting.group}
    wanted = {id(other) for other in left} - kept
    return [other for other in state.children if id(other) in wanted]


def _was_last(state: State, child: Child) -> bool:
    if state.flags.auto_shutdown == "any_significant":
        return True
    others = (other for other in state.children if other is not child and other.spec.significant)
    return not any(other.up or other.status is RESTARTING for other in others)


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
        _do(state, [Step("start", child, "added", reply)], actions)


def _stop_one(state: State, report: Stop, actions: list[Action]) -> None:
    child = report.child if isinstance(report.child, Child) else state.children.get(report.child)
    if child is None or not state.children.holds(child):
        actions.append(Decline(report.reply, "not_found"))
        return
    if child.up:
        child.waiters = (*child.waiters, report.reply)
        _do(state, [Step("stop", child)], actions)
        return
    if child.status is RESTARTING:
        child.status = DOWN
        actions.append(Disarm(child))
        for other in _left_aside(state, child):  # as in OTP they stay down
            other.why = "added"
            actions.append(Gone(other, other.exit or SHUTDOWN))
    _leave_down(state, child, child.exit or SHUTDOWN, actions)
    actions.append(Answer(report.reply, None))


def _revive(state: State, report: Revive, actions: list[Action]) -> None:
    child = _found_down(state, report, actions)
    if child is not None:
        _do(state, [Step("start", child, "revived", report.reply)], actions)


def _delete(state: State, report: Delete, actions: list[Action]) -> None:
    child = _found_down(state, report, actions)
    if child is not None:
        _drop(state, child, child.exit or SHUTDOWN, actions)
        actions.append(Answer(report.reply, None))


def _found_down(state: State, report: Revive | Delete, actions: list[Action]) -> Child | None:
    child = state.children.get(report.id)
    if child is not None and child.status is DOWN:
        return child
    reason = "not_found" if child is None else "restarting" if child.status is RESTARTING else "running"
    actions.append(Decline(report.reply, reason, child))
    return None


def _arrange(state: State, report: Arrange, actions: list[Action]) -> None:
    stop = [child for id in report.stop if (child := state.children.get(id)) is not None]
    start = [child for id in report.start if (child := state.children.get(id)) is not None and child.status is DOWN]
    _do(state, [Step("stop", child) for child in stop], actions)
    _do(state, [Step("start", child, "arranged") for child in start], actions)
    _do(state, [Step("answer", reply=report.reply, value=report.value)], actions)


# -- the end


def _shutdown(state: State, report: Shutdown, actions: list[Action]) -> None:
    ordered = [child for child in state.children if child.status is STOPPING] if report.crashed else []
    _end(state, report.exit, actions)
    actions.extend(Halt(child, again=True) for child in ordered)  # what was ordered last may not have been done


def _end(state: State, exit: Exit, actions: list[Action]) -> None:
    """Stop all children, the newest first, then leave with this exit."""
    state.phase, state.final = "ending", exit
    state.queue.clear()
    state.held.clear()
    if state.waiting is not None and state.waiting.status is not STOPPING:
        state.waiting = None  # it starts, and is stopped in its turn; or its end was about to be judged
    actions.append(Ending())
    for child in state.children.in_reverse():
        if state.ordered:
            state.queue.append(Step("stop", child))
        elif child.up:
            _stop(state, child, actions, aside=False)
        else:
            actions.append(Disarm(child))
            _drop(state, child, child.exit or SHUTDOWN, actions)


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
    """It is being stopped, or will be in its turn."""
    child = report.child if isinstance(report.child, Child) else state.children.get(report.child)
    if child is None or not child.up or not state.children.holds(child):
        actions.append(Answer(report.reply, None))
    else:
        child.waiters = (*child.waiters, report.reply)


def _nothing(state: State, report: Report, actions: list[Action]) -> None:
    """It came too late to mean anything."""


def _hold(state: State, report: Any, actions: list[Action]) -> None:
    """Deal with it when nothing else goes on; without an order that is now."""
    if state.ordered:
        state.held.append(report)
    else:
        _NOW[type(report)](state, report, actions)


Rule = Callable[[State, Any, list[Action]], None]

_NOW: Final[Mapping[type, Rule]] = {
    Judgement: _judge_now,
    Due: _due,
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
    Judged: _judged,
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

TABLE: Final[Mapping[tuple[Phase, type], Rule]] = {
    ("beginning", Begin): _begin,
    **{("beginning", report): rule for report, rule in _LIVING.items()},
    **{("serving", report): rule for report, rule in _LIVING.items()},
    **{("ending", report): rule for report, rule in _ENDING.items()},
    **{("over", report): _nothing for report in _ENDING},
}
"""The rule for each report in each phase."""
