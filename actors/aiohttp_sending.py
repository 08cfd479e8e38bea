"""HTTP by aiohttp, the usual way: its session is asked directly, as what httpx puts around it costs a tenth of a call.

aiohttp's errors hold all headers of a request; `explain` tells what is in them, and nothing of them goes further.
"""

import functools
import inspect
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from allm.actors.lookups import Resolver
from allm.actors.sending import Outgoing, current
from allm.actors.tls import context_of
from allm.settings import Http

__all__ = ["AiohttpTransport"]

_HEADER_SIZE = 64 << 10
_READ_SIZE = 64 << 10
_CHUNK = 16 << 10
_NO_TIMEOUTS = aiohttp.ClientTimeout()
"""The stream actor watches the clock."""
_NO_CAUSE: Any = inspect.signature(ResponseHandler.set_exception).parameters["exc_cause"].default


class AiohttpTransport:
    """A session of ours: without cookies, and with no more headers than it is given."""

    tells = True

    def __init__(self, http: Http) -> None:
        self._connector = _Connector(
            limit=http.max_connections or 0, ssl=context_of(http), keepalive_timeout=30, resolver=Resolver(_patience)
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_SIZE,
            max_field_size=_HEADER_SIZE,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=_NO_TIMEOUTS,
            auto_decompress=False,
        )

    async def send(self, request: Outgoing) -> "_Answer":
        """See `Transport.send`."""
        return _Answer(
            await self._session.request(
                request.method, str(request.url), headers=request.headers, data=request.body or None, allow_redirects=False
            )
        )

    async def drop_idle(self, url: httpx.URL) -> None:
        """See `Transport.drop_idle`."""
        self._connector.drop_idle(url.host, url.port or (443 if url.scheme == "https" else 80))

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._session.close()


class _Answer:
    """See `Answer`."""

    __slots__ = ("_response", "chunks", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.raw_headers
        self.chunks: AsyncIterator[bytes] = response.content.iter_chunked(_CHUNK)

    async def close(self) -> None:
        self._response.release()
        await self._response.wait_for_close()


class _Handler(ResponseHandler):
    """Tells whoever reads the body of a chunk that is none; aiohttp (3.14) tells nobody, and its reader waits for ever."""

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _NO_CAUSE) -> None:
        super().set_exception(exc, exc_cause)
        body: Any = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError("a chunk of the body is none"))


class _Connector(aiohttp.TCPConnector):
    """Tells the exchange when a connection is made for it rather than reused; a TraceConfig would, for 4 % of a call.

    And makes reads cheap: asyncio asks for 256 KiB each time, which costs 20 us more than 64 KiB to allocate and give back.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self._factory: Any = functools.partial(_Handler, loop=self._loop)

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        exchange = current.get()
        if exchange is not None:
            exchange.connecting()
        made = await super()._create_connection(*args, **kwargs)
        if exchange is not None:
            exchange.connected()
        transport: Any = made.transport
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_SIZE
        return made

    def drop_idle(self, host: str, port: int) -> None:
        """Close the connections to this host that wait for a request."""
        for key in [key for key in self._conns if (key.host, key.port) == (host, port)]:
            for handler, _ in self._conns.pop(key):
                handler.close()


def _patience() -> float | None:
    exchange = current.get()
    return None if exchange is None else exchange.patience
