"""The future of an ask: set at most once, never raising for the second; waits where waiting can end.

Lock-free: a callback is appended first and the flag looked at after, the setter raises the flag first and empties
the list after; list operations are atomic, so that every callback runs once.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pykka

from allm.supervisors import log
from allm.supervisors.cell import Cell, Shutdown
from allm.supervisors.exits import CallTimeout, Leave, stripped, text_of
from allm.supervisors.here import Waiter, here, on_loop, ordered, waiting
from allm.supervisors.inbox import lower
from allm.supervisors.pulse import acquire

if TYPE_CHECKING:
    from pykka._types import OptExcInfo

__all__ = ["Reply"]

T = TypeVar("T")


def _subordinate(target: Waiter | None) -> Cell | None:
    """The actor of this thread, if it is to wait for a supervisor above it.

    Its own supervisor's order to end wakes it: else the two would wait for each other, for as long as the child may take to
    end. (Erlang's processes end at once.)
    """
    cell: Any = here.cell
    above, sought = cell, target.acting if cell is not None and target is not None else None
    while sought is not None and (above := getattr(getattr(above, "owner", None), "home", None)) is not None:
        if above is sought:
            return cell if isinstance(cell, Cell) else None
    return None


def _obey(cell: Cell) -> None:
    """End this actor, if it was told to."""
    for signal in cell.signals.copy():
        if isinstance(signal, Shutdown):
            raise Leave(signal.exit)


class Reply(pykka.Future[T]):
    """A `pykka.Future` whose `get` refuses to block an event loop that runs actors."""

    target: Waiter | None = None
    request: str | None = None
    _get_hook: Callable[[float | None], T] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.done = False
        self._once = threading.Lock()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Reply[T]], object]] = []

    def __repr__(self) -> str:
        return f"<Reply {'set' if self.done else 'open'}>"

    def get(self, *, timeout: float | None = None) -> T:
        """The value, or the error raised; see `pykka.Future.get`."""
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self.done:
            self._wait(timeout)
        return self._outcome()

    def set(self, value: T | None = None) -> None:
        """Answer; without effect when there is an answer already."""
        if self._once.acquire(False):
            self._value = value
            self._settle()

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Answer with an error; its traceback and chain are dropped, they hold the frames of the failed handler."""
        kind, value, _ = exc_info or sys.exc_info()
        error = value if value is not None else kind() if kind is not None else RuntimeError("no exception")
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """`set_exception` with the exception itself."""
        if self._once.acquire(False):
            self._error = stripped(error)
            self._settle()

    def after_fork(self, error: BaseException) -> None:
        """Answer with an error, in the child process of a fork: a thread that was answering is not here."""
        if not self.done:
            self._once.acquire(False)
            self._error = error
            self._settle()

    def add_done_callback(self, callback: Callable[[Reply[T]], object]) -> None:
        """Call it with this future once it is answered: at once, or on the thread that answers."""
        self._callbacks.append(callback)
        if self.done:
            self._notify()

    @property
    def error(self) -> BaseException | None:
        """The error it was answered with."""
        return self._error

    def _outcome(self) -> T:
        if self._error is not None:
            raise self._error.with_traceback(None)
        result: T = self._value
        return result

    def _settle(self) -> None:
        self.done = True
        if self._callbacks:
            self._notify()

    def _notify(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except BaseException as error:  # who answers is not who has asked to be called
                log.error("callback_failed", error=text_of(error, repr))

    def _wait(self, timeout: float | None) -> None:
        gate = threading.Lock()
        gate.acquire()

        def opened(_: Reply[T] | None = None) -> None:
            lower(gate)

        name = self.target.acting.name if self.target is not None else "a future"
        cell = _subordinate(self.target)
        with waiting(self.target, f"waiting for {name}"):
            self.add_done_callback(opened)
            try:
                if cell is not None:
                    ordered[cell] = opened
                    _obey(cell)  # the order may have come before
                if acquire(gate, timeout, lambda: self.done):
                    if cell is not None and not self.done:
                        _obey(cell)
                    return
            finally:
                if cell is not None:
                    ordered.pop(cell, None)
        with suppress(ValueError):  # it is being called
            self._callbacks.remove(opened)
        if not self.done:
            request = f" {self.request}" if self.request else ""
            raise CallTimeout(f"{name} did not answer{request} within {timeout} seconds")

    def __await__(self) -> Generator[Any, None, T]:
        """Wait on the running loop without blocking it (a plain Pykka future blocks)."""
        if self._get_hook is None and not self.done:
            yield from self._future().__await__()
        return self.get()

    def _future(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        self.add_done_callback(lambda _: on_loop(loop, wake))
        return future
