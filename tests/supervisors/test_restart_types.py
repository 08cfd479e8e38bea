"""C. Restart types."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from allm.supervisors import ChildSpec, DynamicSupervisor, Exit, Supervisor
from allm.supervisors.admin import get_spec, restart_child, start_child, which_child, which_children
from allm.supervisors.dispatch import Dispatcher
from tests.supervisors.conftest import Start
from tests.supervisors.support import Journal, Probe, ask, raised, running, spec

NORMAL, SHUTDOWN = Exit("normal"), Exit("shutdown")
SHUTDOWN_TERM, ABNORMAL = Exit("shutdown", {"why": "term"}), Exit("out_of_luck")


def restarted(supervise: Start, journal: Journal, restart: str, exit: Exit) -> bool:
    """End a child so; whether another one takes its place."""
    ref = supervise([spec(journal, "a", restart=restart)])
    child = running(ref, "a")
    assert isinstance(raised(child, exit), Exception)
    if which_child(ref, "a").status == "down":
        return False
    return running(ref, "a") is not child


def test_TYPE_01_permanent_restarts_after_normal(supervise: Start, journal: Journal) -> None:
    assert restarted(supervise, journal, "permanent", NORMAL)


@pytest.mark.parametrize("exit", [SHUTDOWN, SHUTDOWN_TERM])
def test_TYPE_02_permanent_restarts_after_shutdown(supervise: Start, journal: Journal, exit: Exit) -> None:
    assert restarted(supervise, journal, "permanent", exit)


def test_TYPE_03_permanent_restarts_after_an_abnormal_exit(supervise: Start, journal: Journal) -> None:
    assert restarted(supervise, journal, "permanent", ABNORMAL)


def test_TYPE_04_transient_stays_down_after_normal(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a", restart="transient")])
    child = running(ref, "a")
    raised(child, NORMAL)
    assert [(info.id, info.ref) for info in which_children(ref)] == [("a", None)]


@pytest.mark.parametrize("exit", [SHUTDOWN, SHUTDOWN_TERM])
def test_TYPE_05_transient_stays_down_after_shutdown_and_can_be_brought_back(supervise: Start, journal: Journal, exit: Exit) -> None:
    ref = supervise([spec(journal, "a", restart="transient")])
    child = running(ref, "a")
    raised(child, exit)
    assert which_child(ref, "a").ref is None
    assert ask(restart_child(ref, "a"), "who") == "a"


def test_TYPE_06_transient_restarts_after_an_abnormal_exit(supervise: Start, journal: Journal) -> None:
    assert restarted(supervise, journal, "transient", ABNORMAL)


@pytest.mark.parametrize("exit", [NORMAL, SHUTDOWN, SHUTDOWN_TERM, ABNORMAL])
def test_TYPE_07_temporary_never_restarts_and_its_spec_disappears(supervise: Start, journal: Journal, exit: Exit) -> None:
    ref = supervise([spec(journal, "a", restart="temporary")])
    child = running(ref, "a")
    raised(child, exit)
    assert which_children(ref) == []


class Big:
    """An argument worth letting go of."""


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one", "dynamic"])
def test_TYPE_08_arguments_of_temporary_children_are_not_kept(begin: Start, dispatch: Dispatcher, journal: Journal, strategy: Any) -> None:
    class Forgetful(Probe):
        def __init__(self, journal: Journal, big: Big) -> None:
            super().__init__(journal, "a")

    big = Big()
    gone = weakref.ref(big)
    options = {} if strategy == "dynamic" else {"strategy": strategy}
    ref = begin(DynamicSupervisor if strategy == "dynamic" else Supervisor, on=dispatch, **options)
    start_child(ref, ChildSpec("a", (Forgetful, (journal, big)), restart="temporary"))
    del big
    which_children(ref)  # its handler is over: no frame of it is left
    gc.collect()
    assert gone() is None
    if strategy != "dynamic":
        assert get_spec(ref, "a").start == (Forgetful, ())


@pytest.mark.parametrize("exit", [NORMAL, SHUTDOWN, ABNORMAL, "crash"])
def test_TYPE_09_a_temporary_child_can_be_added_again_at_once(supervise: Start, journal: Journal, exit: Any) -> None:
    ref = supervise()
    for _ in range(20):
        child = start_child(ref, spec(journal, "a", restart="temporary"))
        raised(child, exit)
    start_child(ref, spec(journal, "a", restart="temporary"))


def test_TYPE_10_an_exit_without_a_restart_spends_no_budget(supervise: Start, journal: Journal) -> None:
    ref = supervise(max_restarts=1)
    for _ in range(5):
        raised(start_child(ref, spec(journal, "t", restart="temporary")), ABNORMAL)
    start_child(ref, spec(journal, "a", restart="transient"))
    for _ in range(5):
        child = which_child(ref, "a").ref or restart_child(ref, "a")
        raised(child, NORMAL)
    crashing = restart_child(ref, "a")
    raised(crashing, "crash")
    assert running(ref, "a") is not crashing
