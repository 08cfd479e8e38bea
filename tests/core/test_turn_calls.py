"""Which calls of an answer run, by how it ended; and what thousands of them cost."""

import subprocess
import sys
from collections import Counter
from typing import Any, Literal

import pytest

from allm.errors import ErrorInfo
from allm.events import ChatCompleted, ToolExecutionCompleted, ToolExecutionStarted
from allm.messages import Message, ToolCallPart, user
from allm.requests import JsonSchema, Request, ToolSpec
from allm.responses import ChatResult, Response, StepResult
from allm.tools import ToolOutcome
from allm.turn import step
from allm.turn_checks import checked_at_once
from allm.turn_data import (
    AnswerChecked,
    ArgumentsChecked,
    Begin,
    CallModel,
    Cancel,
    CheckAnswer,
    CheckArguments,
    Done,
    Effect,
    Emit,
    Failed,
    Input,
    ModelEnded,
    RunTool,
    Steer,
    ToolFinished,
    TurnOptions,
    TurnState,
)  # fmt: skip

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = (ToolSpec("weather", "", SCHEMA), ToolSpec("any", ""), ToolSpec("sign", "", manual=True))
Finish = Literal["stop", "length", "tool_calls", "content_filter", "error", "cancelled", "other"]


def begun(form: JsonSchema | None = None, **options: Any) -> TurnState:
    request = Request((user("Hi"),), tools=TOOLS, response_format=form)
    return step(TurnState(options=TurnOptions(request_id="r", **options), request=request), Begin())[0]


def called(raw: str | None = "{}", name: str = "any", id: str = "c1") -> ToolCallPart:
    return ToolCallPart(id, name, {"x": 1} if raw == '{"x": 1}' else {}, raw)


def answer(*calls: ToolCallPart, finish: Finish = "tool_calls", **fields: Any) -> Response:
    return Response(message=Message("assistant", calls), finish_reason=finish, **fields)


def fed(state: TurnState, *inputs: Input) -> tuple[TurnState, list[Effect]]:
    effects: list[Effect] = []
    for input in inputs:
        state, made = step(state, input)
        effects += made
    return state, effects


def ran(effects: list[Effect]) -> list[str]:
    return [effect.call.id for effect in effects if isinstance(effect, RunTool)]


def ended(state: TurnState) -> ChatResult:
    assert isinstance(state.result, ChatResult)
    return state.result


# Which run


@pytest.mark.parametrize("mode", ["auto", "manual"])
@pytest.mark.parametrize(
    ("finish", "more", "why"),
    [
        ("content_filter", {}, "filtered"),
        ("other", {"raw_finish_reason": "odd"}, "(odd)"),
        ("stop", {"refusal": "I will not."}, "refused"),
        ("length", {}, "cut off"),
    ],
)
def test_the_calls_of_an_answer_that_ended_badly_get_a_stated_result_and_end_the_turn(
    finish: Any, more: dict[str, Any], why: str, mode: Any
) -> None:
    cut = called('{"ci', id="b")
    state, effects = fed(begun(mode=mode), ModelEnded(answer(called(id="a"), cut, called(name="sign", id="c"), finish=finish, **more)))
    result = ended(state)
    assert ran(effects) == []
    assert not any(isinstance(effect, CallModel | CheckArguments) for effect in effects)
    assert (result.halted_reason, result.final_response and result.final_response.finish_reason) == ("completed", finish)
    assert [(message.role, message.tool_call_id) for message in result.thread.messages[2:]] == [("tool", "a"), ("tool", "b"), ("tool", "c")]
    for message in result.thread.messages[2:]:
        assert message.text.startswith("no result: the call was not run")
        assert why in message.text
        assert message.metadata == {"is_error": True}
    events = Counter(type(effect.event) for effect in effects if isinstance(effect, Emit))
    assert (events[ToolExecutionStarted], events[ToolExecutionCompleted], events[ChatCompleted]) == (0, 3, 1)
    assert result.steps[0].done
    assert {one.error.reason for one in result.steps[0].tool_results if one.error is not None} == {"not_run"}


@pytest.mark.parametrize(
    ("raw", "whole"),
    [("{}", True), ('{"x": 1}', True), (None, False), ("", False), ("  ", False), ('{"x', False), ("[1]", False), ('"{}"', False)],
)
def test_after_length_a_call_runs_only_with_whole_arguments(raw: str | None, whole: bool) -> None:
    state, effects = fed(begun(), ModelEnded(answer(called(raw), finish="length")))
    assert ran(effects) == (["c1"] if whole else [])
    assert (state.phase == "done") is not whole


def test_after_length_one_cut_call_keeps_all_of_them_from_running() -> None:
    state, effects = fed(begun(), ModelEnded(answer(called(id="a"), called('{"x": ', id="b"), finish="length")))
    assert (ran(effects), ended(state).halted_reason) == ([], "completed")


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "length"])
def test_manual_calls_of_an_answer_that_ended_well_are_for_the_caller(finish: Any) -> None:
    state, _ = fed(begun(), ModelEnded(answer(called(name="sign"), finish=finish)))
    assert ended(state).halted_reason == "manual_tool_calls"


def test_a_step_obeys_too() -> None:
    state, effects = fed(begun(single=True), ModelEnded(answer(called(), finish="content_filter")))
    assert isinstance(state.result, StepResult)
    assert ran(effects) == []
    assert [message.role for message in state.result.messages] == ["assistant", "tool"]


@pytest.mark.parametrize("single", [True, False])
def test_an_answer_whose_finish_is_an_error_ends_the_turn_with_an_error(single: bool) -> None:
    state, effects = fed(begun(single=single), ModelEnded(answer(called(), finish="error", raw_finish_reason="network_error")))
    assert ran(effects) == []
    result = state.result
    error = result.response.error if isinstance(result, StepResult) else ended(state).error
    assert error is not None
    assert "network_error" in error.message
    if isinstance(result, ChatResult):
        assert (result.halted_reason, result.thread.messages) == ("error", (user("Hi"),))
        assert result.final_response is not None
        assert result.final_response.error == error


def test_neither_judge_nor_policy_is_asked_about_calls_that_were_not_run() -> None:
    state, effects = fed(begun(judged=True, on_tool_error="halt"), ModelEnded(answer(called(), finish="content_filter")))
    assert ended(state).halted_reason == "completed"
    assert {type(effect) for effect in effects} == {Emit, Done}


def test_a_second_call_of_one_id_does_not_run_and_the_thread_has_one_result() -> None:
    state, effects = fed(begun(), ModelEnded(answer(called(), called())), ToolFinished(ToolOutcome(id="c1", name="any", content="x")))
    assert ran(effects) == ["c1"]
    assert [message.text for message in state.added[1:]] == ["x"]


# Checks are effects


def test_what_an_answer_has_to_fit_is_asked_for_and_told() -> None:
    form = JsonSchema("city", SCHEMA)
    said = Response(message=Message("assistant", '{"city": 1}'), finish_reason="stop")
    state, effects = fed(begun(form), ModelEnded(said))
    assert effects == [CheckAnswer('{"city": 1}', form)]
    again, effects = fed(state, AnswerChecked("city: wrong"))
    assert isinstance(effects[-1], CallModel)
    assert "city: wrong" in again.reask[-1].text
    taken, _ = fed(state, AnswerChecked())
    assert ended(taken).halted_reason == "completed"


def test_arguments_are_asked_for_only_where_something_is_to_be_checked() -> None:
    state, effects = fed(begun(), ModelEnded(answer(called(), called(name="weather", id="c2"), called(name="none", id="c3"))))
    assert effects == [CheckArguments((called(name="weather", id="c2"),), (TOOLS[0],))]
    state, effects = fed(state, ArgumentsChecked(("city: wrong",)))
    assert (ran(effects), state.phase, state.open) == (["c1"], "tools", 1)
    state, _ = fed(state, ToolFinished(ToolOutcome(id="c1", name="any", content="x")))
    assert "city: wrong" in state.added[2].text


@pytest.mark.parametrize("input", [Cancel(), Failed(ErrorInfo("engine", "callback_failed", "late")), Steer((user("And?"),))])
def test_a_turn_that_waits_for_a_check_can_be_cancelled_fail_and_be_steered(input: Input) -> None:
    asked, _ = fed(begun(), ModelEnded(answer(called(name="weather"))))
    said, _ = fed(begun(JsonSchema("city", SCHEMA)), ModelEnded(Response(message=Message("assistant", "{}"), finish_reason="stop")))
    for state in (asked, said):
        after, _ = fed(state, input)
        if isinstance(input, Steer):
            assert (after.phase, after.steered) == (state.phase, input.messages)
            continue
        result = ended(after)
        assert result.halted_reason == ("cancelled" if isinstance(input, Cancel) else "error")
        assert result.final_response is not None
        calls = {part.id for message in result.thread.messages for part in message.tool_calls}
        assert calls == {message.tool_call_id for message in result.thread.messages if message.role == "tool"}


def test_small_checks_are_made_at_once_when_their_schema_is_ready_and_no_code_of_the_users_runs() -> None:
    spec = ToolSpec("weather", "", {"type": "object", "properties": {"city": {"type": "string", "maxLength": 3}}})
    small = CheckArguments((ToolCallPart("c", "weather", {"city": "Oslo"}, '{"city": "Oslo"}'),), (spec,))
    assert checked_at_once(small) is None  # the schema was never seen
    from allm.schemas import checker

    checker(spec.schema)
    assert checked_at_once(small) == ArgumentsChecked(("city: expected at most 3 characters, got 4",))
    long = "x" * 10_000
    assert checked_at_once(CheckArguments((ToolCallPart("c", "weather", {"city": long}, f'{{"city": "{long}"}}'),), (spec,))) is None
    assert checked_at_once(CheckAnswer("x" * 10_000, JsonSchema("any", spec.schema))) is None


# What they cost


def _work(calls: int, name: str) -> int:
    """Functions called, of ours and the interpreter's, until this many calls are over."""
    asked = tuple(ToolCallPart(f"c{n}", name, {}, "{}") for n in range(calls))
    state = begun()
    count = 0

    def counted(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        state, _ = step(state, ModelEnded(answer(*asked)))
        for call in asked if state.phase == "tools" else ():
            state, _ = step(state, ToolFinished(ToolOutcome(id=call.id, name=name)))
    finally:
        sys.setprofile(before)
    assert len(state.steps[0].tool_results) == calls
    return count


@pytest.mark.parametrize("name", ["nothing", "any"])
def test_twice_as_many_parallel_calls_are_twice_the_work(name: str) -> None:
    assert _work(400, name) <= 2.1 * _work(200, name)


def test_thousands_of_parallel_calls_take_little_time_of_the_processor() -> None:
    """Of tools that there are not, and of one that there is: in a process that ends after 10 seconds of work, the start included."""
    source = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
from tests.core.test_turn_calls import *
for name, count in (("nothing", 20_000), ("weather", 5_000)):
    calls = [ToolCallPart(f"c{n}", name, {"city": "Oslo"}, '{"city": "Oslo"}') for n in range(count)]
    state, effects = step(begun(), ModelEnded(answer(*calls)))
    if state.phase == "arguments":
        state, effects = step(state, ArgumentsChecked((None,) * len(calls)))
        for call in calls:
            state, effects = step(state, ToolFinished(ToolOutcome(id=call.id, name=name)))
    assert len(state.steps[0].tool_results) == count
print("done")
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=55)
    assert done.stdout == "done\n", (done.returncode, done.stderr[-2_000:])
