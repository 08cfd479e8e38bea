"""Running tools in threads and on event loops: every job is reported exactly once, and no handler brings anything else down."""

# ruff: noqa: T201
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

import asyncio
import contextvars
import ctypes
import dataclasses
import datetime
import gc
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import allm
from allm.actors.tools import CancelTool
from allm.errors import ErrorInfo, ToolError
from allm.supervisors import Crash, Fenced, log
from allm.tools import ToolContext, ask_user, halt
from tests.runtime.support import WAIT, eventually
from tests.runtime.tooling import Bench, Pending, pulse

pytestmark = pytest.mark.alone

SOON = 1.0
"""Seconds within which something happens that happens at once; the machine may be busy."""


@pytest.fixture
def bench(runtime: allm.Runtime) -> Bench:
    return Bench(runtime)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a handler waits for that does not end by itself; set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


# results


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Place:
    name: str
    at: Any


class Struct(msgspec.Struct):
    first: int
    rest: Any = None


RESULTS: dict[str, tuple[Any, Any, str]] = {
    "nothing": (None, None, ""),
    "text": ("sunny", "sunny", "sunny"),
    "empty text": ("", "", ""),
    "a number": (1.5, 1.5, "1.5"),
    "a truth": (False, False, "false"),
    "an object": ({"a": [1, "ü"]}, {"a": [1, "ü"]}, '{"a":[1,"ü"]}'),
    "a tuple": ((1, 2), [1, 2], "[1,2]"),
    "a named tuple": (Point(1, 2), [1, 2], "[1,2]"),
    "a dataclass": ([Place("here", Point(1, 2))], [{"name": "here", "at": [1, 2]}], '[{"name":"here","at":[1,2]}]'),
    "a struct": (Struct(1, {"a": Struct(2)}), {"first": 1, "rest": {"a": {"first": 2, "rest": None}}}, ""),
    "a set": ({1}, [1], "[1]"),
    "a date": ({"on": datetime.date(2024, 5, 1)}, {"on": "2024-05-01"}, '{"on":"2024-05-01"}'),
    "numbers as keys": ({1: "one"}, {"1": "one"}, '{"1":"one"}'),
    "a value of the library": (allm.user("hi"), {"type": "message", "role": "user", "content": "hi"}, ""),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_frozen_and_encoded(name: str, bench: Bench) -> None:
    given, result, content = RESULTS[name]
    outcome = bench.run(lambda: given)
    assert outcome.error is None
    assert outcome.result == result
    if content or name in ("nothing", "empty text"):
        assert outcome.content == content
    else:
        assert json.loads(outcome.content) == result
    assert (outcome.id, outcome.name) == ("call-1", "lambda")
    assert allm.from_json(allm.to_json(outcome)) == outcome


def test_a_result_may_be_a_pydantic_model(bench: Bench) -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", on=(datetime.date, ...))
    assert bench.run(lambda: [model(on="2024-05-01")]).result == [{"on": "2024-05-01"}]


def circle() -> Any:
    found: list[Any] = []
    found.extend([found, found])
    return found


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "an object within": (lambda: {"a": [1, object()]}, "result.a[1]: object is not JSON"),
    "one in a dataclass": (lambda: {"a": Place("x", object())}, "result.a.at: object"),
    "one in a struct": (lambda: Struct(1, {"b": object()}), "result.rest.b: object"),
    "not a number": (lambda: [float("nan")], "result[0]: nan"),
    "bytes": (lambda: {"data": b"abc"}, "result.data: bytes"),
    "a surrogate": (lambda: {"text": "\ud800"}, "result.text: "),
    "two keys that are one": (lambda: {"a": {1: 2, "1": 3}}, "are one in JSON"),
    "a circle": (circle, "nested deeper"),
    "a generator": (lambda: (n for n in range(3)), "generator"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_result_that_is_not_json_is_refused_with_its_path(name: str, bench: Bench) -> None:
    handler, said = BAD[name]
    outcome = bench.run(handler)
    assert outcome.error is not None
    assert outcome.error.reason == "bad_result"
    assert said in outcome.error.message
    assert json.loads(outcome.content) == {"error": outcome.error.message}
    assert outcome.result is None


@pytest.mark.parametrize("give", [lambda: "x" * 101, lambda: ["x" * 98], lambda: halt("full", "x" * 101)])
def test_a_result_that_is_too_large_is_refused_with_its_size(give: Callable[[], Any], bench: Bench) -> None:
    outcome = bench.run(give, max_result=100)
    assert outcome.error is not None
    assert outcome.error.reason == "result_too_large"
    assert dict(outcome.error.metadata) == {"size": len(json.dumps(give())) if isinstance(give(), list) else 101, "max_result": 100}
    assert "100" in json.loads(outcome.content)["error"]
    assert bench.run(lambda: "x" * 100, max_result=100).error is None


def test_nothing_of_a_result_that_is_too_large_stays_in_memory(bench: Bench) -> None:
    class Large(list[int]):
        pass

    kept: list[weakref.ref[Any]] = []

    def handler() -> Any:
        large = Large(range(100_000))
        kept.append(weakref.ref(large))
        return large

    assert bench.error(handler, max_result=1000) == "result_too_large"

    def forgotten() -> bool:
        gc.collect()
        return kept[0]() is None

    eventually(forgotten, "the result is forgotten")


def test_a_result_of_ten_megabytes_comes_whole_and_the_loop_goes_on(bench: Bench) -> None:
    rows = [{"id": n, "text": "word " * 18} for n in range(90_000)]
    with pulse(bench.runtime):
        outcome = bench.run(lambda: rows, max_result=20_000_000)
    assert outcome.error is None
    assert len(outcome.content) > 10_000_000
    assert len(outcome.result) == 90_000


def test_a_question_and_a_halt_are_outcomes_of_their_own(bench: Bench) -> None:
    asked = bench.run(lambda: ask_user("Which?", choices=["a", "b"]))
    assert asked.ask == ask_user("Which?", choices=["a", "b"])
    assert (asked.content, asked.error) == ("<awaiting user response>", None)
    halted = bench.run(lambda: halt("sold", {"price": 3}))
    assert halted.halt == halt("sold", {"price": 3})
    assert (halted.content, halted.result, halted.error) == ('{"price":3}', {"price": 3}, None)


def test_the_duration_is_that_of_the_handler(bench: Bench) -> None:
    assert 0.05 <= bench.run(lambda: time.sleep(0.05)).duration < SOON


# what handlers raise


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


RAISED: dict[str, tuple[Callable[[], BaseException], str]] = {
    "an exception": (lambda: ValueError("no such city"), "ValueError: no such city"),
    "one without words": (KeyError, "KeyError"),
    "one that cannot be read": (Unreadable, "Unreadable: (its message cannot be read)"),
    "one that exits when it is read": (Exits, "Exits: (its message cannot be read)"),
    "SystemExit": (lambda: SystemExit(3), "SystemExit: 3"),
    "KeyboardInterrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "GeneratorExit": (GeneratorExit, "GeneratorExit"),
    "StopIteration": (lambda: StopIteration(1), "StopIteration"),
    "BaseException": (lambda: BaseException("deep"), "BaseException: deep"),
    "another error of the library": (lambda: allm.AdapterError("rate_limited", "slow down"), "AdapterError: slow down (rate_limited)"),
    "a surrogate": (lambda: ValueError("\ud800"), "ValueError: \\ud800"),
}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", RAISED)
def test_whatever_a_handler_raises_is_the_outcome_and_nothing_else_is_harmed(name: str, kind: str, bench: Bench) -> None:
    make, said = RAISED[name]

    def raises() -> Any:
        raise make()

    async def raises_later() -> Any:
        await asyncio.sleep(0)
        raise make()

    outcome = bench.run(raises if kind == "sync" else raises_later)
    assert outcome.error is not None
    assert outcome.error.reason == "failed"
    assert said in outcome.error.message
    assert json.loads(outcome.content) == {"error": outcome.error.message}
    assert allm.from_json(allm.to_json(outcome)) == outcome
    assert bench.run(lambda: "fine").result == "fine"


def test_a_tool_error_keeps_its_reason_and_message(bench: Bench) -> None:
    def raises() -> None:
        raise ToolError("out_of_stock", "none left", metadata={"sku": 7})

    assert bench.run(raises).error == ErrorInfo("tool", "out_of_stock", "none left", metadata={"sku": 7})


def test_a_message_of_megabytes_is_cut(bench: Bench) -> None:
    def raises() -> None:
        raise ValueError("x" * 5_000_000)

    assert len(bench.run(raises).content) < 11_000


def test_wrong_arguments_are_an_error_for_the_model(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    outcome = bench.run(lambda n: n, {"n": "many"}, schema=schema)
    assert outcome.error is not None
    assert outcome.error.reason == "invalid_arguments"


def test_a_handler_by_name_is_imported_and_one_that_is_not_there_is_an_error(bench: Bench) -> None:
    assert bench.run("os.path:basename", {"p": "a/b"}, name="basename").result == "b"
    assert bench.error("os.path:nothing", name="nothing") == "failed"


def test_what_a_handler_prints_is_printed(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.run(lambda: print("hello"))
    assert capfd.readouterr().out == "hello\n"


def test_a_report_that_raises_harms_nobody(bench: Bench) -> None:
    def report(_: Any) -> None:
        raise SystemExit(1)

    bench.start(lambda: 1, report=report)
    assert bench.run(lambda: 2).result == 2


def test_two_jobs_of_one_id_are_not_mixed_up(bench: Bench, release: threading.Event) -> None:
    first = bench.start(release.wait)
    bench._numbers = iter([1])  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    assert bench.error(lambda: 2) == "failed"
    release.set()
    assert first.outcome().result is True


# executor, encoder, context


def test_an_executor_runs_in_place_of_the_handler(bench: Bench) -> None:
    def executor(call: Callable[[], Any], context: ToolContext) -> Any:
        return [context.request_id, call()]

    assert bench.run(lambda n: n + 1, {"n": 1}, executor=executor).result == ["req", 2]


def test_an_executor_may_be_asynchronous_and_so_may_what_it_calls(bench: Bench) -> None:
    async def executor(call: Callable[[], Any], context: ToolContext) -> Any:
        return ["around", await call()]

    async def handler() -> str:
        await asyncio.sleep(0)
        return "it"

    assert bench.run(handler, executor=executor).result == ["around", "it"]
    assert bench.run(handler, executor=lambda call, context: call()).result == "it"


def test_an_encoder_gives_the_text_for_the_model(bench: Bench) -> None:
    assert bench.run(lambda: {"a": 1}, encoder=lambda result: f"<{result['a']}>").content == "<1>"
    assert bench.error(lambda: 1, encoder=lambda result: result) == "bad_result"
    assert bench.error(lambda: 1, encoder=lambda result: "x" * 200, max_result=100) == "result_too_large"
    failed = bench.run(lambda: 1, encoder=lambda result: result["a"])
    assert failed.error is not None
    assert failed.error.message.startswith("TypeError: ")


def test_a_handler_gets_the_context_it_asks_for(bench: Bench) -> None:
    live = object()

    def handler(city: str, told: ToolContext) -> Any:
        assert told.resources["live"] is live
        return [city, told.request_id, dict(told.context), bool(told.cancelled), told.cancelled.is_set()]

    context = ToolContext(request_id="req-7", context={"user": 3}, resources={"live": live})
    assert bench.run(handler, {"city": "Paris"}, context=context).result == ["Paris", "req-7", {"user": 3}, False, False]


Variable: contextvars.ContextVar[str] = contextvars.ContextVar("Variable", default="unset")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_handler_runs_in_a_copy_of_the_callers_context_variables(kind: str, bench: Bench) -> None:
    def handler() -> str:
        before = Variable.get()
        Variable.set("changed")
        return before

    async def handler_async() -> str:
        await asyncio.sleep(0)
        return handler()

    Variable.set("the caller's")
    context = contextvars.copy_context()
    several = [bench.start(handler if kind == "sync" else handler_async, contextvars=context) for _ in range(10)]
    assert [each.outcome().result for each in several] == ["the caller's"] * 10
    assert context[Variable] == "the caller's"
    assert bench.run(handler).result == "unset"


# parallel


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_two_hundred_calls_run_in_parallel(kind: str, bench: Bench) -> None:
    barrier = threading.Barrier(200)
    here: list[int] = []

    def handler(n: int) -> int:
        barrier.wait(WAIT * 2)
        return n

    async def handler_async(n: int) -> int:
        here.append(n)
        while len(here) < 200:
            await asyncio.sleep(0.01)
        return n

    with pulse(bench.runtime):
        several = [bench.start(handler if kind == "sync" else handler_async, {"n": n}) for n in range(200)]
        assert [each.outcome().result for each in several] == list(range(200))
    assert all(len(each.reports) == 1 for each in several)
    assert bench.stats == {"running": 0, "done": 200, "failed": 0, "timed_out": 0, "abandoned": 0, "stuck": 0}


def test_a_failure_does_not_disturb_its_siblings(bench: Bench) -> None:
    def handler(n: int) -> int:
        if n % 3 == 0:
            raise SystemExit(n)
        return n

    several = [bench.start(handler, {"n": n}) for n in range(30)]
    assert [each.outcome().result for each in several] == [None if n % 3 == 0 else n for n in range(30)]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_job_that_cannot_be_started_fails_alone(isolation: str, bench: Bench, release: threading.Event) -> None:
    other = bench.start(release.wait)
    broken = bench.start(lambda: 1, isolation=isolation, timeout="5")  # past the checks of `Tool`
    assert broken.error() == "crashed"
    assert "was not started: TypeError" in str(broken.outcome().error)
    eventually(lambda: not any(broken.id in name for name in bench.names()), "the job has left the tree")
    assert bench.run(lambda: 2).result == 2
    release.set()
    assert other.outcome().error is None
    assert bench.stats["stuck"] == 0


def test_the_tree_shows_the_tool_that_runs(bench: Bench, release: threading.Event) -> None:
    bench.start(release.wait, name="get_weather")
    eventually(lambda: bench.names() == ["get_weather job-1"], "it is shown")
    assert bench.stats["running"] == 1
    release.set()
    eventually(lambda: bench.names() == [], "it is gone")
    assert bench.stats["running"] == 0


# the time is over


def test_a_handler_that_blocks_is_reported_at_its_timeout_and_abandoned(bench: Bench, release: threading.Event) -> None:
    told: list[ToolContext] = []
    fenced: list[bool] = []

    def handler(context: ToolContext) -> str:
        told.append(context)
        release.wait(WAIT)
        try:
            bench.tools.tell(CancelTool("any"))
        except Fenced:
            fenced.append(True)
        return "late"

    structlog.configure()
    try:
        with capture_logs() as logs:
            begun = time.monotonic()
            pending = bench.start(handler, timeout=0.1, name="slow_tool")
            assert pending.error() == "timeout"
            assert 0.1 <= time.monotonic() - begun < SOON
            eventually(lambda: bench.stats["abandoned"] == 1, "it counts as abandoned")
            assert log.flush(WAIT)
    finally:
        structlog.reset_defaults()
    assert {"event": "tool_abandoned", "tool": "slow_tool", "job": pending.id, "log_level": "warning"} in logs
    assert told[0].cancelled
    assert told[0].cancelled.is_set()
    assert 0.1 <= pending.outcome().duration < SOON
    assert bench.stats == {"running": 0, "done": 0, "failed": 1, "timed_out": 1, "abandoned": 1, "stuck": 1}
    assert bench.names() == []
    release.set()
    eventually(lambda: bench.stats["stuck"] == 0, "it has come back")
    eventually(lambda: fenced, "what it wants to send is refused")
    assert len(pending.reports) == 1


def test_a_well_behaved_handler_stops_when_it_is_told(bench: Bench) -> None:
    stopped = threading.Event()

    def handler(context: ToolContext) -> None:
        if context.cancelled.wait(WAIT):
            stopped.set()

    assert bench.error(handler, timeout=0.05) == "timeout"
    assert stopped.wait(WAIT)


def test_a_call_that_blocks_in_c_is_abandoned(bench: Bench) -> None:
    sleep = ctypes.CDLL(None).usleep
    assert bench.error(lambda: sleep(700_000), timeout=0.1) == "timeout"
    assert bench.run(lambda: "next").result == "next"
    eventually(lambda: bench.stats["stuck"] == 1, "it is stuck")
    eventually(lambda: bench.stats["stuck"] == 0, "it has come back")


def test_two_hundred_that_hang_hinder_nobody(bench: Bench, release: threading.Event) -> None:
    several = [bench.start(release.wait, timeout=0.2) for _ in range(300)]  # more than the pool has places
    assert {each.error() for each in several} == {"timeout"}
    assert bench.run(lambda: "next").result == "next"
    eventually(lambda: bench.stats["abandoned"] == 300, "all are counted")
    release.set()
    eventually(lambda: bench.stats["stuck"] == 0, "all have come back")


def test_the_time_of_a_handler_begins_when_it_gets_a_thread(bench: Bench, release: threading.Event) -> None:
    bench.runtime.workshop.pool.size = 1
    first = bench.start(lambda: release.wait(WAIT))
    second = bench.start(lambda: "ran", timeout=0.05)
    assert not second.reports
    time.sleep(0.2)  # longer than it may take
    assert not second.reports
    release.set()
    assert second.outcome().result == "ran"
    assert first.outcome().result is True


def test_without_a_timeout_a_handler_has_all_the_time(bench: Bench) -> None:
    assert bench.run(lambda: time.sleep(0.2), timeout=None).error is None


# cancelling


def test_a_cancelled_job_is_reported_once(bench: Bench, release: threading.Event) -> None:
    begun, ended = threading.Event(), threading.Event()

    def handler(context: ToolContext) -> None:
        begun.set()
        context.cancelled.wait(WAIT)
        ended.set()

    pending = bench.start(handler)
    assert begun.wait(WAIT)
    bench.cancel(pending)
    bench.cancel(pending)
    assert pending.error() == "cancelled"
    assert ended.wait(WAIT)
    bench.cancel(pending)
    assert bench.run(lambda: 1).result == 1
    assert len(pending.reports) == 1


def test_a_job_that_is_cancelled_before_it_began_never_runs(bench: Bench, release: threading.Event) -> None:
    bench.runtime.workshop.pool.size = 1
    ran: list[int] = []
    first = bench.start(lambda: release.wait(WAIT))
    second = bench.start(lambda: ran.append(1))
    bench.cancel(second)
    assert second.error() == "cancelled"
    release.set()
    assert first.outcome().result is True
    assert bench.run(lambda: 3).result == 3
    assert not ran
    assert bench.stats["abandoned"] == 0


def test_to_cancel_what_is_not_there_is_no_error(bench: Bench) -> None:
    bench.tools.tell(CancelTool("nobody"))
    assert bench.run(lambda: 1).result == 1
    assert bench.runtime.tree()["children"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.sampled_from(["sync", "async", "raise"]), st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_however_ends_coincide_each_job_is_reported_once(plan: list[tuple[str, int, int]], bench: Bench) -> None:
    """Handlers that take so many ms, with a timeout of 6 ms, cancelled after so many ms."""

    def handler(ms: int, fail: bool = False) -> str:
        time.sleep(ms / 1000)
        if fail:
            raise ValueError("failed")
        return "done"

    async def handler_async(ms: int) -> str:
        await asyncio.sleep(ms / 1000)
        return "done"

    several: list[tuple[int, Pending]] = []
    for kind, takes, cancelled in plan:
        arguments: dict[str, Any] = {"ms": takes, **({"fail": True} if kind == "raise" else {})}
        several.append((cancelled, bench.start(handler_async if kind == "async" else handler, arguments, timeout=0.006)))
    for moment, pending in sorted(several, key=lambda each: each[0]):
        if moment > 6:
            time.sleep(0.001)
        if moment:
            bench.cancel(pending)
    for _, pending in several:
        pending.outcome()
    eventually(lambda: not bench.names() and not bench.stats["stuck"], "all are gone")
    assert all(len(pending.reports) == 1 for _, pending in several)


# asynchronous handlers


def where() -> threading.Thread:
    return threading.current_thread()


def test_an_asynchronous_handler_runs_on_the_callers_loop(bench: Bench) -> None:
    found: list[Any] = []

    async def handler() -> str:
        found.append((asyncio.get_running_loop(), where()))
        await asyncio.sleep(0.01)
        return "there"

    async def caller() -> Any:
        pending = bench.start(handler, loop=asyncio.get_running_loop())
        outcome = await asyncio.to_thread(pending.outcome)
        assert found == [(asyncio.get_running_loop(), where())]
        return outcome.result

    assert asyncio.run(caller()) == "there"


def test_without_a_loop_of_the_callers_it_runs_on_one_of_the_runtimes_own(bench: Bench) -> None:
    async def handler() -> None:
        found.append((asyncio.get_running_loop(), where()))

    found: list[Any] = []
    closed = asyncio.new_event_loop()
    closed.close()
    idle = asyncio.new_event_loop()
    for loop in (None, bench.runtime._loop, closed, idle):
        assert bench.run(handler, loop=loop).error is None
    idle.close()
    assert len({id(loop) for loop, _ in found}) == 1
    assert found[0][0] is not bench.runtime._loop
    assert found[0][1].name == "allm-tools-loop"


def test_no_thread_of_tools_is_there_before_it_is_needed(bench: Bench) -> None:
    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("allm-tools")]

    bench.run(lambda: 1)
    assert ours() == []
    bench.run(asyncio.sleep, {"delay": 0})
    assert ours() == ["allm-tools-loop"]
    bench.runtime.stop()
    assert ours() == []


def test_a_plain_function_may_give_something_to_await(bench: Bench) -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return "later"

    assert bench.run(lambda: later()).result == "later"


def test_a_callable_object_may_be_asynchronous(bench: Bench) -> None:
    class Handler:
        async def __call__(self, n: int) -> int:
            await asyncio.sleep(0)
            return n

    assert bench.run(Handler(), {"n": 3}, name="handler").result == 3


def test_an_asynchronous_handler_may_use_threads(bench: Bench) -> None:
    async def handler() -> str:
        return await asyncio.to_thread(lambda: where().name)

    assert bench.run(handler).result.startswith("asyncio")


def test_an_asynchronous_handler_is_cancelled_at_its_timeout(bench: Bench) -> None:
    cancelled = threading.Event()

    async def handler(context: ToolContext) -> None:
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            assert context.cancelled
            cancelled.set()
            raise

    pending = bench.start(handler, timeout=0.05)
    assert pending.error() == "timeout"
    assert cancelled.wait(WAIT)
    assert bench.stats["abandoned"] == 0
    assert bench.run(asyncio.sleep, {"delay": 0}).error is None
    assert len(pending.reports) == 1


def test_one_that_is_cancelled_before_its_first_step_has_come_back(bench: Bench) -> None:
    async def caller() -> Pending:
        pending = bench.start(asyncio.sleep, {"delay": WAIT}, loop=asyncio.get_running_loop(), timeout=0.05)
        time.sleep(0.3)  # the loop is away, and then finds the start and the end of it at once
        await asyncio.sleep(0.1)
        return pending

    assert asyncio.run(caller()).error() == "timeout"
    assert bench.stats == {"running": 0, "done": 0, "failed": 1, "timed_out": 1, "abandoned": 0, "stuck": 0}
    assert bench.runtime.workshop.running == {}


def test_one_that_swallows_its_cancellation_is_abandoned(bench: Bench) -> None:
    async def handler() -> str:
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            await asyncio.sleep(1.2)
        return "late"

    pending = bench.start(handler, timeout=0.05)
    assert pending.error(SOON) == "timeout"
    eventually(lambda: bench.stats["stuck"] == 1, "it counts as abandoned")
    assert bench.run(asyncio.sleep, {"delay": 0}).error is None
    eventually(lambda: bench.stats["stuck"] == 0, "it has come back")
    assert (bench.stats["abandoned"], len(pending.reports)) == (1, 1)


def test_one_that_blocks_its_loop_is_abandoned_and_others_get_another_loop(bench: Bench, release: threading.Event) -> None:
    async def blocks() -> None:
        release.wait(WAIT)

    pending = bench.start(blocks, timeout=0.05)
    assert pending.error(SOON) == "timeout"
    eventually(lambda: bench.stats["stuck"] == 1, "it counts as abandoned")
    assert bench.run(asyncio.sleep, {"delay": 0}).error is None
    assert bench.run(lambda: 1).result == 1
    release.set()
    eventually(lambda: bench.stats["stuck"] == 0, "it has come back")
    eventually(lambda: len([t for t in threading.enumerate() if t.name == "allm-tools-loop"]) == 1, "the loop that was blocked has ended")


async def _exit() -> None:
    raise SystemExit(3)


async def exits_in_a_task() -> str:
    await asyncio.wait({asyncio.create_task(_exit())})
    return "unharmed"


async def exits_in_a_group() -> None:
    await asyncio.gather(_exit())


async def interrupts() -> str:
    asyncio.get_running_loop().call_soon(_interrupt)
    await asyncio.sleep(0.02)
    return "unharmed"


def _interrupt() -> None:
    raise KeyboardInterrupt


async def stops_the_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.02)
    return "unharmed"


@pytest.mark.parametrize("harm", [exits_in_a_task, exits_in_a_group, interrupts, stops_the_loop])
def test_the_loop_of_tools_survives_what_handlers_do_to_it(harm: Callable[..., Any], bench: Bench, release: threading.Event) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def innocent() -> str:
        loops.append(asyncio.get_running_loop())
        while not release.is_set():
            await asyncio.sleep(0.01)
        return "whole"

    other = bench.start(innocent)
    eventually(lambda: loops, "it runs")
    for _ in range(2):
        outcome = bench.run(harm)
        assert outcome.result == "unharmed" or "SystemExit: 3" in str(outcome.error)
    release.set()
    assert other.outcome().result == "whole"
    assert bench.run(innocent).result == "whole"
    assert len(set(loops)) == 1


def test_a_loop_of_tools_that_is_broken_is_replaced_and_its_jobs_are_reported(bench: Bench) -> None:
    def broken(timeout: float | None = None) -> None:
        raise OSError("no such selector")

    async def breaks() -> None:
        asyncio.get_running_loop()._selector.select = broken  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(WAIT)

    async def waits() -> None:
        await asyncio.sleep(WAIT * 10)

    innocent = bench.start(waits)
    eventually(lambda: bench.runtime.workshop.running, "it runs")
    assert bench.error(breaks) == "cancelled"  # and none of them has a timeout
    assert innocent.error() == "cancelled"
    assert bench.run(asyncio.sleep, {"delay": 0}).error is None
    assert bench.runtime.workshop.running == {}


def test_what_else_ran_on_a_blocked_loop_ends_in_its_own_time(bench: Bench, release: threading.Event) -> None:
    async def long() -> str:
        while not release.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return "whole"

    async def blocks() -> None:
        release.wait(WAIT)

    innocent = bench.start(long)
    assert bench.error(blocks, timeout=0.05) == "timeout"
    eventually(lambda: bench.stats["stuck"] == 1, "its loop is given up")
    release.set()
    assert innocent.outcome().result == "whole"


def test_the_end_of_the_callers_loop_is_the_end_of_its_handlers(bench: Bench) -> None:
    async def handler() -> None:
        await asyncio.sleep(WAIT)

    async def caller() -> Pending:
        pending = bench.start(handler, loop=asyncio.get_running_loop(), timeout=5)
        while bench.runtime.workshop.running == {}:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        return pending

    assert asyncio.run(caller()).error(SOON) == "cancelled"


# forks

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def code_of(pid: int) -> int:
    """The exit code of a child, which ends soon."""
    deadline = time.monotonic() + WAIT
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            pytest.fail("the child goes on")
        time.sleep(0.005)


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork in a process with threads
@pytest.mark.parametrize(("leave", "code"), [("returns", 0), ("raises", 1), ("exits", 7)])
@pytest.mark.parametrize("kind", ["sync", "async", "awaiting"])
def test_a_process_that_a_handler_forks_ends_with_the_handler_and_reports_nothing(kind: str, leave: str, code: int, bench: Bench) -> None:
    read, write = os.pipe()

    def handler() -> Any:
        pid = os.fork()
        if pid == 0:
            os.write(write, b"child")
            if leave == "raises":
                raise ValueError("in the child")
            if leave == "exits":
                raise SystemExit(7)
        return pid

    async def handler_async() -> Any:
        await asyncio.sleep(0)
        return handler()

    async def awaiting() -> Any:
        pause = asyncio.ensure_future(asyncio.sleep(0.01))
        result = handler()
        await pause
        if not result:
            os.write(write, b", which went on")
        return result

    outcome = bench.run({"sync": handler, "async": handler_async, "awaiting": awaiting}[kind])
    assert outcome.error is None
    assert code_of(outcome.result) == code
    os.close(write)
    assert os.read(read, 100) == b"child"
    os.close(read)
    assert len(bench.started[0].reports) == 1
    assert bench.run(lambda: 1).result == 1


# the end of those around it


def test_the_end_of_the_runtime_reports_what_runs_and_does_not_wait_for_it(release: threading.Event) -> None:
    bench = Bench(allm.Runtime())

    async def handler() -> None:
        await asyncio.sleep(WAIT)

    several = [bench.start(lambda: release.wait(WAIT)), bench.start(handler)]
    eventually(lambda: len(bench.names()) == 2, "both run")
    begun = time.monotonic()
    bench.runtime.stop(0)
    assert time.monotonic() - begun < SOON * 2
    assert [each.error() for each in several] == ["cancelled", "cancelled"]
    assert all(len(each.reports) == 1 for each in several)


def test_a_crash_of_the_supervisor_reports_what_ran_and_what_comes_runs(bench: Bench, release: threading.Event) -> None:
    running = bench.start(lambda: release.wait(WAIT))
    eventually(lambda: bench.names(), "it runs")
    before = bench.tools
    before.tell(Crash())
    waiting = bench.start(lambda: "next")
    assert running.error() == "crashed"
    assert waiting.outcome().result == "next"
    eventually(lambda: bench.tools is not before, "there is a new one")
    assert bench.run(lambda: 1).result == 1
    assert [len(each.reports) for each in bench.started] == [1, 1, 1]
