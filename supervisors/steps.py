"""Steps of a supervisor, one after the other where its children have an order: a child is started, stopped, left out.

Steps wait in `State.queue`, and the queue waits for the child that was started or stopped last. Without an order each step is
taken at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allm.supervisors.children import DOWN, RESTARTING, STARTING, STOPPING, Child, State, Step, Why
from allm.supervisors.decisions import Action, Answer, Disarm, Ending, Gone, Halt, Launch, Ready, Refuse
from allm.supervisors.exits import SHUTDOWN, Exit
from allm.supervisors.policy import affected

__all__ = ["do", "drop", "end", "group_of", "idle", "leave_down", "resume", "start", "start_group", "stop", "take"]


def do(state: State, steps: Iterable[Step], actions: list[Action]) -> None:
    """Put steps at the end of what is going on; without an order take them at once."""
    if state.ordered:
        state.queue.extend(steps)
    else:
        for step in steps:
            take(state, step, actions)


def idle(state: State) -> bool:
    """Whether nothing goes on: what is to be done can be done at once."""
    return state.waiting is None and not state.queue


def start(state: State, child: Child, why: Why, reply: Any, actions: list[Action]) -> None:
    """Start the child after what is going on; without an order at once."""
    if state.ordered and not idle(state):
        state.queue.append(Step("start", child, why, reply))
    else:
        _start(state, child, why, reply, actions)


def stop(state: State, child: Child, actions: list[Action]) -> None:
    """Stop the child after what is going on; without an order at once."""
    if state.ordered and not idle(state):
        state.queue.append(Step("stop", child))
    else:
        _stop(state, child, actions, aside=False)


def take(state: State, step: Step, actions: list[Action]) -> None:
    """Take one step; where children have an order, `State.waiting` is then the child whose report is to come."""
    child = step.child
    if child is None:
        if step.kind == "ready":
            state.phase = "serving"
            actions.append(Ready())
        else:
            actions.append(Answer(step.reply, step.value))
    elif step.kind == "start":
        _start(state, child, step.why, step.reply, actions)
    elif step.kind == "start again":
        if state.children.holds(child) and child.start is not None:
            _start(state, child, step.why, step.reply, actions)
    elif step.kind == "group":
        start_group(state, child, actions)
    else:
        _stop(state, child, actions, aside=step.kind == "stop aside")


def _start(state: State, child: Child, why: Why, reply: Any, actions: list[Action]) -> None:
    if child.status is RESTARTING:
        actions.append(Disarm(child))
    child.status, child.why = STARTING, why
    if reply is not None:
        child.reply = reply
    if state.ordered:
        state.waiting = child
    actions.append(Launch(child))


def _stop(state: State, child: Child, actions: list[Action], *, aside: bool) -> None:
    if child.status is RESTARTING:
        child.status = DOWN
        actions.append(Disarm(child))
    if not child.up:
        if aside and child.spec.restart == "temporary":  # it ended by itself just before: a bystander all the same
            drop(state, child, child.exit or SHUTDOWN, actions)
        return
    child.why = "aside" if aside else child.why if child.why != "aside" else "added"
    if child.status is not STOPPING:
        child.status = STOPPING
        actions.append(Halt(child))
    if state.ordered:
        state.waiting = child


def resume(state: State, child: Child) -> None:
    """Let the queue go on, if this is the child that it waits for."""
    if state.waiting is child:
        state.waiting = None


def group_of(state: State, child: Child) -> list[Child]:
    """The children that a restart of this one restarts, in start order, itself among them."""
    strategy = state.flags.strategy
    return [child] if strategy == "one_for_one" else affected(strategy, list(state.children), child)


def start_group(state: State, child: Child, actions: list[Action]) -> None:
    """Stop what runs of the group, then start all of it, and whoever was stopped when the strategy was another."""
    group = group_of(state, child)
    if child.group:
        stopped = {id(other) for other in (*group, *child.group)}
        group, child.group = [other for other in state.children if id(other) in stopped], ()
    do(state, [Step("stop aside", other) for other in reversed(group) if other is not child], actions)
    do(state, [Step("start again", other, "restart") for other in group], actions)


def drop(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """Forget the child."""
    if not state.children.holds(child):
        return
    state.children.remove(child)
    child.status = DOWN  # its restart may be on its way already
    actions.append(Gone(child, exit))
    reply, child.reply = child.reply, None
    if reply is not None:  # it was stopped before it was up
        actions.append(Refuse(reply, exit))


def leave_down(state: State, child: Child, exit: Exit, actions: list[Action]) -> None:
    """Leave a child down that is not to be restarted: a temporary one is forgotten, another keeps its spec."""
    if not state.ordered or child.spec.restart == "temporary":
        drop(state, child, exit, actions)
    else:
        actions.append(Gone(child, exit))


def end(state: State, exit: Exit, actions: list[Action]) -> None:
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
            drop(state, child, child.exit or SHUTDOWN, actions)
