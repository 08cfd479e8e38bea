"""The ways to an MCP server: the SDK's transports, with a word when they end, and the processes they start in our hand."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TextIO

import httpx2
import msgspec
from mcp import MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR

from allm.limits import limits
from allm.mcp.bodies import bound_body
from allm.mcp.lines import Lines
from allm.mcp.server import Server

__all__ = ["LOST", "UNREACHABLE", "HttpClient", "SpawningLoop", "open_transport", "status_of"]

UNREACHABLE: Final = "the server of this session cannot be reached"
LOST: Final = "the connection was lost before the server had answered"
_STATUS: Final = "http_status"
_WORDS: Final = 500
"""Characters of an error's words that are kept."""

if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class SpawningLoop(_Loop):
    """An event loop that knows the process it has started, and what of its output is passed on: the SDK does not tell."""

    process: asyncio.SubprocessTransport | None = None
    lines: Lines | None = None
    """The filter of the standard output of the process."""

    async def subprocess_exec(self, protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        started = await super().subprocess_exec(lambda: self._filtered(protocol_factory()), *args, **kwargs)
        self.process = started[0]
        return started

    def _filtered(self, protocol: Any) -> Any:
        receive, lines = protocol.pipe_data_received, self.lines
        if lines is not None:

            def filtered(fd: int, data: bytes) -> None:
                if passed := lines.feed(data) if fd == 1 else data:
                    receive(fd, passed)

            protocol.pipe_data_received = filtered
        return protocol


class HttpClient(httpx2.AsyncClient):
    """A client in which a broken connection is an answer to the one request that met it: as an exception it would tear down the whole
    session, and every other call with it.

    An error answer within a session becomes a JSON-RPC error that has its status (`status_of`) and the server's words: the SDK leaves
    both out, and they may say that the session is not known any more.
    """

    refused: int | None = None
    """The status of the last answer that was an error."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        try:
            response = await super().send(request, stream=True, **kwargs)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return _failure(request, UNREACHABLE)
        except httpx2.TransportError:
            return _failure(request, LOST)
        try:
            bound_body(response, limits().frame)
            if response.status_code >= 400:
                self.refused = response.status_code
                if request.method == "POST" and MCP_SESSION_ID in request.headers:
                    return await _refusal(response)
            # A body that is read here and is too large is an answer to this request, too; a stream of events is the SDK's to read.
            if not stream or "event-stream" not in response.headers.get("content-type", "").lower():
                await response.aread()
        except httpx2.DecodingError as error:
            await response.aclose()
            return _failure(request, str(error))
        except httpx2.TransportError:
            await response.aclose()
            return _failure(request, LOST)
        return response


async def _refusal(response: httpx2.Response) -> httpx2.Response:
    """A refusal in the form of JSON-RPC. Of its body no more is read than the limit for error bodies."""
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limits().error_body:
                break
    except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError):
        pass
    finally:
        await response.aclose()
    code, words = _words(bytes(body))
    status = response.status_code
    error = {"code": code, "message": words or f"the server has answered with HTTP {status}", "data": {_STATUS: status}}
    return httpx2.Response(status, json={"jsonrpc": "2.0", "id": None, "error": error}, request=response.request)


def _words(body: bytes) -> tuple[int, str]:
    """The code and the message of an error body: JSON-RPC, the usual forms of JSON, or a text."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body[:_WORDS].decode("utf-8", "replace").strip()
        return INTERNAL_ERROR, "" if text.startswith("<") else text  # a page for people
    code = INTERNAL_ERROR
    for _ in range(2):
        if not isinstance(found, dict):
            break
        given: dict[str, Any] = found  # pyright: ignore[reportUnknownVariableType]
        code = given["code"] if isinstance(given.get("code"), int) else code
        found = next((given[name] for name in ("error", "message", "detail", "error_description") if given.get(name)), "")
    return code, found[:_WORDS] if isinstance(found, str) else ""


def status_of(error: MCPError) -> int | None:
    """The HTTP status of an error that was one."""
    data: Any = error.error.data
    status: Any = data.get(_STATUS) if isinstance(data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return status if isinstance(status, int) else None


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
        async with http, streamable_http_client(server.url, http_client=http, max_sse_event_size=limits().frame) as (read, write):
            yield _Watched(read, ended), write
        return
    parameters = StdioServerParameters(
        command=server.command, args=list(server.args), env=dict(server.env), cwd=server.cwd, encoding_error_handler="replace"
    )
    with _standard_error() as errors:
        async with stdio_client(parameters, errors) as (read, write):
            yield _Watched(read, ended), write


def _standard_error() -> TextIO:
    """That of this process, whatever `sys.stderr` is; nothing where there is none."""
    try:
        return os.fdopen(os.dup(2), "w")
    except OSError:
        return open(os.devnull, "w")
