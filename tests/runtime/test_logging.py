"""A log that blocks, or that is no log as others are, holds up no call and loses no line without saying so."""

import contextvars
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from allm.supervisors import logwriter
from allm.supervisors.logwriter import Line, LogWriter
from tests.runtime.support import WAIT, eventually

START = """
import sys, threading, time
import structlog
import allm
from allm.supervisors import log
engine = allm.Engine("fake:any", adapter_opts={"script": [("text", "Hello"), ("finish", "stop")]})
"""


def run(code: str, *, flags: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    program = START + textwrap.dedent(code)
    return subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_calls_go_on_though_nobody_reads_the_log() -> None:
    code = START + textwrap.dedent("""
        structlog.configure()                       # prints to stdout, which is full
        for _ in range(1500):
            allm.generate(engine, "x", timeouts=allm.Timeouts(total=5))
        sys.stderr.write("done")
        sys.stderr.flush()
        import os
        os._exit(0)
    """)
    reader, writer = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stderr == "done"


def test_a_handler_of_the_standard_library_that_is_slow_slows_no_call() -> None:
    done = run("""
        import logging
        held = threading.Event()
        class Slow(logging.Handler):
            def emit(self, record):
                held.wait(30)
        logging.basicConfig(level=logging.INFO, handlers=[Slow()])
        allm.generate(engine, "x"); allm.generate(engine, "x")
        print("done"); held.set()
    """)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_lines_of_an_asynchronous_logger_are_written() -> None:
    done = run(
        """
        structlog.configure(wrapper_class=structlog.stdlib.AsyncBoundLogger, logger_factory=structlog.stdlib.LoggerFactory(),
            processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()])
        import logging
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        allm.generate(engine, "x")
        assert log.flush(10)
        """,
        flags=("-W", "error"),
    )
    assert done.stderr == ""
    assert '"event": "call_finished"' in done.stdout


def test_a_logger_that_gives_something_to_await_is_awaited() -> None:
    done = run("""
        class Later:
            def __init__(self, logger, processors, context): pass
            def bind(self, **_): return self
            def __getattr__(self, level):
                async def write(event, **values):
                    print("WRITTEN", event)
                return write
        structlog.configure(wrapper_class=Later)
        log.error("this")
        assert log.flush(10)
    """)
    assert (done.stdout, done.stderr) == ("WRITTEN this\n", "")


def test_lines_are_written_to_the_last_at_the_end_of_a_program_and_in_a_forked_child() -> None:
    done = run("""
        import os
        structlog.configure(processors=[structlog.processors.JSONRenderer()])
        allm.generate(engine, "x", request_id="parent")
        log.flush(10)
        pid = os.fork()
        if pid == 0:
            allm.generate(engine, "x", request_id="child")
            allm.default_runtime().stop()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        allm.generate(engine, "x", request_id="last")
    """)
    finished = [line for line in done.stdout.splitlines() if '"event": "call_finished"' in line]
    assert [name for name in ("parent", "child", "last") if sum(f'"{name}"' in line for line in finished) != 1] == []


def test_lines_beyond_the_bound_are_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "MOST", 3)
    held, written = threading.Event(), list[Line]()

    def write(line: Line) -> None:
        held.wait(WAIT)
        written.append(line)

    writer = LogWriter(write)
    for number in range(10):
        writer.put(Line("info", f"line {number}", {}, contextvars.Context()))
        if number == 0:
            eventually(lambda: writer._lines.empty(), "the first is taken")  # pyright: ignore[reportPrivateUsage]
    assert writer.dropped == 6
    held.set()
    assert writer.flush(WAIT)
    assert [line.event for line in written] == ["line 0", "log_lines_dropped", "line 1", "line 2", "line 3"]
    assert written[1].values == {"count": 6}


def test_a_log_that_exits_ends_nothing() -> None:
    written: list[str] = []

    def write(line: Line) -> None:
        if line.event == "bad":
            raise SystemExit(3)
        written.append(line.event)

    writer = LogWriter(write)
    writer.put(Line("info", "bad", {}, contextvars.Context()))
    writer.put(Line("info", "good", {}, contextvars.Context()))
    assert writer.flush(WAIT)
    assert written == ["good"]
