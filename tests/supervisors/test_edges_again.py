"""More of the same kinds: timers of shelved actors, times nobody can wait for, answers and requests that are nonsense."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from functools import partial
from typing import Any

import pytest

from allm.supervisors import (
    Actor,
    ActorExited,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Flags,
    LoopDispatcher,
    ManualTimers,
    PartitionSupervisor,
    ReceiveTimeout,
    Restart,
    Shelf,
    Shelved,
    SpecError,
    SupervisionError,
    Supervisor,
    SupervisorError,
    WouldBlock,
    child,
    count_children,
    delete_child,
    get_spec,
    get_state,
    kill,
    resize_partitions,
    restart_child,
    start_and_wait,
    start_child,
    stop,
    terminate_child,
    which_child,
)
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.exits import KILLED
from allm.supervisors.futures import Reply
from allm.supervisors.mailbox import Kept, KeptCell
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, ask, hold, running, tell, wait_ended, wait_until


class Ticking(Shelved):
    """Has a message told to itself again and again."""

    def on_start(self) -> None:
        self.actor_inbox.timers.send_every(1, self.actor_ref, "tick")

    def on_snapshot(self) -> Any:
        return 1

    def on_receive(self, message: Any) -> Any:
        return message


class Store:
    """Waits in each save until it may go on."""

    def __init__(self) -> None:
        self.saving, self.gate = threading.Event(), threading.Event()
        self.loads = 0

    def load(self, key: Hashable) -> Any:
        self.loads += 1

    def save(self, key: Hashable, state: Any) -> None:
        self.saving.set()
        assert self.gate.wait(WAIT)


def test_EDGE_15_a_timer_of_an_actor_that_is_put_away_starts_no_other(begin: Start, dispatch: Dispatcher) -> None:
    timers, store = ManualTimers(), Store()
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch, timers=timers), Ticking, store)
    assert shelf.ask("a", 1).get(timeout=WAIT) == 1
    hot = shelf.hot("a")
    assert hot is not None
    shelf.passivate("a")
    assert store.saving.wait(WAIT)
    timers.advance(3)  # what comes during a save waits for it
    store.gate.set()
    wait_ended(hot)
    wait_until(lambda: len(shelf) == 0)
    assert store.loads == 1


def test_EDGE_15_a_receive_timeout_keeps_no_actor_from_being_swept(begin: Start, dispatch: Dispatcher) -> None:
    class Patient(Ticking):
        def on_start(self) -> None:
            self.receive_timeout(1)

        def on_receive(self, message: Any) -> Any:
            told.append(message)

    told: list[Any] = []
    timers, store = ManualTimers(), Store()
    store.gate.set()
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch, timers=timers), Patient, store)
    shelf.ask("a", 1).get(timeout=WAIT)
    place = shelf._places["a"]  # pyright: ignore[reportPrivateUsage]
    used = place.used
    timers.advance(3)
    wait_until(lambda: ReceiveTimeout(1) in told)
    assert place.used == used


def test_EDGE_26_what_a_start_function_makes_has_the_timers_of_its_supervisor_from_its_first_turn(
    begin: Start, dispatch: Dispatcher
) -> None:
    class Timed(Actor):
        def on_start(self) -> None:
            self.first = self.actor_inbox.timers

        def on_receive(self, message: Any) -> Any:
            return self.first is timers and self.actor_inbox.timers is timers

    timers = ManualTimers()
    specs = [ChildSpec("made", (Timed.start, ())), ChildSpec("inner", (Supervisor.start, ([Timed.spec("deep")],)))]
    root = begin(Supervisor, specs, on=dispatch, timers=timers)
    assert ask(running(root, "made"), "timers") is True
    assert ask(running(running(root, "inner"), "deep"), "timers") is True


TOO_LONG = 10**400
"""Seconds that no float can hold."""


def test_EDGE_10_seconds_that_no_clock_can_hold_are_refused_where_they_are_said() -> None:
    wrongs: list[dict[str, Any]] = [{"shutdown": TOO_LONG}, {"start_timeout": TOO_LONG}]
    for wrong in wrongs:
        with pytest.raises(SpecError):
            ChildSpec("a", (Actor, ()), **wrong)
    for make in (lambda: Restart(TOO_LONG), lambda: Backoff(first=TOO_LONG, max=TOO_LONG), lambda: Backoff(reset_after=TOO_LONG)):
        with pytest.raises(ValueError, match="not a"):
            make()
    with pytest.raises(SpecError, match="invalid_period"):
        Flags(max_seconds=TOO_LONG)
    assert ChildSpec("a", (Actor, ()), shutdown=1e300).shutdown == 1e300


class Unruly(Restart):
    """Its fields are what they are not to be."""

    def __init__(self, delay: Any) -> None:
        object.__setattr__(self, "delay", delay)
        object.__setattr__(self, "counted", True)


class Moody:
    """A policy whose first answers are right."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def decide(self, exit: Exit, attempt: int) -> Any:
        return self.answers.pop(0)


class Shy:
    """A policy whose `reset_after` can be read once."""

    asked = 0

    @property
    def reset_after(self) -> float:
        self.asked += 1
        if self.asked > 1:
            raise SystemExit
        return 1.0

    def decide(self, exit: Exit, attempt: int) -> Restart:
        return Restart()


KINDS = pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])


@KINDS
@pytest.mark.parametrize("policy", [lambda: Moody(Restart(), Unruly("x")), lambda: Moody(Restart(), Unruly(TOO_LONG)), Shy])
def test_EDGE_04_a_policy_that_is_right_at_first_and_wrong_then_costs_its_child_alone(
    begin: Start, dispatch: Dispatcher, journal: Journal, kind: Any, policy: Any
) -> None:
    supervisor = begin(kind, on=dispatch)
    start_child(supervisor, ChildSpec("other", (Probe, (journal, "other"))))
    other = running(supervisor, "other")
    start_child(supervisor, ChildSpec("moody", (Probe, (journal, "moody")), policy=policy()))
    for times in (1, 2):
        journal.wait_for(("start", "moody"), times=times)
        moody = running(supervisor, "moody")
        tell(moody, "crash")
        journal.wait_for(("stop", "moody", "error"), times=times)
    wait_until(lambda: len(journal.of("stop")) == 2)
    assert get_spec(supervisor, "other").id == "other"
    assert running(supervisor, "other") is other
    assert ask(other, "who") == "other"


class Evil:
    """Raises whenever it is looked up; an id of strangers."""

    def __init__(self, error: type[BaseException], *, hashed: bool) -> None:
        self.error, self.hashed = error, hashed

    def __hash__(self) -> int:
        if not self.hashed:
            raise self.error
        return hash("a")

    def __eq__(self, other: object) -> bool:
        raise self.error


@KINDS
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
@pytest.mark.parametrize("hashed", [True, False])
def test_EDGE_10_an_id_that_cannot_be_looked_up_is_refused_and_costs_nobody_anything(
    begin: Start, dispatch: Dispatcher, journal: Journal, kind: Any, error: type[BaseException], hashed: bool
) -> None:
    supervisor, evil = begin(kind, on=dispatch), Evil(error, hashed=hashed)
    start_child(supervisor, ChildSpec("a", (Probe, (journal, "a"))))
    first = running(supervisor, "a")
    for ask_for in (terminate_child, restart_child, delete_child, which_child, get_spec):
        with pytest.raises(SupervisorError):
            ask_for(supervisor, evil)
    if hashed:
        with pytest.raises(SupervisorError):
            start_child(supervisor, ChildSpec(evil, (Probe, (journal, "b"))))
    with pytest.raises(SupervisorError):
        start_child(supervisor, {"id": evil, "start": (Probe, (journal, "b"))})
    assert child(supervisor, "a") is first
    assert ask(first, "who") == "a"


@pytest.mark.parametrize("count", [None, "x", 1.5, -1])
def test_EDGE_10_a_number_of_partitions_that_is_none_is_refused(begin: Start, dispatch: Dispatcher, count: Any) -> None:
    shares = begin(PartitionSupervisor, ChildSpec("share", (Actor, ())), partitions=2, on=dispatch)
    with pytest.raises(ValueError, match="number of partitions"):
        resize_partitions(shares, count)
    assert shares.is_alive()


def test_TIME_01_a_receive_timeout_is_no_part_of_the_state_and_leaves_a_handler_of_ones_own(begin: Start, dispatch: Dispatcher) -> None:
    class Changing(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []
            vars(self)["on_receive"] = self.first
            self.receive_timeout(60)

        def first(self, message: Any) -> Any:
            self.seen.append(message)
            if message == "enough":
                self.receive_timeout(None)
            return list(self.seen)

    changing = begin(Changing, on=dispatch)
    assert ask(changing, 1) == [1]
    assert get_state(changing) == {"seen": [1]}
    assert ask(changing, "enough") == [1, "enough"]
    assert ask(changing, 2) == [1, "enough", 2]


def test_EDGE_20_who_waits_on_the_thread_of_a_loop_waits_for_what_is_ready_however_long_it_took(
    loop: Loop, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree on one loop is started, asked and stopped from there, also when a turn has taken longer than a slice."""
    monkeypatch.setattr("allm.supervisors.dispatch._SLICE", 0.0)
    dispatcher = LoopDispatcher(loop.loop)

    def work() -> list[Any]:
        children = [ChildSpec(name, (Probe, (journal, name))) for name in "abc"]
        root = start_and_wait(Supervisor, children, on=dispatcher)
        return [count_children(root).active, ask(running(root, "b"), "who"), stop(root)]

    for _ in range(20):
        assert loop.run(work) == [3, "b", Exit("shutdown")]


def test_ASYNC_03_a_wait_on_the_thread_of_a_loop_is_refused_in_the_end(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that tell each other without end hold nobody for good."""
    monkeypatch.setattr("allm.supervisors.dispatch._CATCHES", 2)
    dispatcher = LoopDispatcher(loop.loop)

    class Busy(Actor):
        def on_receive(self, message: Any) -> None:
            if message == "later":
                self.later()
            else:
                self.actor_ref.tell(message)

    def work() -> str:
        busy = start_and_wait(Busy, on=dispatcher)
        busy.tell("again")
        with pytest.raises(WouldBlock):
            busy.ask("later")
        kill(busy)
        return "refused"

    assert loop.run(work) == "refused"


class Unreadable:
    """Has a text that cannot be told."""

    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_LOOK_01_whatever_a_look_raises_costs_who_looks_and_not_the_actor(
    begin: Start, dispatch: Dispatcher, error: type[BaseException]
) -> None:
    class Private(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.odd = {Unreadable(): 1}

        def on_get_state(self) -> Any:
            if self.odd is None:
                raise error
            return super().on_get_state()

        def on_receive(self, message: Any) -> Any:
            self.odd = None  # type: ignore[assignment]
            return message

    private = begin(Private, on=dispatch)
    assert get_state(private) == {"odd": {"(no message)": 1}}
    assert ask(private, 1) == 1
    with pytest.raises((ValueError, SupervisionError)):
        get_state(private)
    assert ask(private, 2) == 2


def test_EDGE_06_an_incarnation_that_is_killed_before_it_takes_over_leaves_what_waits_to_the_next(
    begin: Start, dispatch: Dispatcher, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over, killed = Kept.open, [0]

    def late(self: Kept, cell: KeptCell) -> None:
        killed[0] += 1
        if killed[0] == 2:  # as a killer does who found the ref at once
            assert cell.cancel(KILLED)
        take_over(self, cell)

    root = begin(Supervisor, [ChildSpec("a", (Probe, (journal, "a")), mailbox="keep")], on=dispatch)
    kept, entered, release = child(root, "a"), threading.Event(), threading.Event()
    assert kept is not None
    monkeypatch.setattr(Kept, "open", late)
    killed[0] = 1
    loop_waits = isinstance(dispatch, LoopDispatcher)
    if not loop_waits:
        tell(kept, partial(hold, entered, release))
        assert entered.wait(WAIT)
    answers: list[Any] = []

    def fill(_: Any = None) -> None:
        answers.extend(kept.ask("who", block=False) for _ in range(5))
        kill(kept)

    tell(kept, fill) if loop_waits else fill()
    journal.wait_for(("start", "a"), times=2)
    release.set()
    assert [answer.get(timeout=WAIT) for answer in answers] == ["a"] * 5
    assert killed[0] >= 3
    assert ask(kept, "who") == "a"


def test_EDGE_06_what_waits_is_the_next_incarnation_s_also_when_the_killer_is_slow_to_tell(
    begin: Start, dispatch: Dispatcher, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit of an incarnation can be seen before its killer has closed it; it is replaced meanwhile."""
    take_over, close = Kept.open, KeptCell._close  # pyright: ignore[reportPrivateUsage]
    killers: list[threading.Thread] = []
    gone_on, told = threading.Event(), threading.Event()

    def slow(self: KeptCell, error: BaseException | None) -> Any:
        if threading.current_thread() in killers:
            told.set()
            assert gone_on.wait(WAIT)
        return close(self, error)

    def late(self: Kept, cell: KeptCell) -> None:
        take_over(self, cell)
        if not killers:
            killers.append(threading.Thread(target=cell.cancel, args=(KILLED,)))
            killers[0].start()
            assert told.wait(WAIT)

    root = begin(Supervisor, [ChildSpec("a", (Probe, (journal, "a")), mailbox="keep")], on=dispatch)
    kept = child(root, "a")
    assert kept is not None
    monkeypatch.setattr(KeptCell, "_close", slow)
    monkeypatch.setattr(Kept, "open", late)
    answers: list[Any] = []

    def fill(_: Any) -> None:
        answers.extend(kept.ask("who", block=False) for _ in range(5))
        kill(kept)

    tell(kept, fill)
    journal.wait_for(("start", "a"), times=2)
    gone_on.set()
    killers[0].join(WAIT)
    assert [answer.get(timeout=WAIT) for answer in answers] == ["a"] * 5
    assert ask(kept, "who") == "a"


def test_EDGE_06_an_actor_that_is_killed_in_the_middle_of_later_leaves_no_ask_open(begin: Start, dispatch: Dispatcher) -> None:
    class Deadly(set[Any]):
        def add(self, reply: Any) -> None:
            kill(killed)
            super().add(reply)

    class Answering(Actor):
        def on_receive(self, message: Any) -> Any:
            self.actor_inbox.later = Deadly([Reply()])
            self.later()

    killed = begin(Answering, on=dispatch)
    answer = killed.ask("now", block=False)
    with pytest.raises(ActorExited):
        answer.get(timeout=WAIT)
