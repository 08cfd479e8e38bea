"""J. Responsiveness while restarting; stray messages, reports, changes of a live supervisor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pykka import ActorRef

from allm.supervisors import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Flags,
    ManualTimers,
    Supervisor,
    SupervisorError,
    change_specs,
    events,
    log,
    stop,
    subscribe,
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
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.lifetime import start_and_wait
from allm.supervisors.registry import Registry
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Hooked, Journal, Probe, ask, raised, running, spec, wait_ended, wait_until

Looping = tuple[ActorRef[Any], ManualTimers]


def in_loop(begin: Start, dispatch: Dispatcher, journal: Journal, strategy: Any) -> Looping:
    """A supervisor of a, r and z whose r fails every restart, one a second."""
    timers = ManualTimers()
    plan = ["ok"] + ["fail"] * 1000
    failing = spec(journal, "r", plan, backoff=Backoff(1.0, factor=1.0))
    children = [spec(journal, "a"), failing, spec(journal, "z")]
    ref = begin(Supervisor, children, strategy=strategy, max_restarts=1000, timers=timers, on=dispatch)
    raised(running(ref, "r"), "crash")
    for times in (1, 2, 3):
        which_children(ref)
        wait_until(lambda: timers.pending() == [1.0])
        timers.advance(1.0)
        journal.wait_for(("failed", "r"), times=times)
    return ref, timers


def refusal(function: Any, *args: Any) -> str:
    with pytest.raises(SupervisorError) as error:
        function(*args)
    return error.value.reason


def test_RESP_01_a_supervisor_answers_while_a_child_fails_to_restart(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref, _ = in_loop(begin, dispatch, journal, "one_for_one")
    assert which_child(ref, "r").status in ("restarting", "starting")
    assert which_child(ref, "r").ref is None
    assert (count_children(ref).specs, count_children(ref).active) == (3, 2)
    assert refusal(restart_child, ref, "r") == "restarting"
    assert refusal(delete_child, ref, "r") == "restarting"
    assert ask(start_child(ref, spec(journal, "late")), "who") == "late"


def test_RESP_02_terminate_ends_the_loop(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref, timers = in_loop(begin, dispatch, journal, "one_for_one")
    terminate_child(ref, "r")
    assert which_child(ref, "r").status == "down"
    assert timers.pending() == []
    delete_child(ref, "r")
    assert [info.id for info in which_children(ref)] == ["z", "a"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_RESP_03_the_supervisor_can_be_shut_down_in_the_loop(begin: Start, dispatch: Dispatcher, journal: Journal, strategy: Any) -> None:
    ref, timers = in_loop(begin, dispatch, journal, strategy)
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert timers.pending() == []


def test_RESP_03b_a_dynamic_one_too(dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    ref = start_and_wait(Hooked, journal, timers=timers, on=dispatch, timeout=WAIT)
    raised(start_child(ref, spec(journal, "a", backoff=Backoff(1000))), "crash")
    which_children(ref)
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert ("gone", "a", "error") in journal.entries
    assert timers.pending() == []


def test_RESP_04_rest_for_one_predecessors_run_and_successors_are_down(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref, _ = in_loop(begin, dispatch, journal, "rest_for_one")
    which_children(ref)
    journal.wait_for(("failed", "r"), times=3)
    infos = {info.id: info for info in which_children(ref)}
    assert infos["a"].status == "running"
    assert infos["r"].ref is None
    assert (infos["z"].ref, infos["z"].status) == (None, "down")


def test_RESP_05_an_unexpected_message_is_dropped(supervise: Start, begin: Start, dispatch: Dispatcher) -> None:
    for ref in (supervise(), begin(DynamicSupervisor, on=dispatch)):
        ref.tell("hello")
        ref.tell({"what": object()})
        assert ask(ref, ("a", "tuple")) is None
        assert which_children(ref) == []


@pytest.fixture
def seen() -> Iterator[list[Any]]:
    seen: list[Any] = []
    take_back = subscribe(seen.append)
    yield seen
    take_back()


def reports(seen: list[Any]) -> list[tuple[str, str, Any]]:
    kept = [event for event in seen if isinstance(event, events.SupervisorReport)]
    return [(report.context, report.reason.kind, report.offender.id) for report in kept]


def test_RESP_06_reports_carry_supervisor_context_reason_and_offender(dispatch: Dispatcher, journal: Journal, seen: list[Any]) -> None:
    child = spec(journal, "a", ["ok", "fail"])
    ref = start_and_wait(Supervisor, [child], max_restarts=1, on=dispatch, timeout=WAIT)
    name = ref.actor_inbox.name  # type: ignore[attr-defined]  # pyright: ignore
    watched = ref.ask(object(), block=False)
    raised(running(ref, "a"), "crash")
    watched.get(timeout=WAIT)
    wait_ended(ref)
    expected = [("child_terminated", "error", "a"), ("start_error", "error", "a"), ("shutdown", "shutdown", "a")]
    assert reports(seen) == expected
    assert {event.supervisor for event in seen} == {name}
    assert [event.child for event in seen if isinstance(event, events.ChildStarted)] == ["a"]
    assert [event.delay for event in seen if isinstance(event, events.ChildRestarting)] == [0.0]
    assert [event.child for event in seen if isinstance(event, events.Escalated)] == ["a"]


def test_RESP_06b_a_child_that_was_started_elsewhere_makes_no_progress_report(
    supervise: Start, begin: Start, dispatch: Dispatcher, journal: Journal, seen: list[Any]
) -> None:
    registry = Registry()

    class Named(Probe):
        def on_start(self) -> None:
            registry.register("name")

    begin(Named, journal, on=dispatch)
    with pytest.raises(SupervisorError, match="already_started"):
        start_child(supervise(), ChildSpec("a", (Named, (journal,))))
    assert [event for event in seen if isinstance(event, events.ChildStarted)] == []


def test_RESP_06c_reports_go_to_structlog_once_the_program_configured_it(supervise: Start, journal: Journal) -> None:
    written: list[Any] = []

    def keep(_: Any, level: str, values: Any) -> Any:
        written.append((level, values["event"], values.get("context")))
        raise structlog.DropEvent

    ref = supervise([spec(journal, "a")])
    raised(running(ref, "a"), "crash")
    which_children(ref)
    running(ref, "a")  # it is up again, and that is told
    assert log.flush(WAIT)
    structlog.configure(processors=[keep])
    try:
        raised(running(ref, "a"), "crash")
        which_children(ref)
        running(ref, "a")
        ref.tell("stray")
        which_children(ref)
    finally:
        log.flush(WAIT)
        structlog.reset_defaults()
    assert written == [
        ("error", "supervisor_report", "child_terminated"),
        ("info", "child_ended", None),
        ("warning", "child_restarting", None),
        ("info", "child_started", None),
        ("warning", "unexpected_message", None),
    ]


def test_a_log_that_fails_ends_no_actor(supervise: Start, journal: Journal) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("disk full")

    ref = supervise([spec(journal, "a")])
    structlog.configure(processors=[fail])
    try:
        raised(running(ref, "a"), "crash")
        assert ask(running(ref, "a"), "who") == "a"
    finally:
        log.flush(WAIT)
        structlog.reset_defaults()


def test_every_event_is_json_for_listeners_and_a_line_in_the_log(dispatch: Dispatcher, journal: Journal, seen: list[Any]) -> None:
    lines: list[Any] = []

    def keep(_: Any, level: str, values: Any) -> Any:
        lines.append({"level": level, **values})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        ref = start_and_wait(Supervisor, [spec(journal, ("a", 1))], max_restarts=1, on=dispatch, timeout=WAIT)
        for _ in range(2):
            child = running(ref, ("a", 1))
            raised(child, "crash")
        wait_ended(ref)
        events.dead_letter("x", journal, Exit("killed"), "why")
        events.emit(events.SlowTurn("x", 0.5))
    finally:
        log.flush(WAIT)
        structlog.reset_defaults()
    data = [json.loads(json.dumps(event.to_data(), allow_nan=False)) for event in seen]
    assert [one["event"] for one in data] == [
        "child_started",
        "supervisor_report",
        "child_ended",
        "child_restarting",
        "child_started",
        "supervisor_report",
        "child_ended",
        "supervisor_report",
        "escalated",
        "dead_letter",
        "slow_turn",
    ]
    name = ref.actor_inbox.name  # type: ignore[attr-defined]  # pyright: ignore
    assert data[0] == {"event": "child_started", "supervisor": name, "child": "('a', 1)", "generation": 1}
    report, ended, again = data[1:4]
    assert (report["context"], report["reason"]["kind"]) == ("child_terminated", "error")
    offender = {"id": "('a', 1)", "type": "worker", "restart": "permanent", "shutdown": 5.0, "generation": 1}
    assert report["offender"] == offender
    assert (ended["generation"], ended["exit"]["detail"]["message"]) == (1, "crash")
    assert (again["restarts"], again["delay"], again["exit"]["kind"]) == (1, 0.0, "error")
    assert [one["context"] for one in data if one["event"] == "supervisor_report"] == ["child_terminated"] * 2 + ["shutdown"]
    assert data[9] == {
        "event": "dead_letter",
        "actor": "x",
        "message": "Journal",
        "exit": {"kind": "killed", "detail": None},
        "error": "why",
    }
    levels = {"child_started": "info", "child_ended": "info", "child_restarting": "warning", "dead_letter": "warning"}
    levels |= {"supervisor_report": "error", "escalated": "error", "slow_turn": "warning"}
    assert lines == [{"level": levels[one["event"]], **one} for one in data]


def test_RESP_07_a_live_supervisor_takes_new_specs_and_flags(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a"), spec(journal, "b")])
    first = running(ref, "a")
    new = [spec(journal, "a", restart="transient"), spec(journal, "c")]
    change_specs(ref, new, Flags("one_for_all", max_restarts=1, max_seconds=60))
    infos = {info.id: info for info in which_children(ref)}
    assert infos["a"].ref is first
    assert infos["b"].status == "running"  # removed, and there until deleted
    assert (infos["c"].ref, infos["c"].status) == (None, "down")
    assert get_spec(ref, "a").restart == "transient"
    restart_child(ref, "c")
    terminate_child(ref, "b")
    delete_child(ref, "b")
    raised(first, "crash")
    journal.wait_for(("start", "c"), times=2)


@pytest.mark.parametrize(("before", "after"), [("any", "never"), ("all", "never"), ("any", "all"), ("all", "any")])
def test_RESP_07b_new_flags_are_checked_against_significant_children(supervise: Start, journal: Journal, before: str, after: str) -> None:
    modes: Any = {"any": "any_significant", "all": "all_significant", "never": "never"}
    child = spec(journal, "a", restart="transient", significant=True)
    ref = supervise([child], auto_shutdown=modes[before])
    flags = Flags(auto_shutdown=modes[after])
    if after == "never":
        for children in ([child], []):
            assert refusal(change_specs, ref, children, flags) == "bad_combination"
    else:
        change_specs(ref, [child], flags)
    assert which_child(ref, "a").status == "running"


def test_RESP_07c_a_template_can_be_changed(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(DynamicSupervisor, template=ChildSpec("t", (Probe, (journal, "old"))), on=dispatch)
    first = start_child(ref, ())
    change_specs(ref, [ChildSpec("t", (Probe, (journal, "new")))], Flags(max_restarts=7))
    assert ask(first, "who") == "old"
    assert ask(start_child(ref, ()), "who") == "new"
    assert refusal(change_specs, ref, []) == "bad_start_spec"
    assert refusal(change_specs, begin(DynamicSupervisor, on=dispatch), [spec(journal, "x")]) == "bad_start_spec"
