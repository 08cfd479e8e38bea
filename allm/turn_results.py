"""What a turn adds up to: its steps, one by one, and the result of the whole."""

from typing import Any

from msgspec.structs import replace

from allm.errors import ErrorInfo
from allm.events import StepCompleted
from allm.messages import Message, Thread
from allm.responses import ChatResult, Response, StepResult, ToolResult
from allm.tools import ToolOutcome
from allm.turn_data import Effect, Emit, TurnState

__all__ = ["result_of", "stepped"]


def stepped(
    state: TurnState, response: Response, messages: tuple[Message, ...], effects: list[Effect], *, last: bool = False
) -> TurnState:  # fmt: skip
    """One step more; `last` if the loop ends with it, whatever became of its calls."""
    results = tuple(
        ToolResult(one.outcome.id, one.outcome.name, one.outcome.result, one.outcome.error, one.outcome.content)
        for one in state.pending if one.outcome is not None
    )  # fmt: skip
    manual = tuple(one.call for one in state.pending if one.state == "manual")
    metadata: dict[str, Any] = {"reasks": len(state.reask) // 2} if state.reask else {}
    done = last or not state.pending or bool(manual) or any(one.halts for one in state.pending)
    done = done or any(one.outcome is not None and (one.outcome.ask or one.outcome.halt) for one in state.pending)
    made = StepResult(response, messages, results, bool(done), metadata)
    effects.append(Emit(StepCompleted(made, manual)))
    return replace(state, steps=(*state.steps, made), added=(*state.added, *messages), reask=())


def result_of(
    state: TurnState, reason: str, *, asked: ToolOutcome | None = None, error: ErrorInfo | None = None, final: Response | None = None
) -> ChatResult:
    """The result of a loop that halts for this reason."""
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
