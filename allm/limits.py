"""Bounds on what comes from outside: one process-wide value, read where bytes are taken in."""

from typing import Any

from allm.errors import ValidationError
from allm.plain import Value

__all__ = ["Limits", "limits", "set_limits"]

_MIB = 1 << 20


class Limits(Value, frozen=True, kw_only=True):
    """How much one answer, one request and one tool may take. Sizes are bytes. Set with `allm.configure(limits=allm.Limits(...))`.

    `answer`: all of one model's answer, streamed or as one body. `waiting`: what of a stream waits for a slow consumer before reading
    pauses. `service`: the body of one answer with images, vectors or verdicts. `frame`: one event of a stream. `error_body`: what is
    read of an error answer.
    `calls`: tool calls of one message. `image`: one image fetched from its address; `images`: all that are fetched for one request.
    `processes`: children that run tools with `isolation="process"` at once; further ones wait. `tools`: those that one MCP server may
    offer; `schema`: schema and description of one of them; what goes beyond is left out and told in the log.
    """

    answer: int = 64 * _MIB
    waiting: int = 4 * _MIB
    service: int = 256 * _MIB
    frame: int = 32 * _MIB
    error_body: int = _MIB
    calls: int = 1000
    image: int = 20 * _MIB
    images: int = 64 * _MIB
    processes: int = 32
    tools: int = 1000
    schema: int = 256 << 10

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValidationError.at(f"limits.{name}", f"must be a whole number of at least 1, got {value!r}")


_current = Limits()


def limits() -> Limits:
    """The limits that hold now in this process."""
    return _current


def set_limits(new: Limits) -> None:
    """Replace the process's limits; what is under way keeps those that it began with."""
    global _current
    if not isinstance(new, Limits):
        raise ValidationError.at("limits", f"expected allm.Limits, got {type(new).__name__}")
    _current = new
