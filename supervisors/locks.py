"""A lock for each key: holders of one key take turns, other keys are free.

The lock is given back when the block ends, however it ends, and when the actor that holds it is killed in it.

A wait that could not end is refused with `AskCycle`: an actor that takes the same key again, and a ring of actors of which each
waits for what the next one holds, or for its answer. (Reentrant they are not: the inner block would meet half of the outer
one's work.) A thread that is in no actor is refused the key it holds when it sets no timeout; with one, it gets `CallTimeout`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from allm.supervisors.cell import Cell
from allm.supervisors.exits import CallTimeout, Exit
from allm.supervisors.here import AskCycle, Waiter, forked, guard, here, waiting
from allm.supervisors.pulse import acquire

__all__ = ["KeyedLocks"]


class _Turn:
    """A place in the queue of a lock: its holder's, or a waiter's."""

    def __init__(self, locks: KeyedLocks, key: Hashable) -> None:
        self._locks, self._key = locks, key
        self.cell = here.cell if isinstance(here.cell, Cell) else None
        self.owner: object = self.cell or threading.current_thread()
        self.gate = threading.Lock()
        self.gate.acquire()

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, exit: Exit) -> None:
        self._locks.release(self._key, self)
        if self.gate.locked():
            self.gate.release()  # it may be waiting for its turn: it finds itself fenced


class _Holder:
    """Whoever holds the lock now, as the one that is waited for: it may be another one before the wait is over."""

    waiting_on: Waiter | None = None
    exit: Exit | None = None

    def __init__(self, key: Hashable, queue: deque[_Turn], waiting: _Turn) -> None:
        self.name = f"the lock of {key!r}"
        self._queue, self._waiting = queue, waiting

    @property
    def acting(self) -> Waiter:
        """The actor that holds it; itself where there is none, or its turn has come just now."""
        try:
            first = self._queue[0]
        except IndexError:
            return self
        return self if first is self._waiting or first.cell is None else first.cell


class KeyedLocks:
    """Any thread; waiting on a loop that runs actors is refused."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._queues: dict[Hashable, deque[_Turn]] = {}  # the first of a queue holds the lock
        forked.add(self)

    def after_fork(self) -> None:
        """Free all locks: their holders live in the parent process."""
        self._lock, self._queues = threading.RLock(), {}

    @contextmanager
    def hold(self, key: Hashable, timeout: float | None = None) -> Generator[None]:
        """Wait for the key's lock and hold it in the block; `CallTimeout` after `timeout` seconds."""
        turn = _Turn(self, key)
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            if queue and queue[0].owner is turn.owner and (turn.cell is not None or timeout is None):
                raise AskCycle(f"calling_self: {getattr(turn.owner, 'name', turn.owner)} holds the lock of {key!r} already")
            queue.append(turn)
            first = queue[0] is turn
        if turn.cell is not None:
            turn.cell.watch(turn, turn)
        try:
            if not first:
                self._wait(turn, key, queue, timeout)
            guard()
            yield
        finally:
            if turn.cell is not None:
                turn.cell.unwatch(turn)
            self.release(key, turn)

    def _wait(self, turn: _Turn, key: Hashable, queue: deque[_Turn], timeout: float | None) -> None:
        with waiting(_Holder(key, queue, turn), f"waiting for the lock of {key!r}"):
            if not acquire(turn.gate, timeout):
                raise CallTimeout(f"the lock of {key!r} was not free within {timeout} seconds")

    def release(self, key: Hashable, turn: _Turn) -> None:
        """Leave the queue; if this was the holder, the next one goes on."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None or turn not in queue:
                return
            held = queue[0] is turn
            queue.remove(turn)
            if not queue:
                del self._queues[key]
            elif held:
                queue[0].gate.release()

    def __len__(self) -> int:
        return len(self._queues)
