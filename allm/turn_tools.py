"""The calls of a step: which may run, what becomes of each, and what the thread and the loop make of how they ended.

A call runs only if the answer that asks for it ended well (API.md, section 5): by `stop` or `tool_calls`, or by `length` with the
arguments of all of its calls whole. No function here looks through all calls for one of them.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from allm.errors import ErrorInfo
from allm.events import AskUserRequested, ToolExecutionCompleted, ToolHalt, ToolResultEncoded
from allm.messages import ImagePart, Message, TextPart, ToolCallPart
from allm.requests import ToolSpec
from allm.responses import Response
from allm.tools import ToolOutcome
from allm.turn_data import GROUP, Commit, Effect, Emit, Judge, Pending, TurnOptions, TurnState

__all__ = [
    "AWAITING",
    "NOT_ASKED",
    "changed",
    "classified",
    "closed",
    "error_content",
    "halt_of",
    "not_run",
    "pending_call",
    "received",
    "refused_by",
    "runs",
    "tool_messages",
    "unchecked",
    "why_unrun",
    "with_pending",
]  # fmt: skip

AWAITING: Final = "<awaiting user response>"
"""What stands in the thread as the result of a tool that asked the user."""

NOT_ASKED: Final = "not asked: one question at a time"
"""And of one whose question has to wait, or that nobody waits for any more."""

_ANY_OBJECT: Final[tuple[dict[str, Any], ...]] = ({}, {"type": "object"})
"""Schemas that every arguments fit: these are objects."""

_WAITING: Final = ("running", "judging")


# Before anything runs


def why_unrun(response: Response) -> str | None:
    """Why no call of this answer may run; None if all may."""
    if response.refusal is not None:
        return "the model refused"
    match response.finish_reason:
        case "stop" | "tool_calls":
            return None
        case "length":
            return None if all(map(_is_whole, response.tool_calls)) else "the answer was cut off within a call"
        case "content_filter":
            return "the answer was filtered"
        case _:
            return f"the answer did not end well ({response.raw_finish_reason or response.finish_reason})"


def _is_whole(call: ToolCallPart) -> bool:
    """Whether the arguments are all there: what the model wrote is a JSON object. Arguments without a text may be what is left of it."""
    if call.raw_arguments is None:
        return False
    try:
        return isinstance(msgspec.json.decode(call.raw_arguments), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def not_run(call: ToolCallPart, why: str) -> Pending:
    """A call that does not run, and whose stated result says so."""
    message = f"no result: the call was not run, as {why}"
    outcome = ToolOutcome(id=call.id, name=call.name, error=ErrorInfo("tool", "not_run", message), content=message)
    return Pending(call=call, state="over", outcome=outcome)


def classified(state: TurnState, calls: Sequence[ToolCallPart]) -> tuple[Pending, ...]:
    """What becomes of each call before anything runs; whether its arguments fit is not looked at yet."""
    specs = {tool.name: tool for tool in state.request.tools}
    known = ", ".join(specs) or "none"
    seen: set[str] = set()
    found: list[Pending] = []
    for call in calls:
        spec = specs.get(call.name)
        if call.id in seen:
            found.append(not_run(call, "another call of the same answer has its id"))
        elif state.options.mode == "manual" or (spec is not None and spec.manual):
            found.append(Pending(call=call, state="manual"))
        elif spec is None:
            found.append(_refused(call, "unknown_tool", f"there is no tool {call.name!r:.80}; the tools are: {known}"))
        elif not call.arguments and call.raw_arguments is not None and not _is_empty(call.raw_arguments):
            found.append(_refused(call, "invalid_arguments", "the arguments are no JSON object"))
        else:
            found.append(Pending(call=call))
        seen.add(call.id)
    return tuple(found)


def unchecked(state: TurnState) -> tuple[list[ToolCallPart], list[ToolSpec]]:
    """(calls whose arguments are to be checked, the tool of each)."""
    specs = {tool.name: tool for tool in state.request.tools}
    calls = [one.call for one in state.pending if runs(one) and specs[one.call.name].schema not in _ANY_OBJECT]
    return calls, [specs[call.name] for call in calls]


def refused_by(state: TurnState, problems: Sequence[str | None]) -> TurnState:
    """The state with the calls refused whose arguments do not fit; `problems` in the order of `unchecked`."""
    calls, _ = unchecked(state)
    wrong = {call.id: text for call, text in zip(calls, problems, strict=True) if text is not None}
    if not wrong:
        return state
    return with_pending(
        state, tuple(_misfit(one.call, wrong[one.call.id]) if one.call.id in wrong and runs(one) else one for one in state.pending)
    )


def _misfit(call: ToolCallPart, problem: str) -> Pending:
    return _refused(call, "invalid_arguments", f"the arguments do not fit the schema of {call.name!r}: {problem}")


def _refused(call: ToolCallPart, reason: str, message: str) -> Pending:
    error = ErrorInfo("tool", reason, message)
    return Pending(call=call, outcome=ToolOutcome(id=call.id, name=call.name, error=error, content=error_content(message)))


def _is_empty(raw: str) -> bool:
    """Whether `{}` is what the model wrote, not what is left of something else."""
    return not raw.strip() or raw.split() == ["{}"] or raw.split() == ["{", "}"]


def error_content(message: str) -> str:
    """What the model reads of a tool that failed."""
    return msgspec.json.encode({"error": message}).decode()


# While they run


def runs(one: Pending) -> bool:
    """Whether a handler is to give the outcome of this call."""
    return one.state == "running" and one.outcome is None


def with_pending(state: TurnState, pending: tuple[Pending, ...]) -> TurnState:
    """The state with these calls in hand."""
    places: dict[str, int] = {}
    for place, one in enumerate(pending):
        places.setdefault(one.call.id, place)
    groups = tuple(pending[at : at + GROUP] for at in range(0, len(pending), GROUP))
    return replace(state, groups=groups, places=places, open=sum(one.state in _WAITING for one in pending))


def pending_call(state: TurnState, id: str) -> Pending | None:
    """The call of this id."""
    place = state.places.get(id)
    return state.groups[place // GROUP][place % GROUP] if place is not None else None


def changed(state: TurnState, one: Pending, rule: str) -> TurnState:
    """The state with this call in the place of the one of the same id, which was not over."""
    at, place = divmod(state.places[one.call.id], GROUP)
    group = state.groups[at]
    group = (*group[:place], one, *group[place + 1 :])
    groups = (*state.groups[:at], group, *state.groups[at + 1 :])
    return replace(state, groups=groups, open=state.open - (one.state not in _WAITING), rule=rule)


def received(options: TurnOptions, one: Pending, outcome: ToolOutcome, effects: list[Effect]) -> Pending:
    """The call with its outcome; whether its error stands may be for the caller to say."""
    effects.append(Emit(ToolExecutionCompleted(outcome.id, outcome.name, outcome.result, outcome.error, outcome.duration)))
    effects.append(Commit())
    if outcome.error is not None and options.judged:
        effects.append(Judge(one.call, outcome.error))
        return replace(one, state="judging", outcome=outcome)
    halts = outcome.error is not None and options.on_tool_error == "halt"
    return closed(one, outcome, halts, effects)


def closed(one: Pending, outcome: ToolOutcome, halts: bool, effects: list[Effect]) -> Pending:
    """The call, over."""
    if outcome.ask is not None:
        effects.append(Emit(AskUserRequested(outcome.id, outcome.name, outcome.ask.question, outcome.ask.options)))
    else:
        effects.append(Emit(ToolResultEncoded(outcome.id, outcome.content)))
    if outcome.halt is not None:
        effects.append(Emit(ToolHalt(outcome.id, outcome.halt.reason, outcome.halt.result)))
    return replace(one, state="over", outcome=outcome, halts=halts)


# Once they are over


def tool_messages(state: TurnState, asked: ToolOutcome | None) -> list[Message]:
    """The results in the order of the calls, and the question to the user, so that the thread is well-formed."""
    messages: list[Message] = []
    for place, one in enumerate(state.pending):
        if (outcome := one.outcome) is not None and state.places[one.call.id] == place:
            content = outcome.content if outcome.ask is None else AWAITING if outcome is asked else NOT_ASKED
            metadata: dict[str, Any] = {"is_error": True} if outcome.error is not None else {}
            pictures = tuple(map(ImagePart, outcome.images))
            texts = (TextPart(content),) if content else ()
            messages.append(Message("tool", (*texts, *pictures) if pictures else content, tool_call_id=outcome.id, metadata=metadata))
    if asked is not None and asked.ask is not None:
        messages.append(Message("assistant", asked.ask.question, metadata={"ask_user": True, "tool_call_id": asked.id}))
    return messages


def halt_of(state: TurnState, asked: ToolOutcome | None) -> tuple[str | None, str, ErrorInfo | None]:
    """(halted reason, rule, error) if this step is the last, in the order in which they count."""
    halting = next((one.outcome for one in state.pending if one.halts and one.outcome is not None), None)
    if halting is not None:
        return "tool_error", "tool_error", halting.error
    halt = next((one.outcome.halt for one in state.pending if one.outcome is not None and one.outcome.halt is not None), None)
    if halt is not None:
        return halt.reason, "tool_halt", None
    if asked is not None:
        return "ask_user", "ask_user", None
    if any(one.state == "manual" for one in state.pending):
        return "manual_tool_calls", "manual_tool_calls", None
    return None, "", None
