"""A pool of worker threads: an idle actor holds no thread, and a worker that waits for a reply lends its place."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence

from allm.supervisors.clock import clock
from allm.supervisors.exits import Exit
from allm.supervisors.here import exiting, here, threaded
from allm.supervisors.lanes import Runnable
from allm.supervisors.timers import Timers, shared_timers

__all__ = ["PoolDispatcher", "refused", "start_thread"]

_SPARE = 6
"""Workers beyond the pool's size that it may have for what is urgent, or as many as the pool is large: supervisors' hooks, and what starts
their children, may wait for one another."""
_PATIENCE = 0.002
"""Seconds in which somebody takes the next turn, unless all workers are in handlers that take long."""
_LONG = 25
"""Looks after which what is urgent comes first in any case."""
_QUIET = 50
"""Looks at an empty queue after which nobody looks any more, until all workers are in handlers again."""
_STARTING = 5.0
"""Seconds in which a thread has started; one that has not was given up by whoever was to start it."""


class PoolDispatcher:
    """At most `size` workers that do not wait; each ends after `idle` seconds without work, or by `close`.

    Handlers that hang hold up no supervisor, so that what is late is killed in time, and no idle actor that has got an order to end.
    While all workers are in handlers a foreman looks every 2 ms: if nobody took a turn since, spare workers give turns to these,
    and to them alone. (Workers of their own for supervisors cost 150 us for each end of a child: two threads that pass the interpreter
    to and fro.)
    """

    def __init__(self, size: int | None = None, *, idle: float = 2.0, name: str = "pool") -> None:
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self.size = size or min(32, (os.cpu_count() or 1) + 4)
        self._idle = idle
        self._name = name
        self._lock = threading.RLock()  # a finaliser may run inside, and tell somebody
        self._ready: deque[Runnable] = deque()
        self._urgent: deque[Runnable] = deque()  # to be taken first; they are in the queue as well
        self._sparing = False  # there may be spare workers
        self._foreman: threading.Thread | None = None
        self._parked: list[threading.Lock] = []
        self._crew: dict[threading.Thread, float] = {}  # and when they were hired
        self._running: dict[Runnable, threading.Lock] = {}  # in a turn, each by the gate of its worker
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
        self._ready, self._urgent, self._parked, self._lost = deque(), deque(), [], set()
        self._crew, self._running = {}, {}
        self._waiting, self._foreman = 0, None

    def help(self) -> bool:
        """Give one turn on the calling thread, if no worker is there to do it."""
        if self.workers > self._waiting:
            return False
        try:
            runnable = (self._urgent or self._ready).popleft()
        except IndexError:
            return False
        if self._turn(runnable, threading.Lock()):
            self._ready.append(runnable)
        return True

    def look(self) -> None:
        """Have a worker for what waits: who scheduled it may have been interrupted before there was one."""
        if not self._ready and not self._urgent:
            return
        with self._lock:
            late = clock.now() - _STARTING
            for thread in [each for each, hired in self._crew.items() if hired < late and not each.is_alive()]:
                del self._crew[thread]
            if self._foreman is not None and not self._foreman.is_alive():
                self._foreman = None
        self._staff(pressing=True)

    @property
    def timers(self) -> Timers:
        """The shared timer thread."""
        return shared_timers()

    @property
    def workers(self) -> int:
        """Threads alive now, those that wait and spare ones included."""
        return len(self._crew)

    def inline(self) -> bool:
        """Never."""
        return False

    def launch(self, runnable: Runnable, /) -> bool:
        """Queue its first turn."""
        runnable.lane = lane = _Front(self) if runnable.leads else self
        lane.schedule(runnable)
        return False

    def schedule(self, runnable: Runnable, /) -> None:
        """Queue a turn, and see that a worker takes it."""
        self._ready.append(runnable)
        self._staff()

    def urge(self, runnable: Runnable, /) -> None:
        """See that its turn comes though all workers are in handlers."""
        if self._foreman is None and runnable.busy is None and not self._parked and self._working >= self.size:
            self._staff(pressing=True)

    def press(self, runnable: Runnable, /) -> None:
        """Queue a turn that comes though all workers are in handlers."""
        self._ready.append(runnable)
        self._staff(pressing=True)

    def rescue(self, stranded: Sequence[Runnable], /) -> None:
        """Queue those that are not in the queue."""
        waiting = set(self._ready.copy())
        for runnable in stranded:
            if runnable not in waiting:
                runnable.lane.schedule(runnable)

    def retire(self, runnable: Runnable, busy: bool, /) -> None:
        """A worker that is in the dead actor's handler may stay there: another takes its place meanwhile."""
        if busy:
            self.replace(runnable)

    def replace(self, runnable: Runnable, /) -> bool:
        """Give the place of the worker that is in this actor's handler to another until its turn is over; False if it was done before."""
        with self._lock:
            if id(runnable) in self._lost:
                return False
            self._lost.add(id(runnable))
            self._waiting += 1
        if self._ready:
            self._staff()
        if not runnable.busy:  # the handler ended meanwhile: its worker may not have seen it
            self._found(runnable)
        return True

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

    @property
    def _working(self) -> int:
        """Workers that do not wait."""
        return len(self._crew) - self._waiting

    def _staff(self, spare: int = 0, *, pressing: bool = False) -> None:
        with self._lock:
            if self._parked:
                self._parked.pop().release()
                return
            if len(self._crew) - self._waiting >= self.size + spare:
                if not pressing or self._foreman is not None:
                    return
                worker = self._foreman = threading.Thread(target=self._watch, name=f"{self._name} foreman", daemon=True)
            else:
                worker = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._crew[worker] = clock.now()
        try:
            refusal = start_thread(worker)
        except BaseException:
            if worker.ident is None:
                self._crew.pop(worker, None)
            raise
        if refusal is not None and worker is not self._foreman:  # without one, the next pulse looks
            self._not_hired(worker, refusal)

    def _watch(self) -> None:
        """The foreman: what is urgent comes first whenever nobody took a turn between two looks, and once in a while in any case."""
        quiet, looks, pause = 0, 0, _PATIENCE
        while quiet < _QUIET:
            before = self._head()
            time.sleep(pause)
            head, pause = self._head(), _PATIENCE
            looks, quiet = looks + 1, 0 if head is not None else quiet + 1
            if head is not None and (head is before or looks % _LONG == 0):
                began = clock.worked()
                self._put_first()
                pause = max(_PATIENCE, 10 * (clock.worked() - began))  # of a long queue
        with self._lock:
            self._foreman = None
        if self._ready:  # it came in this moment
            self._staff(pressing=True)

    def _head(self) -> Runnable | None:
        try:
            return self._ready[0]
        except IndexError:
            return None

    def _put_first(self) -> None:
        known = set(self._urgent.copy())
        self._urgent.extend([each for each in self._ready.copy() if each.urgent and each not in known])
        if self._urgent:
            self._sparing = True
            self._staff(max(self.size, _SPARE))

    def _not_hired(self, worker: threading.Thread, refusal: Exit) -> None:
        with self._lock:
            self._crew.pop(worker, None)
            stranded = list(self._ready) if not self._crew and not exiting else []
            if stranded:
                self._urgent.clear()
                self._ready.clear()
        for runnable in stranded:  # nobody is left to run them
            runnable.cancel(refusal)

    def _run(self) -> None:
        here.lender = self
        gate = threading.Lock()
        gate.acquire()
        while True:
            try:
                runnable = self._next() if self._urgent or self._sparing else self._ready.popleft()
            except IndexError:
                if (next_gate := self._park(gate)) is None:
                    return
                gate = next_gate
                continue
            if self._turn(runnable, gate):
                self.schedule(runnable)

    def _next(self) -> Runnable:
        """Take who is to have the next turn; raises IndexError when there is none, or none for a spare worker."""
        if self._urgent:
            try:
                return self._urgent.popleft()
            except IndexError:
                pass
        if self._working > self.size:
            raise IndexError
        return self._ready.popleft()

    def _turn(self, runnable: Runnable, gate: threading.Lock) -> bool:
        """Give it a turn unless another worker does: True if it needs another.

        Whoever schedules it in the moment between its parking and the end of its turn here may be passed over; that is seen at the end.
        """
        if self._running.setdefault(runnable, gate) is not gate:
            return False
        try:
            more = (runnable.flag.locked() or runnable.claim()) and runnable.turn()
        finally:
            self._running.pop(runnable, None)
            if self._lost:
                self._found(runnable)
        return more or (runnable.exit is None and runnable.flag.locked())

    def _found(self, runnable: Runnable) -> None:
        """An abandoned handler ended after all: its worker counts again."""
        with self._lock:
            if id(runnable) in self._lost:
                self._lost.discard(id(runnable))
                self._waiting -= 1

    def _park(self, gate: threading.Lock) -> threading.Lock | None:
        """Wait for work: the gate to wait at next time; None when this worker should end."""
        with self._lock:
            if self._urgent:
                return gate
            if self._sparing:
                self._sparing = self._working > self.size
            if self._ready and not self._sparing:
                return gate
            if len(self._crew) - self._waiting > self.size:
                self._crew.pop(threading.current_thread(), None)
                return None
            self._parked.append(gate)
        if gate.acquire(timeout=self._idle):
            return gate
        with self._lock:
            if gate in self._parked:
                self._parked.remove(gate)
                if self._ready or self._urgent:  # who put it there has told nobody
                    return gate
                self._crew.pop(threading.current_thread(), None)
                return None
        # Called, and not let through: who called may have been interrupted, or comes late to a gate where nobody waits any more.
        late = threading.Lock()
        late.acquire()
        return late


class _Front:
    """The lane of supervisors."""

    __slots__ = ("_pool", "schedule")

    def __init__(self, pool: PoolDispatcher) -> None:
        self._pool = pool
        self.schedule = pool.press

    def urge(self, runnable: Runnable, /) -> None:
        """Do nothing: its turns are pressing as they are."""

    def rescue(self, stranded: Sequence[Runnable], /) -> None:
        """See `PoolDispatcher.rescue`."""
        self._pool.rescue(stranded)

    def retire(self, runnable: Runnable, busy: bool, /) -> None:
        """See `PoolDispatcher.retire`."""
        self._pool.retire(runnable, busy)


def start_thread(thread: threading.Thread) -> Exit | None:
    """Start it; the exit of what it was to run where the system refuses. An interruption of the caller is raised."""
    try:
        thread.start()
    except RecursionError:
        raise
    except RuntimeError as error:  # "can't start new thread", of the system or of an interpreter that ends
        return refused(error)
    return None


def refused(error: BaseException) -> Exit:
    """The exit of an actor that got no thread."""
    return Exit("error", {"type": "ThreadRefused", "message": str(error), "trace": ""})
