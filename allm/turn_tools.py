"""The calls of a step: what becomes of each before anything runs, and what the thread and the loop make of how they ended."""

from typing import Final

import msgspec

from allm.errors import ErrorInfo
from allm.messages import ImagePart, Message, TextPart, ToolCallPart
from allm.requests import ToolSpec
from allm.schemas import problem
from allm.tools import ToolOutcome
from allm.turn_data import Pending, TurnState

__all__ = ["AWAITING", "NOT_ASKED", "classified", "error_content", "halt_of", "tool_messages"]

AWAITING: Final = "<awaiting user response>"
"""What stands in the thread as the result of a tool that asked the user."""

NOT_ASKED: Final = "not asked: one question at a time"
"""And of one whose question has to wait, or that nobody waits for any more."""


def classified(state: TurnState, call: ToolCallPart) -> Pending:
    """What becomes of a call before anything runs."""
    specs = {tool.name: tool for tool in state.request.tools}
    spec = specs.get(call.name)
    if state.options.mode == "manual" or (spec is not None and spec.manual):
        return Pending(call=call, state="manual")
    if spec is None:
        known = ", ".join(specs) or "none"
        return _refused(call, ErrorInfo("tool", "unknown_tool", f"there is no tool {call.name!r}; the tools are: {known}"))
    wrong = _wrong_arguments(call, spec)
    return _refused(call, ErrorInfo("tool", "invalid_arguments", wrong)) if wrong is not None else Pending(call=call)


def _refused(call: ToolCallPart, error: ErrorInfo) -> Pending:
    return Pending(call=call, outcome=ToolOutcome(id=call.id, name=call.name, error=error, content=error_content(error.message)))


def _wrong_arguments(call: ToolCallPart, spec: ToolSpec) -> str | None:
    if not call.arguments and call.raw_arguments is not None and not _is_object(call.raw_arguments):
        return "the arguments are no JSON object"
    wrong = problem(call.arguments, spec.schema) if spec.schema else None
    return f"the arguments do not fit the schema of {call.name!r}: {wrong}" if wrong is not None else None


def _is_object(raw: str) -> bool:
    """Whether `{}` is what the model wrote, not what is left of something else."""
    return not raw.strip() or raw.split() == ["{}"] or raw.split() == ["{", "}"]


def error_content(message: str) -> str:
    """What the model reads of a tool that failed."""
    return msgspec.json.encode({"error": message}).decode()


def tool_messages(state: TurnState, asked: ToolOutcome | None) -> list[Message]:
    """The results in the order of the calls, and the question to the user, so that the thread is well-formed."""
    messages: list[Message] = []
    for one in state.pending:
        if (outcome := one.outcome) is not None:
            content = outcome.content if outcome.ask is None else AWAITING if outcome is asked else NOT_ASKED
            metadata = {"is_error": True} if outcome.error is not None else {}
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
