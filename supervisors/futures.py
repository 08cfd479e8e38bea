"""The future of an ask: answered at most once, by its user or by the runtime; waits where waiting can end.

Lock-free: a callback is appended first and the flag looked at after, the setter raises the flag first and empties
the list after; list operations are atomic, so that every callback runs once.

Pykka refuses a second answer by `queue.Full`, and so do the methods it has names for. The runtime answers by others, which
never raise: an actor and its killer may both have an answer, and neither of them has made a mistake.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import pykka

from allm.supervisors import log
from allm.supervisors.cell import Cell, Shutdown
from allm.supervisors.clock import clock
from allm.supervisors.exits import CallTimeout, Leave, stripped, text_of
from allm.supervisors.here import Waiter, awaiting, caught_up, here, on_loop, ordered, waiting
from allm.supervisors.inbox import lower
from allm.supervisors.pulse import PULSE, acquire, pulse

if TYPE_CHECKING:
    from pykka._types import OptExcInfo

__all__ = ["Reply"]

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


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
    _over = False

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
        """Answer; `queue.Full` when there is an answer already, or a get hook, unless the actor that was to answer has ended."""
        if self._once.acquire(False):
            self._value = value
            self._settle()
        else:
            self._refuse()

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Answer with an error, as `set` does; its traceback and chain are dropped, they hold the frames of the failed handler."""
        kind, value, _ = exc_info or sys.exc_info()
        error = value if value is not None else kind() if kind is not None else RuntimeError("no exception")
        if self._once.acquire(False):
            self._error = stripped(error)
            self._settle()
        else:
            self._refuse()

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """See `pykka.Future.set_get_hook`; `queue.Full` when there is an answer already."""
        if not self._once.acquire(False) and self._get_hook is None:
            raise queue.Full
        super().set_get_hook(func)

    def answer(self, value: T | None = None) -> None:
        """Answer, where something else may answer as well: the first one holds, a second one is without effect."""
        if self._once.acquire(False):
            self._value = value
            self.done = True
            if self._callbacks:
                self._notify()
        elif self._get_hook is not None:
            self._settle()

    def fail(self, error: BaseException) -> None:
        """Answer with an error, where something else may answer as well; see `answer`."""
        if self._once.acquire(False):
            self._error = stripped(error)
            self._settle()
        elif self._get_hook is not None:
            self._settle()

    def end(self, error: BaseException) -> None:
        """`fail`, as the actor that was to answer has ended: what it has to say later is dropped, not refused."""
        self._over = True  # before there is an answer that could be in the way of its own
        self.fail(error)

    def after_fork(self, error: BaseException) -> None:
        """Answer with an error, in the child process of a fork: a thread that was answering is not here."""
        if not self.done:
            self._over = True
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

    def _refuse(self) -> None:
        if not self._over:
            raise queue.Full

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
        if _looking.on:
            raise _NotYet(self)
        if caught_up(lambda: self.done):
            return
        gate = threading.Lock()
        gate.acquire()

        def opened(_: Reply[T] | None = None) -> None:
            lower(gate)

        cell = _subordinate(self.target)
        with waiting(self.target, f"waiting for {self._source}"):
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
            raise self._too_late(timeout)

    @property
    def _source(self) -> str:
        return self.target.acting.name if self.target is not None else "a future"

    def _too_late(self, timeout: float | None) -> CallTimeout:
        request = f" {self.request}" if self.request else ""
        return CallTimeout(f"{self._source} did not answer{request} within {timeout} seconds")

    # -- on an event loop

    def __await__(self) -> Generator[Any, None, T]:
        """Wait on the running loop without blocking it (a plain Pykka future blocks)."""
        return self.within(None).__await__()

    async def within(self, timeout: float | None) -> T:
        """The value, or the error raised, awaited; `CallTimeout` after `timeout` seconds."""
        end = None if timeout is None else clock.now() + timeout
        while self._get_hook is not None:
            # A result made of other futures, by `map`, `join` or Pykka's `stop`: it says which of them it must wait for.
            _looking.on = True
            try:
                return self.get()
            except _NotYet as yet:
                source = yet.reply
            finally:
                _looking.on = False
            if not await source.arrives(None if end is None else end - clock.now()):
                raise source._too_late(timeout)
        if not await self.arrives(timeout):
            raise self._too_late(timeout)
        return self._outcome()

    async def arrives(self, timeout: float | None = None) -> bool:
        """Wait until there is an answer, without looking at it, with a pulse each second; False after `timeout` seconds."""
        if self.done or (timeout is not None and timeout <= 0):
            return self.done
        with awaiting(self.target):
            waker = _Waker(None if timeout is None else clock.now() + timeout)
            self.add_done_callback(waker.answered)
            try:
                await waker.wait()
            finally:
                with suppress(ValueError):
                    self._callbacks.remove(waker.answered)
        return self.done

    def map(self, func: Callable[[T], M]) -> pykka.Future[M]:
        """See `pykka.Future.map`."""
        return super().map(_outside(func))

    def filter(self: pykka.Future[Iterable[J]], func: Callable[[J], bool]) -> pykka.Future[Iterable[J]]:
        """See `pykka.Future.filter`."""
        base: Any = pykka.Future
        filtered: pykka.Future[Iterable[J]] = base.filter(self, _outside(func))
        return filtered

    def reduce(self: pykka.Future[Iterable[J]], func: Callable[[R, J], R], *args: R) -> pykka.Future[R]:
        """See `pykka.Future.reduce`."""
        base: Any = pykka.Future
        reduced: pykka.Future[R] = base.reduce(self, _outside(func), *args)
        return reduced


class _Waker:
    """Wakes a coroutine when its reply is there or its time is over; has a pulse each second meanwhile."""

    def __init__(self, end: float | None) -> None:
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()
        self._arm()

    def answered(self, _: Reply[Any]) -> None:
        """Wake it. Any thread."""
        on_loop(self._loop, self._wake)

    async def wait(self) -> None:
        """Wait to be woken."""
        try:
            await self._woken
        finally:
            self._timer.cancel()

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    def _arm(self) -> None:
        left = PULSE if self._end is None else max(0.0, min(PULSE, self._end - clock.now()))
        self._timer = self._loop.call_later(left, self._tick, context=Context())

    def _tick(self) -> None:
        if self._end is not None and clock.now() >= self._end:
            self._wake()
        else:
            pulse()
            self._arm()


class _NotYet(BaseException):
    """Raised in the place of a wait while a loop looks whether a result is there."""

    def __init__(self, reply: Reply[Any]) -> None:
        self.reply = reply


class _Looking(threading.local):
    on = False


_looking = _Looking()


def _outside(function: F) -> F:
    """A function of the caller's that is called as if nobody looked: what it waits for is its own affair."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        before, _looking.on = _looking.on, False
        try:
            return function(*args)
        finally:
            _looking.on = before

    return call  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
