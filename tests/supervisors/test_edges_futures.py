"""O. A future that is answered twice: refused where Pykka refuses it, harmless where the runtime is one of the two."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pykka
import pytest

from allm.supervisors import Actor, ActorExited, ChildSpec, Exit, Supervisor, exit_signal, kill, start_child, stop, wait_started
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.requests import StartChild, StopChild, WhichChildren
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Probe, ask, hold, later, running, spec, tell, wait_ended


@pytest.fixture(params=[None, 1e-6])
def switching(request: pytest.FixtureRequest) -> Iterator[None]:
    """As the threads are, and with a switch at almost every bytecode."""
    before = sys.getswitchinterval()
    if request.param is not None:
        sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


def _keep(kept: list[Reply[Any]], actor: Actor) -> None:
    kept.append(actor.later())


# -- as in Pykka


def test_a_future_with_an_answer_takes_no_second_one_and_no_get_hook() -> None:
    answered: Reply[int] = Reply()
    answered.set(1)
    failed: Reply[int] = Reply()
    failed.fail(KeyError("first"))
    for future in (answered, failed):
        with pytest.raises(queue.Full):
            future.set(2)
        with pytest.raises(queue.Full):
            future.set_exception((ValueError, ValueError("second"), None))  # pyright: ignore[reportArgumentType]
        with pytest.raises(queue.Full):
            future.set_get_hook(lambda _: 3)
    assert answered.get(timeout=0) == 1
    with pytest.raises(KeyError, match="first"):
        failed.get(timeout=0)


def test_a_future_with_a_get_hook_takes_no_answer_but_another_hook() -> None:
    future: Reply[int] = Reply()
    future.set_get_hook(lambda _: 1)
    future.set_get_hook(lambda _: 2)
    with pytest.raises(queue.Full):
        future.set(3)
    try:
        raise ValueError("late")
    except ValueError:
        with pytest.raises(queue.Full):
            future.set_exception()
    assert future.get(timeout=0) == 2


def test_where_two_may_answer_the_first_one_holds_in_silence() -> None:
    future: Reply[int] = Reply()
    future.answer(1)
    future.answer(2)
    future.fail(ValueError("late"))
    assert future.get(timeout=0) == 1
    failed: Reply[int] = Reply()
    failed.fail(KeyError("first"))
    failed.fail(ValueError("second"))
    failed.answer(1)
    with pytest.raises(KeyError, match="first"):
        failed.get(timeout=0)


def test_of_many_threads_that_set_a_future_one_succeeds(switching: None) -> None:
    for number in range(50):
        future: Reply[int] = Reply()
        outcomes: list[int] = []
        barrier = threading.Barrier(4)

        def try_to(way: Callable[[], None], index: int, outcomes: list[int] = outcomes, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(WAIT)
            try:
                way()
            except queue.Full:
                return
            outcomes.append(index)

        ways: list[Callable[[], None]] = [partial(future.set, 0), partial(future.set, 1), partial(future.set, 2)]
        ways.append(partial(future.set_get_hook, lambda _: 3))
        threads = [threading.Thread(target=try_to, args=(way, index)) for index, way in enumerate(ways)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(outcomes) == 1, number
        assert future.get(timeout=0) == outcomes[0]


# -- an actor's answers


def test_an_actor_that_answers_later_twice_is_told_of_its_mistake(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    kept: list[Reply[Any]] = []
    ref = begin(Probe, journal, on=dispatch)
    answer = later(ref, partial(_keep, kept))
    assert ask(ref, "who") == "probe"

    def twice(_: Probe) -> str:
        kept[0].set("first")
        try:
            kept[0].set("second")
        except queue.Full:
            return "refused"
        return "taken"

    assert ask(ref, twice) == "refused"
    assert answer.get(timeout=WAIT) == "first"


@pytest.mark.parametrize("end", ["kill", "stop", "crash"])
def test_what_comes_after_the_end_of_an_actor_is_dropped(begin: Start, dispatch: Dispatcher, journal: Journal, end: str) -> None:
    kept: list[Reply[Any]] = []
    ref = begin(Probe, journal, on=dispatch)
    answers = [later(ref, partial(_keep, kept)) for _ in range(2)]
    assert ask(ref, "who") == "probe"
    if end == "kill":
        kill(ref)
    elif end == "stop":
        stop(ref, timeout=WAIT)
    else:
        tell(ref, "crash")
        wait_ended(ref)
    for answer, late in zip(answers, kept, strict=True):
        with pytest.raises(ActorExited):
            answer.get(timeout=WAIT)
        late.set("late")
        late.set("later still")
        late.set_exception((ValueError, ValueError("late"), None))  # pyright: ignore[reportArgumentType]
        with pytest.raises(ActorExited):
            answer.get(timeout=WAIT)


def test_a_killed_actor_and_its_killer_may_both_answer_and_neither_hears_of_it(
    begin: Start, dispatch: Dispatcher, journal: Journal, switching: None
) -> None:
    errors: list[BaseException] = []
    outcomes: set[str] = set()
    for _ in range(60):
        ref = begin(Probe, journal, on=dispatch)
        kept: list[Reply[Any]] = []
        answer = later(ref, partial(_keep, kept))
        assert ask(ref, "who") == "probe"
        barrier = threading.Barrier(2)

        def give(barrier: threading.Barrier = barrier, kept: list[Reply[Any]] = kept) -> None:
            barrier.wait(WAIT)
            try:
                kept[0].set("answered")
            except BaseException as error:
                errors.append(error)

        giver = threading.Thread(target=give)
        giver.start()
        barrier.wait(WAIT)
        kill(ref)
        giver.join(WAIT)
        try:
            outcomes.add(answer.get(timeout=WAIT))
        except ActorExited as error:
            outcomes.add(error.exit.kind)
    assert not errors
    assert outcomes <= {"answered", "killed"}


def test_an_answer_that_is_put_off_while_its_actor_is_killed_has_an_end(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    class Late(Probe):
        """Takes the message in hand after its kill began to look for it."""

        def later(self) -> Reply[Any]:
            envelope = self.actor_inbox.envelope
            self.actor_inbox.envelope = None
            hold(entered, release, self)
            self.actor_inbox.envelope = envelope
            future = super().later()
            done.set()
            return future

    ref = begin(Late, journal, on=threads)
    answer = later(ref, lambda actor: actor.later())
    assert entered.wait(WAIT)
    kill(ref)
    release.set()
    assert done.wait(WAIT)
    with pytest.raises(ActorExited):
        answer.get(timeout=WAIT)


def test_an_asker_who_answers_for_an_actor_does_it_no_harm(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    for give in ("set", "set_exception", "set_get_hook"):
        entered, release = threading.Event(), threading.Event()
        ref = begin(Probe, journal, on=threads)
        told: list[Any] = []
        answer = later(ref, partial(hold, entered, release))
        answer.add_done_callback(told.append)
        assert entered.wait(WAIT)
        if give == "set":
            answer.set("mine")
        elif give == "set_exception":
            answer.set_exception((KeyError, KeyError("mine"), None))  # pyright: ignore[reportArgumentType]
        else:
            answer.set_get_hook(lambda _: "mine")
        release.set()
        assert ask(ref, "who") == "probe"
        assert told == [answer]
        if give == "set_exception":
            with pytest.raises(KeyError):
                answer.get(timeout=0)
        else:
            assert answer.get(timeout=0) == "mine"
        crashing = later(ref, "crash")
        wait_ended(ref)
        with pytest.raises(RuntimeError):
            crashing.get(timeout=WAIT)


class Plain(Probe):
    """Its asks have Pykka's own futures."""

    @staticmethod
    def _create_future() -> Any:
        future: pykka.ThreadingFuture[Any] = pykka.ThreadingFuture()
        return future


def test_an_actor_answers_by_a_future_that_is_not_ours(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    ref = begin(Plain, journal, on=threads)
    assert ask(ref, "who") == "probe"
    entered, release = threading.Event(), threading.Event()
    mine: Any = ref.ask(partial(hold, entered, release), block=False)
    assert entered.wait(WAIT)
    mine.set("mine")
    release.set()
    assert ask(ref, "who") == "probe"
    assert mine.get(timeout=0) == "mine"
    entered, release = threading.Event(), threading.Event()
    held: Any = ref.ask(partial(hold, entered, release), block=False)
    waiting: Any = ref.ask("who", block=False)
    assert entered.wait(WAIT)
    held.set("mine")
    kill(ref)
    release.set()
    with pytest.raises(ActorExited):
        waiting.get(timeout=WAIT)


# -- supervisors


def test_a_supervisor_outlives_who_answers_its_requests_in_its_place(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    supervisor = begin(Supervisor, [spec(journal, "a")], on=dispatch)
    for request in (WhichChildren(), StopChild("a"), StartChild(spec(journal, "b")), StartChild("no spec"), StopChild("nobody")):
        future = later(supervisor, request)
        future.answer("mine")
    child = start_child(supervisor, spec(journal, "c"))
    exit_signal(child, Exit("error"))
    journal.wait_for(("start", "c"), times=2)
    assert ask(running(supervisor, "c"), "who") == "c"
    wait_started(supervisor, timeout=WAIT)
    child = start_child(supervisor, ChildSpec("d", (Probe, (journal, "d")), restart="temporary"))
    assert ask(child, "who") == "d"
