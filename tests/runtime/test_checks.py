"""The checks of answers and arguments: off the loop where they may take long or run code of the user's, within a time, and made once."""

import dataclasses
import json
import threading
from typing import Any, ClassVar

import pytest

import allm
from allm.schemas import Checker
from allm.tools import Tool
from tests.runtime.support import WAIT

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

Script = list[tuple[Any, ...]]
SHORT = allm.Timeouts(callback=0.05)


def says(text: str) -> Script:
    return [("text", text), ("finish", "stop")]


def engine(*scripts: Script, **more: Any) -> allm.Engine:
    return allm.Engine("fake:any", adapter_opts={"scripts": list(scripts)}, **more)


@dataclasses.dataclass
class Number:
    """An answer whose check is code of the user's."""

    n: int
    seen: ClassVar[list[str]] = []
    begun: ClassVar[threading.Event] = threading.Event()
    go_on: ClassVar[threading.Event] = threading.Event()

    def __post_init__(self) -> None:
        Number.seen.append(threading.current_thread().name)
        if self.n == 7:
            Number.begun.set()
            assert Number.go_on.wait(WAIT)
        if self.n < 0:
            raise ValueError("it is negative")


@pytest.fixture(autouse=True)
def afresh() -> None:
    Number.seen.clear()
    Number.begun.clear()
    Number.go_on.clear()


def loop_thread(runtime: allm.Runtime) -> str:
    return runtime._thread.name  # pyright: ignore[reportPrivateUsage]


def in_thread(work: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    return thread, found


def test_the_constructor_of_an_answers_type_never_runs_on_the_loop(runtime: allm.Runtime) -> None:
    result = allm.chat(engine(says('{"n": -1}'), says('{"n": 3}')), "A number.", response_format=Number, runtime=runtime)
    assert result.parsed == Number(3)
    assert result.metadata["reasks"] == 1
    checks = Number.seen[:2]
    assert len(checks) == 2
    assert loop_thread(runtime) not in checks
    assert threading.current_thread().name not in checks


def test_while_an_answer_is_checked_other_calls_go_on(runtime: allm.Runtime) -> None:
    thread, found = in_thread(lambda: allm.chat(engine(says('{"n": 7}')), "A number.", response_format=Number, runtime=runtime))
    assert Number.begun.wait(WAIT)
    assert allm.chat(engine(says("Here.")), "Hi", runtime=runtime).text == "Here."
    assert not found
    Number.go_on.set()
    thread.join(WAIT)
    assert found[0].parsed.n == 7


def test_a_check_that_does_not_end_is_given_up_and_the_answer_is_kept(runtime: allm.Runtime) -> None:
    try:
        result = allm.chat(engine(says('{"n": 7}')), "A number.", response_format=Number, runtime=runtime, timeouts=SHORT)
        assert result.halted_reason == "error"
        assert result.error is not None
        assert (result.error.reason, "did not come back within" in result.error.message) == ("callback_failed", True)
        assert result.text == '{"n": 7}'
    finally:
        Number.go_on.set()


def test_a_turn_can_be_cancelled_while_its_answer_is_checked(runtime: allm.Runtime) -> None:
    stream = allm.stream(engine(says('{"n": 7}')), "A number.", response_format=Number, runtime=runtime)
    thread, found = in_thread(stream.response)
    assert Number.begun.wait(WAIT)
    stream.cancel()
    thread.join(WAIT)
    Number.go_on.set()
    assert (found[0].halted_reason, found[0].text) == ("cancelled", '{"n": 7}')


WORDS = {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "string"}}}}


@pytest.mark.parametrize(("items", "on_loop"), [(3, True), (5_000, False)])
def test_arguments_are_checked_once_and_large_ones_off_the_loop(
    items: int, on_loop: bool, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    check = Checker.problem

    def seen(self: Checker, value: Any) -> str | None:
        threads.append(threading.current_thread().name)
        return check(self, value)

    tool = Tool(name="count", handler=lambda x: len(x), schema=WORDS)
    call: Script = [("tool_call", "count", {"x": ["word"] * items}, "c1"), ("finish", "tool_calls")]
    asked = engine(call, says("done"), call, says("done"), tools=[tool])
    allm.chat(asked, "Once, so that the schema is ready.", runtime=runtime)
    monkeypatch.setattr(Checker, "problem", seen)
    result = allm.chat(asked, "Again.", runtime=runtime)
    assert [message.text for message in result.thread.messages if message.role == "tool"] == [str(items)]
    assert len(threads) == 1
    assert (threads[0] == loop_thread(runtime)) is on_loop


def test_arguments_whose_check_does_not_end_are_told_to_the_model(runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def stuck(self: Checker, value: Any) -> str | None:
        go_on.wait(WAIT)
        return None

    monkeypatch.setattr(Checker, "problem", stuck)
    tool = Tool(name="count", handler=lambda x: len(x), schema={**WORDS, "required": ["x"]})
    try:
        script = engine([("tool_call", "count", {"x": []}, "c1"), ("finish", "tool_calls")], says("done"), tools=[tool])
        result = allm.chat(script, "Go.", runtime=runtime, timeouts=SHORT)
        (told,) = [message.text for message in result.thread.messages if message.role == "tool"]
        assert "did not come back within" in json.loads(told)["error"]
        assert result.text == "done"
    finally:
        go_on.set()


@pytest.mark.parametrize("finish", ["content_filter", "length"])
def test_a_chat_whose_answer_ended_badly_runs_nothing_and_ends(finish: str, runtime: allm.Runtime) -> None:
    ran: list[object] = []
    tool = Tool(name="go", handler=lambda **given: ran.append(given))
    script: Script = [("tool_call_delta", {"id": "c1", "name": "go", "arguments": '{"x"'}), ("finish", finish)]
    if finish == "content_filter":
        script = [("tool_call", "go", {"x": 1}, "c1"), ("finish", finish)]
    asked = engine(script, tools=[tool])
    result = allm.chat(asked, "Go.", runtime=runtime)
    assert (ran, result.halted_reason) == ([], "completed")
    assert result.final_response is not None
    assert result.final_response.finish_reason == finish
    assert result.thread.messages[-1].tool_call_id == result.thread.messages[-2].tool_calls[0].id
    events = list(allm.stream(engine(script, tools=[tool]), "Go.", runtime=runtime))
    assert not [event for event in events if isinstance(event, allm.ToolExecutionStarted)]
    assert isinstance(events[-1], allm.ChatCompleted)


def test_a_thousand_parallel_calls_come_to_their_results(runtime: allm.Runtime) -> None:
    calls: Script = [("tool_call", "nope", {}, f"c{n}") for n in range(1_000)]
    result = allm.chat(engine([*calls, ("finish", "tool_calls")], says("done")), "Go.", runtime=runtime)
    assert (len(result.steps[0].tool_results), result.text) == (1_000, "done")
