"""The I/O actor: the one owner of HTTP transports, on the one loop.

It sends requests over the transports that `actors/transports.py` makes, and has images fetched.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import httpx

from allm.actors.call import Call
from allm.actors.crews import Crew
from allm.actors.directory import Directory
from allm.actors.exchange import Exchange
from allm.actors.explain import explain
from allm.actors.fetch import MAX_TIME, SocketGuard, fetch_image, refusal
from allm.actors.lookups import Resolver, take_over
from allm.actors.stream import Begin
from allm.actors.tls import context_of
from allm.actors.transports import Transports, current, drop_idle, prepare, tells_of_connections, trace
from allm.environment import environment
from allm.errors import EngineError, ErrorInfo
from allm.images import Image
from allm.limits import limits
from allm.providers.adapter import HttpRequest
from allm.settings import Http
from allm.supervisors import Actor, Exit
from allm.supervisors.here import running_loop
from allm.version import __version__

__all__ = ["IoActor", "fetch", "fetch_now", "prepare", "without_identity"]

_urls: dict[str, httpx.URL] = {}
_made_headers: dict[Any, httpx.Headers] = {}
_AGENT = f"allm/{__version__}"
_NO_TIMEOUTS: dict[str, Any] = {"connect": None, "read": None, "write": None, "pool": None}
_LARGE = 256 << 10
"""Bytes of a request from which on its upload has no clock but `total`."""
_PIECE = 64 << 10


class _Request(httpx.Request):
    """A request that is ready to go: httpx's own constructor works out anew, for 5 % of a call, what is known here."""

    def __init__(self, method: str, url: httpx.URL, headers: httpx.Headers, body: bytes, extensions: dict[str, Any]) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.extensions = extensions
        self.stream = httpx.ByteStream(body)
        self._content = body


class _Upload(httpx.AsyncByteStream):
    """A large body in pieces, which tells its exchange when the first goes out and when the last has."""

    def __init__(self, body: bytes, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._exchange.sending()
        for start in range(0, len(self._body), _PIECE):
            yield self._body[start : start + _PIECE]
        self._exchange.sent()


class _LargeRequest(_Request):
    """A request whose body is read from its stream: httpx-aiohttp sends `content` whole where there is one."""

    def __init__(self, method: str, url: httpx.URL, headers: httpx.Headers, upload: _Upload, extensions: dict[str, Any]) -> None:
        super().__init__(method, url, headers, b"", extensions)
        self.stream = upload
        del self._content


class IoActor(Actor):
    """Owns the transports and the exchanges that run. Its end cuts every exchange off; the supervisor makes a new one."""

    def __init__(self, directory: Directory, off_loop: Callable[..., Awaitable[Any]], readers: Crew) -> None:
        super().__init__()
        self.vault = directory.vault
        self.off_loop = off_loop
        self.readers = readers
        self._directory = directory
        self._transports = Transports()
        self._tasks: dict[asyncio.Task[None], Exchange] = {}

    def on_start(self) -> None:
        take_over(asyncio.get_running_loop())
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
        if call.fresh:
            await drop_idle(transport, url)
        exchange.reused = tells_of_connections(http)  # until a hook tells otherwise
        current.set(exchange)
        extensions = {"timeout": _NO_TIMEOUTS, "trace": trace}
        if not exchange.reused:
            extensions["timeout"] = {**_NO_TIMEOUTS, "connect": call.plan.options.timeouts.connect}
        headers = httpx.Headers(_headers(request, http))
        headers["content-length"] = str(len(request.body))
        if key is not None and request.key_header is not None:
            headers[request.key_header] = request.key_prefix + key
        if len(request.body) > _LARGE:
            upload = _Upload(request.body, exchange)
            return await transport.handle_async_request(_LargeRequest(request.method, url, headers, upload, extensions))
        return await transport.handle_async_request(_Request(request.method, url, headers, request.body, extensions))

    def explain(self, error: BaseException) -> ErrorInfo:
        """The error for what a transport raised."""
        return explain(error)

    async def fetch(self, addresses: tuple[str, ...], http: Http) -> dict[str, Image]:
        """The images at these addresses, which anybody may have written; `limits().images` bounds the bytes of all of them."""
        found: dict[str, Image] = {}
        left = limits().images
        for url in addresses:
            found[url] = image = await fetch(url, without_identity(http), left)
            left -= len(image.data or b"")
        return found


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


async def fetch(url: str, http: Http, left: int | None = None) -> Image:
    """The image at `url`, as `fetch_image` bounds it, over connections of its own. `prepare(http)` comes before. Any loop.

    `left`: bytes that the images of one request may still have.
    """
    guard = SocketGuard(environment.private_urls)
    connector = aiohttp.TCPConnector(
        ssl=context_of(http), socket_factory=guard, use_dns_cache=False, force_close=True, resolver=Resolver(lambda: MAX_TIME)
    )
    headers = {"user-agent": _AGENT, "accept": "image/*", "accept-encoding": "identity"}
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, headers=headers, auto_decompress=False) as session:

        async def get(address: str) -> _Fetched:
            return _Fetched(await session.get(address, allow_redirects=False))

        try:
            return await fetch_image(url, get, left)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            private = f"{guard.refused} is a private address; allm.configure(allow_private_urls=True) allows these"
            found = "this is no address that can be used" if isinstance(error, ValueError) else explain(error).message
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
