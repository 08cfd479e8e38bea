"""Where functions of the user run, but for tools: each kind on a bounded pool of its own, and each function with a clock.

A function that does not come back cannot be stopped, but it can be given up: its worker is replaced, so that the next
function finds one, it is counted and logged, and its call goes on without it. So functions that hang cost themselves alone.
"""

import asyncio
import contextvars
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Protocol

from allm.actors.toolwork import said
from allm.errors import EngineError
from allm.supervisors import Actor, PoolDispatcher, kill, log
from allm.supervisors.clock import clock
from allm.supervisors.futures import Reply
from allm.supervisors.here import here, on_loop, waiting
from allm.supervisors.pulse import get

__all__ = ["Count", "Crew", "Crews", "Errand", "Failed", "Late", "Patience", "Timed", "cutting"]

_WORKERS: Final = 64
_PLANNERS: Final = 8
_NEVER: Final = float("inf")


class Timed(Protocol):
    """Something that may take too long."""

    def due(self, now: float) -> float:
        """When it is too late, as far as is known now: it is asked again then."""
        ...

    def give_up(self) -> None:
        """It is too late."""
        ...


class Patience:
    """One timer on the loop for all that may take too long: a timer each would stay for its half minute after most are long over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: dict[Timed, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Timed) -> None:
        """Watch it. Any thread."""
        self._items[item] = None
        on_loop(self._loop, partial(self._arm, item))

    def discard(self, item: Timed) -> None:
        """It is over. Any thread."""
        self._items.pop(item, None)

    def _arm(self, *items: Timed) -> None:
        now = self._loop.time()
        due = min((item.due(now) for item in items), default=_NEVER)
        if due == _NEVER or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look, context=contextvars.Context())

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for item in list(self._items):
            if item.due(now) <= now:
                self._items.pop(item, None)
                item.give_up()
        self._arm(*self._items)


class Count:
    """How the functions of one kind went. `stuck` are those given up that have not come back."""

    __slots__ = ("done", "failed", "given_up", "late", "stuck")

    def __init__(self) -> None:
        self.done = self.failed = self.late = self.given_up = 0
        self.stuck: set[object] = set()

    def data(self) -> dict[str, int]:
        """Plain data."""
        return {"done": self.done, "failed": self.failed, "late": self.late, "given_up": self.given_up, "stuck": len(self.stuck)}


class Errand:
    """One call of one function. `reply` gives (True, its value) or (False, what it raised, as text); it fails once it is given up."""

    __slots__ = ("_crew", "_limit", "_ref", "began", "context", "function", "late", "name", "over", "reply")

    def __init__(self, crew: "Crew", name: str, function: Callable[[], Any], limit: float | None, context: contextvars.Context) -> None:
        self._crew = crew
        self._limit = limit
        self.context = context
        self.name = name
        self.function: Callable[[], Any] | None = function
        self.began: float | None = None
        self.over = self.late = False
        self._ref = _Runner.start_on(crew.pool, self)
        self.reply: Reply[tuple[bool, Any]] = self._ref.ask(None, block=False)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    def due(self, now: float) -> float:
        """While it waits for a worker its time does not run: those before it have theirs."""
        return _NEVER if self._limit is None else (self.began or now) + self._limit

    def give_up(self) -> None:
        """Its time is over."""
        if self.over or self.reply.done:
            return
        self.late = True
        self._crew.count.late += 1
        self.abandon()

    def abandon(self) -> None:
        """Nobody wants its value any more: it is not called, or its worker is replaced."""
        if self.over or self.reply.done:
            return
        count = self._crew.count
        if self.began is not None:
            count.given_up += 1
            count.stuck.add(self)
            seconds = round(clock.now() - self.began, 3)
            self.context.copy().run(log.warning, "function_given_up", function=self.name, seconds=seconds)
        kill(self._ref)
        self.function = None
        if self.over:  # just now
            count.stuck.discard(self)

    def ended(self, ok: bool) -> None:
        """The function has come back. On its worker."""
        self.over = True
        self.function = None
        count = self._crew.count
        count.done += 1
        count.failed += not ok
        count.stuck.discard(self)

    def too_late(self) -> EngineError:
        """The error of a function that was given up."""
        return EngineError("callback_failed", f"{self.name} did not come back within {self._limit or 0:g} seconds")


class _Runner(Actor):
    """Calls the function of one errand."""

    def __init__(self, errand: Errand) -> None:
        super().__init__()
        self._errand = errand

    def on_receive(self, message: None) -> None:
        errand, function = self._errand, self._errand.function
        if function is None:
            self.exit()
        errand.began = clock.now()
        try:
            outcome: tuple[bool, Any] = (True, errand.context.run(function))
        except BaseException as error:  # SystemExit too: this thread is no place to leave from
            outcome = (False, said(error))
        errand.ended(outcome[0])
        self.reply(outcome)
        self.exit()


@contextmanager
def cutting(cut: Callable[[], object]) -> Generator[None]:
    """In a function of the user: `cut` is called when it is given up, to free what it blocks on."""
    body: Any = getattr(here.cell, "body", None)
    if isinstance(body, _Runner):
        with body.cutting(cut):
            yield
    else:
        yield


class Crew:
    """The workers for functions of one kind."""

    def __init__(self, name: str, patience: Patience, size: int = _WORKERS) -> None:
        self.pool = PoolDispatcher(size, name=name)
        self.count = Count()
        self._patience = patience

    def start(self, name: str, function: Callable[[], Any], limit: float | None, context: contextvars.Context | None = None) -> Errand:
        """Have it called in a copy of `context` (else of the caller's); it is given up `limit` seconds after it began. Any thread."""
        errand = Errand(self, name, function, limit, contextvars.copy_context() if context is None else context.copy())
        if limit is not None:
            self._patience.add(errand)
            errand.reply.add_done_callback(lambda _: self._patience.discard(errand))
        return errand

    async def run(self, name: str, function: Callable[[], Any], limit: float | None) -> Any:
        """Have it called, and wait for it: its value. Raises Failed for what it raises, `Late` if it is given up.

        Cancelling who waits gives it up at once. On the loop.
        """
        errand = self.start(name, function, limit)
        try:
            ok, value = await errand.reply
        except asyncio.CancelledError:
            errand.abandon()
            raise
        except Exception:
            raise Late(f"did not come back within {limit:g} s" if errand.late else "was ended") from None
        if not ok:
            raise Failed(value)
        return value

    def wait(self, name: str, function: Callable[[], Any], limit: float | None) -> Any:
        """Have it called, and wait for it on this thread: its value, or what it raises. Raises EngineError if it is given up."""
        raised: list[BaseException] = []

        def called() -> Any:
            try:
                return function()
            except BaseException as error:
                raised.append(error)
                raise

        errand = self.start(name, called, limit)
        ended: SimpleQueue[Any] = SimpleQueue()
        errand.reply.add_done_callback(ended.put)
        try:
            with waiting(None, f"waiting for {name}"):
                reply = get(ended)
        except BaseException:  # a signal's exception
            errand.abandon()
            raise
        try:
            if reply.error is None:
                ok, value = reply.get()
                if ok:
                    return value
                raise raised[0]
            raise errand.too_late() if errand.late else EngineError("callback_failed", f"{name} was ended")
        finally:
            raised.clear()  # a circle with the frames of what it holds


class Failed(Exception):
    """A function raised; the text says what."""


class Late(Exception):
    """A function was given up."""


class Crews:
    """All of them, of one runtime."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.patience = Patience(loop)
        self.listeners = Crew("allm-pool", self.patience)
        """For `on_event`."""
        self.keys = Crew("allm-keys", self.patience)
        """For key resolvers."""
        self.halt_when = Crew("allm-pool-halt", self.patience)
        self.on_tool_error = Crew("allm-pool-errors", self.patience)
        self.instructions = Crew("allm-pool-instructions", self.patience)
        self.history = Crew("allm-pool-history", self.patience)
        self.checks = Crew("allm-pool-checks", self.patience)
        """For checks of what the model said, which may run the constructors of answers' types."""
        self.plans = Crew("allm-pool-plans", self.patience, _PLANNERS)
        """For our own work on the next call of a turn, which waits for no function of anybody's."""
        self.readers = Crew("allm-pool-readers", self.patience, _PLANNERS)
        """For our own work on large answers."""

    def stats(self) -> dict[str, dict[str, int]]:
        """Counts by kind."""
        return {name: crew.count.data() for name, crew in self._of_users().items()}

    def close(self) -> None:
        """Keep no idle worker from now on."""
        for crew in self.all():
            crew.pool.close()

    def all(self) -> list[Crew]:
        """Those of our own work, too."""
        return [*self._of_users().values(), self.plans, self.readers]

    def _of_users(self) -> dict[str, Crew]:
        return {
            "on_event": self.listeners, "keys": self.keys, "halt_when": self.halt_when, "on_tool_error": self.on_tool_error,
            "instructions": self.instructions, "history": self.history, "checks": self.checks,
        }  # fmt: skip
