"""I. Auto shutdown."""

from __future__ import annotations

from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import ChildSpec, DynamicSupervisor, Exit, SpecError, Supervisor, child, monitor
from allm.supervisors.admin import terminate_child, which_child
from tests.supervisors.conftest import Start
from tests.supervisors.support import Journal, raised, spec

NORMAL, SHUTDOWN, ABNORMAL = Exit("normal"), Exit("shutdown"), Exit("out_of_luck")
ENDED = ("end", "shutdown")


def watched(ref: ActorRef[Any], journal: Journal) -> ActorRef[Any]:
    monitor(ref, lambda down: journal.add(("end", down.exit.kind)))
    return ref


def end(ref: ActorRef[Any], exit: Exit, *path: Any) -> None:
    """End a child so, and wait until its supervisor has dealt with it."""
    found = child(ref, *path)
    assert found is not None
    raised(found, exit)


def alive_after(ref: ActorRef[Any]) -> bool:
    """Whether the supervisor still answers; asked after all it had to deal with."""
    try:
        which_child(ref, "witness")
    except Exception:
        return False
    return True


def significant(journal: Journal, name: Any, restart: Any) -> ChildSpec:
    return spec(journal, name, restart=restart, significant=True)


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
def test_AUTO_01_a_child_that_is_not_significant_never_triggers(supervise: Start, journal: Journal, mode: Any, restart: Any) -> None:
    for exit in (NORMAL, SHUTDOWN, ABNORMAL):
        ref = supervise([spec(journal, "a", restart=restart), spec(journal, "witness")], auto_shutdown=mode)
        end(ref, exit, "a")
        assert alive_after(ref)


@pytest.mark.parametrize("exit", [NORMAL, SHUTDOWN, ABNORMAL])
def test_AUTO_02_any_significant_a_temporary_child_triggers_with_any_end(supervise: Start, journal: Journal, exit: Exit) -> None:
    children = [significant(journal, "a", "temporary"), spec(journal, "b")]
    ref = watched(supervise(children, auto_shutdown="any_significant"), journal)
    end(ref, exit, "a")
    journal.wait_for(ENDED)
    assert ("stop", "b", "shutdown") in journal.entries


def test_AUTO_03_any_significant_a_transient_child_triggers_with_an_orderly_end(supervise: Start, journal: Journal) -> None:
    for exit in (NORMAL, SHUTDOWN):
        ref = watched(supervise([significant(journal, "a", "transient")], auto_shutdown="any_significant"), journal)
        end(ref, exit, "a")
        journal.wait_for(ENDED, times=1 if exit is NORMAL else 2)
    ref = supervise([significant(journal, "b", "transient"), spec(journal, "witness")], auto_shutdown="any_significant")
    end(ref, ABNORMAL, "b")
    journal.wait_for(("start", "b"), times=2)
    assert alive_after(ref)


def test_AUTO_04_all_significant_the_last_one_triggers(supervise: Start, journal: Journal) -> None:
    children = [
        significant(journal, "a", "temporary"),
        significant(journal, "b", "transient"),
        spec(journal, "witness"),
    ]
    ref = watched(supervise(children, auto_shutdown="all_significant"), journal)
    end(ref, ABNORMAL, "a")
    assert alive_after(ref)
    end(ref, NORMAL, "b")
    journal.wait_for(ENDED)


@pytest.mark.parametrize("restart", ["temporary", "transient"])
def test_AUTO_05_terminate_child_does_not_trigger(supervise: Start, journal: Journal, restart: Any) -> None:
    ref = supervise([significant(journal, "a", restart), spec(journal, "witness")], auto_shutdown="any_significant")
    terminate_child(ref, "a")
    assert alive_after(ref)


def test_AUTO_06_a_bystander_of_a_group_restart_does_not_trigger(supervise: Start, journal: Journal) -> None:
    children = [
        spec(journal, "witness"),
        significant(journal, "a", "temporary"),
        significant(journal, "b", "transient"),
    ]
    ref = supervise(children, strategy="one_for_all", auto_shutdown="any_significant")
    end(ref, ABNORMAL, "witness")
    journal.wait_for(("start", "b"), times=2)
    assert alive_after(ref)


@pytest.mark.parametrize("climbs", [True, False])
def test_AUTO_07_it_climbs_through_significant_supervisors(supervise: Start, journal: Journal, climbs: bool) -> None:
    options = {"auto_shutdown": "any_significant"}
    inner = ChildSpec(
        "inner",
        (Supervisor, ([significant(journal, "a", "temporary")],), options),
        restart="transient",
        significant=climbs,
    )
    ref = watched(supervise([inner, spec(journal, "witness")], **options), journal)
    watched(which_child(ref, "inner").ref, journal)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    end(ref, NORMAL, "inner", "a")
    journal.wait_for(ENDED, times=2 if climbs else 1)
    assert alive_after(ref) is not climbs


def test_AUTO_08_dynamic_supervisors_have_no_auto_shutdown() -> None:
    with pytest.raises(SpecError, match="bad_combination"):
        DynamicSupervisor(auto_shutdown="any_significant")
