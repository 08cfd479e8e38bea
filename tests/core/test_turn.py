"""The turn machine: random turns against its laws, every row of its table, and its state written down at every boundary."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.codec import from_json, to_json
from allm.errors import AllmError, ErrorInfo
from allm.events import Event, MessageCompleted, MessageStarted, RequestStarted, ToolExecutionStarted
from allm.folding import fold
from allm.messages import Message, TextPart, ToolCallPart, user
from allm.order import LOOP, OrderChecker
from allm.requests import JsonSchema, Request, ToolSpec
from allm.responses import ChatResult, Response, StepResult
from allm.tools import AskUser, Halt, ToolOutcome
from allm.turn import IllegalTransition, step
from allm.turn_checks import check_answer, check_arguments
from allm.turn_data import (
    AnswerChecked,
    ArgumentsChecked,
    Begin,
    CallModel,
    Cancel,
    CancelModel,
    CancelTools,
    Check,
    CheckAnswer,
    CheckArguments,
    Checked,
    Commit,
    Done,
    Effect,
    Emit,
    Fail,
    Failed,
    Input,
    Judge,
    Judged,
    ModelEnded,
    RunTool,
    Steer,
    ToolFinished,
    TurnOptions,
    TurnState,
)  # fmt: skip
from allm.turn_table import TABLE, Row
from allm.turn_tools import AWAITING
from allm.usage import Usage
from allm.validate import validate
from tests.conftest import Say

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
TOOLS = (ToolSpec("add", "", SCHEMA), ToolSpec("look", "", SCHEMA), ToolSpec("sign", "", SCHEMA, manual=True))
FORM = JsonSchema("answer", SCHEMA)
ERROR = ErrorInfo("adapter", "connection_closed", "cut")
BROKEN = Failed(ErrorInfo("engine", "callback_failed", "x"))


def begun(**options: Any) -> TurnState:
    form = options.pop("form", None)
    options = {"request_id": "r", **options}
    return TurnState(options=TurnOptions(**options), request=Request((user("Hi"),), tools=TOOLS, response_format=form))


def call(name: str = "add", id: str = "c1", **arguments: Any) -> ToolCallPart:
    return ToolCallPart(id, name, arguments or {"n": 1})


def answer(text: str = "", *calls: ToolCallPart, finish: Any = None, **fields: Any) -> Response:
    message = Message("assistant", (TextPart(text), *calls) if calls else text)
    usage = Usage(input_tokens=2, output_tokens=1)
    return Response(message=message, finish_reason=finish or ("tool_calls" if calls else "stop"), usage=usage, **fields)


def outcome(id: str = "c1", **fields: Any) -> ToolOutcome:
    return msgspec.structs.replace(ToolOutcome(id=id, name="add", content="2"), **fields)


def run(state: TurnState, *inputs: Input) -> tuple[TurnState, list[Effect]]:
    """The inputs, and after each what its checks come to."""
    effects: list[Effect] = []
    waiting = list(reversed(inputs))
    while waiting:
        state, made = step(state, waiting.pop())
        effects += made
        waiting += [checked(effect) for effect in made if isinstance(effect, CheckAnswer | CheckArguments)]
    return state, effects


def checked(effect: CheckAnswer | CheckArguments) -> AnswerChecked | ArgumentsChecked:
    return check_answer(effect) if isinstance(effect, CheckAnswer) else check_arguments(effect)


def result_of(state: TurnState) -> ChatResult:
    assert isinstance(state.result, ChatResult)
    return state.result


class Player:
    """Plays the world round the machine: a model, tools, a caller, and their whims."""

    def __init__(self, seed: int, reload: bool = True) -> None:
        self.random = random.Random(seed)
        self.reload = reload
        pick = self.random.choice
        long = pick([True, False])  # one that goes its whole way
        self.state = begun(
            mode=pick(["auto"] * 7 + ["manual"]), single=not long and pick([False, True]), max_turns=pick([1, 1, 2, 3, 8]),
            max_reasks=pick([0, 1, 2]), on_tool_error="continue" if long else pick(["continue", "halt"]), judged=pick([True, False]),
            checked=pick([True, False]), form=(form := pick([None, FORM])), finalize=form is not None and pick([True, False]),
            nudge=pick(["", "Now."]),
        )  # fmt: skip
        if not reload and pick([True, False]):  # what comes together most rarely
            rare = {"mode": "auto", "single": False, "max_turns": 1, "on_tool_error": "continue", "finalize": True}
            self.state = begun(form=FORM, judged=pick([True, True, False]), checked=pick([True, False, False]), **rare)
        self.checks = not reload and pick([True, False, False])  # one that is over with a check of what the model said
        if self.checks:
            self.state = begun(
                form=FORM,
                single=pick([True, False, False]),
                max_turns=pick([1, 1, 3]),
                judged=pick([True, False]),
                checked=pick([True, False, False]),
                on_tool_error=pick(["continue", "halt"]),
            )
        self.whimsical = 0.02 if long else pick([0.02, 0.1, 0.3])
        self.events: list[Event] = []
        self.waiting: list[Input] = []
        self.rows: Counter[Row] = Counter()
        self.committed: set[str] = set()
        self.ids = 0
        self.end: Done | Fail | None = None

    def play(self) -> None:
        self.feed(Begin() if self.random.random() > 0.05 else self.whim())
        if self.state.phase == "ready":
            self.feed(Begin())
        while self.state.phase != "done":
            rare = self.state.phase == "checking"
            if self.random.random() < (max(self.whimsical, 0.3) if rare or (self.checks and self.state.calls < 2) else self.whimsical):
                self.feed(self.whim())
            else:
                self.feed(self.waiting.pop(self.random.randrange(len(self.waiting))))
        assert self.end is not None
        self.feed(self.whim())
        late: list[Input] = [
            Begin(), ModelEnded(answer("late")), Failed(ERROR), ToolFinished(outcome()), Judged("c1", "halt"), Checked(True),
            AnswerChecked(), ArgumentsChecked(()),
        ]  # fmt: skip
        self.feed(self.random.choice(late))

    def whim(self) -> Input:
        late: list[Input] = [ToolFinished(outcome("stranger")), Judged("stranger", "halt")]
        if self.state.phase == "tools" and self.random.random() < 0.4:
            return self.random.choice(late)
        return Cancel() if self.random.random() < 0.3 else Steer((user("And?"),))

    def feed(self, input: Input) -> None:
        before = self.state
        self.state, effects = step(before, input)
        if self.reload:
            reloaded = from_json(to_json(before), TurnState)
            assert reloaded == before
            assert step(reloaded, input) == (self.state, effects)
        self.rows[Row(before.phase, type(input), self.state.rule, self.state.phase)] += 1
        for effect in effects:
            self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:
        assert self.end is None
        match effect:
            case Emit(event):
                self.events.append(event)
            case Commit():
                self.committed = {event.id for event in self.events if isinstance(event, ToolExecutionStarted)}
            case CallModel(request, number):
                validate(request)
                assert number == self.state.calls
                self.events.append(RequestStarted(f"r-{number}", "m", "fake"))
                self.waiting = [self.answered()]
            case CancelModel():
                self.waiting = [self.random.choice([*self.waiting, ModelEnded(answer("half", finish="cancelled")), Failed(ERROR)])]
            case CheckAnswer() | CheckArguments():
                self.waiting = [checked(effect) if self.random.random() > 0.03 else BROKEN]
            case RunTool(one):
                assert one.id in self.committed, "a tool runs before its start is in the journal"
                self.waiting.append(ToolFinished(self.ended(one)))
            case CancelTools(ids):
                self.waiting = [one for one in self.waiting if not (isinstance(one, ToolFinished) and one.outcome.id in ids)]
            case Judge(one, error):
                assert error.kind == "tool"
                self.waiting.append(
                    self.random.choice([Judged(one.id, "continue"), Judged(one.id, "halt"), Judged(one.id, "replace", 7, "7")])
                )
            case Check():
                answers: list[Input] = [Checked(False), Checked(False), Checked(True), BROKEN]
                self.waiting = [self.random.choice(answers)]
            case Done() | Fail():
                self.end = effect

    def answered(self) -> Input:
        chance = self.random.random()
        if chance < 0.06:
            return Failed(ERROR)
        if chance < 0.12:
            return Failed(ERROR, answer("half", finish="error", error=ERROR))
        if self.checks:
            arguments: dict[str, Any] = {"n": "x"} if chance < 0.6 else {"n": 1}
            return ModelEnded(answer('{"n": 1}') if chance < 0.3 else answer("", ToolCallPart("c1", "add", arguments)))
        if chance < 0.5:
            return ModelEnded(answer(self.random.choice(['{"n": 1}', '{"n": "x"}', "no JSON", ""])))
        calls = [self.asked() for _ in range(self.random.randrange(1, 4))]
        if chance < 0.9:
            return ModelEnded(answer("", *calls))
        return ModelEnded(answer("", *calls, finish=self.random.choice(["length", "content_filter", "error", "other"])))

    def asked(self) -> ToolCallPart:
        self.ids += 1
        name = self.random.choice(["add", "add", "look", "sign", "nothing", "nothing"])
        if self.random.random() < 0.15:
            return ToolCallPart(f"c{self.ids}", name, {}, "{broken")
        return ToolCallPart(f"c{self.ids}", name, self.random.choice([{"n": 1}, {"n": 1}, {"n": "x"}]))

    def ended(self, one: ToolCallPart) -> ToolOutcome:
        kind = self.random.choice(["value", "value", "error", "error", "ask", "halt"])
        error = ErrorInfo("tool", "failed", "no") if kind == "error" else None
        ask = AskUser("Which?", {"of": ["a", "b"]}) if kind == "ask" else None
        halt = Halt("enough", {"x": 1}) if kind == "halt" else None
        return ToolOutcome(id=one.id, name=one.name, content="said", result={"n": 2}, error=error, ask=ask, halt=halt, duration=0.5)


SEEN: Counter[Row] = Counter()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40))
def test_random_turns_obey_the_laws(seed: int) -> None:
    for part in range(10):
        player = Player(seed * 10 + part)
        player.play()
        SEEN.update(player.rows)
        check_the_end(player)


def check_the_end(player: Player) -> None:
    state, end = player.state, player.end
    made = [event for event in player.events if type(event) is not RequestStarted]
    if isinstance(end, Fail):
        with pytest.raises(AllmError):
            fold(player.events)
        return
    assert isinstance(end, Done)
    result = end.result
    assert result == state.result or state.rule == "over"
    if type(made[-1]).__name__ != "ErrorOccurred":
        assert fold(player.events) == result
    if isinstance(result, StepResult):
        return
    passes = state.options.max_turns + (state.finalizing is not None)
    assert len(result.steps) <= passes
    asked = [one for step_ in result.steps for one in step_.response.tool_calls if step_.response.message in result.thread.messages]
    answered = [message.tool_call_id for message in result.thread.messages if message.role == "tool"]
    assert len(answered) == len(set(answered)) <= len(asked)
    assert result.pending_question is None or result.halted_reason in ("ask_user", "tool_error", "enough")
    assert result.pending_question is not None or result.halted_reason != "ask_user"
    assert (result.error is not None) == (result.halted_reason in ("error", "tool_error"))
    if result.pending_question is not None:
        assert result.thread.messages[-1].metadata["tool_call_id"] == result.pending_tool_call_id
    assert result.thread.messages[0] == user("Hi")


@pytest.mark.slow
def test_every_row_of_the_table_was_taken(say: Say) -> None:
    """At least 100 times each; what the property above did not bring, more random turns do."""
    seen = Counter(SEEN)
    seed = 0
    while min(seen[row] for row in TABLE) < 100:
        seed += 1
        assert seed < 60_000, f"never seen often enough: {[row for row in TABLE if seen[row] < 100]}"
        player = Player(-seed, reload=False)
        player.play()
        seen.update(player.rows)
    assert set(seen) == set(TABLE)
    say("transitions of the turn machine, and how often each was taken:")
    for row in TABLE:
        say(f"  {row.phase:10}{row.input.__name__:17}{row.rule:19}{row.next:9}{seen[row]}")


def test_the_order_of_events_is_legal() -> None:
    for seed in range(400):
        player = Player(seed, reload=False)
        player.play()
        checker = OrderChecker(LOOP)
        for event in told(player):
            checker.check(event)
        assert checker.state in ("ended", "stepped")


def told(player: Player) -> list[Event]:
    """The events of a turn as a watcher sees them: the model's own between those of the machine."""
    events: list[Event] = []
    for event, after in zip(player.events, [*player.events[1:], None], strict=True):
        events.append(event)
        if type(event) is RequestStarted and type(after) not in (RequestStarted, type(None)):
            if type(after).__name__ not in ("ErrorOccurred", "ChatCompleted"):
                events += [MessageStarted(), MessageCompleted(answer("x"))]
        elif type(event) is RequestStarted:
            events += [MessageStarted(), MessageCompleted(answer("x"))]
    return events


def test_an_answer_without_calls_completes_the_loop() -> None:
    state, effects = run(begun(), Begin(), ModelEnded(answer("Hello")))
    result = result_of(state)
    assert (result.text, result.halted_reason, len(result.steps)) == ("Hello", "completed", 1)
    assert result.thread.messages == (user("Hi"), Message("assistant", "Hello"))
    assert isinstance(effects[-1], Done)


def test_results_keep_the_order_of_the_calls() -> None:
    called = answer("", call(id="a"), call(id="b"), call(id="c"))
    state, effects = run(begun(), Begin(), ModelEnded(called), *(ToolFinished(outcome(id, content=id)) for id in "cab"))
    assert [message.content for message in state.added[1:]] == ["a", "b", "c"]
    assert isinstance(effects[-1], CallModel)
    assert effects[-1].request.messages == state.thread


def test_unknown_tools_and_wrong_arguments_are_told_to_the_model() -> None:
    calls = call("nothing", "a"), call("add", "b", n="x"), ToolCallPart("c", "add", {}, "[1]")
    state, _ = run(begun(), Begin(), ModelEnded(answer("", *calls)))
    told = [message.text for message in state.added[1:]]
    assert "no tool 'nothing'" in told[0]
    assert "add, look, sign" in told[0]
    assert "n" in told[1]
    assert "integer" in told[1]
    assert "no JSON object" in told[2]
    assert all(message.metadata["is_error"] for message in state.added[1:])
    assert state.phase == "model"


def test_manual_calls_stay_pending_while_the_others_run() -> None:
    state, effects = run(begun(), Begin(), ModelEnded(answer("", call(id="a"), call("sign", "b"))), ToolFinished(outcome("a")))
    result = result_of(state)
    assert result.halted_reason == "manual_tool_calls"
    assert [message.tool_call_id for message in result.thread.messages[2:]] == ["a"]
    stepped = next(effect.event for effect in effects if isinstance(effect, Emit) and type(effect.event).__name__ == "StepCompleted")
    assert [one.id for one in stepped.manual_tool_calls] == ["b"]  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def test_a_question_to_the_user_leaves_the_thread_well_formed() -> None:
    asking = outcome("a", ask=AskUser("Which city?"))
    state, _ = run(begun(), Begin(), ModelEnded(answer("", call(id="a"), call("sign", "b"))), ToolFinished(asking))
    result = result_of(state)
    assert (result.halted_reason, result.pending_question, result.pending_tool_call_id) == ("ask_user", "Which city?", "a")
    assert result.thread.messages[2:] == (
        Message("tool", AWAITING, tool_call_id="a"),
        Message("assistant", "Which city?", metadata={"ask_user": True, "tool_call_id": "a"}),
    )


def test_finalisation_comes_after_the_loop_and_outside_its_turns() -> None:
    state, effects = run(
        begun(form=FORM, finalize=True, max_turns=1), Begin(), ModelEnded(answer("", call(id="a"))), ToolFinished(outcome("a"))
    )
    first, second = (effect.request for effect in effects if isinstance(effect, CallModel))
    assert first.response_format is None
    assert first.tools
    assert second.response_format == FORM
    assert not second.tools
    assert second.tool_choice is None
    state, _ = run(state, ModelEnded(answer('{"n": 3}')))
    result = result_of(state)
    assert (result.halted_reason, result.metadata["structured_finalize"], len(result.steps)) == ("completed", "max_turns", 2)


def test_invalid_output_is_asked_for_again_and_forgotten() -> None:
    state, effects = run(begun(form=FORM), Begin(), ModelEnded(answer('{"n": "x"}')), ModelEnded(answer('{"n": 3}')))
    again = [effect.request for effect in effects if isinstance(effect, CallModel)][1]
    assert "n" in again.messages[-1].text
    assert again.messages[-2].text == '{"n": "x"}'
    result = result_of(state)
    assert result.metadata == {"reasks": 1} == result.steps[0].metadata
    assert [message.text for message in result.thread.messages] == ["Hi", '{"n": 3}']
    assert result.usage.input_tokens == 4


def test_an_error_after_a_completed_step_keeps_the_step() -> None:
    half = answer("half", finish="error", error=ERROR)
    state, effects = run(begun(), Begin(), ModelEnded(answer("", call())), ToolFinished(outcome()), Failed(ERROR, half))
    result = result_of(state)
    assert (result.halted_reason, result.error, len(result.steps), result.text) == ("error", ERROR, 1, "half")
    assert len(result.thread.messages) == 3
    assert not any(isinstance(effect, Fail) for effect in effects)


def test_cancelling_in_mid_answer_keeps_and_marks_the_partial() -> None:
    state, effects = run(begun(), Begin(), Cancel(), ModelEnded(answer("half", finish="cancelled")))
    result = result_of(state)
    assert (result.halted_reason, result.text) == ("cancelled", "half")
    assert result.thread.messages[-1].metadata == {"cancelled": True}
    assert any(isinstance(effect, CancelModel) for effect in effects)


def test_cancelling_tools_answers_every_call() -> None:
    state, effects = run(begun(), Begin(), ModelEnded(answer("", call(id="a"), call(id="b"))), ToolFinished(outcome("a")), Cancel())
    result = result_of(state)
    assert [message.tool_call_id for message in result.thread.messages[2:]] == ["a", "b"]
    assert CancelTools(("b",)) in effects
    assert "cancelled" in result.thread.messages[-1].text


def test_what_is_steered_in_reaches_the_next_step() -> None:
    state, _ = run(begun(), Begin(), Steer((user("Wait!"),)), ModelEnded(answer("Done.")))
    assert state.phase == "model"
    assert [message.text for message in state.thread] == ["Hi", "Done.", "Wait!"]


def test_a_loop_that_never_ends_is_ended() -> None:
    state, _ = run(begun(max_turns=3), Begin())
    for turn in range(3):
        state, _ = run(state, ModelEnded(answer("", call(id=f"c{turn}"))), ToolFinished(outcome(f"c{turn}", error=ERROR)))
    assert result_of(state).halted_reason == "max_turns"


def test_what_cannot_come_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        step(begun(), ModelEnded(answer("x")))
