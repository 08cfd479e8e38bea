"""Addresses of calls: a ref, or a name that a registry resolves at the moment of the call."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

from pykka import ActorDeadError, ActorRef
from pykka._envelope import Envelope

from allm.supervisors.cell import Cell
from allm.supervisors.events import dead_letter
from allm.supervisors.exits import NOPROC, ActorExited
from allm.supervisors.futures import Reply
from allm.supervisors.here import AskCycle, Waiter, here

__all__ = ["Address", "Answers", "RefTo", "Via", "ask", "call", "cast", "resolve"]

M = TypeVar("M")
R = TypeVar("R")
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
A_co = TypeVar("A_co", covariant=True)


@runtime_checkable
class Via(Protocol):
    """A name. `Registry.via` makes them; anything with this method is one."""

    def whereis(self) -> ActorRef[Any] | None:
        """The ref behind the name now."""
        ...


Address: TypeAlias = "ActorRef[Any] | Via"


def resolve(address: Address) -> ActorRef[Any]:
    """The ref; `ActorExited` with ``noproc`` when nobody has the name or the ref is dead."""
    ref = address if isinstance(address, ActorRef) else address.whereis()
    if ref is None or not ref.is_alive():
        raise ActorExited(str(address), NOPROC)
    return ref


class Answers(Protocol[M_contra, R_co]):
    """An actor, for type checkers: what it takes, and what it answers."""

    def on_receive(self, message: M_contra, /) -> R_co: ...


class RefTo(Protocol[A_co]):
    """A ref, for type checkers: which actor is behind it."""

    @property
    def actor_class(self) -> type[A_co]: ...


@overload
def call(address: RefTo[Answers[M, Coroutine[Any, Any, R]]], message: M, timeout: float | None = 5.0) -> R: ...
@overload
def call(address: RefTo[Answers[M, R]], message: M, timeout: float | None = 5.0) -> R: ...
@overload
def call(address: Address, message: Any, timeout: float | None = 5.0) -> Any: ...
def call(address: Any, message: Any, timeout: float | None = 5.0) -> Any:
    """Ask and wait: `ActorExited` with its exit if it dies meanwhile, `CallTimeout` after `timeout` seconds.

    A call to oneself is refused before anything is sent. For type checkers the answer has the type that the actor's
    `on_receive` gives it.
    """
    return ask(address, message, here.cell).get(timeout=timeout)


def ask(address: Address, message: Any, asker: Waiter | None) -> Reply[Any]:
    """Ask: the future of the answer. `asker` will wait for it, and can be no answer to itself."""
    inbox: Any = resolve(address).actor_inbox
    if asker is not None and isinstance(inbox, Cell) and asker is inbox.acting:
        raise AskCycle(f"calling_self: {inbox.name}")
    reply: Reply[Any] = Reply()
    reply.request = type(message).__name__
    inbox.put(Envelope(message, reply_to=reply))
    return reply


def cast(address: Address, message: Any) -> None:
    """Tell; when nobody is there the message is a dead letter."""
    try:
        resolve(address).tell(message)
    except ActorDeadError as error:
        dead_letter(str(address), message, error.exit if isinstance(error, ActorExited) else NOPROC)
