"""Tools in processes of their own: really killed at their timeout, their crash an outcome, and no process left whatever ends."""

# ruff: noqa: T201
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

import asyncio
import contextlib
import ctypes
import dataclasses
import enum
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import pytest

import allm
from allm.actors import toolprocess, tools
from allm.actors.toolprocess import pickled
from allm.actors.toolwork import Work
from allm.errors import ErrorInfo, ToolError
from allm.messages import ToolCallPart
from allm.tools import Tool, ToolContext, as_tool, ask_user, halt
from tests.conftest import Say
from tests.runtime.process_tools import hold, pid_of, sleep, spin
from tests.runtime.support import WAIT, eventually
from tests.runtime.tooling import Bench, Handler, gone, pulse, until

psutil = pytest.importorskip("psutil")

pytestmark = [pytest.mark.alone, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]


class Processes(Bench):
    """Every tool in a process of its own."""

    def start(self, handler: Handler, arguments: Any = None, **fields: Any) -> Any:
        return super().start(handler, arguments, **{"isolation": "process", **fields})

    @property
    def nursery(self) -> int | None:
        """The process that starts the others; None if there is none."""
        found = [process.process.pid for process in self.runtime.workshop.processes]
        assert len(found) < 2
        return found[0] if found else None

    def children(self) -> list[int]:
        """The processes of tools now."""
        if self.nursery is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.nursery).children(recursive=True)]
        return []


@pytest.fixture
def bench(runtime: allm.Runtime) -> Iterator[Processes]:
    """Whose processes are gone when the runtime has stopped."""
    bench = Processes(runtime)
    yield bench
    left = [pid for pid in (bench.nursery, *bench.children()) if pid is not None]
    runtime.stop(0)
    assert [pid for pid in left if not gone(pid)] == []


# results


def test_a_handler_runs_in_a_process_of_its_own(bench: Processes) -> None:
    first, second = (bench.run(lambda: os.getpid()).result for _ in range(2))
    assert len({first, second, os.getpid(), bench.nursery}) == 4
    eventually(lambda: bench.children() == [], "both have ended")


def test_lambdas_closures_and_functions_by_name_travel(bench: Processes) -> None:
    factor = 3
    assert bench.run(lambda n: n * factor, {"n": 2}).result == 6
    for handler in ("tests.runtime.process_tools:pid_of", pid_of):
        result = bench.run(handler, {"n": 7}, name="pid_of").result
        assert result[0] != os.getpid()
        assert result[1] == 7


def test_classes_that_cannot_be_imported_travel_with_their_handler(bench: Processes) -> None:
    class Kind(enum.Enum):
        SMALL = "small"

    class Size(NamedTuple):
        width: int = 1

    class Where(TypedDict):
        city: str

    @dataclasses.dataclass
    class Inner:
        kind: Kind

    @dataclasses.dataclass
    class Order(Generic[T]):
        inner: Inner
        item: T
        count: int = dataclasses.field(default=2, kw_only=True)

    def handler(order: Order[int], kind: Kind, size: Size, where: Where, inner: list[Inner]) -> Any:
        assert isinstance(order, Order)
        return [order, kind is Kind.SMALL, size.width, where["city"], inner[0] == Inner(Kind.SMALL)]

    tool = as_tool(allm.tool(isolation="process")(handler))
    assert isinstance(tool, Tool)
    small = {"kind": "small"}
    arguments = {"order": {"inner": small, "item": 1}, "kind": "small", "size": [3], "where": {"city": "Oslo"}, "inner": [small]}
    for _ in range(2):  # of which the first may be what makes msgspec keep something on the classes
        made = bench.run(handler, arguments, schema=tool.schema)
        assert made.result == [{"inner": {"kind": "small"}, "item": 1, "count": 2}, True, 3, "Oslo", True]
    engine = allm.handoff.loads(allm.handoff.dumps(allm.Engine("fake:any", tools=[tool])))
    assert engine.tools[0].schema == tool.schema


def test_what_is_in_the_process_is_the_core_alone(bench: Processes) -> None:
    loaded = bench.run(lambda: sorted(sys.modules), context=ToolContext(engine=allm.Engine("fake:any"))).result
    assert not {"pykka", "asyncio", "httpx", "allm.actors.runtime", "ssl", "subprocess"}.intersection(loaded)


def test_an_asynchronous_handler_runs_there_too(bench: Processes) -> None:
    async def handler(n: int) -> list[int]:
        await asyncio.sleep(0.001)
        return [n, os.getpid()]

    async def executor(call: Callable[[], Any], context: ToolContext) -> Any:
        return {"around": await call()}

    result = bench.run(handler, {"n": 4}).result
    assert result[0] == 4
    assert result[1] != os.getpid()
    assert bench.run(handler, {"n": 5}, executor=executor).result["around"][0] == 5


def test_executor_and_encoder_run_where_the_handler_does(bench: Processes) -> None:
    outcome = bench.run(
        lambda: os.getpid(),
        executor=lambda call, context: {"inner": call(), "outer": os.getpid()},
        encoder=lambda result: f"{result['inner']} {os.getpid()}",
    )
    assert outcome.result["inner"] == outcome.result["outer"] != os.getpid()
    assert outcome.content == f"{outcome.result['inner']} {outcome.result['inner']}"


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


OUTCOMES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "an object": lambda: {"a": [1, 2.5, None, True], "ü": "ü"},
    "a question": lambda: ask_user("Which?", choices=["a"]),
    "a halt": lambda: halt("sold", {"price": 3}),
    "not JSON": lambda: {"a": object()},
    "an exception": lambda: 1 / 0,
    "SystemExit": lambda: sys.exit(3),
    "one that exits when it is read": lambda: (_ for _ in ()).throw(Exits),
    "two keys that are one": lambda: {1: 2, "1": 3},
    "KeyboardInterrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    "too large": lambda: "x" * 101,
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_outcome_is_that_of_a_thread(name: str, bench: Processes) -> None:
    from msgspec.structs import replace

    thread, process = (bench.run(OUTCOMES[name], isolation=kind, max_result=100) for kind in ("thread", "process"))
    assert replace(process, id="", duration=0) == replace(thread, id="", duration=0)
    assert type(process.result) is type(thread.result)
    assert process.duration > 0


def test_a_tool_error_keeps_its_reason(bench: Processes) -> None:
    def raises() -> None:
        raise ToolError("out_of_stock", "none left", metadata={"sku": 7})

    assert bench.run(raises).error == ErrorInfo("tool", "out_of_stock", "none left", metadata={"sku": 7})


def test_ten_megabytes_go_there_and_come_back_and_the_loop_goes_on(bench: Processes) -> None:
    text = "x" * 10_000_000
    bench.run(lambda: 1)
    with pulse(bench.runtime):
        outcome = bench.run(lambda text: text, {"text": text}, max_result=20_000_000)
    assert outcome.result == text
    assert outcome.content == text


def test_a_result_too_large_does_not_leave_the_process_whatever_the_encoder_makes_of_it(bench: Processes) -> None:
    outcome = bench.run(lambda: ["x" * 1000] * 1000, encoder=lambda result: "short", max_result=1000)
    assert outcome.error is not None
    assert outcome.error.reason == "result_too_large"
    assert outcome.error.metadata["size"] > 1_000_000
    assert outcome.result is None


def test_what_a_handler_prints_is_printed(bench: Processes, capfd: pytest.CaptureFixture[str]) -> None:
    bench.run(lambda: print("hello"))
    assert capfd.readouterr().out == "hello\n"


def test_two_hundred_calls_run_in_parallel(bench: Processes) -> None:
    with pulse(bench.runtime):
        several = [bench.start(lambda n: n, {"n": n}) for n in range(200)]
        assert [each.outcome(60).result for each in several] == list(range(200))
    eventually(lambda: bench.children() == [], "all have ended")


# what travels


def test_the_context_has_its_plain_parts(bench: Processes) -> None:
    def handler(context: ToolContext) -> Any:
        told: list[Any] = [dict(context.context), context.session_id, context.request_id, context.tool_call.name, bool(context.cancelled)]
        for look in (context.resources.__getitem__, context.resources.get):
            try:
                look("db")
            except ToolError as error:
                told.append([error.reason, "'db'" in error.message])
        return [*told, len(context.resources)]

    context = ToolContext(
        context={"user": 3}, resources={"db": threading.Lock()}, session_id="s", request_id="r", tool_call=ToolCallPart("c", "handler")
    )
    refused = ["not_portable", True]
    assert bench.run(handler, context=context).result == [{"user": 3}, "s", "r", "handler", False, refused, refused, 0]


SECRET = "sk-very-secret-1234"


def engines() -> dict[str, allm.Engine]:
    key = SECRET
    return {
        "literal": allm.Engine("fake:any", keys={"openai": SECRET}),
        "a closure": allm.Engine("fake:any", keys=lambda provider, context: key),
        "by name": allm.Engine("fake:any", keys="os:getenv"),
    }


@pytest.mark.parametrize("name", engines())
def test_the_engine_travels_without_its_keys(name: str, bench: Processes) -> None:
    def handler(context: ToolContext) -> Any:
        return [context.engine.model, context.engine.keys] if context.engine is not None else None

    engine = engines()[name]
    call = ToolCallPart("c", "handler")
    data = pickled(Work(Tool(name="handler", handler=handler), call, ToolContext(engine=engine), None, None))
    assert SECRET.encode() not in data
    assert bench.run(handler, context=ToolContext(engine=engine)).result == ["any", "os:getenv" if name == "by name" else None]


def test_an_engine_that_cannot_travel_stays_behind(bench: Processes) -> None:
    lock = threading.Lock()
    engine = allm.Engine("fake:any", instructions=lambda turn: str(lock))

    def handler(context: ToolContext) -> bool:
        return context.engine is None

    assert bench.run(handler, context=ToolContext(engine=engine)).result is True


def test_what_cannot_travel_is_refused(bench: Processes) -> None:
    lock = threading.Lock()
    outcome = bench.run(lambda: lock.locked())
    assert outcome.error is not None
    assert outcome.error.reason == "not_portable"
    assert "lock" in outcome.error.message
    assert bench.error(lambda: 1, context=ToolContext(context={"lock": lock})) == "not_portable"

    class Stubborn:
        def __reduce__(self) -> Any:
            return json.loads, ("{",)

    stubborn = Stubborn()
    assert bench.error(lambda: stubborn) == "not_portable"  # it goes, and does not arrive
    assert bench.run(lambda: 1).result == 1


def test_a_platform_without_forks_is_told_so(bench: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "supported", lambda: False)
    assert bench.error(lambda: 1) == "unsupported"
    assert bench.nursery is None
    assert bench.run(lambda: 1, isolation="thread").result == 1


def test_a_frozen_program_cannot_be_started_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert toolprocess.supported()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not toolprocess.supported()


# crashes

CRASHES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "os._exit": (lambda: os._exit(3), {"exit_code": 3}),
    "a silent exit": (lambda: os._exit(0), {"exit_code": 0}),
    "segfault": (lambda: ctypes.string_at(1), {"signal": "SIGSEGV"}),
    "abort": (lambda: os.abort(), {"signal": "SIGABRT"}),
    "the killer of those without memory": (lambda: os.kill(os.getpid(), signal.SIGKILL), {"signal": "SIGKILL"}),
    "closed descriptors": (lambda: os.closerange(3, 256), {"exit_code": 1}),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_an_outcome_and_nothing_more(name: str, bench: Processes, capfd: pytest.CaptureFixture[str]) -> None:
    handler, metadata = CRASHES[name]
    sibling = bench.start(lambda: time.sleep(0.3))
    outcome = bench.run(handler)
    assert outcome.error is not None
    assert (outcome.error.reason, dict(outcome.error.metadata)) == ("crashed", metadata)
    assert str(*metadata.values()) in outcome.error.message
    assert json.loads(outcome.content) == {"error": outcome.error.message}
    nursery = bench.nursery
    assert sibling.outcome().error is None
    assert bench.run(lambda: 1).result == 1
    assert bench.nursery == nursery


def test_a_lack_of_memory_is_an_outcome(bench: Processes) -> None:
    def handler() -> int:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
        return len(bytearray(1 << 30))

    outcome = bench.run(handler)
    assert outcome.error is not None
    assert outcome.error.message == "MemoryError"


def test_the_end_of_the_nursery_ends_what_it_ran_and_the_next_job_has_a_new_one(bench: Processes, tmp_path: Path) -> None:
    running = [bench.start(handler) for handler in (sleep, spin)]
    eventually(lambda: len(bench.children()) == 2, "both run")
    nursery, children = bench.nursery, bench.children()
    assert nursery is not None
    os.kill(nursery, signal.SIGKILL)
    assert [each.error() for each in running] == ["crashed", "crashed"]
    until(lambda: all(gone(pid) for pid in (nursery, *children)), WAIT)
    assert bench.run(lambda: 1).result == 1
    assert bench.nursery not in (nursery, None)
    assert [len(each.reports) for each in bench.started] == [1, 1, 1]


def test_a_nursery_that_cannot_be_started_is_an_outcome(bench: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert bench.error(lambda: 1) == "crashed"
    monkeypatch.setattr(toolprocess, "_BOOT", "import nothing_of_this_name # {fd}")
    monkeypatch.undo()
    assert bench.run(lambda: 1).result == 1


def test_a_runtime_that_ends_while_the_nursery_starts_leaves_none() -> None:
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05):
        bench = Processes(allm.Runtime())
        pending = bench.start(sleep)
        time.sleep(delay)
        bench.runtime.stop(0)
        assert pending.error() == "cancelled"
    eventually(lambda: not psutil.Process().children(), "no process is left", 3)


# the time is over


@pytest.mark.parametrize("handler", [sleep, spin, hold])
def test_a_handler_is_killed_at_its_timeout(handler: Callable[[], None], bench: Processes) -> None:
    bench.run(lambda: 1)
    eventually(lambda: not bench.children(), "the first has ended")
    pending = bench.start(handler, timeout=0.2)
    eventually(bench.children, "it runs")
    (pid,) = bench.children()
    assert pending.error() == "timeout"
    assert until(lambda: gone(pid) and not bench.children(), WAIT) < 1
    assert bench.stats["abandoned"] == 0
    assert 0.2 <= pending.outcome().duration < 1
    assert len(pending.reports) == 1


def test_a_cancelled_handler_is_killed(bench: Processes) -> None:
    pending = bench.start(spin)
    eventually(bench.children, "it runs")
    bench.cancel(pending)
    assert pending.error() == "cancelled"
    assert until(lambda: not bench.children(), WAIT) < 1


def test_one_that_is_cancelled_at_once_leaves_nothing(bench: Processes) -> None:
    bench.run(lambda: 1)
    several = [bench.start(spin) for _ in range(20)]
    for n, pending in enumerate(several):
        time.sleep(n / 10_000)
        bench.cancel(pending)
    assert {each.error() for each in several} == {"cancelled"}
    eventually(lambda: not bench.children(), "all are gone")


def test_the_start_of_the_nursery_is_not_the_handlers_time(bench: Processes) -> None:
    assert bench.run(lambda: 1, timeout=0.15).result == 1


def test_what_a_handler_started_is_killed_with_it(bench: Processes) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    path = f"/proc/{os.getpid()}/fd/{write}"

    def handler() -> None:
        with open(path, "w") as told:
            inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            forked = os.fork()
            if forked == 0:
                time.sleep(60)
            told.write(f"{inner.pid} {forked}\n")
        time.sleep(60)

    pending = bench.start(handler, timeout=1)
    pids = [int(pid) for pid in os.read(read, 100).split()]
    assert len(pids) == 2
    assert not any(gone(pid) for pid in pids)
    assert pending.error() == "timeout"
    assert until(lambda: all(gone(pid) for pid in pids), WAIT) < 1
    os.close(read)
    os.close(write)


def test_what_a_handler_leaves_behind_is_killed_at_its_end(bench: Processes) -> None:
    pid = bench.run(lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid).result
    assert until(lambda: gone(pid), WAIT) < 1


@pytest.mark.parametrize("leave", ["returns", "raises"])
def test_a_process_that_a_handler_forks_reports_nothing(leave: str, bench: Processes) -> None:
    def handler() -> Any:
        pid = os.fork()
        if pid == 0:
            if leave == "raises":
                raise ValueError("in the child")
            return "the child"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    pending = bench.start(handler)
    assert pending.outcome().result == (0 if leave == "returns" else 1)
    assert bench.run(lambda: 1).result == 1
    assert len(pending.reports) == 1


def test_a_hundred_endless_loops_are_dead_within_a_second_of_their_timeout(bench: Processes, say: Say) -> None:
    bench.run(lambda: 1)
    for handler in (spin, sleep):
        with pulse(bench.runtime):
            begun = time.monotonic()
            several = [bench.start(handler, timeout=0.2) for _ in range(100)]
            assert {each.error() for each in several} == {"timeout"}
            reported = time.monotonic() - begun
            left = until(lambda: not bench.children(), WAIT)
        say(f"100 processes, {handler.__name__}: reported after {reported:.2f} s, the last gone {left:.2f} s later")
        assert left < 1
        assert all(each.outcome().duration < 1.2 for each in several)
        assert bench.stats["running"] == 0
    assert bench.run(lambda: "next").result == "next"


# the end of the bot

PROGRAM = """
import os, subprocess, sys, time, threading
import allm
from allm.actors.tools import RunTool, ToolJob
from allm.messages import ToolCallPart
from allm.tools import Tool, ToolContext

def spin():
    while True:
        pass

def start(runtime, handler, report=lambda outcome: None):
    call = ToolCallPart("c", "t")
    tool = Tool(name="t", handler=handler, isolation="process")
    runtime.find("tools").tell(RunTool(ToolJob(id=os.urandom(4).hex(), tool=tool, call=call, context=ToolContext(), report=report)))

runtime = allm.Runtime()
ready = threading.Event()
start(runtime, os.getpid, lambda outcome: ready.set())
assert ready.wait(20)
(nursery,) = runtime.workshop.processes
while nursery._jobs:
    time.sleep(0.001)
start(runtime, spin)
start(runtime, lambda: time.sleep(60))
while len(nursery._pids) < 2:
    time.sleep(0.01)
print(nursery.process.pid, *nursery._pids.values(), flush=True)
"""

ENDS = {
    "it falls off its end": "",
    "it stops the runtime": "runtime.stop(0)",
    "sys.exit": "sys.exit()",
    "os._exit": "os._exit(0)",
    "kill -9": "os.kill(os.getpid(), 9)",
    "a signal": "os.kill(os.getpid(), 15)",
    "it becomes another program": "os.execv(sys.executable, [sys.executable, '-c', 'pass'])",
    "with a child that lives on": """
if os.fork() == 0:
    os.close(1), os.close(2)
    time.sleep(5)
    os._exit(0)
os._exit(0)
""",
}


@pytest.mark.parametrize("how", ENDS)
def test_when_the_bot_ends_no_process_is_left(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + ENDS[how]], cwd=ROOT, capture_output=True, text=True, timeout=WAIT * 5, check=False
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    assert until(lambda: all(gone(pid) for pid in pids), WAIT) < 2
    assert done.stderr == ""


def test_a_fork_of_the_bot_may_run_tools_in_processes_too() -> None:
    script = """
pid = os.fork()
if pid == 0:
    own = allm.Runtime()
    done = threading.Event()
    start(own, os.getpid, lambda outcome: (print("child", outcome.error), done.set()))
    done.wait(20)
    own.stop()
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
done = threading.Event()
start(runtime, os.getpid, lambda outcome: (print("parent", outcome.error), done.set()))
done.wait(20)
runtime.stop(0)
"""
    done = subprocess.run([sys.executable, "-c", PROGRAM + script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[1:] == ["child None", "parent None"], done.stderr
    assert all(gone(int(pid)) for pid in done.stdout.splitlines()[0].split())
