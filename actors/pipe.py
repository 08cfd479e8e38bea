"""The hand-over of events from the loop's thread to one consumer: batches in, a wake-up only if somebody waits.

The producer appends a batch and wakes; the consumer registers a waiter first and looks again after, so that no wake-up is lost, and
no lock is taken. A consumer is a thread (a raw lock: 0.4 us against 17 for a callback per event) or a task of any asyncio loop.
"""

import asyncio
import copy
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from allm.actors.bridge import Bridge, bridge_of
from allm.errors import AllmError, StreamError
from allm.events import Event
from allm.limits import limits
from allm.responses import Response
from allm.supervisors.exits import CallTimeout
from allm.supervisors.here import waiting
from allm.supervisors.pulse import acquire

__all__ = ["LIMIT", "Pipe"]

LIMIT = 1000
"""Events that wait for the consumer at most; beyond it the reader pauses. So it does beyond `limits().waiting` bytes of them."""


class Pipe:
    """What a call gives to its stream. `put`, `finish` on the loop; `wait`, `wait_async`, `take` by the consumer."""

    __slots__ = ("_batches", "_bridge", "_bytes", "_most", "_resume", "_size", "_waiters", "done", "error", "live", "response")

    def __init__(self, live: bool) -> None:
        self._batches: deque[tuple[list[Event], int]] = deque()
        self._waiters: deque[Callable[[], None]] = deque()
        self._resume: Callable[[], object] | None = None
        self._bridge: Bridge | None = None  # to the loop that waited last
        self._size = 0
        self._bytes = 0
        self._most = limits().waiting
        self.live = live
        """Whether anybody wants the events; a fold waits for the end only."""
        self.done = False
        self.response: Response | None = None
        self.error: AllmError | None = None

    @property
    def full(self) -> bool:
        """Whether the reader must pause."""
        return (self._size >= LIMIT or self._bytes >= self._most) and self.live

    @property
    def empty(self) -> bool:
        """Whether no event waits."""
        return not self._batches

    def put(self, events: list[Event], size: int = 0) -> None:
        """A batch, which was made of `size` bytes. On the loop's thread."""
        if self.live:
            self._size += len(events)
            self._bytes += size
            self._batches.append((events, size))
            if self._waiters:
                self._wake()

    def finish(self, response: Response | None, error: AllmError | None) -> None:
        """The end: a response, or an error that iteration raises after the last event. The first end counts."""
        if not self.done:
            self.response, self.error = response, error
            self.done = True
            self._wake()

    def check(self) -> None:
        """Raises what it ended with, if that is an error: a copy, as what was raised refers to frames, and these to this pipe."""
        if self.error is not None:
            raise copy.copy(self.error)

    def when_resumed(self, resume: Callable[[], object]) -> None:
        """Call `resume` (from the consumer's thread) once there is room again."""
        self._resume = resume
        if not self.full or not self.live:
            self._resumed()

    def fold_only(self) -> None:
        """From here on nobody wants the events."""
        self.live = False
        self._batches.clear()
        self._size = self._bytes = 0
        self._resumed()

    def take(self) -> list[Event] | None:
        """The next batch, None if there is none now. It no longer counts against the limit."""
        if not self._batches:
            return None
        try:
            batch, size = self._batches.popleft()
        except IndexError:
            return None  # another consumer was faster
        # Not atomic with the producer's `+=`: both run under the GIL but may interleave, so the size is counted anew when none is left.
        if self._batches:
            self._size -= len(batch)
            self._bytes -= size
        else:
            self._size = self._bytes = 0
        if self._resume is not None and self._size < LIMIT and self._bytes < self._most:
            self._resumed()
        return batch

    def wait(self) -> None:
        """Block until there may be something to take, or the end. Any thread but the loop's own."""
        gate = threading.Lock()
        gate.acquire()
        self._waiters.append(gate.release)
        if self._batches or self.done:
            self._forget(gate.release)
        else:  # whoever wakes us takes us off the list; a worker of a pool lends its place meanwhile
            with waiting(None, "waiting for a call"):
                try:
                    acquire(gate, None, lambda: self._batches or self.done)
                except CallTimeout:
                    self.finish(None, StreamError("cancelled", "this runtime was stopped: the interpreter is ending"))

    async def wait_async(self) -> None:
        """The same for a task of the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        bridge = self._bridge
        if bridge is None or not bridge.leads_to(loop):
            bridge = self._bridge = bridge_of(loop)
        wake = partial(bridge.settle, future)
        self._waiters.append(wake)
        if self._batches or self.done:
            self._forget(wake)
            return
        try:
            await future
        except BaseException:
            self._forget(wake)
            raise

    def when_done(self, tell: Callable[[], None]) -> None:
        """Call `tell` at the end, once: from the loop's thread, or here if it has ended. Only where nobody wants the events."""
        self._waiters.append(tell)
        if self.done:
            try:
                self._waiters.remove(tell)
            except ValueError:
                return  # it was told
            tell()

    def _wake(self) -> None:
        waiters = self._waiters
        while waiters:
            try:
                wake = waiters.popleft()
            except IndexError:
                return
            wake()

    def _forget(self, waiter: Callable[[], None]) -> None:
        try:
            self._waiters.remove(waiter)
        except ValueError:
            pass  # it was woken

    def _resumed(self) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            resume()
