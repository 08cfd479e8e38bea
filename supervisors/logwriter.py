"""The thread that writes the log, so that neither a loop nor a caller waits for a pipe that nobody reads.

Lines wait in a bounded queue; what comes while it is full is counted, and told when there is room again. The thread
starts with the first line and ends soon after the last. A line is written in the context of whoever had it to say.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Final, NamedTuple

from allm.supervisors.clock import clock
from allm.supervisors.here import exiting, threaded

__all__ = ["Line", "LogWriter", "writing"]

MOST: Final = 10_000
"""Lines that wait at most."""
_START: Final = 5.0
"""Seconds in which a thread has started; one that has not was given up by whoever was to start it."""
_LINGER: Final = 0.2
"""Seconds without a line after which the thread ends."""

writing: Final[ContextVar[bool]] = ContextVar("allm_writing_log", default=False)
"""True for whatever the program's log calls: what that says of itself is not logged, or one line would make the next without end."""


class Line(NamedTuple):
    """A line to be written, and its context. `structured`: for structlog, as the program had configured it when this was said."""

    level: str
    event: str
    values: dict[str, Any]
    context: Context
    structured: bool = False


class LogWriter:
    """The writer of the log, one for the process. `write` hands a line to what the program has configured, and may raise."""

    def __init__(self, write: Callable[[Line], object]) -> None:
        self._write = write
        self._lines: queue.SimpleQueue[Line | threading.Lock] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._late = 0.0
        self._dropped = 0
        threaded.add(self)

    @property
    def dropped(self) -> int:
        """Lines that found the queue full, and are not told of yet."""
        return self._dropped

    def put(self, line: Line) -> None:
        """Have it written. Any thread, a finaliser too; never blocks, never raises."""
        if self._lines.qsize() >= MOST:
            self._dropped += 1
            return
        self._lines.put(line)
        self.look()

    def flush(self, timeout: float) -> bool:
        """Wait until what was put before is written; False if it was not within `timeout` seconds."""
        if self._thread is None and self._lines.empty():
            return True
        gate = threading.Lock()
        gate.acquire()
        self._lines.put(gate)
        self.look()
        end = clock.now() + timeout
        while not gate.acquire(timeout=max(0.0, min(0.05, end - clock.now()))):
            if clock.now() >= end:
                return False
            if not self.help():
                self.look()
        return True

    def look(self) -> None:
        """Have a thread if there is something to write; it may be that one was to be started, and was not."""
        thread = self._thread
        if self._lines.empty() or (thread is not None and (thread.is_alive() or (thread.ident is None and clock.now() < self._late))):
            return
        self._late = clock.now() + _START
        self._thread = thread = threading.Thread(target=self._run, name="allm-log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # refused, as at the end of the program: the next line, or `help`, tries again
            self._thread = None

    def help(self) -> bool:
        """Write one line on the calling thread, if there is no thread to do it."""
        if self._thread is not None and self._thread.is_alive():
            return False
        return self._next(0)

    def after_fork(self) -> None:
        """The child has neither the parent's thread nor its lines."""
        self._lines = queue.SimpleQueue()
        self._thread, self._dropped = None, 0

    def _run(self) -> None:
        while self._next(_LINGER) or not self._leave():
            pass

    def _leave(self) -> bool:
        """No line came for a while: end, unless one does just now."""
        self._thread = None
        if self._lines.empty():
            return True
        self.look()  # who put it may have seen this thread still there
        return True

    def _next(self, wait: float) -> bool:
        try:
            line = self._lines.get(timeout=wait) if wait else self._lines.get_nowait()
        except queue.Empty:
            return False
        if isinstance(line, Line):
            self._safely(line)
            if self._dropped and not exiting:
                count, self._dropped = self._dropped, 0
                self._safely(Line("warning", "log_lines_dropped", {"count": count}, Context(), line.structured))
        else:
            line.release()
        return True

    def _safely(self, line: Line) -> None:
        try:
            line.context.run(self._guarded, line)
        except BaseException:  # SystemExit too: an actor does not fall over the program's log, nor does its thread
            return

    def _guarded(self, line: Line) -> None:
        writing.set(True)
        self._write(line)
