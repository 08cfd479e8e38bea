"""Responses and results: what a call adds up to."""

from typing import Any, Literal, TypeAlias

from msgspec.structs import force_setattr

from allm.errors import ErrorInfo, ValidationError
from allm.freezing import freeze, freeze_dict
from allm.messages import ImagePart, Message, TextPart, Thread, ToolCallPart
from allm.plain import Json, Value
from allm.structured import parse
from allm.usage import Usage

__all__ = ["HALTED_REASONS", "ChatResult", "FinishReason", "Response", "StepResult", "ToolResult", "answer_text"]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "error", "cancelled", "other"]

HALTED_REASONS = frozenset({"completed", "max_turns", "halt_when", "ask_user", "manual_tool_calls", "tool_error", "cancelled", "error"})
"""Why a loop ended; a tool may add words of its own, but none of these."""


class Response(Value, frozen=True, kw_only=True):
    """One answer of a model. `raw` is the provider's body, kept only for one-body calls that ask for it."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    message: Message = Message("assistant")
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    usage: Usage = Usage()
    refusal: str | None = None
    error: ErrorInfo | None = None
    raw: Json = None
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "response.metadata"))
        if self.raw is not None:
            force_setattr(self, "raw", freeze(self.raw, "response.raw"))

    @property
    def output_text(self) -> str:
        """All text of the message."""
        return self.message.text

    @property
    def text(self) -> str:
        """The same as `output_text`."""
        return self.message.text

    @property
    def reasoning_text(self) -> str:
        """All readable reasoning of the message."""
        return self.message.reasoning_text

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The calls that the model asks for."""
        return self.message.tool_calls

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images that the model made."""
        return self.message.images

    @property
    def parsed(self) -> Any:
        """The answer read as JSON; as the type that was given for `response_format`, if it was one and this process knows it.

        The answer is the text; where the wire took it as the arguments of a tool, only these, and not what was said beside them.
        Raises ValidationError telling what does not fit, or that the model refused.
        """
        try:
            return parse(answer_text(self), self.metadata.get("response_type"))
        except ValidationError as error:
            raise error if self.refusal is None else ValidationError.at("parsed", f"the model refused: {self.refusal}") from None

    def raise_for_error(self) -> "Response":
        """Raises `error` if there is one, else returns self."""
        if self.error is not None:
            raise self.error.exception()
        return self


def answer_text(response: Response) -> str:
    """The text that `parsed` reads: the part that the wire marked as the answer, or else all of it."""
    place, content = response.metadata.get("answer_part"), response.message.content
    if isinstance(place, int) and not isinstance(content, str) and 0 <= place < len(content):
        part = content[place]
        if isinstance(part, TextPart):
            return part.text
    return response.message.text


class ToolResult(Value, frozen=True):
    """What one executed tool call gave; `content` is what the model reads."""

    id: str
    name: str
    result: Json = None
    error: ErrorInfo | None = None
    content: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "result", freeze(self.result, "result"))


class StepResult(Value, frozen=True):
    """One round trip and its tools. `messages` is what this step added."""

    response: Response
    messages: tuple[Message, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    done: bool = True
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "step.metadata"))


class ChatResult(Value, frozen=True):
    """What a loop added up to. `halted_reason` is one of HALTED_REASONS or a tool's own word."""

    thread: Thread
    steps: tuple[StepResult, ...]
    final_response: Response | None
    halted_reason: str
    usage: Usage = Usage()
    pending_question: str | None = None
    pending_tool_call_id: str | None = None
    error: ErrorInfo | None = None
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "result.metadata"))

    @property
    def text(self) -> str:
        """The text of the final response."""
        return self.final_response.text if self.final_response is not None else ""

    @property
    def parsed(self) -> Any:
        """`Response.parsed` of the final response; None if there is none."""
        return self.final_response.parsed if self.final_response is not None else None

    def raise_for_error(self) -> "ChatResult":
        """Raises `error` if there is one, else returns self."""
        if self.error is not None:
            raise self.error.exception()
        return self
