"""A simulated provider and a runtime for each test, and every test of faults over both transports."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.limits import Limits, limits, set_limits
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


@pytest.fixture
def bounded() -> Iterator[Callable[..., None]]:
    """Sets limits for one test."""
    before = limits()

    def bounded(**sizes: int) -> None:
        set_limits(Limits(**sizes))

    yield bounded
    set_limits(before)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables of the environment, which names no proxy otherwise."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def environ(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return environ


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    path = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=allm",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path / "key.pem", "-out", path / "cert.pem"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("no openssl to make a certificate with")
    (path / "both.pem").write_text((path / "cert.pem").read_text() + (path / "key.pem").read_text())
    return path


def engines(base_url: str, transport: str) -> Make:
    def make(**more: Any) -> allm.Engine:
        fields: dict[str, Any] = {"retry": allm.Retry(**FAST), "http": allm.Http(transport=transport), "base_url": base_url, **more}
        return allm.Engine(adapter="openai.chat", model="m", **fields)

    return make
