"""What the tests of the runtime share: a server for bytes of one's own, ways to wait, and what every stream must be."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import allm
from allm.events import TERMINAL, Event
from allm.supervisors.cell import alive

FAST: dict[str, Any] = {"base_delay": 0.02, "max_delay": 0.05}
WAIT = 10.0
"""Seconds a test waits for what must happen; reached only when it does not."""

Respond = Callable[["Visit"], object]


def eventually(true: Callable[[], object], what: str, timeout: float = WAIT) -> None:
    """Until it is true; for what tells nobody that it happened."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"{what}: still not so after {timeout} s"
        time.sleep(0.005)


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, allm.TextDelta))


def kinds(events: Iterable[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def one_end(events: list[Event]) -> Event:
    """The terminal event: there is exactly one, and it is last."""
    ends = [event for event in events if isinstance(event, TERMINAL)]
    assert len(ends) == 1, f"{len(ends)} terminal events"
    assert events[-1] is ends[0], "the terminal event is not last"
    return ends[0]


def first_delta(events: Iterable[Event]) -> allm.TextDelta:
    """Takes events up to the first text."""
    return next(event for event in events if isinstance(event, allm.TextDelta))


def node(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    """The node of `Runtime.tree()` under these ids."""
    for name in path:
        tree = next(each for each in tree["children"] if each["id"] == name)
    return tree


def engine_name(runtime: allm.Runtime) -> str:
    """The name of the one engine of the tree."""
    (only,) = node(runtime.tree(), "engines")["children"]
    return str(only["id"])


def size(tree: dict[str, Any]) -> int:
    """How many actors there are."""
    return 1 + sum(size(child) for child in tree.get("children", ()))


def living() -> set[str]:
    """The names of all actors of the process."""
    return set(alive)


class Visit:
    """One connection to a `RawServer`. `number` counts them from 1."""

    def __init__(self, server: "RawServer", sock: socket.socket, number: int) -> None:
        self.number = number
        self._server = server
        self._sock = sock
        self._buffer = bytearray()

    def read(self) -> str | None:
        """The head of the next request, whose body is read too; None when the client is gone."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = next((int(line.partition(":")[2]) for line in text.splitlines() if line.lower().startswith("content-length:")), 0)
        while len(self._buffer) < length:
            if not self._more():
                return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._server.arrived(text, body)
        return text

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def wait_gone(self) -> None:
        """Until the client has left."""
        while self._more():
            pass

    def tunnel(self, host: str, port: int) -> None:
        """Hands bytes on, both ways, until either side has closed: what a proxy does after CONNECT."""
        with socket.create_connection((host, port)) as other:
            back = threading.Thread(target=_pump, args=(other, self._sock), daemon=True)
            back.start()
            _pump(self._sock, other)
            back.join(WAIT)

    def _more(self) -> bool:
        try:
            data = self._sock.recv(1 << 16)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for sock in (source, target):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class RawServer:
    """Calls `respond(visit)` for each connection, on a thread of its own, and closes it when that returns."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[str] = []
        """Of every request, in the order they came."""
        self.bodies: list[bytes] = []
        self.connections = 0
        self._changed = threading.Condition()
        self._socks: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arrived(self, head: str, body: bytes) -> None:
        with self._changed:
            self.heads.append(head)
            self.bodies.append(body)
            self._changed.notify_all()

    def wait_requests(self, count: int, timeout: float = WAIT) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.heads) >= count, timeout)

    def header(self, name: str) -> list[str | None]:
        """This header of each request."""
        return [_header(head, name) for head in self.heads]

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(WAIT)
        for sock in self._socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(WAIT)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._socks.append(sock)
            thread = threading.Thread(target=self._visit, args=(sock, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _visit(self, sock: socket.socket, number: int) -> None:
        with sock, suppress(OSError):
            self._respond(Visit(self, sock, number))


def _header(head: str, name: str) -> str | None:
    for line in head.splitlines()[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None


def http(body: bytes, kind: str = "text/event-stream", status: str = "200 OK", *more: str) -> bytes:
    """A whole answer whose length is told."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*pieces: bytes, kind: str = "text/event-stream", status: str = "200 OK", end: bool = True) -> bytes:
    """An answer in chunks."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


def chat_event(text: str | None = None, finish: str | None = None) -> bytes:
    """One event of a streamed answer on the Chat wire."""
    delta = {} if text is None else {"content": text}
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def chat_stream(*texts: str) -> bytes:
    """A whole streamed answer on the Chat wire."""
    return b"".join(map(chat_event, texts)) + chat_event(finish="stop") + b"data: [DONE]\n\n"


def chat_body(text: str) -> bytes:
    """An answer in one body."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def answers(*whole: bytes) -> Respond:
    """Answers each request of any connection with the next of these, the last one again and again."""
    lock, left = threading.Lock(), list(whole)

    def respond(visit: Visit) -> None:
        while visit.read() is not None:
            with lock:
                answer = left.pop(0) if len(left) > 1 else left[0]
            visit.send(answer)

    return respond


class TlsServer(RawServer):
    """The same over TLS; `ca` asks clients for a certificate."""

    def __init__(self, certificate: Path, ca: Path | None = None, respond: Respond | None = None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate / "both.pem")
        if ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(ca)
        super().__init__(respond or answers(http(chat_stream("Hello"))))
        self.url = self.url.replace("http:", "https:")

    def _visit(self, sock: Any, number: int) -> None:
        try:
            sock = self._context.wrap_socket(sock, server_side=True)
        except (ssl.SSLError, OSError):
            sock.close()
            return
        self._socks.append(sock)
        super()._visit(sock, number)
