"""The turn machine: the agentic loop as a pure function, `step(state, input) -> (state, effects)`.

The state is plain data at every boundary: it can be written down, read in another process, and goes on as if nothing had happened. No
clock, no thread, no I/O: one machine serves single steps, whole loops, streams, sessions and recovery. `turn_table.TABLE` holds every
transition there is; one that is not in it is refused.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from allm.errors import ErrorInfo
from allm.events import (
    AskUserRequested,
    ChatCompleted,
    ErrorOccurred,
    StepCompleted,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
)  # fmt: skip
from allm.messages import Message, Thread, user
from allm.responses import ChatResult, Response, StepResult, ToolResult
from allm.structured import problem_of
from allm.tools import ToolOutcome
from allm.turn_data import (
    Begin,
    CallModel,
    Cancel,
    CancelModel,
    CancelTools,
    Check,
    Checked,
    Commit,
    Done,
    Effect,
    Emit,
    Fail,
    Failed,
    Input,
    Judge,
    Judged,
    ModelEnded,
    Pending,
    RunTool,
    Steer,
    ToolFinished,
    TurnState,
)  # fmt: skip
from allm.turn_table import ROWS, Row
from allm.turn_tools import classified, error_content, halt_of, tool_messages

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
    return replace(state, rule=rule, phase="model", calls=number, pending=())


def _ended(state: TurnState, input: ModelEnded, effects: list[Effect]) -> TurnState:
    response = input.response
    state = replace(state, response=response, usage=state.usage + response.usage)
    if state.cancelled or response.finish_reason == "cancelled":
        return _cancelled(state, response, effects)
    calls = response.tool_calls if state.finalizing is None else ()
    if not calls:
        return _answered(state, response, effects)
    state = replace(state, pending=tuple(classified(state, call) for call in calls))
    effects.extend(Emit(ToolExecutionStarted(one.call.id, one.call.name, one.call.arguments)) for one in state.pending if _runs(one))
    if any(_runs(one) for one in state.pending):
        effects.append(Commit())
        effects.extend(RunTool(one.call) for one in state.pending if _runs(one))
    for one in state.pending:
        if one.outcome is not None:
            state = _received(state, one.outcome, effects)
    return _settled(state, effects, "tools")


def _runs(one: Pending) -> bool:
    return one.state == "running" and one.outcome is None


def _answered(state: TurnState, response: Response, effects: list[Effect]) -> TurnState:
    """An answer without calls: final, unless it does not fit its schema or the caller had more to say."""
    form = state.format
    wrong = problem_of(response.text, form) if form is not None and response.refusal is None else None
    if wrong is not None and len(state.reask) < 2 * state.options.max_reasks:
        said = user(f"This does not fit the required format: {wrong}. Answer again with JSON alone that fits it.")
        state = replace(state, reask=(*state.reask, response.message, said), reasks=state.reasks + 1)
        return _call(state, "reask", effects)
    state = _stepped(state, response, (response.message,), effects)
    if state.options.single:
        return _finished(state, "stepped", effects)
    if state.finalizing is not None:
        return _finished(state, "finalized", effects)
    if state.steered:
        return _onward(state, effects)
    return _over(state, "completed", effects)


def _failed(state: TurnState, input: Failed, effects: list[Effect]) -> TurnState:
    partial = input.response
    if partial is not None:
        state = replace(state, usage=state.usage + partial.usage)
    if state.cancelled:
        return _cancelled(state, partial, effects)
    return _broken(state, partial or (state.response if state.reask else None), input.error, effects)


def _broken(state: TurnState, partial: Response | None, error: ErrorInfo, effects: list[Effect]) -> TurnState:
    """Nothing more comes. What there was is the result; if there was nothing, the error is raised."""
    if partial is None and not state.steps:
        effects += [Emit(ErrorOccurred(error)), Fail(error)]
        return replace(state, rule="failed", phase="done")
    if state.options.single and partial is not None:
        result: StepResult | ChatResult = StepResult(partial)
    else:
        result = _result(state, "error", error=error, final=partial)
    told = ChatCompleted(result) if state.steps and isinstance(result, ChatResult) else ErrorOccurred(error, result)
    effects += [Emit(told), Done(result)]
    return replace(state, rule="broken", phase="done", result=result)


def interrupted(state: TurnState, error: ErrorInfo, partial: Response | None) -> tuple[TurnState, list[Effect]]:
    """The end of a turn whose driver is gone, in any phase but the last: nothing is lost that it had. `partial` is what had come of an
    answer."""
    effects: list[Effect] = []
    if partial is not None:
        state = replace(state, usage=state.usage + partial.usage)
    called = state.response if state.phase == "tools" or state.reask else None
    return _broken(state, partial or called, error, effects), effects


# running tools


def _finish_tool(state: TurnState, input: ToolFinished, effects: list[Effect]) -> TurnState:
    if not any(one.call.id == input.outcome.id and one.state == "running" for one in state.pending):
        return replace(state, rule="late")
    return _settled(_received(state, input.outcome, effects), effects)


def _received(state: TurnState, outcome: ToolOutcome, effects: list[Effect]) -> TurnState:
    """A call's outcome is known; whether its error stands may be for the caller to say."""
    effects.append(Emit(ToolExecutionCompleted(outcome.id, outcome.name, outcome.result, outcome.error, outcome.duration)))
    effects.append(Commit())
    if outcome.error is not None and state.options.judged:
        call = next(one.call for one in state.pending if one.call.id == outcome.id)
        effects.append(Judge(call, outcome.error))
        return _put(state, outcome.id, state="judging", outcome=outcome, rule="judge")
    halts = outcome.error is not None and state.options.on_tool_error == "halt"
    return _closed(state, outcome, halts, effects)


def _closed(state: TurnState, outcome: ToolOutcome, halts: bool, effects: list[Effect]) -> TurnState:
    if outcome.ask is not None:
        effects.append(Emit(AskUserRequested(outcome.id, outcome.name, outcome.ask.question, outcome.ask.options)))
    else:
        effects.append(Emit(ToolResultEncoded(outcome.id, outcome.content)))
    if outcome.halt is not None:
        effects.append(Emit(ToolHalt(outcome.id, outcome.halt.reason, outcome.halt.result)))
    return _put(state, outcome.id, state="over", outcome=outcome, halts=halts, rule="waiting")


def _put(turn: TurnState, id: str, *, rule: str, **changes: Any) -> TurnState:
    pending = tuple(replace(one, **changes) if one.call.id == id else one for one in turn.pending)
    return replace(turn, pending=pending, rule=rule)


def _judged(state: TurnState, input: Judged, effects: list[Effect]) -> TurnState:
    one = next((one for one in state.pending if one.call.id == input.id and one.state == "judging"), None)
    if one is None or one.outcome is None:
        return replace(state, rule="late")
    outcome = one.outcome
    if input.verdict == "replace":
        outcome = replace(outcome, error=None, result=input.value, content=input.content)
    elif input.error is not None:
        outcome = replace(outcome, error=input.error)
    return _settled(_closed(state, outcome, input.verdict == "halt", effects), effects)


def _settled(state: TurnState, effects: list[Effect], rule: str | None = None) -> TurnState:
    """Goes on once every tool of the step is over; `rule` is the one by which it waits, if not the last one's."""
    if any(one.state in ("running", "judging") for one in state.pending):
        return replace(state, rule=rule or state.rule, phase="tools")
    response = state.response
    assert response is not None, "tools without an answer that calls them"
    asked = next((one.outcome for one in state.pending if one.outcome is not None and one.outcome.ask is not None), None)
    state = _stepped(state, response, (response.message, *tool_messages(state, asked)), effects)
    reason, rule, error = halt_of(state, asked)
    if reason is not None:
        return _finished(state, rule, effects, reason=reason, asked=asked, error=error)
    if state.options.single:
        return _finished(state, "stepped", effects)
    if state.options.checked:
        effects.append(Check(state.steps[-1]))
        return replace(state, rule="check", phase="checking")
    return _onward(state, effects)


def _stepped(state: TurnState, response: Response, messages: tuple[Message, ...], effects: list[Effect]) -> TurnState:
    """One step more."""
    results = tuple(
        ToolResult(one.outcome.id, one.outcome.name, one.outcome.result, one.outcome.error, one.outcome.content)
        for one in state.pending if one.outcome is not None
    )  # fmt: skip
    manual = tuple(one.call for one in state.pending if one.state == "manual")
    metadata: dict[str, Any] = {"reasks": len(state.reask) // 2} if state.reask else {}
    done = not state.pending or bool(manual) or any(one.halts for one in state.pending)
    done = done or any(one.outcome is not None and (one.outcome.ask or one.outcome.halt) for one in state.pending)
    made = StepResult(response, messages, results, bool(done), metadata)
    effects.append(Emit(StepCompleted(made, manual)))
    return replace(state, steps=(*state.steps, made), added=(*state.added, *messages), reask=())


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
        state = replace(state, finalizing=reason, added=(*state.added, *nudge), pending=())
        return _call(state, "finalize", effects)
    return _finished(state, reason, effects)


def _finished(
    state: TurnState, rule: str, effects: list[Effect], *, reason: str | None = None, asked: ToolOutcome | None = None,
    error: ErrorInfo | None = None,
) -> TurnState:  # fmt: skip
    if state.options.single:
        result: StepResult | ChatResult = state.steps[-1]
    else:
        result = _result(state, reason or ("completed" if rule == "finalized" else rule), asked=asked, error=error)
        effects.append(Emit(ChatCompleted(result)))
    effects.append(Done(result))
    return replace(state, rule=rule, phase="done", result=result)


def _result(
    state: TurnState, reason: str, *, asked: ToolOutcome | None = None, error: ErrorInfo | None = None, final: Response | None = None
) -> ChatResult:
    metadata: dict[str, Any] = {"reasks": state.reasks} if state.reasks else {}
    if state.finalizing is not None:
        metadata["structured_finalize"] = state.finalizing
    return ChatResult(
        Thread(state.thread),
        state.steps,
        final or (state.steps[-1].response if state.steps else None),
        reason,
        state.usage,
        asked.ask.question if asked is not None and asked.ask is not None else None,
        asked.id if asked is not None else None,
        error,
        metadata,
    )


def _cancel_model(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    if not state.cancelled:
        effects.append(CancelModel())
    return replace(state, cancelled=True, rule="cancelling")


def _cancel_tools(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    """What is over stays; what runs has no result, and the thread says so."""
    effects.append(CancelTools(tuple(one.call.id for one in state.pending if one.state == "running")))
    error = ErrorInfo("tool", "cancelled", "cancelled before it ended")
    for one in state.pending:
        if one.state == "running":
            outcome = ToolOutcome(id=one.call.id, name=one.call.name, error=error, content=error_content(error.message))
            effects.append(Emit(ToolExecutionCompleted(outcome.id, outcome.name, None, error)))
            state = _closed(state, outcome, False, effects)
        elif one.state == "judging" and one.outcome is not None:
            state = _closed(state, one.outcome, False, effects)
    assert state.response is not None, "tools without an answer that calls them"
    messages = (state.response.message, *tool_messages(state, None))
    return _finished(_stepped(state, state.response, messages, effects), "cancelled", effects)


def _cancel_idle(state: TurnState, _: Cancel, effects: list[Effect]) -> TurnState:
    if state.steps:
        return _finished(state, "cancelled", effects)
    return _cancelled(state, None, effects)


def _cancelled(state: TurnState, response: Response | None, effects: list[Effect]) -> TurnState:
    """Cancelled while the model had the word: what it had said is kept, marked."""
    if response is None:
        response = Response(request_id=state.options.request_id, model=state.request.model, finish_reason="cancelled")
    if state.steps and not response.message.content:  # the next one had not begun
        return _finished(replace(state, pending=()), "cancelled", effects)
    message, partial = response.message, response.finish_reason == "cancelled"
    if partial:
        message = replace(message, metadata={**message.metadata, "cancelled": True})
    kept = (message,) if message.content else ()
    return _finished(_stepped(replace(state, pending=()), response, kept, effects), "cancelled", effects)


def _steer(state: TurnState, input: Steer, _: list[Effect]) -> TurnState:
    return replace(state, steered=(*state.steered, *input.messages), rule="steered")


_HANDLERS: Final[dict[tuple[str, type], Callable[[TurnState, Any, list[Effect]], TurnState]]] = {
    ("ready", Begin): _begin, ("ready", Cancel): _cancel_idle, ("ready", Steer): _steer,
    ("model", ModelEnded): _ended, ("model", Failed): _failed, ("model", Cancel): _cancel_model, ("model", Steer): _steer,
    ("tools", ToolFinished): _finish_tool, ("tools", Judged): _judged, ("tools", Cancel): _cancel_tools, ("tools", Steer): _steer,
    ("checking", Checked): _checked, ("checking", Failed): _failed, ("checking", Cancel): _cancel_idle, ("checking", Steer): _steer,
}  # fmt: skip
