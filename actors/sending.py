"""A request as it goes out, and what a transport is to the I/O actor: aiohttp, stock httpx, and whatever a program brings."""

import contextvars
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import httpx

if TYPE_CHECKING:
    from allm.actors.answer import Answer
    from allm.actors.exchange import Exchange

__all__ = ["Outgoing", "Transport", "Upload", "current"]

current: "contextvars.ContextVar[Exchange | None]" = contextvars.ContextVar("allm_exchange", default=None)
"""The exchange whose request is being sent: connections are made in its name."""

_PIECE = 64 << 10


class Upload:
    """A large body in pieces, which tells its exchange when the first goes out and when the last has."""

    def __init__(self, body: bytes, exchange: "Exchange") -> None:
        self._body = body
        self._exchange = exchange

    def pieces(self) -> Iterator[bytes]:
        """The body, once."""
        self._exchange.sending()
        for start in range(0, len(self._body), _PIECE):
            yield self._body[start : start + _PIECE]
        self._exchange.sent()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces():
            yield piece


class Outgoing(NamedTuple):
    """A request that is ready to go. `headers` are those that the wire has, the key's among them, by lower-case name."""

    method: str
    url: httpx.URL
    headers: dict[str, str]
    body: "bytes | Upload"
    patience: float | None
    """Seconds that a connection may take, where the transport does not tell that it makes one."""


class Transport(Protocol):
    """A way of doing HTTP, with connections that it keeps. On the loop."""

    @property
    def tells(self) -> bool:
        """Whether it tells the exchange when it makes a connection."""
        ...

    async def send(self, request: Outgoing) -> "Answer":
        """The head of the answer, or whatever goes wrong."""
        ...

    async def drop_idle(self, url: httpx.URL) -> None:
        """Close the connections that wait for a request to this host: one of them was dead, and the next ones may be as well."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
