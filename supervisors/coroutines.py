"""Actors whose handlers are coroutines: a cell that lets its loop go on while one awaits.

A handler that returns a coroutine suspends its cell. The run flag stays raised, so that nobody gives the actor a turn and
messages wait in order; the coroutine runs as an asyncio task, each step of it in the actor's name (`here.cell`), and the
turn goes on when the task is done. Signals do not wait: one that ends the actor cancels the task, and the actor ends once
the coroutine has cleaned up. A kill reports the end at once, as for every actor, and cancels the task after.

`put_signal` appends first and looks for a coroutine after; a cell that suspends sets the coroutine first and looks for
signals after: one of the two sees the other. The same holds for `report` and the body.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from allm.supervisors.cell import TOO_DEEP, TURN, Body, Cell, Shutdown
from allm.supervisors.exits import Exit, ExitError, Leave, stripped
from allm.supervisors.here import guard, here, on_loop, running_loop
from allm.supervisors.mailbox import BoundedCell, KeptCell
from allm.supervisors.monitors import ExitSignal

if TYPE_CHECKING:
    from pykka._envelope import Envelope

    from allm.supervisors.lanes import Dispatcher

    _Base = Cell
else:
    _Base = object

__all__ = ["AsyncBoundedCell", "AsyncCell", "AsyncKeptCell", "has_coroutines", "refuse_misplaced", "spawn"]

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


class _Turns(_Base):
    """A cell, ours or of any kind of mailbox, that waits for the coroutines of its handlers."""

    if not TYPE_CHECKING:
        __slots__ = ()

    hand: Hand | None

    def turn(self) -> bool:
        """See `Cell.turn`; while a coroutine is under way only signals are looked at."""
        if (body := self.body) is None:
            return False
        hand = self.hand
        if hand is not None:
            if not hand.over:
                self._heed(hand, body)
                return False
            self.hand = self.busy = None
            if hand.last:
                self.report(hand.value if hand.error is None else _exit_of(hand.error), hand.cause)
                return False
            if hand.cut_short:
                assert hand.ending is not None
                # Only a message that was in work has failed by it: a kept mailbox may deliver that again.
                self._end(body, hand.ending, stripped(CancelledError()) if self.envelope is not None else None)
                return False
        before, here.cell = here.cell, self
        self.busy = body
        try:
            if self._go_on(body, hand):
                return self._work(body)
            return False
        except Leave as leave:
            self.fate = exit = leave.exit
            error = None
        except BaseException as raised:
            self.fate = TOO_DEEP  # until there is room to say more
            exit, error = Exit.from_exception(raised), stripped(raised)
        finally:
            here.cell = before
            self.busy = None
        self._end(body, exit, error)
        return False

    def _go_on(self, body: Body, hand: Hand | None) -> bool:
        """What comes before messages: the start, or the rest of a handler; False when it suspends."""
        if hand is not None:
            if hand.error is not None:
                raise hand.error
            if hand.then is not None:
                hand.then(hand.value)
            if hand.ending is not None:  # it came to its end though it was cancelled
                raise Leave(hand.ending)
        elif not self.begun:
            self.begun = True
            begun: Any = body._actor_begin()  # pyright: ignore[reportPrivateUsage]
            if inspect.iscoroutine(begun):
                self._suspend(body, begun, self._begun)
                return False
            if begun:
                self.acknowledge()
        return True

    def _begun(self, _: object) -> None:
        self.acknowledge()

    def _work(self, body: Body) -> bool:
        for _ in range(TURN):
            result: Any = None
            if self.signals:
                result = cast("Any", body)._actor_signal(self.signals.popleft())
            elif self.user:
                if (envelope := self._take(body)) is None:
                    continue
                result = body._handle_receive(envelope.message)  # pyright: ignore[reportPrivateUsage]
            elif self.body is not body or self.park():
                return False
            else:
                continue
            if inspect.iscoroutine(result):
                self._suspend(body, result, self._handled)
                return False
            self._handled(result)
        return self.body is body

    def _take(self, body: Body) -> Envelope[Any] | None:
        """Take out the next message, as `Cell._work` does; None when there is none, or the actor was killed meanwhile."""
        try:
            self.envelope = envelope = self.user.popleft()
        except IndexError:  # a bounded mailbox made room
            return None
        if self.body is body:
            return envelope
        self.give_back(envelope)
        return None

    def _handled(self, result: Any) -> None:
        """Answer the message in hand, unless its handler has."""
        envelope, self.envelope = self.envelope, None
        if envelope is not None and envelope.reply_to is not None:
            envelope.reply_to.set(result)

    def _suspend(
        self, body: Body, coroutine: Coroutine[Any, Any, Any], then: Callable[[Any], object] | None, cause: BaseException | None = None
    ) -> None:
        """Let the coroutine run as a task; without a `then` it is the actor's last words."""
        loop = _own_loop(self)
        if loop is None:
            coroutine.close()
            raise TypeError(f"{self.name} returned a coroutine: only an actor on a LoopDispatcher can await it")
        hand = Hand(self, body, coroutine, then)
        hand.cause = cause
        hand.begin(loop)
        self.hand = hand
        if self.body is not body:  # killed meanwhile
            hand.cut()
        elif self.signals:
            self._heed(hand, body)

    def _heed(self, hand: Hand, body: Body) -> None:
        """Act on the signals that came while a coroutine is under way; exits that are trapped wait for its end."""
        if hand.last:
            return
        waiting: list[Any] = []
        before, here.cell = here.cell, self
        try:
            while self.signals:
                signal = self.signals.popleft()
                if isinstance(signal, ExitSignal) and cast("Any", body).trap_exits:
                    waiting.append(signal)
                else:
                    body._actor_signal(signal)  # pyright: ignore[reportPrivateUsage]
        except Leave as leave:
            hand.end(leave.exit)
        except BaseException as raised:
            hand.end(Exit.from_exception(raised))
        finally:
            here.cell = before
            self.signals.extendleft(reversed(waiting))

    def _end(self, body: Body, exit: Exit, error: BaseException | None) -> None:
        """See `Cell._end`: tasks that the actor made end before its last words."""
        if self.body is not body:
            return
        self._stop_flag()
        tasks = [watcher.task for watcher in list(self.watchers.values()) if isinstance(watcher, _Spawned)]
        last: Any = self._wind_up(body, exit, tasks) if tasks else None
        before, here.cell = here.cell, self
        self.busy = body
        try:
            if last is None:
                last = body._actor_finish(exit)  # pyright: ignore[reportPrivateUsage]
            if inspect.iscoroutine(last):
                self._suspend(body, last, None, error)
                return
            exit = last
        except BaseException as raised:
            exit = _exit_of(raised)
        finally:
            here.cell = before
            self.busy = None
        self.report(exit, error)

    async def _wind_up(self, body: Body, exit: Exit, tasks: list[asyncio.Task[Any]]) -> Exit:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        last: Any = body._actor_finish(exit)  # pyright: ignore[reportPrivateUsage]
        words: Exit = await last if inspect.iscoroutine(last) else last
        return words

    def report(self, exit: Exit, error: BaseException | None = None, *, busy: bool = False) -> bool:
        """See `Cell.report`; a coroutine that is under way is cancelled."""
        if not super().report(exit, error, busy=busy):
            return False
        if (hand := self.hand) is not None:
            hand.cut()
        return True

    def put_signal(self, signal: Any) -> None:
        """See `Inbox.put_signal`; does not wait for a coroutine that is under way."""
        super().put_signal(signal)
        if self.hand is not None and not self.closed:
            self.lane.schedule(self)


class AsyncCell(_Turns, Cell):
    """A `Cell` for handlers that are coroutines."""

    __slots__ = ("hand",)

    def __init__(self, name: str, body: Body) -> None:
        super().__init__(name, body)
        self.hand = None


class AsyncBoundedCell(_Turns, BoundedCell):
    """A `BoundedCell` for handlers that are coroutines."""

    __slots__ = ("hand",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hand = None


class AsyncKeptCell(_Turns, KeptCell):
    """A `KeptCell` for handlers that are coroutines."""

    __slots__ = ("hand",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hand = None

    def _take(self, body: Body) -> Envelope[Any] | None:
        """Take out the next message, as `KeptCell._work` does, in the order that `Kept` relies on."""
        user = self.user
        self.envelope = envelope = user[0]
        if self.body is not body:
            return None
        user.popleft()
        return envelope


class _Spawned:
    """A task that an actor made: it ends with the actor, and its failure is the actor's. A watcher of the cell."""

    def __init__(self, cell: Cell, task: asyncio.Task[Any], loop: AbstractEventLoop) -> None:
        self.cell, self.task, self.loop = cell, task, loop
        task.add_done_callback(self._done, context=Context())
        cell.watch(self, self)

    def started(self, cell: Cell) -> None:
        """Of no interest."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Cancel it. Any thread."""
        on_loop(self.loop, self.task.cancel)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.cell.unwatch(self)
        if not task.cancelled() and (error := task.exception()) is not None and self.cell.exit is None:
            self.cell.put_signal(Shutdown(_exit_of(error)))


def spawn(cell: Cell, coroutine: Coroutine[Any, Any, T], name: str | None) -> asyncio.Task[T]:
    """Run a coroutine beside an actor's handlers, as a task of its loop: see `Actor.spawn`."""
    loop, body = _own_loop(cell), cell.body
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
    _Spawned(cell, task, loop)
    return task


def _own_loop(cell: Cell) -> AbstractEventLoop | None:
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


def _exit_of(error: BaseException) -> Exit:
    return error.exit if isinstance(error, Leave) else Exit.from_exception(error)
