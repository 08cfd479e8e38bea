"""Many independent calls, so many at a time: `allm.map`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, Unpack

from allm.actors.bridge import bridge_of
from allm.actors.call import Call
from allm.actors.options import CallOptions
from allm.actors.request_plan import Ask, kept_key, plan_call, refuse_unknown
from allm.actors.runtime import Runtime, default_runtime
from allm.actors.vault import KeyHandle
from allm.engine import Engine
from allm.errors import AllmError, EngineError, ValidationError
from allm.responses import Response
from allm.supervisors.here import waiting
from allm.supervisors.pulse import get

__all__ = ["map", "map_async"]


class _Flow:
    """The calls under way, and what is still to come."""

    _key: KeyHandle | None = None
    runtime: Runtime

    def __init__(self, engine: Engine, requests: Iterable[Ask], concurrency: int, opts: CallOptions) -> None:
        runtime, self._key = kept_key(opts)
        try:
            refuse_unknown(opts, CallOptions.__optional_keys__)
            _check(requests, concurrency, opts)
            self._requests = enumerate(requests)
        except BaseException:
            if runtime is not None and self._key is not None:
                runtime.vault.drop(self._key)
            raise
        self.runtime = runtime or default_runtime()
        self._engine = engine
        self._free = concurrency
        self._opts = opts
        self.running: dict[int, Call] = {}
        self.failed: list[tuple[int, AllmError]] = []
        self.more = True

    def start(self) -> Iterator[tuple[int, Call]]:
        """Starts calls while there is room, and gives each."""
        while self.more and len(self.running) < self._free and not self.failed:
            try:
                index, request = next(self._requests)
            except StopIteration:
                self.more = False
                return
            try:
                plan, _ = plan_call(self._engine, request, {**self._opts, "runtime": self.runtime}, folding=True)
                plan.key, plan.lends_key = self._key, True
                call = self.runtime.prepare(plan)
                call.pipe.fold_only()
                self.runtime.submit(call)
            except AllmError as error:
                self.failed.append((index, error))
                return
            self.running[index] = call
            yield index, call

    def take(self, index: int) -> tuple[int, Response | AllmError]:
        """What the call of this index came to."""
        pipe = self.running.pop(index).pipe
        outcome = pipe.error or pipe.response
        assert outcome is not None, "a call ends with a response or an error"
        return index, outcome

    def leave(self) -> None:
        """Nobody wants the rest."""
        for call in self.running.values():
            self.runtime.withdraw(call)
        if self._key is not None:
            self.runtime.vault.drop(self._key)

    def __del__(self) -> None:
        """Nobody iterated, and `leave` was never called."""
        if self._key is not None and hasattr(self, "runtime"):
            self.runtime.vault.drop(self._key)


def _check(requests: Iterable[Ask], concurrency: Any, opts: CallOptions) -> None:
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ValidationError.at("concurrency", f"expected a whole number of at least 1, got {concurrency!r}")
    if isinstance(requests, str):
        raise ValidationError.at("requests", "expected several requests, got one text")
    if "request_id" in opts:
        raise ValidationError.at("request_id", "each of these calls has its own")


def map(
    engine: Engine, requests: Iterable[Ask], concurrency: int = 50, **opts: Unpack[CallOptions]
) -> Iterator[tuple[int, Response | AllmError]]:
    """`generate` for each of `requests`, at most `concurrency` at a time: (index, response or error) as they finish.

    `requests` may be endless: it is read as room comes. An error is given, not raised. Leaving the iterator ends the calls that run.
    """
    return _sync(_Flow(engine, requests, concurrency, opts))


def _sync(flow: _Flow) -> Iterator[tuple[int, Response | AllmError]]:
    if flow.runtime.on_loop():
        raise EngineError("would_block", "a blocking call on the runtime's own loop would wait for itself; user code does not run there")
    ended: SimpleQueue[int] = SimpleQueue()
    try:
        while True:
            for index, call in flow.start():
                call.pipe.when_done(partial(ended.put, index))
            if flow.failed:
                yield flow.failed.pop()
            elif flow.running:
                with waiting(None, "waiting for calls"):
                    index = get(ended)
                yield flow.take(index)
            else:
                return
    finally:
        flow.leave()


async def map_async(
    engine: Engine, requests: Iterable[Ask], concurrency: int = 50, **opts: Unpack[CallOptions]
) -> AsyncIterator[tuple[int, Response | AllmError]]:
    """The same as an asynchronous iterator. Leaving it early: use `contextlib.aclosing`, or the calls end when it is collected."""
    flow = _Flow(engine, requests, concurrency, opts)
    loop = asyncio.get_running_loop()
    ended: dict[asyncio.Future[None], int] = {}
    try:
        while True:
            for index, call in flow.start():
                future: asyncio.Future[None] = loop.create_future()
                ended[future] = index
                call.pipe.when_done(partial(bridge_of(loop).settle, future))
            if flow.failed:
                yield flow.failed.pop()
            elif ended:
                done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    yield flow.take(ended.pop(future))
            else:
                return
    finally:
        flow.leave()
