"""D. Strategies."""

from __future__ import annotations

from typing import Any

from pykka import ActorRef

from allm.supervisors import ChildSpec
from allm.supervisors.admin import which_children
from allm.supervisors.futures import Reply
from allm.supervisors.requests import WhichChildren
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Probe, later, raised, spec


def refs(ref: ActorRef[Any]) -> dict[Any, Any]:
    return {info.id: info.ref for info in reversed(which_children(ref))}


def test_STRAT_01_one_for_one_replaces_only_the_dead(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, name) for name in "abc"])
    before = refs(ref)
    raised(before["b"], "crash")
    after = refs(ref)
    assert after["b"] is not before["b"]
    assert (after["a"], after["c"]) == (before["a"], before["c"])


def test_STRAT_02_one_for_all_replaces_all(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, name) for name in "abc"], strategy="one_for_all")
    before = refs(ref)
    raised(before["b"], "crash")
    journal.wait_for(("start", "c"), times=2)
    after = refs(ref)
    assert not set(before.values()) & set(after.values())
    assert not any(old.is_alive() for old in before.values())
    assert all(new.is_alive() for new in after.values())


def test_STRAT_03_rest_for_one_replaces_the_dead_and_those_after_it(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, name) for name in "abc"], strategy="rest_for_one")
    before = refs(ref)
    raised(before["b"], "crash")
    journal.wait_for(("start", "c"), times=2)
    after = refs(ref)
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    assert after["c"] is not before["c"]


def test_STRAT_04_a_group_stops_in_reverse_and_starts_in_order(supervise: Start, journal: Journal) -> None:
    ref = supervise([spec(journal, name) for name in "abcd"], strategy="one_for_all")
    order = [info.id for info in which_children(ref)]
    raised(refs(ref)["b"], "crash")
    journal.wait_for(("start", "d"), times=2)
    assert [name for name, _ in journal.of("stop")] == ["b", "d", "c", "a"]
    assert journal.of("start")[4:] == ["a", "b", "c", "d"]
    assert [info.id for info in which_children(ref)] == order


def test_STRAT_05_one_for_all_retries_the_whole_group(supervise: Start, journal: Journal) -> None:
    children = [spec(journal, "a"), spec(journal, "b", ["ok", "fail"]), spec(journal, "c")]
    ref = supervise(children, strategy="one_for_all")
    raised(refs(ref)["a"], "crash")
    journal.wait_for(("start", "c"), times=2)
    assert journal.of("start") == ["a", "b", "c", "a", "a", "b", "c"]
    assert [name for name, kind in journal.of("stop") if kind == "shutdown"] == ["c", "b", "a"]


def test_STRAT_06_rest_for_one_retries_only_from_the_one_that_failed(supervise: Start, journal: Journal) -> None:
    children = [spec(journal, "a"), spec(journal, "b", ["ok", "fail"]), spec(journal, "c")]
    ref = supervise(children, strategy="rest_for_one")
    raised(refs(ref)["a"], "crash")
    journal.wait_for(("start", "c"), times=2)
    assert journal.of("start") == ["a", "b", "c", "a", "b", "c"]


def test_STRAT_07_a_temporary_sibling_is_dropped_by_a_group_restart(supervise: Start, journal: Journal) -> None:
    children = [spec(journal, "a"), spec(journal, "t", restart="temporary"), spec(journal, "c")]
    ref = supervise(children, strategy="one_for_all")
    raised(refs(ref)["a"], "crash")
    journal.wait_for(("start", "c"), times=2)
    assert list(refs(ref)) == ["a", "c"]
    assert ("stop", "t", "shutdown") in journal.entries


def test_STRAT_08_siblings_stopped_by_the_strategy_are_no_failures(supervise: Start, journal: Journal) -> None:
    children = [
        spec(journal, "a"),
        spec(journal, "t", restart="transient", significant=True),
        spec(journal, "x", restart="temporary", significant=True),
    ]
    ref = supervise(children, strategy="one_for_all", auto_shutdown="any_significant", max_restarts=1)
    raised(refs(ref)["a"], "crash")
    journal.wait_for(("start", "t"), times=2)
    assert list(refs(ref)) == ["a", "t"]
    assert ref.is_alive()


class Asking(Probe):
    """Fails to start again and again, and asks its supervisor something each time."""

    def __init__(self, journal: Journal, home: list[ActorRef[Any]], questions: list[Reply[Any]]) -> None:
        super().__init__(journal, "a")
        self.home, self.questions = home, questions

    def on_start(self) -> None:
        if self.home and len(self.questions) < 10:
            if all(question.done for question in self.questions):
                self.journal.add("all answered")
            self.questions.append(later(self.home[0], WhichChildren()))
            raise RuntimeError("this start fails")
        super().on_start()


def test_STRAT_09_a_failed_restart_is_tried_again_through_the_mailbox(supervise: Start, journal: Journal) -> None:
    home: list[ActorRef[Any]] = []
    questions: list[Reply[Any]] = []
    ref = supervise([ChildSpec("a", (Asking, (journal, home, questions)))], max_restarts=20)
    first = refs(ref)["a"]
    home.append(ref)
    raised(first, "crash")
    journal.wait_for(("start", "a"), times=2)
    # Each question was asked during a failed start, and answered before the next attempt.
    assert journal.entries.count("all answered") == 10
    assert [question.get(timeout=WAIT)[0].ref for question in questions] == [None] * 10
