"""Verdicts: whether a child that ended by itself is started again, when, and which others with it.

`Judge` asks the supervisor for the time, a random number and the word of the child's policy; `Judged` brings them.
"""

from __future__ import annotations

from typing import Final

from allm.supervisors.children import DOWN, RESTARTING, Child, State, Step
from allm.supervisors.decisions import Action, Broken, Due, GaveUp, Judge, Judged, Judgement, Pause, Restarting, Tell
from allm.supervisors.exits import Exit
from allm.supervisors.policy import GIVE_UP, Backoff, GiveUp, Restart, should_restart
from allm.supervisors.steps import do, drop, end, group_of, idle, leave_down, resume, start, start_group

__all__ = ["due", "failures_by", "judge", "judge_now", "judged", "left_aside"]

_AT_ONCE: Final = Restart()


def judge_now(state: State, held: Judgement, actions: list[Action]) -> None:
    """Judge an end that had to wait."""
    # Meanwhile a group restart may have started it again, or a request removed it.
    child = held.child
    if child.generation == held.generation and child.status is DOWN and state.children.holds(child):
        judge(state, child, held.exit, held.retried, actions)


def judge(state: State, child: Child, exit: Exit, retried: bool, actions: list[Action]) -> None:
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


def judged(state: State, report: Judged, actions: list[Action]) -> None:
    """Carry out the verdict: restart the child, leave it down, or end the supervisor whose budget is spent."""
    child, exit, retried = report.child, report.exit, report.retried
    resume(state, child)
    if child.status is not DOWN or not state.children.holds(child):
        return
    verdict = _verdict(state, report, actions)
    if verdict is None:
        drop(state, child, exit, actions)
        reason = Exit("shutdown", "reached_max_restart_intensity")
        actions.append(Tell("shutdown", child, reason))
        actions.append(GaveUp(child, exit))
        end(state, reason, actions)
    elif not isinstance(verdict, Restart):
        _ended_for_good(state, child, exit, actions)
    else:
        _restart(state, child, exit, verdict.delay, retried, actions)


def _verdict(state: State, report: Judged, actions: list[Action]) -> Restart | GiveUp | None:
    """Decide whether and when to start it again; None: the budget is spent."""
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
    return _AT_ONCE if child.spec.backoff is None else Restart(_delay(child, child.spec.backoff, report, actions))


def failures_by(child: Child, now: float, by: object) -> int:
    """The failures in a row that count: none after a run of more than the ``reset_after`` of its policy or backoff."""
    try:
        seconds = getattr(by, "reset_after", None)
    except BaseException:  # a property of a stranger's policy: as if it had none
        seconds = None
    good = bool(child.up_since) and isinstance(seconds, (int, float)) and now - child.up_since > seconds
    return 0 if good else child.failures


def _delay(child: Child, backoff: Backoff, report: Judged, actions: list[Action]) -> float:
    child.failures = failures_by(child, report.now, backoff) + 1
    child.up_since = 0.0
    try:
        return Restart(backoff.delay(child.failures, report.random)).delay
    except BaseException as error:  # a subclass may do and answer anything
        actions.append(Broken("backoff_failed", child, error))
        return 0.0


def _restart(state: State, child: Child, exit: Exit, delay: float, retried: bool, actions: list[Action]) -> None:
    """Stop the group and start it again, now or later. A failed restart is retried through the mailbox."""
    child.restarts += 1
    actions.append(Restarting(child, exit, delay))
    later = delay > 0 or retried
    group = group_of(state, child)
    if len(group) == 1 and not later and idle(state):  # nearly always
        child.group = ()
        start(state, child, "restart", None, actions)
        return
    child.status = RESTARTING
    if later:
        actions.append(Pause(child, delay))
    child.group = group if len(group) > 1 else ()
    steps = [Step("stop aside", other) for other in reversed(group) if other is not child]
    if not later:
        steps.append(Step("group", child))
    do(state, steps, actions)


def due(state: State, report: Due, actions: list[Action]) -> None:
    """Restart a child whose delay is over, with its group."""
    child = report.child
    if child.generation == report.generation and child.status is RESTARTING:
        start_group(state, child, actions)


def _ended_for_good(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """Leave a child down that ended by itself; those that were stopped for its restart are started without it."""
    left = left_aside(state, child)
    leave_down(state, child, exit, actions)
    if child.spec.significant and _was_last(state, child):
        end(state, Exit("shutdown", "auto_shutdown"), actions)
    else:
        do(state, [Step("start again", other, "restart") for other in left], actions)


def left_aside(state: State, child: Child) -> list[Child]:
    """The children that were stopped for the restart of this one, and for no other that is still to come."""
    group, child.group = [*child.group, *group_of(state, child)], ()
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
