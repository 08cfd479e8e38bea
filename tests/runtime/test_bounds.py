"""How much of what comes in is taken in: packed bodies, endless answers, JSON that is larger than it looks, slow consumers.

What must stay small is measured in a process of its own, by the most memory that it ever had.
"""

import asyncio
import gzip
import json
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.actors.answer import Body, drain, read_error
from allm.actors.unpacking import PackedError, Unpacker, coding_of
from allm.providers.fake_images import ONE_PIXEL
from allm.wire_json import too_crowded
from tests.runtime.conftest import Make
from tests.runtime.support import (
    FAST,
    RawServer,
    Respond,
    Visit,
    answers,
    chat_body,
    chat_event,
    chat_stream,
    chunked,
    eventually,
    http,
    text_of,
)

Serve = Callable[[Respond], RawServer]
Raw = Callable[..., tuple[RawServer, allm.Engine]]
Bounded = Callable[..., None]

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def failed(engine: allm.Engine, runtime: allm.Runtime, **opts: Any) -> allm.AllmError:
    with pytest.raises(allm.AllmError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, **opts)
    return raised.value


CHILD = """
import json, resource, sys
import allm
url, adapter, wire, sizes = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
allm.configure(limits=allm.Limits(**json.loads(sizes)))
def call(path):
    engine = allm.Engine(adapter=adapter, model="m", base_url=url + path, keys=lambda *_: "k", retry=allm.Retry(base_delay=0.01))
    try:
        return allm.generate(engine, "x", wire=wire).finish_reason
    except allm.AllmError as error:
        return error.reason + ": " + error.message
first = call("/ok")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = call("/large")
print(json.dumps([first, told, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def in_a_child(server: RawServer, adapter: str = "openai.chat", wire: str = "sse", **sizes: int) -> tuple[str, float]:
    """(how the call went, MiB by which the process grew beyond what a small call takes)."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, server.url, adapter, wire, json.dumps(sizes)],
        capture_output=True, text=True, cwd=ROOT, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    _, told, grown = json.loads(done.stdout)
    return told, grown


def on_large(answer: bytes, small: bytes = http(chat_stream("Hello"))) -> Respond:
    """Answers a request of the path `/large` so, any other with something small."""

    def respond(visit: Visit) -> None:
        while (head := visit.read()) is not None:
            visit.send(answer if "/large" in head.partition("\r\n")[0] else small)

    return respond


@cache
def bomb(size: int, layers: int = 1) -> bytes:
    """Blanks, packed."""
    packer = zlib.compressobj(1, wbits=31)
    body = b"".join([packer.compress(b" " * MIB) for _ in range(size >> 20)] + [packer.flush()])
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


# packed bodies


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_a_few_bytes_that_stand_for_gigabytes_cost_no_more_than_an_answer(kind: str, status: str, serve: Serve) -> None:
    told, grown = in_a_child(serve(on_large(http(bomb(256 * MIB), kind, status, "content-encoding: gzip"))), answer=32 * MIB)
    assert grown < 100
    if status == "200 OK":
        assert told == "malformed_response: the answer is larger than 32 MiB"
    else:
        assert told.startswith("server_error: ")


@pytest.mark.slow
@pytest.mark.parametrize("status", ["200 OK", "429 Slow"])
def test_what_is_packed_twice_is_refused_unread(status: str, serve: Serve) -> None:
    body = bomb(256 * MIB, layers=2)
    server = serve(on_large(http(body, "application/json", status, "content-encoding: gzip, gzip")))
    told, grown = in_a_child(server)
    assert grown < 50
    assert "packed as gzip, gzip, which was not asked for" in told
    assert told.startswith("malformed_response" if status == "200 OK" else "rate_limited")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, deflate", "exi\x1b[2Jt"])
def test_an_encoding_that_was_not_asked_for_is_refused_once(coding: str, raw: Raw, runtime: allm.Runtime) -> None:
    answer = http(chat_stream("Hello"), "text/event-stream", "200 OK", f"content-encoding: {coding}")
    server, engine = raw(answers(answer))
    error = failed(engine, runtime)
    if "\x1b" not in coding:
        assert f"packed as {coding}, which was not asked for" in error.message
        assert (error.reason, len(server.heads)) == ("malformed_response", 1)
    assert "\x1b" not in error.message


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "two members": ("gzip", lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:])),
    "zeros after it": ("gzip", lambda data: gzip.compress(data) + bytes(9)),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "identity, gzip": ("identity, gzip", gzip.compress),
}


@pytest.mark.parametrize("packed", PACKED)
def test_one_layer_is_understood_in_any_pieces(packed: str, raw: Raw, runtime: allm.Runtime) -> None:
    coding, pack = PACKED[packed]
    body = pack(chat_stream(*["word "] * 200))
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    head, _, rest = chunked(*pieces).partition(b"\r\n\r\n")
    _, engine = raw(answers(head + f"\r\ncontent-encoding: {coding}\r\n\r\n".encode() + rest), retry=allm.Retry.none())
    assert allm.generate(engine, "Hi", runtime=runtime).text == "word " * 200
    error = http(pack(b'{"error": {"message": "no such model"}}'), "application/json", "404 Not Found", f"content-encoding: {coding}")
    _, engine = raw(answers(error))
    assert failed(engine, runtime).message == "no such model"


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_what_breaks_off_in_the_midst_of_what_is_packed_is_no_success(wire: str, raw: Raw, runtime: allm.Runtime) -> None:
    plain, kind = (chat_stream("Hello")[:-60], "text/event-stream") if wire == "sse" else (chat_body("Hello"), "application/json")
    _, engine = raw(answers(http(gzip.compress(plain)[:-9], kind, "200 OK", "content-encoding: gzip")), retry=allm.Retry.none())
    try:
        error = allm.generate(engine, "Hi", runtime=runtime, wire=wire).error  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except allm.AdapterError as raised:
        error = raised.info
    assert error is not None
    assert (error.reason, error.message) == ("malformed_response", "the answer broke off in the midst of what is packed")


def test_no_piece_is_larger_than_another_however_much_is_packed() -> None:
    pieces = list(Unpacker("gzip").feed(bomb(8 * MIB)))
    assert sum(map(len, pieces)) == 8 * MIB
    assert max(map(len, pieces)) <= 256 << 10
    assert [coding_of(name) for name in ("", "identity", " GZip ", "deflate")] == [None, None, "gzip", "deflate"]
    with pytest.raises(PackedError):
        list(Unpacker("gzip").feed(b"not packed"))


# answers without end


@pytest.mark.slow
def test_a_stream_without_end_is_given_up_at_its_bound(serve: Serve) -> None:
    """As a fold, with what came of it; not asked for again."""
    event = chat_event("word " * 200)
    many = http(b"")[: -len(b"content-length: 0\r\n\r\n")] + b"transfer-encoding: chunked\r\n\r\n"

    def respond(visit: Visit) -> None:
        while (head := visit.read()) is not None:
            if "/large" not in head.partition("\r\n")[0]:
                visit.send(http(chat_stream("Hello")))
                continue
            visit.send(many)
            while True:
                visit.send(b"%x\r\n%b\r\n" % (len(event) * 50, event * 50))

    server = serve(respond)
    told, grown = in_a_child(server, answer=16 * MIB)
    assert told == "error"
    assert grown < 150
    assert sum("/large" in head for head in server.heads) == 1


@pytest.mark.parametrize("beginning", [b": hello\n", b"\n", b"x: y\n"], ids=["comments", "blank lines", "unknown fields"])
def test_what_is_no_event_counts_too(beginning: bytes, raw: Raw, runtime: allm.Runtime, bounded: Bounded) -> None:
    bounded(answer=MIB)
    server, engine = raw(answers(http(beginning * (2 * MIB // len(beginning)) + chat_stream("Hello"))))
    error = failed(engine, runtime)
    assert (error.reason, error.message, len(server.heads)) == ("malformed_response", "the answer is larger than 1 MiB", 1)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_one_body_has_the_same_bound(kind: str, raw: Raw, runtime: allm.Runtime, bounded: Bounded) -> None:
    bounded(answer=100_000)
    server, engine = raw(answers(http(chat_body("x" * 200_000), kind)))
    error = failed(engine, runtime, wire="json")
    assert (error.reason, error.message, len(server.heads)) == ("malformed_response", "the answer is larger than 100000 bytes", 1)


def test_a_body_of_a_service_has_a_bound_of_its_own(raw: Raw, runtime: allm.Runtime, bounded: Bounded) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5] * 50_000}
    body = json.dumps({"data": [vector], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}).encode()
    _, engine = raw(answers(http(body, "application/json")))
    bounded(answer=1_000)
    assert len(allm.embed(engine, "Hi", model="m", runtime=runtime).vectors[0]) == 50_000
    bounded(service=1_000)
    with pytest.raises(allm.AllmError, match="the answer is larger than 1000 bytes"):
        allm.embed(engine, "Hi", model="m", runtime=runtime)


def test_of_an_error_only_so_much_is_read(raw: Raw, runtime: allm.Runtime, bounded: Bounded) -> None:
    bounded(error_body=60)
    body = json.dumps({"error": {"message": "m" * 40, "type": "server_error"}}).encode()
    _, engine = raw(answers(http(body, "application/json", "400 Bad Request")))
    error = failed(engine, runtime)
    assert (error.reason, error.status) == ("invalid_request", 400)
    assert len(error.message) <= 60


# JSON that is larger than it looks


CROWDS = {
    "the body itself": b"[%b]",
    "an error of it": b'{"error": [%b]}',
    "what nobody reads": b'{"unknown": [%b]}',
}


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["openai.chat", "openai.responses", "anthropic", "gemini"])
@pytest.mark.parametrize("where", CROWDS)
def test_a_body_of_millions_of_empty_lists_costs_no_gigabyte(adapter: str, where: str, serve: Serve) -> None:
    body = CROWDS[where] % (b"[]," * (13 * MIB) + b"[]")
    told, grown = in_a_child(serve(on_large(http(body, "application/json"))), adapter, "json")
    assert told.startswith("malformed_response")
    assert grown < 200


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["openai.chat", "openai.responses", "anthropic", "gemini"])
def test_an_event_of_millions_of_empty_lists_costs_no_gigabyte(adapter: str, serve: Serve) -> None:
    body = b'data: {"type": "error", "error": [%b]}\n\n' % (b"[]," * (9 * MIB) + b"[]")
    told, grown = in_a_child(serve(on_large(http(body))), adapter)
    assert told.startswith("malformed_response")
    assert grown < 200


def test_prose_and_numbers_are_not_taken_for_a_crowd() -> None:
    assert not too_crowded(b'{"content": "%b"}' % (b"Well, then: he said that it was so [1], and went home. " * MIB), 256 * MIB)
    assert not too_crowded(b"[%b]" % (b"0.123456789," * (5 * MIB)), 256 * MIB)
    assert too_crowded(b"[]," * (3 * MIB), 256 * MIB)
    assert too_crowded(b"{}," * (3 * MIB), 256 * MIB)


NOTES = {
    "openai.chat": b'{"choices":[{"finish_reason":"stop","message":{"content":"Hello"}}],"usage":{"prompt_tokens":3,%b}}',
    "openai.responses": b'{"id":"r","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}],'
    b'"usage":{"input_tokens":3,%b}}',
    "anthropic": b'{"type":"message","role":"assistant","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn",'
    b'"usage":{"input_tokens":3,%b}}',
    "gemini": b'{"candidates":[{"content":{"parts":[{"text":"Hello"}]},"finishReason":"STOP","groundingMetadata":{%b}}],'
    b'"usageMetadata":{"promptTokenCount":3}}',
}


def a_key(*_: object) -> str:
    return "k"


@pytest.mark.parametrize("adapter", NOTES)
def test_of_what_stands_beside_an_answer_a_bounded_number_of_values_is_kept(adapter: str, serve: Serve, runtime: allm.Runtime) -> None:
    def answer(count: int) -> allm.Response:
        notes = b",".join(b'"n%d":{"a":[%d]}' % (n, n + 1) for n in range(count))
        server = serve(answers(http(NOTES[adapter] % notes, "application/json")))
        engine = allm.Engine(adapter=adapter, model="m", base_url=server.url, keys=a_key)
        return allm.generate(engine, "x", wire="json", runtime=runtime)

    few, many = answer(100), answer(40_000)
    assert few.text == many.text == "Hello"
    assert few.usage.input_tokens == many.usage.input_tokens == 3
    assert len(few.usage.extra or few.metadata["groundingMetadata"]) == 100
    assert len(many.usage.extra or many.metadata.get("groundingMetadata", ())) <= 10_000


# answers in very small pieces


class Pieces:
    """An answer that has come in already, in pieces of two bytes."""

    status = 200
    headers = ()

    def __init__(self, count: int) -> None:
        self.chunks = _pieces(count)

    async def close(self) -> None:
        pass


async def _pieces(count: int) -> AsyncIterator[bytes]:
    for n in range(count):
        yield b"%02d" % (n % 100)


@pytest.mark.parametrize("way", ["whole", "error", "drain"])
def test_an_answer_in_very_small_pieces_leaves_the_loop_to_others(way: str) -> None:
    turns = [0]

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(others())
        body = Body(Pieces(10_000), {}, MIB)
        if way == "whole":
            read: list[bytes] = []
            assert await body.rest(read) == 20_000
            assert len(body.joined(read)) == 20_000
        elif way == "error":
            assert len((await read_error(Pieces(10_000), {}, MIB))[0]) == 20_000
        else:
            await drain(body)
        task.cancel()

    asyncio.run(main())
    assert turns[0] > 100


def test_small_pieces_of_a_body_take_no_more_room_than_it_has_bytes() -> None:
    async def main() -> int:
        read: list[bytes] = []
        tracemalloc.start()
        try:
            size = await Body(Pieces(200_000), {}, MIB).rest(read)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert b"".join(read)[:6] == b"000102"
        assert size == 400_000
        return held

    assert asyncio.run(main()) < 800_000


# slow consumers


@pytest.mark.parametrize("call", ["stream_generate", "stream"])
def test_a_consumer_that_takes_nothing_holds_the_reader_after_so_many_bytes(
    call: str, raw: Raw, runtime: allm.Runtime, bounded: Bounded
) -> None:
    bounded(waiting=MIB)
    sent = [0]
    stopped = threading.Event()
    event = chat_event("x" * (MIB // 4))

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(end=False))
        for _ in range(100):
            visit.send(b"%x\r\n%b\r\n" % (len(event), event))
            sent[0] += 1
        rest = chat_event(finish="stop") + b"data: [DONE]\n\n"
        visit.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
        stopped.set()

    _, engine = raw(respond)
    events = iter(getattr(allm, call)(engine, "Hi", runtime=runtime, timeouts=allm.Timeouts(idle=None, first_event=None)))
    next(events)
    before = -1
    while before != sent[0] or sent[0] == 0:  # until no more is taken from the socket for a while
        before = sent[0]
        stopped.wait(0.3)
    assert sent[0] < 60  # what waits, and the buffers of two sockets
    assert len(text_of(events)) == 100 * (MIB // 4)


def test_a_total_that_is_over_is_told_in_time_though_the_answer_comes_as_fast_as_it_can(raw: Raw, runtime: allm.Runtime) -> None:
    event = chat_event("word " * 1_000) * 10

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(end=False))
        for _ in range(10_000):
            visit.send(b"%x\r\n%b\r\n" % (len(event), event))

    _, engine = raw(respond, retry=allm.Retry(**FAST))
    response = allm.generate(engine, "Hi", runtime=runtime, timeouts=allm.Timeouts(total=0.2), retry=allm.Retry.none())
    assert response.error is not None
    assert response.error.metadata.get("timeout") == "total" or "larger than" in response.error.message


# what begins late or lies about itself


@pytest.mark.parametrize("kind", ["text/plain", "application/json", ""])
@pytest.mark.parametrize("cuts", [(1,), (2,), (4,), (1, 2, 3, 4, 5), (5, 6, 7)])
@pytest.mark.parametrize("before", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf"])
def test_a_stream_that_calls_itself_something_else_is_known_by_its_first_bytes_in_any_pieces(
    kind: str, cuts: tuple[int, ...], before: bytes, serve: Serve, fast: Make, runtime: allm.Runtime
) -> None:
    body = before + chat_stream("Hello")
    pieces = [body[start:end] for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True)]
    turn = threading.Semaphore(0)

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(kind=kind, end=False))
        for piece in pieces:
            visit.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            turn.acquire(timeout=0.01)
        visit.send(b"0\r\n\r\n")

    engine = fast(base_url=serve(respond).url + "/v1", retry=allm.Retry.none())
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"


# images by their address


def test_the_images_of_one_request_have_a_bound_together(serve: Serve, runtime: allm.Runtime, bounded: Bounded) -> None:
    allm.configure(allow_private_urls=True)
    try:
        bounded(images=10 * len(ONE_PIXEL), image=5 * len(ONE_PIXEL))
        images = serve(answers(http(ONE_PIXEL + bytes(3 * len(ONE_PIXEL)), "image/png")))
        asked = serve(answers(http(b"{}", "application/json")))
        parts = tuple(allm.ImagePart(allm.Image.from_url(f"{images.url}/{number}.png")) for number in range(4))
        engine = allm.Engine("gemini:m", base_url=asked.url, keys={"gemini": "k"})
        with pytest.raises(allm.ValidationError, match=f"the images of one request together are larger than {10 * len(ONE_PIXEL)} bytes"):
            allm.generate(engine, [allm.Message("user", parts)], runtime=runtime)
        assert len(images.heads) == 3
        assert not asked.heads
        eventually(lambda: runtime.stats()["calls"] == 0, "it is over")
    finally:
        allm.configure(allow_private_urls=False)


def test_headers_without_end_are_refused(raw: Raw, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(b"HTTP/1.1 200 OK\r\n")
        for number in range(200_000):
            visit.send(b"x-%d: %b\r\n" % (number, b"a" * 500))

    _, engine = raw(respond, retry=allm.Retry.none())
    error = failed(engine, runtime)
    assert error.reason in ("malformed_response", "connection_closed")
