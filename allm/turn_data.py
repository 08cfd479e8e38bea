"""What the turn machine is made of: its options, its state, what it is told (inputs) and what it wants done (effects). All plain data."""

from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from allm.errors import ErrorInfo
from allm.events import Event
from allm.messages import Message, ToolCallPart
from allm.plain import Json, Value
from allm.requests import JsonSchema, Request, ToolSpec
from allm.responses import ChatResult, Response, StepResult
from allm.tools import ToolOutcome
from allm.usage import Usage

__all__ = [
    "GROUP",
    "NUDGE",
    "AnswerChecked",
    "ArgumentsChecked",
    "Begin",
    "CallModel",
    "Cancel",
    "CancelModel",
    "CancelTools",
    "Check",
    "CheckAnswer",
    "CheckArguments",
    "Checked",
    "Commit",
    "Done",
    "Effect",
    "Emit",
    "Fail",
    "Failed",
    "Input",
    "Judge",
    "Judged",
    "ModelEnded",
    "Pending",
    "Phase",
    "RunTool",
    "Steer",
    "ToolFinished",
    "TurnOptions",
    "TurnState",
]  # fmt: skip

NUDGE = "Give your final answer now, in the required format."
"""What the model is told before structured finalisation, unless the call says otherwise."""

GROUP: Final = 128
"""Calls that a state keeps together: about the root of as many as there ever are."""

Phase: TypeAlias = Literal["ready", "model", "answer", "arguments", "tools", "checking", "done"]
"""Where a turn stands: what it waits for. `answer` and `arguments`: the check of what the model said."""


class TurnOptions(Value, frozen=True, kw_only=True):
    """How a turn runs. `single`: one step only. `judged`: a function of the caller decides about tool errors (`Judge`), else
    `on_tool_error` does; `checked`: one decides after each step whether to halt (`Check`)."""

    request_id: str
    mode: Literal["auto", "manual"] = "auto"
    single: bool = False
    max_turns: int = 8
    max_reasks: int = 1
    on_tool_error: Literal["continue", "halt"] = "continue"
    judged: bool = False
    checked: bool = False
    finalize: bool = False
    nudge: str = NUDGE


class Pending(Value, frozen=True, kw_only=True):
    """A call of the step in hand. `state`: it runs, its error is being judged, it is over (`outcome` tells), or it is for the caller.
    `halts`: its error ends the turn."""

    call: ToolCallPart
    state: Literal["running", "judging", "over", "manual"] = "running"
    outcome: ToolOutcome | None = None
    halts: bool = False


class TurnState(Value, frozen=True, kw_only=True):
    """A turn between two inputs. `request` is what the model is asked, with the thread as the turn found it; `added` is what the turn
    added to the thread; `steered` waits for the next step. `rule` names the transition that led here.

    `pending` are the calls of the step in hand, in the model's order. They are kept in `groups` of GROUP, so that an outcome replaces its
    own group and copies none of the others'; `places` tells where a call stands, by id, `open` how many are not over: with thousands of
    parallel calls, none of them is looked for.
    """

    options: TurnOptions
    request: Request
    phase: Phase = "ready"
    rule: str = "new"
    calls: int = 0
    steps: tuple[StepResult, ...] = ()
    added: tuple[Message, ...] = ()
    response: Response | None = None
    groups: tuple[tuple[Pending, ...], ...] = ()
    places: dict[str, int] = {}
    open: int = 0
    steered: tuple[Message, ...] = ()
    reask: tuple[Message, ...] = ()
    reasks: int = 0
    cancelled: bool = False
    finalizing: str | None = None
    usage: Usage = Usage()
    result: StepResult | ChatResult | None = None

    @property
    def pending(self) -> tuple[Pending, ...]:
        """The calls of the step in hand."""
        return self.groups[0] if len(self.groups) == 1 else tuple(chain.from_iterable(self.groups))

    @property
    def thread(self) -> tuple[Message, ...]:
        """The whole thread as it stands."""
        return (*self.request.messages, *self.added)

    @property
    def format(self) -> JsonSchema | None:
        """The schema that the answer in hand has to fit."""
        form = self.request.response_format
        wanted = not self.options.finalize or self.finalizing is not None
        return form if isinstance(form, JsonSchema) and wanted else None


class Begin(msgspec.Struct, frozen=True):
    """Start the turn."""


class ModelEnded(msgspec.Struct, frozen=True):
    """The model answered, or was cancelled in mid-answer."""

    response: Response


class Failed(msgspec.Struct, frozen=True):
    """The call failed for good, with what had come until then, if anything had; or the caller's own function did, between two calls."""

    error: ErrorInfo
    response: Response | None = None


class AnswerChecked(msgspec.Struct, frozen=True):
    """What does not fit in the answer, in words for the model; None if it fits."""

    problem: str | None = None


class ArgumentsChecked(msgspec.Struct, frozen=True):
    """What does not fit in the arguments of each call that was to be checked, in their order; None for a call that fits."""

    problems: tuple[str | None, ...]


class ToolFinished(msgspec.Struct, frozen=True):
    """A tool came to its end."""

    outcome: ToolOutcome


class Judged(msgspec.Struct, frozen=True):
    """What the caller's function says to the error of a tool. `value` and `content` stand in for its result where it is `replace`;
    `error` tells that the function failed itself."""

    id: str
    verdict: Literal["continue", "halt", "replace"]
    value: Json = None
    content: str = ""
    error: ErrorInfo | None = None


class Checked(msgspec.Struct, frozen=True):
    """What the caller's function says to the step."""

    halt: bool


class Cancel(msgspec.Struct, frozen=True):
    """Nobody wants the turn any more."""


class Steer(msgspec.Struct, frozen=True):
    """Messages for the model, at the next step."""

    messages: tuple[Message, ...]


Input: TypeAlias = Begin | ModelEnded | Failed | AnswerChecked | ArgumentsChecked | ToolFinished | Judged | Checked | Cancel | Steer


class CallModel(msgspec.Struct, frozen=True):
    """Ask the model. `number` counts the calls of this turn, from 1."""

    request: Request
    number: int


class CancelModel(msgspec.Struct, frozen=True):
    """End the call that runs; its end comes as `ModelEnded`."""


class CheckAnswer(msgspec.Struct, frozen=True):
    """Say whether the text fits the format (`AnswerChecked`). May run code of the user's, as formats are made from types."""

    text: str
    format: JsonSchema


class CheckArguments(msgspec.Struct, frozen=True):
    """Say whether the arguments of these calls fit the schemas of their tools (`ArgumentsChecked`). `tools` has one for each call."""

    calls: tuple[ToolCallPart, ...]
    tools: tuple[ToolSpec, ...]


class RunTool(msgspec.Struct, frozen=True):
    """Run the handler of this call."""

    call: ToolCallPart


class CancelTools(msgspec.Struct, frozen=True):
    """End these tools; nobody waits for them any more."""

    ids: tuple[str, ...]


class Judge(msgspec.Struct, frozen=True):
    """Ask the caller's function what to do about this error."""

    call: ToolCallPart
    error: ErrorInfo


class Check(msgspec.Struct, frozen=True):
    """Ask the caller's function whether this step is to be the last."""

    step: StepResult


class Emit(msgspec.Struct, frozen=True):
    """Tell everybody who watches."""

    event: Event


class Commit(msgspec.Struct, frozen=True):
    """What was emitted until here must be in the journal before the next effect is carried out."""


class Done(msgspec.Struct, frozen=True):
    """The turn is over."""

    result: StepResult | ChatResult


class Fail(msgspec.Struct, frozen=True):
    """The turn is over before it had anything: the error is raised."""

    error: ErrorInfo


Effect: TypeAlias = (
    CallModel | CancelModel | CheckAnswer | CheckArguments | RunTool | CancelTools | Judge | Check | Emit | Commit | Done | Fail
)
