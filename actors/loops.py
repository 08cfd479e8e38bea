"""The event loops of a runtime: made here, each on a thread of its own, whatever loops the program's policy makes.

A policy may make loops that run on the main thread only (those of Qt), or keep them on a clock that a test has stopped.
"""

import asyncio
import contextvars
import sys
import threading
from typing import Any, Final

from allm.errors import EngineError
from allm.supervisors import log
from allm.supervisors.clock import clock
from allm.supervisors.exits import stripped
from allm.supervisors.here import call_soon
from allm.supervisors.pool import start_thread

__all__ = ["LoopThread", "cancel_all", "new_loop", "not_started", "refuse_patched_threads"]

_START: Final = 10.0
"""Seconds in which the loop's first callback must have run."""
_PATIENCE: Final = 0.5
"""Seconds that tasks have to obey their cancellation when a loop ends."""


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's own loop, on the real clock."""

    time = staticmethod(clock.now)  # pyright: ignore[reportAssignmentType]


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for a thread of ours: uvloop's where the program has chosen that, else asyncio's selector loop."""
    # Not asked for by `get_event_loop_policy`, which would make one, and goes away with Python 3.16.
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    if type(policy).__module__.partition(".")[0] == "uvloop":
        made: asyncio.AbstractEventLoop = sys.modules["uvloop"].new_event_loop()
        return made
    return _Loop(_selector())


def _selector() -> Any:
    """The system's own selector where gevent has put one in its place that waits for greenlets of another thread; else the usual one."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is None or not gevent.is_module_patched("selectors"):
        return None
    return gevent.get_original("selectors", "DefaultSelector")()


def refuse_patched_threads() -> None:
    """Raises EngineError("unsupported") where threads are none: under gevent or eventlet a loop on a thread would block all of them."""
    for library, patcher, asks, module in (
        ("gevent", "gevent.monkey", "is_module_patched", "threading"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread"),
    ):
        asked: Any = getattr(sys.modules.get(patcher), asks, None)
        if asked is not None and asked(module):
            raise EngineError(
                "unsupported",
                f"{library} has patched the module threading, and a runtime needs real threads: leave threads as they are "
                f"({patcher}.{'patch_all' if library == 'gevent' else 'monkey_patch'}(thread=False)), or run allm in a process of its own",
            )


def not_started(error: BaseException) -> EngineError:
    """The error of a runtime that did not come up; to be raised from what the system refused, stripped of its frames."""
    return EngineError("not_started", f"the runtime could not be started: {type(error).__name__}: {error}")


class LoopThread:
    """A loop and its thread."""

    def __init__(self, name: str) -> None:
        self.loop = new_loop()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.over = False
        """Whether its thread has ended."""
        self._failure: BaseException | None = None
        self._leaving = False

    def start(self) -> None:
        """Return when the loop runs. Raises EngineError("not_started") if it does not, as soon as that is known."""
        up = threading.Lock()
        up.acquire()
        self.loop.call_soon(up.release, context=contextvars.Context())
        refusal = start_thread(self.thread)
        if refusal is not None:
            self.loop.close()
            raise EngineError("not_started", f"the runtime could not be started: {refusal.detail['message']}")
        end = clock.now() + _START
        while not up.acquire(timeout=0.05):
            if not self.thread.is_alive():
                failure = self._failure or RuntimeError("the thread of its loop has ended")
                raise not_started(failure) from stripped(failure)
            if clock.now() > end:
                raise not_started(TimeoutError(f"its loop did not run within {_START:g} seconds"))

    def end(self, timeout: float) -> bool:
        """Stop the loop, cancel what runs on it, and close it; False if its thread did not end in time. May be interrupted, and called
        again."""
        self._leaving = True
        call_soon(self.loop, self.loop.stop)
        if self.thread.ident is not None:
            self.thread.join(timeout)
        if self.thread.is_alive():
            return False
        self._close()
        return True

    def _close(self) -> None:
        try:
            self.loop.close()
        except (RuntimeError, ValueError, OSError):
            pass  # its thread is just starting, and closes it at its end; or an interrupted call has closed half of it

    def _run(self) -> None:
        try:
            self._run_on()
            self.loop.run_until_complete(cancel_all())
        except BaseException as error:
            self._failure = error
            log.failure("loop_ended", error)
        finally:
            self.over = True
            if self._leaving:
                self._close()

    def _run_on(self) -> None:
        """Until it is stopped. A SystemExit of one callback, which asyncio lets through, is nothing that everybody's loop ends at."""
        while True:
            try:
                return self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                log.failure("loop_interrupted", error)


async def cancel_all() -> None:
    """Cancel every other task of the running loop, and wait a while until they have ended."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_PATIENCE)
