"""What tools run on in one runtime: threads, an event loop, processes; and the count of how they ended. It outlives its actors."""

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from allm.actors.tooljob import ToolJob
from allm.actors.toolloop import INSIDE, ToolLoop
from allm.actors.toolprocess import Processes
from allm.errors import EngineError
from allm.supervisors import PoolDispatcher, ThreadDispatcher, log
from allm.supervisors.clock import clock
from allm.tools import ToolOutcome

__all__ = ["Running", "Workshop"]


class Running(Protocol):
    """An asynchronous handler that runs."""

    loop: asyncio.AbstractEventLoop
    cancel_seen: bool

    def start(self) -> bool: ...
    def cancel(self) -> None: ...
    def lost(self) -> None: ...


class Workshop:
    """One per runtime. `io_loop` is where connections live, and no handler ever runs. Any thread."""

    def __init__(self, io_loop: asyncio.AbstractEventLoop) -> None:
        self.pool = PoolDispatcher(256, name="allm-handlers")
        self.own_thread = ThreadDispatcher()
        self.jobs: dict[str, ToolJob] = {}
        """Those that have no outcome yet, by id."""
        self.processes = Processes()
        self.running: dict[str, Running] = {}
        """Asynchronous handlers that have not come back."""
        self._io_loop = io_loop
        self._loops: list[ToolLoop] = []
        """The first is for all; each of the others for calls that handlers on those before it wait for, so that there is no ring."""
        self._retired: list[ToolLoop] = []
        self._lock = threading.Lock()
        self._ended = False
        self._stuck: dict[str, ToolJob] = {}
        self._counts = {"done": 0, "failed": 0, "timed_out": 0, "abandoned": 0}

    def stats(self) -> dict[str, int]:
        """Counts. `abandoned` handlers did not stop when their time was over; `stuck` are those of them that have not come back yet."""
        return {"running": len(self.jobs), **self._counts, "stuck": len(self._stuck)}

    def settle(self, job: ToolJob, outcome: ToolOutcome) -> bool:
        """Reports the outcome if it is the first, and counts it."""
        if job.settled:
            return False
        self.jobs.pop(job.id, None)
        if not job.settle(outcome):
            return False
        with self._lock:
            self._counts["failed" if outcome.error is not None else "done"] += 1
            self._counts["timed_out"] += outcome.error is not None and outcome.error.reason == "timeout"
        return True

    def abandon(self, job: ToolJob) -> None:
        """Its handler goes on though nobody waits for it any more."""
        with self._lock:
            self._counts["abandoned"] += 1
            self._stuck[job.id] = job
        log.warning("tool_abandoned", tool=job.tool.name, job=job.id)
        if job.over:  # just now
            self.returned(job)

    def returned(self, job: ToolJob) -> None:
        """Its handler has come back."""
        self.running.pop(job.id, None)
        with self._lock:
            self._stuck.pop(job.id, None)

    # asynchronous handlers

    def launch(self, job: ToolJob, make: Callable[[asyncio.AbstractEventLoop], Running]) -> None:
        """Starts it on the job's loop if that runs, else on one of the workshop's own that no handler blocks who waits for this call."""
        loop = job.loop
        if loop is not None and loop is not self._io_loop and loop.is_running() and self._start(job, make(loop)):
            return
        inside = job.contextvars.get(INSIDE, ()) if job.contextvars is not None else ()
        if not self._start(job, make(self._own_loop(inside))):
            raise EngineError("stopped", "the event loop of the tools was closed")

    def _start(self, job: ToolJob, running: Running) -> bool:
        """False if its loop is closed."""
        self.running[job.id] = running
        if not running.start():
            self.running.pop(job.id, None)
            return False
        if job.settled:  # meanwhile, and who settled it may have looked for it too soon
            running.cancel()
        return True

    def _own_loop(self, inside: tuple[asyncio.AbstractEventLoop, ...]) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._ended:
                raise EngineError("stopped", "the runtime was stopped")
            self._loops = [loop for loop in self._loops if loop.alive]
            found = next((loop for loop in self._loops if loop.loop not in inside), None)
            if found is None:
                found = ToolLoop(self._lost)
                self._loops.append(found)
            return found.loop

    def _lost(self, loop: asyncio.AbstractEventLoop) -> None:
        """This loop is closed: what it had not brought to an end has ended."""
        for running in list(self.running.values()):
            if running.loop is loop:
                running.lost()

    def replace(self, loop: asyncio.AbstractEventLoop) -> None:
        """This loop is blocked by a handler: who comes next gets another."""
        with self._lock:
            blocked = next((each for each in self._loops if each.loop is loop), None)
            if blocked is None:
                return
            self._loops.remove(blocked)
            self._retired = [*(loop for loop in self._retired if loop.thread.is_alive()), blocked]
        blocked.retire()
        log.warning("tool_loop_blocked")

    def threads(self) -> list[threading.Thread]:
        """Those that are no workers of the pool: of its loop, and of what reads from its processes."""
        return [*(process.reader for process in list(self.processes)), *(loop.thread for loop in (*self._retired, *self._loops))]

    # the end

    def end(self, timeout: float) -> None:
        """Lets go of all of it and waits, for `timeout` seconds at most, until it is gone; a thread in a handler may stay."""
        deadline = clock.now() + timeout
        with self._lock:
            self._ended = True
        self.processes.end(timeout)
        threads = self.threads()
        for each in (*self._retired, *self._loops):
            each.end()
        self.pool.close()
        for thread in threads:
            thread.join(max(0.0, deadline - clock.now()))

    def inherited(self) -> None:
        """In a forked child."""
        for process in list(self.processes):
            process.inherited()
