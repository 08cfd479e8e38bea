"""What a simulated provider is told to say (`Reply`) and how it is told to fail (`Fault`). Plain data."""

from __future__ import annotations

import itertools
import re
from typing import Any, Literal

import msgspec

__all__ = ["Failure", "Fault", "Interruption", "Reply"]

Interruption = Literal["end", "stall", "malformed", "error"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of the model, in no provider's words.

    Deltas are sent in the order reasoning, refusal, text, tool calls. Text, reasoning and refusal
    are cut by words unless `pieces` says otherwise for the text; a tool call is always three
    deltas: its name, and the two halves of its arguments. Tool call ids are `call_<n>`, counted
    on from the calls the request already carries.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Pairs of a tool's name and its arguments."""
    images: tuple[bytes, ...] = ()
    """What a model that makes images makes; default: as many images of one pixel as are asked for."""
    finish: str | None = None
    """The wire's own word for why it ended; default: what fits."""
    input_tokens: int = 16
    output_tokens: int | None = None
    """Default: the number of deltas."""
    pieces: int | tuple[str, ...] | None = None
    """How the text is cut: by words, into so many even pieces, or exactly so (`text` may be left out then)."""
    delay: float = 0.0
    """Seconds between deltas; an answer without a stream waits their sum before it begins."""

    def __post_init__(self) -> None:
        if isinstance(self.pieces, tuple):
            joined = "".join(self.pieces)
            if self.text not in ("", joined):
                raise ValueError("Reply.pieces must add up to Reply.text")
            msgspec.structs.force_setattr(self, "text", joined)
        elif self.pieces is not None and self.pieces < 1:
            raise ValueError("Reply.pieces must be at least 1")

    def text_pieces(self) -> tuple[str, ...]:
        if isinstance(self.pieces, tuple):
            return self.pieces
        return words(self.text) if self.pieces is None else even_pieces(self.text, self.pieces)

    def reasoning_pieces(self) -> tuple[str, ...]:
        return words(self.reasoning)

    def refusal_pieces(self) -> tuple[str, ...]:
        return words(self.refusal or "")

    def delta_count(self) -> int:
        told = len(self.reasoning_pieces()) + len(self.refusal_pieces()) + len(self.text_pieces())
        return told + 3 * len(self.tool_calls)

    def told_tokens(self) -> int:
        """The output tokens the wire reports."""
        return self.delta_count() if self.output_tokens is None else self.output_tokens


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One way for an answer to fail. At most one of the fields that break it off may be set.

    Delta counts (`*_after`, but for `cut_after`) start after the stream's opening frames. In an
    answer without a stream they stand for the same share of the JSON body.
    A `Fault()` with nothing set, or with `slow_first_byte` only, lets the answer complete.
    """

    status: int | None = None
    """Answer with this HTTP status and the wire's error body."""
    retry_after: float | None = None
    """Seconds, told with `status` the way the wire tells it."""
    message: str = "simulated failure"
    code: str | None = None
    """The wire's own error code, say `insufficient_quota`; default: what fits the status."""
    cut_after: int | None = None
    """Bytes of the response body (not of its framing) after which the connection is closed."""
    reset: bool = False
    """Close by a TCP reset: at `cut_after`, or without a byte of answer when that is not set."""
    end_after: int | None = None
    """Deltas after which the HTTP body ends properly, without the provider's end marker."""
    stall_after: int | None = None
    """Deltas after which nothing of use is sent until the client leaves."""
    pings: bool = False
    """While stalled, send keep-alive comments and empty chunks (blank lines without a stream)."""
    ping_interval: float = 0.2
    malformed_after: int | None = None
    """Deltas after which one data line is no JSON; the rest follows as if nothing had been."""
    error_after: int | None = None
    """Deltas after which the provider's in-stream error ends the answer (HTTP status 200)."""
    slow_first_byte: float = 0.0
    """Seconds before the response head; goes with any other fault."""
    refuse: bool = False
    """Read the request, then close the connection without a byte of answer."""

    def __post_init__(self) -> None:
        places = (self.end_after, self.stall_after, self.malformed_after, self.error_after)
        if any(count is not None and count < 0 for count in (*places, self.cut_after)):
            raise ValueError("a Fault's counts start at 0")
        interruptions = sum(count is not None for count in places)
        if interruptions + (self.status is not None) + self.refuses > 1:
            raise ValueError("a Fault breaks an answer off in one way: set one of its fields")

    @property
    def refuses(self) -> bool:
        return self.refuse or (self.reset and self.cut_after is None)

    @property
    def interruption(self) -> tuple[Interruption, int] | None:
        """What happens to the run of deltas, and after how many."""
        if self.end_after is not None:
            return "end", self.end_after
        if self.stall_after is not None:
            return "stall", self.stall_after
        if self.malformed_after is not None:
            return "malformed", self.malformed_after
        return None if self.error_after is None else ("error", self.error_after)

    def failure(self) -> Failure:
        return Failure(self.status or 500, self.message, self.code, self.retry_after)


class Failure(msgspec.Struct, frozen=True):
    """What a wire needs to know to word an error."""

    status: int
    message: str
    code: str | None = None
    retry_after: float | None = None


def words(text: str) -> tuple[str, ...]:
    """Words with the blanks before them, as tokens usually come; they add up to the text."""
    return tuple(re.findall(r"\s*\S+|\s+", text))


def even_pieces(text: str, count: int) -> tuple[str, ...]:
    """At most `count` pieces, none empty."""
    cuts = [len(text) * i // count for i in range(count + 1)]
    return tuple(text[a:b] for a, b in itertools.pairwise(cuts) if a < b)
