"""What of a long thread is sent, and the repair of calls without a result: laws over any thread, and what a reader would expect."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import allm
from allm import Engine, Message, Thread, ToolCall, ValidationError, keep_last, token_budget
from allm.codec import from_json, to_json
from allm.history import NO_RESULT, apply, estimate, repair
from allm.images import Image
from allm.messages import ImagePart, TextPart, assistant, system, tool_result, user

S, U1, A1, U2, A2, U3 = system("Be brief."), user("one"), assistant("1"), user("two"), assistant("2"), user("three")


def calls(*ids: str, text: str = "") -> Message:
    spoken = (TextPart(text),) if text else ()
    return Message("assistant", (*spoken, *(ToolCall(id, "f", {"n": 1}) for id in ids)))


def result(id: str) -> Message:
    return tool_result(id, f"result of {id}")


def missing(id: str) -> Message:
    return Message("tool", NO_RESULT, tool_call_id=id, metadata={"is_error": True})


CHAT = (S, U1, A1, U2, A2, U3)
LOOP = (S, U1, A1, U2, calls("a", "b"), result("a"), result("b"), calls("c"), result("c"))


@pytest.mark.parametrize(
    ("n", "kept"),
    [(1, (S, U3)), (2, (S, A2, U3)), (3, (S, U2, A2, U3)), (4, (S, A1, U2, A2, U3)), (5, CHAT), (9, CHAT)],
)
def test_the_last_messages_are_kept_and_the_system_messages_before_them(n: int, kept: tuple[Message, ...]) -> None:
    assert apply(keep_last(n), CHAT) == kept


@pytest.mark.parametrize(
    ("n", "kept"),
    [
        (1, (S, U2, calls("c"), result("c"))),  # more than asked for: what cannot be left out
        (3, (S, U2, calls("c"), result("c"))),
        (5, (S, U2, calls("c"), result("c"))),  # a cut inside the results of a and b is none
        (6, LOOP[:1] + LOOP[3:]),
        (8, LOOP),
    ],
)
def test_a_call_is_never_parted_from_its_results_nor_a_turn_from_its_question(n: int, kept: tuple[Message, ...]) -> None:
    assert apply(keep_last(n), LOOP) == kept


def test_a_budget_counts_tokens_and_the_system_messages_among_them() -> None:
    long = (S, user("x" * 400), assistant("y" * 400), U3)
    assert estimate((S, U3)) == 4 + 2 + 4 + 1
    assert apply(token_budget(10_000), long) == long
    assert apply(token_budget(150), long) == (S, long[2], U3)
    assert apply(token_budget(50), long) == (S, U3)
    assert apply(token_budget(1), long) == (S, U3)


def test_images_count_as_much_as_a_page() -> None:
    picture = user([Image.from_binary(b"\x89PNG\r\n\x1a\n", "image/png"), "What is it?"])
    assert isinstance(picture.content, tuple)
    assert isinstance(picture.content[0], ImagePart)
    assert estimate([picture]) == 4 + 1000 + 2
    assert apply(token_budget(500), (picture, A1, U2)) == (A1, U2)


def test_no_policy_sends_everything() -> None:
    assert apply(None, CHAT) == CHAT
    assert apply(None, CHAT, tighter=True) == CHAT


def test_a_thread_without_a_user_or_with_nothing_but_results_is_cut_too() -> None:
    assert apply(keep_last(1), (A1, A2)) == (A2,)
    assert apply(keep_last(1), (S,)) == (S,)
    assert apply(keep_last(1), ()) == ()
    assert apply(keep_last(9), (result("x"), A1)) == (A1,)
    assert apply(keep_last(1), (result("x"), result("y"))) == (result("x"), result("y"))


# Functions of one's own


def questions(thread: Thread) -> Sequence[Message]:
    return [message for message in thread.messages if message.role == "user"]


def shortened(thread: Thread) -> Thread:
    return Thread(thread.messages[-3:])


def nothing(thread: Thread) -> Any:
    return []


def words(thread: Thread) -> Any:
    return ["hello"]


def none(thread: Thread) -> Any:
    return None


def test_a_function_of_the_thread_may_choose() -> None:
    assert apply(questions, CHAT) == (U1, U2, U3)
    assert apply(f"{__name__}:questions", CHAT) == (U1, U2, U3)
    assert apply(shortened, CHAT) == (U2, A2, U3)
    assert apply(shortened, CHAT, tighter=True) == (U3,)


@pytest.mark.parametrize("function", [nothing, words, none])
def test_what_a_function_gives_is_checked(function: Any) -> None:
    with pytest.raises(ValidationError, match=r"engine\.history"):
        apply(function, CHAT)


# Policies as data


@pytest.mark.parametrize("policy", [keep_last(3), token_budget(1_000)])
def test_policies_are_plain_data_also_inside_an_engine(policy: Any) -> None:
    assert from_json(to_json(policy)) == policy
    engine = Engine("fake:any", history=policy)
    document = to_json(engine)
    assert json.loads(document)["history"]["n"] == policy.n
    assert from_json(document, Engine) == engine


@pytest.mark.parametrize("n", [0, -1, 1.5, "3", True, None])
def test_a_policy_keeps_something(n: Any) -> None:
    for make in (keep_last, token_budget):
        with pytest.raises(ValidationError):
            make(n)


# Laws


def _calling(ids: list[str]) -> Message:
    return calls(*ids)


_ids = st.sampled_from(["a", "b", "c"])
_message = st.one_of(
    st.builds(user, st.text("xyz ", max_size=40)),
    st.builds(assistant, st.text("xyz ", max_size=40)),
    st.lists(_ids, min_size=1, max_size=3, unique=True).map(_calling),
    st.builds(result, _ids),
    st.builds(system, st.just("now")),
)
any_thread = st.lists(_message, max_size=12).map(tuple)


@st.composite
def _sound_threads(draw: st.DrawFn) -> tuple[Message, ...]:
    """As the library makes them: each call with its result after it, ids never used twice."""
    thread = [S] * draw(st.integers(0, 2))
    for turn in range(draw(st.integers(0, 4))):
        thread.append(user("u" * draw(st.integers(0, 60))))
        for step in range(draw(st.integers(0, 3))):
            ids = [f"{turn}.{step}.{k}" for k in range(draw(st.integers(0, 3)))]
            thread += [calls(*ids, text="t"), *map(result, ids)]
    return tuple(thread)


sound_threads = _sound_threads()
policies = st.builds(keep_last, st.integers(1, 14)) | st.builds(token_budget, st.integers(1, 200))


def is_subsequence(part: Sequence[Message], whole: Sequence[Message]) -> bool:
    rest = iter(whole)
    return all(any(message is other for other in rest) for message in part)


@example(keep_last(3), (U1, system("now"), result("a"), U2))
@given(policies, any_thread | sound_threads)
def test_a_policy_only_leaves_out_and_does_so_once(policy: Any, thread: tuple[Message, ...]) -> None:
    kept = apply(policy, thread)
    assert is_subsequence(kept, thread)
    assert apply(policy, kept) == kept
    users = [message for message in thread if message.role == "user"]
    if users:
        assert any(message is users[-1] for message in kept)
    front = [m for i, m in enumerate(thread) if all(before.role == "system" for before in thread[: i + 1])]
    assert list(kept[: len(front)]) == front


@given(policies, sound_threads, st.booleans())
def test_what_is_kept_of_a_sound_thread_is_sound(policy: Any, thread: tuple[Message, ...], tighter: bool) -> None:
    kept = apply(policy, thread, tighter)
    assert repair(kept) == kept
    spoken = [message for message in kept if message.role != "system"]
    assert not spoken or spoken[0].role != "tool"
    if thread and thread[-1].role == "tool":
        assert kept[-1] is thread[-1]


@given(st.integers(1, 14), st.integers(0, 9), any_thread | sound_threads)
def test_more_room_never_means_less(n: int, more: int, thread: tuple[Message, ...]) -> None:
    assert is_subsequence(apply(keep_last(n), thread), apply(keep_last(n + more), thread))
    assert is_subsequence(apply(token_budget(n * 9), thread), apply(token_budget((n + more) * 9), thread))


@given(policies, sound_threads)
def test_tighter_is_shorter_as_long_as_more_than_the_last_turn_is_left(policy: Any, thread: tuple[Message, ...]) -> None:
    kept, tight = apply(policy, thread), apply(policy, thread, tighter=True)
    assert is_subsequence(tight, kept)
    spoken = [message for message in kept if message.role != "system"]
    last = max((i for i, message in enumerate(spoken) if message.role == "user"), default=0)
    if last > 0:
        assert len(tight) < len(kept)


@given(st.integers(1, 12), sound_threads)
def test_the_limit_is_kept_unless_what_must_be_there_is_more(n: int, thread: tuple[Message, ...]) -> None:
    kept = apply(keep_last(n), thread)
    smallest = apply(keep_last(1), thread)
    spoken = [message for message in kept if message.role != "system"]
    assert len(spoken) <= n or kept == smallest


# Repair


def test_a_call_without_a_result_gets_one_in_the_order_of_the_calls() -> None:
    thread = (U1, calls("a", "b", "c"), result("b"), U2, calls("d"))
    assert repair(thread) == (U1, calls("a", "b", "c"), missing("a"), result("b"), missing("c"), U2, calls("d"), missing("d"))


def test_calls_that_are_pending_are_left_alone() -> None:
    thread = (U1, calls("a", "b"))
    assert repair(thread, {"a"}) == (U1, calls("a", "b"), missing("b"))
    assert repair(thread, {"a", "b"}) == thread


def test_a_result_that_came_late_is_put_behind_its_call() -> None:
    assert repair((U1, calls("a", "b"), U2, result("a"))) == (U1, calls("a", "b"), result("a"), missing("b"), U2)


def test_results_of_no_call_and_second_results_are_left_out() -> None:
    assert repair((result("x"), U1, calls("a"), result("a"), result("a"), result("y"), A1)) == (U1, calls("a"), result("a"), A1)


def test_an_id_that_is_used_again_belongs_to_the_latest_call() -> None:
    again = tool_result("a", "again")
    assert repair((calls("a"), result("a"), calls("a"), again)) == (calls("a"), result("a"), calls("a"), again)
    assert repair((calls("a"), calls("a"), again)) == (calls("a"), missing("a"), calls("a"), again)


def test_a_tool_message_that_names_no_call_is_left_for_validation_to_refuse() -> None:
    nameless = Message("tool", "?")
    assert repair((U1, nameless, calls("a"))) == (U1, nameless, calls("a"), missing("a"))


@given(any_thread, st.sets(_ids))
def test_repair_answers_every_call_once_changes_nothing_else_and_is_done_once(thread: tuple[Message, ...], pending: set[str]) -> None:
    repaired = repair(thread, pending)
    assert repair(repaired, pending) == repaired
    assert [m for m in repaired if m.role != "tool"] == [m for m in thread if m.role != "tool"]
    given_results = [id(m) for m in thread if m.role == "tool"]
    for message in repaired:
        assert message.role != "tool" or id(message) in given_results or message == missing(message.tool_call_id or "")
    for i, message in enumerate(repaired):
        answered: list[str | None] = []
        for following in repaired[i + 1 :]:
            if following.role != "tool":
                break
            answered.append(following.tool_call_id)
        if message.role == "assistant":
            assert len(set(answered)) == len(answered)
            assert {call.id for call in message.tool_calls} - set(answered) <= pending
            assert set(answered) <= {call.id for call in message.tool_calls}


@given(sound_threads)
def test_a_sound_thread_is_not_touched(thread: tuple[Message, ...]) -> None:
    assert repair(thread) is thread
    assert repair(list(thread)) == thread


def test_the_names_are_public() -> None:
    assert allm.keep_last(2) == allm.KeepLast(2)
    assert allm.token_budget(2) == allm.TokenBudget(2)
