"""HTTP transports: which one goes for an engine's settings, and what it must tell the exchange about its connection.

They are called directly (`handle_async_request`): the client's cookies, header merging and URL parsing would cost a third of a call.
`httpx_aiohttp` is the fast path, wrapped for what it gets wrong: it lets aiohttp's own errors (which hold all headers) escape, shares
cookies between callers, and limits connections. On the loop.
"""

import asyncio
import contextvars
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx_aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from allm.actors.exchange import Exchange
from allm.actors.lookups import Resolver
from allm.actors.tls import context_of, has_context
from allm.actors.toolwork import said
from allm.callables import resolve
from allm.environment import environment
from allm.errors import AllmError, EngineError
from allm.proxies import Proxy, is_socks, proxy_problem
from allm.settings import Http

__all__ = ["Transports", "current", "drop_idle", "prepare", "tells_of_connections", "trace"]

current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("allm_exchange", default=None)
"""The exchange whose request is being sent: connections are made in its name."""

_HEADER_SIZE = 64 << 10
_READ_SIZE = 64 << 10


def prepare(http: Http) -> None:
    """Make the TLS context in the caller's thread, and import there what httpx imports with its first transport (httpcore), or the module
    of a transport of one's own."""
    if http.kind not in _MAKERS:
        resolve(http.transport, "engine.http.transport")
    if (http.kind == "httpx" or (not has_context(http) and environment.names_proxy())) and "httpcore" not in sys.modules:
        importlib.import_module("httpcore")
    context_of(http)


class Transports:
    """One transport for each way of doing HTTP; made on the loop at the first use."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], httpx.AsyncBaseTransport] = {}
        self._looked = float("-inf")
        self._proxies = False

    def get(self, http: Http, url: httpx.URL) -> httpx.AsyncBaseTransport:
        """The transport for these settings. A proxy that the environment names is honoured, through stock httpx as any proxy.

        Raises EngineError("bad_http") for settings of which none can be made.
        """
        proxy = None
        if http.kind in _MAKERS:
            proxy = Proxy(http.proxy, "http.proxy") if http.proxy is not None else self._environments(url)
        kind = "httpx" if proxy is not None else http.kind
        key = (kind, proxy and proxy.url, http.verify, http.cert, http.max_connections)
        made = self._made.get(key)
        if made is None:
            prepare(http)
            made = self._made[key] = _make(kind, http, proxy)
        return made

    def _environments(self, url: httpx.URL) -> Proxy | None:
        """The environment's proxy for this address. Whether it names any is looked at again after a second: six look-ups are 1 % of a
        call."""
        now = asyncio.get_running_loop().time()
        if now > self._looked + 1:
            self._looked = now
            self._proxies = environment.names_proxy()
        if not self._proxies:
            return None
        return environment.proxy_for(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))

    async def close(self) -> None:
        """Closes them all."""
        made, self._made = list(self._made.values()), {}
        for transport in made:
            try:
                await transport.aclose()
            except asyncio.CancelledError:
                raise
            except BaseException:
                continue  # one that cannot be closed must not keep the others open


def _make(kind: str, http: Http, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
    """A new transport. Whatever making it raises is told with the setting's name, and without the proxy's address: it may hold a
    password."""
    setting = proxy.setting if proxy is not None else "http.transport"
    if proxy is not None and (problem := proxy_problem(proxy.url)) is not None:
        raise EngineError("bad_http", f"{setting} is no proxy's address: {problem}")
    try:
        return _MAKERS.get(kind, _custom)(http, proxy and proxy.url)
    except AllmError:
        raise
    except ImportError as error:
        if proxy is not None and is_socks(proxy.url):
            told = "names a SOCKS proxy, which needs a package more: pip install 'allm-actors[socks]'"
            raise EngineError("bad_http", f"{setting} {told}") from None
        raise EngineError("bad_http", f"{setting}: the transport cannot be made: {error}") from None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # SystemExit too: it would end the loop
        told = type(error).__name__ if proxy is not None else said(error)
        raise EngineError("bad_http", f"{setting}: the transport cannot be made: {told}") from None


_NO_CAUSE: Any = inspect.signature(ResponseHandler.set_exception).parameters["exc_cause"].default


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


def _aiohttp(http: Http, _proxy: str | None) -> httpx.AsyncBaseTransport:
    context = context_of(http)
    session = aiohttp.ClientSession(
        connector=_Connector(limit=http.max_connections or 0, ssl=context, keepalive_timeout=30, resolver=Resolver(_patience)),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_HEADER_SIZE,
        max_field_size=_HEADER_SIZE,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
    return httpx_aiohttp.AiohttpTransport(verify=context, client=session)


def _stock(http: Http, proxy: str | None) -> httpx.AsyncBaseTransport:
    limits = httpx.Limits(max_connections=http.max_connections, max_keepalive_connections=20, keepalive_expiry=30)
    context = context_of(http)
    through: httpx.Proxy | None = None
    if proxy is not None:  # one that is spoken to over TLS is trusted as the provider is
        through = httpx.Proxy(proxy, ssl_context=context if proxy.lower().startswith("https:") else None)
    return httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=through, retries=0)


def _custom(http: Http, _proxy: str | None) -> httpx.AsyncBaseTransport:
    made: Any = resolve(http.transport, "engine.http.transport")()
    if not isinstance(made, httpx.AsyncBaseTransport):
        raise EngineError("bad_http", f"engine.http.transport: {http.transport!r} made no httpx.AsyncBaseTransport")
    return made


_MAKERS: dict[str, Callable[[Http, str | None], httpx.AsyncBaseTransport]] = {"aiohttp": _aiohttp, "httpx": _stock}


def tells_of_connections(http: Http) -> bool:
    """Whether its transport is one of ours, which say when a connection is made; one of somebody else's does not."""
    return http.kind in _MAKERS


async def trace(name: str, info: Any) -> None:
    """httpcore's hook. The CONNECT to a proxy belongs to the making of the connection."""
    exchange = current.get()
    if exchange is None:
        return
    if name.endswith("connect_tcp.started"):
        exchange.connecting()
    elif name.endswith("send_request_headers.started") and not exchange.reused and info["request"].method != b"CONNECT":
        exchange.connected()


async def drop_idle(transport: httpx.AsyncBaseTransport, url: httpx.URL) -> None:
    """Close the connections that wait for a request to this host: one of them was dead, and the next ones may be as well."""
    if isinstance(transport, httpx_aiohttp.AiohttpTransport):
        session: Any = transport.client
        session.connector.drop_idle(url.host, url.port or (443 if url.scheme == "https" else 80))
    elif isinstance(transport, httpx.AsyncHTTPTransport):
        httpcore: Any = importlib.import_module("httpcore")
        origin = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin
        pool: Any = getattr(transport, "_pool", None)
        idle: list[Any] = list(getattr(pool, "connections", ()))
        for connection in idle:
            if connection.is_idle() and connection.can_handle_request(origin):
                await connection.aclose()
