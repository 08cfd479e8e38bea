"""A lock for each key: holders of one key take turns, other keys are free.

The lock is given back when the block ends, however it ends, and when the actor that holds it is killed in it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from allm.supervisors.cell import Cell
from allm.supervisors.exits import CallTimeout, Exit
from allm.supervisors.here import forked, guard, here, waiting
from allm.supervisors.pulse import acquire

__all__ = ["KeyedLocks"]


class _Turn:
    """One that holds the lock or waits for it."""

    def __init__(self, locks: KeyedLocks, key: Hashable) -> None:
        self._locks, self._key = locks, key
        self.cell = here.cell if isinstance(here.cell, Cell) else None
        self.gate = threading.Lock()
        self.gate.acquire()

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, exit: Exit) -> None:
        self._locks.release(self._key, self)
        if self.gate.locked():
            self.gate.release()  # it may be waiting for its turn: it finds itself fenced


class KeyedLocks:
    """Any thread; waiting on a loop that runs actors is refused."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._queues: dict[Hashable, deque[_Turn]] = {}  # the first of a queue holds the lock
        forked.add(self)

    def after_fork(self) -> None:
        """Who held a lock lives in the parent process."""
        self._lock, self._queues = threading.RLock(), {}

    @contextmanager
    def hold(self, key: Hashable, timeout: float | None = None) -> Generator[None]:
        """Wait for the key's lock and hold it in the block; `CallTimeout` after `timeout` seconds."""
        turn = _Turn(self, key)
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            first = queue[0] is turn
        if turn.cell is not None:
            turn.cell.watch(turn, turn)
        try:
            if not first:
                self._wait(turn, key, timeout)
            guard()
            yield
        finally:
            if turn.cell is not None:
                turn.cell.unwatch(turn)
            self.release(key, turn)

    def _wait(self, turn: _Turn, key: Hashable, timeout: float | None) -> None:
        with waiting(None, f"waiting for the lock of {key!r}"):
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
