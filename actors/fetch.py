"""An image from an address that somebody else wrote: bounded in size and time, and never from a private network.

The check is made where a socket is about to connect (`SocketGuard`), so that what is checked is what is connected to: no name can
resolve to one address for the check and to another for the connection, and a redirect is checked like the first address. Fetching goes
directly, through no proxy, and carries neither keys nor cookies. `actors/io.py` does the HTTP; runs on any loop.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any, Final, Protocol
from urllib.parse import urljoin, urlsplit

from allm.errors import ValidationError
from allm.images import Image, mime_of
from allm.limits import limits

__all__ = ["MAX_REDIRECTS", "MAX_TIME", "Answer", "SocketGuard", "fetch_image", "is_public", "refusal"]

MAX_TIME: Final = 20.0
"""Seconds that one image may take, redirects included."""
MAX_REDIRECTS: Final = 3

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_UNTOLD: Final = ("", "application/octet-stream", "binary/octet-stream")  # what stores call a file whose type nobody told them

_NO_PIXELS: Final = ("", "image/svg+xml")  # no provider takes a drawing that is text


class Answer(Protocol):
    """An answer's head and the body to come."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up in any case."""
        ...

    def read(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        ...

    def close(self) -> None:
        """No more of it is wanted."""
        ...


class SocketGuard:
    """Makes sockets for addresses that anyone may reach, and none for others. `refused` is the one that was asked for in vain."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self.refused: str | None = None

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an entry of `getaddrinfo`."""
        family, kind, protocol, _, address = info
        if not self._private and not is_public(address[0]):
            self.refused = str(address[0])
            raise OSError("a private address")
        return socket.socket(family, kind, protocol)


def is_public(address: str) -> bool:
    """Whether this IP address is one of the public network. An IPv6 address counts as the IPv4 one that it stands for."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local:
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


async def fetch_image(url: str, get: Callable[[str], Awaitable[Answer]], left: int | None = None) -> Image:
    """The image at `url`. Raises ValidationError if it cannot be had, is too large or is none; whatever `get` raises comes through.

    It may have `limits().image` bytes, and no more than are `left` for the images of its request.
    """
    try:
        async with asyncio.timeout(MAX_TIME):
            answer = await _follow(url, get)
            try:
                return await _image(answer, url, left)
            finally:
                answer.close()
    except TimeoutError:
        raise refusal(url, f"it did not come within {MAX_TIME:g} s") from None


async def _follow(url: str, get: Callable[[str], Awaitable[Answer]]) -> Answer:
    """The answer at the end of the redirects."""
    target = url
    for _ in range(MAX_REDIRECTS + 1):
        if urlsplit(target).scheme not in ("http", "https"):
            raise refusal(url, "only http and https addresses are fetched")
        answer = await get(target)
        if answer.status not in _REDIRECTS:
            return answer
        answer.close()
        target = urljoin(target, answer.headers.get("location", ""))
    raise refusal(url, f"it is redirected more than {MAX_REDIRECTS} times")


async def _image(answer: Answer, url: str, left: int | None) -> Image:
    if answer.status != 200:
        raise refusal(url, f"the answer is HTTP {answer.status}")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind not in _UNTOLD:
        raise refusal(url, f"it is no image but {kind}")
    data = await _body(answer, url, left)
    try:
        mime = mime_of(data)
    except ValidationError:
        mime = ""
    if mime in _NO_PIXELS:
        raise refusal(url, "what is there is no image of a known type")
    return Image(data=data, mime=mime)


async def _body(answer: Answer, url: str, left: int | None) -> bytes:
    """All of it. `BytesIO` gives the buffer itself: kept in pieces and joined, an image would stand in memory twice."""
    most = limits().image
    told = f"it is larger than {_size(most)}"
    if left is not None and left < most:
        most, told = left, f"the images of one request together are larger than {_size(limits().images)}"
    length = answer.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise refusal(url, told)
    data = BytesIO()
    async for chunk in answer.read():
        if data.tell() + len(chunk) > most:
            raise refusal(url, told)
        data.write(chunk)
    return data.getvalue()


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def refusal(url: str, problem: str) -> ValidationError:
    """The error for what cannot be had. Of the address it shows the host only: signed ones carry a secret."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return ValidationError.at("image.url", f"the image at {host or 'no host'} cannot be fetched: {problem}")
