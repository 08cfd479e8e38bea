"""Anything in any order: what must hold of a supervisor whatever is done to it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pykka import ActorRef

from allm.supervisors import (
    ActorExited,
    Backoff,
    ChildSpec,
    Crash,
    Exit,
    ManualTimers,
    StopChild,
    Supervisor,
    SupervisorError,
    events,
    kill,
    stop,
    subscribe,
)
from allm.supervisors.admin import delete_child, restart_child, start_child, terminate_child, which_children
from allm.supervisors.cell import alive, cell_of
from allm.supervisors.children import Child
from allm.supervisors.dispatch import LoopDispatcher, PoolDispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.lifetime import start_and_wait
from allm.supervisors.parent import Parent
from allm.supervisors.policy import Window, affected, should_restart
from allm.supervisors.requests import ChildInfo
from allm.supervisors.slots import Slot
from allm.supervisors.states import CHILD
from tests.conftest import Say
from tests.supervisors.support import WAIT, Hooked, Journal, Loop, Probe, Watched, hold, later, raised, spec, tell, wait_until

IDS = st.sampled_from("abcd")
RESTARTS = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
PLANS = st.lists(st.sampled_from(["ok", "ok", "ok", "ok", "fail", "ignore"]), max_size=6)
BACKOFFS = st.sampled_from([None, None, None, Backoff(1.0, max=4.0)])
SHUTDOWNS = st.sampled_from([5.0, "infinity", "brutal_kill"])
EXITS = st.sampled_from([Exit("normal"), Exit("shutdown"), Exit("odd"), "crash", "crash", "crash", "kill"])


class Tally:
    """What really happened, as the supervisors reported it: crashes, stops and restarts; hangs are counted where they begin."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.started: Counter[Any] = Counter()
        self.ended: Counter[Any] = Counter()
        self._again: set[Any] = set()
        self._lock = threading.Lock()

    def hear(self, event: Any) -> None:
        with self._lock:
            if isinstance(event, events.ChildRestarting):
                self.counts["granted"] += 1
                self._again.add((event.supervisor, event.child))
            elif isinstance(event, events.ChildStarted):
                self.started[event.supervisor, event.child, event.generation] += 1
                self.counts["restarts"] += (event.supervisor, event.child) in self._again
                self._again.discard((event.supervisor, event.child))
            elif isinstance(event, events.ChildEnded):
                self.ended[event.supervisor, event.child, event.generation] += 1
                self.counts["crashes"] += event.exit.kind == "error"
                self.counts["stops"] += event.exit.kind == "shutdown"
            elif isinstance(event, events.Escalated):
                self.counts["escalated"] += 1

    def check(self) -> None:
        """No exit report was lost, and no restart was outside a budget."""
        with self._lock:
            assert not self.started - self.ended
            assert self.counts["granted"] == self.counts["admitted"]
            assert self.counts["escalated"] == self.counts["refused"]

    def __str__(self) -> str:
        names = ("crashes", "hangs", "stops", "restarts", "escalated", "trees", "asks")
        return ", ".join(f"{self.counts[name]:,} {name}" for name in names)


def below(ref: ActorRef[Any]) -> list[Slot]:
    """The slots of a supervisor, and of those under it."""
    cell = cell_of(ref)
    body = cell.body if cell is not None else None
    slots = body.slots() if isinstance(body, Parent) else []
    return [*slots, *(inner for slot in slots if slot.ref is not None for inner in below(slot.ref))]


class Chaos(RuleBasedStateMachine):
    """A tree, its root static or dynamic, and everything that can be done to it. One that gave up is followed by another."""

    kind = "loop"
    tally: Tally

    @initialize(static=st.booleans(), strategy=STRATEGIES, budget=st.sampled_from([0, 1, 3, 6, 50, 50, 50]))
    def begin(self, static: bool, strategy: Any, budget: int) -> None:
        self.loop, self.static = Loop(), static
        self.pool = PoolDispatcher(4, idle=0.05)
        self.dispatch = LoopDispatcher(self.loop.loop) if self.kind == "loop" else self.pool
        self.options: dict[str, Any] = {"max_restarts": budget} | ({"strategy": strategy} if static else {})
        self.names = 0
        self.plant()

    def plant(self) -> None:
        """A new root."""
        self.before = set(alive)
        self.journal, self.timers = Journal(), ManualTimers()
        self.asked: list[Reply[Any]] = []
        self.said = self.added = 0
        self.uncertain = False
        options: dict[str, Any] = {"timers": self.timers, "on": self.dispatch, "timeout": WAIT, **self.options}
        self.ref = start_and_wait(Watched if self.static else Hooked, self.journal, **options)
        self.cell: Any = self.ref.actor_inbox
        self.tally.counts["trees"] += 1
        for id in "abc":
            self.start_one(id, [], 0, "one_for_one", True, restart="permanent")

    def attempt(self, function: Any, *args: Any) -> Any:
        """Do it; being refused, or finding nobody, is fine."""
        with suppress(SupervisorError, ActorExited):
            return function(self.ref, *args)

    def pick(self, number: int) -> ActorRef[Any] | None:
        """Any actor under the root that runs."""
        refs = [slot.ref for slot in below(self.ref) if slot.ref is not None and slot.status == "running"]
        return refs[number % len(refs)] if refs else None

    def probe(self, plan: list[str], **options: Any) -> ChildSpec:
        self.names += 1
        return spec(self.journal, f"probe {self.names}", plan, **options)

    def child(self, id: str, plan: list[str], nested: int, strategy: Any, **options: Any) -> ChildSpec:
        """A probe, or a supervisor of some."""
        if nested == 0:
            probe = self.probe(plan)
            return ChildSpec(id, probe.start, **options)
        inner = [self.probe(plan if number == 0 else []) for number in range(nested)]
        flags = {"strategy": strategy, "max_restarts": 5, "timers": self.timers}
        return ChildSpec(id, (Supervisor, (inner,), flags), **options)

    @rule(
        id=IDS,
        plan=PLANS,
        nested=st.sampled_from([0, 0, 0, 1, 2]),
        strategy=STRATEGIES,
        restart=RESTARTS,
        backoff=BACKOFFS,
        shutdown=SHUTDOWNS,
        apart=st.booleans(),
    )
    def start(self, id: str, plan: list[str], nested: int, strategy: Any, apart: bool, **options: Any) -> None:
        self.start_one(id, plan, nested, strategy, apart, **options)

    def start_one(self, id: str, plan: list[str], nested: int, strategy: Any, apart: bool, **options: Any) -> None:
        child = self.child(id, plan, nested, strategy, dispatcher=self.pool if apart else None, **options)
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

    @rule(ends=st.lists(st.tuples(st.integers(0, 9), EXITS), min_size=1, max_size=5))
    def end_some(self, ends: list[tuple[int, Any]]) -> None:
        for number, how in ends:
            ref = self.pick(number)
            if ref is None:
                return
            if how == "kill":
                kill(ref)
            else:
                with suppress(Exception):
                    raised(ref, Crash() if how == "crash" else how)

    @rule(hangs=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["kill", "stop", "let go"])), min_size=1, max_size=3))
    def hang_some(self, hangs: list[tuple[int, str]]) -> None:
        for number, end in hangs:
            wait_until(self.in_order)  # nobody is about to be stopped with its group
            self.hang(number, end)

    def hang(self, number: int, end: str) -> None:
        """A child of the root stays in its handler until it is killed, told to stop in vain, or comes to its senses."""
        infos: list[ChildInfo] = self.attempt(which_children) or []
        fit = [info for info in infos if info.ref is not None and self.may_hang(info.ref)]
        if not fit:
            return
        info = fit[number % len(fit)]
        ref: Any = info.ref
        entered, release = threading.Event(), threading.Event()
        tell(ref, partial(hold, entered, release))
        assert entered.wait(WAIT)
        self.tally.counts["hangs"] += 1
        if end == "kill":
            kill(ref)
        elif end == "stop":
            self.stop_in_vain(info, release)
        release.set()

    def may_hang(self, ref: ActorRef[Any]) -> bool:
        cell = cell_of(ref)
        return cell is not None and isinstance(cell.body, Probe) and cell.dispatcher is self.pool

    def stop_in_vain(self, info: ChildInfo, release: threading.Event) -> None:
        slot: Any = cell_of(info.ref).owner  # type: ignore[arg-type,union-attr]  # pyright: ignore
        stopped = later(self.ref, StopChild(info.id if self.static else info.ref))
        self.attempt(which_children)
        if slot.spec.shutdown == "infinity":
            release.set()
        else:
            self.timers.advance(5.0)
        assert stopped.get(timeout=WAIT) is None

    @rule(number=st.integers(0, 9), count=st.integers(1, 5))
    def talk(self, number: int, count: int) -> None:
        """Two senders, and an end among what they send, perhaps."""
        ref = self.pick(number)
        if ref is None:
            return
        numbers = range(self.said, self.said + count)
        self.said += count
        other = threading.Thread(target=self.say, args=(ref, "other", numbers))
        other.start()
        self.say(ref, "one", numbers)
        other.join(WAIT)
        self.tally.counts["asks"] += 2 * count

    def say(self, ref: ActorRef[Any], sender: str, numbers: range) -> None:
        self.asked.extend(later(ref, (sender, number)) for number in numbers)

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.timers.advance(seconds)

    @rule()
    def say_something_strange(self) -> None:
        with suppress(Exception):
            self.ref.tell(object())

    @invariant()
    def what_is_in_the_tree_is_what_lives(self) -> None:
        if not hasattr(self, "ref"):
            return
        wait_until(self.in_order)
        if self.cell.exit is not None:
            self.uproot()
            self.plant()
        elif self.static:
            infos: list[ChildInfo] = which_children(self.ref)
            assert len({info.id for info in infos}) == len(infos)
            assert all((info.ref is not None) == (info.status == "running") for info in infos)

    def in_order(self) -> bool:
        """Whether nothing is under way but timers, and all that lives is in its place."""
        mine = {name for name in list(alive) if name not in self.before}
        if self.attempt(which_children) is None:
            return self.cell.exit is not None and not mine
        slots = below(self.ref)
        found = {self.cell.name, *(slot.ref.actor_inbox.name for slot in slots if slot.ref is not None)}  # type: ignore[attr-defined]  # pyright: ignore
        waiting = sum(slot.status == "restarting" for slot in slots)
        settled = all(slot.status in ("running", "down", "restarting") for slot in slots)
        return settled and found == mine and waiting <= len(self.timers.pending())

    def uproot(self) -> None:
        """The end of a tree, and what must hold of all that was done to it."""
        stop(self.ref, timeout=WAIT)
        wait_until(lambda: self.cell.exit is not None and not set(alive) - self.before)
        wait_until(lambda: all(reply.done for reply in self.asked))
        if not self.static and not self.uncertain:
            assert len(self.journal.of("gone")) == self.added
        assert self.timers.pending() == []
        last: dict[Any, int] = {}
        for name, (sender, number) in self.journal.of("message"):
            assert last.get((name, sender), -1) < number
            last[name, sender] = number
        self.tally.check()

    def teardown(self) -> None:
        if hasattr(self, "ref"):
            self.uproot()
            self.loop.close()
            self.pool.close()


class ChaosOnThreads(Chaos):
    kind = "pool"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The changes of status that were seen."""
    seen: set[tuple[str, str]] = set()
    plain: Any = Child.__dict__["status"]

    def write(slot: Child, status: str) -> None:
        with suppress(AttributeError):
            before = plain.__get__(slot)
            if before != status:
                seen.add((before, status))
        plain.__set__(slot, status)

    monkeypatch.setattr(Child, "status", property(plain.__get__, write))
    return seen


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tally]:
    """Counts what happens; every restart must have been admitted by a window."""
    tally, admit = Tally(), Window.admit

    def count(window: Window, now: float) -> bool:
        admitted = admit(window, now)
        tally.counts["admitted" if admitted else "refused"] += 1
        return admitted

    monkeypatch.setattr(Window, "admit", count)
    monkeypatch.setattr(Chaos, "tally", tally, raising=False)
    take_back = subscribe(tally.hear)
    yield tally
    take_back()


COUNTED = ("crashes", "hangs", "stops", "restarts")
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
QUICK = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=SLOW)
LONG = settings(max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=SLOW)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", [Chaos, ChaosOnThreads])
@pytest.mark.parametrize("how", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_whatever_is_done_the_supervisor_knows_who_lives(
    machine: Any, how: settings, steps: set[tuple[str, str]], tally: Tally, say: Say
) -> None:
    run_state_machine_as_test(machine, settings=how)
    for _ in range(9):  # until enough has happened: chance decides how much a run brings
        if how is LONG and min(tally.counts[name] for name in COUNTED) < 1000:
            run_state_machine_as_test(machine, settings=how)
    say(f"{machine.__name__}: {tally}")
    table = {(step.before, step.after) for step in CHILD}
    assert steps <= table
    if how is LONG:  # nothing is stopped here while it starts: test_stopping does that
        assert steps >= table - {("starting", "stopping")}
        assert all(tally.counts[name] >= 1000 for name in COUNTED)


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
