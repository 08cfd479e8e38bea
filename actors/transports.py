"""HTTP transports: which one goes for an engine's settings. On the loop.

aiohttp is the usual one; httpx's own goes through proxies, as it knows all kinds of them, and a program may bring one of httpx's kind.
"""

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Any

import httpx

from allm.actors.aiohttp_sending import AiohttpTransport
from allm.actors.httpx_sending import HttpxTransport
from allm.actors.sending import Transport
from allm.actors.tls import context_of, has_context
from allm.actors.toolwork import said
from allm.callables import resolve
from allm.environment import environment
from allm.errors import AllmError, EngineError
from allm.proxies import Proxy, is_socks, proxy_problem
from allm.settings import Http

__all__ = ["Transports", "prepare"]


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
        self._made: dict[tuple[Any, ...], Transport] = {}
        self._looked = float("-inf")
        self._proxies = False

    def get(self, http: Http, url: httpx.URL) -> Transport:
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
                await transport.close()
            except asyncio.CancelledError:
                raise
            except BaseException:
                continue  # one that cannot be closed must not keep the others open


def _make(kind: str, http: Http, proxy: Proxy | None) -> Transport:
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


def _stock(http: Http, proxy: str | None) -> Transport:
    limits = httpx.Limits(max_connections=http.max_connections, max_keepalive_connections=20, keepalive_expiry=30)
    context = context_of(http)
    through: httpx.Proxy | None = None
    if proxy is not None:  # one that is spoken to over TLS is trusted as the provider is
        through = httpx.Proxy(proxy, ssl_context=context if proxy.lower().startswith("https:") else None)
    return HttpxTransport(httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=through, retries=0), tells=True)


def _custom(http: Http, _proxy: str | None) -> Transport:
    made: Any = resolve(http.transport, "engine.http.transport")()
    if not isinstance(made, httpx.AsyncBaseTransport):
        raise EngineError("bad_http", f"engine.http.transport: {http.transport!r} made no httpx.AsyncBaseTransport")
    return HttpxTransport(made, tells=False)


_MAKERS: dict[str, Callable[[Http, str | None], Transport]] = {"aiohttp": lambda http, _: AiohttpTransport(http), "httpx": _stock}
