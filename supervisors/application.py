"""A program that is a tree: it begins with the root, ends when the root does, and its exit code says how.

SIGTERM and SIGINT shut the tree down in order; a second signal kills it. A signal's handler only puts the signal's number
into a queue: it may interrupt the main thread anywhere, so that nothing else is safe there.
"""

from __future__ import annotations

import asyncio
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeAlias, cast

from allm.supervisors import events, log
from allm.supervisors.actor import Actor
from allm.supervisors.aio_calls import this_loop
from allm.supervisors.cell import Cell, Shutdown, cell_of, is_ref
from allm.supervisors.clock import clock
from allm.supervisors.exits import KILLED, NOPROC, SHUTDOWN, Exit, Leave
from allm.supervisors.here import call_soon, running_loop
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.making import spawning
from allm.supervisors.pulse import PULSE, get, pulse
from allm.supervisors.spec import ChildSpec, is_tuple

__all__ = ["run", "run_async"]

Root: TypeAlias = "ChildSpec | type[Actor] | Mapping[str, Any]"

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run(root: Root, *, on: Dispatcher | None = None, signals: Iterable[signal.Signals] = SIGNALS) -> int:
    """Start a tree, block until it ends, and return the program's exit code: ``sys.exit(run(spec))``.

    0: the root ended in order, by itself or by a signal. 1: it did not start, gave up or failed; why stands in the log, or
    on stderr when nothing is logged. 128 and the signal's number: a second signal killed it. Signals are taken in the main
    thread only; what handled them before does so again afterwards. From the first signal on the root has the time its spec
    gives it as `shutdown`. The root is not started again when it ends: that is what supervisors do to their children.
    """
    if running_loop() is not None:
        raise RuntimeError("an event loop runs on this thread: await aio.run(...)")
    inbox: queue.SimpleQueue[Exit | int] = queue.SimpleQueue()
    program = _Program(root, on, inbox.put)
    with _taken(signals, inbox.put), program:
        while not program.over:
            try:
                program.take(get(inbox, program.left()))
            except queue.Empty:
                program.kill()
    return program.code


async def run_async(root: Root, *, on: Dispatcher | None = None, signals: Iterable[signal.Signals] = SIGNALS) -> int:
    """Start a tree, wait until it ends, and return the program's exit code; see `allm.supervisors.run`.

    Cancelling it shuts the tree down, waits for its end, and kills it when cancelled again.
    """
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Exit | int] = asyncio.Queue()
    cancelled: asyncio.CancelledError | None = None

    def put(event: Exit | int) -> None:
        call_soon(loop, inbox.put_nowait, event)

    program = _Program(root, on, put, on_this_loop=True)
    with _taken(signals, put), program:
        while not program.over:
            left = program.left()
            try:
                program.take(await asyncio.wait_for(inbox.get(), PULSE if left is None else min(PULSE, left)))
            except TimeoutError:
                if left is not None and left <= PULSE:
                    program.kill()
                pulse()
            except asyncio.CancelledError as error:
                cancelled = error
                program.shut_down()
    if cancelled is not None:
        raise cancelled
    return program.code


class _Program:
    """The root of a tree and its end; entered to start it."""

    def __init__(self, root: Root, on: Dispatcher | None, put: Callable[[Exit], object], *, on_this_loop: bool = False) -> None:
        self.spec = ChildSpec.of(cast("ChildSpec", root))
        self.over = False
        self.code = 0
        self._on, self._on_this_loop = on or self.spec.dispatcher, on_this_loop
        self._put = put
        self._cell: Cell | None = None
        self._shutting = self._started = False
        self._deadline: float | None = None
        self._killer: int | None = None  # the signal that killed it
        self._signal: int | None = None
        self._cause: events.Event | None = None

    # -- the way in and out

    def __enter__(self) -> _Program:
        self._unsubscribe = events.subscribe(self._heard)
        try:
            self._cell = self._start()
        except Leave as leave:
            self._put(leave.exit)
        except Exception as error:
            self._put(Exit.from_exception(error))
        except BaseException:
            self._unsubscribe()
            raise
        else:
            self._cell.watch(self, self)
        return self

    def __exit__(self, *error: object) -> None:
        self._unsubscribe()
        if not self.over and self._cell is not None:  # interrupted by something else: it ends behind us
            self._cell.put_signal(Shutdown(SHUTDOWN))

    def _start(self) -> Cell:
        function, args, *more = cast("tuple[Any, ...]", self.spec.start)
        kwargs: dict[str, Any] = dict(*more)
        if isinstance(function, type) and issubclass(function, Actor):
            on = self._on or function.dispatcher
            if on is None and self._on_this_loop and function.actor_awaits:
                on = this_loop()
            result: Any = function.start_on(on, *args, **kwargs) if on is not None else function.start(*args, **kwargs)
        else:
            with spawning(self._on) if self._on is not None else nullcontext():
                result = function(*args, **kwargs)
        if isinstance(result, Exit):
            raise Leave(result)
        ref: Any = result[0] if is_tuple(result) and result else result
        cell = cell_of(ref) if is_ref(ref) else None
        if cell is None:
            raise TypeError(f"the root's start returned {type(result).__name__}, not the ref of an actor of this package")
        return cell

    # -- what happens: on the thread that waits

    def take(self, event: Exit | int) -> None:
        """Act on a signal, or on the end of the root."""
        if isinstance(event, Exit):
            self.over = True
            self.code = self._code(event)
            self._tell(event)
        elif self._shutting:
            self._killer = self._killer or event
            self.kill()
        else:
            self._signal = event
            self.shut_down()

    def shut_down(self) -> None:
        """Shut the tree down in order; the second time kill it."""
        if self._shutting or self.spec.shutdown == "brutal_kill":
            self.kill()
            return
        self._shutting = True
        if isinstance(self.spec.shutdown, (int, float)):
            self._deadline = clock.now() + self.spec.shutdown
        if self._cell is not None:
            self._cell.put_signal(Shutdown(SHUTDOWN))

    def kill(self) -> None:
        """End the tree at once."""
        self._shutting, self._deadline = True, None
        if self._cell is not None:
            self._cell.cancel(KILLED)

    def left(self) -> float | None:
        """The seconds the root has to obey; None: no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - clock.now())

    # -- as a watcher of the root, and a listener: on any thread

    def started(self, cell: Cell) -> None:
        """The root is up."""
        self._started = True

    def ended(self, cell: Cell, exit: Exit) -> None:
        """The root is down."""
        self._put(cell.exit or NOPROC)

    def _heard(self, event: Any) -> None:
        # The last that a supervisor gave up on, before the root did: the reason behind the root's.
        failed_start = isinstance(event, events.SupervisorReport) and event.context == "start_error"
        if (failed_start or isinstance(event, events.Escalated)) and not self._shutting:
            self._cause = self._cause if failed_start and isinstance(self._cause, events.Escalated) else event

    # -- the outcome

    def _code(self, exit: Exit) -> int:
        if self._killer is not None:
            return 128 + self._killer
        gave_up = exit.kind == "shutdown" and exit.detail not in (None, "auto_shutdown") and not self._shutting
        return 1 if exit.abnormal or gave_up else 0

    def _tell(self, exit: Exit) -> None:
        """Say why it ended: in the log, and on stderr where a failure would go unheard."""
        name = self._cell.name if self._cell is not None else str(self.spec.id)
        by = signal.Signals(self._killer or self._signal or 0).name if self._killer or self._signal else None
        event = events.RootEnded(name, exit, self.code, by, self._started, _reason(self._cause))
        level: log.Level = "error" if self.code else "info"
        if self.code and not log.enabled("error"):
            sys.stderr.write(f"{_text(event)}\n")
        if events.wanted(level):
            events.emit(event, level=level)
        log.flush()


def _reason(cause: Any) -> dict[str, Any] | None:
    """The child a supervisor gave up on, and its exit."""
    if cause is None:
        return None
    child, exit = (cause.child, cause.exit) if isinstance(cause, events.Escalated) else (cause.offender.id, cause.reason)
    return {"supervisor": cause.supervisor, "child": str(child), "exit": exit.to_data()}


def _text(event: events.RootEnded) -> str:
    exit = event.exit.to_data()
    if event.cause is not None and isinstance(exit["detail"], Mapping):  # the cause says it better
        exit = Exit(event.exit.kind).to_data()
    lines = [f"{event.root} {'ended' if event.started else 'did not start'}: {_words(exit)}"]
    if event.signal is not None:
        lines[0] += f" (after {event.signal})"
    if event.cause is not None:
        lines.append(f"{event.cause['supervisor']} gave up on {event.cause['child']}: {_words(event.cause['exit'])}")
    return "\n".join(lines)


def _words(exit: Mapping[str, Any]) -> str:
    detail: Any = exit["detail"]
    if isinstance(detail, Mapping) and "trace" in detail:
        error = cast("Mapping[str, Any]", detail)
        detail = f"{error.get('type')}: {error.get('message')}\n{error['trace']}".rstrip()
    return f"{exit['kind']} {detail if detail is not None else ''}".rstrip()


@contextmanager
def _taken(signals: Iterable[signal.Signals], put: Callable[[int], object]) -> Generator[None]:
    """While inside: signals are put somewhere, if this is the main thread."""
    before: dict[signal.Signals, Any] = {}

    def taken(number: int, _frame: object) -> None:
        put(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for each in signals:
                before[each] = signal.signal(each, taken)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)
