"""F. Stopping. Where a child does not obey, it holds a thread: those tests leave the loop out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    ActorExited,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    ManualTimers,
    Refused,
    StartChild,
    StopChild,
    Supervisor,
    child,
    events,
    stop,
    subscribe,
    unlink,
)
from allm.supervisors.admin import start_child, terminate_child, which_child, which_children
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.lifetime import kill, start_and_wait
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Deaf, Hooked, Journal, Probe, Watched, ask, running, spec, wait_until


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends the deaf children of a test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def reports() -> Iterator[list[events.SupervisorReport]]:
    seen: list[Any] = []
    take_back = subscribe(lambda event: seen.append(event) if isinstance(event, events.SupervisorReport) else None)
    yield seen
    take_back()


def deaf(journal: Journal, name: Any, release: threading.Event, **options: Any) -> ChildSpec:
    return ChildSpec(name, (Deaf, (journal, name, release)), **options)


def test_STOP_01_children_stop_in_reverse_start_order(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Supervisor, [spec(journal, name) for name in "abcd"], on=dispatch, timeout=WAIT)
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert journal.of("stop") == [(name, "shutdown") for name in "dcba"]


def test_STOP_02_a_timed_shutdown_is_a_signal_that_a_child_obeys(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a", shutdown=5)], timers=ManualTimers())
    terminate_child(ref, "a")
    assert ("stop", "a", "shutdown") in journal.entries


@pytest.mark.parametrize("kind", [Watched, Hooked])
def test_STOP_03_who_does_not_obey_in_time_is_killed_and_the_rest_goes_on(
    threads: Dispatcher, journal: Journal, release: threading.Event, kind: Any
) -> None:
    timers = ManualTimers()
    ref = start_and_wait(kind, journal, timers=timers, on=threads, timeout=WAIT)
    start_child(ref, spec(journal, "a"))
    start_child(ref, deaf(journal, "b", release, shutdown=5))
    done = ref.stop(block=False)
    journal.wait_for(("deaf", "b"))
    if kind is Hooked:  # in parallel: give the other one the time to obey
        journal.wait_for(("gone", "a", "shutdown"))
    timers.advance(4.9)
    assert ("gone", "b", "killed") not in journal.entries
    timers.advance(0.2)
    assert done.get(timeout=WAIT)
    assert ("gone", "b", "killed") in journal.entries
    assert ("gone", "a", "shutdown") in journal.entries


def test_STOP_04_infinity_waits(threads: Dispatcher, journal: Journal, release: threading.Event) -> None:
    timers = ManualTimers()
    ref = start_and_wait(Watched, journal, [deaf(journal, "a", release, shutdown="infinity")], timers=timers, on=threads, timeout=WAIT)
    done = ref.stop(block=False)
    journal.wait_for(("deaf", "a"))
    timers.advance(1e9)
    assert timers.pending() == []
    release.set()
    assert done.get(timeout=WAIT)
    assert ("gone", "a", "shutdown") in journal.entries


@pytest.mark.parametrize("kind", [Watched, Hooked])
def test_STOP_05_brutal_kill_leaves_no_chance(dispatch: Dispatcher, journal: Journal, kind: Any) -> None:
    ref = start_and_wait(kind, journal, on=dispatch, timeout=WAIT)
    start_child(ref, spec(journal, "a", shutdown="brutal_kill"))
    stop(ref, timeout=WAIT)
    assert journal.of("stop") == []
    assert ("gone", "a", "killed") in journal.entries


@pytest.mark.parametrize("kind", [Watched, Hooked])
def test_STOP_06_each_child_gets_its_own_treatment(threads: Dispatcher, journal: Journal, release: threading.Event, kind: Any) -> None:
    timers = ManualTimers()
    ref = start_and_wait(kind, journal, timers=timers, on=threads, timeout=WAIT)
    start_child(ref, spec(journal, "obeys", shutdown=1))
    start_child(ref, spec(journal, "brutal", shutdown="brutal_kill"))
    start_child(ref, spec(journal, "patient", shutdown="infinity"))
    start_child(ref, deaf(journal, "deaf", release, shutdown=2))
    done = ref.stop(block=False)
    journal.wait_for(("deaf", "deaf"))
    if kind is Hooked:
        journal.wait_for(("gone", "obeys", "shutdown"), ("gone", "patient", "shutdown"))
    timers.advance(2)
    assert done.get(timeout=WAIT)
    kinds = dict(journal.of("gone"))
    assert kinds == {"obeys": "shutdown", "brutal": "killed", "patient": "shutdown", "deaf": "killed"}


def test_STOP_07_children_that_die_meanwhile_do_not_disturb(dispatch: Dispatcher, journal: Journal) -> None:
    class Vicious(Probe):
        """Takes its siblings down while it stops."""

        def on_exit(self, reason: Exit) -> None:
            super().on_exit(reason)
            for sibling in siblings:
                kill(sibling, Exit("collateral"))

    children = [spec(journal, name, restart=kind) for name, kind in zip("abc", KINDS, strict=True)]
    ref = start_and_wait(Watched, journal, [*children, ChildSpec("v", (Vicious, (journal, "v")))], on=dispatch)
    siblings = [info.ref for info in which_children(ref) if info.ref is not None and info.id != "v"]
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert journal.of("start") == ["a", "b", "c", "v"]
    assert set(journal.of("gone")) == {("a", "collateral"), ("b", "collateral"), ("c", "collateral"), ("v", "shutdown")}


KINDS: Any = ("permanent", "transient", "temporary")


class Odd(Probe):
    """Ends with another reason than the ordered one."""

    def __init__(self, journal: Journal, name: Any, reason: Exit) -> None:
        super().__init__(journal, name)
        self.reason = reason

    def on_exit(self, reason: Exit) -> None:
        self.exit(self.reason)


@pytest.mark.parametrize("shutdown", [5, "infinity"])
def test_STOP_08_abnormal_reasons_during_shutdown_are_reported_not_raised(
    dispatch: Dispatcher, journal: Journal, reports: list[events.SupervisorReport], shutdown: Any
) -> None:
    child = ChildSpec("a", (Odd, (journal, "a", Exit("confused"))), shutdown=shutdown)
    ref = start_and_wait(Supervisor, [spec(journal, "before"), child], on=dispatch, timeout=WAIT)
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert journal.of("stop") == [("before", "shutdown")]  # the stop went on in order
    assert [(report.context, report.reason.kind) for report in reports] == [("shutdown_error", "confused")]
    assert (reports[0].offender.id, reports[0].offender.shutdown) == ("a", shutdown)


def test_STOP_09_normal_during_shutdown_is_unexpected_only_of_permanent_children(
    dispatch: Dispatcher, journal: Journal, reports: list[events.SupervisorReport]
) -> None:
    children = [ChildSpec(kind, (Odd, (journal, kind, Exit("normal"))), restart=kind) for kind in KINDS]
    ref = start_and_wait(Supervisor, children, on=dispatch, timeout=WAIT)
    stop(ref, timeout=WAIT)
    assert [report.offender.id for report in reports] == ["permanent"]


def test_STOP_10_a_child_that_unlinked_itself_cannot_make_its_supervisor_hang(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a")])
    child = running(ref, "a")
    ask(child, lambda probe: unlink(ref))
    terminate_child(ref, "a")
    assert which_child(ref, "a").ref is None


def test_STOP_11_dynamic_children_stop_in_parallel(threads: Dispatcher, journal: Journal, release: threading.Event) -> None:
    timers = ManualTimers()
    ref = start_and_wait(Hooked, journal, timers=timers, on=threads, timeout=WAIT)
    for number in range(6):
        start_child(ref, deaf(journal, number, release, shutdown=5))
    done = ref.stop(block=False)
    journal.wait_for(*(("deaf", number) for number in range(6)))
    timers.advance(5)
    assert done.get(timeout=WAIT)
    assert len(journal.of("gone")) == 6
    assert timers.now() == 5


def test_STOP_12_stop_returns_when_every_child_is_down(dispatch: Dispatcher, journal: Journal) -> None:
    inner = ChildSpec("inner", (Supervisor, ([spec(journal, name) for name in "abc"],)))
    ref = start_and_wait(Supervisor, [inner, spec(journal, "z")], on=dispatch, timeout=WAIT)
    refs: list[ActorRef[Any]] = [info.ref for info in which_children(ref) if info.ref is not None]
    assert stop(ref, Exit("shutdown", "enough"), timeout=WAIT) == Exit("shutdown", "enough")
    assert not any(one.is_alive() for one in refs)
    assert len(journal.of("stop")) == 4


@pytest.mark.parametrize("kind", [Watched, Hooked])
@pytest.mark.parametrize("how", ["stop", "terminate", "kill"])
def test_a_child_that_still_starts_is_stopped_too(
    threads: Dispatcher, journal: Journal, release: threading.Event, kind: Any, how: str
) -> None:
    class Slow(Probe):
        def on_start(self) -> None:
            self.journal.add("starting")
            release.wait(WAIT)
            super().on_start()

    ref = start_and_wait(kind, journal, on=threads, timeout=WAIT)
    asked = ref.ask(StartChild(ChildSpec("a", (Slow, (journal, "a")), shutdown=60)), block=False)
    journal.wait_for("starting")
    if how == "kill":
        kill(ref)
    else:
        stopped = ref.stop(block=False) if how == "stop" else ref.ask(StopChild("a"), block=False)
        assert isinstance(asked, Reply)
        assert not asked.done
        release.set()
        stopped.get(timeout=WAIT)
    with suppress(ActorExited):
        answer: Any = asked.get(timeout=WAIT)
        assert isinstance(answer, Refused) or not answer.is_alive()
    wait_until(lambda: child(ref, "a") is None)
    stop(ref, timeout=WAIT)
    release.set()
    wait_until(lambda: not any(name.startswith("Slow") for name in alive))


def test_a_supervisor_that_is_killed_while_it_starts_a_child_leaves_none(threads: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Watched, journal, [], on=threads, timeout=WAIT)

    def start_and_kill() -> ActorRef[Any]:
        kill(ref)
        return Probe.start(journal, "orphan")

    with pytest.raises(ActorExited):
        start_child(ref, ChildSpec("inner", (start_and_kill, ())))
    wait_until(lambda: not any(name.startswith(("Probe", "Watched")) for name in alive))


def test_a_shutdown_of_no_seconds_ends_too(dispatch: Dispatcher, journal: Journal) -> None:
    started = time.monotonic()
    ref = start_and_wait(DynamicSupervisor, on=dispatch, timeout=WAIT)
    start_child(ref, spec(journal, "a", shutdown=0))
    stop(ref, timeout=WAIT)
    assert time.monotonic() - started < WAIT
