"""Why an actor ended, as plain data.

An `Exit` never holds an exception, a frame or a traceback object: those keep the locals of dead handlers, and so
their secrets, alive. An error exit holds the type's name, the message and a short traceback as text.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pykka import ActorDeadError, Timeout

__all__ = ["KILLED", "NOPROC", "NORMAL", "SHUTDOWN", "ActorExited", "CallTimeout", "Exit", "ExitError", "Json", "Leave", "stripped"]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

_FRAMES = 8
_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Exit:
    """The reason an actor ended: a kind, and detail of JSON types (not checked).

    Kinds known here: ``normal``, ``shutdown`` (both orderly), ``error`` (an exception), ``killed``, ``noproc``,
    ``ignore`` (a start that asked to be left out). Any other kind is abnormal and the actor's own.
    """

    kind: str
    detail: Any = None

    @property
    def abnormal(self) -> bool:
        """True unless the end was orderly; OTP's rule for transient children."""
        return self.kind not in _ORDERLY

    def to_data(self) -> dict[str, Json]:
        """The exit as JSON types."""
        return {"kind": self.kind, "detail": self.detail}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Exit:
        """Read `to_data` back; unknown keys are ignored."""
        return cls(str(data["kind"]), data.get("detail"))

    @classmethod
    def from_exception(cls, error: BaseException) -> Exit:
        """An ``error`` exit: type name, message and traceback text; the exception itself is not kept."""
        if isinstance(error, ExitError):
            return error.exit
        kind = type(error)
        trace = "".join(_lines(error))
        return cls("error", {"type": f"{kind.__module__}.{kind.__qualname__}", "message": _text(error), "trace": trace})


_ORDERLY: Final = frozenset(("normal", "shutdown", "ignore"))
NORMAL: Final = Exit("normal")
SHUTDOWN: Final = Exit("shutdown")
KILLED: Final = Exit("killed")
NOPROC: Final = Exit("noproc")


class ActorExited(ActorDeadError):
    """The actor asked is dead or died before it answered; ``exit`` says why."""

    def __init__(self, name: str, exit: Exit) -> None:
        super().__init__(f"{name} is not there: {exit.kind}")
        self.exit = exit


class ExitError(Exception):
    """An exception that says itself with which exit it ends the actor that does not catch it."""

    def __init__(self, message: str, exit: Exit) -> None:
        super().__init__(message)
        self.exit = exit


class CallTimeout(Timeout):
    """No reply within the time; names the server, the kind of request and the time."""


class Leave(BaseException):
    """Ends the actor that raises it, with the exit it carries. Raised by `Actor.exit`."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(exit.kind)
        self.exit = exit


def stripped(error: BaseException) -> BaseException:
    """The same exception without traceback, cause and context, fit to be handed to another thread."""
    error.__traceback__ = None
    error.__cause__ = None
    error.__context__ = None
    return error


def _lines(error: BaseException) -> list[str]:
    # Without source lines: reading them opens files, and this may run on a loop's thread.
    frames = list(traceback.walk_tb(error.__traceback__))[-_FRAMES:]
    return [f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}\n" for frame, line in frames]


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT]
    except Exception:
        return "(no message)"
