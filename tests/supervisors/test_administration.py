"""G. Administration of static children."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    ActorExited,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    ManualTimers,
    Supervisor,
    SupervisorError,
    partition_for,
    stop,
)
from allm.supervisors.admin import (
    count_children,
    delete_child,
    get_spec,
    restart_child,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from allm.supervisors.dispatch import Dispatcher, LoopDispatcher
from allm.supervisors.lifetime import start_and_wait
from allm.supervisors.policy import Backoff
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, raised, running, spec


def refusal(function: Any, *args: Any) -> str:
    with pytest.raises(SupervisorError) as error:
        function(*args)
    return error.value.reason


@pytest.fixture
def restarting(begin: Start, dispatch: Dispatcher, journal: Journal) -> ActorRef[Any]:
    """A supervisor whose child "r" waits for a restart that does not come."""
    waits = spec(journal, "r", backoff=Backoff(1000))
    ref = begin(Supervisor, [waits, spec(journal, "a")], timers=ManualTimers(), on=dispatch)
    child = running(ref, "r")
    raised(child, "crash")
    assert which_child(ref, "r").status == "restarting"
    return ref


def test_ADM_01_terminate_stops_the_child_and_keeps_its_spec(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a")])
    terminate_child(ref, "a")
    assert journal.of("stop") == [("a", "shutdown")]
    assert which_child(ref, "a").ref is None


def test_ADM_02_terminate_of_one_that_is_down_is_fine_of_an_unknown_one_not_found(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a")])
    terminate_child(ref, "a")
    terminate_child(ref, "a")
    assert refusal(terminate_child, ref, "b") == "not_found"


def test_ADM_03_terminate_never_restarts(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, kind, restart=kind) for kind in ("permanent", "transient", "temporary")])
    for kind in ("permanent", "transient", "temporary"):
        terminate_child(ref, kind)
    assert [(info.id, info.ref) for info in which_children(ref)] == [("transient", None), ("permanent", None)]
    assert len(journal.of("start")) == 3


def test_ADM_04_restart_starts_a_stopped_child_from_its_spec(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a")])
    terminate_child(ref, "a")
    again = restart_child(ref, "a")
    assert which_child(ref, "a").ref is again
    assert journal.of("start") == ["a", "a"]


def test_ADM_05_restart_says_running_restarting_or_not_found(restarting: ActorRef[Any]) -> None:
    assert refusal(restart_child, restarting, "a") == "running"
    assert refusal(restart_child, restarting, "r") == "restarting"
    assert refusal(restart_child, restarting, "x") == "not_found"


def test_ADM_06_a_restart_that_fails_is_the_answer_and_keeps_the_spec(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a", ["ok", "fail", "ok"])])
    terminate_child(ref, "a")
    with pytest.raises(SupervisorError, match="start_error") as error:
        restart_child(ref, "a")
    assert error.value.exit is not None
    assert error.value.exit.detail["message"] == "this start fails"
    assert which_child(ref, "a").ref is None
    assert restart_child(ref, "a") is not None


def test_ADM_07_delete_removes_a_stopped_child(restarting: ActorRef[Any]) -> None:
    assert refusal(delete_child, restarting, "a") == "running"
    assert refusal(delete_child, restarting, "r") == "restarting"
    assert refusal(delete_child, restarting, "x") == "not_found"
    terminate_child(restarting, "a")
    delete_child(restarting, "a")
    assert [info.id for info in which_children(restarting)] == ["r"]


def test_ADM_08_which_children_lists_the_newest_first(restarting: ActorRef[Any], journal: Journal) -> None:
    late = start_child(restarting, spec(journal, "late", type="supervisor"))
    found = [(info.id, info.ref, info.status, info.type) for info in which_children(restarting)]
    assert found[0] == ("late", late, "running", "supervisor")
    assert found[1][::2] == ("a", "running")
    assert found[2] == ("r", None, "restarting", "worker")
    assert which_child(restarting, "late").modules == (Probe.__module__,)
    assert refusal(which_child, restarting, "x") == "not_found"


def test_ADM_09_count_children_counts_specs_and_who_is_active(restarting: ActorRef[Any]) -> None:
    start_child(restarting, ChildSpec("inner", (Supervisor, ())))
    counts = count_children(restarting)
    assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (3, 2, 1, 2)


def test_ADM_10_a_static_child_is_addressed_by_its_id(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a")])
    child = which_child(ref, "a").ref
    assert refusal(terminate_child, ref, child) == "not_found"
    assert child is not None
    assert child.is_alive()


def test_ADM_11_calls_to_a_supervisor_that_is_gone_fail_at_once(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Supervisor, on=dispatch, timeout=WAIT)
    stop(ref, timeout=WAIT)
    before = time.monotonic()
    calls: list[Callable[[], Any]] = [
        lambda: which_children(ref),
        lambda: count_children(ref),
        lambda: start_child(ref, spec(journal, "a")),
        lambda: partition_for(ref, 1),
    ]
    for function in calls:
        with pytest.raises(ActorExited) as error:
            function()
        assert error.value.exit == Exit("noproc")
    assert time.monotonic() - before < WAIT / 2


class Bare(Probe):
    """Does nothing at all."""

    def on_start(self) -> None:
        pass

    def on_exit(self, reason: Exit) -> None:
        pass


def start_and_stop(loop: Loop, journal: Journal, count: int) -> float:
    children = [ChildSpec(number, (Bare, (journal, number))) for number in range(count)]
    before = time.perf_counter()
    ref = start_and_wait(Supervisor, children, on=LoopDispatcher(loop.loop), timeout=60)
    stop(ref, timeout=60)
    return time.perf_counter() - before


@pytest.mark.slow
def test_ADM_12_start_and_stop_of_100_000_children_is_linear(loop: Loop, journal: Journal) -> None:
    small = min(start_and_stop(loop, journal, 1_000) for _ in range(3))
    assert start_and_stop(loop, journal, 100_000) < 10 * 100 * small


def test_a_template_supervisor_has_no_ids_to_ask_about(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(DynamicSupervisor, template=spec(journal, "t"), on=dispatch)
    assert refusal(which_child, ref, "t") == "not_found"
    assert refusal(get_spec, ref, "t") == "not_found"


def test_a_dynamic_supervisor_has_ids_but_no_specs_to_come_back_to(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(DynamicSupervisor, on=dispatch)
    one = start_child(ref, spec(journal, "a"))
    assert refusal(start_child, ref, spec(journal, "a")) == "already_started"
    assert which_child(ref, "a").ref is one
    assert which_child(ref, one).ref is one
    assert get_spec(ref, "a").restart == "permanent"
    assert refusal(delete_child, ref, "a") == "dynamic"
    assert refusal(restart_child, ref, "a") == "dynamic"
    terminate_child(ref, "a")
    assert refusal(which_child, ref, "a") == "not_found"
    assert refusal(which_child, ref, one) == "not_found"
