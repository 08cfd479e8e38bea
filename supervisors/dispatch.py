"""The dispatchers: on an event loop, on a pool of threads, on a thread of its own.

All three give a cell its turns one at a time; which thread that happens on is the whole difference.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from asyncio import AbstractEventLoop, Handle, TimerHandle
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final, TypeVar

from allm.supervisors import events
from allm.supervisors.clock import clock
from allm.supervisors.exits import Exit
from allm.supervisors.here import call_soon, running_loop, serve
from allm.supervisors.inbox import lower
from allm.supervisors.lanes import Dispatcher, Lane, Runnable, is_dispatcher
from allm.supervisors.pool import PoolDispatcher, refused, start_thread
from allm.supervisors.pulse import PULSE, mend_all, pulse
from allm.supervisors.timers import LoopTimers, Timers, shared_timers

__all__ = ["Dispatcher", "Lane", "LoopDispatcher", "PoolDispatcher", "Runnable", "ThreadDispatcher", "is_dispatcher", "refused"]

T = TypeVar("T")

_TURNS = 512
"""Turns that a drain gives at most, also one that has no clock to heed."""
_CATCHES = 64
_DEEPEST = 12
"""Starts inside each other that a loop runs at once; a deeper one gets its first turn soon: a tree may be deeper than the stack."""
_SLICE: Final = 0.002
"""Seconds of turns, after which the coroutines and callbacks on the same loop get theirs. If those take longer, turns have as much."""
_LONGEST: Final = 0.05
"""Seconds of turns at most, whatever the others take: else the starts of a thousand calls wait behind the deltas of the first ones."""


class LoopDispatcher:
    """Mailboxes drained on an asyncio loop's own thread; handlers there must not block.

    A put from the loop's thread drains at once, by a trampoline over a ready queue; a put from inside a drain only
    enqueues; a put from another thread enqueues and wakes the loop, once for many puts. A closed loop ends the
    actors it can no longer run: their asks fail and `tell` does not raise.

    No state of it relies on a sender's coming to the end of a line: a beat on the loop, each second, drains what nobody
    was told of (see `pulse`). Mailboxes are drained in an empty context, whoever put something into one.

    Turns go on for 2 ms, then all else on the loop has its turn; if that takes longer, turns have as much (at most 50 ms).
    While they wait to go on, a put from the loop's thread only enqueues, too.

    `slow` is for finding handlers that block: turns that take longer, in seconds, are reported as `SlowTurn`.
    """

    def __init__(self, loop: AbstractEventLoop, *, slow: float | None = None) -> None:
        self.loop = loop
        self._slow = slow
        self._timers = LoopTimers(loop)
        self._ready: deque[Runnable] = deque()
        self._draining = False
        self._depth = 0  # of starts inside starts
        self._due: Handle | None = None  # the drain goes on in the loop's next round
        self._paused = 0.0  # when it stopped, in seconds that this thread has worked
        self._woken = False
        self._broken: list[Runnable] = []
        self._cancelling = False
        self._heart: TimerHandle | None = None
        serve(loop, self)

    @property
    def timers(self) -> Timers:
        """Timers on the same loop."""
        return self._timers

    def running(self) -> bool:
        """Whether the loop runs, so that a shutdown can be handled."""
        return self.loop.is_running()

    def inline(self) -> bool:
        """True on the loop's thread, unless too many starts are inside each other there."""
        return running_loop() is self.loop and self._depth < _DEEPEST

    def launch(self, runnable: Runnable, /) -> bool:
        """Give the first turn: at once on the loop's thread, soon from another."""
        runnable.lane = self
        if not self.inline():
            self.schedule(runnable)
            return False
        if self._heart is None:
            self._await_beat(weakref.ref(self))
        outermost, self._draining = not self._draining, True
        self._depth += 1
        try:
            if runnable.turn():
                self._ready.append(runnable)
        except RecursionError:
            self._note_broken(runnable)
            raise
        finally:
            self._depth -= 1
            if outermost:
                self._draining = False
                if self._due is None:
                    Context().run(self._drain)
        return True

    def schedule(self, runnable: Runnable, /) -> None:
        """Put it on the ready queue, and see that the queue is drained."""
        self._ready.append(runnable)
        if running_loop() is self.loop:
            if not self._draining and self._due is None:
                Context().run(self._drain)
        elif not self._woken:
            self._wake()

    def urge(self, runnable: Runnable, /) -> None:
        """Do nothing: a loop has one thread."""

    def rescue(self, stranded: Sequence[Runnable], /) -> None:
        """Put those on the ready queue that are not on it, and wake the loop."""
        waiting = set(self._ready.copy())
        self._ready.extend(runnable for runnable in stranded if runnable not in waiting)
        self._wake()

    def retire(self, runnable: Runnable, busy: bool, /) -> None:
        """Do nothing: its place in the queue is passed over."""

    def hold(self, runnable: Runnable, function: Callable[..., T], *args: Any) -> T:
        """Run a step of an actor's coroutine, on the loop's thread; what it puts into mailboxes is handled after it."""
        if self._draining:
            return function(*args)
        self._draining = True
        before = 0.0 if self._slow is None else time.perf_counter()
        try:
            return function(*args)
        finally:
            self._draining = False
            if self._slow is not None and (took := time.perf_counter() - before) > self._slow:
                events.emit(events.SlowTurn(runnable.name, took))
            if self._ready and self._due is None:
                self._due = self.loop.call_soon(self._go_on, context=Context())

    def _wake(self) -> None:
        try:
            self._woken = True
            told = call_soon(self.loop, self._come)
        except BaseException:  # the caller was interrupted, or is at its recursion limit: the next one wakes the loop
            self._woken = False
            raise
        if not told:
            self._woken = False
            self._cancel_all()

    def catch_up(self, done: Callable[[], bool]) -> None:
        """Somebody outside of handlers waits on the loop's thread: go on now, slice or no slice; to an end, whatever actors do."""
        for _ in range(_CATCHES):
            if done() or self._draining or not self._ready:
                return
            self._drain(math.inf)

    def _come(self) -> None:
        if self._heart is None:
            _beat(weakref.ref(self))
        if self._due is None:
            self._drain(clock.now() + _SLICE)
        else:
            self._woken = False  # what comes meanwhile wakes again

    def _go_on(self) -> None:
        self._due = None
        others = clock.worked() - self._paused
        self._drain(clock.now() + max(_SLICE, min(others, _LONGEST)))

    def keep_beating(self, me: weakref.ref[LoopDispatcher]) -> None:
        """The heart's next beat, and this one: on the loop's thread."""
        self._await_beat(me)
        pulse()
        if self._due is not None:  # an interruption may have left it so
            self._due.cancel()
            self._due = None
        mend_all(self._broken)
        if self._ready:
            self._drain(clock.now() + _SLICE)

    def _await_beat(self, me: weakref.ref[LoopDispatcher]) -> None:
        self._heart = self.loop.call_later(PULSE, _beat, me, context=Context())

    def _drain(self, end: float = 0.0) -> None:
        # Lowered before the queue is looked at: whoever appends later and finds it lowered wakes again.
        self._woken = False
        self._draining = True
        ready, slow = self._ready, self._slow
        runnable = None
        try:
            for _ in range(_TURNS if ready else 0):
                runnable = ready.popleft()
                # One that has no mail was scheduled once too often.
                due = runnable.flag.locked() or runnable.claim()
                if due and (runnable.turn() if slow is None else self._timed(runnable, slow)):
                    ready.append(runnable)
                elif not ready:
                    return
                if end == 0.0:  # one turn alone looks at no clock
                    end = clock.now() + _SLICE
                elif clock.now() > end:
                    return
        except RecursionError:
            self._note_broken(runnable)
            raise
        finally:
            self._draining = False
            if ready and self._due is None:
                self._paused = clock.worked()
                self._due = self.loop.call_soon(self._go_on, context=Context())

    def _note_broken(self, runnable: Runnable | None) -> None:
        """Who told it stands too deep even for its end: that comes from the next beat."""
        if runnable is not None:
            self._broken.append(runnable)

    def _timed(self, runnable: Runnable, slow: float) -> bool:
        before = time.perf_counter()
        more = runnable.turn()
        took = time.perf_counter() - before
        if took > slow:
            events.emit(events.SlowTurn(runnable.name, took))
        return more

    def _cancel_all(self) -> None:
        if self._cancelling:
            return
        self._cancelling = True
        try:
            while self._ready:
                self._ready.popleft().cancel(Exit("killed", "the event loop is closed"))
        except IndexError:
            pass  # another thread does the same
        finally:
            self._cancelling = False


def _beat(dispatcher: weakref.ref[LoopDispatcher]) -> None:
    """A beat keeps no dispatcher alive."""
    if (found := dispatcher()) is not None:
        found.keep_beating(dispatcher)


class ThreadDispatcher:
    """A daemon thread for each actor: for handlers that block."""

    @property
    def timers(self) -> Timers:
        """The shared timer thread."""
        return shared_timers()

    def inline(self) -> bool:
        """False: the first turn is the new thread's."""
        return False

    def launch(self, runnable: Runnable, /) -> bool:
        """Start its thread; a refusal by the system ends the actor with an ``error`` exit."""
        own = _OwnThread(runnable)
        runnable.lane = own
        try:
            refusal = start_thread(threading.Thread(target=own.run, name=runnable.name, daemon=True))
        except BaseException as error:
            runnable.cancel(refused(error))
            raise
        if refusal is not None:
            runnable.cancel(refusal)
        return False


class _OwnThread:
    """The lane of one actor: its thread waits on a lock between turns."""

    def __init__(self, runnable: Runnable) -> None:
        self._runnable = runnable
        self._wake = threading.Lock()
        self._wake.acquire()

    def schedule(self, runnable: Runnable, /) -> None:
        """Let the thread go on; at most once between two turns, by the run flag."""
        self._go_on()

    def retire(self, runnable: Runnable, busy: bool, /) -> None:
        """Let the thread come to its end, if it waits; one that was busy just now may do so, too."""
        self._go_on()

    def urge(self, runnable: Runnable, /) -> None:
        """Do nothing: the thread is its own."""

    def rescue(self, stranded: Sequence[Runnable], /) -> None:
        """Let the thread look."""
        self._go_on()

    def _go_on(self) -> None:
        lower(self._wake)  # it may have been told so already

    def run(self) -> None:
        """The thread."""
        runnable = self._runnable
        while runnable.exit is None:
            due = runnable.flag.locked() or runnable.claim()
            if not (due and runnable.turn()) and runnable.exit is None:
                self._wake.acquire()
