"""TIME-01, and EDGE-26 where it is about timers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from allm.supervisors import (
    Actor,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    GiveUp,
    ManualTimers,
    ReceiveTimeout,
    Restart,
    Supervisor,
    ThreadTimers,
    stop,
)
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.timers import LoopTimers, Timers
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, ask, hold, running, spec, tell, wait_until

# -- timers and incarnations


def test_EDGE_26_a_timer_of_an_incarnation_does_not_reach_the_next_one(supervise: Start, journal: Journal) -> None:
    timers = ManualTimers()
    root = supervise([spec(journal, "a", mailbox="keep")], max_restarts=10)
    ref = running(root, "a")

    def arm(probe: Any) -> None:
        timers.send_after(1, probe.actor_ref, "of the first")
        timers.send_every(1, probe.actor_ref, "again and again")

    ask(ref, arm)
    timers.send_after(1, ref, "of a stranger")
    tell(ref, "crash")
    journal.wait_for(("start", "a"), times=2)
    timers.advance(3)
    journal.wait_for(("message", "a", "of a stranger"))
    assert ask(ref, "who") == "a"
    assert [entry[2] for entry in journal.entries if entry[0] == "message"] == ["of a stranger"]
    assert timers.pending() == []


def test_EDGE_26_nor_does_one_whose_message_waits_already(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    root = begin(Supervisor, [spec(journal, "a", mailbox="keep")], on=threads, max_restarts=10)
    ref = running(root, "a")
    entered, release = threading.Event(), threading.Event()

    def arm_and_crash(probe: Any) -> None:
        timers.send_after(1, probe.actor_ref, "of the first")
        hold(entered, release, probe)
        raise RuntimeError("crash")

    tell(ref, arm_and_crash)
    assert entered.wait(WAIT)
    timers.advance(1)
    tell(ref, "of a stranger")
    release.set()
    journal.wait_for(("message", "a", "of a stranger"))
    assert [entry[2] for entry in journal.entries if entry[0] == "message"] == ["of a stranger"]


class EarlyBird(Actor):
    """Sets a timer before it runs; its first incarnation ends."""

    def __init__(self, timers: Timers, journal: Journal, number: list[int]) -> None:
        super().__init__()
        self.journal, self.number = journal, number.pop(0)
        timers.send_after(1, self.actor_ref, self.number)

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise RuntimeError("crash")
        self.journal.add((self.number, message))
        return message


def test_EDGE_26_a_timer_set_in_init_belongs_to_the_incarnation_too(supervise: Start, journal: Journal) -> None:
    timers = ManualTimers()
    root = supervise([ChildSpec("a", (EarlyBird, (timers, journal, [1, 2])), mailbox="keep")], max_restarts=10)
    ref = running(root, "a")
    tell(ref, "crash")
    wait_until(lambda: len(timers.pending()) == 2 and ref.is_alive())
    assert ask(ref, "there") == "there"
    timers.advance(1)
    assert ask(ref, "there") == "there"
    assert journal.entries == [(2, "there"), (2, 2), (2, "there")]


def test_EDGE_26_a_timer_s_message_in_its_own_incarnation_is_plain(supervise: Start, journal: Journal) -> None:
    timers = ManualTimers()
    ref = running(supervise([spec(journal, "a", mailbox="keep")]), "a")

    def arm(probe: Any) -> None:
        timers.send_after(1, probe.actor_ref, "tick")

    ask(ref, arm)
    timers.advance(1)
    journal.wait_for(("message", "a", "tick"))


# -- intervals


@pytest.fixture(params=["manual", "thread", "loop"])
def advancing(request: pytest.FixtureRequest, loop: Loop) -> Iterator[tuple[Timers, Callable[[float], object]]]:
    """A source of timers, and how to let its time pass: all but the manual one do it by themselves."""
    if request.param == "manual":
        timers = ManualTimers()
        yield timers, timers.advance
    else:
        yield LoopTimers(loop.loop) if request.param == "loop" else ThreadTimers(), lambda _: None


def test_TIME_01_a_message_comes_again_and_again_until_it_is_cancelled(
    begin: Start, dispatch: Dispatcher, journal: Journal, advancing: tuple[Timers, Callable[[float], object]]
) -> None:
    timers, advance = advancing
    ref = begin(Probe, journal, "a", on=dispatch)
    timer = timers.send_every(0.01, ref, "tick")
    for _ in range(3):
        advance(0.01)
    journal.wait_for(("message", "a", "tick"), times=3)
    assert timer.remaining() is not None
    assert timer.cancel() is not None
    assert timer.cancel() is None
    assert timer.remaining() is None
    ask(ref, "who")
    count = len(journal.of("message"))
    advance(1)
    ask(ref, "who")
    assert len(journal.of("message")) <= count + 1  # one may have been on its way


def test_TIME_01_an_interval_ends_with_its_actor(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    ref = begin(Probe, journal, "a", on=dispatch)
    timer = timers.send_every(1, ref, "tick")
    timers.advance(2)
    journal.wait_for(("message", "a", "tick"), times=2)
    stop(ref, timeout=WAIT)
    timers.advance(1)
    assert timers.pending() == []
    assert timer.remaining() is None


def test_TIME_01_times_that_passed_unused_are_left_out(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    now = [0.0]
    timers = ThreadTimers(lambda: now[0])
    ref = begin(Probe, journal, "a", on=dispatch)
    timer = timers.send_every(1, ref, "tick")
    now[0] = 5.5
    timers.cancelled()  # have the thread look
    assert timers.help() or journal.wait_for(("message", "a", "tick"))
    wait_until(lambda: timer.remaining() == 0.5)
    ask(ref, "who")
    assert journal.of("message") == [("a", "tick")]
    timer.cancel()


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_TIME_01_an_interval_that_is_none_is_refused(
    begin: Start, dispatch: Dispatcher, journal: Journal, advancing: tuple[Timers, Callable[[float], object]], interval: float
) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)
    with pytest.raises(ValueError, match="interval"):
        advancing[0].send_every(interval, ref, "tick")


# -- receive timeouts


class Session(Actor):
    """Writes down what it gets; `timeout` is set in `on_start`."""

    def __init__(self, journal: Journal, timeout: float | None) -> None:
        super().__init__()
        self.journal, self.timeout = journal, timeout

    def on_start(self) -> None:
        self.receive_timeout(self.timeout)

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.journal.add(message)
        return message


def test_TIME_01_an_actor_that_hears_nothing_for_a_while_is_told_so(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Session, journal, 0.02, on=dispatch)
    journal.wait_for(ReceiveTimeout(0.02), times=3)
    ask(ref, lambda session: session.receive_timeout(None))
    count = len(journal.entries)
    ask(ref, "a message")
    ask(ref, lambda session: session.receive_timeout(0.03))
    journal.wait_for(ReceiveTimeout(0.03))
    assert journal.entries[count] == "a message"
    assert ReceiveTimeout(0.02) not in journal.entries[count:]


def test_TIME_01_each_message_puts_the_receive_timeout_off(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    root = begin(Supervisor, [ChildSpec("a", (Session, (journal, 10)))], on=dispatch, timers=timers)
    ref = running(root, "a")
    for _ in range(5):
        timers.advance(9)
        ask(ref, "a message")
    assert ReceiveTimeout(10) not in journal.entries
    timers.advance(9)
    ask(ref, lambda session: None)
    timers.advance(9)
    ask(ref, lambda session: None)
    timers.advance(10)
    assert ask(ref, "the end") == "the end"
    assert journal.entries == [*["a message"] * 5, ReceiveTimeout(10), "the end"]
    stop(ref, timeout=WAIT)
    timers.advance(100)
    assert timers.pending() == []


def test_TIME_01_a_receive_timeout_ends_with_its_incarnation(supervise: Start, journal: Journal) -> None:
    class Once(Session):
        """Its first incarnation alone waits."""

        starts: list[int] = []

        def on_start(self) -> None:
            self.starts.append(1)
            if len(self.starts) == 1:
                self.receive_timeout(0.02)

        def on_receive(self, message: Any) -> Any:
            super().on_receive(message)
            raise RuntimeError("crash")

    root = supervise([ChildSpec("a", (Once, (journal, None)), mailbox="keep")])
    journal.wait_for(ReceiveTimeout(0.02))
    wait_until(lambda: len(Once.starts) == 2)
    threading.Event().wait(0.06)
    assert journal.entries == [ReceiveTimeout(0.02)]
    assert running(root, "a").is_alive()


def test_TIME_01_a_receive_timeout_that_is_none_is_refused(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Session, journal, None, on=dispatch)

    def refused(session: Any) -> None:
        for seconds in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="receive timeout"):
                session.receive_timeout(seconds)

    ask(ref, refused)


# -- timers of supervisors


def test_TIME_01_timers_given_to_a_supervisor_are_those_of_all_below_it(supervise: Start, journal: Journal) -> None:
    timers, own = ManualTimers(), ManualTimers()
    waiting = spec(journal, "waits", ["ok", "ok"], policy=Later())
    mid = ChildSpec("mid", (Supervisor, ([waiting],)))
    other = ChildSpec("other", (DynamicSupervisor, (), {"timers": own}))
    root = supervise([mid, other, spec(journal, "worker")], timers=timers)
    tell(running(running(root, "mid"), "waits"), "crash")
    wait_until(lambda: timers.pending() == [30.0])
    timers.advance(30)
    journal.wait_for(("start", "waits"), times=2)
    assert ask(running(root, "worker"), lambda probe: probe.actor_inbox.timers is timers)
    assert running(root, "other").actor_inbox.timers is own  # type: ignore[attr-defined]


class Later:
    """Restarts after half a minute, at most three times in a row; a run of a minute is a new beginning."""

    reset_after = 60.0

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
        self.attempts.append(attempt)
        return Restart(30.0) if attempt <= 3 else GiveUp()


def test_TIME_01_a_good_run_resets_a_policy_s_count_of_attempts(supervise: Start, journal: Journal) -> None:
    timers, policy = ManualTimers(), Later()
    root = supervise([spec(journal, "a", policy=policy)], timers=timers)

    def fail_after(seconds: float, times: int) -> None:
        timers.advance(seconds)
        tell(running(root, "a"), "crash")
        wait_until(lambda: timers.pending() == [30.0])
        timers.advance(30)
        journal.wait_for(("start", "a"), times=times)
        running(root, "a")

    for number, seconds in enumerate((0, 60, 61, 1, 1, 100)):
        fail_after(seconds, number + 2)
    assert policy.attempts == [1, 2, 1, 2, 3, 1]
