"""The I/O actor: the one owner of HTTP transports, on the one loop. Nothing else imports httpx.

The transports are called directly (`handle_async_request`): the client's cookies, header merging and URL parsing would cost a third
of a call. `httpx_aiohttp` is the fast path, wrapped for what it gets wrong: it maps refusals, resets and DNS failures to
ConnectTimeout, lets aiohttp's own errors (which hold all headers) escape, shares cookies between callers, and limits connections.
"""

import asyncio
import contextvars
import functools
import importlib
import inspect
import ssl
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx_aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from allm.actors.call import Call
from allm.actors.directory import Directory
from allm.actors.exchange import Exchange
from allm.actors.fetch import SocketGuard, fetch_image, refusal
from allm.actors.stream import Begin
from allm.callables import resolve
from allm.environment import environment
from allm.errors import EngineError
from allm.images import Image
from allm.providers.adapter import HttpRequest
from allm.settings import Http
from allm.supervisors import Actor, Exit
from allm.supervisors.here import running_loop
from allm.version import __version__

__all__ = ["IoActor", "Transports", "explain", "fetch", "fetch_now", "prepare", "without_identity"]

_current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("allm_exchange", default=None)
_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}
_urls: dict[str, httpx.URL] = {}
_made_headers: dict[Any, httpx.Headers] = {}
_AGENT = f"allm/{__version__}"
_NO_TIMEOUTS: dict[str, Any] = {"connect": None, "read": None, "write": None, "pool": None}
_HEADER_SIZE = 64 << 10
_READ_SIZE = 64 << 10


def prepare(http: Http) -> None:
    """Makes the TLS context in the caller's thread: on the loop it would block every stream for a tenth of a second.

    So would httpcore, which httpx imports with its first transport.
    """
    key = (http.verify, http.cert)
    if (http.kind == "httpx" or (key not in _contexts and environment.names_proxy())) and "httpcore" not in sys.modules:
        importlib.import_module("httpcore")
    if key not in _contexts:
        try:
            _contexts[key] = _context(http)
        except (OSError, ssl.SSLError) as error:
            raise EngineError("bad_http", f"http.verify or http.cert cannot be used: {error}") from None


def _context(http: Http) -> ssl.SSLContext:
    """httpx's own makes these too, and warns of a path."""
    if isinstance(http.verify, str):
        folder = Path(http.verify).is_dir()
        context = ssl.create_default_context(capath=http.verify) if folder else ssl.create_default_context(cafile=http.verify)
    else:
        context = httpx.create_ssl_context(verify=http.verify, trust_env=True)
    if http.cert is not None:
        context.load_cert_chain(*((http.cert,) if isinstance(http.cert, str) else http.cert))
    return context


class Transports:
    """One transport for each way of doing HTTP; made on the loop at the first use."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], httpx.AsyncBaseTransport] = {}
        self._looked = float("-inf")
        self._proxies = False

    def get(self, http: Http, url: httpx.URL) -> httpx.AsyncBaseTransport:
        """The transport for these settings. A proxy that the environment names is honoured, through stock httpx as any proxy."""
        proxy = http.proxy
        if proxy is None and http.kind in _MAKERS and self._proxies_named():
            proxy = _environment_proxy(url)
        kind = "httpx" if proxy is not None and http.kind == "aiohttp" else http.kind
        key = (kind, proxy, http.verify, http.cert, http.max_connections)
        made = self._made.get(key)
        if made is None:
            prepare(http)
            made = self._made[key] = _MAKERS.get(kind, _custom)(http, proxy)
        return made

    def _proxies_named(self) -> bool:
        """Whether the environment names a proxy; looked at again after a second, as six look-ups are 1 % of a call."""
        now = asyncio.get_running_loop().time()
        if now > self._looked + 1:
            self._looked = now
            self._proxies = environment.names_proxy()
        return self._proxies

    async def close(self) -> None:
        """Closes them all. On the loop."""
        made, self._made = list(self._made.values()), {}
        for transport in made:
            try:
                await transport.aclose()
            except Exception:
                continue  # one that cannot be closed must not keep the others open


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
        exchange = _current.get()
        if exchange is not None:
            exchange.connecting()
        made = await super()._create_connection(*args, **kwargs)
        if exchange is not None:
            exchange.connected()
        transport: Any = made.transport
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_SIZE
        return made


def _aiohttp(http: Http, _proxy: str | None) -> httpx.AsyncBaseTransport:
    context = _contexts[http.verify, http.cert]
    session = aiohttp.ClientSession(
        connector=_Connector(limit=http.max_connections or 0, ssl=context, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_HEADER_SIZE,
        max_field_size=_HEADER_SIZE,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
    return httpx_aiohttp.AiohttpTransport(verify=context, client=session)


def _stock(http: Http, proxy: str | None) -> httpx.AsyncBaseTransport:
    limits = httpx.Limits(max_connections=http.max_connections, max_keepalive_connections=20, keepalive_expiry=30)
    context = _contexts[http.verify, http.cert]
    return httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy, retries=0)


def _environment_proxy(url: httpx.URL) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for this address."""
    proxies = urllib.request.getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    return None if not found or urllib.request.proxy_bypass(url.host) else found


def _custom(http: Http, _proxy: str | None) -> httpx.AsyncBaseTransport:
    made: Any = resolve(http.transport, "engine.http.transport")()
    if not isinstance(made, httpx.AsyncBaseTransport):
        raise EngineError("bad_http", f"engine.http.transport: {http.transport!r} made no httpx.AsyncBaseTransport")
    return made


_MAKERS: dict[str, Callable[[Http, str | None], httpx.AsyncBaseTransport]] = {"aiohttp": _aiohttp, "httpx": _stock}


async def _trace(name: str, _info: Any) -> None:
    """httpcore's hook."""
    exchange = _current.get()
    if exchange is not None:
        if name == "connection.connect_tcp.started":
            exchange.connecting()
        elif name == "http11.send_request_headers.started" and not exchange.reused:
            exchange.connected()


class _Request(httpx.Request):
    """A request that is ready to go: httpx's own constructor works out anew, for 5 % of a call, what is known here."""

    def __init__(self, method: str, url: httpx.URL, headers: httpx.Headers, body: bytes, extensions: dict[str, Any]) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.extensions = extensions
        self.stream = httpx.ByteStream(body)
        self._content = body


class IoActor(Actor):
    """Owns the transports and the exchanges that run. Its end cuts every exchange off; the supervisor makes a new one."""

    def __init__(self, directory: Directory, off_loop: Callable[..., Awaitable[Any]]) -> None:
        super().__init__()
        self.vault = directory.vault
        self.off_loop = off_loop
        self._directory = directory
        self._transports = Transports()
        self._tasks: dict[asyncio.Task[None], Exchange] = {}

    def on_start(self) -> None:
        self._directory.io = self.actor_ref

    def on_receive(self, message: Any) -> None:
        if type(message) is Begin:
            exchange = Exchange(message.call, message.stream, self)
            message.call.exchange = exchange
            task = exchange.task = asyncio.get_running_loop().create_task(exchange.run(), context=message.call.plan.contextvars.copy())
            self._tasks[task] = exchange
            task.add_done_callback(self._tasks.pop)
        else:
            super().on_receive(message)

    def on_exit(self, reason: Exit) -> None:
        for task, exchange in list(self._tasks.items()):
            exchange.cut_off()  # a task that is cancelled before its first step tells nobody
            task.cancel()
        closing = asyncio.get_running_loop().create_task(_close_after(set(self._tasks), self._transports))
        self._directory.closing.add(closing)
        closing.add_done_callback(self._directory.closing.discard)

    async def send(self, call: Call, request: HttpRequest, key: str | None, exchange: Exchange) -> Any:
        """Sends the request; the key goes into its header here and nowhere else."""
        http = call.plan.engine.http
        url = _url(request.url)
        transport = self._transports.get(http, url)
        exchange.reused = http.kind in _MAKERS  # until a hook tells otherwise; a transport of somebody's own has none
        _current.set(exchange)
        extensions = {"timeout": _NO_TIMEOUTS, "trace": _trace}
        if not exchange.reused:
            extensions["timeout"] = {**_NO_TIMEOUTS, "connect": call.plan.options.timeouts.connect}
        headers = httpx.Headers(_headers(request, http))
        headers["content-length"] = str(len(request.body))
        if key is not None and request.key_header is not None:
            headers[request.key_header] = request.key_prefix + key
        return await transport.handle_async_request(_Request(request.method, url, headers, request.body, extensions))

    def explain(self, error: BaseException) -> tuple[str, str]:
        """(reason, message) for what a transport raised."""
        return explain(error)

    async def fetch(self, addresses: tuple[str, ...], http: Http) -> dict[str, Image]:
        """The images at these addresses, which anybody may have written."""
        return {url: await fetch(url, without_identity(http)) for url in addresses}


def without_identity(http: Http) -> Http:
    """What of these settings may be used with a host that is not the provider: whom to trust, and nothing that says who we are."""
    return Http(verify=http.verify)


class _Fetched:
    """aiohttp's answer, as `actors/fetch.py` wants it."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.read = answer.content.iter_any
        self.close = answer.close


async def fetch(url: str, http: Http) -> Image:
    """The image at `url`, as `fetch_image` bounds it, over connections of its own. `prepare(http)` comes before. Any loop."""
    guard = SocketGuard(environment.private_urls)
    connector = aiohttp.TCPConnector(ssl=_contexts[http.verify, None], socket_factory=guard, use_dns_cache=False, force_close=True)
    headers = {"user-agent": _AGENT, "accept": "image/*", "accept-encoding": "identity"}
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, headers=headers, auto_decompress=False) as session:

        async def get(address: str) -> _Fetched:
            return _Fetched(await session.get(address, allow_redirects=False))

        try:
            return await fetch_image(url, get)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            private = f"{guard.refused} is a private address; allm.configure(allow_private_urls=True) allows these"
            found = "this is no address that can be used" if isinstance(error, ValueError) else explain(error)[1]
            problem = private if guard.refused else found
        raise refusal(url, problem)


def fetch_now(url: str) -> Image:
    """The image at `url`, waited for in the calling thread. Raises EngineError("would_block") where an event loop runs in it."""
    if running_loop() is None:
        http = Http()
        prepare(http)
        return asyncio.run(fetch(url, http))
    raise EngineError("would_block", "fetching an image would block this event loop: await asyncio.to_thread(image.to_binary)")


def _url(text: str) -> httpx.URL:
    """Parsed once: 20 us each, and an engine has few."""
    url = _urls.get(text)
    if url is None:
        if len(_urls) > 1000:
            _urls.clear()
        url = httpx.URL(text)
        if not url.host or not 0 <= (url.port or 0) < 1 << 16:
            raise httpx.InvalidURL("no host, or no such port")
        _urls[text] = url
    return url


def _headers(request: HttpRequest, http: Http) -> httpx.Headers:
    """All headers but the key. Kept: httpx copies a `Headers` in a tenth of the time that it takes to make one."""
    known = (request.url, request.headers)
    headers = _made_headers.get(known) if not http.headers else None
    if headers is None:
        netloc = _url(request.url).netloc.decode("ascii")
        fixed = (("host", netloc), ("user-agent", _AGENT), ("accept-encoding", "identity"))
        own = {name.lower() for name in http.headers}
        headers = httpx.Headers([*(pair for pair in (*fixed, *request.headers) if pair[0] not in own), *http.headers.items()])
        if not http.headers:
            if len(_made_headers) > 1000:
                _made_headers.clear()
            _made_headers[known] = headers
    return headers


async def _close_after(tasks: set["asyncio.Task[None]"], transports: Transports) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=1)
    await transports.close()


_TIMEOUTS = (aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError, asyncio.TimeoutError)
_BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, httpx.NetworkError)
_MALFORMED = (aiohttp.ClientResponseError, httpx.RemoteProtocolError, httpx.DecodingError)
_INVALID = (aiohttp.InvalidURL, httpx.InvalidURL, httpx.UnsupportedProtocol)


def explain(error: BaseException) -> tuple[str, str]:
    """(reason, message) for what a transport raised. Nothing of it is kept: its text and its chain may hold headers."""
    cause = error.__cause__ or error
    if isinstance(error, _INVALID) or isinstance(cause, _INVALID):
        return "invalid_request", "the base URL cannot be used"
    if isinstance(cause, _TIMEOUTS):
        return "timeout", "the connection timed out"
    if isinstance(cause, aiohttp.ClientConnectorDNSError | aiohttp.ClientConnectorError):
        return "connection_closed", f"no connection: {_os_text(cause)}"
    if isinstance(cause, aiohttp.ServerDisconnectedError) or (
        isinstance(error, httpx.RemoteProtocolError) and "disconnected" in str(error)
    ):
        return "connection_closed", "the server closed the connection without an answer"
    if isinstance(error, httpx.ConnectTimeout | httpx.TimeoutException) and cause is error:
        return "timeout", "the connection timed out"
    if isinstance(error, httpx.RemoteProtocolError) and "peer closed connection" in str(error):
        return "connection_closed", "the connection closed before the body was complete"
    if isinstance(cause, _BROKEN) or isinstance(error, _BROKEN):
        return "connection_closed", f"the connection broke ({type(cause).__name__})"
    if isinstance(cause, _MALFORMED) or isinstance(error, _MALFORMED):
        return "malformed_response", "the answer is not HTTP as it should be"
    if isinstance(error, httpx.TransportError | aiohttp.ClientError | OSError):
        return "connection_closed", f"the connection failed ({type(cause).__name__})"
    return "unknown", f"sending failed with {type(error).__name__}"


def _os_text(error: Any) -> str:
    inner = getattr(error, "os_error", None)
    return str(getattr(inner, "strerror", None) or type(inner or error).__name__)
