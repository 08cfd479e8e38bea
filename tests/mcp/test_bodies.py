"""Answers of an MCP server over HTTP that are packed, or without end: bounded, and an error of the one request that met them."""

import asyncio
import gzip
import tracemalloc
from collections.abc import Iterator

import httpx2
import pytest

import allm
from allm.limits import limits, set_limits
from allm.mcp.transports import HttpClient
from tests.runtime.support import RawServer, answers, chunked, http

MIB = 1 << 20


@pytest.fixture
def memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    before = limits()
    set_limits(allm.Limits(frame=MIB))
    yield
    set_limits(before)


def posted(answer: bytes, stream: bool = False) -> tuple[int, bytes]:
    """(status, body) of what comes back."""

    async def go() -> tuple[int, bytes]:
        async with HttpClient() as client:
            if not stream:
                response = await client.post(server.url)
                return response.status_code, response.content
            async with client.stream("POST", server.url) as response:
                return response.status_code, await response.aread()

    server = RawServer(answers(answer))
    try:
        found = asyncio.run(go())
        assert server.header("accept-encoding") == ["identity"]
        return found
    finally:
        server.close()


@pytest.mark.parametrize("stream", [False, True])
def test_one_layer_is_unpacked(stream: bool) -> None:
    packed = http(gzip.compress(b'{"a": 1}'), "application/json", "200 OK", "content-encoding: gzip")
    assert posted(packed, stream=stream) == (200, b'{"a": 1}')
    events = http(gzip.compress(b"data: 1\n\n"), "text/event-stream", "200 OK", "content-encoding: gzip")
    assert posted(events, stream=stream) == (200, b"data: 1\n\n")
    assert posted(http(b'{"a": 1}', "application/json"), stream=stream) == (200, b'{"a": 1}')


@pytest.mark.parametrize("stream", [False, True])
def test_a_bomb_costs_no_more_than_its_bound(stream: bool, memory: None) -> None:
    body = gzip.compress(bytes(64 * MIB), 1)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    status, told = posted(http(body, "application/json", "200 OK", "content-encoding: gzip"), stream=stream)
    assert (status, b"the answer is larger than 1048576 bytes" in told) == (502, True)
    assert tracemalloc.get_traced_memory()[1] - before < 12 * MIB


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("coding", ["gzip, gzip", "br"])
def test_what_was_not_asked_for_is_refused(kind: str, coding: str) -> None:
    status, told = posted(http(b"x", kind, "200 OK", f"content-encoding: {coding}"), stream=True)
    assert (status, b"which was not asked for" in told) == (502, True)


def test_a_body_without_end_is_given_up() -> None:
    status, told = posted(chunked(*[b" " * MIB] * 3, kind="application/json"), stream=True)
    assert (status, b"the answer is larger than 1048576 bytes" in told) == (502, True)


def test_a_stream_of_events_that_is_not_packed_as_it_says_breaks_off() -> None:
    with pytest.raises(httpx2.DecodingError, match="not packed as it says"):
        posted(http(b"data: 1\n\n", "text/event-stream", "200 OK", "content-encoding: gzip"), stream=True)
