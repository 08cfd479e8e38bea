"""The blocks of a message that is being built: each knows what it consists of so far, and the part that it is."""

from allm.events import Event, ReasoningCompleted, TextCompleted, TextDelta, ToolCallDelta
from allm.messages import Message, Part, ReasoningPart, TextPart, ToolCallPart

__all__ = ["CallBlock", "TextBlock", "WholeBlock", "message_of"]


class TextBlock:
    """A block of text or reasoning, with what it consists of so far."""

    __slots__ = ("data", "id", "pieces", "provider", "reasoning", "signature")

    def __init__(self, name: str, reasoning: bool) -> None:
        self.id = name
        self.reasoning = reasoning
        self.pieces: list[str] = []
        self.signature: str | None = None
        self.data: str | None = None
        self.provider: str | None = None

    def part(self) -> Part | None:
        """The part that it is so far; None for an empty text."""
        text = "".join(self.pieces)
        if self.reasoning:
            return ReasoningPart(text, self.signature, self.data, self.provider)
        return TextPart(text, self.signature) if text or self.signature else None

    def completed(self) -> Event:
        """The event of its end."""
        text = "".join(self.pieces)
        if self.reasoning:
            return ReasoningCompleted(self.id, text, self.signature, self.data, self.provider)
        return TextCompleted(self.id, text, self.signature)


class CallBlock:
    """A tool call, or the answer as the arguments of one (`answers`), which is text. Its start is told once its name is known."""

    __slots__ = ("answers", "call_id", "delta", "id", "name", "part_", "pieces", "signature", "started")

    def __init__(self, name: str) -> None:
        self.id = name
        self.call_id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.signature: str | None = None
        self.started = False
        self.answers = False
        self.delta: type[ToolCallDelta] | type[TextDelta] = ToolCallDelta
        self.part_: ToolCallPart | TextPart | None = None

    def part(self) -> Part | None:
        """The call, or the text of the answer; None while it has not ended."""
        if self.answers:
            return TextPart("".join(self.pieces)) if self.pieces else None
        return self.part_


class WholeBlock:
    """A part that came whole."""

    __slots__ = ("value",)

    def __init__(self, value: Part) -> None:
        self.value = value

    def part(self) -> Part | None:
        """The part."""
        return self.value


def message_of(parts: list[Part]) -> Message:
    """The assistant's message of these parts: plain text where there is nothing else."""
    if not parts:
        return Message("assistant")
    first = parts[0]
    if len(parts) == 1 and isinstance(first, TextPart) and first.signature is None:
        return Message("assistant", first.text)
    return Message("assistant", tuple(parts))
