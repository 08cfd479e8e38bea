"""A call: what stays while attempts come and go. Its slot holds the plan, the pipe to the consumer, and the attempt of the moment.

Touched on the loop's thread only, but for `cancel_asked` (a flag) and what the pipe allows.
"""

import contextvars
import random as randomness
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from allm.actors.addresses import PLACEHOLDER, addresses_of, with_images
from allm.actors.asking import Asking, KnownWays, asking
from allm.actors.listener import Listening
from allm.actors.pipe import Pipe
from allm.actors.reading import Reading
from allm.actors.vault import KeyHandle
from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import AllmError, ErrorInfo
from allm.events import (
    ErrorOccurred,
    Event,
    MessageCompleted,
    RequestStarted,
    RetryScheduled,
    StreamRestarted,
    TextDelta,
    ToolCallDelta,
)  # fmt: skip
from allm.images import Image
from allm.order import OrderChecker
from allm.providers.adapter import Adapter, Decoder, HttpRequest, Script
from allm.providers.answer_ways import ANSWER_TOOL, by_a_tool
from allm.requests import Request
from allm.responses import Response
from allm.retry import Decision, GiveUp, Retry
from allm.settings import Timeouts
from allm.supervisors import log
from allm.supervisors.clock import clock

__all__ = ["Call", "Options", "Plan"]


_UNREACHED: Final = frozenset({"timeout", "connection_closed"})


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every attempt, beside the request. `folding`: nobody watches the deltas (`generate`)."""

    request_id: str
    retry: Retry
    timeouts: Timeouts
    folding: bool
    one_body: bool = False
    text_deltas: bool = True
    tool_deltas: bool = True
    raw_chunks: bool = False
    session_id: str | None = None
    metadata: dict[str, Any] = {}
    block_prefix: str = "b"
    response_type: str | None = None


class Plan:
    """A call that is ready to be made: everything is checked, nothing is sent.

    `addresses` are those of images that the wire takes by their bytes only: the exchange fetches them, and there is no `http` before.
    """

    __slots__ = (
        "adapter", "addresses", "asking", "base_url", "contextvars", "engine", "http", "key", "left_out", "lends_key", "model", "on_event",
        "options", "outgoing", "paid_once", "request", "service", "tight",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        adapter: Adapter,
        base_url: str,
        request: Request,
        options: Options,
        on_event: Callable[[Event], object] | None,
    ) -> None:
        self.engine = engine
        self.adapter = adapter
        self.base_url = base_url
        self.request = request
        self.options = options
        self.on_event = on_event
        self.contextvars = contextvars.copy_context()
        """The caller's context: the work of the call is done in it (the exchange and its transport, `on_event`, the key resolver)."""
        self.model = request.model or engine.model
        left_out: Callable[[Engine, Request, str], tuple[str, ...]] | None = getattr(adapter, "left_out", None)
        self.left_out = () if left_out is None else left_out(engine, request, base_url)
        """The parameters for which the wire has no place."""
        self.key: KeyHandle | None = None
        self.lends_key = False
        """Whether the key is somebody else's, who drops it."""
        self.outgoing: Callable[[bool], Request] | None = None
        """Makes the request anew, with less of the thread if that is asked for."""
        self.tight = False
        """Whether the provider found the thread too long, and less of it is sent."""
        self.asking: Asking | None = None
        """The ways to ask for an answer by a schema, where the host may refuse one."""
        self.http: HttpRequest | Script | None = None
        self.addresses: tuple[str, ...] = ()
        self.service = False
        """Whether the answer is one body with images, vectors or verdicts, which may be larger than a conversation's."""
        self.paid_once = False
        """Whether an answer that began well and cannot be read is not asked for again, as what it holds costs much."""

    def prepare(self, runtime: Any) -> Any:
        """The slot of the call."""
        return runtime.prepare(self)

    def ask(self, known: KnownWays) -> None:
        """Takes the way to ask for an answer by a schema that is known to work at this host. Before `encode`."""
        if self.asking is None and self.request.response_format is not None:
            self.asking = asking(self.engine, self.adapter, self.request, self.base_url, known)
            self._ask_so()

    def ask_otherwise(self, error: ErrorInfo) -> bool | None:
        """As `Asking.refused` says; if there is another way, the request is made anew in it."""
        more = self.asking.refused(error) if self.asking is not None else None
        if more:
            self._ask_so()
            self.http = None
        return more

    def _ask_so(self) -> None:
        """The engine with the way of the moment named, as adapters read it."""
        if self.asking is not None and (self.asking.way, self.engine.structured) != ("schema", "auto"):
            self.engine = replace(self.engine, structured=self.asking.way)

    def encode(self) -> None:
        """Makes the request as the wire has it; once a call, in the caller's thread. What is wrong with it is found here, also where an
        image must be fetched first: another one stands in its place."""
        if self.http is None and not self.addresses:
            self.addresses = self.missing()
            made = self.made(dict.fromkeys(self.addresses, PLACEHOLDER))
            self.http = None if self.addresses else made

    def fetched(self, found: Mapping[str, Image]) -> None:
        """The images have come. On the loop."""
        self.http = self.made(found)
        self.addresses = ()

    def shrink(self) -> None:
        """Makes the request anew with less of the thread. Runs functions of the user, so never on the loop."""
        if self.outgoing is not None:
            self.request = self.outgoing(True)
        self.encode()

    def missing(self) -> tuple[str, ...]:
        """The addresses of images that must be fetched."""
        return addresses_of(self.adapter, self.request)

    def made(self, found: Mapping[str, Image]) -> HttpRequest | Script:
        """The request, with these images in the place of their addresses."""
        request = with_images(self.request, found)
        return self.adapter.request(self.engine, request, self.base_url, not self.options.one_body)


def _dropped(options: Options) -> tuple[type[Event], ...]:
    """The deltas that nobody wants."""
    if options.text_deltas and options.tool_deltas:
        return ()
    wanted = ((TextDelta, options.text_deltas), (ToolCallDelta, options.tool_deltas))
    return tuple([kind for kind, wants in wanted if not wants])


class Call:
    """The slot of one call."""

    attempt = 0
    generation = 0
    supervised = False
    handed = False
    """Whether its submit came to its end."""
    ended = False
    resent = False
    fresh = False
    """Whether the next attempt goes over a connection that is made for it."""
    cancel_asked = False
    _resending = False

    def __init__(self, plan: Plan, key: Any, name: str, listening: Listening | None = None) -> None:
        self.plan = plan
        self.id = plan.options.request_id
        self.key = key
        self.name = name
        self.pipe = Pipe(live=not plan.options.folding)
        self.decoder: Decoder | None = None
        self.exchange: Any = None
        self.reading: Reading | None = None
        """What a thread reads of its answer just now: the thread has the decoder."""
        self._listening = listening
        self._since = clock.now()
        self._order = OrderChecker()
        messages = plan.request.messages
        self._used_ids = frozenset([call.id for message in messages if message.role == "assistant" for call in message.tool_calls])
        self._drops = _dropped(plan.options)

    def begin(self) -> Decoder:
        """The next attempt starts."""
        self.generation += 1
        if not self._resending:
            self.attempt += 1
        self._resending = False
        options = self.plan.options
        self.decoder = self.plan.adapter.decoder(
            self.plan.engine,
            CallContext(
                request_id=options.request_id,
                generation=self.generation,
                used_ids=self._used_ids,
                include_raw_chunks=options.raw_chunks,
                block_prefix=options.block_prefix,
                response_type=options.response_type,
                left_out=self.plan.left_out,
                base_url=self.plan.base_url,
                tools=tuple([tool.name for tool in self.plan.request.tools]),
                answer_tool=ANSWER_TOOL if by_a_tool(self.plan.request, self.plan.engine.structured) else None,
            ),
        )
        self.emit([RequestStarted(options.request_id, self.plan.model, self.plan.engine.adapter, self.attempt)])
        return self.decoder

    def emit(self, events: list[Event], size: int = 0) -> None:
        """Hands events on, made of `size` bytes, after checking their order. Raises IllegalOrder: a fault of the adapter."""
        if self.ended:
            return
        check = self._order.check
        for event in events:
            check(event)
        if self._listening is not None:
            self._listening.tell(events)
        if self._drops:
            events = [event for event in events if not isinstance(event, self._drops)]
        if events:
            self.pipe.put(events, size)

    def complete(self, response: Response) -> None:
        """The terminal event was handed on."""
        if self.plan.asking is not None:
            self.plan.asking.worked()
        self._end(response, None)

    def decide(self, error: ErrorInfo, content: bool) -> Decision:
        """What the retry policy says to the end of the attempt of the moment."""
        options = self.plan.options
        if self.cancel_asked or self.ended:
            return GiveUp()
        return options.retry.decide(error, self.attempt, content, options.folding, randomness.random())

    def resend(self) -> bool:
        """Whether a request that died unanswered on a reused connection may go out again at once; once, and it is no attempt."""
        if self.resent or self.cancel_asked or self.ended:
            return False
        self.resent = self.fresh = self._resending = True
        return True

    def tighten(self, error: ErrorInfo, content: bool) -> bool:
        """Whether the call is made once more with less of its thread: the provider found it too long, and there is a policy for that."""
        plan = self.plan
        if content or error.reason != "context_length_exceeded" or plan.tight or plan.outgoing is None or plan.engine.history is None:
            return False
        if self.cancel_asked or self.ended:
            return False
        plan.tight, plan.http = True, None
        return True

    def ask_otherwise(self, error: ErrorInfo, content: bool) -> bool | None:
        """True if the host refused the way in which an answer by a schema was asked for, and the call is made in another one at once, which
        is no attempt; False if it refused them all; None for an error about something else."""
        if content or self.cancel_asked or self.ended:
            return None
        again = self.plan.ask_otherwise(error)
        self._resending = again is True
        return again

    def restarting(self, error: ErrorInfo, delay: float) -> None:
        """The attempt failed and another follows. Where a connection may be dead, by itself or in silence, the others that wait may be as
        well: it goes over a new one."""
        self.fresh = error.reason in _UNREACHED
        decoder, options = self.decoder, self.plan.options
        if decoder is not None and decoder.has_content:
            self.emit([StreamRestarted(options.request_id, self.attempt, error, decoder.block_ids())])
        else:
            self.emit([RetryScheduled(options.request_id, self.attempt, delay, error)])
        self.decoder = self.reading = None

    def fail(self, error: ErrorInfo) -> None:
        """No further attempt. Before content the error is raised, after it the partial is kept."""
        if self.ended or self._read_first(partial(self.fail, error)):
            return
        if self.plan.asking is not None:
            error = self.plan.asking.told(error)
        decoder = self.decoder
        if decoder is None or not decoder.has_content:
            if self._listening is not None:
                self._listening.tell([ErrorOccurred(error)])
            self._end(None, error.exception())
            return
        try:
            closing, response = decoder.partial("error", error)
            self.emit([*closing, ErrorOccurred(error)])
        except Exception:  # a bug of the adapter, in all likelihood the one that brought us here: this call's affair alone
            self._end(None, error.exception())
        else:
            self._end(response, None)

    def cancelled(self) -> None:
        """Ended by its caller: what came so far is the answer."""
        if self.ended or self._read_first(self.cancelled):
            return
        decoder, options = self.decoder, self.plan.options
        empty = Response(request_id=options.request_id, model=self.plan.model, finish_reason="cancelled")
        try:
            closing, response = ([], empty) if decoder is None else decoder.partial("cancelled", None)
            self.emit([*closing, MessageCompleted(response)])
        except Exception:  # as above
            self._end(empty, None)
        else:
            self._end(response, None)

    def _read_first(self, end: Callable[[], None]) -> bool:
        """True if a thread has the decoder: it is let alone, and `end` is called after. What it gave is handed on before the end; True,
        too, if that was the whole answer."""
        reading = self.reading
        if reading is None:
            return False
        if not reading.over:
            reading.then(end)
            return True
        self.reading = None
        events = reading.rest()
        last = events[-1] if events else None
        self.emit(events[:-1] if isinstance(last, ErrorOccurred) else events)
        if isinstance(last, MessageCompleted):
            self.complete(last.response)
        return self.ended

    def _end(self, response: Response | None, error: AllmError | None) -> None:
        """The caller gets the end once its `on_event` has seen all of it."""
        self.ended = True
        self._log(response, error)
        if self._listening is None:
            self.pipe.finish(response, error)
        else:
            self._listening.finish(lambda: self.pipe.finish(response, error))

    def _log(self, response: Response | None, error: AllmError | None) -> None:
        """A line for the finished call, in its caller's context."""
        failed = error.info if error is not None else response.error if response is not None else None
        level: log.Level = "warning" if failed is not None else "info"
        if not log.enabled(level):
            return
        usage = response.usage if response is not None else None
        values = {
            "call": self.id, "model": self.plan.model, "seconds": round(clock.now() - self._since, 3), "attempts": self.attempt,
            "input_tokens": usage.input_tokens if usage is not None else None,
            "output_tokens": usage.output_tokens if usage is not None else None,
            "finish_reason": response.finish_reason if response is not None else None,
        }  # fmt: skip
        if failed is not None:
            values["reason"] = failed.reason
        log.write(level, "call_finished", values, self.plan.contextvars)
