"""K. Servers, links, monitors, timers."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    ActorExited,
    AskCycle,
    CallTimeout,
    Exit,
    Exited,
    LoopTimers,
    ManualTimers,
    StartError,
    ThreadTimers,
    call,
    cast,
    demonitor,
    exit_signal,
    kill,
    link,
    monitor,
    stop,
    unlink,
)
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.lifetime import start_and_wait, wait_started
from allm.supervisors.monitors import Down
from allm.supervisors.registry import Registry
from allm.supervisors.timers import Timers
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, ask, raised, wait_ended


class Trapping(Probe):
    """Gets exits as messages."""

    trap_exits = True


def test_PROC_01_start_and_wait_returns_when_init_is_done_and_fails_with_it(dispatch: Dispatcher, begin: Start, journal: Journal) -> None:
    begin(Probe, journal, "a", on=dispatch)
    assert journal.of("start") == ["a"]
    for plan, kind in ((["fail"], "error"), (["ignore"], "ignore"), (["exit"], "error")):
        with pytest.raises(StartError) as error:
            start_and_wait(Probe, journal, "b", plan, on=dispatch, timeout=WAIT)
        assert error.value.exit.kind == kind


def test_PROC_02_a_call_to_oneself_is_refused_at_once(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=threads)

    def call_self(_: Probe) -> list[str]:
        refusals: list[str] = []
        for function in (lambda: call(ref, "called"), lambda: ref.ask("asked"), lambda: stop(ref)):
            with pytest.raises(AskCycle) as error:
                function()
            refusals.append(str(error.value))
        return refusals

    before = time.monotonic()
    assert all("calling_self" in text for text in ask(ref, call_self))
    assert time.monotonic() - before < WAIT / 2
    assert ask(ref, "last") == "last"
    assert ("message", "probe", "called") not in journal.entries  # refused before it was sent; Pykka's own `ask` sends first


def test_PROC_03_a_timeout_names_server_request_and_time(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    gate = threading.Event()
    ref = begin(Probe, journal, "slow", on=threads)
    caller = begin(Probe, journal, "caller", on=threads)

    def be_slow(_: Probe) -> bool:
        return gate.wait(WAIT)

    def call_slow(_: Probe) -> str:
        with pytest.raises(CallTimeout) as error:
            call(ref, be_slow, timeout=0.01)
        return str(error.value)

    text = ask(caller, call_slow)
    assert "Probe#" in text
    assert "function" in text
    assert "0.01 seconds" in text
    gate.set()
    ask(ref, "flush")
    assert ask(caller, "next") == "next"
    assert journal.of("message") == [("slow", "flush"), ("caller", "next")]  # the late reply came to nobody


def test_PROC_04_calls_to_the_dead_fail_at_once_and_casts_are_silent(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Probe, journal, on=dispatch, timeout=WAIT)
    stop(ref, timeout=WAIT)
    nobody = Registry().via("nobody")
    for address in (ref, nobody):
        with pytest.raises(ActorExited) as error:
            call(address, "x", timeout=None)
        assert error.value.exit == Exit("noproc")
        cast(address, "x")


def test_PROC_05_who_waits_gets_the_exit_of_the_dying_server(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=dispatch)
    error = raised(ref, Exit("overheated", {"degrees": 90}))
    assert isinstance(error, ActorExited)
    assert error.exit == Exit("overheated", {"degrees": 90})
    waiting: list[Any] = []

    def queue_and_leave(probe: Probe) -> None:
        waiting.append(probe.actor_ref.ask("queued", block=False))
        waiting.append(probe.later())
        probe.exit(Exit("gone_fishing"))

    ref = begin(Probe, journal, on=dispatch)
    first = ref.ask(queue_and_leave, block=False)
    for future in (first, *waiting):
        with pytest.raises(ActorExited) as caught:
            future.get(timeout=WAIT)
        assert caught.value.exit.kind == "gone_fishing"


def test_PROC_06_stop_is_synchronous_and_noproc_for_the_dead(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Probe, journal, "a", on=dispatch, timeout=WAIT)
    assert stop(ref, Exit("enough"), timeout=WAIT) == Exit("enough")
    assert journal.entries[-1] == ("stop", "a", "enough")
    assert not ref.is_alive()
    assert stop(ref, timeout=WAIT) == Exit("noproc")
    assert ref.stop(timeout=WAIT) is False


def test_PROC_07_messages_of_one_sender_keep_their_order(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)

    def send(sender: str) -> None:
        for number in range(300):
            ref.tell((sender, number))

    senders = [threading.Thread(target=send, args=(name,)) for name in "xyz"]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join(WAIT)
    ask(ref, "last")
    got = [message for _, message in journal.of("message")]
    for sender in "xyz":
        assert [number for name, number in got[:-1] if name == sender] == list(range(300))


def test_PROC_08_monitor_delivers_one_down(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    watcher = begin(Probe, journal, "w", on=dispatch)
    target = begin(Probe, journal, "t", on=dispatch)
    watch = ask(watcher, lambda _: monitor(target))
    raised(target, Exit("tired"))
    journal.wait_for(("message", "w", Down(watch, target, Exit("tired"))))
    late = ask(watcher, lambda _: monitor(target))
    journal.wait_for(("message", "w", Down(late, target, Exit("noproc"))))
    assert len(journal.of("message")) == 2
    assert demonitor(watch) is False


def test_PROC_08b_demonitor_with_flush_removes_a_pending_down(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    watcher = begin(Probe, journal, "w", on=dispatch)
    target = begin(Probe, journal, "t", on=dispatch)
    kept = begin(Probe, journal, "k", on=dispatch)
    assert ask(watcher, lambda _: demonitor(monitor(kept))) is True

    def die_then_flush(_: Probe) -> None:
        watch = monitor(target)
        kill(target)
        assert demonitor(watch, flush=True) is False

    ask(watcher, die_then_flush)
    ask(watcher, "last")
    assert journal.of("message") == [("w", "last")]


def test_PROC_08c_outside_of_actors_say_who_is_told(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    target = begin(Probe, journal, on=dispatch)
    with pytest.raises(RuntimeError, match="say for whom"):
        monitor(target)
    receiver = begin(Probe, journal, "r", on=dispatch)
    watch = monitor(target, receiver)
    stop(target, timeout=WAIT)
    journal.wait_for(("message", "r", Down(watch, target, Exit("shutdown"))))


def test_PROC_09_a_normal_exit_signal_ends_only_oneself(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)
    exit_signal(ref, Exit("normal"))
    assert ask(ref, "who") == "a"
    ask(ref, lambda probe: exit_signal(probe.actor_ref, Exit("normal")))
    journal.wait_for(("stop", "a", "normal"))
    other = begin(Probe, journal, "b", on=dispatch)
    exit_signal(other, Exit("enough"))
    journal.wait_for(("stop", "b", "enough"))
    trapping = begin(Trapping, journal, "c", on=dispatch)
    exit_signal(trapping, Exit("enough"))
    journal.wait_for(("message", "c", Exited(trapping, Exit("enough"))))


def test_links_share_the_end_unless_it_is_normal_or_trapped(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    a, b, c, d = (begin(kind, journal, kind.__name__, on=dispatch) for kind in (Probe, Probe, Trapping, Probe))
    link(a, b)
    link(a, c)
    link(a, d)
    unlink(a, d)
    link(a, a)
    raised(a, Exit("shutdown"))
    wait_ended(b)
    journal.wait_for(("message", "Trapping", Exited(a, Exit("shutdown"))))
    assert ask(d, "who") == "Probe"
    link(c, d)
    raised(c, Exit("normal"))
    assert ask(d, "who") == "Probe"


def delivers_once(timers: Timers, ref: ActorRef[Any], journal: Journal) -> None:
    first = timers.send_after(0.01, ref, "after")
    taken = timers.send_after(60, ref, "never")
    left = taken.remaining()
    assert left is not None
    assert 50 < left <= 60
    left = taken.cancel()
    assert left is not None
    assert (taken.cancel(), taken.remaining()) == (None, None)
    timers.send_at(timers.now() + 0.02, ref, "at")
    journal.wait_for(("message", "a", "after"), ("message", "a", "at"))
    assert (first.remaining(), first.cancel()) == (None, None)
    assert journal.of("message") == [("a", "after"), ("a", "at")]


def test_PROC_10_timers_deliver_once_can_be_read_and_cancelled(begin: Start, dispatch: Dispatcher, loop: Loop, journal: Journal) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)
    delivers_once(dispatch.timers, ref, journal)


def test_PROC_10b_timers_of_a_loop_work_from_other_threads(begin: Start, threads: Dispatcher, loop: Loop, journal: Journal) -> None:
    delivers_once(LoopTimers(loop.loop), begin(Probe, journal, "a", on=threads), journal)


def test_PROC_10c_a_dead_receiver_is_no_error_and_time_can_be_driven_by_hand(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Probe, journal, "a", on=dispatch, timeout=WAIT)
    timers = ManualTimers()
    timers.send_after(1, ref, "one")
    timers.send_at(2, ref, "two")
    timers.advance(1)
    ask(ref, "now")
    stop(ref, timeout=WAIT)
    timers.advance(1)
    assert journal.of("message") == [("a", "one"), ("a", "now")]


def test_many_timers_that_are_cancelled_are_forgotten(journal: Journal, begin: Start, threads: Dispatcher) -> None:
    timers = ThreadTimers(linger=0.01)
    ref = begin(Probe, journal, "a", on=threads)
    for timer in [timers.send_after(60, ref, "never") for _ in range(1000)]:
        timer.cancel()
    timers.send_after(0, ref, "soon")
    journal.wait_for(("message", "a", "soon"))


def test_a_start_that_waits_for_a_thread_ends_with_the_wait(dispatch: Dispatcher, journal: Journal) -> None:
    ref = Probe.start_on(dispatch, journal, "a")
    wait_started(ref, WAIT)
    assert isinstance(ref.proxy().actor_ref, ActorRef)
    assert ref.proxy().name.get(timeout=WAIT) == "a"
    ref.proxy().plan = ["x"]
    assert ref.proxy().plan.get(timeout=WAIT) == ["x"]
    assert ref.proxy().on_receive("call").get(timeout=WAIT) == "call"
    stop(ref, timeout=WAIT)


def test_an_actor_without_hooks_logs_and_lives(dispatch: Dispatcher) -> None:
    ref = start_and_wait(Actor, on=dispatch, timeout=WAIT)
    assert ask(ref, "what") is None
    ref.actor_inbox.put_signal("odd")  # type: ignore[attr-defined]  # pyright: ignore
    assert ask(ref, "what") is None
    stop(ref, timeout=WAIT)
