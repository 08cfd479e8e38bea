"""The I/O actor: the one owner of HTTP transports, on the one loop.

It sends requests over the transports that `actors/transports.py` makes, and has images fetched.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx

from allm.actors.answer import Answer
from allm.actors.call import Call
from allm.actors.crews import Crew
from allm.actors.directory import Directory
from allm.actors.exchange import Exchange
from allm.actors.explain import explain
from allm.actors.fetch import MAX_TIME, SocketGuard, fetch_image, refusal
from allm.actors.lookups import Resolver, take_over
from allm.actors.sending import Outgoing, Upload, current
from allm.actors.stream import Begin
from allm.actors.tls import context_of
from allm.actors.transports import Transports, prepare
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
_made_headers: dict[Any, dict[str, str]] = {}
_AGENT = f"allm/{__version__}"
_LARGE = 256 << 10
"""Bytes of a request from which on its upload has no clock but `total`."""


class IoActor(Actor):
    """Owns the transports and the exchanges that run. Its end cuts every exchange off; the supervisor makes a new one."""

    def __init__(self, directory: Directory, off_loop: Callable[..., Awaitable[Any]], readers: Crew) -> None:
        super().__init__()
        self.vault = directory.vault
        self.off_loop = off_loop
        self.readers = readers
        self._directory = directory
        self._transports = Transports()
        self._exchanges: set[Exchange] = set()

    def on_start(self) -> None:
        take_over(asyncio.get_running_loop())
        self._directory.io = self.actor_ref

    def on_receive(self, message: Any) -> None:
        if type(message) is Begin:
            exchange = Exchange(message.call, message.stream, self)
            message.call.exchange = exchange
            self._exchanges.add(exchange)
            exchange.task = asyncio.get_running_loop().create_task(exchange.run(), context=message.call.plan.contextvars.copy())
        else:
            super().on_receive(message)

    def on_exit(self, reason: Exit) -> None:
        tasks = {exchange.task for exchange in self._exchanges if exchange.task is not None}
        for exchange in list(self._exchanges):
            exchange.cut_off()  # a task that is cancelled before its first step tells nobody
        for task in tasks:
            task.cancel()
        closing = asyncio.get_running_loop().create_task(_close_after(tasks, self._transports))
        self._directory.closing.add(closing)
        closing.add_done_callback(self._directory.closing.discard)

    async def send(self, call: Call, request: HttpRequest, key: str | None, exchange: Exchange) -> Answer:
        """Sends the request; the key goes into its header here and nowhere else."""
        http = call.plan.engine.http
        url = _url(request.url)
        transport = self._transports.get(http, url)
        if call.fresh:
            await transport.drop_idle(url)
        exchange.reused = transport.tells  # until it tells otherwise
        current.set(exchange)
        headers = {**_headers(request, http), "content-length": str(len(request.body))}
        if key is not None and request.key_header is not None:
            headers[request.key_header] = request.key_prefix + key
        body = Upload(request.body, exchange) if len(request.body) > _LARGE else request.body
        return await transport.send(Outgoing(request.method, url, headers, body, call.plan.options.timeouts.connect))

    def over(self, exchange: Exchange) -> None:
        """See `Ways.over`."""
        self._exchanges.discard(exchange)
        exchange.task = None  # which refers to the exchange: all of the call would wait for the garbage collector

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


def _headers(request: HttpRequest, http: Http) -> dict[str, str]:
    """All headers but the key, by lower-case name. Kept where the engine has none of its own."""
    known = (request.url, request.headers)
    headers = _made_headers.get(known) if not http.headers else None
    if headers is None:
        netloc = _url(request.url).netloc.decode("ascii")
        headers = {"host": netloc, "user-agent": _AGENT, "accept-encoding": "identity", **dict(request.headers)}
        headers.update((name.lower(), value) for name, value in http.headers.items())
        if not http.headers:
            if len(_made_headers) > 1000:
                _made_headers.clear()
            _made_headers[known] = headers
    return headers


async def _close_after(tasks: set["asyncio.Task[None]"], transports: Transports) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=1)
    await transports.close()
