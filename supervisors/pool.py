"""A pool of worker threads: an idle actor holds no thread, and a worker that waits for a reply lends its place."""

from __future__ import annotations

import os
import threading
from collections import deque

from allm.supervisors.exits import Exit
from allm.supervisors.here import exiting, here, threaded
from allm.supervisors.lanes import Runnable
from allm.supervisors.timers import Timers, shared_timers

__all__ = ["PoolDispatcher", "refused"]


class PoolDispatcher:
    """At most `size` workers that do not wait; each ends after `idle` seconds without work, or by `close`."""

    def __init__(self, size: int | None = None, *, idle: float = 2.0, name: str = "pool") -> None:
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self.size = size or min(32, (os.cpu_count() or 1) + 4)
        self._idle = idle
        self._name = name
        self._lock = threading.RLock()  # a finaliser may run inside, and tell somebody
        self._ready: deque[Runnable] = deque()
        self._parked: list[threading.Lock] = []
        self._workers = 0
        self._waiting = 0
        self._lost: set[int] = set()  # abandoned, and still in a handler
        threaded.add(self)

    def close(self) -> None:
        """Keep no idle worker from now on: those that wait for work end at once, the others after theirs.

        What is scheduled later still gets its turn, by a worker that ends after it.
        """
        with self._lock:
            self._idle = 0.0
            parked, self._parked = self._parked, []
        for gate in parked:
            gate.release()

    def after_fork(self) -> None:
        """The child has none of the parent's workers."""
        self._lock = threading.RLock()  # a finaliser may run inside, and tell somebody
        self._ready, self._parked, self._lost = deque(), [], set()
        self._workers = self._waiting = 0

    def help(self) -> bool:
        """Give one turn on the calling thread, if no worker is there to do it."""
        if self._workers > self._waiting or not self._ready:
            return False
        try:
            runnable = self._ready.popleft()
        except IndexError:
            return False
        if runnable.turn():
            self._ready.append(runnable)
        return True

    @property
    def timers(self) -> Timers:
        """The shared timer thread."""
        return shared_timers()

    @property
    def workers(self) -> int:
        """Threads alive now, those that wait included."""
        return self._workers

    def inline(self) -> bool:
        """Never."""
        return False

    def launch(self, runnable: Runnable, /) -> bool:
        """Queue its first turn."""
        runnable.lane = self
        self.schedule(runnable)
        return False

    def schedule(self, runnable: Runnable, /) -> None:
        """Queue a turn, and see that a worker takes it."""
        self._ready.append(runnable)
        self._staff()

    def retire(self, runnable: Runnable, busy: bool, /) -> None:
        """A worker that is in the dead actor's handler may stay there: another takes its place meanwhile."""
        if busy:
            with self._lock:
                self._lost.add(id(runnable))
            self.lend()
            if not runnable.busy:  # the handler ended while it was being killed: its worker may not have seen it
                self._found(runnable)

    def lend(self) -> None:
        """The calling worker starts to wait: another may take its place."""
        with self._lock:
            self._waiting += 1
        if self._ready:
            self._staff()

    def reclaim(self) -> None:
        """The calling worker goes on; surplus workers end when idle."""
        with self._lock:
            self._waiting -= 1

    def _staff(self) -> None:
        with self._lock:
            if self._parked:
                self._parked.pop().release()
                return
            if self._workers - self._waiting >= self.size:
                return
            self._workers += 1
        self._hire()

    def _hire(self) -> None:
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._workers -= 1
                stranded = list(self._ready) if self._workers == 0 and not exiting else []
                if stranded:
                    self._ready.clear()
            for runnable in stranded:  # nobody is left to run them
                runnable.cancel(refused(error))

    def _run(self) -> None:
        here.lender = self
        gate = threading.Lock()
        gate.acquire()
        while True:
            try:
                runnable = self._ready.popleft()
            except IndexError:
                if not self._park(gate):
                    return
                continue
            if runnable.turn():
                self.schedule(runnable)
            elif self._lost:
                self._found(runnable)

    def _found(self, runnable: Runnable) -> None:
        """An abandoned handler ended after all: its worker counts again."""
        with self._lock:
            if id(runnable) in self._lost:
                self._lost.discard(id(runnable))
                self._waiting -= 1

    def _park(self, gate: threading.Lock) -> bool:
        """Wait for work; False when this worker should end."""
        with self._lock:
            if self._ready:
                return True
            if self._workers - self._waiting > self.size:
                self._workers -= 1
                return False
            self._parked.append(gate)
        if gate.acquire(timeout=self._idle):
            return True
        with self._lock:
            if gate in self._parked:
                self._parked.remove(gate)
                self._workers -= 1
                return False
        gate.acquire()
        return True


def refused(error: BaseException) -> Exit:
    """The exit of an actor that got no thread."""
    return Exit("error", {"type": "ThreadRefused", "message": str(error), "trace": ""})
