"""EDGE-15: shelves keep their word, find their supervisor, and let their store block; EDGE-13: rings of asks through them."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    ActorExited,
    AskCycle,
    ChildSpec,
    DynamicSupervisor,
    PoolDispatcher,
    Registry,
    Shelf,
    Shelved,
    Supervisor,
    child,
    guard,
    kill,
    stop,
    subscribe,
)
from allm.supervisors import count_children as count
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.events import DeadLetter
from allm.supervisors.exits import Exit
from allm.supervisors.here import Fenced
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, ask, hold, wait_ended, wait_until


class Ledger(Shelved):
    """Writes down what it is told; a function is called with it."""

    def __init__(self, key: Hashable, state: Any) -> None:
        super().__init__(key, state)
        self.seen: list[Any] = list(state or [])

    def on_snapshot(self) -> Any:
        return list(self.seen)

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.seen.append(message)
        return list(self.seen)


class Store:
    """States in memory. `gates` hold up the load or the save of a key, `errors` are raised by it."""

    def __init__(self) -> None:
        self.states: dict[Any, Any] = {}
        self.journal = Journal()
        self.gates: dict[Any, threading.Event] = {}
        self.errors: dict[Any, Exception] = {}

    def load(self, key: Hashable) -> Any:
        self._meet("load", key)
        return self.states.get(key)

    def save(self, key: Hashable, state: Any) -> None:
        self._meet("save", key)
        guard()
        self.states[key] = state
        self.journal.add(("saved", key))

    def _meet(self, what: str, key: Hashable) -> None:
        self.journal.add((what, key))
        gate, error = self.gates.get((what, key)), self.errors.get((what, key))
        if gate is not None:
            assert gate.wait(WAIT)
        if error is not None:
            raise error


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    for gate in store.gates.values():
        gate.set()


@pytest.fixture
def home(begin: Start, dispatch: Dispatcher) -> ActorRef[Any]:
    return begin(DynamicSupervisor, on=dispatch)


def crash(_: Any) -> None:
    raise RuntimeError("crash")


def busy(shelf: Shelf, key: Hashable) -> tuple[threading.Event, ActorRef[Any]]:
    """Keep the actor of a key in its handler until the event is set."""
    entered, release = threading.Event(), threading.Event()
    shelf.tell(key, partial(hold, entered, release))
    assert entered.wait(WAIT)
    hot = shelf.hot(key)
    assert hot is not None
    return release, hot


def test_EDGE_15_who_is_put_away_while_messages_wait_handles_those_and_goes(begin: Start, threads: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)
    release, first = busy(shelf, "a")
    for number in range(3):
        shelf.tell("a", number)
    shelf.passivate("a")
    shelf.passivate("a")  # the word is given already
    for number in range(3, 6):
        shelf.tell("a", number)
    release.set()
    assert wait_ended(first) in (Exit("shutdown", "passivated"), Exit("noproc"))
    assert shelf.ask("a", 6).get(timeout=WAIT) == [0, 1, 2, 3, 4, 5, 6]
    assert shelf.hot("a") is not first
    assert store.states == {"a": [0, 1, 2]}


def test_EDGE_15_a_sweep_leaves_who_is_busy(begin: Start, threads: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)
    release, first = busy(shelf, "a")
    shelf.sweep(0)
    shelf.tell("a", 1)
    release.set()
    assert shelf.ask("a", 2).get(timeout=WAIT) == [1, 2]
    assert shelf.hot("a") is first
    shelf.sweep(0)
    wait_ended(first)
    assert store.states == {"a": [1, 2]}
    wait_until(lambda: len(shelf) == 0)


def test_EDGE_15_a_word_given_over_a_crash_is_kept(begin: Start, threads: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)
    release, _ = busy(shelf, "a")
    shelf.tell("a", Shelved.on_start)  # nothing
    shelf.tell("a", crash)
    shelf.tell("a", 1)
    shelf.passivate("a")
    release.set()
    store.journal.wait_for(("saved", "a"))
    wait_until(lambda: len(shelf) == 0)
    assert store.states == {"a": [1]}


def test_EDGE_15_nothing_is_handled_while_the_state_is_saved(home: ActorRef[Any], store: Store) -> None:
    shelf = Shelf(home, Ledger, store)
    gate = store.gates["save", "a"] = threading.Event()
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    first = shelf.hot("a")
    shelf.passivate("a")
    store.journal.wait_for(("save", "a"))
    answers = [shelf.ask("a", number) for number in (2, 3)]
    assert count(home).specs == 1  # the supervisor waits for nobody
    assert shelf.ask("b", 1).get(timeout=WAIT) == [1]
    assert not any(answer.done for answer in answers)
    gate.set()
    assert [answer.get(timeout=WAIT) for answer in answers] == [[1, 2], [1, 2, 3]]
    assert store.states == {"a": [1]}
    assert shelf.hot("a") is not first


def test_EDGE_15_a_save_that_fails_late_loses_and_reorders_nothing(home: ActorRef[Any], store: Store) -> None:
    shelf = Shelf(home, Ledger, store)
    gate = store.gates["save", "a"] = threading.Event()
    store.errors["save", "a"] = OSError("disk full")
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    first = shelf.hot("a")
    shelf.passivate("a")
    store.journal.wait_for(("save", "a"))
    answers = [shelf.ask("a", number) for number in range(2, 5)]
    gate.set()
    assert answers[-1].get(timeout=WAIT) == [1, 2, 3, 4]
    assert answers[0].get(timeout=WAIT) == [1, 2]
    assert shelf.hot("a") is first
    assert store.states == {}


def test_EDGE_15_a_save_that_hangs_is_given_up_and_has_no_effect_then(home: ActorRef[Any], store: Store) -> None:
    shelf = Shelf(home, Ledger, store, timeout=0.05)
    gate = store.gates["save", "a"] = threading.Event()
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    first = shelf.hot("a")
    shelf.passivate("a")
    assert shelf.ask("a", 2).get(timeout=WAIT) == [1, 2]
    assert shelf.hot("a") is first
    gate.set()  # the late one meets the fence
    store.gates.clear()
    shelf.passivate("a")
    store.journal.wait_for(("saved", "a"))
    assert store.states == {"a": [1, 2]}


def test_EDGE_15_a_shutdown_waits_for_the_save_that_runs(begin: Start, dispatch: Dispatcher, store: Store) -> None:
    home = begin(DynamicSupervisor, on=dispatch)
    shelf = Shelf(home, Ledger, store)
    gate = store.gates["save", "a"] = threading.Event()
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    shelf.passivate("a")
    store.journal.wait_for(("save", "a"))
    waiting = shelf.ask("a", 2)
    threading.Timer(0.05, gate.set).start()
    stop(home, timeout=WAIT)
    assert store.states == {"a": [1]}
    with pytest.raises(ActorExited):
        waiting.get(timeout=WAIT)


def test_EDGE_15_an_actor_killed_while_it_is_saved_loses_no_message(begin: Start, dispatch: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch), Ledger, store)
    gate = store.gates["save", "a"] = threading.Event()
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    first = shelf.hot("a")
    assert first is not None
    shelf.passivate("a")
    store.journal.wait_for(("save", "a"))
    answers = [shelf.ask("a", number) for number in (2, 3)]
    inbox: Any = first.actor_inbox
    wait_until(lambda: not inbox.user and inbox.envelope is None)  # else one may be in hand, and go with the actor
    kill(first)
    shelf.tell("a", 4)
    assert store.journal.of("load") == ["a"]  # the next load waits for the save
    gate.set()
    assert answers[1].get(timeout=WAIT) == [1, 2, 3]
    assert shelf.ask("a", 5).get(timeout=WAIT) == [1, 2, 3, 4, 5]


# -- loads


@pytest.mark.alone
def test_EDGE_15_thirty_loads_of_a_tenth_of_a_second_take_little_more_than_one(begin: Start) -> None:
    class Slow:
        def load(self, key: Hashable) -> Any:
            time.sleep(0.1)

        def save(self, key: Hashable, state: Any) -> None:
            time.sleep(0.1)

    pool = PoolDispatcher(32, idle=0.05)
    shelf = Shelf(begin(DynamicSupervisor, on=pool), Ledger, Slow())
    before = time.monotonic()
    answers = [shelf.ask(key, 1) for key in range(30)]
    assert [answer.get(timeout=WAIT) for answer in answers] == [[1]] * 30
    assert time.monotonic() - before < 0.7


def test_EDGE_15_loads_go_on_side_by_side_and_the_supervisor_answers_meanwhile(home: ActorRef[Any], store: Store) -> None:
    shelf = Shelf(home, Ledger, store)
    for key in range(20):
        store.gates["load", key] = threading.Event()
    answers = [shelf.ask(key, 1) for key in range(20)]
    store.journal.wait(lambda seen: len(seen) == 20)
    assert count(home).specs == 0
    assert shelf.ask("free", 1).get(timeout=WAIT) == [1]
    for gate in store.gates.values():
        gate.set()
    assert [answer.get(timeout=WAIT) for answer in answers] == [[1]] * 20


def test_EDGE_15_a_load_that_raises_fails_what_waits_with_the_reason(home: ActorRef[Any], store: Store) -> None:
    shelf = Shelf(home, Ledger, store)
    letters: list[Any] = []
    done = subscribe(lambda event: letters.append(event.message) if isinstance(event, DeadLetter) else None)
    gate = store.gates["load", "a"] = threading.Event()
    store.errors["load", "a"] = OSError("no such state")
    answer = shelf.ask("a", 1)
    shelf.tell("a", 2)
    shelf.passivate("a")
    gate.set()
    try:
        with pytest.raises(ActorExited) as caught:
            answer.get(timeout=WAIT)
        wait_until(lambda: letters == [2])
    finally:
        done()
    assert caught.value.exit.kind == "error"
    assert caught.value.exit.detail["message"] == "no such state"
    del store.errors["load", "a"]
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]  # the next message tries again


def test_EDGE_15_a_load_that_hangs_is_given_up(home: ActorRef[Any], store: Store) -> None:
    shelf = Shelf(home, Ledger, store, timeout=0.05)
    store.gates["load", "a"] = threading.Event()
    with pytest.raises(ActorExited) as caught:
        shelf.ask("a", 1).get(timeout=WAIT)
    assert caught.value.exit.kind == "timeout"
    assert "the load took longer than 0.05 seconds" in str(caught.value.exit.detail)
    assert shelf.ask("b", 1).get(timeout=WAIT) == [1]


def test_EDGE_15_the_end_of_the_supervisor_ends_the_wait_for_a_load(begin: Start, dispatch: Dispatcher, store: Store) -> None:
    home = begin(DynamicSupervisor, on=dispatch)
    shelf = Shelf(home, Ledger, store)
    store.gates["load", "a"] = threading.Event()
    answer = shelf.ask("a", 1)
    store.journal.wait_for(("load", "a"))
    stop(home, timeout=WAIT)
    with pytest.raises(ActorExited) as caught:
        answer.get(timeout=WAIT)
    assert caught.value.exit.kind == "shutdown"
    with pytest.raises(ActorExited):
        shelf.ask("a", 1).get(timeout=WAIT)


# -- its supervisor


def test_EDGE_15_a_refusal_keeps_its_reason(begin: Start, dispatch: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch, max_children=1), Ledger, store)
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    with pytest.raises(ActorExited) as caught:
        shelf.ask("b", 1).get(timeout=WAIT)
    assert caught.value.exit == Exit("max_children")
    shelf.passivate("a")
    wait_until(lambda: len(shelf) == 0)
    assert shelf.ask("b", 1).get(timeout=WAIT) == [1]


def test_EDGE_15_who_comes_back_takes_no_more_room_than_before(begin: Start, dispatch: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch, max_children=1), Ledger, store)
    for number in range(50):
        assert len(shelf.ask("a", number).get(timeout=WAIT)) == number + 1
        shelf.passivate("a")


def test_EDGE_15_two_shelves_may_share_a_supervisor(home: ActorRef[Any], store: Store) -> None:
    shelves = [Shelf(home, Ledger, store) for _ in range(2)]
    assert [shelf.ask("a", 1).get(timeout=WAIT) for shelf in shelves] == [[1], [1]]
    assert count(home).specs == 2


class Home(DynamicSupervisor):
    """Takes a name."""

    def __init__(self, names: Registry) -> None:
        super().__init__()
        self.names = names

    def on_start(self) -> None:
        self.names.register("home", ref=self.actor_ref)


def test_EDGE_15_a_supervisor_with_a_name_is_found_over_its_restarts(begin: Start, dispatch: Dispatcher, store: Store) -> None:
    names = Registry()
    root = begin(Supervisor, [ChildSpec("home", (Home, (names,)))], on=dispatch, max_restarts=1000)
    shelf = Shelf(names.via("home"), Ledger, store)
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    shelf.passivate("a")
    wait_until(lambda: store.states == {"a": [1]} and len(shelf) == 0)
    for turn in range(5):
        first = child(root, "home")
        assert first is not None
        kill(first)
        answers = [shelf.ask(key, turn) for key in ("a", "b")]  # perhaps while there is none
        assert [answer.get(timeout=WAIT) for answer in answers] == [[1, turn], [turn]]
        wait_until(lambda: count(names.via("home")).active == 2)  # it knows of both: they die with it


def test_EDGE_15_a_name_that_nobody_has_fails_at_once_and_one_that_stays_gone_after_a_time(
    begin: Start, dispatch: Dispatcher, store: Store
) -> None:
    names = Registry()
    shelf = Shelf(names.via("home"), Ledger, store, patience=0.1)
    with pytest.raises(ActorExited) as caught:
        shelf.ask("a", 1).get(timeout=WAIT)
    assert caught.value.exit.kind == "noproc"
    home = begin(Home, names, on=dispatch)
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    stop(home, timeout=WAIT)
    with pytest.raises(ActorExited):
        shelf.ask("a", 1).get(timeout=WAIT)


def test_EDGE_15_what_the_dead_tell_a_shelf_is_refused(begin: Start, threads: Dispatcher, store: Store, journal: Journal) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)
    entered, release, refused = threading.Event(), threading.Event(), threading.Event()

    class Teller(Actor):
        def on_receive(self, message: Any) -> None:
            entered.set()
            release.wait(WAIT)
            try:
                shelf.tell("a", 1)
            except Fenced:
                refused.set()

    teller = begin(Teller, on=threads)
    teller.tell("go")
    assert entered.wait(WAIT)
    kill(teller)
    release.set()
    assert refused.wait(WAIT)
    assert len(shelf) == 0


def test_EDGE_15_a_finaliser_that_tells_a_shelf_meets_no_lock(begin: Start, threads: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)

    class Key(str):
        """A key whose comparison tells the shelf, as a finaliser may that runs at any moment."""

        told = False

        def __hash__(self) -> int:
            if not self.told:
                self.told = True
                shelf.tell("other", 1)
            return super().__hash__()

        __eq__ = str.__eq__

    key = Key("a")
    key.told = True
    lock: Any = shelf._lock  # pyright: ignore[reportPrivateUsage]
    with lock:
        key.told = False
        shelf.tell(key, 1)
    assert shelf.ask("other", 2).get(timeout=WAIT) == [1, 2]


def test_EDGE_15_races_of_messages_sweeps_kills_and_failing_saves_keep_the_order(home: ActorRef[Any], store: Store) -> None:
    """Nothing is handled twice or out of order; only what a kill or a crash took from memory is missing."""
    shelf = Shelf(home, Ledger, store)
    done = threading.Event()

    def disturb() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            shelf.sweep(0)
            shelf.passivate(turn % 2)
            store.errors.update({("save", 0): OSError("full")}) if turn % 3 else store.errors.clear()
            time.sleep(0)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    try:
        for number in range(600):
            shelf.tell(number % 2, number)
        answers = [shelf.ask(key, "end") for key in (0, 1)]
        for key, answer in enumerate(answers):
            assert answer.get(timeout=WAIT) == [*range(key, 600, 2), "end"]
    finally:
        done.set()
        thread.join(WAIT)


# -- EDGE-13


def test_EDGE_13_a_ring_of_asks_through_a_shelf_is_refused(begin: Start, threads: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)

    def back(_: Any) -> Any:
        return shelf.ask("a", 1).get(timeout=WAIT)

    def there(_: Any) -> Any:
        return shelf.ask("b", back).get(timeout=WAIT)

    with pytest.raises(AskCycle, match="ask cycle"):
        shelf.ask("a", there).get(timeout=WAIT)


def test_EDGE_13_an_actor_of_a_shelf_that_asks_itself_is_refused(begin: Start, threads: Dispatcher, store: Store) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, store)

    def itself(_: Any) -> Any:
        return shelf.ask("a", 1).get(timeout=WAIT)

    for _ in range(2):
        with pytest.raises(AskCycle, match="calling_self"):
            shelf.ask("a", itself).get(timeout=WAIT)


def test_EDGE_13_a_ring_by_way_of_a_load_is_refused(begin: Start, threads: Dispatcher, store: Store) -> None:
    asked: list[ActorRef[Any]] = []

    class Asking(Store):
        def load(self, key: Hashable) -> Any:
            return ask(asked[0], "who")

    shelf = Shelf(begin(DynamicSupervisor, on=threads), Ledger, Asking())

    class Asker(Actor):
        def on_receive(self, message: Any) -> Any:
            return shelf.ask("a", 1).get(timeout=WAIT)

    asked.append(begin(Asker, on=threads))
    with pytest.raises((AskCycle, ActorExited)) as caught:  # whoever comes last is refused: the actor, or the load
        asked[0].ask("go", timeout=WAIT)
    assert not isinstance(caught.value, ActorExited) or "AskCycle" in str(caught.value.exit.detail)
