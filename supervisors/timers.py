"""Messages in the future. Three backends: an event loop, one heap-based thread, and a hand-driven clock for tests.

A timer tells the message to the actor; an actor that is gone by then is no error. Delays are seconds.
"""

from __future__ import annotations

import heapq
import itertools
import numbers
import threading
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol, cast

from pykka import ActorDeadError, ActorRef

from allm.supervisors import log
from allm.supervisors.clock import clock
from allm.supervisors.exits import text_of
from allm.supervisors.here import on_loop, threaded

__all__ = ["Clock", "LoopTimers", "ManualTimers", "ThreadTimers", "TimerRef", "Timers", "shared_timers"]

Clock = Callable[[], float]

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


class _Timer:
    __slots__ = ("_clock", "_message", "_open", "_ref", "when")

    def __init__(self, when: float, ref: ActorRef[Any], message: Any, clock: Clock) -> None:
        self.when = when
        self._ref: ActorRef[Any] | None = ref
        self._message = message
        self._clock = clock
        self._open = [True]  # popped by whoever settles it: list.pop is atomic

    def fire(self) -> None:
        ref, message = self._ref, self._message
        if self._settle() and ref is not None:
            try:
                deliver(ref, message)
            except Exception as error:  # this timer's own affair
                log.error("timer_failed", error=text_of(error, repr))

    def cancel(self) -> float | None:
        left = max(0.0, self.when - self._clock())
        return left if self._settle() else None

    def remaining(self) -> float | None:
        return max(0.0, self.when - self._clock()) if self._open else None

    def _settle(self) -> bool:
        try:
            self._open.pop()
        except IndexError:
            return False
        self._ref = self._message = None
        return True


def deliver(ref: ActorRef[Any], message: Any) -> None:
    """Tell it, dead or alive: nobody is there to hear of the failure."""
    put: Callable[[Any], None] | None = getattr(ref.actor_inbox, "put_message", None)
    if put is not None:  # not counted by a bound; and a supervisor on its way down still keeps its deadlines
        put(message)
        return
    try:
        ref.tell(message)
    except ActorDeadError:
        return
    except BaseException as error:  # an actor of another kind: whoever delivers is nobody whom that may end
        log.error("not_delivered", actor=text_of(ref), error=text_of(error, repr))


def _real(seconds: object, what: str) -> float:
    """The number, if it is one that times can be compared with: a heap that holds another is of no use to anybody."""
    if not isinstance(seconds, (float, int)) and not isinstance(seconds, numbers.Real):
        raise TypeError(f"{what} is a number of seconds, not {type(seconds).__name__}")
    try:
        real = float(seconds)
    except OverflowError:
        raise ValueError(f"{what} is too long") from None
    if real != real:
        raise ValueError(f"{what} is a number of seconds, not NaN")
    return real


def _checked(ref: object) -> ActorRef[Any]:
    if not isinstance(ref, ActorRef):
        raise TypeError(f"a timer tells a message to the ref of an actor, not to {type(ref).__name__}")
    return cast("ActorRef[Any]", ref)


class _LoopTimer(_Timer):
    __slots__ = ("handle", "loop")

    def __init__(self, when: float, ref: ActorRef[Any], message: Any, loop: AbstractEventLoop) -> None:
        super().__init__(when, ref, message, loop.time)
        self.loop = loop
        self.handle: TimerHandle | None = None

    def arm(self) -> None:
        if self._open:
            self.handle = self.loop.call_at(self.when, self.fire, context=Context())

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
        return self.send_at(self._loop.time() + _real(delay, "delay"), ref, message)

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        timer = _LoopTimer(_real(when, "when"), _checked(ref), message, self._loop)
        on_loop(self._loop, timer.arm)
        return timer


class _ThreadTimer(_Timer):
    __slots__ = ("home",)

    def __init__(self, when: float, ref: ActorRef[Any], message: Any, home: ThreadTimers) -> None:
        super().__init__(when, ref, message, home.now)
        self.home = home

    def cancel(self) -> float | None:
        left = super().cancel()
        if left is not None:
            self.home.cancelled()
        return left


class ThreadTimers:
    """One daemon thread and a heap (3.5 us a timer; a threading.Timer is 320 us and a thread each).

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
        return self.send_at(self._clock() + _real(delay, "delay"), ref, message)

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        timer = _ThreadTimer(_real(when, "when"), _checked(ref), message, self)
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


class ManualTimers:
    """A clock that stands still until `advance`: for tests of whoever uses timers."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._heap: list[tuple[float, int, _Timer]] = []

    def now(self) -> float:
        return self._now

    def send_after(self, delay: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        return self.send_at(self._now + _real(delay, "delay"), ref, message)

    def send_at(self, when: float, ref: ActorRef[Any], message: Any) -> TimerRef:
        timer = _Timer(_real(when, "when"), _checked(ref), message, self.now)
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
