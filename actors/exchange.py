"""One exchange: send a request, read its answer, tell the stream actor. A task on the loop; pure functions do the decoding.

What the transport raises is told by `Ways.explain`, so that nothing of the HTTP stack leaves here.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

from msgspec.structs import replace

from allm.actors.answer import Answer, Body, UnfitAnswer, drain, headers_of, read_error
from allm.actors.call import Call, Plan
from allm.actors.crews import Crew
from allm.actors.decoding import Unreadable, ask, whole_body
from allm.actors.reading import LARGE, SLICE, Reading, aside
from allm.actors.refusals import refusal_of
from allm.actors.scrubbing import scrubbed
from allm.actors.stream import Connected, Connecting, Ended, Read, Resolving, Resumed
from allm.actors.unpacking import PackedError
from allm.actors.vault import KeyContext, KeyHandle, Vault, resolver_of
from allm.errors import AllmError, EngineError, ErrorInfo
from allm.events import TERMINAL, ErrorOccurred, Event
from allm.images import Image
from allm.limits import limits
from allm.providers.adapter import Decoder, HttpRequest, Script
from allm.settings import Http
from allm.supervisors.exits import stripped
from allm.supervisors.here import call_soon

__all__ = ["Exchange", "Ways"]

_TEXT: Final = 8 << 10
"""Bytes of an error answer that the loop reads itself."""
_TURNS: Final = 63
"""Chunks, but one, after which others have the loop."""


class Ways(Protocol):
    """What an exchange needs of the I/O actor."""

    vault: Vault
    readers: Crew
    """The workers that read what is large."""
    off_loop: Callable[..., Awaitable[Any]]
    """Calls a function of the user on a thread: (the reason if it raises, seconds after which it is given up, function, arguments)."""

    async def send(self, call: Call, request: HttpRequest, key: str | None, exchange: "Exchange") -> Answer:
        """The answer's head, or whatever the transport raises."""
        ...

    def explain(self, error: BaseException) -> ErrorInfo:
        """The error for what a transport raised."""
        ...

    def over(self, exchange: "Exchange") -> None:
        """It is over, and needs nothing more."""
        ...

    async def fetch(self, addresses: tuple[str, ...], http: Http) -> dict[str, Image]:
        """The images at these addresses. Raises ValidationError for one that cannot be had."""
        ...


class Exchange:
    """The exchange of one attempt."""

    def __init__(self, call: Call, stream: Any, ways: Ways) -> None:
        self._call = call
        # Not `tell`: a report to a stream actor that is gone is no error, and comes a third cheaper.
        self._tell: Callable[[Any], None] = stream.actor_inbox.put_message
        self._ways = ways
        self._answer: Answer | None = None
        self.task: asyncio.Task[None] | None = None
        self.patience = call.plan.options.timeouts.connect
        """Seconds after which the connection, and the look-up of its name, is given up."""
        self.reused = False
        self.answered = False
        self._begun = False
        self._began_well = False
        self._unhanded = 0
        self._told_end = False
        self._failed = False
        self._resolved: KeyHandle | None = None

    # what the transport's hooks tell

    def connecting(self) -> None:
        """A new connection is being made."""
        self.reused = False
        self._tell(Connecting())

    def connected(self) -> None:
        """It stands."""
        self._tell(Connected())

    def sending(self) -> None:
        """A large request goes out: `first_event` is for the provider's time, not for the line's."""
        self._tell(Resolving())

    def sent(self) -> None:
        """All of it is out."""
        if not self.answered:  # some refuse it before they have read it
            self._tell(Connected())

    # what the stream actor tells

    def leave(self, normal: bool) -> None:
        """The stream actor is gone: drain the rest of a complete answer, else cut it off."""
        self._told_end = True
        if not normal and self.task is not None:
            self.task.cancel()
            if not self._begun:
                self._ways.over(self)

    def cut_off(self) -> None:
        """The I/O actor ends, and this with it."""
        self._end(ErrorInfo("adapter", "connection_closed", "the I/O actor ended while the answer was on its way"))

    # the task

    async def run(self) -> None:
        """From the request to the last byte. Never raises but when cancelled."""
        plan = self._call.plan
        self._begun = True
        try:
            if plan.http is None and not plan.addresses:  # it is made anew: with less of the thread, or asking in another way
                if plan.tight:
                    await self._ways.off_loop("history_failed", plan.options.timeouts.callback, plan.shrink)
                else:
                    plan.encode()
            if plan.addresses:
                await self._fetch(plan)
            if isinstance(plan.http, Script):
                await self._play(plan.http)
            elif plan.http is not None:
                await self._http(plan.http)
        except asyncio.CancelledError:
            self.cut_off()
            raise
        except AllmError as error:
            self._tell_end(error.info)
        except Unreadable as error:
            self._end(ErrorInfo("adapter", "malformed_response", f"the answer could not be read: {error}"))
        except PackedError as error:
            self._late(ErrorInfo("adapter", "malformed_response", str(error)))
        except UnfitAnswer as error:
            self._end(ErrorInfo("adapter", "malformed_response", str(error), metadata={"should_retry": False}))
        except BaseException as error:  # SystemExit too, of a transport that is not ours: a task that lets it through ends the loop
            unanswered = self.reused and not self.answered
            self._late(self._ways.explain(error), unanswered)
            stripped(error)  # the answer keeps it, and its frames keep the answer
        finally:
            try:
                await self._close()
            finally:
                self._ways.over(self)

    async def _play(self, script: Script) -> None:
        decoder = self._decoder()
        for wait, item in script.steps:
            if wait:
                await asyncio.sleep(wait)
            if item and self._deliver(ask(decoder.feed, item), decoder):
                return
            await self._room()
        self._finish(decoder)

    async def _fetch(self, plan: Plan) -> None:
        """Has the images that the wire takes by their bytes only. Once a call: its further attempts have them."""
        self._tell(Resolving())
        found = await self._ways.fetch(plan.addresses, plan.engine.http)
        await aside(self._ways.readers, partial(plan.fetched, found))
        self._tell(Connected())

    async def _http(self, request: HttpRequest) -> None:
        key = await self._key(request)
        self._answer = answer = await self._ways.send(self._call, request, key, self)
        del key
        self.answered = True
        decoder = self._decoder()
        headers = headers_of(answer)
        if not 200 <= answer.status < 300:  # a redirect, too: following one would send the key elsewhere
            text, problem = await read_error(answer, headers, limits().error_body)
            await self._refused(text, partial(refusal_of, self._call.plan.adapter, answer.status, headers, text, problem, request.url))
            return
        self._began_well = True
        ask(decoder.headers, headers)
        body = Body(answer, headers, limits().service if self._call.plan.service else limits().answer)
        form, read = await body.begin()
        if form == "events":
            await self._events(decoder, body, read)
        elif form == "json" or body.is_json:
            await self._whole(decoder, body, read)
        else:
            self._end(ErrorInfo("adapter", "malformed_response", "the answer is neither an event stream nor JSON"))

    async def _events(self, decoder: Decoder, body: Body, read: list[bytes]) -> None:
        """A stream, whose first pieces may have been read. What failed is cut off at once, not drained."""
        size, most = 0, body.most
        for chunk in read:
            size += len(chunk)
            if await self._fed(decoder, chunk):
                return None if self._failed else await drain(body)
        pipe = self._call.pipe
        turn = 0
        feed = decoder.feed
        async for chunk in body.chunks:
            length = len(chunk)
            size += length
            if size > most:
                body.check(size)
            turn += 1
            if not turn & _TURNS:  # what has come in already is given without waiting
                await asyncio.sleep(0)
            if self._unhanded + length > LARGE:
                over = await self._fed(decoder, chunk)
            else:
                over = self._deliver(ask(feed, chunk), decoder, length)
            if over:
                return None if self._failed else await drain(body)
            if pipe.full:
                await self._room()
        self._finish(decoder)
        return None

    async def _fed(self, decoder: Decoder, chunk: bytes) -> bool:
        """Has a chunk of a stream decoded, on a thread if it may complete something large; True after a terminal event."""
        if self._unhanded + len(chunk) <= LARGE:
            return self._deliver(ask(decoder.feed, chunk), decoder, len(chunk))
        return await self._read_aside(partial(ask, decoder.feed, chunk), decoder, len(chunk))

    async def _whole(self, decoder: Decoder, body: Body, read: list[bytes]) -> None:
        size = await body.rest(read)
        if size <= LARGE:
            over = self._deliver(whole_body(decoder, body, read), decoder, size)
        else:
            over = await self._read_aside(partial(whole_body, decoder, body, read), decoder, size)
        if not over:
            self._finish(decoder)

    async def _read_aside(self, read: Callable[[], list[Event]], decoder: Decoder, size: int) -> bool:
        """Have a thread read, and deliver what comes of it in slices: there may be a million events."""
        call = self._call
        reading = call.reading = Reading(read)
        try:
            events = await reading.begin(self._ways.readers)
        except Exception:
            call.reading = None
            raise
        while len(events) - reading.taken > SLICE:
            begun, reading.taken = reading.taken, reading.taken + SLICE
            self._deliver(events[begun : reading.taken], decoder, size)
            size = 0
            await asyncio.sleep(0)
            await self._room()
        call.reading = None
        return self._deliver(events[reading.taken :] if reading.taken else events, decoder, size)

    async def _refused(self, text: bytes, refusal: Callable[[str | None], ErrorInfo]) -> None:
        """Report an error answer, which a thread reads if it is no short one."""
        read = partial(self._told, refusal, self._secret())
        error = await aside(self._ways.readers, read) if len(text) > _TEXT else read()
        if not self._told_end:
            self._told_end = True
            self._tell(Ended(error, False))

    def _told(self, refusal: Callable[[str | None], ErrorInfo], secret: str | None) -> ErrorInfo:
        return scrubbed(self._named(refusal(secret)), secret)

    async def _key(self, request: HttpRequest) -> str | None:
        """Taken at the moment of sending, anew at each attempt."""
        plan, vault = self._call.plan, self._ways.vault
        if plan.key is not None:
            key = vault.take(plan.key)
            if key is None:
                raise EngineError("missing_key", "the key of this call was given up with an earlier attempt to make it")
            return key
        if request.key_header is None:
            return None
        resolver = resolver_of(plan.engine)
        if resolver is not None:
            options = plan.options
            context = KeyContext(session_id=options.session_id, request_id=options.request_id, metadata=options.metadata)
            self._tell(Resolving())
            found = await self._ways.off_loop("resolver_failed", options.timeouts.callback, resolver, plan.adapter.provider, context)
            self._tell(Connected())
            if inspect.iscoroutine(found):
                found.close()  # nobody awaits it
                raise EngineError(
                    "bad_key", "engine.keys: the resolver is an async function; it runs on a thread of its own and returns the key"
                )
            if found is not None:
                self._resolved = vault.put(found)
                return vault.take(self._resolved)
        return vault.find(plan.engine, plan.adapter.provider, plan.base_url)

    # telling the stream actor

    def _decoder(self) -> Decoder:
        decoder = self._call.decoder
        assert decoder is not None, "an attempt has begun"
        return decoder

    def _deliver(self, events: list[Event], decoder: Decoder, size: int = 0) -> bool:
        """Tells what a read of `size` bytes gave; True after a terminal event."""
        progress, decoder.progress = decoder.progress, False
        size += self._unhanded
        if not events:
            self._unhanded = size
            if progress:
                self._tell(Read(events, True))
            return False
        last = events[-1]
        over = isinstance(last, TERMINAL)
        if over:
            self._told_end = True
            if isinstance(last, ErrorOccurred):
                events[-1] = ErrorOccurred(self._complete_error(last.error))
                self._failed = True
        self._unhanded = 0
        self._tell(Read(events, progress, size))
        return over

    def _finish(self, decoder: Decoder) -> None:
        """The body ended of itself: well only if the end marker was seen."""
        if not self._deliver(ask(decoder.end), decoder):
            self._end(ErrorInfo("adapter", "truncated", "the stream ended without the provider's end marker"))

    def _late(self, error: ErrorInfo, unanswered: bool = False) -> None:
        """The connection broke: that is no failure if the end marker had been seen before."""
        decoder = self._call.decoder
        if self._told_end:
            return
        if decoder is not None and self.answered and not self._call.plan.options.one_body:
            try:
                if self._deliver(decoder.end(), decoder):
                    return
            except Exception:
                pass  # what is left of the buffer is no use; the break itself is the error
        self._end(error, unanswered)

    def _end(self, error: ErrorInfo, unanswered: bool = False) -> None:
        """Report the end with a text of our own, which has no key in it."""
        if not self._told_end:
            self._told_end = True
            self._tell(Ended(self._named(error), unanswered))

    def _tell_end(self, error: ErrorInfo) -> None:
        if not self._told_end:
            self._told_end = True
            self._tell(Ended(self._complete_error(error), False))

    def _complete_error(self, error: ErrorInfo) -> ErrorInfo:
        """With the call's id and provider, and without the key that some providers echo."""
        return scrubbed(self._named(error), self._secret())

    def _named(self, error: ErrorInfo) -> ErrorInfo:
        plan = self._call.plan
        if plan.paid_once and self._began_well and error.reason == "malformed_response":
            error = replace(error, metadata={**error.metadata, "should_retry": False})
        return ErrorInfo(
            error.kind, error.reason, error.message, error.status, error.retry_after, plan.options.request_id,
            error.provider or plan.adapter.provider, error.metadata,
        )  # fmt: skip

    def _secret(self) -> str | None:
        plan = self._call.plan
        handle = plan.key or self._resolved
        if handle is not None:
            return self._ways.vault.take(handle)
        try:
            return self._ways.vault.find(plan.engine, plan.adapter.provider, plan.base_url)
        except AllmError:
            return None

    # the consumer's pace, and the end

    async def _room(self) -> None:
        """Waits until the consumer has taken what it was given."""
        pipe = self._call.pipe
        if not pipe.full:
            return
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        pipe.when_resumed(lambda: call_soon(loop, _open, room))
        await room
        self._tell(Resumed())

    async def _close(self) -> None:
        answer, self._answer = self._answer, None
        if self._resolved is not None:
            self._ways.vault.drop(self._resolved)
        if answer is not None:
            try:
                await answer.close()
            except asyncio.CancelledError:
                raise
            except BaseException:
                pass  # the connection is gone; whoever waits for the answer knows


def _open(room: "asyncio.Future[None]") -> None:
    if not room.done():
        room.set_result(None)
