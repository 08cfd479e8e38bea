"""L. Registry, and the lock for each key."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from allm.supervisors import AlreadyRegistered, CallTimeout, Exit, KeyedLocks, Registry, call, cast, kill, stop
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.registry import Registered, Unregistered
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Probe, ask, later, raised, wait_ended


@pytest.fixture
def probe(begin: Start, dispatch: Dispatcher, journal: Journal) -> Start:
    def probe(name: str = "p") -> Any:
        return begin(Probe, journal, name, on=dispatch)

    return probe


def test_REG_01_a_unique_key_has_one_holder(probe: Start) -> None:
    registry = Registry()
    one, two = probe(), probe()
    ask(one, lambda _: registry.register("key", "value"))
    with pytest.raises(AlreadyRegistered) as error:
        registry.register("key", ref=one)
    assert error.value.ref is one
    with pytest.raises(AlreadyRegistered) as error:
        registry.register("key", ref=two)
    assert (error.value.ref, error.value.key) == (one, "key")
    assert registry.lookup("key") == [(one, "value")]
    assert registry.keys(one) == ["key"]


def test_REG_02_the_end_of_a_holder_frees_its_keys_without_residue(probe: Start) -> None:
    registry = Registry()
    for end in (Exit("normal"), "crash", Exit("shutdown")):
        ref = probe()
        for key in range(10):
            registry.register(key, ref=ref)
        raised(ref, end)
        wait_ended(ref)
        assert len(registry) == 0
        assert registry.keys(ref) == []
    registry.register("late", ref=ref)  # by the dead: nothing stays
    assert len(registry) == 0


def test_REG_03_a_dead_holder_does_not_block_a_registration_before_its_clean_up(probe: Start) -> None:
    registry = Registry()
    one, two = probe(), probe()
    registry.register("key", ref=one)
    cell: Any = one.actor_inbox
    assert cell.unwatch(registry)  # the clean-up never comes
    stop(one, timeout=WAIT)
    assert registry.whereis("key") is None
    registry.register("key", ref=two)
    assert registry.whereis("key") is two


def test_REG_04_names_work_for_call_cast_and_whereis(probe: Start, journal: Journal) -> None:
    registry = Registry(name="people")
    name = registry.via("king")
    assert name.whereis() is None
    assert str(name) == "people:king"
    registry.register("king", ref=probe("arthur"))
    assert call(name, "who") == "arthur"
    cast(name, "hello")
    assert call(name, "who") == "arthur"
    assert journal.of("message") == [("arthur", "hello")]


@pytest.mark.parametrize("parallel", [False, True])
def test_REG_05_dispatch_reaches_every_holder_of_a_key(probe: Start, parallel: bool) -> None:
    registry = Registry("duplicate")
    refs = [probe() for _ in range(3)]
    for number, ref in enumerate(refs):
        registry.register("topic", number, ref)
        registry.register("other", -1, ref)
    seen: list[Any] = []

    def reach(ref: Any, value: Any) -> None:
        seen.append((ref, value))
        if value == 0:
            raise RuntimeError("one receiver's bug")

    assert registry.dispatch("topic", reach, parallel=parallel) == 3
    assert sorted(seen, key=lambda pair: pair[1]) == list(zip(refs, range(3), strict=True))
    assert registry.dispatch("nothing", reach, parallel=parallel) == 0


def test_REG_06_unregister_is_idempotent_and_touches_ones_own_only(probe: Start) -> None:
    registry = Registry()
    one, two = probe(), probe()
    registry.register("a", ref=one)
    registry.register("b", ref=one)
    registry.unregister("a", ref=two)
    assert registry.whereis("a") is one
    ask(one, lambda _: registry.unregister("a"))
    registry.unregister("a", ref=one)
    registry.unregister("b", ref=one)
    assert len(registry) == 0
    with pytest.raises(RuntimeError, match="say for whom"):
        registry.unregister("a")


def test_REG_07_listeners_hear_of_registrations(probe: Start, journal: Journal) -> None:
    heard: list[Any] = []
    listener = probe("listener")
    registry = Registry(listeners=[listener, heard.append, lambda _: 1 / 0])
    ref = probe()
    registry.register("a", 1, ref)
    registry.unregister("a", ref)
    registry.register("b", 2, ref)
    stop(ref, timeout=WAIT)
    expected = [
        Registered("registry", "a", ref, 1),
        Unregistered("registry", "a", ref),
        Registered("registry", "b", ref, 2),
        Unregistered("registry", "b", ref),
    ]
    journal.wait_for(*[("message", "listener", event) for event in expected])
    assert heard == expected


def test_REG_08_refused_registrations_leave_nothing(probe: Start) -> None:
    registry = Registry()
    holder, other = probe(), probe()
    registry.register("key", ref=holder)
    for _ in range(100):
        with pytest.raises(AlreadyRegistered):
            registry.register("key", ref=other)
    assert len(registry) == 1
    assert registry.keys(other) == []
    cell: Any = other.actor_inbox
    assert not cell.watchers


class Holding:
    """A thread that holds a lock until told."""

    def __init__(self, locks: KeyedLocks, key: Any) -> None:
        self.held, self.leave = threading.Event(), threading.Event()
        self.locks, self.key = locks, key
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with self.locks.hold(self.key):
            self.held.set()
            self.leave.wait(WAIT)

    def end(self) -> None:
        self.leave.set()
        self.thread.join(WAIT)


def test_REG_09_holders_of_a_key_take_turns_and_other_keys_are_free() -> None:
    locks = KeyedLocks()
    first = Holding(locks, "a")
    assert first.held.wait(WAIT)
    second = Holding(locks, "a")
    with pytest.raises(CallTimeout), locks.hold("a", timeout=0.01):
        raise AssertionError
    with locks.hold("b", timeout=0):
        assert len(locks) == 2
    assert not second.held.is_set()
    first.end()
    assert second.held.wait(WAIT)
    second.end()
    assert len(locks) == 0


def test_REG_09b_the_lock_comes_back_when_its_holder_raises() -> None:
    locks = KeyedLocks()
    with pytest.raises(ValueError, match="oops"), locks.hold("a"):
        raise ValueError("oops")
    with locks.hold("a", timeout=0):
        pass


def test_REG_09c_the_lock_comes_back_when_its_holder_is_killed(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    locks = KeyedLocks()
    held, release = threading.Event(), threading.Event()

    def hold(_: Probe) -> None:
        with locks.hold("a"):
            held.set()
            release.wait(WAIT)

    holder = begin(Probe, journal, "holder", on=threads)
    holder.tell(hold)
    assert held.wait(WAIT)
    waiter = begin(Probe, journal, "waiter", on=threads)
    waiting = later(waiter, lambda _: take(locks))
    kill(holder)
    assert waiting.get(timeout=WAIT) == "taken"
    release.set()


def take(locks: KeyedLocks) -> str:
    with locks.hold("a", timeout=WAIT):
        return "taken"


def test_REG_09d_one_that_is_killed_while_it_waits_is_passed_over(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    locks = KeyedLocks()
    first = Holding(locks, "a")
    assert first.held.wait(WAIT)
    waiter = begin(Probe, journal, "waiter", on=threads)
    future = later(waiter, lambda _: take(locks))
    while len(locks._queues["a"]) < 2:  # pyright: ignore[reportPrivateUsage]
        threading.Event().wait(0.001)
    kill(waiter)
    with pytest.raises(Exception, match="killed"):
        future.get(timeout=WAIT)
    first.end()
    assert take(locks) == "taken"
    assert len(locks) == 0
