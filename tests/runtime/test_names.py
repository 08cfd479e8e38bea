"""Look-ups of host names: on threads of our own, also when the program is over; one that hangs costs itself alone."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.actors.lookups import Lookups, Resolver, take_over
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT, RawServer, Respond, answers, chat_stream, eventually, http

Serve = Callable[[Respond], RawServer]

ROOT = Path(__file__).resolve().parents[2]
HELLO = http(chat_stream("Hello"))

CHILD = """
import atexit, sys, threading
import allm
url, when = sys.argv[1:]
def call(transport):
    try:
        engine = allm.Engine("openai.chat:m", base_url=url, keys=lambda *_: "k", http=allm.Http(transport=transport))
        return allm.generate(engine, "x", retry=allm.Retry.none()).text
    except BaseException as error:
        return repr(error)
def tell():
    print(call("aiohttp"), call("httpx"), flush=True)
def after():
    threading.main_thread().join()  # and with it, what concurrent.futures does at the end
    tell()
if when == "at exit":
    call("aiohttp")
    atexit.register(tell)
else:
    if when == "after the end":
        call("aiohttp")
    threading.Thread(target=after).start()
"""


@pytest.mark.parametrize("when", ["after the end", "first after the end", "at exit"])
def test_a_call_by_host_name_works_though_the_main_thread_is_done(when: str, serve: Serve) -> None:
    server = serve(answers(HELLO))
    url = server.url.replace("127.0.0.1", "localhost") + "/v1"
    done = subprocess.run([sys.executable, "-c", CHILD, url, when], capture_output=True, text=True, cwd=ROOT, timeout=50, check=False)
    assert (done.stdout.strip(), done.stderr) == ("Hello Hello", "")


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that begin with `hang` are looked up until the test is over; which ones were."""
    real, over, asked = socket.getaddrinfo, threading.Event(), list[str]()

    def look_up(host: Any, *args: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.startswith("hang"):
            asked.append(name)
            over.wait(WAIT)
            raise socket.gaierror(socket.EAI_AGAIN, "at last")
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    over.set()


def test_names_that_hang_cost_their_own_calls_alone(hanging: list[str], serve: Serve, make: Make, runtime: allm.Runtime) -> None:
    """More of them than there are threads at once, given up at `connect`."""
    server = serve(answers(HELLO))
    timeouts = allm.Timeouts(connect=0.3)

    async def lost(number: int) -> str:
        engine = make(base_url=f"http://hang{number}.invalid/v1", timeouts=timeouts, retry=allm.Retry.none())
        with pytest.raises(allm.AdapterError) as raised:
            await allm.aio.generate(engine, "Hi", runtime=runtime)
        return raised.value.reason

    async def go() -> list[str]:
        return await asyncio.gather(*(lost(number) for number in range(70)))

    assert set(asyncio.run(go())) <= {"timeout", "connection_closed"}
    assert len(hanging) >= 60
    engine = make(base_url=server.url.replace("127.0.0.1", "localhost") + "/v1")
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"


def test_a_host_whose_look_up_hung_is_looked_up_anew(hanging: list[str], make: Make, runtime: allm.Runtime) -> None:
    engine = make(base_url="http://hang.invalid/v1", timeouts=allm.Timeouts(connect=0.2), retry=allm.Retry.none())
    for _ in range(2):
        with pytest.raises(allm.AdapterError):
            allm.generate(engine, "Hi", runtime=runtime)
    assert len(hanging) == 2


def test_threads_are_bounded_and_a_lost_one_is_replaced() -> None:
    names, gate = Lookups(most=2), threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        gate.wait(WAIT)

    jobs = [names.submit(hang) for _ in range(2)]
    for _ in jobs:
        assert begun.acquire(timeout=WAIT)
    late = names.submit(lambda: "found")
    assert not late.done()
    assert not jobs[0].cancel()  # it runs, and its place is free from now on
    assert late.result(WAIT) == "found"
    assert not jobs[0].cancel()
    gate.set()
    assert jobs[1].result(WAIT) is None
    eventually(lambda: names._running == 0 and names._lost == 0, "the threads end by themselves")  # pyright: ignore[reportPrivateUsage]


def test_a_look_up_that_is_given_up_before_its_turn_is_not_made() -> None:
    names, gate, made = Lookups(most=1), threading.Event(), list[int]()
    first = names.submit(lambda: gate.wait(WAIT))
    second = names.submit(lambda: made.append(1))
    assert second.cancel()
    gate.set()
    assert first.result(WAIT)
    assert names.submit(lambda: 3).result(WAIT) == 3
    assert made == []


@pytest.mark.parametrize(("text", "inline"), [("can't create new thread at interpreter shutdown", True), ("can't start new thread", False)])
def test_where_no_thread_can_be_started_a_name_is_looked_up_at_the_end_only(
    text: str, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    job = Lookups().submit(threading.get_ident)
    if inline:
        assert job.result(0) == threading.get_ident()
    else:
        with pytest.raises(OSError, match="there is no thread"):
            job.result(0)


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "\udcff.example"])
def test_what_is_no_name_is_an_error_of_the_connection(host: str) -> None:
    async def go() -> None:
        await Resolver(lambda: WAIT).resolve(host, 80)

    with pytest.raises(socket.gaierror):
        asyncio.run(go())


@pytest.mark.parametrize("answer", ["nothing", "UnicodeError", "MemoryError"])
def test_whatever_a_look_up_comes_to_is_told_alike_by_both_transports(
    answer: str, monkeypatch: pytest.MonkeyPatch, make: Make, runtime: allm.Runtime
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **more: Any) -> Any:
        if "odd" not in str(host):
            return real(host, *args, **more)
        if answer == "nothing":
            return []
        raise {"UnicodeError": UnicodeError, "MemoryError": MemoryError}[answer]("no")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(allm.AdapterError, match=r"no connection: (the name has no address|this is no name)") as raised:
        allm.generate(make(base_url="http://odd.example/v1"), "x", runtime=runtime, retry=allm.Retry.none())
    assert raised.value.reason == "connection_closed"


def test_a_loop_in_c_keeps_its_own_look_ups() -> None:
    class Closed:
        __slots__ = ()

    take_over(Closed())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
