"""A simulated provider and a runtime for each test, and every test of faults over both transports."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import allm
from allm.testing import Simulator
from tests.runtime.support import FAST, RawServer, Respond

Make = Callable[..., allm.Engine]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def runtime() -> Iterator[allm.Runtime]:
    runtime = allm.Runtime()
    yield runtime
    runtime.stop(0)  # not as the end of a `with`, which waits for calls that run


@pytest.fixture(params=["aiohttp", "httpx"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(sim: Simulator, transport: str) -> Make:
    """Engines that talk to the simulator over each transport; retries come soon."""
    return engines(sim.base_url("chat"), transport)


@pytest.fixture
def engine(make: Make) -> allm.Engine:
    return make()


@pytest.fixture
def fast(sim: Simulator) -> Make:
    """Engines for what does not depend on the transport."""
    return engines(sim.base_url("chat"), "auto")


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], RawServer]]:
    """Servers that answer with bytes of the test's own."""
    servers: list[RawServer] = []

    def serve(respond: Respond) -> RawServer:
        servers.append(RawServer(respond))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def raw(serve: Callable[[Respond], RawServer], transport: str) -> Callable[..., tuple[RawServer, allm.Engine]]:
    """A server with bytes of the test's own, and an engine that talks to it."""

    def raw(respond: Respond, **more: Any) -> tuple[RawServer, allm.Engine]:
        server = serve(respond)
        return server, engines(server.url + "/v1", transport)(**more)

    return raw


def engines(base_url: str, transport: str) -> Make:
    def make(**more: Any) -> allm.Engine:
        fields: dict[str, Any] = {"retry": allm.Retry(**FAST), "http": allm.Http(transport=transport), "base_url": base_url, **more}
        return allm.Engine(adapter="openai.chat", model="m", **fields)

    return make
