"""EDGE-17 (keys), EDGE-26 (streams, locks, tasks, specs, timers), and the small words of registries, casts and children."""

from __future__ import annotations

import datetime
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    AskCycle,
    Bound,
    CallTimeout,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    KeyedLocks,
    Ok,
    PartitionSupervisor,
    Registry,
    SpecError,
    Supervisor,
    Task,
    TaskSupervisor,
    async_,
    async_nolink,
    async_stream,
    await_many,
    cast,
    count_children,
    count_partitions,
    partition_for,
    start_child,
    stop,
    subscribe,
    terminate_child,
)
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.events import DeadLetter
from allm.supervisors.keys import key_number
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Probe, ask, later, running, tell, wait_ended, wait_until

# -- keys


class Color(StrEnum):
    RED = "red"


class Size(IntEnum):
    ONE = 1


class Plain(Enum):
    A = [1]


@dataclass(frozen=True)
class Point:
    x: int
    note: str = field(default="", compare=False)


class Own:
    """Equal by a rule of its own, which it tells."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.name.lower() == other.name.lower()

    def __hash__(self) -> int:
        return hash(self.name.lower())

    def partition_key(self) -> str:
        return self.name.lower()


NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)

EQUAL: list[tuple[Any, Any]] = [
    (Color.RED, "red"),
    (Size.ONE, 1),
    (True, 1),
    (1.0, 1),
    (-0.0, 0),
    (2 + 0j, 2),
    (1.5, Fraction(3, 2)),
    (Decimal("1.0"), Decimal("1.00")),
    (Decimal("1.5"), 1.5),
    (10**30 + 0.0, int(1e30)),
    (float("inf"), Decimal("Infinity")),
    (frozenset({0, 8}), frozenset({8, 0})),
    (frozenset({"a", (1, 2)}), frozenset({(True, 2.0), Color.RED}) - {"red"} | {"a"}),
    ((1, ("a", Color.RED)), (1.0, ("a", "red"))),
    (Point(1, "a"), Point(True, "b")),
    (Own("Ada"), Own("ADA")),
    (NOON, NOON.astimezone(datetime.timezone(datetime.timedelta(hours=5)))),
    (datetime.timedelta(days=1), datetime.timedelta(hours=24)),
    (range(0), range(3, 1)),
    (range(0, 3, 2), range(0, 4, 2)),
    (PurePosixPath("a//b"), PurePosixPath("a/b")),
    (PureWindowsPath("A"), PureWindowsPath("a")),
    ((10**5000,), (10**5000,)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=range(len(EQUAL)))
def test_EDGE_17_equal_keys_have_one_place(one: Any, other: Any) -> None:
    assert one == other
    assert key_number(one) == key_number(other)


SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(),
    st.binary(),
    st.none(),
    st.decimals(allow_nan=False),
    st.fractions(),
)
KEYS: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)), max_leaves=6
)


@given(KEYS, KEYS)
def test_EDGE_17_any_two_keys_that_are_equal_have_one_place(one: Any, other: Any) -> None:
    if one == other:
        assert key_number(one) == key_number(other)


class Chat:
    """Equal to itself alone; its `repr` tells its state."""

    def __init__(self) -> None:
        self.messages = 0

    def __repr__(self) -> str:
        return f"<Chat {self.messages}>"


def test_EDGE_17_an_object_keeps_its_partition_whatever_its_repr(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    shares = begin(PartitionSupervisor, ChildSpec("p", (Probe, (journal, "p"))), partitions=8, on=dispatch)
    chat, seen = Chat(), set[Any]()
    for chat.messages in range(100):
        seen.add(partition_for(shares, chat))
    assert len(seen) == 1
    assert partition_for(shares, shares) is partition_for(shares, shares)
    assert count_partitions(shares) == 8
    assert len({partition_for(shares, ref) for ref in [begin(Probe, journal, on=dispatch) for _ in range(100)]}) > 4


def test_EDGE_17_a_key_without_a_place_is_refused(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    class Secret:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Secret)

        def __hash__(self) -> int:
            return 1

    class Nameless(str):
        """Equal by more than its text."""

        def __eq__(self, other: object) -> bool:
            return isinstance(other, str) and self.lower() == other.lower()

        __hash__ = str.__hash__

    shares = begin(PartitionSupervisor, ChildSpec("p", (Probe, (journal, "p"))), partitions=2, on=dispatch)
    for key in (Secret(), (1, Secret()), Nameless("a")):
        with pytest.raises(TypeError, match=r"partition_key\(\)"):
            partition_for(shares, key)
    for number in (math.nan, Decimal("nan"), (1, math.nan)):
        with pytest.raises(TypeError, match="NaN"):
            partition_for(shares, number)


IN_ANOTHER_PROCESS = """
import datetime, enum, fractions, uuid
from dataclasses import dataclass
from allm.supervisors.keys import key_number

class Color(enum.StrEnum):
    RED = "red"
class Plain(enum.Enum):
    A = 1
@dataclass(frozen=True)
class Point:
    x: str
keys = ["red", Color.RED, Plain.A, Point("a"), b"a", ("a", 1, None), frozenset("abcdef"), frozenset([Point("a"), "x"]), 1.5,
        fractions.Fraction(1, 3), uuid.UUID(int=7), datetime.date(2026, 1, 1), "\\ud800", range(3)]
print([key_number(key) for key in keys])
"""


def test_EDGE_17_a_place_is_the_same_in_every_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


# -- streams


@pytest.fixture
def tasks(begin: Start, threads: Dispatcher) -> ActorRef[Any]:
    return begin(TaskSupervisor, on=threads)


@pytest.mark.parametrize(
    "options", [{"max_concurrency": 0}, {"max_concurrency": -1}, {"max_concurrency": True}, {"on_timeout": "nap"}, {"timeout": -1}]
)
def test_EDGE_26_a_stream_refuses_options_that_mean_nothing(tasks: ActorRef[Any], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        async_stream(tasks, str, [1], **options)
    assert count_children(tasks).specs == 0


def test_EDGE_26_a_stream_begun_in_one_thread_may_be_read_on_in_another(begin: Start, tasks: ActorRef[Any], threads: Dispatcher) -> None:
    stream = async_stream(tasks, int, ["1", "2", "x", "3"], max_concurrency=2)
    assert next(stream) == Ok(1)

    class Reader(Actor):
        def on_receive(self, message: Any) -> Any:
            return list(message)

    rest = ask(begin(Reader, on=threads), stream)
    assert rest[0] == Ok(2)
    assert isinstance(rest[1], Exit)
    assert rest[2] == Ok(3)


def test_EDGE_26_a_stream_closed_in_another_thread_leaves_no_task(tasks: ActorRef[Any]) -> None:
    gate = threading.Event()

    def work(item: int) -> object:
        return item or gate.wait(WAIT)

    stream = async_stream(tasks, work, [1, 0, 0], max_concurrency=3)
    assert next(stream) == Ok(1)
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join(WAIT)
    wait_until(lambda: count_children(tasks).specs == 0)
    gate.set()


def test_EDGE_26_a_source_is_closed_with_its_stream(tasks: ActorRef[Any]) -> None:
    closed: list[str] = []

    def source(name: str) -> Generator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(name)

    def nap(_: int) -> None:
        time.sleep(0.5)

    held = [source("early"), source("late")]  # so that it is not the collector who closes them
    stream = async_stream(tasks, str, held[0], max_concurrency=2)
    assert next(stream) == Ok("0")
    stream.close()
    assert closed == ["early"]
    with pytest.raises(CallTimeout):
        list(async_stream(tasks, nap, held[1], timeout=0.01))
    assert closed == ["early", "late"]


def test_EDGE_26_a_task_that_fails_with_a_timeout_of_its_own_is_a_failed_task(tasks: ActorRef[Any]) -> None:
    def fail() -> None:
        raise CallTimeout("not in time")

    task = async_nolink(tasks, fail)
    wait_until(lambda: task.reply.done)
    outcome = task.poll()
    assert isinstance(outcome, Exit)
    assert outcome.kind == "error"


# -- locks


def test_EDGE_26_a_key_that_an_actor_holds_is_refused_to_it(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    locks = KeyedLocks()

    def twice(_: Any) -> None:
        with locks.hold("a"), locks.hold("b"), locks.hold("a"):
            pass

    with pytest.raises(AskCycle, match="holds the lock of 'a' already"):
        ask(begin(Probe, journal, on=threads), twice)
    assert len(locks) == 0
    with locks.hold("a"), pytest.raises(AskCycle), locks.hold("a"):
        pass
    assert len(locks) == 0


def test_EDGE_26_a_ring_of_locks_and_asks_is_refused(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    locks = KeyedLocks()
    one, two = begin(Probe, journal, "one", on=threads), begin(Probe, journal, "two", on=threads)
    held = threading.Barrier(2, timeout=WAIT)

    def cross(first: str, second: str, _: Any) -> str:
        with locks.hold(first):
            held.wait()
            with locks.hold(second):
                return second

    answers = [later(one, partial(cross, "a", "b")), later(two, partial(cross, "b", "a"))]
    outcomes: list[Any] = []
    for answer in answers:
        try:
            outcomes.append(answer.get(timeout=WAIT))
        except AskCycle:
            outcomes.append("refused")
    assert "refused" in outcomes  # the other one gets both, or both came at once
    assert len(locks) == 0

    def lock(_: Any) -> None:
        with locks.hold("a"):
            pass

    one, two = begin(Probe, journal, "one", on=threads), begin(Probe, journal, "two", on=threads)

    def hold_and_ask(_: Any) -> None:
        with locks.hold("a"):
            ask(two, lock)

    with pytest.raises(AskCycle):
        ask(one, hold_and_ask)


# -- tasks, specs


def test_EDGE_26_await_many_that_times_out_leaves_no_linked_task_running(begin: Start, tasks: ActorRef[Any], threads: Dispatcher) -> None:
    gate = threading.Event()
    refs: list[ActorRef[Any]] = []

    class Asker(Actor):
        def on_receive(self, message: Any) -> Any:
            many: list[Task[Any]] = [async_(tasks, gate.wait, WAIT), async_(tasks, int, "1"), async_nolink(tasks, gate.wait, WAIT)]
            refs.extend(task.ref for task in many if task.ref is not None)
            try:
                await_many(many, timeout=0.05)
            except CallTimeout:
                return "late"

    asker = begin(Asker, on=threads)
    assert ask(asker, "go") == "late"
    assert wait_ended(refs[0]).kind in ("killed", "noproc")
    assert asker.is_alive()
    assert refs[2].is_alive()
    gate.set()
    wait_until(lambda: count_children(tasks).specs == 0)


class Limited(Actor):
    bound = Bound(1)


@pytest.mark.parametrize("start", [Limited, pykka.ThreadingActor, lambda: Actor.start(), Actor.start])
def test_EDGE_26_a_mailbox_that_cannot_be_kept_is_refused_in_the_spec(start: Any) -> None:
    with pytest.raises(SpecError, match="bad_combination"):
        ChildSpec("a", (start, ()), mailbox="keep")
    assert ChildSpec("a", (Supervisor, ()), mailbox="keep").mailbox == "keep"


# -- registries, casts


def test_a_value_is_updated_by_its_holder_alone(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    names = Registry()
    ref, other = begin(Probe, journal, "a", on=dispatch), begin(Probe, journal, "b", on=dispatch)
    names.register("key", 1, ref)
    assert names.update_value("key", lambda value: value + 1, ref) == (2, 1)
    assert names.lookup("key") == [(ref, 2)]
    with pytest.raises(KeyError):
        names.update_value("key", lambda value: value, other)
    with pytest.raises(ValueError, match="duplicate"):
        Registry("duplicate").update_value("key", lambda value: value, ref)
    threads = [
        threading.Thread(target=lambda: [names.update_value("key", lambda value: value + 1, ref) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert names.lookup("key") == [(ref, 802)]


def test_an_actor_may_hold_a_duplicate_key_several_times(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    heard: list[Any] = []
    topics = Registry("duplicate", listeners=[heard.append])
    ref, other = begin(Probe, journal, "a", on=dispatch), begin(Probe, journal, "b", on=dispatch)
    topics.register("news", 1, ref)
    topics.register("news", 2, ref)
    topics.register("news", 3, other)
    assert topics.lookup("news") == [(ref, 1), (ref, 2), (other, 3)]
    assert topics.keys(ref) == ["news", "news"]
    assert len(topics) == 3
    topics.unregister("news", ref)
    assert topics.lookup("news") == [(other, 3)]
    assert topics.keys(ref) == []
    topics.register("news", 4, other)
    stop(other, timeout=WAIT)
    assert topics.lookup("news") == []
    wait_until(lambda: len(heard) == 8)
    assert len(topics) == 0


def test_a_cast_that_reaches_nobody_is_a_dead_letter(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    letters: list[Any] = []
    done = subscribe(lambda event: letters.append(event) if isinstance(event, DeadLetter) else None)
    try:
        names = Registry()
        cast(names.via("nobody"), "hello")
        ref = begin(Probe, journal, on=dispatch)
        stop(ref, timeout=WAIT)
        cast(ref, "again")
    finally:
        done()
    assert [(letter.message, letter.exit.kind) for letter in letters] == [("hello", "noproc"), ("again", "noproc")]
    assert letters[0].actor == "registry:nobody"


# -- a child and its supervisor


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_child_that_asks_for_its_own_end_ends_at_once(begin: Start, threads: Dispatcher, journal: Journal, kind: str) -> None:
    home = begin(DynamicSupervisor if kind == "dynamic" else Supervisor, on=threads)
    ref = start_child(home, ChildSpec("a", (Probe, (journal, "a")), shutdown=60, restart="transient"))
    tell(ref, lambda probe: terminate_child(home, probe.actor_ref if kind == "dynamic" else "a", timeout=None))
    assert wait_ended(ref).kind in ("shutdown", "noproc")
    assert ("stop", "a", "shutdown") in journal.entries
    wait_until(lambda: count_children(home).active == 0)


def test_a_child_that_waits_for_the_supervisor_that_stops_it_ends_at_once(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    home = begin(Supervisor, on=threads)
    asking = threading.Event()
    first = start_child(home, ChildSpec("a", (Probe, (journal, "a")), shutdown=60))

    def start_another(probe: Any) -> None:
        asking.set()
        stop(home, timeout=None)  # of the supervisor, which waits for this child

    tell(first, start_another)
    assert asking.wait(WAIT)
    wait_ended(home)
    assert ("stop", "a", "shutdown") in journal.entries


def test_a_grandchild_that_stops_its_root_ends_at_once(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    leaf = ChildSpec("leaf", (Probe, (journal, "leaf")), shutdown=60)
    root = begin(Supervisor, [ChildSpec("mid", (Supervisor, ([leaf],)))], on=threads)
    tell(running(running(root, "mid"), "leaf"), lambda _: stop(root, timeout=None))
    wait_ended(root)
    assert ("stop", "leaf", "shutdown") in journal.entries


def test_a_child_told_to_stop_by_a_stranger_gets_the_answer_it_waits_for(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    home = begin(DynamicSupervisor, on=threads)
    ref = start_child(home, ChildSpec("a", (Probe, (journal, "a")), restart="temporary"))
    other = begin(Probe, journal, "other", on=threads)
    entered, release = threading.Event(), threading.Event()

    def wait(_: Any) -> str:
        entered.set()
        release.wait(WAIT)
        return "answer"

    def work(_: Any) -> None:
        journal.add(("got", ask(other, wait)))

    tell(ref, work)
    assert entered.wait(WAIT)
    ended = threading.Thread(target=lambda: terminate_child(home, ref, timeout=WAIT))
    ended.start()
    wait_until(lambda: bool(ref.actor_inbox.signals))
    release.set()
    ended.join(WAIT)
    assert ("got", "answer") in journal.entries
