"""The ways to an MCP server: the SDK's transports, with a word when they end, and the processes they start in our hand."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TextIO

import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from allm.mcp.bodies import bound_body
from allm.mcp.server import Server

__all__ = ["LOST", "UNREACHABLE", "HttpClient", "SpawningLoop", "open_transport"]

UNREACHABLE: Final = "the server of this session cannot be reached"
LOST: Final = "the connection was lost before the server had answered"

if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class SpawningLoop(_Loop):
    """An event loop that knows the process it has started: the SDK does not tell."""

    process: asyncio.SubprocessTransport | None = None

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        started = await super().subprocess_exec(*args, **kwargs)
        self.process = started[0]
        return started


class HttpClient(httpx2.AsyncClient):
    """A client in which a broken connection is an answer to the one request that met it: as an exception it would tear down the whole
    session, and every other call with it."""

    refused: int | None = None
    """The status of the last answer that was an error."""
    most: int = 64 << 20
    """Bytes of an answer that is no stream of events."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        try:
            response = await super().send(request, stream=True, **kwargs)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return _failure(request, UNREACHABLE)
        except httpx2.TransportError:
            return _failure(request, LOST)
        try:
            bound_body(response, self.most)
            # A body that is read here and is too large is an answer to this request, too; a stream of events is the SDK's to read.
            if not stream or "event-stream" not in response.headers.get("content-type", "").lower():
                await response.aread()
        except httpx2.DecodingError as error:
            await response.aclose()
            return _failure(request, str(error))
        except httpx2.TransportError:
            await response.aclose()
            return _failure(request, LOST)
        if response.status_code >= 400:
            self.refused = response.status_code
        return response


def _failure(request: httpx2.Request, message: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": CONNECTION_CLOSED, "message": message}}
    return httpx2.Response(502, json=error, request=request)


class _Watched:
    """A stream of the server's messages that says when it has ended; else the SDK's session goes on as if nothing were."""

    def __init__(self, stream: Any, ended: Callable[[], object]) -> None:
        self._stream = stream
        self._ended = ended

    async def receive(self) -> Any:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> "_Watched":
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except Exception:  # StopAsyncIteration, or that it is closed
            self._ended()
            raise

    async def __aenter__(self) -> "_Watched":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._stream.__aexit__(*exc)


@asynccontextmanager
async def open_transport(server: Server, http: HttpClient | None, ended: Callable[[], object]) -> AsyncGenerator[Any]:
    """The streams to and from the server; `ended()` is called when there will be no more messages."""
    if http is not None:
        most = max(1 << 20, 8 * server.max_result)  # bytes of one message: a result is refused by its characters later
        http.most = most
        async with http, streamable_http_client(server.url, http_client=http, max_sse_event_size=most) as (read, write):
            yield _Watched(read, ended), write
        return
    parameters = StdioServerParameters(command=server.command, args=list(server.args), env=dict(server.env), cwd=server.cwd)
    with _standard_error() as errors:
        async with stdio_client(parameters, errors) as (read, write):
            yield _Watched(read, ended), write


def _standard_error() -> TextIO:
    """That of this process, whatever `sys.stderr` is; nothing where there is none."""
    try:
        return os.fdopen(os.dup(2), "w")
    except OSError:
        return open(os.devnull, "w")
