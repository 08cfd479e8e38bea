"""Messages in the future. Three backends: an event loop, one heap-based thread, and a hand-driven clock for tests.

A timer tells the message to the actor; an actor that is gone by then is no error. Delays are seconds. A timer that an actor
sets for itself ends with its incarnation: the next one, on a mailbox that is kept, hears nothing of it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from pykka import ActorRef

from allm.supervisors import log
from allm.supervisors.clock import clock
from allm.supervisors.exits import text_of
from allm.supervisors.here import on_loop, threaded
from allm.supervisors.ticks import Clock, Timer, checked, interval_of, seconds_of

__all__ = ["LoopTimers", "ManualTimers", "ThreadTimers", "TimerRef", "Timers", "shared_timers"]

_LONGEST = 3600.0
"""Seconds a thread waits at once: there are times in the future that the system cannot wait for."""


class TimerRef(Protocol):
    """A message that waits for its time."""

    def cancel(self) -> float | None:
        """Take it back: the seconds that were left, or None when it was sent or cancelled before."""
        ...

    def remaining(self) -> float | None:
        """The seconds left, or None when it was sent or cancelled."""
        ...


class Timers(Protocol):
    """A source of delayed messages. Any thread may use it.

    What is no number of seconds (NaN, None, text), or no ref, is refused at once: `TypeError`, or `ValueError`.
    """

    def now(self) -> float:
        """The time of this source, in seconds."""
        ...

    def send_after(self, delay: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        """Tell `message` to `ref` once, `delay` seconds from now."""
        ...

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        """Tell it at `when`, a time as `now` gives it."""
        ...

    def send_every(self, interval: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        """Tell `message` to `ref` again and again, `interval` seconds apart, until it is cancelled or the actor has ended.

        Times that have passed unused, as with a loop that was held, are left out. ``remaining`` is the time to the next one.
        """
        ...


class _LoopTimer(Timer):
    __slots__ = ("handle", "loop")

    def __init__(self, when: float, ref: ActorRef[Any], message: Any, loop: AbstractEventLoop, interval: float = 0.0) -> None:
        super().__init__(when, ref, message, loop.time, interval)
        self.loop = loop
        self.handle: TimerHandle | None = None

    def arm(self) -> None:
        if self._open:
            self.handle = self.loop.call_at(self.when, self.fire, context=Context())

    def fire(self) -> None:
        self.handle = None  # which refers to this
        super().fire()

    def _again(self) -> None:
        self.arm()

    def cancel(self) -> float | None:
        left = super().cancel()
        if left is not None and self.handle is not None:
            on_loop(self.loop, self.handle.cancel)
        return left


class LoopTimers:
    """Timers of an asyncio loop; from its own thread they cost a `call_later`."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()

    def send_after(self, delay: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        return self.send_at(self._loop.time() + seconds_of(delay, "delay"), ref, message)

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        timer = _LoopTimer(seconds_of(when, "when"), checked(ref), message, self._loop)
        on_loop(self._loop, timer.arm)
        return timer

    def send_every(self, interval: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        interval = interval_of(interval)
        timer = _LoopTimer(self._loop.time() + interval, checked(ref), message, self._loop, interval)
        on_loop(self._loop, timer.arm)
        return timer


class _ThreadTimer(Timer):
    __slots__ = ("home",)

    def __init__(self, when: float, ref: ActorRef[Any] | None, message: Any, home: ThreadTimers, interval: float = 0.0) -> None:
        super().__init__(when, ref, message, home.now, interval)
        self.home = home

    def _again(self) -> None:
        self.home.add(self)

    def cancel(self) -> float | None:
        left = super().cancel()
        if left is not None:
            self.home.cancelled()
        return left


class _ThreadCall(_ThreadTimer):
    """A function in the place of a message."""

    __slots__ = ("_function",)

    def __init__(self, when: float, function: Callable[[], object], home: ThreadTimers) -> None:
        super().__init__(when, None, None, home)
        self._function: Callable[[], object] | None = function

    def fire(self) -> None:
        function = self._function
        if self._settle() and function is not None:
            try:
                function()
            except Exception as error:
                log.error("timer_failed", error=text_of(error, repr))

    def _settle(self) -> bool:
        settled = super()._settle()
        if settled:
            self._function = None
        return settled


class ThreadTimers:
    """Timers of one daemon thread and a heap (3.5 us a timer; a threading.Timer is 320 us and a thread each).

    The thread starts with the first timer and ends `linger` seconds after the last.
    """

    def __init__(self, clock: Clock = clock.now, *, linger: float = 0.2) -> None:
        self._clock = clock
        self._linger = linger
        self._heap: list[tuple[float, int, _ThreadTimer]] = []
        self._cancelled = 0
        self._order = itertools.count()
        # Held by its own `with`, never by the condition's: an exception may arrive in the condition's `__enter__`, which is no C.
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        threaded.add(self)

    def after_fork(self) -> None:
        """The child has neither the parent's timer thread nor its timers."""
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._thread, self._heap, self._cancelled = None, [], 0

    def help(self) -> bool:
        """Send what is due on the calling thread, if there is no thread to do it."""
        with self._lock:
            due = self._thread is None and bool(self._heap) and self._heap[0][0] <= self._clock()
            timer = heapq.heappop(self._heap)[2] if due else None
        if timer is not None:
            timer.fire()
        return timer is not None

    def now(self) -> float:
        return self._clock()

    def send_after(self, delay: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        return self.send_at(self._clock() + seconds_of(delay, "delay"), ref, message)

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        return self.add(_ThreadTimer(seconds_of(when, "when"), checked(ref), message, self))

    def send_every(self, interval: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        interval = interval_of(interval)
        return self.add(_ThreadTimer(self._clock() + interval, checked(ref), message, self, interval))

    def call_after(self, delay: float, function: Callable[[], object]) -> TimerRef:
        """Call a function on the thread of the timers, `delay` seconds from now: it must not block."""
        return self.add(_ThreadCall(self._clock() + delay, function, self))

    def add(self, timer: _ThreadTimer) -> TimerRef:
        """Have a timer sent at its time."""
        with self._lock:
            heapq.heappush(self._heap, (timer.when, next(self._order), timer))
            if self._thread is None:
                self._start()
            elif self._heap[0][2] is timer:
                self._wake.notify()
        return timer

    def look(self) -> None:
        """Start the thread that an interrupted one did not."""
        with self._lock:
            if self._heap and (self._thread is None or not self._thread.is_alive()):
                self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        try:
            self._thread.start()
        except RecursionError:
            self._thread = None
            raise
        except RuntimeError:  # refused, as at the end of the program: the next timer, or `help`, tries again
            self._thread = None

    def cancelled(self) -> None:
        """A timer was taken back: forget those when they are many, and do not wait for one."""
        with self._lock:
            self._cancelled += 1
            first = bool(self._heap) and self._heap[0][2].remaining() is None
            if self._cancelled * 2 > len(self._heap) + 64:
                self._heap = [entry for entry in self._heap if entry[2].remaining() is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0
            if first:
                self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                timer = self._next()
                if self._thread is None:
                    return
            if timer is not None:
                try:
                    timer.fire()
                except BaseException as error:  # the timers of others go on
                    log.error("timer_failed", error=text_of(error, repr))

    def _next(self) -> _ThreadTimer | None:
        """The timer that is due; None after a wait, which may have been the last of this thread."""
        while self._heap and self._heap[0][2].remaining() is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        left = self._heap[0][0] - self._clock() if self._heap else None
        if left is not None and left <= 0:
            return heapq.heappop(self._heap)[2]
        if not self._wake.wait(self._linger if left is None else min(left, _LONGEST)) and not self._heap:
            self._thread = None
        return None


class _ManualTimer(Timer):
    __slots__ = ("home",)

    def __init__(self, when: float, ref: ActorRef[Any], message: Any, home: ManualTimers, interval: float = 0.0) -> None:
        super().__init__(when, ref, message, home.now, interval)
        self.home = home

    def _again(self) -> None:
        self.home.add(self)


class ManualTimers:
    """A clock that stands still until `advance`: for tests of whoever uses timers."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._heap: list[tuple[float, int, _ManualTimer]] = []

    def now(self) -> float:
        return self._now

    def send_after(self, delay: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        return self.send_at(self._now + seconds_of(delay, "delay"), ref, message)

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        return self.add(_ManualTimer(seconds_of(when, "when"), checked(ref), message, self))

    def send_every(self, interval: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        interval = interval_of(interval)
        return self.add(_ManualTimer(self._now + interval, checked(ref), message, self, interval))

    def add(self, timer: _ManualTimer) -> TimerRef:
        """Have a timer sent at its time."""
        heapq.heappush(self._heap, (timer.when, next(self._order), timer))
        return timer

    def pending(self) -> list[float]:
        """The seconds left of every timer that waits, the nearest first."""
        return sorted(left for _, _, timer in self._heap if (left := timer.remaining()) is not None)

    def advance(self, seconds: float) -> None:
        """Move the clock and send what is due, in order."""
        end = self._now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, timer = heapq.heappop(self._heap)
            self._now = max(self._now, when)
            timer.fire()
        self._now = end


_shared: list[ThreadTimers] = []


def shared_timers() -> ThreadTimers:
    """The timer thread of this process, made when first asked for."""
    if not _shared:
        _shared.append(ThreadTimers())
    return _shared[0]
