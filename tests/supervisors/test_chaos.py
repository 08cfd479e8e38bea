"""Anything in any order: what must hold of a supervisor whatever is done to it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from allm.supervisors import ActorExited, Backoff, Exit, ManualTimers, SupervisorError, kill, stop
from allm.supervisors.actor import start_and_wait
from allm.supervisors.admin import delete_child, restart_child, start_child, terminate_child, which_children
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import LoopDispatcher, PoolDispatcher
from allm.supervisors.policy import Window, affected, should_restart
from allm.supervisors.requests import ChildInfo
from allm.supervisors.slots import Slot
from allm.supervisors.states import CHILD
from tests.supervisors.support import WAIT, Hooked, Journal, Loop, Watched, raised, spec, wait_until

IDS = st.sampled_from("abcd")
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
PLANS = st.lists(st.sampled_from(["ok", "ok", "ok", "fail", "ignore"]), max_size=6)
BACKOFFS = st.sampled_from([None, None, Backoff(1.0, max=4.0)])
SHUTDOWNS = st.sampled_from([5.0, "infinity", "brutal_kill"])
EXITS = st.sampled_from([Exit("normal"), Exit("shutdown"), Exit("odd"), "crash", "kill"])


class Chaos(RuleBasedStateMachine):
    """One supervisor, static or dynamic, and everything that can be done to it."""

    kind = "loop"

    @initialize(
        static=st.booleans(),
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        budget=st.integers(0, 6),
    )
    def begin(self, static: bool, strategy: Any, budget: int) -> None:
        self.loop = Loop()
        dispatch = LoopDispatcher(self.loop.loop) if self.kind == "loop" else PoolDispatcher(4, idle=0.05)
        self.journal, self.timers, self.static = Journal(), ManualTimers(), static
        options: dict[str, Any] = {"max_restarts": budget, "timers": self.timers}
        if static:
            options["strategy"] = strategy
        self.ref = start_and_wait(Watched if static else Hooked, self.journal, on=dispatch, timeout=WAIT, **options)
        self.cell: Any = self.ref.actor_inbox
        self.added, self.uncertain = 0, False

    def attempt(self, function: Any, *args: Any) -> Any:
        """Do it; being refused, or finding nobody, is fine."""
        with suppress(SupervisorError, ActorExited):
            return function(self.ref, *args)

    @rule(id=IDS, restart=RESTARTS, plan=PLANS, backoff=BACKOFFS, shutdown=SHUTDOWNS)
    def start(self, id: str, restart: Any, plan: list[str], backoff: Any, shutdown: Any) -> None:
        child = spec(self.journal, id, plan, restart=restart, backoff=backoff, shutdown=shutdown)
        try:
            start_child(self.ref, child)
        except SupervisorError as error:
            self.added += error.reason == "start_error"
        except ActorExited:
            self.uncertain = True  # it may have been added just before the end
        else:
            self.added += 1

    @rule(id=IDS)
    def terminate(self, id: str) -> None:
        self.attempt(terminate_child, id)

    @rule(id=IDS)
    def restart(self, id: str) -> None:
        self.attempt(restart_child, id)

    @rule(id=IDS)
    def delete(self, id: str) -> None:
        self.attempt(delete_child, id)

    @rule(number=st.integers(0, 9), how=EXITS)
    def end_a_child(self, number: int, how: Any) -> None:
        infos: list[ChildInfo] = self.attempt(which_children) or []
        refs = [info.ref for info in infos if info.ref is not None]
        if refs:
            ref = refs[number % len(refs)]
            if how == "kill":
                kill(ref)
            else:
                with suppress(Exception):
                    raised(ref, how)

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.timers.advance(seconds)

    @rule()
    def say_something_strange(self) -> None:
        with suppress(Exception):
            self.ref.tell(object())

    @invariant()
    def what_is_reported_is_what_lives(self) -> None:
        if not hasattr(self, "ref"):
            return
        wait_until(self._settled)
        infos = self.attempt(which_children)
        mine = {name for name, cell in list(alive.items()) if isinstance(cell.owner, Slot) and cell.owner.home is self.cell}
        if infos is None:
            wait_until(lambda: self.cell.exit is not None)
            assert not self._children()
            return
        assert {info.ref.actor_inbox.name for info in infos if info.ref is not None} == mine
        assert all((info.ref is not None) == (info.status == "running") for info in infos)
        if self.static:
            assert len({info.id for info in infos}) == len(infos)

    def _children(self) -> set[str]:
        return {name for name, cell in list(alive.items()) if isinstance(cell.owner, Slot) and cell.owner.home is self.cell}

    def _settled(self) -> bool:
        """Whether nothing is under way any more, but for timers."""
        infos: list[ChildInfo] | None = self.attempt(which_children)
        if infos is None:
            return bool(self.cell.exit is not None)
        ends = all(info.ref.is_alive() for info in infos if info.ref is not None)
        return ends and all(info.status in ("running", "down", "restarting") for info in infos) and self._no_instant_retry()

    def _no_instant_retry(self) -> bool:
        infos: list[ChildInfo] = self.attempt(which_children) or []
        waiting = sum(info.status == "restarting" for info in infos)
        return waiting <= len(self.timers.pending())

    def teardown(self) -> None:
        if not hasattr(self, "ref"):
            return
        stop(self.ref, timeout=WAIT)
        wait_until(lambda: self.cell.exit is not None)
        assert not self._children()
        if not self.static and not self.uncertain:
            assert len(self.journal.of("gone")) == self.added
        assert self.timers.pending() == []
        self.loop.close()


class ChaosOnThreads(Chaos):
    kind = "pool"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The changes of status that were seen."""
    seen: set[tuple[str, str]] = set()
    plain: Any = Slot.__dict__["status"]

    def write(slot: Slot, status: str) -> None:
        with suppress(AttributeError):
            before = plain.__get__(slot)
            if before != status:
                seen.add((before, status))
        plain.__set__(slot, status)

    monkeypatch.setattr(Slot, "status", property(plain.__get__, write))
    return seen


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
QUICK = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=SLOW)
LONG = settings(max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=SLOW)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", [Chaos, ChaosOnThreads])
@pytest.mark.parametrize("how", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_whatever_is_done_the_supervisor_knows_who_lives(machine: Any, how: settings, steps: set[tuple[str, str]]) -> None:
    run_state_machine_as_test(machine, settings=how)
    table = {(step.before, step.after) for step in CHILD}
    assert steps <= table
    if how is LONG:  # nothing is stopped here while it starts: test_stopping does that
        assert steps >= table - {("starting", "stopping")}


@given(
    times=st.lists(st.floats(0, 20), max_size=40).map(sorted),
    limit=st.integers(0, 5),
    period=st.floats(0.1, 10),
)
def test_no_window_admits_more_than_its_limit(times: list[float], limit: int, period: float) -> None:
    window, admitted = Window(limit, period), list[float]()
    for now in times:
        if window.admit(now):
            admitted.append(now)
    for now in admitted:
        assert sum(now - period <= then <= now for then in admitted) <= limit
        assert sum(then <= now <= then + period for then in admitted) <= limit


@given(ids=st.lists(st.integers(), unique=True, min_size=1), data=st.data())
def test_a_strategy_takes_along_a_run_of_children_that_holds_the_failed(ids: list[int], data: st.DataObject) -> None:
    failed = data.draw(st.sampled_from(ids))
    assert affected("one_for_one", ids, failed) == [failed]
    assert affected("one_for_all", ids, failed) == ids
    rest = affected("rest_for_one", ids, failed)
    assert rest[0] == failed
    assert ids[-len(rest) :] == rest


@given(kind=st.text())
def test_a_restart_type_asks_only_whether_the_exit_was_orderly(kind: str) -> None:
    exit = Exit(kind)
    assert should_restart("permanent", exit)
    assert not should_restart("temporary", exit)
    assert should_restart("transient", exit) is exit.abnormal
    assert Exit.from_data(exit.to_data()) == exit
