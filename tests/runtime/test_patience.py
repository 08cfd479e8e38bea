"""What waits for what: a stop for its calls, the end of a call for its callback, and nobody for somebody else's user code."""

import threading
import time
from typing import Any

import pytest

import allm
from allm.testing import Fake, Reply, Simulator


def engine_of(sim: Simulator, **more: object) -> allm.Engine:
    return allm.Engine(adapter="openai.chat", model="m", base_url=sim.base_url("chat"), **more)  # type: ignore[arg-type]


def test_stop_waits_for_the_calls_that_run_and_cuts_none() -> None:
    with Simulator(replies=[Reply(text="one two three four", delay=0.05)]) as sim:
        runtime = allm.Runtime()
        got: list[allm.Response] = []
        caller = threading.Thread(target=lambda: got.append(allm.generate(engine_of(sim), "Hi", runtime=runtime)))
        caller.start()
        assert sim.wait_requests(1, 5)
        assert runtime.stop(timeout=10) == ()
        caller.join(5)
        assert [response.text for response in got] == ["one two three four"]


def test_stop_does_not_wait_for_a_stream_that_nobody_reads() -> None:
    with Simulator(replies=[Reply(text="word " * 20_000)]) as sim:
        runtime = allm.Runtime()
        cursor = iter(allm.stream_generate(engine_of(sim), "Hi", runtime=runtime))
        next(cursor)
        assert sim.wait_requests(1, 5)
        begun = time.monotonic()
        assert len(runtime.stop(timeout=20)) == 1
        assert time.monotonic() - begun < 15
        cursor.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True])
def test_a_stop_with_no_sensible_timeout_stops_nothing(timeout: object) -> None:
    with allm.Runtime() as runtime:
        with pytest.raises(allm.ValidationError):
            runtime.stop(timeout)  # type: ignore[arg-type]
        assert allm.generate(Fake([("text", "still"), ("finish", "stop")]).engine, "Hi", runtime=runtime).text == "still"


def test_a_call_returns_when_its_callback_has_seen_everything() -> None:
    fake = Fake([*(("text", "x") for _ in range(20)), ("finish", "stop")])
    with allm.Runtime() as runtime:
        for _ in range(50):
            seen: list[allm.Event] = []
            allm.generate(fake.engine, "Hi", runtime=runtime, on_event=seen.append)
            assert isinstance(seen[-1], allm.MessageCompleted)


def key_of(_provider: str, _context: allm.KeyContext) -> str:
    return "sk-1"


def test_callbacks_that_block_keep_no_other_call_from_its_key() -> None:
    with Simulator() as sim, allm.Runtime() as runtime:
        release = threading.Event()

        def block(_: allm.Event) -> None:
            release.wait(20)

        callers = [
            threading.Thread(target=allm.generate, args=(engine_of(sim), "Hi"), kwargs={"runtime": runtime, "on_event": block})
            for _ in range(20)
        ]
        for caller in callers:
            caller.start()
        try:
            engine = engine_of(sim, keys=key_of, timeouts=allm.Timeouts(first_event=10))
            assert allm.generate(engine, "Hello", runtime=runtime).text
        finally:
            release.set()
            for caller in callers:
                caller.join(20)


def test_a_slow_key_resolver_is_no_silence_of_the_provider() -> None:
    with Simulator(replies=["late"]) as sim, allm.Runtime() as runtime:
        asked = threading.Event()

        def resolve(*_: object) -> str:
            asked.wait(0.6)
            return "sk-1"

        engine = engine_of(sim, keys=resolve, timeouts=allm.Timeouts(first_event=0.3), retry=allm.Retry.none())
        assert allm.generate(engine, "Hi", runtime=runtime).text == "late"


@pytest.mark.parametrize("key", ["sk-1\n", " sk-1 ", "sk-1\r\n"])
def test_the_line_end_that_a_file_leaves_behind_a_key_is_taken_off(key: str) -> None:
    with Simulator(replies=["yes"]) as sim, allm.Runtime() as runtime:
        assert allm.generate(engine_of(sim), "Hi", runtime=runtime, api_key=key).text == "yes"


@pytest.mark.parametrize("key", ["sk-\udce9", "sk-\x00", "sk-é", "", b"sk-1", ["sk-1"]])
@pytest.mark.parametrize("level", ["call", "engine"])
def test_what_is_no_key_is_refused_without_being_shown(key: object, level: str) -> None:
    if level == "engine" and not key:
        return  # the same as no key
    with Simulator() as sim, allm.Runtime() as runtime:
        engine = engine_of(sim, **({"keys": {"openai": key}} if level == "engine" else {}))
        more: dict[str, Any] = {"api_key": key} if level == "call" else {}
        with pytest.raises(allm.EngineError) as raised:
            allm.generate(engine, "Hi", runtime=runtime, **more)
    assert raised.value.reason == "bad_key"
    assert "sk-" not in str(raised.value)
