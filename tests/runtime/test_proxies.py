"""Proxies, as settings or the environment name them: what goes through, and why a connection failed, in the same words both ways."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import allm
from tests.runtime.conftest import Make
from tests.runtime.support import RawServer, Respond, TlsServer, Visit, answers, chat_stream, http

Serve = Callable[[Respond], RawServer]
Environ = Callable[..., None]

HELLO = http(chat_stream("Hello"))


def host_of(server: RawServer) -> str:
    return server.url.partition("://")[2]


def failed(engine: allm.Engine, runtime: allm.Runtime, **opts: Any) -> allm.AllmError:
    with pytest.raises(allm.AllmError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, **opts)
    return raised.value


def relay(to: RawServer) -> Respond:
    """A proxy for TLS: whatever host is asked for, it is this server."""
    host, _, port = host_of(to).partition(":")

    def respond(visit: Visit) -> None:
        head = visit.read()
        assert head is not None
        assert head.startswith("CONNECT ")
        visit.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        visit.tunnel(host, int(port))

    return respond


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_of_the_environment_needs_no_scheme(
    variable: str, scheme: str, serve: Serve, fast: Make, environ: Environ, runtime: allm.Runtime
) -> None:
    proxy = serve(answers(HELLO))
    environ(**{variable: scheme + host_of(proxy)})
    assert allm.generate(fast(base_url="http://name.invalid/v1"), "Hi", runtime=runtime).text == "Hello"
    assert proxy.heads[0].startswith("POST http://name.invalid/v1/chat/completions HTTP/1.1")


@pytest.mark.parametrize("of", ["{host}", "x.y, {host}", "127.0.0.0/8", "x.y,*", "127.0.0.1"])
def test_what_no_proxy_names_is_reached_directly(of: str, serve: Serve, fast: Make, environ: Environ, runtime: allm.Runtime) -> None:
    proxy, server = serve(answers(HELLO)), serve(answers(HELLO))
    environ(ALL_PROXY=proxy.url, NO_PROXY=of.format(host=host_of(server)))
    assert allm.generate(fast(base_url=server.url + "/v1"), "Hi", runtime=runtime).text == "Hello"
    assert (proxy.connections, server.connections) == (0, 1)


def test_another_port_than_no_proxy_names_goes_through(serve: Serve, fast: Make, environ: Environ, runtime: allm.Runtime) -> None:
    proxy, server = serve(answers(HELLO)), serve(answers(HELLO))
    environ(ALL_PROXY=proxy.url, NO_PROXY="127.0.0.1:1")
    assert allm.generate(fast(base_url=server.url + "/v1"), "Hi", runtime=runtime).text == "Hello"
    assert (proxy.connections, server.connections) == (1, 0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("socks4://127.0.0.1:1", "its scheme is none of http, https, socks5, socks5h"),
        ("socks://127.0.0.1:1", "its scheme is none of"),
        ("http://127.0.0.1:1\n", "a line end or a blank"),
        ("http://127.0.0.1:port", "its host or its port"),
        ('"http://127.0.0.1:1"', "quotes"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_engine_error_that_names_the_variable(
    value: str, told: str, sim: Any, make: Make, environ: Environ, runtime: allm.Runtime
) -> None:
    environ(HTTP_PROXY=value)
    error = failed(make(), runtime)
    assert (type(error), error.reason) == (allm.EngineError, "bad_http")
    assert "HTTP_PROXY" in str(error)
    assert told in str(error)
    assert not sim.requests


@pytest.mark.parametrize("named", ["ALL_PROXY", "http.proxy"])
def test_a_socks_proxy_without_its_package_names_the_extra(
    named: str, make: Make, environ: Environ, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    url = "socks5://user:secret@127.0.0.1:1080"
    if named == "ALL_PROXY":
        environ(ALL_PROXY=url)
    error = failed(make() if named == "ALL_PROXY" else make(http=allm.Http(proxy=url)), runtime)
    assert (type(error), error.reason) == (allm.EngineError, "bad_http")
    assert named in str(error)
    assert "pip install 'allm-actors[socks]'" in str(error)
    assert "secret" not in str(error)


# why there is no connection


WAYS = ["directly over aiohttp", "directly over httpx", "through a proxy"]


def engine_for(way: str, url: str, serve: Serve, make: Callable[..., allm.Engine], server: RawServer) -> allm.Engine:
    transport = "aiohttp" if way == WAYS[0] else "httpx"
    proxy = serve(relay(server)).url if way == WAYS[2] else None
    return make(base_url=url, http=allm.Http(transport=transport, proxy=proxy))


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_that_is_not_trusted_is_told_and_not_tried_again(
    way: str, certificate: Path, serve: Serve, fast: Make, runtime: allm.Runtime
) -> None:
    server = TlsServer(certificate)
    try:
        error = failed(engine_for(way, server.url + "/v1", serve, fast, server), runtime)
    finally:
        server.close()
    assert error.reason == "connection_closed"
    assert "no connection: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate" in error.message
    assert error.metadata["should_retry"] is False
    assert server.connections == 1


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_name_that_does_not_resolve_is_told_in_the_words_of_the_system(way: str, serve: Serve, fast: Make, runtime: allm.Runtime) -> None:
    server = serve(answers(HELLO))
    error = failed(engine_for(way, "http://name.invalid/v1", serve, fast, server), runtime)
    assert error.reason == "connection_closed"
    assert error.message.startswith("no connection: ")
    assert any(word in error.message for word in ("Name or service not known", "name resolution", "No address"))


def test_a_refusal_is_told_in_the_words_of_the_system(make: Make, serve: Serve, runtime: allm.Runtime) -> None:
    server = serve(answers(HELLO))
    server.close()
    error = failed(make(base_url=server.url + "/v1", retry=allm.Retry.none()), runtime)
    assert error.message == "no connection: Connection refused"


@pytest.mark.parametrize(
    ("status", "attempts", "told"),
    [
        ("407 Proxy Authentication Required", 1, "the proxy answered HTTP 407: it asks for a user name and a password"),
        ("403 sk-canary", 1, "the proxy answered HTTP 403"),
        ("503 Later", 3, "the proxy answered HTTP 503"),
    ],
)
def test_what_a_proxy_says_to_connect_is_told_by_its_status(
    status: str, attempts: int, told: str, serve: Serve, fast: Make, runtime: allm.Runtime
) -> None:
    proxy = serve(answers(http(b"no", "text/plain", status, "x-secret: sk-canary")))
    error = failed(fast(base_url="https://name.invalid/v1", http=allm.Http(proxy=proxy.url)), runtime)
    assert (error.reason, error.message) == ("connection_closed", f"no connection: {told}")
    assert len(proxy.heads) == attempts


def test_a_proxy_that_is_silent_has_the_time_of_a_connection(serve: Serve, fast: Make, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.wait_gone()

    proxy = serve(respond)
    timeouts = allm.Timeouts(connect=0.3, first_event=30, total=30)
    start = time.monotonic()
    engine = fast(base_url="https://name.invalid/v1", http=allm.Http(proxy=proxy.url), timeouts=timeouts)
    error = failed(engine, runtime, retry=allm.Retry.none())
    assert error.metadata["timeout"] == "connect"
    assert time.monotonic() - start < 10
    assert proxy.heads[0].startswith("CONNECT name.invalid:443 ")


def test_the_first_event_is_waited_for_through_a_proxy_longer_than_a_connection(
    certificate: Path, serve: Serve, fast: Make, runtime: allm.Runtime
) -> None:
    """The CONNECT is over once the request goes out: what follows is the provider's own time."""
    server = TlsServer(certificate, respond=_late)
    try:
        settings = allm.Http(proxy=serve(relay(server)).url, verify=str(certificate / "cert.pem"))
        engine = fast(base_url=server.url + "/v1", http=settings, timeouts=allm.Timeouts(connect=1.0, first_event=30))
        assert allm.generate(engine, "Hi", runtime=runtime, retry=allm.Retry.none()).text == "Hello"
    finally:
        server.close()


def _late(visit: Visit) -> None:
    visit.read()
    time.sleep(1.5)
    visit.send(HELLO)


# whatever making a transport raises


def exploding() -> Any:
    raise ZeroDivisionError("of its own")


def test_a_transport_that_cannot_be_made_is_named(fast: Make, runtime: allm.Runtime) -> None:
    error = failed(fast(http=allm.Http(transport=f"{__name__}:exploding")), runtime)
    assert (type(error), error.reason) == (allm.EngineError, "bad_http")
    assert "http.transport" in str(error)
    assert "ZeroDivisionError: of its own" in str(error)


@pytest.mark.parametrize("content", [None, ""])
def test_the_variable_that_names_no_certificates_is_named(
    content: str | None, fast: Make, environ: Environ, runtime: allm.Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    environ(SSL_CERT_FILE=str(path))
    monkeypatch.setattr("allm.actors.tls._contexts", {})
    error = failed(fast(), runtime)
    assert (type(error), error.reason) == (allm.EngineError, "bad_http")
    assert f"SSL_CERT_FILE names '{path}'" in str(error)
    assert ("No such file" if content is None else "it holds no certificate") in str(error)
