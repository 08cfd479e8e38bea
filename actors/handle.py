"""`Stream`: the events of one call, for threads and for asyncio, from any thread and any event loop.

Lazy: nothing is sent before the first event (or the response) is asked for. The runtime holds it weakly: a cursor that goes, `close()`,
the end of a `with`, or the last reference dropped, end the HTTP request at once.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, cast

from allm.actors.call import Call, Plan
from allm.actors.runtime import Runtime, default_runtime
from allm.errors import EngineError, StreamError
from allm.events import Event, TextDelta
from allm.supervisors.here import running_loop

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from allm.actors.turn_plan import TurnPlan
    from allm.actors.turn_slot import Turn
    from allm.responses import Response

    R = TypeVar("R", default=Response)
else:
    from typing import TypeVar

    R = TypeVar("R")

__all__ = ["Stream"]


class Stream(Generic[R]):
    """The events of one call. Iterate it (`for`, `async for`), or ask for what it adds up to (`response()`, `result()`, `await`):
    a Response, a StepResult or a ChatResult, by the call that made it."""

    def __init__(self, plan: "Plan | TurnPlan", runtime: Runtime | None) -> None:
        self._plan = plan
        self._runtime = runtime
        self._call: Call | Turn | None = None
        self._submitted = False
        """Whether the call is on its way: a thread that was interrupted between the two is made good by the next."""
        self._consumed = False
        self._left = False
        self._starting = threading.RLock()  # two threads that begin at once make one call

    # for threads

    def __iter__(self) -> Iterator[Event]:
        """A cursor; leaving it closes the stream. Cursors that are open together share the events between them."""
        self._open_cursor()
        return self._events()

    def text_deltas(self) -> "TextDeltas":
        """The text alone, piece by piece; both ways."""
        return TextDeltas(self)

    def response(self) -> R:
        """Drains the stream and gives what it adds up to. Raises what a call that failed before any content raises."""
        self._may_block()
        call = self._start(fold=True)
        pipe = call.pipe
        try:
            while not pipe.done:
                pipe.wait()
        except BaseException:
            self.cancel()
            raise
        return self._result(call)

    result = response

    # for asyncio

    def __aiter__(self) -> AsyncIterator[Event]:
        """A cursor for asyncio; leaving it closes the stream."""
        self._open_cursor()
        return _AsyncCursor(self._pull, self._leave)

    def __await__(self) -> Generator[Any, None, R]:
        return self._drain().__await__()

    async def _drain(self) -> R:
        self._serve(awaits=True)
        call = self._start(fold=True)
        try:
            while not call.pipe.done:
                await call.pipe.wait_async()
        except BaseException:
            self.cancel()
            raise
        return self._result(call)

    # ending it

    def cancel(self) -> None:
        """Ends the call; what came so far is its response, with the finish reason `cancelled`. Any thread; returns at once."""
        with self._starting:
            call = self._call or self._start_cancelled()
        if not call.pipe.done:
            self._on().withdraw(call)

    def close(self) -> None:
        """Ends the call if it runs; nothing can be iterated any more. `response()` still answers."""
        self._left = self._consumed = True
        call = self._call
        if call is not None and not call.pipe.done:
            self._on().withdraw(call)

    def __enter__(self) -> "Stream[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> "Stream[R]":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        runtime = getattr(self, "_runtime", None)
        if runtime is None:
            return
        if self._call is None:
            runtime.forget(self._plan)
        elif not self._call.pipe.done:
            runtime.withdraw(self._call)

    def __repr__(self) -> str:
        call = self._call
        state = "not started" if call is None else "done" if call.pipe.done else "running"
        return f"<Stream {self._plan.options.request_id} of {self._plan.engine.adapter}:{self._plan.model}, {state}>"

    # inside

    def _on(self) -> Runtime:
        if self._runtime is None:
            self._runtime = default_runtime()
        return self._runtime

    def _start(self, fold: bool) -> "Call | Turn":
        """The call, submitted at the first need."""
        call = self._call if self._submitted and self._call is not None else self._submit(fold)
        if fold and call.pipe.live:
            call.pipe.fold_only()
        if fold:
            self._consumed = True
        return call

    def _submit(self, fold: bool) -> "Call | Turn":
        with self._starting:
            call = self._call
            if call is None and self._left:
                call = self._start_cancelled()
            elif call is None:
                call = self._call = self._plan.prepare(self._on())
            if not self._submitted:
                if fold:
                    call.pipe.fold_only()
                self._on().submit(call)
                self._submitted = True
            return call

    def _start_cancelled(self) -> "Call | Turn":
        """Cancelled or closed before anything was sent: nothing is sent."""
        runtime = self._on()
        call: Call | Turn = self._plan.prepare(runtime)
        self._call = call
        self._submitted = True
        call.cancelled()
        runtime.forget(self._plan)
        return call

    def _leave(self) -> None:
        """A cursor ends, and the stream with it; unless somebody asked for the response: then the events are nobody's any more."""
        call = self._call
        if call is None or call.pipe.live:
            self.close()

    def _open_cursor(self) -> None:
        call = self._call
        if self._consumed or (call is not None and call.pipe.done and call.pipe.empty):
            raise StreamError(
                "consumed",
                "this stream was consumed; response() still answers",
                request_id=self._plan.options.request_id,
            )

    def _may_block(self) -> None:
        """Refuses a blocking wait on the loop, which it would block for ever."""
        if self._on().on_loop():
            raise EngineError(
                "would_block",
                "a blocking call on the runtime's own loop would wait for itself; user code does not run there",
            )
        self._serve(awaits=False)

    def _events(self) -> Iterator[Event]:
        self._may_block()
        call = self._start(fold=False)
        pipe = call.pipe
        try:
            while True:
                batch = pipe.take()
                if batch is not None:
                    yield from batch
                elif self._left or not pipe.live:  # not live: somebody asked for the response, which took the rest
                    return
                elif pipe.done:
                    if pipe.empty:
                        return self._end(call)
                else:
                    pipe.wait()
        finally:
            self._leave()

    def _serve(self, awaits: bool) -> None:
        """Asynchronous tools run on the loop of the task that awaits them, else on the runtime's `loop`, unless it is what waits here."""
        if self._call is None and not isinstance(self._plan, Plan):
            here, own = running_loop(), self._on().user_loop
            self._plan.loop = here if awaits else own if own is not here else None

    async def _pull(self) -> list[Event]:
        """The next batch for an asyncio cursor."""
        call = self._call
        if call is None or not self._submitted:
            self._serve(awaits=True)
            call = self._start(fold=False)
        pipe = call.pipe
        while True:
            batch = pipe.take()
            if batch is not None:
                return batch
            if self._left or not pipe.live:
                raise StopAsyncIteration
            if not pipe.done:
                try:
                    await pipe.wait_async()
                except asyncio.CancelledError:
                    self._leave()
                    raise
            elif pipe.empty:
                self._end(call)
                raise StopAsyncIteration

    def _end(self, call: "Call | Turn") -> None:
        self._consumed = True
        call.pipe.check()

    def _result(self, call: "Call | Turn") -> R:
        call.pipe.check()
        return cast(R, call.pipe.response)


class _AsyncCursor:
    """`Stream`'s events for one `async for`. Dropping it closes the stream: no event loop has to come round for that."""

    __slots__ = ("_batch", "_close", "_pull")

    def __init__(self, pull: Callable[[], Awaitable[list[Event]]], close: Callable[[], None]) -> None:
        self._pull = pull
        self._close = close
        self._batch: Iterator[Event] = iter(())

    def __aiter__(self) -> "_AsyncCursor":
        return self

    async def __anext__(self) -> Event:
        for event in self._batch:
            return event
        self._batch = iter(await self._pull())
        return next(self._batch)

    async def aclose(self) -> None:
        """Closes the stream."""
        self._close()

    def __del__(self) -> None:
        self._close()


class TextDeltas:
    """The text of a stream, for `for` and `async for`."""

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        for event in self._stream:
            if isinstance(event, TextDelta):
                yield event.delta

    async def __aiter__(self) -> AsyncIterator[str]:
        cursor = self._stream.__aiter__()
        try:
            async for event in cursor:
                if isinstance(event, TextDelta):
                    yield event.delta
        finally:
            self._stream._leave()  # pyright: ignore[reportPrivateUsage]
