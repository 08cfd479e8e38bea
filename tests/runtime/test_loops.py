"""The loops are the runtime's own, on the real clock; a runtime that cannot start says so at once, and leaves nothing behind."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import allm
from allm.actors import loops
from allm.actors.loops import LoopThread
from allm.testing import Fault, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT

START = """
import sys, threading, time
import allm
engine = allm.Engine("fake:any", adapter_opts={"script": [("text", "Hello"), ("finish", "stop")]})
"""


ENGINE = allm.Engine("fake:any", adapter_opts={"script": [("text", "Hello"), ("finish", "stop")]})


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", START + textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False)


def test_the_program_s_policy_is_not_asked_for_loops() -> None:
    done = run("""
        import asyncio
        class MainThreadOnly(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                raise RuntimeError("loops are for the main thread")
            def set_event_loop(self, loop):
                raise RuntimeError("loops are for the main thread")
        asyncio.set_event_loop_policy(MainThreadOnly())
        async def tool() -> str:
            "Look."
            return "seen"
        script = [("tool_call", {"id": "c", "name": "tool", "arguments": {}}), ("finish", "tool_calls")]
        print(allm.generate(engine, "x").text)
        from allm.actors.toolloop import ToolLoop
        loop = ToolLoop(lambda _: None)
        print(asyncio.run_coroutine_threadsafe(tool(), loop.loop).result(10))
        loop.end()
    """)
    assert (done.stdout, done.stderr) == ("Hello\nseen\n", "")


@pytest.mark.parametrize(
    ("library", "patcher", "asks", "module"),
    [("gevent", "gevent.monkey", "is_module_patched", "threading"), ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread")],
)
def test_patched_threads_are_refused_at_once_and_by_name(library: str, patcher: str, asks: str, module: str) -> None:
    done = run(f"""
        import types
        patcher = types.ModuleType({patcher!r})
        patcher.{asks} = lambda name: name == {module!r}
        sys.modules[{patcher!r}] = patcher
        try:
            allm.generate(engine, "x")
        except allm.EngineError as error:
            print(error.reason, error.message)
        print(threading.active_count())
    """)
    assert done.stdout.startswith(f"unsupported {library} has patched")
    assert done.stdout.endswith("\n1\n")
    assert done.stderr == ""


def test_a_loop_has_the_real_clock_though_the_program_s_stands_still(monkeypatch: pytest.MonkeyPatch, sim: Simulator, fast: Make) -> None:
    frozen = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: frozen)
    loop = loops.new_loop()
    assert loop.time() != frozen
    loop.close()
    sim.fault(Fault(status=503), times=2)
    with allm.Runtime() as runtime:
        assert allm.generate(fast(), "x", runtime=runtime).text  # after two delays
        hangs = fast(timeouts=allm.Timeouts(first_event=0.1), retry=allm.Retry.none())
        sim.fault(Fault(slow_first_byte=5))
        with pytest.raises(allm.AdapterError, match="no content within"):
            allm.generate(hangs, "x", runtime=runtime)


def test_the_clock_is_real_though_it_was_stopped_before_it_was_imported() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import time; real = time.monotonic; time.monotonic = lambda: 0.0; from allm.supervisors.clock import clock; "
            "print(abs(clock.now() - real()) < 5)",
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("allm-loop")]


def test_a_thread_that_cannot_be_started_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(allm.EngineError, match="can't start new thread") as raised:
            allm.Runtime()
    assert raised.value.reason == "not_started"
    with allm.Runtime() as runtime:
        assert not runtime.stopped


def test_descriptors_that_cannot_be_had_are_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(loops, "new_loop", refuse)
    with pytest.raises(allm.EngineError, match="Too many open files") as raised:
        allm.Runtime()
    assert raised.value.reason == "not_started"
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.__traceback__ is None


def test_a_loop_that_dies_at_its_start_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dies(asyncio.SelectorEventLoop):
        def run_forever(self) -> None:
            raise ValueError("not on this thread")

    monkeypatch.setattr(loops, "new_loop", Dies)
    before = threads_of_ours()
    with pytest.raises(allm.EngineError, match="not on this thread"):
        allm.Runtime()
    assert threads_of_ours() == before


def test_a_loop_that_dies_later_leaves_nobody_waiting() -> None:
    done = run("""
        script = {"script": [("text", "Hello"), ("delay", 30), ("finish", "stop")]}
        runtime = allm.default_runtime()
        def end(event):
            if isinstance(event, allm.RequestStarted):
                runtime._loop.call_soon_threadsafe(runtime._loop.stop)
        try:
            allm.generate(allm.Engine("fake:any", adapter_opts=script), "x", on_event=end, runtime=runtime)
        except allm.AllmError as error:
            print(error.message)
    """)
    assert done.stdout == "the thread of the runtime's loop has ended\n", done.stderr


def test_a_call_in_a_finaliser_at_the_end_of_the_interpreter_is_an_error_at_once() -> None:
    done = run("""
        allm.generate(engine, "x")
        class Last:
            def __init__(self): self.engine, self.generate, self.print, self.flush = engine, allm.generate, print, sys.stdout.flush
            def __del__(self):
                try:
                    self.generate(self.engine, "x")
                except Exception as error:
                    self.print(type(error).__name__, error)
                self.flush()
        last = Last()
    """)
    assert done.stdout == "EngineError this runtime was stopped: the interpreter is ending (stopped)\n", done.stderr


def test_a_runtime_that_is_stopped_from_an_on_event_ends_without_a_word_on_stderr() -> None:
    done = run("""
        runtime = allm.Runtime()
        def stop(event):
            runtime.stop(1)
        print(allm.generate(engine, "x", on_event=stop, runtime=runtime).text)
    """)
    assert (done.stdout, done.stderr) == ("Hello\n", "")


def test_ctrl_c_in_a_runtime_s_block_gives_calls_of_other_threads_a_second(sim: Simulator, fast: Make) -> None:
    sim.fault(Fault(slow_first_byte=8))
    ended: list[BaseException] = []
    thread = threading.Thread()

    def call(runtime: allm.Runtime) -> None:
        try:
            allm.generate(fast(), "x", runtime=runtime)
        except allm.AllmError as error:
            ended.append(error)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), allm.Runtime() as runtime:  # noqa: PT012
        thread = threading.Thread(target=call, args=(runtime,))
        thread.start()
        assert sim.wait_requests(1)
        raise KeyboardInterrupt
    thread.join(10)
    assert time.monotonic() - began < 7
    assert len(ended) == 1


def test_a_loop_that_was_closed_by_half_is_ended_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's exception may fall into its closing; the next try finds sockets that are closed."""
    home = LoopThread("tests-loop")
    home.start()

    def half_closed() -> None:
        raise ValueError("Invalid file descriptor: -1")

    with monkeypatch.context() as patched:
        patched.setattr(home.loop, "close", half_closed)
        assert home.end(WAIT)
    home.loop.close()


def test_a_loop_that_is_ended_while_its_thread_is_just_starting_is_closed_by_that_thread() -> None:
    """A signal's exception may fall between the start of the thread and the first that is known of it."""
    home = LoopThread("tests-loop")
    running = threading.Event()
    home.loop.call_soon(running.set)
    thread = home.thread
    thread.start()
    assert running.wait(WAIT)
    unknown: Any = SimpleNamespace(ident=None, is_alive=lambda: False)
    home.thread = unknown
    home.end(WAIT)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert home.loop.is_closed()


class Leaves(httpx.AsyncBaseTransport):
    """A transport that leaves where it is told to."""

    where = "request"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.where == "request":
            raise SystemExit(3)
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=LeavingBody())

    async def aclose(self) -> None:
        raise SystemExit(3)


class LeavingBody(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        raise KeyboardInterrupt

    async def aclose(self) -> None:
        raise SystemExit(3)


class LeavesInItsBody(Leaves):
    where = "body"


def leaving_factory() -> httpx.AsyncBaseTransport:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("name", "told"), [("leaving_factory", "SystemExit: 3"), ("Leaves", "SystemExit"), ("LeavesInItsBody", "KeyboardInterrupt")]
)
def test_a_transport_that_exits_fails_its_call_and_not_everybodys_loop(name: str, told: str, make: Make) -> None:
    with allm.Runtime() as runtime:
        for _ in range(2):
            with pytest.raises(allm.AllmError, match=told):
                allm.generate(make(http=allm.Http(transport=f"{__name__}:{name}")), "x", runtime=runtime, retry=allm.Retry.none())
        assert allm.generate(ENGINE, "x", runtime=runtime).text == "Hello"


def test_a_callback_that_exits_does_not_end_everybodys_loop() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with allm.Runtime() as runtime:
        runtime._loop.call_soon_threadsafe(leave)  # pyright: ignore[reportPrivateUsage]
        assert allm.generate(ENGINE, "x", runtime=runtime).text == "Hello"
        assert not runtime.lost


def test_plain_calls_go_on_with_a_new_runtime_where_the_loop_was_lost() -> None:
    done = run("""
        runtime = allm.default_runtime()
        runtime._loop.call_soon_threadsafe(runtime._loop.stop)
        runtime._thread.join(10)
        print(allm.generate(engine, "x").text, allm.default_runtime() is runtime)
        try:
            allm.generate(engine, "x", runtime=runtime)
        except allm.EngineError as error:
            print(error.message)
    """)
    assert done.stdout == "Hello False\nthe thread of this runtime's loop has ended\n", done.stderr
