"""E. Intensity and escalation."""

from __future__ import annotations

from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import ChildSpec, DynamicSupervisor, Exit, ManualTimers, Supervisor, child, monitor
from allm.supervisors.admin import start_child, which_child, which_children
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.policy import Window
from tests.supervisors.conftest import Start
from tests.supervisors.support import Hooked, Journal, raised, running, spec

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


def ends(ref: ActorRef[Any], journal: Journal) -> None:
    """Write the end of an actor into the journal."""
    monitor(ref, lambda down: journal.add(("end", down.exit.kind)))


def crash(ref: ActorRef[Any], *path: Any) -> None:
    found = child(ref, *path)
    assert found is not None
    raised(found, "crash")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_INT_01_one_restart_too_many_stops_all_and_exits_with_shutdown(supervise: Start, journal: Journal, strategy: Any) -> None:
    ref = supervise([spec(journal, "a"), spec(journal, "b")], strategy=strategy, max_restarts=2, max_seconds=60)
    ends(ref, journal)
    for times in (2, 3):
        crash(ref, "a")
        journal.wait_for(("start", "a"), times=times)
    crash(ref, "a")
    journal.wait_for(("end", "shutdown"))
    assert journal.entries[-2:] == [("stop", "b", "shutdown"), ("end", "shutdown")]


def test_INT_01b_a_dynamic_supervisor_escalates_too(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Hooked, journal, max_restarts=0, on=dispatch)
    ends(ref, journal)
    start_child(ref, spec(journal, "b"))
    raised(start_child(ref, spec(journal, "a")), "crash")
    journal.wait_for(("end", "shutdown"))
    assert ("gone", "a", "error") in journal.entries
    assert ("gone", "b", "shutdown") in journal.entries


def test_INT_02_failures_wider_apart_than_the_window_never_escalate(supervise: Start, journal: Journal) -> None:
    timers = ManualTimers()
    ref = supervise([spec(journal, "a")], max_restarts=1, max_seconds=5, timers=timers)
    for times in range(2, 8):
        crash(ref, "a")
        journal.wait_for(("start", "a"), times=times)
        timers.advance(5.1)


def test_INT_02b_a_restart_counts_until_its_time_plus_the_window() -> None:
    window = Window(1, 5.0)
    assert window.admit(0.0)
    assert not window.admit(5.0)
    window = Window(1, 5.0)
    assert window.admit(0.0)
    assert window.admit(5.01)
    assert not Window(0, 5.0).admit(0.0)


@pytest.mark.parametrize("strategy", [*STRATEGIES, "dynamic"])
def test_INT_03_failed_start_attempts_count(begin: Start, dispatch: Dispatcher, journal: Journal, strategy: Any) -> None:
    child = spec(journal, "a", ["ok"] + ["fail"] * 9)
    if strategy == "dynamic":
        ref = begin(DynamicSupervisor, max_restarts=3, on=dispatch)
        start_child(ref, child)
    else:
        ref = begin(Supervisor, [child], strategy=strategy, max_restarts=3, on=dispatch)
    ends(ref, journal)
    crash(ref, "a")
    journal.wait_for(("end", "shutdown"))
    assert len(journal.of("failed")) == 3


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_INT_04_a_group_restart_spends_one_unit(supervise: Start, journal: Journal, strategy: Any) -> None:
    ref = supervise([spec(journal, name) for name in "abcdef"], strategy=strategy, max_restarts=1)
    crash(ref, "a")
    journal.wait_for(("start", "f"), times=2)
    assert ref.is_alive()


def test_INT_05_the_others_are_stopped_in_order_before_the_supervisor_exits(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, name) for name in "abcd"], max_restarts=0)
    ends(ref, journal)
    crash(ref, "c")
    journal.wait_for(("end", "shutdown"))
    assert [entry[1] for entry in journal.entries[4:]] == ["c", "d", "b", "a", "shutdown"]


def nested(journal: Journal, id: Any, plan: int = 0, **options: Any) -> ChildSpec:
    """A child that is a supervisor of one crashing child, without a budget."""
    return ChildSpec(id, (Supervisor, ([spec(journal, "a")],), {"max_restarts": plan}), **options)


def test_INT_06_the_parent_sees_an_ordinary_exit_and_applies_its_own_budget(supervise: Start, journal: Journal) -> None:
    ref = supervise([nested(journal, "inner")], max_restarts=1)
    ends(ref, journal)
    inner = child(ref, "inner")
    crash(ref, "inner", "a")
    journal.wait_for(("start", "a"), times=2)
    assert which_child(ref, "inner").ref is not inner
    crash(ref, "inner", "a")
    journal.wait_for(("end", "shutdown"))


def test_INT_07_a_restarted_supervisor_has_only_its_static_children(supervise: Start, journal: Journal) -> None:
    ref = supervise([nested(journal, "inner")])
    inner = running(ref, "inner")
    start_child(inner, spec(journal, "extra"))
    crash(ref, "inner", "a")
    journal.wait_for(("start", "a"), times=2)
    again = running(ref, "inner")
    assert [info.id for info in which_children(again)] == ["a"]


def test_INT_08_a_transient_supervisor_that_escalated_stays_down(supervise: Start, journal: Journal) -> None:
    ref = supervise([nested(journal, "inner", restart="transient"), spec(journal, "b")])
    inner = running(ref, "inner")
    ends(inner, journal)
    crash(ref, "inner", "a")
    journal.wait_for(("end", "shutdown"))
    assert which_child(ref, "inner").ref is None
    assert which_child(ref, "inner").status == "down"
    assert Exit("shutdown").abnormal is False
