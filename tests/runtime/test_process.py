"""The edges of a process: its end, forks, other processes, and the proxies that its environment names."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import allm
from allm.testing import Reply, Simulator
from tests.runtime.support import WAIT, RawServer, Respond, Visit, answers, chat_stream, http

PROMPT = 5.0
"""Seconds that a process takes to start, import and end, at most; 1 on an idle machine."""
HELLO = http(chat_stream("Hello"))

Serve = Callable[[Respond], RawServer]

BEGIN = """
import asyncio, os, pickle, signal, sys, threading, time, warnings
import logging
import allm
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # Python 3.12 and later say it at each fork
logging.getLogger("asyncio").setLevel(logging.ERROR)  # how long a callback takes is the machine's affair
URL = sys.argv[1]
engine = allm.Engine(adapter="openai.chat", model="m", base_url=URL)
def first_delta(events):
    return next(event for event in events if isinstance(event, allm.TextDelta))
def see(event):
    if isinstance(event, allm.TextDelta):
        begun.set()
def begin(call):
    worker = threading.Thread(target=call, daemon=True)
    worker.start()
    assert begun.wait(10)
    return worker
begun = threading.Event()
"""


@pytest.fixture(autouse=True)
def long(sim: Simulator) -> None:
    sim.respond(lambda request: Reply(text="word " * 75, delay=0.02) if request.text == "slow" else Reply(text="Hello"))


def run(script: str, *args: str, timeout: float = WAIT * 2, dev: bool = True, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """(status, output, errors) of a program; everything that warns is an error in it."""
    strict = ["-X", "dev", "-W", "error"] if dev else []
    done = subprocess.run(
        [sys.executable, *strict, "-c", BEGIN + script, *args],
        capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


# the end


MID_STREAM = {
    "held": "events = iter(allm.stream_generate(engine, 'slow')); first_delta(events)",
    "awaited by a thread": "begin(lambda: allm.generate(engine, 'slow', on_event=see))",
    "iterated by a thread": "begin(lambda: list(allm.stream_generate(engine, 'slow', on_event=see)))",
    "with a slow on_event": "begin(lambda: allm.generate(engine, 'slow', on_event=lambda event: (see(event), time.sleep(0.01))))",
    "in a runtime of its own": "r = allm.Runtime(); events = iter(allm.stream_generate(engine, 'slow', runtime=r)); first_delta(events)",
    "left in asyncio": """
async def go():
    cursor = aiter(allm.stream_generate(engine, 'slow'))
    while not isinstance(await anext(cursor), allm.TextDelta):
        pass
    return cursor
allm.generate(engine, 'Hi')
cursor = asyncio.run(go())
""",
    "over httpx": """
engine = allm.Engine(adapter='openai.chat', model='m', base_url=URL, http=allm.Http(transport='httpx'))
events = iter(allm.stream_generate(engine, 'slow')); first_delta(events)
""",
}


@pytest.mark.parametrize("how", MID_STREAM)
def test_a_program_that_ends_in_the_midst_of_a_stream_ends_promptly_and_quietly(how: str, sim: Simulator) -> None:
    script = MID_STREAM[how] + "\nprint(time.time(), flush=True)"
    status, out, err = run(script, sim.base_url("chat"))
    assert time.time() - float(out.split()[-1]) < PROMPT
    assert (status, err) == (0, "")
    assert sim.wait_closed()
    assert sim.requests[-1].outcome == "client closed"


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise SystemExit(3)", "threading.Thread(target=sys.exit).start(); sys.exit(3)"])
def test_a_program_that_exits_keeps_its_status(how: str, sim: Simulator) -> None:
    script = f"allm.generate(engine, 'Hi'); events = iter(allm.stream_generate(engine, 'slow')); first_delta(events); {how}"
    assert run(script, sim.base_url("chat")) == (3, "", "")


def test_calls_that_run_in_other_threads_at_the_end_are_told_so(sim: Simulator) -> None:
    script = """
def call():
    try:
        print(allm.generate(engine, "slow", on_event=see).error.reason)
    except allm.AllmError as error:
        print("raised", error.reason)
worker = begin(call)
allm.default_runtime().stop(0)
worker.join(5)
"""
    status, out, err = run(script, sim.base_url("chat"))
    assert (status, out, err) == (0, "cancelled\n", "")


def test_a_worker_that_is_no_daemon_is_waited_for_as_python_does(sim: Simulator) -> None:
    script = "threading.Thread(target=lambda: print(allm.generate(engine, 'Hi').text)).start()"
    assert run(script, sim.base_url("chat")) == (0, "Hello\n", "")


def test_a_call_made_at_exit_is_refused_or_answered_and_hangs_nobody(sim: Simulator) -> None:
    script = """
import atexit
def late():
    try:
        print(allm.generate(engine, "Hi").text)
    except (allm.AllmError, RuntimeError) as error:
        print("refused")
atexit.register(late)
allm.generate(engine, "Hi")
"""
    status, out, err = run(script, sim.base_url("chat"))
    assert status == 0, err
    assert out in ("refused\n", "Hello\n")


def test_a_program_that_only_imports_starts_nothing() -> None:
    script = "allm.generate, allm.Runtime; print(threading.active_count())"
    assert run(script, "http://127.0.0.1:9/v1") == (0, "1\n", "")


# forks


CHILD = """
def child(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print("child:", type(error).__name__, error, flush=True)
        finally:
            sys.stdout.flush()
            {leave}
    deadline = time.monotonic() + 15
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hangs"
        time.sleep(0.01)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("leave", ["os._exit(status)", "sys.exit(status)"])
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_after_a_fork_the_child_calls_anew_and_the_parents_streams_go_on(transport: str, leave: str, sim: Simulator) -> None:
    script = f"""
engine = allm.Engine(adapter="openai.chat", model="m", base_url=URL, http=allm.Http(transport={transport!r}))
own = allm.Runtime()
allm.generate(engine, "Hi")
events = iter(allm.stream_generate(engine, "slow", runtime=own))
text = first_delta(events).delta
def work():
    assert allm.generate(engine, "Hi").text == "Hello"
    assert asyncio.run(allm.aio.generate(engine, "Hi")).text == "Hello"
    try:
        allm.generate(engine, "Hi", runtime=own)
    except allm.EngineError as error:
        print(error.reason, own.stop())
for _ in range(2):
    print(child(work))
text += "".join(event.delta for event in events if isinstance(event, allm.TextDelta))
print(text == "word " * 75, allm.generate(engine, "Hi").text)
"""
    status, out, err = run(CHILD.format(leave=leave) + script, sim.base_url("chat"), timeout=60, dev=False)
    assert (status, err) == (0, "")
    assert out == "forked ()\n0\n" * 2 + "True Hello\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_stream_that_a_child_inherits_ends_with_an_error(sim: Simulator) -> None:
    script = """
stream = allm.stream_generate(engine, "slow")
events = iter(stream)
first_delta(events)
unstarted = allm.stream_generate(engine, "Hi")
def work():
    try:
        for event in events:
            pass
    except allm.StreamError as error:
        print(error.reason)
    try:
        stream.response()
    except allm.StreamError as error:
        print(error.reason)
    stream.cancel()
    stream.close()
    print(unstarted.response().text)
print(child(work))
first_delta(events)
stream.close()
print(unstarted.response().text)
"""
    status, out, err = run(CHILD.format(leave="os._exit(status)") + script, sim.base_url("chat"), dev=False)
    assert (status, out, err) == (0, "connection_closed\nconnection_closed\nHello\n0\nHello\n", "")


# other processes


ENGINES = """
import multiprocessing, pickle, sys
import allm

def answer(data):
    engine = allm.handoff.loads(data)
    return allm.generate(engine, "Hi").text + engine.instructions(None)

def main(url):
    engine = allm.Engine(adapter="openai.chat", model="m", base_url=url, instructions=lambda turn: "!")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(answer, [allm.handoff.dumps(engine)] * 2))
    plain = allm.Engine(adapter="openai.chat", model="m", base_url=url)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(allm.generate, (plain, "Hi")).text)

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_an_engine_travels_to_a_spawned_process_and_its_response_comes_back(sim: Simulator, tmp_path: Any) -> None:
    program = tmp_path / "program.py"
    program.write_text(ENGINES)
    done = subprocess.run(
        [sys.executable, str(program), sim.base_url("chat")], capture_output=True, text=True, timeout=WAIT * 3, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['Hello!', 'Hello!']\nHello\n"


def test_what_is_no_engine_is_not_handed_over() -> None:
    import pickle

    for attempt in (lambda: allm.handoff.dumps("engine"), lambda: allm.handoff.loads(pickle.dumps("engine"))):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(allm.ValidationError):
            attempt()


# proxies


def proxy(visit: Visit) -> None:
    """A proxy that answers by itself."""
    while visit.read() is not None:
        visit.send(HELLO)


PROXIED = """
engine = allm.Engine(adapter="openai.chat", model="m", base_url="http://provider.invalid/v1", retry=allm.Retry.none())
try:
    print(allm.generate(engine, "Hi", api_key="sk-1").text)
except allm.AdapterError as error:
    print(error.reason)
"""


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_the_environment_names_is_used(variable: str, serve: Serve) -> None:
    server = serve(proxy)
    assert run(PROXIED, "http://provider.invalid/v1", env={variable: server.url}, dev=False) == (0, "Hello\n", "")
    assert server.heads[0].startswith("POST http://provider.invalid/v1/chat/completions HTTP/1.1")
    assert server.header("authorization") == ["Bearer sk-1"]


@pytest.mark.parametrize("exception", ["provider.invalid", ".invalid", "*"])
def test_an_exception_from_the_proxy_is_honoured(exception: str, serve: Serve) -> None:
    server = serve(proxy)
    assert run(PROXIED, "http://provider.invalid/v1", env={"HTTP_PROXY": server.url, "NO_PROXY": exception}, dev=False) == (
        0,
        "connection_closed\n",
        "",
    )
    assert not server.heads


def test_a_proxy_for_https_only_is_not_for_http(serve: Serve) -> None:
    server = serve(proxy)
    assert run(PROXIED, "http://provider.invalid/v1", env={"HTTPS_PROXY": server.url}, dev=False)[1] == "connection_closed\n"
    assert not server.heads


@pytest.mark.parametrize("transport", ["auto", "aiohttp", "httpx"])
def test_a_proxy_that_the_engine_names_is_used(transport: str, serve: Serve, runtime: allm.Runtime) -> None:
    server, other = serve(proxy), serve(answers(HELLO))
    engine = allm.Engine(
        adapter="openai.chat", model="m", base_url=other.url + "/v1", http=allm.Http(proxy=server.url, transport=transport)
    )
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert server.heads[0].startswith(f"POST {other.url}/v1/chat/completions")
    assert not other.heads


def test_a_proxy_that_is_not_there_is_a_closed_connection(runtime: allm.Runtime) -> None:
    engine = allm.Engine(
        adapter="openai.chat", model="m", base_url="http://provider.invalid/v1",
        http=allm.Http(proxy="http://127.0.0.1:9"), retry=allm.Retry.none(),
    )  # fmt: skip
    with pytest.raises(allm.AdapterError) as raised:
        allm.generate(engine, "Hi", runtime=runtime)
    assert raised.value.reason == "connection_closed"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_program_that_is_terminated_ends_at_once(sim: Simulator) -> None:
    script = "events = iter(allm.stream_generate(engine, 'slow')); first_delta(events); print('streaming', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", BEGIN + script, sim.base_url("chat")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        process.terminate()
        assert process.wait(PROMPT) == -signal.SIGTERM
    assert sim.wait_idle()
