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
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from allm.supervisors.cell import TOO_DEEP, TURN, Body, Cell
from allm.supervisors.coroutines import Hand, Spawned, exit_of, own_loop
from allm.supervisors.exits import Exit, Leave, stripped
from allm.supervisors.here import here
from allm.supervisors.inbox import answer
from allm.supervisors.mailbox import BoundedCell, KeptCell
from allm.supervisors.monitors import ExitSignal

if TYPE_CHECKING:
    from pykka._envelope import Envelope

    _Base = Cell
else:
    _Base = object

__all__ = ["AsyncBoundedCell", "AsyncCell", "AsyncKeptCell"]


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
                self.report(hand.value if hand.error is None else exit_of(hand.error), hand.cause)
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
        """Do what comes before messages, the start or the rest of a handler; False when that suspends."""
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
            answer(envelope.reply_to, result)

    def _suspend(
        self, body: Body, coroutine: Coroutine[Any, Any, Any], then: Callable[[Any], object] | None, cause: BaseException | None = None
    ) -> None:
        """Let the coroutine run as a task; without a `then` it is the actor's last words."""
        loop = own_loop(self)
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
        tasks = [watcher.task for watcher in list(self.watchers.values()) if isinstance(watcher, Spawned)]
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
            exit = exit_of(raised)
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
