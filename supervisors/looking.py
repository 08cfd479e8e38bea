"""Looking into live actors: their state, and counters of their work. It costs nothing while nobody looks.

`get_state` is a signal, so it overtakes the mailbox, and is answered between two messages; an actor that awaits answers
while it waits. Counters are an attribute that shadows the method every message goes through: set on each actor while
somebody counts, gone after, so that an actor nobody counts runs the same instructions as if counters did not exist.
"""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

from pykka import ActorRef

from allm.supervisors.cell import Cell, alive, cell_of
from allm.supervisors.clock import clock
from allm.supervisors.exits import ActorExited, Exit, Json, Leave, SupervisionError, text_of
from allm.supervisors.futures import Reply
from allm.supervisors.names import Address, resolve

__all__ = ["Counters", "Look", "counting", "get_state", "install", "look", "public_state", "wanted"]

_DEPTH = 6
_ITEMS = 1000


class Look:
    """A signal that asks for an actor's state; also a watcher, which fails the question when the actor ends first."""

    def __init__(self) -> None:
        self.reply: Reply[Any] = Reply()
        self.reply.request = "get_state"

    def answer(self, hook: Callable[[], Any]) -> None:
        """Answer with what the hook returns; an error of the hook is the asker's, not the actor's."""
        try:
            self.reply.answer(hook())
        except Leave:
            raise
        except BaseException as error:
            self.reply.fail(error if isinstance(error, Exception) else SupervisionError(f"on_get_state raised {text_of(error, repr)}"))

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Fail the question: the actor has ended."""
        self.reply.fail(ActorExited(cell.name, cell.exit or exit))


@contextmanager
def look(address: Address) -> Generator[Reply[Any]]:
    """Ask an actor for its state: the future of the answer."""
    ref = resolve(address)
    cell = cell_of(ref)
    if cell is None:
        raise TypeError(f"{ref} is a plain Pykka actor: it has no get_state")
    question = Look()
    question.reply.target = cell
    cell.watch(question, question)
    cell.put_signal(question)
    try:
        yield question.reply
    finally:
        cell.unwatch(question)


def get_state(address: Address, timeout: float | None = 5.0) -> Any:
    """Ask an actor for what its `on_get_state` returns, ahead of its mailbox; `CallTimeout` when it does not come to answer."""
    with look(address) as reply:
        return reply.get(timeout=timeout)


def public_state(actor: object) -> dict[str, Json]:
    """The attributes of an actor whose names have no underscore in front, without Pykka's own, as JSON types."""
    own = {name: value for name, value in vars(actor).items() if not name.startswith(("_", "actor_")) and name != "on_receive"}
    return {name: _plain(value, _DEPTH) for name, value in own.items()}


def _plain(value: Any, depth: int) -> Json:
    """JSON types as they are, collections and dataclasses field by field, anything else by the name of its type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind: Any = cast("Any", type(value))
    if depth > 0:
        if isinstance(value, Exit):
            return value.to_data()
        if issubclass(kind, Mapping):
            items = islice(value.items(), _ITEMS)
            return {text_of(key): _plain(item, depth - 1) for key, item in items}
        if issubclass(kind, (Sequence, AbstractSet, deque)) and not issubclass(kind, (bytes, bytearray, memoryview)):
            return [_plain(item, depth - 1) for item in islice(value, _ITEMS)]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _record(value, depth - 1)
    return f"<{kind.__qualname__}>"


def _record(value: Any, depth: int) -> Json:
    return {field.name: _plain(getattr(value, field.name, None), depth) for field in dataclasses.fields(value)}


class _Tally:
    """The counters of one actor; its `receive` stands in the place of the actor's `_handle_receive`."""

    def __init__(self, receive: Callable[[Any], Any]) -> None:
        self._receive = receive
        self.messages = 0
        self.seconds = 0.0

    def receive(self, message: Any) -> Any:
        self.messages += 1
        began = clock.now()
        try:
            result = self._receive(message)
        finally:
            self.seconds += clock.now() - began
        return self._rest(result) if inspect.iscoroutine(result) else result

    async def _rest(self, handler: Any) -> Any:
        began = clock.now()
        try:
            return await handler
        finally:
            self.seconds += clock.now() - began


_PLACE = "_handle_receive"
wanted: list[object] = []
"""Those who count now."""
_lock = threading.Lock()


class Counters:
    """The counters of all actors that live while `counting` is on."""

    def of(self, ref: ActorRef[Any]) -> dict[str, Any]:
        """The counters of one actor: messages and seconds of its present incarnation, restarts of its place in the tree."""
        cell = cell_of(ref)
        tally = _tally(cell)
        counts = {"messages": tally.messages, "seconds": tally.seconds} if tally is not None else {"messages": 0, "seconds": 0.0}
        return {**counts, "restarts": getattr(cell.owner, "restarts", 0) if cell is not None else 0}

    def read(self) -> dict[str, dict[str, Any]]:
        """The counters of each live actor that handled a message, by the actor's name."""
        cells = [cell for cell in list(alive.values()) if (tally := _tally(cell)) is not None and tally.messages]
        return {cell.name: self.of(ref) for cell in cells if (ref := cell.ref) is not None}


@contextmanager
def counting() -> Generator[Counters]:
    """Count messages and time in handlers while inside, of every actor of this process, those that start meanwhile too."""
    me = object()
    with _lock:
        wanted.append(me)
        for cell in list(alive.values()):
            install(cell)
    try:
        yield Counters()
    finally:
        with _lock:
            wanted.remove(me)
            for cell in [] if wanted else list(alive.values()):
                if cell.body is not None:
                    cell.body.__dict__.pop(_PLACE, None)


def install(cell: Cell) -> None:
    """Count for this actor, if anybody looks: it sees that at its next turn."""
    body: Any = cell.body
    if wanted and body is not None and _PLACE not in vars(body):
        vars(body)[_PLACE] = _Tally(body._handle_receive).receive


def _tally(cell: Cell | None) -> _Tally | None:
    found = vars(cell.body).get(_PLACE) if cell is not None and cell.body is not None else None
    return getattr(found, "__self__", None)
