"""More of the same kinds: timers of shelved actors, times nobody can wait for, answers and requests that are nonsense."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Flags,
    GiveUp,
    ManualTimers,
    PartitionSupervisor,
    ReceiveTimeout,
    Restart,
    Shelf,
    Shelved,
    SpecError,
    Supervisor,
    SupervisorError,
    child,
    delete_child,
    get_spec,
    get_state,
    resize_partitions,
    restart_child,
    start_child,
    terminate_child,
    which_child,
)
from allm.supervisors.dispatch import Dispatcher
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Probe, ask, tell, wait_ended, wait_until


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
    place = shelf._places["a"]
    used = place.used
    timers.advance(3)
    wait_until(lambda: ReceiveTimeout(1) in told)
    assert place.used == used


def test_EDGE_26_what_a_start_function_makes_has_the_timers_of_its_supervisor_from_its_first_turn(begin: Start, dispatch: Dispatcher) -> None:
    class Timed(Actor):
        def on_start(self) -> None:
            self.first = self.actor_inbox.timers

        def on_receive(self, message: Any) -> Any:
            return self.first is timers and self.actor_inbox.timers is timers

    timers = ManualTimers()
    specs = [ChildSpec("made", (Timed.start, ())), ChildSpec("inner", (Supervisor.start, ([Timed.spec("deep")],)))]
    root = begin(Supervisor, specs, on=dispatch, timers=timers)
    assert ask(child(root, "made"), "timers") is True
    assert ask(child(child(root, "inner"), "deep"), "timers") is True
