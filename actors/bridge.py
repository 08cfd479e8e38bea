"""From the runtime's loop to somebody's event loop: many wake-ups, one write to its self-pipe.

A `call_soon_threadsafe` for each waiting task costs 17 us of system call; 1,000 streams on one loop spent a fifth of their time there.
"""

import asyncio
import weakref
from collections import deque

from allm.supervisors.here import call_soon, threaded

__all__ = ["Bridge", "bridge_of"]


class Bridge:
    """Settles futures of one event loop. `settle` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._ready: deque[asyncio.Future[None]] = deque()
        self._pending = False
        threaded.add(self)

    def leads_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is the bridge to this loop."""
        return self._loop() is loop

    def settle(self, future: "asyncio.Future[None]") -> None:
        """Sets the future's result on its own loop; nothing happens if that is closed."""
        self._ready.append(future)
        if not self._pending:
            self._wake()

    def look(self) -> None:
        """Wake the loop again if something waits for it: a thread may have been interrupted before it did, or while it drained."""
        if self._ready:
            self._wake()

    def after_fork(self) -> None:
        """What waits in the child is the child's."""

    def help(self) -> bool:
        """A loop needs no help."""
        return False

    def _wake(self) -> None:
        loop = self._loop()
        try:
            self._pending = True
            told = loop is not None and call_soon(loop, self._drain)
        except BaseException:  # interrupted, or at the recursion limit: the next one wakes it
            self._pending = False
            raise
        if not told:
            self._ready.clear()  # the loop is closed: nobody waits there any more

    def _drain(self) -> None:
        # Lowered before the queue is looked at: whoever appends later and finds it lowered wakes again.
        self._pending = False
        while self._ready:
            future = self._ready[0]  # taken out when it is settled: this may be the thread where signals arrive
            if not future.done():
                future.set_result(None)
            self._ready.popleft()


_bridges: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Bridge]" = weakref.WeakKeyDictionary()


def bridge_of(loop: asyncio.AbstractEventLoop) -> Bridge:
    """The bridge to this loop; asked for on its own thread."""
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = _bridges[loop] = Bridge(loop)
    return bridge
