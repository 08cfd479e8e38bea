"""An HTTP/1.1 server on loopback that can also misbehave, on one daemon thread with its own loop.

It knows nothing of models. A handler gets each request whole, and an `Answer` to write to. The
handler's task is cancelled as soon as its client goes away; a half-closed connection counts as
gone, as most servers take it. Everything here but `HttpServer`'s methods runs on the loop thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable

import msgspec

__all__ = ["Answer", "HttpRequest", "HttpServer"]

HOST = "127.0.0.1"
BACKLOG = 1024
HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 64 * 1024 * 1024
BUFFER_LIMIT = 2 * BODY_LIMIT
LINGER_SECONDS = 1.0
CLOSE_SECONDS = 5.0
RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class HttpRequest(msgspec.Struct, frozen=True):
    """Header names are lower-case; repeated headers are joined by commas."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def keeps_alive(self) -> bool:
        return self.version == "HTTP/1.1" and "close" not in self.headers.get("connection", "").lower()


class BadHttp(Exception):
    """Bytes that are no request this server takes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(asyncio.Protocol):
    """One client: buffered reading, writing that waits until the kernel has taken everything."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._discarding = False
        self._transport: asyncio.Transport | None = None
        self.closed = False
        server.joined(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        if self._server.closing:
            self.abort()
        self._task = asyncio.get_running_loop().create_task(self._server.converse(self))

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        self._buffer += data
        self._readable.set()
        if len(self._buffer) > BUFFER_LIMIT:
            self.abort()

    def eof_received(self) -> None:
        self.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._task.cancel()
        self._task.add_done_callback(lambda _: self._server.left(self))

    def abort(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """After what was written, which `write` has already handed to the kernel."""
        self.closed = True
        self._made().close()

    def reset(self) -> None:
        sock = self._made().get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.abort()

    async def write(self, data: bytes) -> None:
        transport = self._made()
        transport.write(data)
        if transport.is_closing():  # the client has gone: `connection_lost`, which cancels this, comes with the loop's next turn
            await asyncio.sleep(0)
        await self._writable.wait()

    def _made(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    async def linger(self) -> None:
        """Let a client that is still sending read the answer: closing at once would reset it."""
        self._discarding = True
        self._buffer.clear()
        with contextlib.suppress(OSError):
            self._made().write_eof()
        await asyncio.sleep(LINGER_SECONDS)

    async def read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        return self._take(count)

    async def read_until(self, mark: bytes, limit: int) -> bytes:
        """Up to the mark, which is dropped."""
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            if len(self._buffer) > limit:
                raise BadHttp(431, "request head too large")
            start = max(0, len(self._buffer) - len(mark))
            await self._more()
        return self._take(at + len(mark))[:at]

    async def _more(self) -> None:
        self._readable.clear()
        await self._readable.wait()

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


class Answer:
    """One response: `start`, any number of `write`, then `end`, or `cut` at any time."""

    def __init__(self, connection: Connection, request: HttpRequest) -> None:
        self._connection = connection
        self._bodyless = request.method == "HEAD"
        self._may_chunk = request.version == "HTTP/1.1"
        self._chunked = False
        self.keeps_alive = request.keeps_alive

    async def start(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Send the head. Without a length the body is chunked (HTTP/1.0: ended by closing)."""
        self._chunked = length is None and self._may_chunk
        lines = [f"HTTP/1.1 {status} {_reason(status)}"]
        lines += (f"{name}: {value}" for name, value in headers)
        if length is not None:
            lines.append(f"content-length: {length}")
        elif self._chunked:
            lines.append("transfer-encoding: chunked")
        if not self.keeps_alive:
            lines.append("connection: close")
        await self._connection.write("\r\n".join((*lines, "\r\n")).encode("latin-1", "replace"))

    async def write(self, data: bytes) -> None:
        if data and not self._bodyless:
            await self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        if self._chunked and not self._bodyless:
            await self._connection.write(b"0\r\n\r\n")

    def cut(self, *, reset: bool = False) -> None:
        """Close the connection here. What a reset overtakes may be lost on some systems."""
        if reset:
            self._connection.reset()
        else:
            self._connection.close()


class HttpServer:
    """Listens from construction to `close()`. The loop thread calls `changed` when a connection comes or goes."""

    def __init__(
        self,
        handler: Callable[[HttpRequest, Answer], Awaitable[None]],
        changed: Callable[[], None],
        port: int = 0,
    ) -> None:
        self._handler = handler
        self._changed = changed
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[object]] = set()
        self.closing = False
        self._socket = socket.create_server((HOST, port), backlog=BACKLOG)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="simulator", daemon=True)
        self._thread.start()
        ready.wait()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def close(self) -> None:
        """Drop every connection, end the thread, wait for it. Any thread, any number of times."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def joined(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._changed()

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._gone.set()
        self._changed()

    async def converse(self, connection: Connection) -> None:
        """Serve one connection's requests, one after the other."""
        try:
            while not connection.closed:
                request = await _read_request(connection)
                answer = Answer(connection, request)
                await self._handler(request, answer)
                if not answer.keeps_alive and not connection.closed:
                    connection.close()
        except BadHttp as error:
            await _refuse(connection, error)
            connection.close()
        except Exception:
            connection.abort()
            raise

    def _run(self, ready: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._listen(ready))
        finally:
            ready.set()

    async def _listen(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._gone = asyncio.Event()
        with self._socket:
            self._loop.add_reader(self._socket, self._accept)
            ready.set()
            await self._stop.wait()
            self.closing = True
            self._loop.remove_reader(self._socket)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._drop_all()

    def _accept(self) -> None:
        """In place of `loop.create_server`, which loses sockets accepted just before it closes (CPython 3.11)."""
        try:
            sock, _ = self._socket.accept()
        except OSError:  # the client has left already
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(lambda: Connection(self), sock))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _drop_all(self) -> None:
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.abort()
        while self._connections:
            self._gone.clear()
            await self._gone.wait()


async def _read_request(connection: Connection) -> HttpRequest:
    head = b""
    while not head:  # blank lines between requests are allowed
        head = (await connection.read_until(b"\r\n", HEAD_LIMIT)).strip()
    if len(words := head.decode("latin-1").split(" ")) != 3 or not words[2].startswith("HTTP/1."):
        raise BadHttp(400, "not an HTTP/1.1 request line")
    headers = await _read_headers(connection)
    request = HttpRequest(words[0], words[1], words[2], headers)
    if "100-continue" in headers.get("expect", "").lower():
        await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return msgspec.structs.replace(request, body=await _read_body(connection, headers))


async def _read_headers(connection: Connection) -> dict[str, str]:
    headers: dict[str, str] = {}
    size = 0
    while line := await connection.read_until(b"\r\n", HEAD_LIMIT):
        size += len(line)
        if size > HEAD_LIMIT:
            raise BadHttp(431, "request head too large")
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadHttp(400, "header without a colon")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _read_body(connection: Connection, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _read_chunks(connection)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadHttp(400, "content-length is no number")
    return await connection.read_exactly(_allowed(int(length)))


async def _read_chunks(connection: Connection) -> bytes:
    body = bytearray()
    while size := _chunk_size(await connection.read_until(b"\r\n", HEAD_LIMIT)):
        _allowed(len(body) + size)
        body += await connection.read_exactly(size)
        if await connection.read_exactly(2) != b"\r\n":
            raise BadHttp(400, "chunk longer than its size")
    await _read_headers(connection)  # trailers
    return bytes(body)


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise BadHttp(400, "chunk size is no hexadecimal number") from None


def _allowed(size: int) -> int:
    if not 0 <= size <= BODY_LIMIT:
        raise BadHttp(413, f"request body over {BODY_LIMIT} bytes")
    return size


async def _refuse(connection: Connection, error: BadHttp) -> None:
    body = str(error).encode()
    head = f"HTTP/1.1 {error.status} {_reason(error.status)}\r\ncontent-type: text/plain\r\n"
    framing = f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    await connection.write((head + framing).encode() + body)
    await connection.linger()


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
