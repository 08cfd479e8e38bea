"""The turn machine: the agentic loop as a pure function, `step(state, input) -> (state, effects)`.

The state is plain data at every boundary: it can be written down, read in another process, and goes on as if nothing had happened. No
clock, no thread, no I/O, and no code of the user's: what an answer or arguments have to fit is checked by who drives the machine
(`CheckAnswer`, `CheckArguments`), and said to it as an input. So `step` is a function of its arguments alone, and one machine serves
single steps, whole loops, streams, sessions and recovery. `turn_table.TABLE` holds every transition there is; one that is not in it
is refused.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from allm.errors import ErrorInfo
from allm.events import (
    ChatCompleted,
    ErrorOccurred,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolResultEncoded,
)  # fmt: skip
from allm.messages import user
from allm.responses import ChatResult, Response, StepResult, answer_text
from allm.tools import ToolOutcome
from allm.turn_data import (
    AnswerChecked,
    ArgumentsChecked,
    Begin,
    CallModel,
    Cancel,
    CancelModel,
    CancelTools,
    Check,
    CheckAnswer,
    CheckArguments,
    Checked,
    Commit,
    Done,
    Effect,
    Emit,
    Fail,
    Failed,
    Input,
    Judged,
    ModelEnded,
    Pending,
    RunTool,
    Steer,
    ToolFinished,
    TurnState,
)  # fmt: skip
from allm.turn_results import result_of, stepped
from allm.turn_table import ROWS, Row
from allm.turn_tools import (
    changed,
    classified,
    closed,
    error_content,
    halt_of,
    not_run,
    pending_call,
    received,
    refused_by,
    runs,
    tool_messages,
    unchecked,
    why_unrun,
    with_pending,
)  # fmt: skip

__all__ = ["IllegalTransition", "interrupted", "step"]

_FINALIZED: Final = frozenset({"completed", "max_turns", "halt_when"})
"""The ends of a loop that structured finalisation follows."""


class IllegalTransition(Exception):
    """An input that cannot come in this phase, or a way that is not in the table: a fault of whoever drives the machine, or of it."""


def step(state: TurnState, input: Input) -> tuple[TurnState, list[Effect]]:
    """The next state, and what is to be done, in this order. Raises IllegalTransition."""
    if state.phase == "done":
        return (state if state.rule == "over" else replace(state, rule="over")), []
    handler = _HANDLERS.get((state.phase, type(input)))
    if handler is None:
        raise IllegalTransition(f"{type(input).__name__} in phase {state.phase}")
    effects: list[Effect] = []
    new = handler(state, input, effects)
    if Row(state.phase, type(input), new.rule, new.phase) not in ROWS:
        raise IllegalTransition(f"{state.phase}, {type(input).__name__}: {new.rule} to {new.phase} is not in the table")
    return new, effects


# asking the model


def _begin(state: TurnState, _: Begin, effects: list[Effect]) -> TurnState:
    return _call(state, "call", effects)


def _call(state: TurnState, rule: str, effects: list[Effect]) -> TurnState:
    """The next call: with what was steered in, or what the model is to mend."""
    if not state.reask and state.finalizing is None:
        state = replace(state, added=(*state.added, *state.steered), steered=())
    request = replace(state.request, messages=(*state.thread, *state.reask))
    if state.finalizing is not None:
        request = replace(request, tools=(), tool_choice=None)
    elif state.options.finalize:
        request = replace(request, response_format=None)
    number = state.calls + 1
    effects.append(CallModel(request, number))
    return replace(state, rule=rule, phase="model", calls=number, groups=(), places={}, open=0)


def _ended(state: TurnState, input: ModelEnded, effects: list[Effect]) -> TurnState:
    response = input.response
    state = replace(state, response=response, usage=state.usage + response.usage)
    if state.cancelled or response.finish_reason == "cancelled":
        return _cancelled(state, response, effects)
    if response.finish_reason == "error":
        return _told_error(state, response, effects)
    calls = response.tool_calls if state.finalizing is None else ()
    if not calls:
        return _answered(state, response, effects)
    if (why := why_unrun(response)) is not None:
        return _unrun(state, response, why, effects)
    state = with_pending(state, classified(state, calls))
    wanted, tools = unchecked(state)
    if wanted:
        effects.append(CheckArguments(tuple(wanted), tuple(tools)))
        return replace(state, rule="arguments", phase="arguments")
    return _started(state, effects)


def _told_error(state: TurnState, response: Response, effects: list[Effect]) -> TurnState:
    """The provider says itself that its answer failed."""
    said = response.raw_finish_reason or "error"
    error = response.error or ErrorInfo("adapter", "unknown", f"the model's answer ended with {said!r}", request_id=response.request_id)
    return _broken(state, replace(response, error=error), error, effects)


def _answered(state: TurnState, response: Response, effects: list[Effect]) -> TurnState:
    """An answer without calls: final, if it fits its schema or the model was asked often enough."""
    form = state.format
    if form is None or response.refusal is not None or len(state.reask) >= 2 * state.options.max_reasks:
        return _final(state, response, effects)
    effects.append(CheckAnswer(answer_text(response), form))
    return replace(state, rule="answer", phase="answer")


def _answer_checked(state: TurnState, input: AnswerChecked, effects: list[Effect]) -> TurnState:
    response = _said(state)
    if input.problem is None:
        return _final(state, response, effects)
    said = user(f"This does not fit the required format: {input.problem}. Answer again with JSON alone that fits it.")
    state = replace(state, reask=(*state.reask, response.message, said), reasks=state.reasks + 1)
    return _call(state, "reask", effects)


def _final(state: TurnState, response: Response, effects: list[Effect]) -> TurnState:
    """The answer is taken: the end, unless the caller had more to say."""
    state = stepped(state, response, (response.message,), effects)
    if state.options.single:
        return _finished(state, "stepped", effects)
    if state.finalizing is not None:
        return _finished(state, "finalized", effects)
    if state.steered:
        return _onward(state, effects)
    return _over(state, "completed", effects)


def _said(state: TurnState) -> Response:
    response = state.response
    assert response is not None, "a phase after the model's, and it has said nothing"
    return response


def _failed(state: TurnState, input: Failed, effects: list[Effect]) -> TurnState:
    partial = input.response
    if partial is not None:
        state = replace(state, usage=state.usage + partial.usage)
    if state.cancelled:
        return _cancelled(state, partial, effects)
    return _broken(state, partial or (state.response if state.reask else None), input.error, effects)


def _check_failed(state: TurnState, input: Failed, effects: list[Effect]) -> TurnState:
    """The check of what the model said came to nothing: what it said is kept."""
    return _broken(state, replace(_said(state), error=input.error), input.error, effects)


def _broken(state: TurnState, partial: Response | None, error: ErrorInfo, effects: list[Effect]) -> TurnState:
    """Nothing more comes. What there was is the result; if there was nothing, the error is raised."""
    if partial is None and not state.steps:
        effects += [Emit(ErrorOccurred(error)), Fail(error)]
        return replace(state, rule="failed", phase="done")
    if state.options.single and partial is not None:
        result: StepResult | ChatResult = StepResult(partial)
    else:
        result = result_of(state, "error", error=error, final=partial)
    told = ChatCompleted(result) if state.steps and isinstance(result, ChatResult) else ErrorOccurred(error, result)
    effects += [Emit(told), Done(result)]
    return replace(state, rule="broken", phase="done", result=result)


def interrupted(state: TurnState, error: ErrorInfo, partial: Response | None) -> tuple[TurnState, list[Effect]]:
    """The end of a turn whose driver is gone, in any phase but the last: nothing is lost that it had. `partial` is what had come of an
    answer."""
    effects: list[Effect] = []
    if partial is not None:
        state = replace(state, usage=state.usage + partial.usage)
    called = state.response if state.phase in ("answer", "arguments", "tools") or state.reask else None
    return _broken(state, partial or called, error, effects), effects


# running tools


def _unrun(state: TurnState, response: Response, why: str, effects: list[Effect]) -> TurnState:
    """An answer that did not end well: none of its calls runs, each has a stated result, and the turn ends with what happened."""
    state = with_pending(state, tuple(not_run(call, why) for call in response.tool_calls))
    for one in state.pending:
        if (outcome := one.outcome) is not None:
            effects.append(Emit(ToolExecutionCompleted(outcome.id, outcome.name, None, outcome.error)))
            effects.append(Emit(ToolResultEncoded(outcome.id, outcome.content)))
    state = stepped(state, response, (response.message, *tool_messages(state, None)), effects, last=True)
    return _finished(state, "stepped" if state.options.single else "unrun", effects, reason="completed")


def _arguments_checked(state: TurnState, input: ArgumentsChecked, effects: list[Effect]) -> TurnState:
    return _started(refused_by(state, input.problems), effects)


def _started(state: TurnState, effects: list[Effect]) -> TurnState:
    """What may run does; what may not is over."""
    running = [one.call for one in state.pending if runs(one)]
    effects.extend(Emit(ToolExecutionStarted(call.id, call.name, call.arguments)) for call in running)
    if running:
        effects.append(Commit())
        effects.extend(map(RunTool, running))
    pending = tuple(
        received(state.options, one, one.outcome, effects) if one.state == "running" and one.outcome is not None else one
        for one in state.pending
    )
    return _settled(with_pending(state, pending), effects, "tools")


def _finish_tool(state: TurnState, input: ToolFinished, effects: list[Effect]) -> TurnState:
    one = pending_call(state, input.outcome.id)
    if one is None or one.state != "running":
        return replace(state, rule="late")
    one = received(state.options, one, input.outcome, effects)
    return _settled(changed(state, one, "judge" if one.state == "judging" else "waiting"), effects)


def _judged(state: TurnState, input: Judged, effects: list[Effect]) -> TurnState:
    one = pending_call(state, input.id)
    if one is None or one.state != "judging" or one.outcome is None:
        return replace(state, rule="late")
    outcome = one.outcome
    if input.verdict == "replace":
        outcome = replace(outcome, error=None, result=input.value, content=input.content)
    elif input.error is not None:
        outcome = replace(outcome, error=input.error)
    return _settled(changed(state, closed(one, outcome, input.verdict == "halt", effects), "waiting"), effects)


def _settled(state: TurnState, effects: list[Effect], rule: str | None = None) -> TurnState:
    """Goes on once every tool of the step is over; `rule` is the one by which it waits, if not the last one's."""
    if state.open:
        return replace(state, rule=rule or state.rule, phase="tools")
    response = _said(state)
    asked = next((one.outcome for one in state.pending if one.outcome is not None and one.outcome.ask is not None), None)
    state = stepped(state, response, (response.message, *tool_messages(state, asked)), effects)
    reason, rule, error = halt_of(state, asked)
    if reason is not None:
        return _finished(state, rule, effects, reason=reason, asked=asked, error=error)
    if state.options.single:
        return _finished(state, "stepped", effects)
    if state.options.checked:
        effects.append(Check(state.steps[-1]))
        return replace(state, rule="check", phase="checking")
    return _onward(state, effects)


# going on, and ending


def _onward(state: TurnState, effects: list[Effect]) -> TurnState:
    if len(state.steps) >= state.options.max_turns:
        return _over(state, "max_turns", effects)
    return _call(state, "next", effects)


def _checked(state: TurnState, input: Checked, effects: list[Effect]) -> TurnState:
    return _over(state, "halt_when", effects) if input.halt else _onward(state, effects)


def _over(state: TurnState, reason: str, effects: list[Effect]) -> TurnState:
    """The loop halted; one more call for the structured answer, if one is wanted."""
    if state.options.finalize and reason in _FINALIZED:
        nudge = (user(state.options.nudge),) if state.options.nudge else ()
        state = replace(state, finalizing=reason, added=(*state.added, *nudge))
        return _call(state, "finalize", effects)
    return _finished(state, reason, effects)


def _finished(
    state: TurnState, rule: str, effects: list[Effect], *, reason: str | None = None, asked: ToolOutcome | None = None,
    error: ErrorInfo | None = None,
) -> TurnState:  # fmt: skip
    if state.options.single:
        result: StepResult | ChatResult = state.steps[-1]
    else:
        result = result_of(state, reason or ("completed" if rule == "finalized" else rule), asked=asked, error=error)
        effects.append(Emit(ChatCompleted(result)))
    effects.append(Done(result))
    return replace(state, rule=rule, phase="done", result=result)


def _cancel_model(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    if not state.cancelled:
        effects.append(CancelModel())
    return replace(state, cancelled=True, rule="cancelling")


def _cancel_tools(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    """What is over stays; what runs, or waits to, has no result, and the thread says so."""
    if state.phase == "tools":
        effects.append(CancelTools(tuple(one.call.id for one in state.pending if one.state == "running")))
    state = with_pending(state, tuple(_given_up(one, effects) for one in state.pending))
    response = _said(state)
    messages = (response.message, *tool_messages(state, None))
    return _finished(stepped(state, response, messages, effects), "cancelled", effects)


def _given_up(one: Pending, effects: list[Effect]) -> Pending:
    if one.state not in ("running", "judging"):
        return one
    outcome = one.outcome
    if outcome is None:
        error = ErrorInfo("tool", "cancelled", "cancelled before it ended")
        outcome = ToolOutcome(id=one.call.id, name=one.call.name, error=error, content=error_content(error.message))
    if one.state == "running":
        effects.append(Emit(ToolExecutionCompleted(outcome.id, outcome.name, None, outcome.error)))
    return closed(one, outcome, False, effects)


def _cancel_answer(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    return _cancelled(state, state.response, effects)


def _cancel_idle(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    if state.steps:
        return _finished(state, "cancelled", effects)
    return _cancelled(state, None, effects)


def _cancelled(state: TurnState, response: Response | None, effects: list[Effect]) -> TurnState:
    """Cancelled while the model had the word: what it had said is kept, marked."""
    if response is None:
        response = Response(request_id=state.options.request_id, model=state.request.model, finish_reason="cancelled")
    if state.steps and not response.message.content:  # the next one had not begun
        return _finished(with_pending(state, ()), "cancelled", effects)
    message, partial = response.message, response.finish_reason == "cancelled"
    if partial:
        message = replace(message, metadata={**message.metadata, "cancelled": True})
    kept = (message,) if message.content else ()
    return _finished(stepped(with_pending(state, ()), response, kept, effects), "cancelled", effects)


def _steer(state: TurnState, input: Steer, _: list[Effect]) -> TurnState:
    return replace(state, steered=(*state.steered, *input.messages), rule="steered")


_HANDLERS: Final[dict[tuple[str, type], Callable[[TurnState, Any, list[Effect]], TurnState]]] = {
    ("ready", Begin): _begin, ("ready", Cancel): _cancel_idle, ("ready", Steer): _steer,
    ("model", ModelEnded): _ended, ("model", Failed): _failed, ("model", Cancel): _cancel_model, ("model", Steer): _steer,
    ("answer", AnswerChecked): _answer_checked, ("answer", Failed): _check_failed, ("answer", Cancel): _cancel_answer,
    ("answer", Steer): _steer,
    ("arguments", ArgumentsChecked): _arguments_checked, ("arguments", Failed): _check_failed, ("arguments", Cancel): _cancel_tools,
    ("arguments", Steer): _steer,
    ("tools", ToolFinished): _finish_tool, ("tools", Judged): _judged, ("tools", Cancel): _cancel_tools, ("tools", Steer): _steer,
    ("checking", Checked): _checked, ("checking", Failed): _failed, ("checking", Cancel): _cancel_idle, ("checking", Steer): _steer,
}  # fmt: skip
