"""The reason why an actor ended, as plain data.

An `Exit` never holds an exception, a frame or a traceback object: those keep the locals of dead handlers, and so
their secrets, alive. An error exit holds the type's name, the message and a short traceback as text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias, TypeVar

from pykka import ActorDeadError, ActorRef, Timeout

__all__ = [
    "FORKED",
    "KILLED",
    "NOPROC",
    "NORMAL",
    "SHUTDOWN",
    "ActorExited",
    "CallTimeout",
    "Exit",
    "ExitError",
    "Json",
    "Leave",
    "SupervisionError",
    "stripped",
    "text_of",
]

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
        own = getattr(error, "exit", None) if isinstance(error, ExitError) else None
        if isinstance(own, Exit):
            return own
        kind = type(error)
        trace = "".join(_lines(error))
        return cls("error", {"type": f"{kind.__module__}.{kind.__qualname__}", "message": text_of(error)[:_TEXT], "trace": trace})


_ORDERLY: Final = frozenset(("normal", "shutdown", "ignore"))
NORMAL: Final = Exit("normal")
SHUTDOWN: Final = Exit("shutdown")
KILLED: Final = Exit("killed")
NOPROC: Final = Exit("noproc")
FORKED: Final = Exit("noproc", "this actor lives in the parent process")


class SupervisionError(Exception):
    """The base of all errors of this package.

    They pickle, with their attributes. What is of one process only, such as a ref, is None in the copy; other values that do not
    pickle are their text.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: _portable(value) for name, value in vars(self).items()}
        return _rebuilt, (type(self), tuple(map(_portable, self.args)), state)

    def __copy__(self) -> Self:
        return _rebuilt(type(self), self.args, vars(self))


_E = TypeVar("_E", bound=SupervisionError)


def _rebuilt(kind: type[_E], args: tuple[Any, ...], state: Mapping[str, Any]) -> _E:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


def _portable(value: Any) -> Any:
    if isinstance(value, ActorRef):
        return None
    try:
        pickle.dumps(value)
    except Exception:  # a lock, a lambda, whatever a program has put there
        return text_of(value, repr)
    return value


class ActorExited(SupervisionError, ActorDeadError):
    """The actor asked is dead or died before it answered; ``exit`` says why."""

    def __init__(self, name: str, exit: Exit) -> None:
        super().__init__(f"{name} is not there: {exit.kind}")
        self.exit = exit


class ExitError(SupervisionError):
    """An exception that says itself with which exit it ends the actor that does not catch it."""

    def __init__(self, message: str, exit: Exit) -> None:
        super().__init__(message)
        self.exit = exit


class CallTimeout(SupervisionError, Timeout):
    """No reply within the time; names the server, the kind of request and the time."""


class Leave(BaseException):
    """Ends the actor that raises it, with the exit it carries. Raised by `Actor.exit`."""

    def __init__(self, exit: Exit) -> None:
        if not isinstance(exit, Exit):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an actor ends with an Exit, not with {type(exit).__name__}")
        super().__init__(exit.kind)
        self.exit = exit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.exit,)


def stripped(error: BaseException) -> BaseException:
    """The same exception without traceback, cause and context, fit to be handed to another thread."""
    try:
        error.__traceback__ = error.__cause__ = error.__context__ = None
    except Exception:
        for name in ("__traceback__", "__cause__", "__context__"):
            object.__setattr__(error, name, None)  # a frozen dataclass may be an exception, too
    return error


def text_of(value: object, form: Callable[[Any], str] = str) -> str:
    """The text of a value of the program's own, whose `__str__` or `__repr__` may raise anything."""
    try:
        return str(form(value))
    except BaseException:
        return "(no message)"


def _lines(error: BaseException) -> list[str]:
    # Without source lines: reading them opens files, and this may run on a loop's thread.
    lines: list[str] = []
    place = error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        lines.append(f"{code.co_filename}:{place.tb_lineno} in {code.co_name}\n")
        place = place.tb_next
    return lines[-_FRAMES:]
