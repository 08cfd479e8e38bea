"""What the tests of running tools share: a bench that runs them by messages, and a pulse of the loop."""

# pyright: reportPrivateUsage=false

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import allm
from allm.actors.engine import put
from allm.actors.tools import CancelTool, RunTool, ToolJob
from allm.messages import ToolCallPart
from allm.tools import Tool, ToolContext, ToolOutcome
from tests.runtime.support import WAIT

Handler = Callable[..., Any] | str

_TOOL = frozenset(Tool.__struct_fields__)


class Pending:
    """A job that was handed over, and what was reported of it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.reports: list[ToolOutcome] = []
        self.threads: list[threading.Thread] = []
        self._reported = threading.Event()

    def report(self, outcome: ToolOutcome) -> None:
        self.reports.append(outcome)
        self.threads.append(threading.current_thread())
        self._reported.set()

    def outcome(self, timeout: float = WAIT * 2) -> ToolOutcome:
        assert self._reported.wait(timeout), f"no report of {self.id} within {timeout} s"
        return self.reports[0]

    def error(self, timeout: float = WAIT * 2) -> str:
        """The reason of the error; there must be one."""
        error = self.outcome(timeout).error
        assert error is not None, self.reports
        assert error.kind == "tool"
        return error.reason


class Bench:
    """Runs tools in a runtime. Fields of `Tool` and of `ToolJob` are told apart by their names."""

    def __init__(self, runtime: allm.Runtime) -> None:
        self.runtime = runtime
        self.started: list[Pending] = []
        self._numbers = itertools.count(1)

    @property
    def tools(self) -> Any:
        return self.runtime.find("tools")

    def start(self, handler: Handler, arguments: Mapping[str, Any] | None = None, **fields: Any) -> Pending:
        number = next(self._numbers)
        name = fields.pop("name", None) or getattr(handler, "__name__", "handler").strip("<>")
        pending = Pending(f"job-{number}")
        job = {name: fields.pop(name) for name in list(fields) if name not in _TOOL or name == "timeout"}
        call = ToolCallPart(f"call-{number}", name, dict(arguments or {}))
        self.started.append(pending)
        whole = ToolJob(
            id=pending.id,
            tool=Tool(name=name, handler=handler, **fields),
            call=call,
            report=job.pop("report", pending.report),
            context=job.pop("context", None) or ToolContext(request_id="req", tool_call=call),
            **job,
        )
        put(self.runtime._directory.tools, RunTool(whole))
        return pending

    def run(self, handler: Handler, arguments: Mapping[str, Any] | None = None, **fields: Any) -> ToolOutcome:
        return self.start(handler, arguments, **fields).outcome()

    def error(self, handler: Handler, arguments: Mapping[str, Any] | None = None, **fields: Any) -> str:
        return self.start(handler, arguments, **fields).error()

    def cancel(self, pending: Pending) -> None:
        put(self.runtime._directory.tools, CancelTool(pending.id))

    @property
    def stats(self) -> dict[str, int]:
        found: dict[str, int] = self.runtime.stats()["tools"]
        return found

    def names(self) -> list[str]:
        """The children of the tree's `tools`."""
        tools = next(each for each in self.runtime.tree()["children"] if each["id"] == "tools")
        return [str(each["id"]) for each in tools["children"]]


@contextmanager
def pulse(runtime: allm.Runtime, most: float = 8.0) -> Generator[None]:
    """While inside, the runtime's loop is never away for longer than `most` seconds: much, for a busy machine that counts every line
    while 200 threads or processes start; less than the handlers take that a loop could wait for."""
    gaps: list[float] = []
    begun, over = threading.Event(), threading.Event()

    async def beat() -> None:
        before = time.monotonic()
        begun.set()
        while not (gaps and over.is_set()):
            await asyncio.sleep(0.005)
            now = time.monotonic()
            gaps.append(now - before)
            before = now

    beating = asyncio.run_coroutine_threadsafe(beat(), runtime._loop)
    assert begun.wait(WAIT)
    try:
        yield
    finally:
        over.set()
        beating.result(WAIT)
    assert max(gaps) < most, f"the loop was away for {max(gaps):.2f} s"


def gone(pid: int) -> bool:
    """Whether a process is no more, or is a zombie of somebody else."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False


def until(true: Callable[[], object], timeout: float) -> float:
    """Seconds until it was true."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < timeout, f"still not so after {timeout} s"
        time.sleep(0.002)
    return time.monotonic() - begun
