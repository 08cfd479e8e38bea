"""N. What Python needs on top: threads that die or hang, futures, forks, the end of the interpreter."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from typing import Any

import pytest
from pykka import ActorDeadError, ActorRef, ThreadingActor, Timeout

from allm.supervisors import (
    Actor,
    ActorExited,
    AskCycle,
    Backoff,
    Bound,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Exit,
    Fenced,
    GiveUp,
    KeyedLocks,
    MailboxFull,
    ManualTimers,
    Registry,
    Restart,
    Shelf,
    Shelved,
    Supervisor,
    SupervisorError,
    WouldBlock,
    abandoned,
    call,
    events,
    guard,
    kill,
    stop,
    subscribe,
    tree,
)
from allm.supervisors.admin import restart_child, start_child, terminate_child, which_child, which_children
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher, LoopDispatcher, PoolDispatcher, ThreadDispatcher
from allm.supervisors.lifetime import StartError, start_and_wait
from allm.supervisors.requests import StartChild
from tests.conftest import Say
from tests.supervisors.conftest import Start
from tests.supervisors.support import (
    WAIT,
    Hooked,
    Journal,
    Loop,
    Probe,
    Watched,
    ask,
    hold,
    later,
    raised,
    running,
    spec,
    tell,
    wait_ended,
    wait_until,
)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def dead_letters() -> Iterator[Journal]:
    letters = Journal()
    take_back = subscribe(lambda event: letters.add(event) if isinstance(event, events.DeadLetter) else None)
    yield letters
    take_back()


# -- ends


class BadLastWords(Probe):
    def on_exit(self, reason: Exit) -> None:
        raise SystemExit(4)


@pytest.mark.parametrize("how", ["on_start", "handler", "on_exit", "exit", "kill"])
def test_PY_01_every_end_is_reported_exactly_once(begin: Start, dispatch: Dispatcher, journal: Journal, how: str) -> None:
    ref = begin(Hooked, journal, on=dispatch)
    if how == "on_start":
        with pytest.raises(SupervisorError, match="start_error"):
            start_child(ref, spec(journal, "a", ["exit"], restart="temporary"))
    else:
        kind = BadLastWords if how == "on_exit" else Probe
        child = start_child(ref, ChildSpec("a", (kind, (journal, "a")), restart="temporary"))
        ends: dict[str, Any] = {"handler": fatal, "on_exit": Exit("normal"), "exit": Exit("error")}
        kill(child, Exit("error")) if how == "kill" else raised(child, ends[how])
    which_children(ref)
    assert [entry for entry in journal.entries if entry[0] == "gone"] == [("gone", "a", "error")]


def fatal(_: Probe) -> None:
    raise SystemExit(3)


def test_PY_01b_a_thread_that_cannot_start_is_reported_once(journal: Journal, no_threads: None, begin: Start, loop: Loop) -> None:
    ref = begin(Hooked, journal, on=LoopDispatcher(loop.loop))
    for dispatcher in (ThreadDispatcher(), PoolDispatcher(2)):
        with pytest.raises(SupervisorError) as error:
            start_child(ref, spec(journal, "a", dispatcher=dispatcher))
        assert error.value.exit is not None
        assert error.value.exit.detail["type"] == "ThreadRefused"
    assert journal.entries == [("gone", "a", "error")] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Exception])
def test_PY_02_no_exception_ends_more_than_one_actor(
    begin: Start, dispatch: Dispatcher, journal: Journal, error: type[BaseException]
) -> None:
    def hit(_: Probe) -> None:
        raise error

    victim, neighbour = begin(Probe, journal, "v", on=dispatch), begin(Probe, journal, "n", on=dispatch)
    stranger = Stranger.start()
    assert isinstance(raised(victim, hit), Exception if error is Exception else ActorExited)
    wait_ended(victim)
    assert ask(neighbour, "who") == "n"
    assert stranger.is_alive()
    stranger.stop(timeout=WAIT)


class Stranger(ThreadingActor):
    """A plain Pykka actor."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message


@pytest.mark.slow
def test_PY_03_no_ask_that_races_with_a_death_stays_open(dispatch: Dispatcher, journal: Journal, say: Say) -> None:
    """300,000 asks in all over the three dispatchers."""
    outcome = race(dispatch, journal, rounds=500, asks=200)
    say(f"{type(dispatch).__name__}: {outcome.total():,} asks against 500 deaths: {dict(outcome)}")
    assert outcome.total() == 100_000
    assert outcome["unresolved"] == 0
    assert outcome["refused"] > 1000  # or it was no race
    assert outcome["answered"] > 1000


def test_PY_03b_the_same_race_in_short(dispatch: Dispatcher, journal: Journal) -> None:
    outcome = race(dispatch, journal, rounds=30, asks=100)
    assert (outcome.total(), outcome["unresolved"]) == (3000, 0)


def race(dispatch: Dispatcher, journal: Journal, rounds: int, asks: int) -> Counter[str]:
    """How many asks were answered, refused, unresolved."""
    outcome = Counter(answered=0, refused=0, unresolved=0)

    def fire(ref: ActorRef[Any], futures: list[Any], go: threading.Barrier) -> None:
        go.wait(WAIT)
        for _ in range(asks // 2):
            futures.append(ref.ask("who", block=False))

    for number in range(rounds):
        ref = start_and_wait(Probe, journal, on=dispatch, timeout=WAIT)
        futures: list[Any] = []
        go = threading.Barrier(3)
        threads = [threading.Thread(target=fire, args=(ref, futures, go)) for _ in range(2)]
        for thread in threads:
            thread.start()
        go.wait(WAIT)
        while len(futures) < number * 7 % asks:  # the deaths come before, among and after the asks
            time.sleep(0)
        ends = (lambda: kill(ref), lambda: ref.stop(block=False), lambda: ref.ask("crash", block=False))  # noqa: B023
        ends[number % 3]()
        for thread in threads:
            thread.join(WAIT)
        wait_ended(ref)
        for future in futures:
            try:
                assert future.get(timeout=WAIT) == "probe"
                outcome["answered"] += 1
            except ActorDeadError:
                outcome["refused"] += 1
            except Timeout:
                outcome["unresolved"] += 1
    return outcome


def test_PY_04_an_ask_in_the_handler_of_an_abandoned_child_fails_at_once(
    begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event
) -> None:
    ref = begin(Probe, journal, on=threads)
    entered = threading.Event()
    future = later(ref, partial(hold, entered, release))
    queued = ref.ask("who", block=False)
    assert entered.wait(WAIT)
    kill(ref)
    for one in (future, queued):
        with pytest.raises(ActorExited) as error:
            one.get(timeout=0)
        assert error.value.exit.kind == "killed"


def test_PY_05_reports_and_timers_of_an_older_generation_are_void(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    ref = begin(Watched, journal, [spec(journal, "a", backoff=Backoff(1.0))], timers=timers, on=dispatch)
    first = running(ref, "a")
    old: Any = first.actor_inbox
    raised(first, "crash")
    assert which_child(ref, "a").status == "restarting"
    terminate_child(ref, "a")
    assert restart_child(ref, "a") is not first
    timers.advance(10)  # the restart that was due is void
    old.owner.child_ended(old, Exit("late"))
    old.owner.child_started(old)
    assert which_child(ref, "a").status == "running"
    assert journal.of("start") == ["a", "a"]


def test_PY_05b_a_late_reply_of_an_abandoned_handler_reaches_nobody(
    begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event
) -> None:
    ref = begin(Hooked, journal, on=threads)
    child = start_child(ref, spec(journal, "a"))
    entered, left = threading.Event(), threading.Event()

    def work(_: Probe) -> str:
        entered.set()
        release.wait(WAIT)
        left.set()
        return "late"

    future = child.ask(work, block=False)
    assert entered.wait(WAIT)
    kill(child)
    journal.wait_for(("start", "a"), times=2)
    release.set()
    assert left.wait(WAIT)
    with pytest.raises(ActorExited):
        future.get(timeout=WAIT)
    assert [info.status for info in which_children(ref)] == ["running"]


def test_PY_06_an_abandoned_child_has_no_effects_and_is_named_in_the_stop_result(
    threads: Dispatcher, begin: Start, journal: Journal, release: threading.Event
) -> None:
    timers, registry, effects = ManualTimers(), Registry(), Journal()
    other = begin(Probe, journal, "other", on=threads)

    def work(probe: Probe) -> None:
        effects.add("entered")
        release.wait(WAIT)
        actions: list[Any] = [guard, lambda: other.tell("x"), lambda: registry.register("x", ref=other)]
        for action in actions:
            try:
                action()
            except Fenced:
                effects.add("fenced")
        effects.add("left")

    ref = start_and_wait(Supervisor, [spec(journal, "a", shutdown=1)], timers=timers, on=threads, timeout=WAIT)
    running(ref, "a").tell(work)
    effects.wait_for("entered")
    done = ref.stop(block=False)
    wait_until(lambda: timers.pending() == [1.0])
    timers.advance(1)
    assert done.get(timeout=WAIT)
    assert [name.split("#")[0] for name in abandoned(ref)] == ["Probe"]
    release.set()
    effects.wait_for("left")
    assert effects.entries.count("fenced") == 3
    assert ask(other, "last") == "last"
    assert journal.of("message") == [("other", "last")]
    assert len(registry) == 0


def test_PY_07_a_kill_cuts_blocking_io_and_its_error_is_not_retried(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    ours, theirs = socket.socketpair()
    asked: list[Exit] = []
    freed = Journal()

    class Always:
        def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
            asked.append(exit)
            return Restart()

    def read(probe: Probe) -> None:
        with probe.cutting(lambda: ours.shutdown(socket.SHUT_RDWR)):
            freed.add("reading")
            got = ours.recv(1)
            freed.add(("freed", time.monotonic(), got))
            raise ConnectionError("cut")

    ref = begin(Hooked, journal, on=threads)
    child = start_child(ref, spec(journal, "a", policy=Always(), shutdown="brutal_kill"))
    child.tell(read)
    freed.wait_for("reading")
    before = time.monotonic()
    terminate_child(ref, child)
    entry = freed.wait(lambda seen: len(seen) == 2)[1]
    assert entry[1] - before < 0.5  # 10 ms on a machine that has nothing else to do
    assert asked == []
    assert ("gone", "a", "killed") in journal.entries
    ours.close()
    theirs.close()


def test_PY_08_exit_and_shutdown_overtake_the_mailbox(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Probe, journal, "a", on=dispatch, timeout=WAIT)

    def flood(probe: Probe) -> None:
        for number in range(1000):
            probe.actor_ref.tell(number)
        probe.actor_inbox.put_signal(shutdown_signal)

    from allm.supervisors.cell import Shutdown

    shutdown_signal = Shutdown(Exit("shutdown"))
    ref.tell(flood)
    assert wait_ended(ref).kind in ("shutdown", "noproc")
    assert journal.of("message") == []


def test_PY_08b_a_supervisor_stops_ahead_of_its_backlog(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Hooked, journal, on=dispatch, timeout=WAIT)
    futures = [ref.ask(StartChild(spec(journal, number)), block=False) for number in range(300)]
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    for future in futures:
        try:
            future.get(timeout=WAIT)
        except ActorExited:
            pass
    assert len(journal.of("stop")) == len(journal.of("start"))


# -- mailboxes


class Small(Probe):
    bound = Bound(2)


class NewestLost(Probe):
    bound = Bound(2, "drop_newest")


class OldestLost(Probe):
    bound = Bound(2, "drop_oldest")


def test_PY_09_a_bounded_mailbox_drops_no_system_message(
    begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event, dead_letters: Journal
) -> None:
    for kind in (Small, NewestLost, OldestLost):
        ref = begin(kind, journal, kind.__name__, on=threads)
        entered = threading.Event()
        ref.tell(partial(hold, entered, release))
        assert entered.wait(WAIT)
        for number in range(2):
            ref.tell(number)
        if kind is Small:
            with pytest.raises(MailboxFull):
                ref.tell(2)
            assert isinstance(raised(ref, 3), MailboxFull)
        else:
            ref.tell(2)
        threads.timers.send_after(0, ref, "timer")
        wait_until_waiting(ref, 3)
        ref.actor_inbox.put_message("internal")  # type: ignore[attr-defined]  # pyright: ignore
        release.set()
        journal.wait_for(("message", kind.__name__, "internal"))
        release.clear()
        assert stop(ref, timeout=WAIT).kind == "shutdown"
    messages = {
        kind: [m for name, m in journal.of("message") if name == kind and isinstance(m, int)]
        for kind in ("Small", "NewestLost", "OldestLost")
    }
    assert messages == {"Small": [0, 1], "NewestLost": [0, 1], "OldestLost": [1, 2]}
    lost = [letter.message for letter in dead_letters.entries if letter.exit.kind == "mailbox_full"]
    assert [message for message in lost if isinstance(message, int)] == [2, 0]
    assert all(("message", kind, "timer") in journal.entries for kind in messages)
    with pytest.raises(ValueError, match="at least 1"):
        Bound(0)


def test_PY_10_a_kept_mailbox_loses_only_the_poison_and_keeps_order(
    begin: Start, dispatch: Dispatcher, journal: Journal, dead_letters: Journal
) -> None:
    ref = begin(Supervisor, [spec(journal, "a", mailbox="keep")], max_restarts=100, on=dispatch)
    child = running(ref, "a")
    for number in range(500):
        child.tell("crash" if number % 50 == 25 else number)
    assert child.ask("who", timeout=WAIT) == "a"
    assert [message for _, message in journal.of("message")] == [n for n in range(500) if n % 50 != 25]
    assert [letter.message for letter in dead_letters.entries] == ["crash"] * 10
    assert dead_letters.entries[0].error == "RuntimeError: crash"
    assert child.is_alive()
    assert len(journal.of("start")) == 11


def test_PY_10b_leftovers_go_to_the_dead_letters_when_the_budget_is_spent(
    begin: Start, threads: Dispatcher, journal: Journal, dead_letters: Journal
) -> None:
    ref = begin(Supervisor, [spec(journal, "a", mailbox="keep")], max_restarts=0, on=threads)
    child = running(ref, "a")
    gate = threading.Event()
    tell(child, lambda _: gate.wait(WAIT))
    child.tell("crash")
    child.tell("left")
    asked = child.ask("left too", block=False)
    gate.set()
    wait_ended(ref)
    with pytest.raises(ActorExited):
        asked.get(timeout=WAIT)
    letters = [letter.message for letter in dead_letters.wait(lambda seen: len(seen) == 2)]
    assert letters == ["crash", "left"]
    assert not child.is_alive()
    with pytest.raises(ActorDeadError):
        child.tell("more")


def test_PY_10c_a_kept_child_can_be_stopped_and_brought_back(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Supervisor, [spec(journal, "a", mailbox="keep")], on=dispatch)
    first = running(ref, "a")
    terminate_child(ref, "a")
    assert not first.is_alive()
    again = restart_child(ref, "a")
    assert ask(again, "who") == "a"
    raised(again, "crash")
    assert call(again, "who") == "a"  # the same ref, the next incarnation


def test_PY_10d_kills_lose_at_most_the_message_in_work_and_no_order(
    begin: Start, dispatch: Dispatcher, journal: Journal, dead_letters: Journal
) -> None:
    ref = begin(Supervisor, [spec(journal, "a", mailbox="keep")], max_restarts=10_000, on=dispatch)
    child = running(ref, "a")
    count, kills = 3000, 0

    def send(sender: str) -> None:
        for number in range(count):
            child.tell((sender, number))

    senders = [threading.Thread(target=send, args=(name,)) for name in "xy"]
    for thread in senders:
        thread.start()
    while any(thread.is_alive() for thread in senders):
        kills += kill(child)
        which_children(ref)
    for thread in senders:
        thread.join(WAIT)
    assert ask(child, "who") == "a"
    handled = [message for _, message in journal.of("message")]
    lost = [letter.message for letter in dead_letters.entries]
    for sender in "xy":
        # What was in work at a kill is a dead letter; its abandoned handler may still write it down, late.
        missing = {number for name, number in lost if name == sender}
        numbers = [number for name, number in handled if name == sender and number not in missing]
        assert numbers == sorted(set(range(count)) - missing)
    assert len(lost) <= kills


def test_PY_11_a_poison_message_is_redelivered_so_many_times(
    begin: Start, dispatch: Dispatcher, journal: Journal, dead_letters: Journal
) -> None:
    tries: list[int] = []

    def poison(_: Probe) -> None:
        tries.append(1)
        raise ValueError("poison")

    def cured(_: Probe) -> None:
        tries.append(2)
        if tries.count(2) < 3:
            raise ValueError("not yet")

    ref = begin(Supervisor, [spec(journal, "a", mailbox="keep", max_redeliver=2)], max_restarts=100, on=dispatch)
    child = running(ref, "a")
    for message in (poison, "between", cured, "after"):
        child.tell(message)
    assert child.ask("who", timeout=WAIT) == "a"
    assert tries == [1, 1, 1, 2, 2, 2]
    assert [message for _, message in journal.of("message")] == ["between", "after"]
    assert [letter.message for letter in dead_letters.entries] == [poison]
    assert dead_letters.entries[0].error == "ValueError: poison"


# -- passivation


class Count(Shelved):
    """Counts what it is told, in order."""

    def __init__(self, key: Any, state: Any) -> None:
        super().__init__(key, state)
        self.seen: list[int] = list(state or [])

    def on_snapshot(self) -> Any:
        return list(self.seen)

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, int):
            self.seen.append(message)
        elif message == "crash":
            raise RuntimeError("crash")
        return list(self.seen)


class Store:
    """States in memory; saving fails while told so."""

    def __init__(self) -> None:
        self.states: dict[Any, Any] = {}
        self.saves = 0
        self.broken = False
        self.tried = threading.Event()

    def load(self, key: Any) -> Any:
        if key == "cursed":
            raise OSError("no such state")
        return self.states.get(key)

    def save(self, key: Any, state: Any) -> None:
        self.tried.set()
        if self.broken:
            raise OSError("disk full")
        self.states[key] = state
        self.saves += 1


def wait_until_waiting(ref: ActorRef[Any], count: int) -> None:
    wait_until(lambda: not (tree(ref)["mailbox"] < count))


@pytest.mark.parametrize("count", [3000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_PY_12_passivation_loses_and_reorders_nothing(begin: Start, dispatch: Dispatcher, count: int) -> None:
    store = Store()
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch), Count, store)
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            shelf.sweep(0)
            time.sleep(0)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(count):
            shelf.tell(number % 3, number)
            if number % 1000 == 500:  # let it come to rest, so that something is put away
                saves = store.saves
                wait_until(lambda before=saves: store.saves > before)  # type: ignore[misc]
        futures = {key: shelf.ask(key, "all") for key in range(3)}
        for key, future in futures.items():
            pairs = zip_longest(future.get(timeout=60), range(key, count, 3))
            assert next((pair for pair in pairs if pair[0] != pair[1]), None) is None  # the whole lists would be printed
    finally:
        done.set()
        sweeper.join(WAIT)
    assert store.saves > 0


def test_PY_12b_an_actor_is_put_away_and_comes_back(begin: Start, dispatch: Dispatcher) -> None:
    store = Store()
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch), Count, store)
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    hot = shelf.hot("a")
    assert hot is not None
    shelf.passivate("a")
    wait_ended(hot)
    assert shelf.hot("a") is None
    assert store.states == {"a": [1]}
    assert shelf.ask("a", 2).get(timeout=WAIT) == [1, 2]
    shelf.passivate("nobody")
    with pytest.raises(RuntimeError, match="crash"):
        shelf.ask("a", "crash").get(timeout=WAIT)
    assert shelf.ask("a", 3).get(timeout=WAIT) == [1, 3]
    with pytest.raises(ActorExited):
        shelf.ask("cursed", 1).get(timeout=WAIT)


def test_PY_13_a_failed_snapshot_keeps_the_actor_and_loses_nothing(begin: Start, dispatch: Dispatcher) -> None:
    store = Store()
    shelf = Shelf(begin(DynamicSupervisor, on=dispatch), Count, store)
    store.broken = True
    assert shelf.ask("a", 1).get(timeout=WAIT) == [1]
    hot = shelf.hot("a")
    shelf.passivate("a")
    assert store.tried.wait(WAIT)
    assert shelf.ask("a", 2).get(timeout=WAIT) == [1, 2]
    assert shelf.hot("a") is hot
    assert store.states == {}


# -- waiting


def test_PY_14_actors_that_ask_one_another_are_refused(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    a, b, c = (begin(Probe, journal, name, on=threads) for name in "abc")
    with pytest.raises(AskCycle, match="ask cycle: "):
        ask(a, lambda _: ask(b, lambda _: ask(c, lambda _: ask(a, "who"))))


def test_PY_15_nested_asks_deeper_than_the_pool_do_not_starve_it(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(2, idle=0.05)
    refs: list[ActorRef[Any]] = [begin(Probe, journal, number, on=pool) for number in range(40)]

    def descend(probe: Any) -> Any:
        if probe.name == 39:
            return 39
        return ask(refs[int(probe.name) + 1], descend)

    assert ask(refs[0], descend) == 39
    assert pool.workers <= 40


def test_PY_15b_an_abandoned_worker_gives_its_place_back(begin: Start, journal: Journal, release: threading.Event) -> None:
    pool = PoolDispatcher(1, idle=0.05)
    hung = begin(Probe, journal, "hung", on=pool)
    entered = threading.Event()
    tell(hung, partial(hold, entered, release))
    assert entered.wait(WAIT)
    kill(hung)
    assert ask(begin(Probe, journal, "next", on=pool), "who") == "next"
    with pytest.raises(ValueError, match="at least 1"):
        PoolDispatcher(0)


def test_waiting_on_a_loop_that_runs_actors_is_refused(begin: Start, loop: Loop, journal: Journal) -> None:
    dispatch = LoopDispatcher(loop.loop)
    one, two = begin(Probe, journal, "1", on=dispatch), begin(Probe, journal, "2", on=dispatch)
    with pytest.raises(WouldBlock, match="would block the event loop"):
        ask(one, lambda _: two.ask("who"))
    assert loop.run(lambda: two.ask("who")) == "2"  # outside of handlers it is answered inline
    locks = KeyedLocks()
    with locks.hold("a"):
        error = loop.run(lambda: blocked(locks))
    assert isinstance(error, WouldBlock)


def blocked(locks: KeyedLocks) -> BaseException | None:
    try:
        with locks.hold("a"):
            return None
    except WouldBlock as error:
        return error


# -- edges of the process

FORK = """
import os, sys, threading, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # Python 3.12 and later say it at each fork
from allm.supervisors import Actor, PoolDispatcher, ActorExited, Supervisor, ChildSpec, start_and_wait, stop, child
class Echo(Actor):
    def on_receive(self, message): return message
pool = PoolDispatcher(2)
refs = [start_and_wait(Echo, timeout=10), start_and_wait(Echo, on=pool, timeout=10)]
tree = start_and_wait(Supervisor, [ChildSpec("e", (Echo, ()))], timeout=10)
refs += [tree, child(tree, "e")]
assert [ref.ask(1) for ref in refs[:2]] == [1, 1]
pid = os.fork()
if pid == 0:
    code = 1
    try:
        assert not any(ref.is_alive() for ref in refs)
        for ref in refs:
            try:
                ref.ask(1, timeout=5)
            except Exception as error:
                assert "not" in str(error), error
            else:
                raise AssertionError("answered")
        new = start_and_wait(Supervisor, [ChildSpec("e", (Echo, ()), dispatcher=pool)], timeout=10)
        assert child(new, "e").ask(7, timeout=5) == 7
        stop(new, timeout=5)
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert [ref.ask(2, timeout=5) for ref in refs[:2]] == [2, 2]
print("ok")
"""


def script(text: str, *, send: int | None = None, wait_line: bool = False) -> tuple[int, str]:
    """Run a program of its own; send it a signal once it has written a line."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    process = subprocess.Popen([sys.executable, "-c", text], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    first = process.stdout.readline() if send is not None else ""
    if send is not None:
        process.send_signal(send)
    try:
        rest, _ = process.communicate(timeout=40)
    finally:
        process.kill()
    return process.returncode, first + rest


def test_PY_16_after_a_fork_the_child_has_no_live_parent_actors() -> None:
    code, out = script(FORK)
    assert (code, out.strip()) == (0, "ok")


EXIT = """
import os, sys, threading, time, signal, asyncio
from allm.supervisors import *
from allm.supervisors import edges
edges.EXIT_DEADLINE = 0.5
class Loud(Actor):
    def on_exit(self, reason): os.write(1, f"stopped {reason.kind}\\n".encode())
class Hung(Actor):
    def on_receive(self, message): time.sleep(1000)
pool = PoolDispatcher(2, idle=0.01)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
for dispatcher in (pool, None, LoopDispatcher(loop)):
    start_and_wait(Supervisor, [ChildSpec("a", (Loud, ()))], on=dispatcher, timeout=10)
hung = start_and_wait(Supervisor, [ChildSpec("h", (Hung, ()), shutdown="infinity")], timeout=10)
child(hung, "h").tell("hang")
time.sleep(0.1)
print("ready", flush=True)
{end}
"""
ENDS = {
    "return": ("", None),
    "exception": ("raise ValueError('the program fails')", None),
    "sys.exit": ("sys.exit(3)", None),
    "SIGINT": ("time.sleep(30)", signal.SIGINT),
    "SIGTERM": ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); print('armed', flush=True); time.sleep(30)", None),
}


@pytest.mark.parametrize("end", ["return", "exception", "sys.exit", "SIGINT"])
def test_PY_17_the_end_of_the_interpreter_stops_all_trees_within_a_deadline(end: str) -> None:
    text, send = ENDS[end]
    before = time.monotonic()
    _, out = script(EXIT.replace("{end}", text), send=send)
    assert out.count("stopped shutdown") == 3, out
    assert time.monotonic() - before < 30


def test_PY_17b_a_sigterm_that_the_program_handles_does_too() -> None:
    text = EXIT.replace('print("ready", flush=True)', "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\nprint('ready', flush=True)")
    code, out = script(text.replace("{end}", "time.sleep(30)"), send=signal.SIGTERM)
    assert code == 4
    assert out.count("stopped shutdown") == 3, out


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses threads, but for the timers' that tests themselves need."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(("Probe#", "pool")):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_PY_18_a_refused_thread_is_a_start_error_with_backoff_and_leaves_nothing(
    begin: Start, loop: Loop, journal: Journal, monkeypatch: pytest.MonkeyPatch, no_threads: None
) -> None:
    timers = ManualTimers()
    before = set(alive)
    with pytest.raises(StartError, match="ThreadRefused"):
        start_and_wait(Probe, journal, on=ThreadDispatcher(), timeout=WAIT)
    assert set(alive) == before
    ref = begin(Hooked, journal, timers=timers, on=LoopDispatcher(loop.loop))
    monkeypatch.undo()
    child = start_child(ref, spec(journal, "a", dispatcher=ThreadDispatcher(), backoff=Backoff(1.0)))
    monkeypatch.setattr(threading.Thread, "start", refuse_all)
    raised(child, "crash")
    for delay in (1.0, 2.0, 4.0):
        journal.wait_for(("again", "a", "error", delay))
        which_children(ref)
        timers.advance(delay)
    journal.wait_for(("again", "a", "error", 8.0))
    which_children(ref)
    monkeypatch.undo()
    timers.advance(8.0)
    journal.wait_for(("start", "a"), times=2)


def refuse_all(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class Calm:
    """A policy: always again, a second later."""

    def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
        return Restart(1.0)


def test_PY_19_a_mass_failure_of_one_cause_spends_no_budget(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    ref = begin(Hooked, journal, max_restarts=1, timers=timers, on=dispatch)
    children = [start_child(ref, spec(journal, n, restart="temporary", policy=Calm())) for n in range(200)]
    for one in children:
        raised(one, Exit("provider_down"))
    assert {info.status for info in which_children(ref)} == {"restarting"}
    timers.advance(1.0)
    journal.wait(lambda seen: sum(entry[0] == "start" for entry in seen) == 400)
    assert ref.is_alive()


def test_PY_20_a_backoff_blocks_nothing_and_stop_is_immediate(dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Watched, journal, [spec(journal, "a", backoff=Backoff(1000))], on=dispatch, timeout=WAIT)
    raised(running(ref, "a"), "crash")
    before = time.monotonic()
    assert which_child(ref, "a").status == "restarting"
    start_child(ref, spec(journal, "b"))
    assert stop(ref, timeout=WAIT) == Exit("shutdown")
    assert time.monotonic() - before < WAIT


# -- policies, plain Pykka actors, and what a supervisor does about its own bugs


class Script:
    """A policy that says what it is told, and remembers what it was asked."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts, self.asked = list(verdicts), Journal()

    def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
        self.asked.add((exit.kind, attempt))
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, BaseException):
            raise verdict
        return verdict  # type: ignore[no-any-return]


def test_a_policy_counts_attempts_and_may_leave_one_uncounted(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    policy = Script(Restart(), Restart(counted=False), Restart(), GiveUp())
    ref = begin(Hooked, journal, on=dispatch)
    start_child(ref, spec(journal, "a", policy=policy))
    for times in range(1, 5):
        journal.wait_for(("start", "a"), times=times)
        infos = [info.ref for info in which_children(ref)]
        assert infos[0] is not None
        raised(infos[0], Exit("oops"))
    journal.wait_for(("gone", "a", "oops"))
    assert policy.asked.entries == [("oops", 1), ("oops", 2), ("oops", 2), ("oops", 3)]


@pytest.mark.parametrize("verdict", [GiveUp(escalate=True), ValueError("a policy's bug")])
def test_a_policy_may_escalate_or_fail(begin: Start, dispatch: Dispatcher, journal: Journal, verdict: Any) -> None:
    ref = begin(Hooked, journal, max_restarts=0, on=dispatch)
    child = start_child(ref, spec(journal, "a", policy=Script(verdict)))
    raised(child, "crash")
    if isinstance(verdict, GiveUp):
        wait_ended(ref)
    else:
        assert which_children(ref) == []
    assert ("gone", "a", "error") in journal.entries


def test_a_backoff_starts_again_after_a_long_run(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers(1.0)
    child = spec(journal, "a", backoff=Backoff(1.0, reset_after=60))
    ref = begin(Watched, journal, [child], timers=timers, max_restarts=100, on=dispatch)
    for run, delay in ((1, 1.0), (1, 2.0), (1, 4.0), (100, 1.0)):
        timers.advance(run)
        raised(running(ref, "a"), "crash")
        journal.wait_for(("again", "a", "error", delay))
        starts = len(journal.of("start"))
        which_children(ref)
        timers.advance(delay)
        journal.wait(lambda seen, n=starts: sum(e[0] == "start" for e in seen) > n)  # type: ignore[misc]
        which_children(ref)
    assert Backoff(1.0, jitter=0.5).delay(1, 0.0) == 0.5
    with pytest.raises(ValueError, match="not a backoff"):
        Backoff(-1)


def test_a_plain_pykka_actor_is_a_child_too(supervise: Start, journal: Journal) -> None:
    ref = supervise([ChildSpec("p", (Stranger, ()), restart="transient", shutdown=5)])
    child = running(ref, "p")
    assert child.ask(1) == 1
    with pytest.raises(ValueError, match="stays"):
        child.ask(ValueError("stays"))
    assert child.is_alive()  # Pykka's rule: a failed ask does not end it
    child.tell(ValueError("dies"))
    wait_until(lambda: running(ref, "p") is not child)
    again = running(ref, "p")
    with pytest.raises(RuntimeError):
        again.ask(SystemExit(3))
    wait_until(lambda: running(ref, "p") is not again)
    with pytest.raises(TypeError, match="plain Pykka"):
        kill(running(ref, "p"))
    assert tree(ref)["children"][0]["mailbox"] is None
    terminate_child(ref, "p")
    assert which_child(ref, "p").status == "down"


class BadStart(Stranger):
    def on_start(self) -> None:
        raise ValueError("no")


def test_a_plain_pykka_actor_that_fails_to_start_or_hangs(
    begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event
) -> None:
    ref = begin(Hooked, journal, on=threads)
    with pytest.raises(SupervisorError, match="start_error"):
        start_child(ref, ChildSpec("p", (BadStart, ())))

    class Hanging(Stranger):
        def on_receive(self, message: Any) -> Any:
            release.wait(WAIT)

    child = start_child(ref, ChildSpec("h", (Hanging, ()), shutdown=0.01))
    child.tell("hang")
    terminate_child(ref, "h")
    assert ("gone", "h", "killed") in journal.entries
    release.set()


@pytest.mark.parametrize("how", ["message", "ask", "kill"])
def test_a_supervisor_that_crashes_stops_its_children_and_is_restarted(supervise: Start, journal: Journal, how: str) -> None:
    parent = supervise([ChildSpec("inner", (Hooked, (journal,)))])
    inner = running(parent, "inner")
    start_child(inner, spec(journal, "a"))
    start_child(inner, spec(journal, "b", restart="temporary"))
    if how == "message":
        inner.tell(Crash())
    elif how == "ask":
        assert isinstance(raised(inner, Crash("oops")), RuntimeError)
    else:
        kill(inner)
    wait_ended(inner)
    assert {id for id, _ in journal.of("gone")} == {"a", "b"}
    assert len(journal.of("gone")) == 2
    wait_until(lambda: running(parent, "inner") is not inner)
    assert which_children(running(parent, "inner")) == []


def test_a_child_that_starts_too_slowly_is_given_up(begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event) -> None:
    class Slow(Probe):
        def on_start(self) -> None:
            release.wait(WAIT)

    ref = begin(Hooked, journal, on=threads)
    with pytest.raises(SupervisorError) as error:
        start_child(ref, ChildSpec("a", (Slow, (journal, "a")), start_timeout=0.01))
    assert error.value.exit is not None
    assert error.value.exit.detail == "start_timeout"


def test_a_closed_loop_ends_its_actors_without_an_error_for_who_tells_them(journal: Journal) -> None:
    loop = Loop()
    dispatch = LoopDispatcher(loop.loop)
    ref = start_and_wait(Supervisor, [spec(journal, "a")], on=dispatch, timeout=WAIT)
    child = running(ref, "a")
    loop.close()
    child.tell("nobody hears this")
    with pytest.raises(ActorDeadError):
        child.ask("who", timeout=WAIT)
    assert not child.is_alive()
    assert not ref.is_alive()
    assert isinstance(raised(Probe.start_on(dispatch, journal), "who"), ActorDeadError)


def test_the_tree_is_plain_data(supervise: Start, journal: Journal) -> None:
    inner = ChildSpec("inner", (Supervisor, ([spec(journal, ("a", 1))],)))
    ref = supervise([inner, spec(journal, "down", ["ignore"])])
    found = tree(ref)
    assert found["status"] == "running"
    assert [node["id"] for node in found["children"]] == ["inner", "down"]
    assert found["children"][0]["children"][0] == {
        "id": "('a', 1)",
        "kind": "Probe",
        "status": "running",
        "restarts": 0,
        "mailbox": 0,
    }
    assert found["children"][1]["status"] == "down"
    stop(ref, timeout=WAIT)
    assert tree(ref)["status"] == "ended"


def test_the_tree_counts_restarts_and_waiting_messages(
    begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event
) -> None:
    inner = ChildSpec("inner", (Supervisor, ([spec(journal, "a"), spec(journal, "b")],)))
    ref = begin(Supervisor, [inner], on=threads)
    for times in (1, 2):
        raised(running(running(ref, "inner"), "a"), "crash")
        journal.wait_for(("start", "a"), times=times + 1)
    a = running(running(ref, "inner"), "a")
    entered = threading.Event()
    tell(a, partial(hold, entered, release))
    assert entered.wait(WAIT)
    for number in range(3):
        tell(a, number)
    nodes = {node["id"]: node for node in tree(ref)["children"][0]["children"]}
    assert nodes["a"] == {"id": "a", "kind": "Probe", "status": "running", "restarts": 2, "mailbox": 3}
    assert nodes["b"] == {"id": "b", "kind": "Probe", "status": "running", "restarts": 0, "mailbox": 0}
    json.dumps(tree(ref), allow_nan=False)


def test_actors_are_plain_actors_for_pykka(begin: Start, dispatch: Dispatcher) -> None:
    class Greeter(Actor):
        def greet(self, name: str) -> str:
            return f"hello {name}"

    ref = begin(Greeter, on=dispatch)
    assert ref.proxy().greet("you").get(timeout=WAIT) == "hello you"
    assert "Greeter" in str(ref)
    assert ref.stop(timeout=WAIT) is True
    with pytest.raises(ActorDeadError):
        ref.tell("x")
