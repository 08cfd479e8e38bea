"""Coroutines of actors as asyncio tasks: each step runs in the actor's name, and what it sends is handled after it.

A `Hand` is a handler or hook that is under way, and its task never fails: how it ended is for its cell to see (`async_cells`).
What an actor spawns is a task of its own, and a watcher of the actor's cell.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from allm.supervisors.cell import Body, Cell, Shutdown
from allm.supervisors.exits import Exit, ExitError, Leave, stripped
from allm.supervisors.here import guard, here, on_loop, running_loop

if TYPE_CHECKING:
    from allm.supervisors.lanes import Dispatcher

__all__ = ["Hand", "Spawned", "exit_of", "has_coroutines", "own_loop", "refuse_misplaced", "spawn"]

T = TypeVar("T")

_HOOKS = ("on_start", "on_receive", "on_exit", "on_stop")


class _Steps(Coroutine[Any, Any, Any]):
    """A coroutine whose steps run in the name of an actor; what they send is handled after the step."""

    def __init__(self, cell: Cell, body: Body, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.cell, self.body, self.coroutine = cell, body, coroutine
        self.__name__ = self.__qualname__ = getattr(coroutine, "__qualname__", "coroutine")
        self._held: Callable[..., Any] = getattr(cell.dispatcher, "hold", _call)

    def send(self, value: Any, /) -> Any:
        return self._held(self.cell, self._step, self.coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._held(self.cell, self._step, self.coroutine.throw, *error)

    def close(self) -> None:
        self.coroutine.close()

    def __await__(self) -> Any:
        return self

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return self._in_its_name(step, *args)
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets them end the loop
            raise ExitError(repr(error), Exit.from_exception(error)) from None

    def _in_its_name(self, step: Callable[..., Any], *args: Any) -> Any:
        cell, before, busy = self.cell, here.cell, self.cell.busy
        here.cell, cell.busy = cell, self.body
        try:
            return step(*args)
        finally:
            here.cell, cell.busy = before, busy


def _call(_: Cell, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


class Hand(_Steps):
    """A handler or hook that is under way, as a task. Runs on the loop's thread, but for `cut`."""

    task: asyncio.Task[Any]

    def __init__(self, cell: Cell, body: Body, coroutine: Coroutine[Any, Any, Any], then: Callable[[Any], object] | None) -> None:
        super().__init__(cell, body, coroutine)
        self.then = then  # what its result is for
        self.ending: Exit | None = None  # it was cancelled, to end the actor with this
        self.over = False
        self.last = then is None
        self.cause: BaseException | None = None  # of last words: what made them the last
        self.error: BaseException | None = None
        self.value: Any = None

    def begin(self, loop: AbstractEventLoop) -> None:
        """Run as a task of the loop, in an empty context, and have the cell go on after it."""
        self.loop = loop
        self.task = loop.create_task(self, context=Context())
        self.task.add_done_callback(self._done, context=Context())

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        # The task itself never fails: asyncio would end the loop with a SystemExit.
        before, here.awaiter = here.awaiter, self.cell
        try:
            return self._in_its_name(step, *args)
        except StopIteration as done:
            self.value = done.value
            raise
        except BaseException as error:
            self.error = error if self.cell.exit is None else stripped(error)
        finally:
            here.awaiter = before
        raise StopIteration

    def _done(self, task: asyncio.Task[Any]) -> None:
        if self.error is None and task.cancelled():  # before its first step
            self.error = CancelledError()
        self.over, self.cell.busy = True, None
        if self.cell.exit is None:
            self.cell.lane.schedule(self.cell)

    def end(self, exit: Exit) -> None:
        """Cancel it, to end the actor; the first reason holds."""
        if self.ending is None:
            self.ending = exit
            self.cell.busy = self.body  # from here on a kill leaves it behind
            self.task.cancel()

    @property
    def cut_short(self) -> bool:
        """Whether it ended because it was cancelled by `end`."""
        return self.ending is not None and isinstance(self.error, CancelledError)

    def cut(self) -> None:
        """Cancel it after a kill. Any thread."""
        if not on_loop(self.loop, self.task.cancel):
            self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
            self.close()  # the loop is closed


class Spawned:
    """A task that an actor made: it ends with the actor, and its failure is the actor's. A watcher of the cell."""

    def __init__(self, cell: Cell, task: asyncio.Task[Any], loop: AbstractEventLoop) -> None:
        self.cell, self.task, self.loop = cell, task, loop
        task.add_done_callback(self._done, context=Context())
        cell.watch(self, self)

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Cancel it. Any thread."""
        on_loop(self.loop, self.task.cancel)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.cell.unwatch(self)
        if not task.cancelled() and (error := task.exception()) is not None and self.cell.exit is None:
            self.cell.put_signal(Shutdown(exit_of(error)))


def spawn(cell: Cell, coroutine: Coroutine[Any, Any, T], name: str | None) -> asyncio.Task[T]:
    """Run a coroutine beside an actor's handlers, as a task of its loop: see `Actor.spawn`."""
    loop, body = own_loop(cell), cell.body
    try:
        guard()
        if loop is None:
            raise TypeError(f"{cell.name} cannot spawn here: it needs a LoopDispatcher, and to be in a handler or hook there")
        if body is None:
            raise RuntimeError(f"{cell.name} has ended")
    except BaseException:
        coroutine.close()
        raise
    assert loop is not None
    task: asyncio.Task[T] = loop.create_task(_Steps(cell, body, coroutine), name=name, context=Context())
    Spawned(cell, task, loop)
    return task


def own_loop(cell: Cell) -> AbstractEventLoop | None:
    """The loop an actor runs on, if this is that loop's thread."""
    loop: AbstractEventLoop | None = running_loop()
    return loop if getattr(cell.dispatcher, "loop", None) is loop else None


def has_coroutines(actor_class: type) -> bool:
    """Whether a class has coroutine functions of its own, decorated or not: its actors may await."""
    own = (value for base in actor_class.__mro__ for value in vars(base).values())
    return any(isinstance(value, FunctionType) and inspect.iscoroutinefunction(inspect.unwrap(value)) for value in own)


def refuse_misplaced(actor_class: type, dispatcher: Dispatcher, *, supervises: bool) -> None:
    """Raise TypeError for hooks that are coroutine functions where nothing can await them."""
    found = [name for name in _HOOKS if inspect.iscoroutinefunction(getattr(actor_class, name))]
    if not found:
        return
    what = f"{actor_class.__name__}.{found[0]} is a coroutine function"
    if supervises:
        raise TypeError(f"{what}: a supervisor's hooks cannot await")
    if not hasattr(dispatcher, "loop"):
        raise TypeError(f"{what}: the actor needs a LoopDispatcher, not a {type(dispatcher).__name__}")


def exit_of(error: BaseException) -> Exit:
    """The exit of an actor whose coroutine raised this."""
    return error.exit if isinstance(error, Leave) else Exit.from_exception(error)
