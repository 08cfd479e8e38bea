"""B. Starting."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import ChildSpec, Exit, Flags, Registry, StartError, Supervisor, SupervisorError, stop
from allm.supervisors.admin import count_children, restart_child, start_child, which_child, which_children
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher, ThreadDispatcher
from allm.supervisors.lifetime import start_and_wait, wait_started
from allm.supervisors.starting import IGNORE
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Hooked, Journal, Probe, ask, raised, running, spec, wait_ended


class FromInit(Supervisor):
    """Its children come from `init`."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def init(self) -> Any:
        return self.answer() if callable(self.answer) else self.answer


def no_such_key() -> Any:
    return dict[str, int]()["no such key"]


def refused(dispatch: Dispatcher, *args: Any, **options: Any) -> Exit:
    before = set(alive)
    with pytest.raises(StartError) as error:
        start_and_wait(*args, on=dispatch, timeout=WAIT, **options)
    assert set(alive) == before
    return error.value.exit


def test_START_01_a_supervisor_without_children_starts_and_stops(dispatch: Dispatcher) -> None:
    ref = start_and_wait(Supervisor, on=dispatch, timeout=WAIT)
    assert which_children(ref) == []
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert not ref.is_alive()


def test_START_02_init_may_ignore(dispatch: Dispatcher) -> None:
    assert refused(dispatch, FromInit, IGNORE).kind == "ignore"


def test_START_03_a_bad_return_from_init_names_the_callback(dispatch: Dispatcher) -> None:
    exit = refused(dispatch, FromInit, 42)
    assert exit.kind == "bad_return"
    assert exit.detail["callback"] == "init"


def test_START_04_an_exception_in_init_is_the_result_of_start(dispatch: Dispatcher) -> None:
    exit = refused(dispatch, FromInit, no_such_key)
    assert exit.kind == "error"
    assert exit.detail["type"] == "builtins.KeyError"
    assert "in no_such_key" in exit.detail["trace"]


def test_START_04b_init_may_give_specs_and_flags(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(FromInit, ([spec(journal, "a")], Flags("one_for_all", max_restarts=0)), on=dispatch)
    assert [info.id for info in which_children(ref)] == ["a"]
    assert refused(dispatch, FromInit, ([{"id": "a"}], {})).detail["type"].endswith("SpecError")


def test_START_05_children_start_one_after_the_other_in_order(supervise: Start, journal: Journal) -> None:
    supervise([spec(journal, name) for name in "abcd"])
    assert journal.of("start") == list("abcd")


def test_START_05b_a_start_finishes_before_the_next_begins(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    gate = threading.Event()

    class Slow(Probe):
        def on_start(self) -> None:
            self.journal.add(("begin", self.name))
            gate.wait(WAIT)
            super().on_start()

    ref = Supervisor.start_on(threads, [ChildSpec(name, (Slow, (journal, name))) for name in "ab"])
    journal.wait_for(("begin", "a"))
    assert which_child(ref, "b").status == "down"  # the supervisor answers while it waits
    gate.set()
    wait_started(ref, WAIT)
    assert journal.entries == [("begin", "a"), ("start", "a"), ("begin", "b"), ("start", "b")]
    stop(ref, timeout=WAIT)


def test_START_06_a_failed_start_stops_those_before_it_and_fails_the_supervisor(dispatch: Dispatcher, journal: Journal) -> None:
    children = [spec(journal, "a"), spec(journal, "b"), spec(journal, "c", ["fail"]), spec(journal, "d")]
    exit = refused(dispatch, Supervisor, children)
    assert exit.kind == "shutdown"
    assert exit.detail["failed_to_start_child"] == "c"
    assert exit.detail["reason"]["detail"]["message"] == "this start fails"
    assert journal.of("start") == ["a", "b"]
    assert [name for name, _ in journal.of("stop")] == ["c", "b", "a"]


def test_START_07_extra_is_passed_through_and_ignored_otherwise(supervise: Start, journal: Journal) -> None:
    def start(name: str) -> tuple[ActorRef[Probe], dict[str, str]]:
        return Probe.start(journal, name), {"port": name}

    ref = supervise([ChildSpec("static", (start, ("static",)))])
    child, extra = start_child(ref, ChildSpec("a", (start, ("a",)), restart="transient"))
    assert extra == {"port": "a"}
    assert ask(child, "who") == "a"
    child.tell("crash")
    journal.wait_for(("start", "a"), times=2)
    again = running(ref, "a")
    assert again is not child
    again.tell(Exit("normal"))
    journal.wait_for(("stop", "a", "normal"))
    assert restart_child(ref, "a")[1] == {"port": "a"}


def failing(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


@pytest.mark.parametrize("value", [Exit("no_database"), 42, None, "ref", (1, 2), object()])
def test_START_08_an_error_or_an_unknown_value_is_the_answer_and_no_spec_is_kept(supervise: Start, value: Any) -> None:
    ref = supervise()
    with pytest.raises(SupervisorError) as error:
        start_child(ref, ChildSpec("a", (failing, (value,))))
    assert error.value.reason == "start_error"
    assert error.value.exit is not None
    assert error.value.exit.kind == (value.kind if isinstance(value, Exit) else "bad_return")
    assert which_children(ref) == []


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_START_09_what_a_start_function_raises_is_an_error_result(supervise: Start, error: BaseException) -> None:
    ref = supervise()
    with pytest.raises(SupervisorError) as caught:
        start_child(ref, ChildSpec("a", (failing, (error,))))
    assert caught.value.exit is not None
    assert caught.value.exit.detail["type"].endswith(type(error).__name__)
    assert ref.is_alive()


def test_START_10_ignore_keeps_the_spec_of_a_lasting_child(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a", ["ignore"]), ChildSpec("f", (failing, (IGNORE,)), restart="transient")])
    assert start_child(ref, spec(journal, "b", ["ignore"], restart="transient")) is None
    assert [(info.id, info.ref) for info in which_children(ref)] == [("b", None), ("f", None), ("a", None)]
    counts = count_children(ref)
    assert (counts.specs, counts.active) == (3, 0)
    assert restart_child(ref, "a") is not None


def test_START_11_ignore_keeps_nothing_of_a_temporary_child(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a", ["ignore"], restart="temporary")])
    assert start_child(ref, spec(journal, "b", ["ignore"], restart="temporary")) is None
    assert which_children(ref) == []


def test_START_12_a_known_id_is_already_started_or_already_present(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, "a", restart="transient")])
    child = running(ref, "a")
    with pytest.raises(SupervisorError, match="already_started") as error:
        start_child(ref, spec(journal, "a"))
    assert error.value.ref is child
    child.stop(timeout=WAIT)
    with pytest.raises(SupervisorError, match="already_present"):
        start_child(ref, spec(journal, "a"))


class Named(Probe):
    """Registers its name when it starts."""

    def __init__(self, journal: Journal, name: Any, registry: Registry) -> None:
        super().__init__(journal, name)
        self.registry = registry

    def on_start(self) -> None:
        self.registry.register(self.name)
        super().on_start()


def test_START_13_a_taken_name_is_reported_with_its_holder(supervise: Start, begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    registry = Registry()
    holder = begin(Named, journal, "king", registry, on=dispatch)
    ref = supervise()
    with pytest.raises(SupervisorError, match="already_started") as error:
        start_child(ref, ChildSpec("a", (Named, (journal, "king", registry))))
    assert error.value.ref is holder
    assert which_children(ref) == []
    assert registry.whereis("king") is holder


def test_START_14_a_name_resolves_to_the_new_actor_after_a_restart(supervise: Start, journal: Journal) -> None:
    registry = Registry()
    supervise([ChildSpec("a", (Named, (journal, "king", registry)))])
    first = registry.whereis("king")
    assert first is not None
    first.tell("crash")
    journal.wait_for(("start", "king"), times=2)
    second = registry.whereis("king")
    assert second is not None
    assert second is not first
    assert ask(second, "who") == "king"


def test_a_child_that_ended_before_it_was_adopted_was_started(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    """A supervisor that is slow to look must not take a quick child for a failed start."""
    seen: list[ActorRef[Any]] = []

    def quick() -> ActorRef[Any]:
        ref = Probe.start_on(ThreadDispatcher(), journal, "quick")
        wait_started(ref, WAIT)
        if not seen:
            raised(ref, "crash")
            wait_ended(ref)
        seen.append(ref)
        return ref

    ref = begin(Hooked, journal, on=dispatch)
    first = start_child(ref, ChildSpec("quick", (quick, ()), restart="temporary"))
    assert first is seen.pop()
    start_child(ref, ChildSpec("lasting", (quick, ())))
    assert running(ref, "lasting") is seen[1]
    with pytest.raises(SupervisorError):
        which_child(ref, "quick")


def test_a_dynamic_child_that_fails_to_start_is_gone(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Hooked, journal, on=dispatch)
    with pytest.raises(SupervisorError, match="start_error"):
        start_child(ref, spec(journal, "a", ["fail"]))
    assert ("gone", "a", "error") in journal.entries
