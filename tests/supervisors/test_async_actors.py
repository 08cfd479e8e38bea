"""Actors whose handlers are coroutines: in order, one at a time, cancelled with their actor."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import math
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias, cast

import pytest
from pykka import ActorDeadError, ActorRef

from allm.supervisors import (
    Actor,
    ActorExited,
    AskCycle,
    Bound,
    ChildSpec,
    Crash,
    Down,
    Exit,
    Exited,
    Fenced,
    LoopDispatcher,
    StartError,
    Supervisor,
    SupervisorError,
    abandoned,
    call,
    child,
    guard,
    kill,
    link,
    monitor,
    pulse,
    restart_child,
    start_and_wait,
    start_child,
    stop,
    subscribe,
    terminate_child,
)
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.events import DeadLetter, SlowTurn
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, ask, later, raised, tell, wait_ended, wait_until


class Cook(Actor):
    """Runs the coroutine functions it is told, with itself; writes down when each begins and how it ends."""

    def __init__(self, journal: Journal, name: str = "cook") -> None:
        super().__init__()
        self.journal, self.name = journal, name

    async def on_start(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.journal.add(("start", self.name))

    async def on_receive(self, message: Any) -> Any:
        if isinstance(message, (Down, Exited)):
            self.journal.add(("heard", type(message).__name__, message.exit.kind))
            return None
        self.journal.add(("begin", self.name, getattr(message, "__name__", message)))
        try:
            return await cast("Handler", message)(self) if callable(message) else message
        except BaseException as error:
            self.journal.add(("broken", type(error).__name__))
            raise
        finally:
            self.journal.add(("end", self.name))

    async def on_exit(self, reason: Exit) -> None:
        await asyncio.sleep(0)
        self.journal.add(("stop", self.name, reason.kind))


class Calm(Cook):
    """Traps exits."""

    trap_exits = True


Handler: TypeAlias = Callable[[Cook], Coroutine[Any, Any, Any]]


def crash(ref: ActorRef[Any]) -> None:
    raised(ref, Crash())


async def forever(_: Cook) -> None:
    await asyncio.Event().wait()


async def stubborn(cook: Cook) -> None:
    """Does not obey: goes on though it is cancelled."""
    while not cook.journal.of("freed"):
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            cook.journal.add("refused")
    try:
        guard()
    except Fenced:
        cook.journal.add("fenced")


async def fail(_: Cook) -> None:
    await asyncio.sleep(0)
    raise ValueError("burnt")


@pytest.fixture
def on(loop: Loop) -> LoopDispatcher:
    return LoopDispatcher(loop.loop)


@pytest.fixture
def cook(begin: Start, journal: Journal, on: LoopDispatcher) -> ActorRef[Any]:
    return begin(Cook, journal, on=on)


@pytest.fixture(autouse=True)
def nothing_relies_on_the_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The net under the scheduler would hide a wake-up that is missing."""
    monkeypatch.setattr(pulse, "_due", [math.inf])


@pytest.fixture(autouse=True)
def asyncio_has_nothing_to_complain_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task is destroyed while it is pending, no exception is never retrieved, no coroutine is never awaited."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR] == []


def gated(loop: Loop, journal: Journal) -> tuple[Callable[[Cook], Coroutine[Any, Any, str]], Callable[[], None]]:
    """A handler that waits for a gate, and the function that opens it."""
    gate = asyncio.Event()

    async def wait(_: Cook) -> str:
        journal.add("waiting")
        await gate.wait()
        return "through"

    return wait, lambda: loop.run(gate.set)


# -- ASYNC-01


def test_ASYNC_01_messages_are_handled_one_at_a_time_in_order_while_other_actors_run(
    begin: Start, journal: Journal, loop: Loop, on: LoopDispatcher, cook: ActorRef[Any]
) -> None:
    wait, release = gated(loop, journal)
    first = later(cook, wait)
    rest = [later(cook, number) for number in range(5)]
    journal.wait_for("waiting")
    neighbour = begin(Cook, journal, "neighbour", on=on)
    assert ask(neighbour, "there") == "there"
    assert journal.of("begin") == [("cook", "wait"), ("neighbour", "there")]
    assert not any(reply.done for reply in rest)
    release()
    assert first.get(timeout=WAIT) == "through"
    assert [reply.get(timeout=WAIT) for reply in rest] == list(range(5))
    assert journal.of("begin")[2:] == [("cook", number) for number in range(5)]


def test_ASYNC_01b_hooks_that_await_keep_their_places(journal: Journal, on: LoopDispatcher) -> None:
    ref = Cook.start_on(on, journal)
    for number in range(3):
        tell(ref, number)
    assert ask(ref, "last") == "last"
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert journal.entries[0] == ("start", "cook")
    assert journal.entries[-1] == ("stop", "cook", "shutdown")
    assert journal.of("begin") == [("cook", message) for message in (0, 1, 2, "last")]


def test_ASYNC_01c_what_a_handler_raises_is_the_askers_and_ends_the_actor(cook: ActorRef[Any], journal: Journal) -> None:
    error = raised(cook, fail)
    assert isinstance(error, ValueError)
    assert error.__traceback__ is None or "on_receive" not in str(error.__traceback__.tb_frame)
    assert wait_ended(cook).kind in ("error", "noproc")
    journal.wait_for(("stop", "cook", "error"))


@pytest.mark.parametrize("raises", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_ASYNC_01d_no_exception_of_a_handler_ends_the_loop(
    begin: Start, journal: Journal, on: LoopDispatcher, raises: type[BaseException]
) -> None:
    async def leave(_: Cook) -> None:
        await asyncio.sleep(0)
        raise raises

    first, second = (begin(Cook, journal, name, on=on) for name in ("first", "second"))
    error = raised(first, leave)
    assert isinstance(error, ActorExited)
    assert error.exit.kind == "error"
    assert ask(second, "lives") == "lives"


def test_ASYNC_01e_exit_and_later_work_in_coroutines(begin: Start, journal: Journal, on: LoopDispatcher) -> None:
    async def answer_later(cook: Cook) -> None:
        reply = cook.later()

        async def work() -> None:
            await asyncio.sleep(0)
            reply.set("late")

        cook.spawn(work())

    async def leave(cook: Cook) -> None:
        await asyncio.sleep(0)
        cook.exit(Exit("tired"))

    ref = begin(Cook, journal, on=on)
    assert ask(ref, answer_later) == "late"
    error = raised(ref, leave)
    assert isinstance(error, ActorExited)
    assert error.exit == Exit("tired")


class Starter(Actor):
    async def on_start(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        raise ValueError("no")


class Shy(Actor):
    async def on_start(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.ignore()


class Stopper(Actor):
    async def on_stop(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        raise LookupError


def test_ASYNC_01f_hooks_that_fail_after_an_await_fail_as_others_do(on: LoopDispatcher) -> None:
    with pytest.raises(StartError) as error:
        start_and_wait(Starter, on=on, timeout=WAIT)
    assert error.value.exit.detail["type"] == "builtins.ValueError"
    with pytest.raises(StartError) as error:
        start_and_wait(Shy, on=on, timeout=WAIT)
    assert error.value.exit.kind == "ignore"
    exit = stop(start_and_wait(Stopper, on=on, timeout=WAIT), timeout=WAIT)
    assert exit.detail["type"] == "builtins.LookupError"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Decorated(Actor):
    @logged
    async def on_receive(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return message

    async def double(self, number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number


def test_ASYNC_01g_decorated_handlers_and_methods_behind_a_proxy_are_awaited(begin: Start, on: LoopDispatcher) -> None:
    ref = begin(Decorated, on=on)
    assert ask(ref, "x") == "x"
    assert ref.proxy().double(4).get(timeout=WAIT) == 8


class AsyncInit(Actor):
    async def on_start(self) -> None: ...  # type: ignore[override]


class AsyncLast(Actor):
    async def on_exit(self, reason: Exit) -> None: ...


class AsyncSupervisor(Supervisor):
    async def on_receive(self, message: Any) -> Any: ...


@pytest.mark.parametrize("kind", [Cook, AsyncInit, AsyncLast, Stopper])
def test_ASYNC_01h_an_async_handler_is_refused_where_nothing_can_await_it(
    begin: Start, threads: Dispatcher, journal: Journal, kind: type[Actor]
) -> None:
    args = (journal,) if kind is Cook else ()
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.on_\w+ is a coroutine function: the actor needs a LoopDispatcher"):
        kind.start_on(threads, *args)
    root = begin(Supervisor, on=threads)
    with pytest.raises(SupervisorError) as error:
        start_child(root, ChildSpec("cook", (kind, args), mailbox="keep"))
    assert error.value.exit is not None
    assert "needs a LoopDispatcher" in error.value.exit.detail["message"]
    with pytest.raises(StartError):
        start_and_wait(Supervisor, [ChildSpec("cook", (kind, args))], on=threads, timeout=WAIT)
    assert journal.entries == []


def test_ASYNC_01i_a_supervisors_hooks_cannot_be_coroutines(on: LoopDispatcher) -> None:
    with pytest.raises(TypeError, match="a supervisor's hooks cannot await"):
        AsyncSupervisor.start_on(on)


def test_ASYNC_01j_a_coroutine_that_a_handler_returns_elsewhere_fails_it_clearly(begin: Start, threads: Dispatcher) -> None:
    ref = begin(Decorated, on=threads)
    error = raised(ref, "x")
    assert isinstance(error, TypeError)
    assert "only an actor on a LoopDispatcher can await it" in str(error)


def test_ASYNC_01k_rings_of_awaited_asks_are_refused(begin: Start, journal: Journal, on: LoopDispatcher) -> None:
    first, second = (begin(Cook, journal, name, on=on) for name in ("first", "second"))

    async def ask_second(_: Cook) -> Any:
        return await second.ask(ask_first, block=False)

    async def ask_first(_: Cook) -> Any:
        with pytest.raises(AskCycle, match="ask cycle"):
            await first.ask("back", block=False)
        return "refused"

    async def ask_self(cook: Cook) -> None:
        with pytest.raises(AskCycle, match="calling_self"):
            await cook.actor_ref.ask("me", block=False)

    assert ask(first, ask_second) == "refused"
    ask(first, ask_self)


def test_ASYNC_01l_what_a_step_tells_is_handled_after_it(begin: Start, journal: Journal, on: LoopDispatcher) -> None:
    other = begin(Cook, journal, "other", on=on)

    async def tell_and_go_on(_: Cook) -> None:
        other.tell("told")
        journal.add("still mine")
        await asyncio.sleep(0)

    ask(begin(Cook, journal, on=on), tell_and_go_on)
    journal.wait_for(("begin", "other", "told"))
    entries = journal.entries
    assert entries.index("still mine") < entries.index(("begin", "other", "told"))


def test_ASYNC_01m_steps_that_hold_the_loop_are_reported(begin: Start, journal: Journal, loop: Loop) -> None:
    seen: list[Any] = []
    unsubscribe = subscribe(seen.append)
    try:
        ref = begin(Cook, journal, on=LoopDispatcher(loop.loop, slow=0.01))

        async def block(_: Cook) -> None:
            await asyncio.sleep(0)
            threading.Event().wait(0.02)

        ask(ref, block)
        assert any(isinstance(event, SlowTurn) and event.actor.startswith("Cook#") for event in seen)
    finally:
        unsubscribe()


# -- ASYNC-02


def test_ASYNC_02_a_stop_cancels_the_handler_and_waits_for_its_cleaning_up(cook: ActorRef[Any], journal: Journal) -> None:
    async def clean(cook: Cook) -> None:
        try:
            await forever(cook)
        finally:
            await asyncio.sleep(0)
            journal.add("clean")

    hanging = later(cook, clean)
    waiting = later(cook, "never")
    journal.wait_for(("begin", "cook", "clean"))
    assert stop(cook, timeout=WAIT) == Exit("shutdown")
    for reply in (hanging, waiting):
        with pytest.raises(ActorExited) as error:
            reply.get(timeout=WAIT)
        assert error.value.exit == Exit("shutdown")
    assert journal.entries[-5:] == [
        ("begin", "cook", "clean"),
        "clean",
        ("broken", "CancelledError"),
        ("end", "cook"),
        ("stop", "cook", "shutdown"),
    ]


def test_ASYNC_02b_a_kill_cancels_the_handler_and_has_no_last_words(cook: ActorRef[Any], journal: Journal) -> None:
    hanging = later(cook, forever)
    journal.wait_for(("begin", "cook", "forever"))
    assert kill(cook)
    with pytest.raises(ActorDeadError):
        hanging.get(timeout=WAIT)
    journal.wait_for(("broken", "CancelledError"))
    assert abandoned(cook) == ()
    assert journal.of("stop") == []


def test_ASYNC_02c_a_handler_that_does_not_obey_is_killed_at_the_deadline_and_fenced(
    begin: Start, journal: Journal, on: LoopDispatcher
) -> None:
    root = begin(Supervisor, [ChildSpec("cook", (Cook, (journal,)), shutdown=0.05)], on=on)
    ref = child(root, "cook")
    assert ref is not None
    tell(ref, stubborn)
    journal.wait_for(("begin", "cook", "stubborn"))
    terminate_child(root, "cook")
    assert journal.of("stop") == []
    assert abandoned(root) == (ref.actor_inbox.name,)  # type: ignore[attr-defined]  # pyright: ignore
    journal.wait_for("refused")
    journal.add(("freed", ""))
    journal.wait_for("fenced")


def test_ASYNC_02d_a_restart_begins_when_the_cancelled_handler_has_ended(begin: Start, journal: Journal, on: LoopDispatcher) -> None:
    specs = [ChildSpec(name, (Cook, (journal, name))) for name in ("first", "second")]
    root = begin(Supervisor, specs, strategy="one_for_all", on=on)
    first, second = child(root, "first"), child(root, "second")
    assert first is not None
    assert second is not None
    tell(second, forever)
    journal.wait_for(("begin", "second", "forever"))
    raised(first, Crash())
    journal.wait_for(("start", "second"), times=2)
    names = [entry for entry in journal.entries if entry in (("start", "second"), ("end", "second"), ("stop", "second", "shutdown"))]
    assert names == [("start", "second"), ("end", "second"), ("stop", "second", "shutdown"), ("start", "second")]
    terminate_child(root, "first")
    assert ask(restart_child(root, "first"), 1) == 1


def test_ASYNC_02e_spawned_tasks_end_with_their_actor_before_its_last_words(cook: ActorRef[Any], journal: Journal) -> None:
    async def begin_work(cook: Cook) -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                journal.add("work ended")

        cook.spawn(work())
        await asyncio.sleep(0)

    ask(cook, begin_work)
    ask(cook, begin_work)
    assert ask(cook, "free") == "free"
    stop(cook, timeout=WAIT)
    assert journal.entries[-3:] == ["work ended", "work ended", ("stop", "cook", "shutdown")]


@pytest.mark.parametrize("end", [kill, stop, crash])
def test_ASYNC_02f_spawned_tasks_end_however_their_actor_does(
    cook: ActorRef[Any], journal: Journal, end: Callable[[ActorRef[Any]], Any]
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def begin_work(cook: Cook) -> None:
        tasks.append(cook.spawn(forever(cook), name="work"))
        await asyncio.sleep(0)

    ask(cook, begin_work)
    end(cook)
    wait_until(lambda: tasks[0].done())
    assert tasks[0].cancelled()
    assert tasks[0].get_name() == "work"


def test_ASYNC_02g_what_a_spawned_task_raises_is_the_actors_failure(cook: ActorRef[Any], journal: Journal) -> None:
    async def begin_failure(cook: Cook) -> None:
        cook.spawn(fail(cook))
        await forever(cook)

    exits: list[Exit] = []
    monitor(cook, lambda down: exits.append(down.exit))
    hanging = later(cook, begin_failure)
    with pytest.raises(ActorExited) as error:
        hanging.get(timeout=WAIT)
    assert error.value.exit.detail["type"] == "builtins.ValueError"
    wait_until(lambda: bool(exits))
    assert exits == [error.value.exit]
    journal.wait_for(("stop", "cook", "error"))


@pytest.mark.parametrize("raises", [SystemExit, KeyboardInterrupt])
def test_ASYNC_02h_a_spawned_task_ends_the_actor_and_not_the_loop(
    begin: Start, journal: Journal, on: LoopDispatcher, raises: type[BaseException]
) -> None:
    async def leave() -> None:
        await asyncio.sleep(0)
        raise raises

    async def begin_leaving(cook: Cook) -> None:
        cook.spawn(leave())

    async def begin_exit(cook: Cook) -> None:
        async def tire() -> None:
            cook.exit(Exit("tired"))

        cook.spawn(tire())

    first, second = (begin(Cook, journal, name, on=on) for name in ("first", "second"))
    ask(first, begin_leaving)
    journal.wait_for(("stop", "first", "error"))
    ask(second, begin_exit)
    journal.wait_for(("stop", "second", "tired"))
    assert ask(begin(Cook, journal, on=on), "lives") == "lives"


def test_ASYNC_02i_a_result_of_a_spawned_task_can_be_awaited_and_its_effects_are_the_actors(cook: ActorRef[Any], journal: Journal) -> None:
    async def watch_and_wait(cook: Cook) -> int:
        async def work() -> int:
            monitor(cook.actor_ref)  # to whom, if not to this actor
            return 7

        return await cook.spawn(work())

    assert ask(cook, watch_and_wait) == 7


class Plain(Actor):
    """Has no coroutine function of its own."""

    def on_receive(self, message: Any) -> Any:
        self.spawn(message)


async def elsewhere(journal: Journal) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        journal.add("ended")


def test_ASYNC_02j_any_actor_on_a_loop_may_spawn_and_no_other(
    begin: Start, journal: Journal, on: LoopDispatcher, threads: Dispatcher
) -> None:
    ref = begin(Plain, on=on)
    assert ask(ref, elsewhere(journal)) is None
    loop_turn = begin(Cook, journal, on=on)
    ask(loop_turn, "a turn later it runs")
    stop(ref, timeout=WAIT)
    journal.wait_for("ended")
    error = raised(begin(Plain, on=threads), elsewhere(journal))
    assert isinstance(error, TypeError)
    assert "needs a LoopDispatcher" in str(error)


def test_ASYNC_02k_links_and_trapped_exits_meet_a_handler_that_awaits(
    begin: Start, journal: Journal, loop: Loop, on: LoopDispatcher
) -> None:
    wait, release = gated(loop, journal)
    calm, linked, victim = (begin(kind, journal, name, on=on) for kind, name in ((Calm, "calm"), (Cook, "linked"), (Cook, "victim")))
    link(calm, victim)
    link(linked, victim)
    through = later(calm, wait)
    hanging = later(linked, forever)
    journal.wait_for("waiting", ("begin", "linked", "forever"))
    raised(victim, Crash())
    with pytest.raises(ActorExited) as error:
        hanging.get(timeout=WAIT)
    assert error.value.exit.kind == "error"
    assert journal.of("heard") == []
    release()
    assert through.get(timeout=WAIT) == "through"
    journal.wait_for(("heard", "Exited", "error"))
    assert ask(calm, "lives") == "lives"


def test_ASYNC_02l_a_kept_mailbox_keeps_what_waits_and_delivers_what_was_cut_short_again(
    begin: Start, journal: Journal, on: LoopDispatcher
) -> None:
    specs = [
        ChildSpec("first", (Cook, (journal, "first"))),
        ChildSpec("kept", (Cook, (journal, "kept")), mailbox="keep", max_redeliver=1),
    ]
    root = begin(Supervisor, specs, strategy="one_for_all", max_restarts=5, on=on)
    kept, first = child(root, "kept"), child(root, "first")
    assert kept is not None
    assert first is not None
    seen: list[Any] = []
    unsubscribe = subscribe(seen.append)
    try:
        tell(kept, forever)
        answers = [later(kept, number) for number in range(3)]
        journal.wait_for(("begin", "kept", "forever"))
        raised(first, Crash())
        journal.wait_for(("begin", "kept", "forever"), times=2)
        again = child(root, "kept")
        assert again is not None
        kill(again)
        assert [reply.get(timeout=WAIT) for reply in answers] == [0, 1, 2]
        assert [event.message for event in seen if isinstance(event, DeadLetter)] == [forever]
    finally:
        unsubscribe()
    assert journal.of("begin") == [("kept", message) for message in ("forever", "forever", 0, 1, 2)]


class Narrow(Cook):
    bound = Bound(1, "drop_newest")


def test_ASYNC_02m_a_bounded_mailbox_drops_while_a_handler_awaits(begin: Start, journal: Journal, loop: Loop, on: LoopDispatcher) -> None:
    wait, release = gated(loop, journal)
    ref = begin(Narrow, journal, on=on)
    first = later(ref, wait)
    journal.wait_for("waiting")
    tell(ref, 1)
    tell(ref, 2)
    release()
    first.get(timeout=WAIT)
    assert ask(ref, 3) == 3
    assert journal.of("begin") == [("cook", "wait"), ("cook", 1), ("cook", 3)]


class Slow(Actor):
    async def on_start(self) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


def test_ASYNC_02n_a_start_that_awaits_too_long_is_ended_at_its_time(begin: Start, on: LoopDispatcher) -> None:
    root = begin(Supervisor, on=on)
    with pytest.raises(SupervisorError) as error:
        start_child(root, ChildSpec("slow", (Slow, ()), start_timeout=0.02))
    assert error.value.exit == Exit("error", "start_timeout")
    ref = Slow.start_on(on)
    assert stop(ref, timeout=WAIT) == Exit("shutdown")


def test_ASYNC_02o_a_stop_of_pykkas_waits_its_turn(cook: ActorRef[Any], journal: Journal, loop: Loop) -> None:
    wait, release = gated(loop, journal)
    first = later(cook, wait)
    journal.wait_for("waiting")
    stopped: Any = cook.stop(block=False)
    release()
    assert first.get(timeout=WAIT) == "through"
    assert stopped.get(timeout=WAIT) is True


def test_ASYNC_02p_an_actor_of_a_closed_loop_is_let_go(journal: Journal) -> None:
    own = Loop()
    ref = start_and_wait(Cook, journal, on=LoopDispatcher(own.loop), timeout=WAIT)
    hanging = later(ref, forever)
    journal.wait_for(("begin", "cook", "forever"))
    own.close()
    assert kill(ref)
    with pytest.raises(ActorExited):
        hanging.get(timeout=WAIT)
    with pytest.raises(ActorDeadError):
        call(ref, "x")


def test_ASYNC_02q_kills_stops_and_messages_race_without_a_lost_ask(journal: Journal, on: LoopDispatcher) -> None:
    class Busy(Actor):
        async def on_receive(self, message: int) -> int:
            await asyncio.sleep(0)
            return message

        async def on_exit(self, reason: Exit) -> None:
            await asyncio.sleep(0)

    def send(ref: ActorRef[Any], replies: list[Any], enough: int, ready: threading.Event) -> None:
        for number in range(40):
            replies.append(ref.ask(number, block=False))
            if number == enough:
                ready.set()

    for turn in range(60):
        ref = start_and_wait(Busy, on=on, timeout=WAIT)
        replies: list[Any] = []
        ready = threading.Event()

        sender = threading.Thread(target=send, args=(ref, replies, turn % 20, ready))
        sender.start()
        assert ready.wait(WAIT)
        if turn % 2:
            kill(ref)
        else:
            stop(ref, timeout=WAIT)
        sender.join(WAIT)
        answered = 0
        for number, reply in enumerate(replies):
            try:
                assert reply.get(timeout=WAIT) == number == answered
                answered += 1
            except ActorDeadError:
                pass
