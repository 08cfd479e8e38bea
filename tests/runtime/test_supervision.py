"""Actors that fail in the midst of calls: what goes on, what is restarted, and what those who wait are told."""

import asyncio
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pykka._envelope import Envelope

import allm
from allm.actors import engine as engine_module
from allm.events import Event
from allm.supervisors import Backoff, Crash
from allm.supervisors.cell import cell_of
from allm.testing import Fault, Reply, Simulator, crash
from tests.runtime.conftest import Make
from tests.runtime.support import (
    FAST,
    WAIT,
    engine_name,
    eventually,
    kinds,
    living,
    node,
    one_end,
    text_of,
)

TEXT = " ".join(f"word{number}" for number in range(40))
ROUNDS = 8
"""Races are run so often with other numbers each time; hundreds were run when this was written."""
SLOW = Reply(text=TEXT, delay=0.04)


@pytest.fixture(autouse=True)
def replies(sim: Simulator) -> None:
    sim.respond(lambda request: SLOW if request.text == "slow" else Reply(text="quick") if request.text == "Hi" else None)


class Running:
    """A call in its midst: some of its text was read."""

    def __init__(self, engine: allm.Engine, runtime: allm.Runtime, **opts: Any) -> None:
        self.stream = allm.stream_generate(engine, "slow", runtime=runtime, **opts)
        self._events = iter(self.stream)
        self.seen: list[Event] = []
        while not self.seen or not isinstance(self.seen[-1], allm.TextDelta):
            self.seen.append(next(self._events))

    @property
    def id(self) -> str:
        return self.stream.response().request_id or ""

    def rest(self) -> list[Event]:
        self.seen.extend(self._events)
        return self.seen


def quick(engine: allm.Engine, runtime: allm.Runtime) -> None:
    """The next call works."""
    assert allm.generate(engine, "Hi", runtime=runtime).text == "quick"


def outcome_of(call: Future[allm.Response]) -> str:
    """Its text, or the reason that it raised."""
    error = call.exception(WAIT)
    if error is None:
        return call.result().text
    assert isinstance(error, allm.AllmError), error
    return error.reason


def broken_off(running: Running, reason: str) -> None:
    """The call ended with an error, and its partial is kept."""
    events = running.rest()
    end = one_end(events)
    assert isinstance(end, allm.ErrorOccurred)
    assert end.error.reason == reason, end.error
    response = running.stream.response()
    assert response.finish_reason == "error"
    assert response.text == text_of(events)
    assert TEXT.startswith(response.text)


# one actor after the other


def test_a_crashed_stream_actor_fails_its_own_call_only(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    broken = Running(engine, runtime, request_id="broken")
    neighbour = Running(engine, runtime, request_id="neighbour")
    crash("engines", engine_name(runtime), "calls", "broken", runtime=runtime)
    broken_off(broken, "unknown")
    assert text_of(neighbour.rest()) == TEXT
    assert len(sim.requests) == 2
    assert sim.wait_idle()
    calls = node(runtime.tree(), "engines", engine_name(runtime), "calls")
    assert calls["restarts"] == 0
    quick(engine, runtime)
    eventually(lambda: runtime.stats()["calls"] == 0, "no call is left")


def test_a_stream_actor_that_crashes_before_content_makes_its_call_raise(
    sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    sim.respond(lambda request: Fault(slow_first_byte=30))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(allm.generate, engine, "Hi", runtime=runtime, request_id="broken")
        assert sim.wait_requests(1)
        crash("engines", engine_name(runtime), "calls", "broken", runtime=runtime)
        with pytest.raises(allm.StreamError) as raised:
            call.result(WAIT)
    assert raised.value.reason == "unknown"
    assert len(sim.requests) == 1


def test_a_crashed_call_supervisor_ends_its_calls_and_is_restarted(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    running = [Running(engine, runtime) for _ in range(3)]
    crash("engines", engine_name(runtime), "calls", runtime=runtime)
    for each in running:
        broken_off(each, "unknown")
    assert sim.wait_idle()
    quick(engine, runtime)
    assert node(runtime.tree(), "engines", engine_name(runtime), "calls")["restarts"] == 1
    eventually(lambda: runtime.stats()["calls"] == 0, "no call is left")


def test_calls_go_on_while_their_engine_actor_is_restarted(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    running = [Running(engine, runtime) for _ in range(3)]
    crash("engines", engine_name(runtime), "engine", runtime=runtime)
    quick(engine, runtime)
    (told,) = runtime.stats()["engines"].values()
    assert told["running"] == 3
    cancelled, *others = running
    cancelled.stream.cancel()
    assert cancelled.stream.response().finish_reason == "cancelled"
    for each in others:
        assert text_of(each.rest()) == TEXT
    assert node(runtime.tree(), "engines", engine_name(runtime), "engine")["restarts"] == 1
    eventually(lambda: [each["running"] for each in runtime.stats()["engines"].values()] == [0], "the count is right again")


def test_when_the_io_actor_crashes_folds_recover_and_streams_end_with_the_error(
    sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    stream = Running(engine, runtime)
    restarting = Running(engine, runtime, retry=allm.Retry(mid_stream="restart", **FAST))
    with ThreadPoolExecutor(1) as pool:
        fold = pool.submit(allm.generate, engine, "slow", runtime=runtime)
        assert sim.wait_requests(3)
        crash("core", "io", runtime=runtime)
        response = fold.result(WAIT)
    assert (response.text, response.finish_reason) == (TEXT, "stop")
    broken_off(stream, "connection_closed")
    events = restarting.rest()
    assert kinds(events).count("StreamRestarted") == 1
    assert restarting.stream.response().text == TEXT
    assert node(runtime.tree(), "core", "io")["restarts"] == 1
    assert node(runtime.tree(), "engines")["restarts"] == 0
    quick(engine, runtime)


def test_a_call_that_waits_for_its_retry_outlives_the_io_actor(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.respond(None)
    sim.fault(Fault(status=503))
    stream = allm.stream_generate(make(retry=allm.Retry(base_delay=0.2)), "Hi", runtime=runtime)
    events = iter(stream)
    next(event for event in events if isinstance(event, allm.RetryScheduled))
    crash("core", "io", runtime=runtime)
    assert isinstance(one_end(list(events)), allm.MessageCompleted)


def test_an_attempt_handed_to_the_io_actor_in_its_last_moment_is_made_by_the_next_one(
    sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    quick(engine, runtime)
    cell = cell_of(runtime.find("core", "io"))
    assert cell is not None
    cell.user.append(Envelope(Crash("first in its mailbox, and nobody has told it so")))
    quick(engine, runtime)
    assert node(runtime.tree(), "core", "io")["restarts"] == 1
    assert len(sim.requests) == 2


def test_a_crashed_engine_is_restarted_after_a_while_and_never_doubled(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    quick(engine, runtime)
    name = engine_name(runtime)
    running = Running(engine, runtime)
    crash("engines", name, runtime=runtime)
    quick(engine, runtime)  # it waits for its engine
    broken_off(running, "unknown")
    (pair,) = node(runtime.tree(), "engines")["children"]
    assert (pair["id"], pair["status"], pair["restarts"]) == (name, "running", 1)
    again = Running(engine, runtime)
    again.stream.cancel()
    assert again.stream.response().finish_reason == "cancelled"
    assert sim.wait_idle()
    eventually(lambda: runtime.stats()["calls"] == 0, "no call is left")


def test_a_call_cancelled_while_its_engine_is_away_ends_at_once(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast()
    quick(engine, runtime)
    crash("engines", engine_name(runtime), runtime=runtime)
    with ThreadPoolExecutor(1) as pool:
        stream = allm.stream_generate(engine, "Hi", runtime=runtime, api_key="sk-1")
        call = pool.submit(stream.response)
        eventually(lambda: stream._call, "it was handed over")  # pyright: ignore[reportPrivateUsage]
        stream.cancel()
        assert call.result(WAIT).finish_reason in ("cancelled", "stop")
    eventually(lambda: repr(runtime.vault) == "<Vault of 0>", "its key is forgotten")
    quick(engine, runtime)


def test_a_storm_of_crashes_does_not_end_the_runtime(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast()
    for path in (("core", "io"), ("engines", "calls"), ("engines", "engine")) * 3:
        quick(engine, runtime)
        whole = path if path[0] == "core" else ("engines", engine_name(runtime), path[1])
        crash(*whole, runtime=runtime)
    quick(engine, runtime)


def test_when_the_io_actor_fails_too_often_all_of_the_core_is_restarted(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast()
    eventually(lambda: node(runtime.tree(), "core")["restarts"] == 1 or crashed(runtime), "all of it is restarted")
    eventually(lambda: is_up(runtime), "it is back")
    quick(engine, runtime)


def test_a_runtime_whose_root_gave_up_is_stopped_and_the_default_one_is_replaced(sim: Simulator, fast: Make) -> None:
    runtime = allm.default_runtime()
    running = Running(fast(), runtime)
    eventually(lambda: runtime.stopped or crashed(runtime), "it has given up")
    assert isinstance(one_end(running.rest()), allm.ErrorOccurred)
    with pytest.raises(allm.EngineError) as raised:
        allm.generate(fast(), "Hi", runtime=runtime)
    assert raised.value.reason == "stopped"
    assert allm.generate(fast(), "Hi").text == "quick"
    assert allm.default_runtime() is not runtime
    for each in (runtime, allm.default_runtime()):
        each.stop()


def crashed(runtime: allm.Runtime) -> bool:
    """False, so that whoever waits for what comes of it goes on."""
    with suppress(allm.EngineError):  # it is not there now
        crash("core", "io", runtime=runtime)
    return False


def is_up(runtime: allm.Runtime) -> bool:
    try:
        return bool(node(runtime.tree(), "core", "io")["status"] == "running")
    except (StopIteration, KeyError):
        return False


@pytest.mark.parametrize("path", ["engine", "calls", "pair", "engines", "io"])
def test_a_call_submitted_while_an_actor_is_restarted_is_not_lost(
    path: str, sim: Simulator, fast: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is answered, or ended with an error that says so; none waits for ever."""
    monkeypatch.setattr(engine_module, "Backoff", partial(Backoff, first=0.005, max=0.005))
    engine = fast(retry=allm.Retry(max_attempts=5, base_delay=0.01, max_delay=0.01))
    answered = 0
    for _ in range(ROUNDS):
        with allm.Runtime() as runtime, ThreadPoolExecutor(8) as pool:
            quick(engine, runtime)
            name = engine_name(runtime)
            where = {"io": ("core", "io"), "engines": ("engines",), "pair": ("engines", name)}.get(path, ("engines", name, path))
            calls = [pool.submit(allm.generate, engine, "Hi", runtime=runtime) for _ in range(8)]
            crash(*where, runtime=runtime)
            calls += [pool.submit(allm.generate, engine, "Hi", runtime=runtime) for _ in range(16)]
            for call in calls:
                outcome = outcome_of(call)
                assert outcome == "quick" or (outcome == "unknown" and path in ("calls", "pair", "engines"))
                answered += outcome == "quick"
            quick(engine, runtime)
    assert answered >= ROUNDS * 16 / 2


def test_idle_engines_make_room_for_new_ones(sim: Simulator, fast: Make, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MOST_ENGINES", 4)
    busy = Running(fast(base_url=sim.base_url("chat") + "/busy"), runtime)
    (its_name,) = [each["id"] for each in node(runtime.tree(), "engines")["children"]]
    for number in range(12):
        quick(fast(base_url=f"{sim.base_url('chat')}/{number}"), runtime)
    names = [each["id"] for each in node(runtime.tree(), "engines")["children"]]
    assert len(names) <= 5
    assert its_name in names
    assert text_of(busy.rest()) == TEXT
    for number in range(12):
        quick(fast(base_url=f"{sim.base_url('chat')}/{number}"), runtime)


def test_a_crash_of_what_is_not_there_says_so(runtime: allm.Runtime) -> None:
    with pytest.raises(allm.EngineError) as raised:
        crash("engines", "nobody", runtime=runtime)
    assert raised.value.reason == "not_found"


# what is told of it


def test_tree_and_stats_are_plain_data(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    running = Running(fast(), runtime, request_id="running")
    sim.fault(Fault(status=400))
    with pytest.raises(allm.AdapterError):
        allm.generate(fast(), "What?", runtime=runtime)
    eventually(lambda: runtime.stats()["engines"][engine_name(runtime)]["done"] == 1, "the engine has heard of the end")
    tree, stats = json.loads(json.dumps(runtime.tree())), json.loads(json.dumps(runtime.stats()))
    assert [child["id"] for child in tree["children"]] == ["core", "engines", "tools", "turns"]
    assert node(tree, "engines", engine_name(runtime), "calls", "running")["kind"] == "StreamActor"
    assert stats["calls"] == 1
    name = f"openai.chat {sim.base_url('chat')}"
    assert stats["engines"] == {name: {"running": 1, "done": 1, "failed": 1, "last_failure": "invalid_request"}}
    assert engine_name(runtime) == name
    assert repr(runtime) == "<Runtime running, 1 calls>"
    running.rest()


def test_engines_that_differ_in_their_transport_only_are_told_apart(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    for transport in ("aiohttp", "httpx"):
        quick(fast(http=allm.Http(transport=transport)), runtime)
    quick(fast(), runtime)
    names = {str(each["id"]) for each in node(runtime.tree(), "engines")["children"]}
    assert len(names) == 2  # "auto" is aiohttp
    assert runtime.stats()["engines"].keys() == names
    eventually(lambda: sum(each["done"] for each in runtime.stats()["engines"].values()) == 3, "the engines have heard of the ends")


def test_an_engine_that_does_not_come_up_costs_the_call_that_wanted_it_alone(
    sim: Simulator, fast: Make, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(self: object) -> None:
        raise RuntimeError("no room")

    before = runtime.find("engines")
    with monkeypatch.context() as patch:
        patch.setattr(engine_module.EngineActor, "on_start", unable)
        with pytest.raises(allm.StreamError, match="no room"):
            allm.generate(fast(), "Hi", runtime=runtime, api_key="secret")
    assert (runtime.stats()["calls"], repr(runtime.vault)) == (0, "<Vault of 0>")
    quick(fast(), runtime)
    assert runtime.find("engines") is before


# the end of a runtime


def test_stop_cuts_its_calls_and_names_them(sim: Simulator, engine: allm.Engine) -> None:
    runtime = allm.Runtime()
    running = Running(engine, runtime, request_id="running")
    sim.respond(lambda request: Fault(slow_first_byte=30))
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(allm.generate, engine, "Hi", runtime=runtime, request_id="waiting")
        assert sim.wait_requests(2)
        assert sorted(runtime.stop(0)) == ["running", "waiting"]
        with pytest.raises(allm.StreamError) as raised:
            waiting.result(WAIT)
    assert (raised.value.reason, raised.value.request_id) == ("cancelled", "waiting")
    broken_off(running, "cancelled")
    assert sim.wait_closed()
    assert runtime.stop() == ()
    assert "stopped" in repr(runtime)


def test_stop_waits_for_the_calls_that_run_and_takes_no_more(sim: Simulator, engine: allm.Engine) -> None:
    runtime = allm.Runtime()
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(allm.generate, engine, "slow", runtime=runtime)
        assert sim.wait_requests(1)
        stopping = pool.submit(runtime.stop)
        eventually(lambda: runtime.stopped, "it takes no more")
        with pytest.raises(allm.EngineError):
            allm.generate(engine, "Hi", runtime=runtime)
        assert call.result(WAIT).text == TEXT
        assert stopping.result(WAIT) == ()
    assert len(sim.requests) == 1


def test_stop_ends_consumers_of_asyncio_and_those_who_wait_for_a_retry(sim: Simulator, fast: Make) -> None:
    async def go() -> None:
        waiting = asyncio.ensure_future(allm.aio.generate(fast(retry=allm.Retry(base_delay=30)), "What?", runtime=runtime))
        streaming = [event async for event in stream if not (isinstance(event, allm.TextDelta) and not stopping and stop())]
        with pytest.raises(allm.StreamError, match="stopped"):
            await waiting
        assert isinstance(streaming[-1], allm.ErrorOccurred)

    def stop() -> bool:
        if len(sim.requests) == 2:
            stopping.append(threading.Thread(target=runtime.stop, args=(0,)))
            stopping[0].start()
        return False

    sim.fault(Fault(status=503))
    stopping: list[threading.Thread] = []
    runtime = allm.Runtime()
    stream = allm.stream_generate(fast(), "slow", runtime=runtime)
    asyncio.run(go())
    stopping[0].join(WAIT)


def test_a_stopped_runtime_takes_no_calls(sim: Simulator, fast: Make) -> None:
    runtime = allm.Runtime()
    begun = allm.stream_generate(fast(), "Hi", runtime=runtime)
    runtime.stop()
    assert runtime.stopped
    for call in (begun.response, lambda: list(begun), lambda: allm.generate(fast(), "Hi", runtime=runtime, api_key="sk-1")):
        with pytest.raises(allm.EngineError) as raised:
            call()
        assert raised.value.reason == "stopped"
    assert not sim.requests
    assert repr(runtime.vault) == "<Vault of 0>"


def test_calls_made_while_the_runtime_stops_come_to_an_end(sim: Simulator, fast: Make) -> None:
    engine = fast()
    for number in range(21):
        runtime = allm.Runtime()
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(allm.generate, engine, "Hi", runtime=runtime) for _ in range(24)]
            runtime.stop(number % 3 * 0.02)
            for call in calls:
                assert outcome_of(call) in ("quick", "stopped", "cancelled")


def test_two_runtimes_live_side_by_side(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    with allm.Runtime() as other:
        mine, theirs = Running(engine, runtime), Running(engine, other)
        crash("core", "io", runtime=other)
        broken_off(theirs, "connection_closed")
        quick(engine, other)
        assert text_of(mine.rest()) == TEXT
    quick(engine, runtime)


def test_a_runtime_takes_all_its_actors_with_it(sim: Simulator, engine: allm.Engine) -> None:
    before = living()
    with allm.Runtime() as runtime:
        quick(engine, runtime)
        assert len(living()) > len(before)
    assert living() == before


def test_what_would_block_the_loop_is_refused_there(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    async def on_the_loop() -> list[str]:
        told: list[str] = []
        for call in (
            lambda: allm.generate(fast(), "Hi", runtime=runtime),
            lambda: list(allm.stream_generate(fast(), "Hi", runtime=runtime)),
            runtime.stop,
        ):
            with pytest.raises(allm.EngineError) as raised:
                call()
            told.append(raised.value.reason)
        response = await allm.aio.generate(fast(), "Hi", runtime=runtime)
        return [*told, response.text]

    loop = runtime._loop  # pyright: ignore[reportPrivateUsage]
    told = asyncio.run_coroutine_threadsafe(on_the_loop(), loop).result(WAIT)
    assert told == ["would_block"] * 3 + ["quick"]
    quick(fast(), runtime)
