"""Supervisors at their edges: ends that nobody reports, faults of what belongs to a child, starts that block, deep and wide trees."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    ActorExited,
    Backoff,
    CallTimeout,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Exit,
    Flags,
    GiveUp,
    ManualTimers,
    PoolDispatcher,
    Registry,
    Restart,
    SpecError,
    StartError,
    Supervisor,
    SupervisorError,
    change_specs,
    child,
    count_children,
    delete_child,
    kill,
    restart_child,
    start_and_wait,
    start_child,
    stop,
    subscribe,
    terminate_child,
    tree,
    which_child,
    which_children,
)
from allm.supervisors.cell import alive, cell_of
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.policy import Window
from allm.supervisors.spec import check_specs
from tests.supervisors.conftest import Start
from tests.supervisors.support import (
    WAIT,
    Deaf,
    Hooked,
    Journal,
    Loop,
    Probe,
    Watched,
    ask,
    later,
    raised,
    running,
    spec,
    wait_ended,
    wait_until,
)

BOTH = pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])


def body_of(ref: ActorRef[Any]) -> Any:
    """The actor itself."""
    cell = cell_of(ref)
    assert cell is not None
    return cell.body


@pytest.fixture(params=[0.005, 1e-6], ids=["5ms", "1us"])
def interval(request: pytest.FixtureRequest) -> Iterator[float]:
    """How often threads take turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield request.param
    sys.setswitchinterval(before)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocked parts of a test wait for; open after it."""
    gate = threading.Event()
    yield gate
    gate.set()


def serves(supervisor: ActorRef[Any]) -> bool:
    """Whether it still carries out changes."""
    ref = start_child(supervisor, ChildSpec("one more", (Actor, ()), restart="temporary"), timeout=WAIT)
    terminate_child(supervisor, ref if issubclass(supervisor.actor_class, DynamicSupervisor) else "one more", timeout=WAIT)
    return supervisor.is_alive()


# -- EDGE-01: no report is waited for that cannot come


class SlowToMake(Actor):
    """The second one that is made takes its time."""

    def __init__(self, made: list[int], entered: threading.Event, gate: threading.Event) -> None:
        super().__init__()
        made.append(1)
        if len(made) == 2:
            entered.set()
            gate.wait(WAIT)

    def on_receive(self, message: Any) -> Any:
        return message


@BOTH
def test_EDGE_01_a_a_kept_child_that_is_killed_while_it_is_made_is_made_again(
    kind: type[Any], begin: Start, dispatch: Dispatcher, gate: threading.Event
) -> None:
    made, entered = list[int](), threading.Event()
    ref = begin(kind, on=dispatch, max_restarts=100)
    kept = start_child(ref, ChildSpec("k", (SlowToMake, (made, entered, gate)), mailbox="keep"), timeout=WAIT)
    kept.tell(Crash())
    assert entered.wait(WAIT)
    kill(kept)
    gate.set()
    assert ask(kept, "x") == "x"
    assert serves(ref)


@BOTH
def test_EDGE_01_b_the_end_of_a_child_that_nobody_reported_is_seen(
    kind: type[Any], begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    ref = begin(kind, on=dispatch)
    lost = start_child(ref, spec(journal, "lost", restart="temporary"), timeout=WAIT)
    cell_of(lost).owner = None  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    kill(lost)
    terminate_child(ref, "lost", timeout=WAIT)
    assert serves(ref)


@BOTH
def test_EDGE_01_c_a_deadline_that_finds_the_child_dead_counts_as_its_end(
    kind: type[Any], begin: Start, threads: Dispatcher, journal: Journal, gate: threading.Event
) -> None:
    timers = ManualTimers()
    ref = begin(kind, on=threads, timers=timers)
    deaf = start_child(ref, ChildSpec("deaf", (Deaf, (journal, "deaf", gate)), shutdown=1.0, restart="temporary"), timeout=WAIT)
    done = threading.Thread(target=partial(terminate_child, ref, "deaf", timeout=WAIT))
    done.start()
    journal.wait_for(("deaf", "deaf"))
    cell_of(deaf).owner = None  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    kill(deaf)
    timers.advance(1.0)
    done.join(WAIT)
    assert not done.is_alive()
    assert serves(ref)


@pytest.mark.parametrize("mailbox", ["drop", "keep"])
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_EDGE_01_d_storms_of_kills_wedge_no_supervisor(
    kind: type[Any], mailbox: Any, begin: Start, dispatch: Dispatcher, journal: Journal, interval: float
) -> None:
    ref = begin(kind, on=dispatch, max_restarts=10**9)
    start_child(ref, spec(journal, "w", mailbox=mailbox), timeout=WAIT)
    killed, over = list[int](), threading.Event()

    def storm() -> None:
        while not over.is_set():
            found = child(ref, "w")
            if found is not None and kill(found):
                killed.append(1)

    killers = [threading.Thread(target=storm) for _ in range(2)]
    for killer in killers:
        killer.start()
    deadline = time.monotonic() + WAIT
    while len(killed) < 60 and time.monotonic() < deadline:
        count_children(ref, timeout=WAIT)
    over.set()
    for killer in killers:
        killer.join(WAIT)
    assert len(killed) >= 60
    assert ask(running(ref, "w"), "who") == "w"
    assert serves(ref)


# -- EDGE-04: faults that are the child's


class Word:
    """A policy that does what it is told."""

    def __init__(self, decide: Callable[[], Any]) -> None:
        self.word = decide

    def decide(self, exit: Exit, attempt: int) -> Any:
        return self.word()


class Failing(Backoff):
    """A backoff with a delay that fails."""

    def delay(self, failures: int, random: float = 1.0) -> float:
        raise SystemExit("a bug in a backoff")


class Nonsense(Backoff):
    """A backoff with a delay that is none."""

    def delay(self, failures: int, random: float = 1.0) -> float:
        return math.nan


def throw(error: BaseException) -> Any:
    raise error


BROKEN: dict[str, tuple[dict[str, Any], bool]] = {
    "policy exits": ({"policy": Word(lambda: sys.exit(1))}, False),
    "policy interrupts": ({"policy": Word(lambda: throw(KeyboardInterrupt()))}, False),
    "policy says nothing": ({"policy": Word(lambda: None)}, False),
    "policy says a word": ({"policy": Word(lambda: "restart")}, False),
    "policy says nonsense": ({"policy": Word(lambda: Restart(delay="1"))}, False),  # type: ignore[arg-type]
    "backoff fails": ({"backoff": Failing(first=0.0)}, True),
    "backoff says nonsense": ({"backoff": Nonsense(first=0.0)}, True),
}


@BOTH
@pytest.mark.parametrize("case", list(BROKEN))
def test_EDGE_04_a_a_policy_or_backoff_that_fails_costs_its_child_alone(
    kind: type[Any], case: str, begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    parts, comes_back = BROKEN[case]
    ref = begin(kind, on=dispatch)
    innocent = start_child(ref, spec(journal, "innocent"), timeout=WAIT)
    bad = start_child(ref, spec(journal, "bad", **parts), timeout=WAIT)
    bad.tell("crash")
    wait_ended(bad)
    if comes_back:
        journal.wait_for(("start", "bad"), times=2)
    assert serves(ref)
    assert innocent.is_alive()
    assert (child(ref, "bad") is not None) is comes_back


def test_EDGE_04_b_a_backoff_never_overflows() -> None:
    assert Backoff(first=0.1, factor=1e6, max=2.0).delay(10**6) == 2.0
    assert Backoff(first=0.0, factor=1e6, max=2.0).delay(10**6) == 0.0
    assert Backoff(first=1.0, factor=3.0, max=math.inf).delay(10**6) < math.inf


class Raising(Actor):
    """Mixed into a supervisor: its hooks raise."""

    error: BaseException

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        raise self.error

    def on_child_restarting(self, child: Any, exit: Exit, delay: float) -> None:
        raise self.error


class RaisingStatic(Raising, Supervisor):
    """A static supervisor with hooks that raise."""


class RaisingDynamic(Raising, DynamicSupervisor):
    """A dynamic supervisor with hooks that raise."""


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1), KeyboardInterrupt()], ids=["error", "exit", "interrupt"])
@pytest.mark.parametrize("kind", [RaisingStatic, RaisingDynamic])
def test_EDGE_04_c_a_hook_that_raises_costs_its_child_alone(
    kind: type[Any], error: BaseException, begin: Start, dispatch: Dispatcher, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Raising, "error", error, raising=False)
    ref = begin(kind, on=dispatch)
    innocent = start_child(ref, spec(journal, "innocent"), timeout=WAIT)
    bad = start_child(ref, spec(journal, "bad"), timeout=WAIT)
    bad.tell("crash")
    journal.wait_for(("start", "bad"), times=2)
    terminate_child(ref, "bad", timeout=WAIT)
    assert serves(ref)
    assert innocent.is_alive()


@BOTH
@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1)], ids=["error", "exit"])
def test_EDGE_04_d_a_listener_that_raises_disturbs_no_supervisor(
    kind: type[Any], error: BaseException, begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    ref = begin(kind, on=dispatch)
    bad = start_child(ref, spec(journal, "bad"), timeout=WAIT)
    unsubscribe = subscribe(lambda event: throw(error))
    try:
        bad.tell("crash")
        journal.wait_for(("start", "bad"), times=2)
        kill(running(ref, "bad"))
        journal.wait_for(("start", "bad"), times=3)
        assert serves(ref)
    finally:
        unsubscribe()


@BOTH
@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1)], ids=["error", "exit"])
def test_EDGE_04_e_a_supervisor_that_fails_while_it_judges_ends_and_is_replaced(
    kind: type[Any],
    error: BaseException,
    supervise: Start,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = supervise([ChildSpec("inner", (kind, ()))])
    inner = running(parent, "inner")
    bad = start_child(inner, spec(journal, "bad"), timeout=WAIT)
    start_child(inner, spec(journal, "other"), timeout=WAIT)
    reports: list[Any] = []
    unsubscribe = subscribe(reports.append)
    admit, once = Window.admit, [True]

    def fail_once(window: Window, now: float) -> bool:
        return bool(throw(error)) if once and once.pop() else admit(window, now)

    monkeypatch.setattr(Window, "admit", fail_once)
    bad.tell("crash")
    wait_ended(inner)
    wait_until(lambda: running(parent, "inner") is not inner)
    unsubscribe()
    assert ("stop", "other", "shutdown") in journal.entries
    told = [event.offender.id for event in reports if event.name == "supervisor_report" and event.context == "child_terminated"]
    assert told == ["bad", "inner"]
    assert serves(running(parent, "inner"))


# -- EDGE-06: every ask resolves, to kept children too


def outcome(ref: ActorRef[Any]) -> type[BaseException]:
    return type(raised(ref, "who"))


@pytest.mark.parametrize("how", ["delete", "head terminated", "head deleted"])
def test_EDGE_06_a_a_kept_child_that_is_down_with_its_group_and_will_not_come_back_says_dead(
    how: str, supervise: Start, journal: Journal
) -> None:
    timers = ManualTimers()
    head = spec(journal, "a", backoff=Backoff(first=10))
    ref = supervise([head, spec(journal, "b", mailbox="keep")], strategy="rest_for_one", timers=timers)
    b = running(ref, "b")
    running(ref, "a").tell("crash")
    journal.wait_for(("stop", "b", "shutdown"))
    wait_until(lambda: which_child(ref, "b").status == "down")
    waiting = later(b, "who")
    if how == "delete":
        delete_child(ref, "b", timeout=WAIT)
    else:
        terminate_child(ref, "a", timeout=WAIT)
        if how == "head deleted":
            delete_child(ref, "a", timeout=WAIT)
    with pytest.raises(ActorExited):
        waiting.get(timeout=WAIT)
    assert not b.is_alive()
    assert issubclass(outcome(b), Exception)


@BOTH
def test_EDGE_06_b_a_kept_child_that_is_left_out_at_its_restart_says_dead(
    kind: type[Any], begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    ref = begin(kind, on=dispatch)
    shy = start_child(ref, spec(journal, "shy", ["ok", "ignore", "ok"], mailbox="keep"), timeout=WAIT)
    shy.tell("crash")
    wait_until(lambda: not shy.is_alive())
    assert issubclass(outcome(shy), Exception)
    if kind is Supervisor:
        assert restart_child(ref, "shy", timeout=WAIT).is_alive()
        assert ask(running(ref, "shy"), "who") == "shy"


def test_EDGE_06_d_a_kept_partition_that_is_arranged_away_says_dead(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    from allm.supervisors import PartitionSupervisor, resize_partitions

    ref = begin(PartitionSupervisor, spec(journal, "p", mailbox="keep"), partitions=2, on=dispatch)
    second = running(ref, 1)
    resize_partitions(ref, 1, timeout=WAIT)
    assert not second.is_alive()


# -- EDGE-07


@BOTH
def test_EDGE_07_a_kept_supervisor_serves_after_each_restart(kind: type[Any], supervise: Start, journal: Journal) -> None:
    parent = supervise([ChildSpec("inner", (kind, ()), mailbox="keep")], max_restarts=100)
    inner = running(parent, "inner")

    def back(times: int) -> bool:
        info = which_child(parent, "inner")
        return info.restarts == times and info.status == "running"

    for n in range(1, 4):
        inner.tell(Crash())
        wait_until(partial(back, n))
        assert inner.is_alive()
        assert count_children(inner, timeout=WAIT).specs == 0
        assert tree(parent)["children"][0]["status"] == "running"
        assert serves(inner)


# -- EDGE-09


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("reason", [Exit("shutdown"), Exit("normal"), Exit("shutdown", {"failed": 1}), Exit("lost")], ids=str)
@BOTH
def test_EDGE_09_a_restart_that_fails_is_tried_again_whatever_its_reason(
    kind: type[Any], reason: Exit, restart: Any, begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    class Hesitant(Probe):
        def on_start(self) -> None:
            if len(journal.of("tried")) in (1, 2):
                journal.add(("tried", "no"))
                self.exit(reason)
            journal.add(("tried", "yes"))
            super().on_start()

    ref = begin(kind, on=dispatch)
    first = start_child(ref, ChildSpec("h", (Hesitant, (journal, "h")), restart=restart), timeout=WAIT)
    first.tell("crash")
    journal.wait_for(("start", "h"), times=2)
    assert journal.of("tried") == ["yes", "no", "no", "yes"]
    wait_until(lambda: which_child(ref, "h").status == "running")
    assert which_child(ref, "h").restarts == 3


def test_EDGE_09_b_a_transient_tree_whose_restart_fails_comes_up_within_the_budget(supervise: Start, journal: Journal) -> None:
    inner = ChildSpec("inner", (Supervisor, ([spec(journal, "w", ["ok", "fail", "ok"])],)), restart="transient")
    ref = supervise([inner])
    running(ref, "inner").tell(Crash())
    journal.wait_for(("start", "w"), times=2)
    wait_until(lambda: which_child(ref, "inner").status == "running")


# -- EDGE-10


PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "dispatcher's name": ({"dispatcher": "pool"}, "invalid_dispatcher"),
    "dispatcher's class": ({"dispatcher": PoolDispatcher}, "invalid_dispatcher"),
    "policy's name": ({"policy": "x"}, "invalid_policy"),
    "policy's class": ({"policy": Word}, "invalid_policy"),
    "backoff's seconds": ({"backoff": 0.5}, "invalid_backoff"),
    "backoff's class": ({"backoff": Backoff}, "invalid_backoff"),
    "context": ({"context": {}}, "invalid_context"),
    "shutdown": ({"shutdown": math.nan}, "invalid_shutdown"),
    "start_timeout": ({"start_timeout": math.nan}, "invalid_start_timeout"),
}


@pytest.mark.parametrize("case", list(PARTS))
def test_EDGE_10_a_a_spec_is_checked_where_it_is_made(case: str, begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    parts, reason = PARTS[case]
    with pytest.raises(SpecError) as error:
        ChildSpec("w", (Actor, ()), **parts)
    assert error.value.reason == reason
    with pytest.raises(SpecError):
        check_specs([{"id": "w", "start": (Actor, ()), **parts}])
    for kind in (Supervisor, DynamicSupervisor):
        ref = begin(kind, on=dispatch)
        with pytest.raises(SupervisorError) as refusal:
            start_child(ref, {"id": "w", "start": (Actor, ()), **parts}, timeout=WAIT)
        assert refusal.value.reason == reason
        assert serves(ref)


@pytest.mark.parametrize("value", [math.nan, -1.0, 0.0, True, "5", None])
def test_EDGE_10_b_flags_are_checked_where_they_are_made(value: Any) -> None:
    with pytest.raises(SpecError):
        Flags(max_seconds=value)


@pytest.mark.parametrize("flags", [{"max_seconds": math.nan}, 7, "never", [1]])
@BOTH
def test_EDGE_10_c_new_flags_are_checked_before_anything_changes(kind: type[Any], flags: Any, begin: Start, dispatch: Dispatcher) -> None:
    ref = begin(kind, on=dispatch)
    with pytest.raises(SupervisorError):
        change_specs(ref, [], flags, timeout=WAIT)
    with pytest.raises(SupervisorError):
        change_specs(ref, [7], timeout=WAIT)  # type: ignore[list-item]
    assert serves(ref)


@pytest.mark.parametrize("delay", ["1", None, -1.0, math.nan, math.inf, True])
def test_EDGE_10_d_answers_of_policies_and_backoffs_are_checked_where_they_are_made(delay: Any) -> None:
    with pytest.raises(ValueError, match="restart"):
        Restart(delay)
    for name in ("first", "factor", "jitter") if delay is math.inf else ("first", "factor", "max", "jitter", "reset_after"):
        with pytest.raises(ValueError, match="backoff"):
            Backoff(**{name: delay})
    with pytest.raises(ValueError, match="giving up"):
        GiveUp("no")  # type: ignore[arg-type]


def test_EDGE_10_e_an_id_under_a_dynamic_supervisor_is_taken_until_its_child_is_gone(
    begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    ref = begin(DynamicSupervisor, on=dispatch, timers=ManualTimers())
    first = start_child(ref, spec(journal, "a", restart="temporary"), timeout=WAIT)
    with pytest.raises(SupervisorError) as error:
        start_child(ref, spec(journal, "a"), timeout=WAIT)
    assert (error.value.reason, error.value.ref) == ("already_started", first)
    kill(first)
    second = start_child(ref, spec(journal, "a", backoff=Backoff()), timeout=WAIT)  # at once: what its cell says counts
    second.tell("crash")
    wait_until(lambda: which_child(ref, "a").status == "restarting")
    with pytest.raises(SupervisorError) as error:
        start_child(ref, spec(journal, "a"), timeout=WAIT)
    assert error.value.reason == "already_present"
    assert count_children(ref).specs == 1


@pytest.mark.parametrize("timers", ["now", 5, ManualTimers])
def test_EDGE_10_f_a_supervisors_timers_are_checked_where_it_is_made(timers: Any, threads: Dispatcher) -> None:
    for kind in (Supervisor, DynamicSupervisor):
        with pytest.raises(SpecError, match="invalid_timers"):
            start_and_wait(kind, timers=timers, on=threads, timeout=WAIT)


# -- EDGE-14


@pytest.mark.slow
def test_EDGE_14_starts_and_stops_are_waited_for_as_long_as_the_child_may_take(
    begin: Start, threads: Dispatcher, journal: Journal, gate: threading.Event
) -> None:
    class Late(Probe):
        def on_start(self) -> None:
            gate.wait(5.3)
            super().on_start()

    ref = begin(DynamicSupervisor, on=threads)
    start_child(ref, ChildSpec("deaf", (Deaf, (journal, "deaf", gate)), restart="temporary", shutdown=5.2))
    ended = threading.Thread(target=partial(terminate_child, ref, "deaf"))
    ended.start()
    assert start_child(ref, ChildSpec("late", (Late, (journal, "late")), start_timeout=WAIT)).is_alive()
    with pytest.raises(SupervisorError, match="start_timeout"):
        start_child(ref, ChildSpec("later", (Late, (journal, "later")), start_timeout=0.05))
    ended.join(WAIT)
    assert not ended.is_alive()
    with pytest.raises(SupervisorError, match="not_found"):
        which_child(ref, "deaf")


# -- EDGE-16


def test_EDGE_16_a_start_function_cannot_take_the_child_of_another(supervise: Start, begin: Start, dispatch: Dispatcher) -> None:
    names = Registry()

    class Shared(Actor):
        def on_start(self) -> None:
            names.register("shared")

        def on_receive(self, message: Any) -> Any:
            return message

    def get_or_start() -> ActorRef[Any]:
        return names.whereis("shared") or Shared.start()

    one = supervise([ChildSpec("shared", (get_or_start, ()))])
    shared = running(one, "shared")
    for kind in (Supervisor, DynamicSupervisor):
        two = begin(kind, on=dispatch)
        with pytest.raises(SupervisorError) as error:
            start_child(two, ChildSpec("shared", (get_or_start, ())), timeout=WAIT)
        assert error.value.reason == "already_started"
        assert error.value.ref is shared
    shared.tell(Crash())
    wait_until(lambda: running(one, "shared") is not shared)
    assert ask(running(one, "shared"), 1) == 1


def test_EDGE_16_b_a_start_function_cannot_make_a_supervisor_its_own_child(supervise: Start) -> None:
    found: list[ActorRef[Any]] = []
    root = supervise([ChildSpec("inner", (Supervisor, ()))])
    inner = running(root, "inner")
    for above in (inner, root):
        found[:] = [above]
        with pytest.raises(SupervisorError, match="bad_return"):
            start_child(inner, ChildSpec("own", (found.__getitem__, (0,))), timeout=WAIT)
    assert serves(inner)


# -- EDGE-20


def test_EDGE_20_a_start_that_is_not_waited_for_any_longer_is_ended(threads: Dispatcher, journal: Journal, gate: threading.Event) -> None:
    class Late(Probe):
        def on_start(self) -> None:
            journal.add(("ref", self.actor_ref))
            gate.wait(WAIT)

    with pytest.raises(CallTimeout):
        start_and_wait(Late, journal, on=threads, timeout=0.02)
    with pytest.raises(CallTimeout):
        start_and_wait(Supervisor, [ChildSpec("late", (Late, (journal,)))], on=threads, timeout=0.02)
    wait_until(lambda: all(not ref.is_alive() for ref in journal.of("ref")))


# -- EDGE-21


class King(Actor):
    """Takes a name while it is made."""

    def __init__(self, names: Registry) -> None:
        super().__init__()
        names.register("king")


@BOTH
def test_EDGE_21_a_a_child_acts_in_its_own_name_while_it_is_made(kind: type[Any], begin: Start, dispatch: Dispatcher) -> None:
    names = Registry()
    ref = begin(kind, on=dispatch)
    king = start_child(ref, ChildSpec("king", (King, (names,))), timeout=WAIT)
    assert names.whereis("king") == king
    raised(king, Crash())
    wait_until(lambda: child(ref, "king") not in (king, None) and names.whereis("king") is child(ref, "king"))
    assert ref.is_alive()


@BOTH
def test_EDGE_21_b_a_start_function_does_not_act_in_the_name_of_its_supervisor(kind: type[Any], begin: Start, dispatch: Dispatcher) -> None:
    names = Registry()

    def make() -> ActorRef[Any]:
        names.register("made")
        return Actor.start()

    ref = begin(kind, on=dispatch)
    made = start_child(ref, ChildSpec("made", (make, ())), timeout=WAIT)
    wait_until(lambda: names.whereis("made") is None)
    made.tell(Crash())
    wait_until(lambda: child(ref, "made") not in (made, None))
    assert serves(ref)


class Waits(Probe):
    """Its making waits."""

    def __init__(self, journal: Journal, name: Any, gate: threading.Event) -> None:
        super().__init__(journal, name)
        journal.add(("making", name))
        gate.wait(WAIT)


def make_waiting(journal: Journal, name: Any, gate: threading.Event) -> ActorRef[Any]:
    """A start function that waits; what it makes is found in the journal."""
    journal.add(("making", name))
    gate.wait(WAIT)
    ref = Probe.start(journal, name)
    journal.add(("made", ref))
    return ref


@BOTH
@pytest.mark.parametrize("start", [Waits, make_waiting])
def test_EDGE_21_c_a_supervisor_answers_and_stops_while_a_child_is_made(
    kind: type[Any], start: Any, begin: Start, threads: Dispatcher, journal: Journal, gate: threading.Event
) -> None:
    ref = begin(kind, on=threads)
    slow = ChildSpec("slow", (start, (journal, "slow", gate)), shutdown=0.05)
    starting = threading.Thread(target=partial(raises_exited, ref, slow))
    starting.start()
    journal.wait_for(("making", "slow"))
    assert which_child(ref, "slow", timeout=WAIT).status == "starting"
    assert [node["status"] for node in tree(ref)["children"]] == ["starting"]
    stop(ref, timeout=WAIT)
    starting.join(WAIT)
    gate.set()
    if start is make_waiting:  # what it makes after all is left to nobody
        entries = journal.wait(lambda entries: any(entry[0] == "made" for entry in entries))
        made = next(entry[1] for entry in entries if entry[0] == "made")
        wait_until(lambda: not made.is_alive())


def raises_exited(ref: ActorRef[Any], spec: ChildSpec) -> None:
    with pytest.raises((ActorExited, SupervisorError)):
        start_child(ref, spec)


@BOTH
@pytest.mark.parametrize("start", [Waits, make_waiting])
def test_EDGE_21_d_the_time_to_start_counts_while_a_child_is_made(
    kind: type[Any], start: Any, begin: Start, threads: Dispatcher, journal: Journal, gate: threading.Event
) -> None:
    ref = begin(kind, on=threads)
    with pytest.raises(SupervisorError, match="start_timeout"):
        start_child(ref, ChildSpec("slow", (start, (journal, "slow", gate)), start_timeout=0.02), timeout=WAIT)
    gate.set()
    if start is make_waiting:
        entries = journal.wait(lambda entries: any(entry[0] == "made" for entry in entries))
        made = next(entry[1] for entry in entries if entry[0] == "made")
        wait_until(lambda: not made.is_alive())
    assert serves(ref)


@BOTH
def test_EDGE_21_e_a_child_told_to_stop_while_its_start_function_runs_is_stopped_in_order(
    kind: type[Any], begin: Start, threads: Dispatcher, journal: Journal, gate: threading.Event
) -> None:
    ref = begin(kind, on=threads)
    starting = threading.Thread(target=partial(raises_exited, ref, ChildSpec("slow", (make_waiting, (journal, "slow", gate)))))
    starting.start()
    journal.wait_for(("making", "slow"))
    stopping = threading.Thread(target=partial(stop, ref, timeout=WAIT))
    stopping.start()
    wait_until(lambda: not ref.is_alive())
    gate.set()
    stopping.join(WAIT)
    starting.join(WAIT)
    assert ("stop", "slow", "shutdown") in journal.entries


def test_EDGE_21_f_what_fails_while_a_child_is_made_has_no_last_words(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    class Broken(Probe):
        def __init__(self) -> None:
            super().__init__(journal, "broken")
            raise RuntimeError("a bug")

    class Mute(Probe):
        def __init__(self) -> None:
            pass

    ref = begin(Supervisor, on=dispatch)
    for broken, reason in ((Broken, "a bug"), (Mute, "does not call super")):
        with pytest.raises(SupervisorError) as error:
            start_child(ref, ChildSpec("broken", (broken, ())), timeout=WAIT)
        assert error.value.exit is not None
        assert reason in error.value.exit.detail["message"]
    assert journal.entries == []


def test_EDGE_21_g_starts_on_a_loop_are_complete_at_once(loop: Loop, begin: Start, journal: Journal) -> None:
    from allm.supervisors import LoopDispatcher

    dispatch = LoopDispatcher(loop.loop)

    def begin_on_loop() -> str:
        ref = start_and_wait(Supervisor, [spec(journal, "a"), ChildSpec("b", (partial(Probe.start, journal, "b"), ()))], on=dispatch)
        body = body_of(ref)
        found: list[str] = [info.status for info in body.children()]
        stop(ref)
        return ",".join(found)

    assert loop.run(begin_on_loop) == "running,running"


# -- EDGE-22


def nested(journal: Journal, levels: int, plan: list[str] | None = None) -> ChildSpec:
    inner = spec(journal, "leaf", plan)
    for _ in range(levels - 1):
        inner = ChildSpec("inner", (Supervisor, ([inner],)))
    return inner


def bottom(node: dict[str, Any]) -> tuple[int, str]:
    depth = 0
    while node.get("children"):
        node, depth = node["children"][0], depth + 1
    return depth, node["status"]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_EDGE_22_trees_of_a_thousand_levels(end: str, dispatch: Dispatcher, journal: Journal) -> None:
    before = set(alive)
    ref = start_and_wait(Supervisor, [nested(journal, 1000)], on=dispatch, timeout=60)
    assert bottom(tree(ref)) == (1000, "running")
    assert child(ref, *["inner"] * 999, "leaf") is not None
    if end == "stop":
        assert stop(ref, timeout=60).kind == "shutdown"
        assert ("stop", "leaf", "shutdown") in journal.entries
    else:
        assert kill(ref)
    assert set(alive) <= before


@pytest.mark.slow
def test_EDGE_22_b_a_tree_of_a_thousand_levels_that_does_not_come_up_says_why(dispatch: Dispatcher, journal: Journal) -> None:
    before = set(alive)
    with pytest.raises(StartError) as error:
        start_and_wait(Supervisor, [nested(journal, 1000, ["fail"])], on=dispatch, timeout=60)
    assert "this start fails" in str(error.value)
    assert error.value.exit == Exit.from_data(error.value.exit.to_data())
    wait_until(lambda: set(alive) <= before)


# -- EDGE-25


def steps(function: Callable[[], object]) -> int:
    """How many bytecodes of functions of Python this takes, on this thread."""
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.slow
@BOTH
def test_EDGE_25_a_child_is_found_and_started_at_the_same_cost_among_many(kind: type[Any], loop: Loop) -> None:
    from allm.supervisors import LoopDispatcher

    dispatch = LoopDispatcher(loop.loop)

    def costs(n: int) -> tuple[int, int]:
        """Steps to find the last of n children, and to start them all."""
        specs = [ChildSpec(id, (Actor, ())) for id in range(n)]
        refs: list[ActorRef[Any]] = [] if kind is Supervisor else [start_and_wait(DynamicSupervisor, on=dispatch)]
        if kind is Supervisor:
            started = steps(lambda: refs.append(start_and_wait(Supervisor, specs, on=dispatch)))
        else:
            started = steps(lambda: [body_of(refs[0]).add(each) for each in specs])
        ref = refs[0]
        found = steps(lambda: child(ref, n - 1))
        stop(ref)
        return found, started

    (found, few), (found_again, many) = (loop.run(lambda n=n: costs(n)) for n in (200, 2000))  # type: ignore[misc]
    assert 0 < found_again <= found
    assert many <= 10.5 * few


# -- EDGE-26, 32


def test_EDGE_26_32_who_is_down_with_a_child_that_is_then_terminated_is_told_gone(
    begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    timers = ManualTimers()
    children = [spec(journal, "a", backoff=Backoff(first=10)), spec(journal, "b"), spec(journal, "c")]
    ref = begin(Watched, journal, children, strategy="rest_for_one", timers=timers, on=dispatch)
    running(ref, "a").tell("crash")
    wait_until(lambda: [info.status for info in which_children(ref)] == ["down", "down", "restarting"])
    delete_child(ref, "c", timeout=WAIT)
    assert journal.of("gone") == [("c", "shutdown")]
    terminate_child(ref, "a", timeout=WAIT)
    assert set(journal.of("gone")) == {("c", "shutdown"), ("b", "shutdown"), ("a", "error")}
    timers.advance(100)
    assert [info.status for info in which_children(ref)] == ["down", "down"]
    assert restart_child(ref, "b", timeout=WAIT).is_alive()


def test_EDGE_26_32b_who_is_down_with_a_child_that_gives_up_is_started_without_it(
    begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    words = [Restart(), GiveUp()]
    children = [spec(journal, "a", ["ok", "fail"], policy=Word(lambda: words.pop(0))), spec(journal, "b")]
    ref = begin(Watched, journal, children, strategy="one_for_all", on=dispatch)
    running(ref, "a").tell("crash")
    journal.wait_for(("start", "b"), times=2)
    wait_until(lambda: [info.status for info in which_children(ref)] == ["running", "down"])


def test_hooks_of_a_dynamic_supervisor_may_start_children(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    class Replacing(Hooked):
        def on_child_gone(self, child: Any, exit: Exit) -> None:
            super().on_child_gone(child, exit)
            if child.id == "a":
                self.add(spec(journal, "b"))

    ref = begin(Replacing, journal, on=dispatch)
    start_child(ref, spec(journal, "a", restart="temporary"), timeout=WAIT)
    terminate_child(ref, "a", timeout=WAIT)
    assert ask(running(ref, "b"), "who") == "b"
