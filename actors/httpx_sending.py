"""HTTP by a transport of httpx's: its own, through a proxy or where it is asked for, or one that the program brings.

They are called directly (`handle_async_request`): the client's cookies, header merging and URL parsing would cost a third of a call.
"""

import importlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import httpx

from allm.actors.sending import Outgoing, Upload, current

__all__ = ["HttpxTransport"]

_NO_TIMEOUTS: dict[str, Any] = {"connect": None, "read": None, "write": None, "pool": None}


class HttpxTransport:
    """`tells`: it is httpx's own, whose hook says when a connection is made."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, tells: bool) -> None:
        self._transport = transport
        self.tells = tells

    async def send(self, request: Outgoing) -> "_Answer":
        """See `Transport.send`."""
        timeout = _NO_TIMEOUTS if self.tells else {**_NO_TIMEOUTS, "connect": request.patience}
        made = _Request(request.method, request.url, httpx.Headers(request.headers), request.body, {"timeout": timeout, "trace": _trace})
        return _Answer(await self._transport.handle_async_request(made))

    async def drop_idle(self, url: httpx.URL) -> None:
        """See `Transport.drop_idle`; nothing where the transport is not httpx's own."""
        if not isinstance(self._transport, httpx.AsyncHTTPTransport):
            return
        httpcore: Any = importlib.import_module("httpcore")
        origin = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin
        pool: Any = getattr(self._transport, "_pool", None)
        idle: list[Any] = list(getattr(pool, "connections", ()))
        for connection in idle:
            if connection.is_idle() and connection.can_handle_request(origin):
                await connection.aclose()

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._transport.aclose()


class _Answer:
    """See `Answer`."""

    __slots__ = ("_stream", "chunks", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._stream = cast(httpx.AsyncByteStream, response.stream)
        self.status = response.status_code
        self.headers: Sequence[tuple[bytes, bytes]] = response.headers.raw
        self.chunks = self._stream.__aiter__()

    async def close(self) -> None:
        await self._stream.aclose()


class _Request(httpx.Request):
    """A request that is ready to go: httpx's own constructor works out anew what is known here."""

    def __init__(self, method: str, url: httpx.URL, headers: httpx.Headers, body: bytes | Upload, extensions: dict[str, Any]) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.extensions = extensions
        if isinstance(body, Upload):
            self.stream = _Stream(body)
        else:
            self.stream = httpx.ByteStream(body)
            self._content = body


class _Stream(httpx.AsyncByteStream):
    """A large body."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._upload.__aiter__()


async def _trace(name: str, info: Any) -> None:
    """httpcore's hook. The CONNECT to a proxy belongs to the making of the connection."""
    exchange = current.get()
    if exchange is None:
        return
    if name.endswith("connect_tcp.started"):
        exchange.connecting()
    elif name.endswith("send_request_headers.started") and not exchange.reused and info["request"].method != b"CONNECT":
        exchange.connected()
