"""One exchange: send a request, read its answer, tell the stream actor. A task on the loop; pure functions do the decoding.

The answer is any object that has `status_code`, `headers.raw` and `stream` as httpx's responses do; `io.py` makes it. What the
transport raises is told by `Ways.explain`, so that nothing of the HTTP stack leaves here.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from allm.actors.call import Call, Plan
from allm.actors.scrubbing import scrubbed, struck_body
from allm.actors.stream import Connected, Connecting, Ended, Read, Resolving, Resumed
from allm.actors.vault import KeyContext, KeyHandle, Vault, resolver_of
from allm.errors import AllmError, EngineError, ErrorInfo
from allm.events import TERMINAL, ErrorOccurred, Event
from allm.images import Image
from allm.providers.adapter import Decoder, HttpRequest, Script
from allm.settings import Http
from allm.supervisors.here import call_soon

__all__ = ["Exchange", "Ways"]

_ERROR_BODY = 1 << 20
"""Bytes of an error answer that are read at most."""
_ERROR_TIME = 10.0
"""Seconds that an error answer may take: its status is known, only its text is missing."""
_DRAIN_TIME = 1.0
"""Seconds after the terminal event for the end of the body, so that the connection can be used again."""
_STREAMS = ("event-stream", "ndjson", "jsonl")
"""Words in the content type of an answer that comes event by event; what an event looks like is the decoder's business."""
_BODY = 256 << 20
"""Bytes of a one-body answer at most."""


_T = TypeVar("_T")


class Ways(Protocol):
    """What an exchange needs of the I/O actor."""

    vault: Vault
    off_loop: Callable[..., Awaitable[Any]]
    """Calls a function of the user on a thread: (the reason if it raises, seconds after which it is given up, function, arguments)."""

    async def send(self, call: Call, request: HttpRequest, key: str | None, exchange: "Exchange") -> Any:
        """The answer's head, or whatever the transport raises."""
        ...

    def explain(self, error: BaseException) -> tuple[str, str]:
        """(reason, message) for what a transport raised."""
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
        self._answer: Any = None
        self.task: asyncio.Task[None] | None = None
        self.reused = False
        self.answered = False
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

    # what the stream actor tells

    def leave(self, normal: bool) -> None:
        """The stream actor is gone: drain the rest of a complete answer, else cut it off."""
        self._told_end = True
        if not normal and self.task is not None:
            self.task.cancel()

    def cut_off(self) -> None:
        """The I/O actor ends, and this with it."""
        self._end("connection_closed", "the I/O actor ended while the answer was on its way")

    # the task

    async def run(self) -> None:
        """From the request to the last byte. Never raises but when cancelled."""
        plan = self._call.plan
        try:
            if plan.tight and plan.http is None:
                await self._ways.off_loop("history_failed", plan.options.timeouts.callback, plan.shrink)
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
        except _Unreadable as error:
            self._end("malformed_response", f"the answer could not be read: {error}")
        except Exception as error:
            unanswered = self.reused and not self.answered
            self._late(*self._ways.explain(error), unanswered)
        finally:
            await self._close()

    async def _play(self, script: Script) -> None:
        decoder = self._decoder()
        for wait, item in script.steps:
            if wait:
                await asyncio.sleep(wait)
            if item and self._deliver(_read(decoder.feed, item), decoder):
                return
            await self._room()
        self._finish(decoder)

    async def _fetch(self, plan: Plan) -> None:
        """Has the images that the wire takes by their bytes only. Once a call: its further attempts have them."""
        self._tell(Resolving())
        plan.fetched(await self._ways.fetch(plan.addresses, plan.engine.http))
        self._tell(Connected())

    async def _http(self, request: HttpRequest) -> None:
        key = await self._key(request)
        self._answer = answer = await self._ways.send(self._call, request, key, self)
        del key
        self.answered = True
        decoder = self._decoder()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers.raw}
        body = _decoded(answer, headers)
        if not 200 <= answer.status_code < 300:  # a redirect, too: following one would send the key elsewhere
            await self._refused(answer.status_code, headers, body)
            return
        _read(decoder.headers, headers)
        kind = headers.get("content-type", "")
        if any(word in kind for word in _STREAMS):
            await self._events(decoder, body, b"")
        else:
            await self._whole(decoder, body, "json" in kind)

    async def _events(self, decoder: Decoder, body: AsyncIterator[bytes], first: bytes) -> None:
        if first and self._deliver(_read(decoder.feed, first), decoder):
            return await _drain(body)
        pipe = self._call.pipe
        async for chunk in body:
            if self._deliver(_read(decoder.feed, chunk), decoder):
                return None if self._failed else await _drain(body)  # what failed is cut off at once
            if pipe.full:
                await self._room()
        self._finish(decoder)
        return None

    async def _whole(self, decoder: Decoder, body: AsyncIterator[bytes], is_json: bool) -> None:
        """One body; or a stream that does not say it is one (some hosts call it JSON or nothing at all)."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in body:
            if not chunks and chunk.lstrip()[:1] not in (b"", b"{", b"["):
                if chunk.lstrip().startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
                    return await self._events(decoder, body, chunk)
                if not is_json:
                    self._end("malformed_response", "the answer is neither an event stream nor JSON")
                    return None
            chunks.append(chunk)
            size += len(chunk)
            if size > _BODY:
                self._end("malformed_response", f"the body is larger than {_BODY >> 20} MiB")
                return None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if not data.strip():
            self._end("truncated", "the answer has no body")
        elif not self._deliver(_read(decoder.body, data), decoder):
            self._finish(decoder)
        return None

    async def _refused(self, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
        """An error answer: an ordinary body, also for a request that wanted a stream."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_ERROR_TIME):
                async for chunk in body:
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > _ERROR_BODY:
                        break
        except asyncio.CancelledError:
            raise
        except Exception:
            chunks.append(b"")  # what was read says enough: the status is known
        self._tell_end(self._failure(status, {"date": formatdate(usegmt=True), **headers}, b"".join(chunks)))

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means. Its texts are read without the key: where a long one is shortened, half a key would be left."""
        read, key = self._call.plan.adapter.failure, self._secret()
        error = read(status, headers, body)
        if key and key.encode() in body:
            shown = read(status, headers, struck_body(body, key))
            error = replace(error, message=shown.message, metadata=shown.metadata)
        return error

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

    def _deliver(self, events: list[Event], decoder: Decoder) -> bool:
        """Tells what a read gave; True after a terminal event."""
        progress, decoder.progress = decoder.progress, False
        if not events:
            if progress:
                self._tell(Read(events, True))
            return False
        last = events[-1]
        if isinstance(last, ErrorOccurred):
            events[-1] = ErrorOccurred(self._complete_error(last.error))
            self._failed = True
        over = isinstance(last, TERMINAL)
        self._told_end = self._told_end or over
        self._tell(Read(events, progress))
        return over

    def _finish(self, decoder: Decoder) -> None:
        """The body ended of itself: well only if the end marker was seen."""
        if not self._deliver(_read(decoder.end), decoder):
            self._end("truncated", "the stream ended without the provider's end marker")

    def _late(self, reason: str, message: str, unanswered: bool) -> None:
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
        self._end(reason, message, unanswered)

    def _end(self, reason: str, message: str, unanswered: bool = False) -> None:
        """With a text of our own, which has no key in it."""
        if not self._told_end:
            self._told_end = True
            self._tell(Ended(self._named(ErrorInfo("adapter", reason, message)), unanswered))

    def _tell_end(self, error: ErrorInfo) -> None:
        if not self._told_end:
            self._told_end = True
            self._tell(Ended(self._complete_error(error), False))

    def _complete_error(self, error: ErrorInfo) -> ErrorInfo:
        """With the call's id and provider, and without the key that some providers echo."""
        return scrubbed(self._named(error), self._secret())

    def _named(self, error: ErrorInfo) -> ErrorInfo:
        plan = self._call.plan
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
                await answer.stream.aclose()
            except Exception:
                pass  # the connection is gone; whoever waits for the answer knows


class _Unreadable(Exception):
    """A decoder raised, with the name of what it raised: its text may hold anything."""


def _read(read: Callable[..., _T], *told: Any) -> _T:
    """What a decoder makes of it. One that raises has met an answer that it does not know: another attempt may bring a better one."""
    try:
        return read(*told)
    except AllmError:
        raise  # it says what is wrong
    except Exception as error:
        raise _Unreadable(type(error).__name__) from None


async def _drain(body: AsyncIterator[bytes]) -> None:
    """To the end of the body, within a short time, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_TIME):
            async for _ in body:
                pass
    except TimeoutError:
        pass  # the connection is closed instead


def _decoded(answer: Any, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The body's bytes; decompressed where a host compresses though we ask it not to."""
    if headers.get("content-encoding", "identity") in ("identity", ""):
        stream: AsyncIterator[bytes] = answer.stream.__aiter__()
        return stream
    unpacked: AsyncIterator[bytes] = answer.aiter_bytes()
    return unpacked


def _open(room: "asyncio.Future[None]") -> None:
    if not room.done():
        room.set_result(None)
