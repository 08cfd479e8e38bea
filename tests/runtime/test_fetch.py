"""Images that are fetched: bounded in size and time, never from a private network unless that is allowed, and only images."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import allm
from allm import EngineError, Image, ValidationError
from allm.actors import fetch
from allm.actors.fetch import SocketGuard, is_public
from allm.limits import limits
from allm.providers.fake_images import ONE_PIXEL
from tests.runtime.support import RawServer, Respond, Visit, answers, chunked, http

Serve = Callable[[Respond], RawServer]

PNG = http(ONE_PIXEL, "image/png")


@pytest.fixture
def allowed() -> Iterator[None]:
    """Loopback is a private network, and the only one that a test has."""
    allm.configure(allow_private_urls=True)
    yield
    allm.configure(allow_private_urls=False)


def fetched(server: RawServer, path: str = "/a.png") -> Image:
    image = Image.from_url(server.url + path)
    data = image.to_binary()
    return Image.from_binary(data)


def problem(server: RawServer, path: str = "/a.png") -> str:
    """Why the image cannot be had."""
    with pytest.raises(ValidationError) as caught:
        fetched(server, path)
    assert caught.value.metadata == {"path": "image.url"}
    return caught.value.message.partition("cannot be fetched: ")[2]


def redirect(to: str, status: str = "302 Found") -> bytes:
    return http(b"", "text/plain", status, f"location: {to}")


# what is fetched


def test_an_address_gives_its_bytes(serve: Serve, allowed: None) -> None:
    server = serve(answers(PNG))
    image = Image.from_url(server.url + "/a.png?sig=secret")
    assert image.to_binary() == ONE_PIXEL
    assert Image.from_base64(image.to_base64()) == Image.from_binary(ONE_PIXEL)
    assert image.to_data_uri() == Image.from_binary(ONE_PIXEL).to_data_uri()
    assert image.url is not None
    assert server.heads[0].startswith("GET /a.png?sig=secret HTTP/1.1")


def test_it_carries_no_key_no_cookie_and_no_proxy(serve: Serve, allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    server = serve(answers(http(b"", "text/plain", "302 Found", "location: /b.png", "set-cookie: a=b"), PNG))
    assert fetched(server).data == ONE_PIXEL
    for name in ("authorization", "cookie", "x-api-key"):
        assert server.header(name) == [None, None]
    assert "sk-canary" not in "".join(server.heads)


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream", "binary/octet-stream", "Image/PNG; a=b"])
def test_the_bytes_decide_what_it_is_where_the_type_says_image_or_nothing(serve: Serve, allowed: None, kind: str) -> None:
    assert fetched(serve(answers(http(ONE_PIXEL, kind)))).mime == "image/png"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http(ONE_PIXEL, "text/html"), "it is no image but text/html"),
        (http(b"<svg/>", "image/svg+xml"), "what is there is no image of a known type"),
        (http(b"", "image/png"), "what is there is no image of a known type"),
        (http(b"no", "text/plain", "404 Not Found"), "the answer is HTTP 404"),
        (http(ONE_PIXEL, "image/png", "206 Partial Content"), "the answer is HTTP 206"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 99\r\n\r\n" + ONE_PIXEL[:10], "the connection broke"),
        (b"nonsense\r\n\r\n", "the answer is not HTTP as it should be"),
        (b"", "the server closed the connection without an answer"),
    ],
)
def test_what_is_no_image_is_refused_and_why(serve: Serve, allowed: None, answer: bytes, told: str) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(answer)

    assert told in problem(serve(respond))


# how much, how long, how far


def test_a_body_that_is_told_to_be_too_large_is_not_read(serve: Serve, allowed: None) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {limits().image + 1}\r\n\r\n".encode()

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(head)
        visit.wait_gone()

    assert problem(serve(respond)) == "it is larger than 20 MiB"


def test_a_body_that_does_not_tell_its_size_is_read_up_to_the_limit(serve: Serve, allowed: None, bounded: Callable[..., None]) -> None:
    bounded(image=1 << 20)
    piece = ONE_PIXEL + bytes(1 << 16)
    assert problem(serve(answers(chunked(*[piece] * 20, kind="image/png")))) == "it is larger than 1 MiB"
    assert fetched(serve(answers(chunked(piece, piece, kind="image/png")))).mime == "image/png"


def test_it_takes_no_longer_than_its_limit(serve: Serve, allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_TIME", 0.2)

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(PNG[:-5])
        visit.wait_gone()

    assert problem(serve(respond)) == "it did not come within 0.2 s"


def test_three_redirects_are_followed_and_no_fourth(serve: Serve, allowed: None) -> None:
    server = serve(answers(redirect("/1"), redirect("2", "301 Moved"), redirect("/3", "308 Permanent Redirect"), PNG))
    assert fetched(server).data == ONE_PIXEL
    assert [head.split()[1] for head in server.heads] == ["/a.png", "/1", "/2", "/3"]
    assert problem(serve(answers(redirect("/on")))) == "it is redirected more than 3 times"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "gs://bucket/a.png", "data:image/png;base64,AA=="])
def test_a_redirect_leads_to_http_only(serve: Serve, allowed: None, target: str) -> None:
    assert problem(serve(answers(redirect(target)))) == "only http and https addresses are fetched"


# private addresses


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:db8::1", "::127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_no_public_network_is_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_public_network_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"])
def test_a_private_address_is_refused_before_anything_is_sent(serve: Serve, host: str) -> None:
    server = serve(answers(PNG))
    port = server.url.rpartition(":")[2]
    with pytest.raises(ValidationError, match=r"is a private address; allm\.configure\(allow_private_urls=True\) allows these"):
        Image.from_url(f"http://{host}:{port}/a.png").to_binary()
    assert server.connections == 0


def test_what_is_checked_is_what_is_connected_to(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a public address at first and to a private one then gains nothing: there is one look-up, and the check
    is made at the socket."""
    server = serve(answers(PNG))
    port = int(server.url.rpartition(":")[2])
    told: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return real(host, *rest, **more)
        told.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1" if len(told) > 1 else "127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with pytest.raises(ValidationError, match="private address"):
        Image.from_url(f"http://rebind.example:{port}/a.png").to_binary()
    assert told == ["rebind.example"]
    assert server.connections == 0


def test_a_redirect_to_a_private_address_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, guarded = serve(answers(PNG)), SocketGuard.__call__
    outer = serve(answers(redirect(inner.url + "/secret.png")))
    public = int(outer.url.rpartition(":")[2])

    def as_if_public(guard: SocketGuard, info: Any) -> socket.socket:
        """The first server counts as one of the public network."""
        return socket.socket(*info[:3]) if info[4][1] == public else guarded(guard, info)

    monkeypatch.setattr(SocketGuard, "__call__", as_if_public)
    assert "127.0.0.1 is a private address" in problem(outer)
    assert outer.connections == 1
    assert inner.connections == 0


def test_the_error_shows_the_host_and_not_the_signed_address(serve: Serve) -> None:
    with pytest.raises(ValidationError) as caught:
        Image.from_url(serve(answers(PNG)).url + "/a.png?sig=secret").to_binary()
    assert "secret" not in str(caught.value)
    assert "the image at 127.0.0.1 cannot be fetched" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://", "http://127.1/", "http://a b/", "http://[::1", "https://x:99999999/", "http://nowhere.invalid/"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"image\.url: "):
        Image.from_url(url).to_binary()


def test_an_address_of_a_store_is_the_providers_to_read() -> None:
    with pytest.raises(ValidationError, match="only the provider reads gs addresses"):
        Image.from_url("gs://bucket/a.png").to_data_uri()


# where it may block


def test_it_refuses_to_block_an_event_loop_and_says_how_it_goes(serve: Serve, allowed: None) -> None:
    image = Image.from_url(serve(answers(PNG)).url + "/a.png")

    async def go() -> bytes:
        with pytest.raises(EngineError, match=r"asyncio\.to_thread\(image\.to_binary\)") as caught:
            image.to_binary()
        assert caught.value.reason == "would_block"
        return await asyncio.to_thread(image.to_binary)

    assert asyncio.run(go()) == ONE_PIXEL


def test_any_thread_may_fetch(serve: Serve, allowed: None) -> None:
    image, got = Image.from_url(serve(answers(PNG)).url + "/a.png"), list[bytes]()
    threads = [threading.Thread(target=lambda: got.append(image.to_binary())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == [ONE_PIXEL] * 4
