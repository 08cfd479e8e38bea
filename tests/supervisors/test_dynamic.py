"""H. Dynamic supervisors."""

from __future__ import annotations

import time
from typing import Any

import pytest

from allm.supervisors import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    ManualTimers,
    SpecError,
    Supervisor,
    SupervisorError,
    kill,
)
from allm.supervisors.admin import (
    count_children,
    delete_child,
    restart_child,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from allm.supervisors.dispatch import Dispatcher, LoopDispatcher
from allm.supervisors.requests import StartChild
from tests.supervisors.conftest import Start
from tests.supervisors.support import Hooked, Journal, Loop, Probe, ask, raised, running, spec


@pytest.fixture
def dynamic(begin: Start, dispatch: Dispatcher, journal: Journal) -> Start:
    def dynamic(**options: Any) -> Any:
        return begin(Hooked, journal, on=dispatch, **options)

    return dynamic


def refusal(function: Any, *args: Any) -> str:
    with pytest.raises(SupervisorError) as error:
        function(*args)
    return error.value.reason


def test_DYN_01_a_template_takes_the_arguments_of_start_child(dynamic: Start, journal: Journal) -> None:
    ref = dynamic(template=ChildSpec("t", (Probe, (journal,))))
    assert ask(start_child(ref, ("one",)), "who") == "one"
    assert ask(start_child(ref, ("two",)), "who") == "two"
    with pytest.raises(SpecError):
        DynamicSupervisor(template=[spec(journal, "a"), spec(journal, "b")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_DYN_02_a_template_supervisor_knows_no_ids(dynamic: Start, journal: Journal) -> None:
    ref = dynamic(template=ChildSpec("t", (Probe, (journal,))))
    start_child(ref, ("one",))
    for function in (restart_child, delete_child, terminate_child):
        assert refusal(function, ref, "t") == "simple_one_for_one"


def test_DYN_03_terminate_by_ref_takes_own_children_dead_ones_too_and_no_strangers(
    dynamic: Start, begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    ref = dynamic()
    stranger = begin(Probe, journal, "stranger", on=dispatch)
    child = start_child(ref, spec(journal, "a", shutdown="brutal_kill"))
    terminate_child(ref, child)
    terminate_child(ref, child)
    assert refusal(terminate_child, ref, stranger) == "not_found"
    assert refusal(terminate_child, ref, "no such id") == "not_found"
    assert stranger.is_alive()
    assert not child.is_alive()


def test_DYN_04_ignore_and_start_errors_keep_nothing(dynamic: Start, journal: Journal) -> None:
    ref = dynamic()
    assert start_child(ref, spec(journal, "a", ["ignore"])) is None
    assert start_child(ref, spec(journal, "b", ["ignore"], restart="temporary")) is None
    assert refusal(start_child, ref, spec(journal, "c", ["fail"])) == "start_error"
    assert refusal(start_child, ref, {"id": "d"}) == "missing_start"
    assert which_children(ref) == []


def test_DYN_05_ignore_at_a_restart_drops_the_child(dynamic: Start, journal: Journal) -> None:
    ref = dynamic()
    raised(start_child(ref, spec(journal, "a", ["ok", "ignore"])), "crash")
    journal.wait_for(("gone", "a", "ignore"))
    assert which_children(ref) == []


def test_DYN_06_a_restart_that_fails_leaves_the_child_restarting(dynamic: Start, journal: Journal) -> None:
    timers = ManualTimers()
    ref = dynamic(timers=timers)
    child = spec(journal, "a", ["ok", "fail", "ok"], backoff=Backoff(1.0, factor=1.0))
    raised(start_child(ref, child), "crash")
    for failures in (1, 2):
        journal.wait(lambda seen, times=failures: sum(entry[0] == "again" for entry in seen) == times)  # type: ignore[misc]
        assert [(info.ref, info.status) for info in which_children(ref)] == [(None, "restarting")]
        assert timers.pending() == [1.0]
        timers.advance(1.0)
    journal.wait_for(("start", "a"), times=2)


def test_DYN_07_max_children_refuses_one_more(dynamic: Start, journal: Journal) -> None:
    ref = dynamic(max_children=1)
    child = start_child(ref, spec(journal, "a"))
    assert refusal(start_child, ref, spec(journal, "b")) == "max_children"
    terminate_child(ref, child)
    start_child(ref, spec(journal, "c"))
    assert refusal(start_child, dynamic(max_children=0), spec(journal, "d")) == "max_children"
    with pytest.raises(SpecError, match="invalid_max_children"):
        DynamicSupervisor(max_children=-1)


def test_DYN_08_restarting_children_count_towards_max_children(dynamic: Start, journal: Journal) -> None:
    ref = dynamic(max_children=1, timers=ManualTimers())
    raised(start_child(ref, spec(journal, "a", backoff=Backoff(1000))), "crash")
    assert refusal(start_child, ref, spec(journal, "b")) == "max_children"
    assert (count_children(ref).specs, count_children(ref).active) == (1, 0)


def test_DYN_09_extra_arguments_go_before_the_childs_own_at_every_start(dynamic: Start, journal: Journal) -> None:
    ref = dynamic(extra_arguments=(journal,))
    child = start_child(ref, ChildSpec("a", (Probe, ("extra",))))
    assert ask(child, "who") == "extra"
    raised(child, "crash")
    journal.wait_for(("start", "extra"), times=2)


def test_DYN_10_terminate_in_a_restart_loop_removes_the_child_for_good(dynamic: Start, journal: Journal) -> None:
    timers = ManualTimers()
    ref = dynamic(timers=timers)
    child = start_child(ref, spec(journal, "a", backoff=Backoff(1.0)))
    raised(child, "crash")
    assert which_children(ref)[0].status == "restarting"
    terminate_child(ref, child)
    assert which_children(ref) == []
    timers.advance(100)
    assert which_children(ref) == []
    assert journal.of("start") == ["a"]


def many(loop: Loop, journal: Journal, count: int) -> float:
    """Seconds for starting that many children and ending them, in another order."""

    def run() -> float:
        ref = DynamicSupervisor.start_on(LoopDispatcher(loop.loop))
        before = time.perf_counter()
        specs = [ChildSpec(number, (Quiet, (journal, number)), restart="temporary") for number in range(count)]
        children: list[Any] = [ref.ask(StartChild(spec)) for spec in specs]
        for child in children[::2] + children[1::2]:
            child.tell(Exit("normal"))
        took = time.perf_counter() - before
        assert ref.stop(block=False).get() is True
        return took

    return float(loop.run(run))


class Quiet(Probe):
    """Writes nothing."""

    def on_start(self) -> None:
        pass

    def on_exit(self, reason: Exit) -> None:
        pass


@pytest.mark.slow
def test_DYN_11_many_temporary_children_are_linear(loop: Loop, journal: Journal) -> None:
    assert many(loop, journal, 10_000) < 50 * min(many(loop, journal, 1_000) for _ in range(3))


def test_DYN_12_two_dynamic_supervisors_under_one_parent(supervise: Start, journal: Journal) -> None:
    ref = supervise([ChildSpec(name, (DynamicSupervisor, ())) for name in ("left", "right")])
    for name in ("left", "right"):
        inner = which_child(ref, name).ref
        assert inner is not None
        assert ask(start_child(inner, spec(journal, name)), "who") == name


def test_a_child_supervisor_that_is_killed_takes_its_children_along(supervise: Start, journal: Journal) -> None:
    ref = supervise([ChildSpec("inner", (Supervisor, ([spec(journal, "a")],)))])
    inner = running(ref, "inner")
    grandchild = which_child(inner, "a").ref
    kill(inner)
    journal.wait_for(("start", "a"), times=2)
    assert grandchild is not None
    assert not grandchild.is_alive()


def test_a_spec_that_is_significant_has_no_place_here(dynamic: Start, journal: Journal) -> None:
    child = spec(journal, "a", restart="transient", significant=True)
    assert refusal(start_child, dynamic(), child) == "bad_combination"
