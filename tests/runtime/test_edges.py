"""Corners of the runtime that hardly any program comes to, each by what a caller sees of it."""

import asyncio
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import allm
from allm.actors import io
from allm.actors.directory import Directory
from allm.actors.engine import StartCall, WithdrawCall
from allm.events import Event
from allm.testing import Fault, Reply, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT, TlsServer, engine_name, first_delta, text_of


def test_messages_that_mean_nothing_are_dropped_and_change_nothing(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text="word " * 20, delay=0.02))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime, request_id="call")
    events = iter(stream)
    begun = first_delta(events)
    name = engine_name(runtime)
    for path in (("core", "io"), ("engines",), ("engines", name), *(("engines", name, at) for at in ("engine", "calls"))):
        runtime.find(*path).tell("what?")
    runtime.find("engines", name, "calls", "call").tell("what?")
    for message in (StartCall("call"), StartCall("nobody"), WithdrawCall("nobody")):
        runtime.find("engines", name, "engine").tell(message)
        runtime.find("engines", name, "calls").tell(message)
    assert begun.delta + text_of(events) == "word " * 20
    assert len(sim.requests) == 1


def test_a_cancelled_call_whose_adapter_cannot_say_what_came_ends_all_the_same(sim: Simulator, runtime: allm.Runtime) -> None:
    sim.fault(Fault(slow_first_byte=30))
    engine = allm.Engine(adapter="tests.runtime.adapters:NoPartial", model="m", base_url=sim.base_url("chat"))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(stream.response)
        assert sim.wait_requests(1)
        stream.cancel()
        assert response.result(WAIT).finish_reason == "cancelled"


def test_a_transport_that_cannot_be_closed_does_not_keep_the_runtime(sim: Simulator, fast: Make) -> None:
    with allm.Runtime() as runtime:
        engine = fast(http=allm.Http(transport=f"{__name__}:stubborn"))
        assert allm.generate(engine, "Hi", runtime=runtime).finish_reason == "stop"
        assert allm.generate(fast(), "Hi", runtime=runtime).finish_reason == "stop"
    assert runtime.stopped
    assert sim.wait_closed()


class Stubborn(httpx.AsyncHTTPTransport):
    """Closes its connections, and fails then."""

    async def aclose(self) -> None:
        await super().aclose()
        raise OSError("no")


def stubborn() -> httpx.AsyncBaseTransport:
    return Stubborn()


def test_a_cursor_that_another_thread_outran_ends(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    """Closed by somebody else, it gives what had come and then ends, without an error."""
    sim.reply(Reply(text="word " * 200, delay=0.01))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    events = iter(stream)
    first_delta(events)
    threading.Timer(0.05, stream.close).start()
    assert all(not isinstance(event, allm.ErrorOccurred) for event in events)
    assert sim.wait_idle()


def test_an_awaited_cursor_of_a_closed_stream_ends(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    async def go() -> list[Event]:
        stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
        cursor = aiter(stream)
        while not isinstance(await anext(cursor), allm.TextDelta):
            pass
        asyncio.get_running_loop().call_later(0.05, stream.close)
        return [event async for event in cursor]

    sim.reply(Reply(text="word " * 200, delay=0.01))
    assert not [event for event in asyncio.run(go()) if isinstance(event, allm.ErrorOccurred)]


def test_a_runtime_stopped_while_a_fold_waits_for_room_leaves_nobody_waiting(sim: Simulator, fast: Make) -> None:
    runtime = allm.Runtime()
    sim.reply(Reply(pieces=tuple("x" * 12_000 for _ in range(2_500))))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    events = iter(stream)
    first_delta(events)
    assert not sim.wait_idle(0.2)
    runtime.stop()
    assert isinstance([*events][-1], allm.ErrorOccurred)  # which asks a reader to go on whose loop is closed


def test_a_stream_of_a_stopped_runtime_may_be_closed_and_dropped(sim: Simulator, fast: Make) -> None:
    runtime = allm.Runtime()
    sim.reply(Reply(text="word " * 200, delay=0.01))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    events = iter(stream)
    first_delta(events)
    call = stream._call  # pyright: ignore[reportPrivateUsage]
    assert call is not None
    runtime.stop()
    runtime.withdraw(call)  # as a finaliser does that comes late
    stream.close()
    del events, stream


def test_thousands_of_addresses_are_not_all_remembered(
    sim: Simulator, fast: Make, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1_005):
        io._url(f"http://127.0.0.1:9/{number}")  # pyright: ignore[reportPrivateUsage]
    assert len(io._urls) <= 1_001  # pyright: ignore[reportPrivateUsage]
    keys: dict[Any, Any] = dict.fromkeys(range(1_001), ())
    monkeypatch.setattr(runtime._engine_keys, "_known", keys)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(io, "_made_headers", dict.fromkeys(range(1_001)))
    assert allm.generate(fast(), "Hi", runtime=runtime).finish_reason == "stop"
    assert len(keys) == 1


def test_a_directory_knows_of_nothing_at_first() -> None:
    directory = Directory(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (directory.calls, directory.engines, directory.stopping) == ({}, {}, False)


# TLS


@pytest.mark.parametrize("verify", ["file", "folder", "off", "on"])
def test_a_certificate_is_verified_as_the_engine_says(
    verify: str, certificate: Path, make: Make, transport: str, runtime: allm.Runtime, tmp_path: Path
) -> None:
    server = TlsServer(certificate)
    try:
        if verify == "folder":
            digest = subprocess.run(
                ["openssl", "x509", "-hash", "-noout", "-in", certificate / "cert.pem"], capture_output=True, text=True, check=True
            )
            (tmp_path / f"{digest.stdout.strip()}.0").write_text((certificate / "cert.pem").read_text())
        given: Any = {"file": str(certificate / "cert.pem"), "folder": str(tmp_path), "off": False, "on": True}[verify]
        engine = make(base_url=server.url + "/v1", http=allm.Http(transport=transport, verify=given), retry=allm.Retry.none())
        if verify == "on":
            with pytest.raises(allm.AdapterError) as raised:
                allm.generate(engine, "Hi", runtime=runtime)
            assert raised.value.reason == "connection_closed"
        else:
            assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    finally:
        server.close()


@pytest.mark.parametrize("cert", ["both", "pair", "none"])
def test_a_client_shows_its_certificate(cert: str, certificate: Path, make: Make, runtime: allm.Runtime) -> None:
    server = TlsServer(certificate, ca=certificate / "cert.pem")
    pair = (str(certificate / "cert.pem"), str(certificate / "key.pem"))
    given: Any = {"both": str(certificate / "both.pem"), "pair": pair, "none": None}[cert]
    try:
        settings = allm.Http(verify=str(certificate / "cert.pem"), cert=given)
        engine = make(base_url=server.url + "/v1", http=settings, retry=allm.Retry.none())
        if cert == "none":
            with pytest.raises(allm.AdapterError):
                allm.generate(engine, "Hi", runtime=runtime)
        else:
            assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    finally:
        server.close()


def test_what_had_come_is_read_before_the_end_of_a_fork_or_a_stop_is_told(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    """In this process, what a child does after a fork: see test_process for the real thing."""
    sim.reply(Reply(text="word " * 200, delay=0.01))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    events = iter(stream)
    first_delta(events)
    runtime.inherited()
    try:
        with pytest.raises(allm.StreamError) as raised:
            list(events)
        assert raised.value.reason == "connection_closed"
    finally:
        runtime._stopped = False  # pyright: ignore[reportPrivateUsage]
