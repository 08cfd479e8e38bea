"""What a transport raised, told as an error of ours: the same words for every transport, and nothing of its text or headers."""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import httpx

from allm.errors import ErrorInfo

__all__ = ["explain"]

_INVALID = (aiohttp.InvalidURL, httpx.InvalidURL, httpx.UnsupportedProtocol)
_TIMEOUTS = (aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError, httpx.TimeoutException, asyncio.TimeoutError)
_NO_CONNECTION = (aiohttp.ClientConnectorError, httpx.ConnectError)
_BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, httpx.NetworkError)
_MALFORMED = (aiohttp.ClientResponseError, httpx.RemoteProtocolError, httpx.DecodingError)
_FAILED = (httpx.TransportError, aiohttp.ClientError, OSError)

_PLACE = re.compile(r"\s*\(_ssl\.c:\d+\)$")
_NUMBER = re.compile(r"\[Errno ([0-9]{1,4})\]")
_STATUS = re.compile(r"([1-5][0-9][0-9])(?: |$)")
_SOCKS = re.compile(r"Proxy Server could not connect: ([A-Za-z ./]{1,60})\Z")
_DEPTH: Final = 16


def explain(error: BaseException) -> ErrorInfo:
    """The error for what a transport raised. Nothing of it is kept: its text and its chain may hold headers.

    What no further attempt mends (a certificate that is not trusted, a proxy that refuses us) has `should_retry` False in its metadata.
    """
    chain = list(_chain(error))
    # The httpx error over aiohttp is a poor guess (a refusal is a timeout there): what is below decides.
    known = [each for each in chain if isinstance(each, aiohttp.ClientError)] or chain

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(each, kinds) for each in known)

    if among(*_INVALID):
        return _told("invalid_request", "the base URL cannot be used")
    proxied = next((each for each in chain if isinstance(each, httpx.ProxyError)), None)
    if proxied is not None:
        return _of_proxy(str(proxied))
    if among(*_NO_CONNECTION):
        untrusted = any(isinstance(each, ssl.SSLCertVerificationError) for each in chain)
        return _told("connection_closed", f"no connection: {_system_text(chain) or type(known[-1]).__name__}", **_final(untrusted))
    if among(*_TIMEOUTS):
        return _told("timeout", "the connection timed out")
    protocol = next((str(each) for each in chain if isinstance(each, httpx.RemoteProtocolError)), "")
    if among(aiohttp.ServerDisconnectedError) or "disconnected" in protocol:
        return _told("connection_closed", "the server closed the connection without an answer")
    if "peer closed connection" in protocol:
        return _told("connection_closed", "the connection closed before the body was complete")
    if among(*_BROKEN):
        return _told("connection_closed", f"the connection broke ({_system_text(chain) or type(known[-1]).__name__})")
    if among(*_MALFORMED):
        return _told("malformed_response", "the answer is not HTTP as it should be")
    if among(*_FAILED):
        return _told("connection_closed", f"the connection failed ({_system_text(chain) or type(known[-1]).__name__})")
    return _told("unknown", f"sending failed with {type(error).__name__}")


def _told(reason: str, message: str, **metadata: Any) -> ErrorInfo:
    return ErrorInfo("adapter", reason, message, metadata=metadata)


def _final(true: bool) -> dict[str, Any]:
    return {"should_retry": False} if true else {}


def _of_proxy(text: str) -> ErrorInfo:
    """What the proxy said to CONNECT: its status, or its reason of the few that SOCKS knows."""
    if found := _STATUS.match(text):
        status = int(found[1])
        asks = ": it asks for a user name and a password" if status == 407 else ""
        return _told("connection_closed", f"no connection: the proxy answered HTTP {status}{asks}", **_final(400 <= status < 500))
    found = _SOCKS.match(text)
    return _told("connection_closed", f"no connection: the proxy refused it{f' ({found[1]})' if found else ''}")


def _chain(error: Any) -> Iterator[BaseException]:
    """The error and what it came from; of a group the first."""
    for _ in range(_DEPTH):
        if error is None:
            return
        yield error
        group = getattr(error, "exceptions", None)  # of an ExceptionGroup
        inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or (group[0] if group else None)
        error = inner or error.__cause__ or error.__context__


def _system_text(chain: list[BaseException]) -> str | None:
    """The words of the system, or of OpenSSL, for what went wrong: those of the innermost error that has any."""
    for each in reversed(chain):
        if isinstance(each, ssl.SSLError | socket.gaierror) and each.strerror:
            return _PLACE.sub("", str(each.strerror))
        if isinstance(each, OSError):
            # asyncio has words of its own, with the address; where several were tried, their texts are one.
            number = each.errno or next((int(found) for found in _NUMBER.findall(str(each))), None)
            if number is not None and number > 0:
                return os.strerror(number)
    return None
