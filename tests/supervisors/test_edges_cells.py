"""O. At the edges: mailboxes through kills, pools whose workers hang, timers, monitors, loops, and what an actor leaves behind."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import logging
import pickle
import pkgutil
import random
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRef, ActorRegistry
from pykka._envelope import Envelope

import allm.supervisors
from allm.supervisors import (
    Actor,
    ActorExited,
    AlreadyRegistered,
    AskCycle,
    Bound,
    ChildSpec,
    Crash,
    Down,
    DynamicSupervisor,
    Exit,
    Exited,
    LoopTimers,
    MailboxFull,
    ManualTimers,
    PoolDispatcher,
    Registry,
    Shelf,
    Shelved,
    SpecError,
    StartError,
    SupervisionError,
    Supervisor,
    SupervisorError,
    ThreadTimers,
    abandoned,
    call,
    child,
    demonitor,
    exit_signal,
    kill,
    link,
    monitor,
    start_and_wait,
    start_child,
    stop,
    subscribe,
    terminate_child,
    which_children,
)
from allm.supervisors.cell import Cell, alive, cell_of
from allm.supervisors.dispatch import Dispatcher, LoopDispatcher, ThreadDispatcher
from allm.supervisors.events import ActorCrashed, DeadLetter, SupervisorReport
from allm.supervisors.exits import Leave
from allm.supervisors.inbox import StopFlag
from allm.supervisors.requests import Refused
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, ask, hold, later, running, spec, tell, wait_ended, wait_until


@contextmanager
def switching(interval: float) -> Generator[None]:
    """Threads take turns so often: what may come between two bytecodes does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def its(ref: ActorRef[Any]) -> Cell:
    """The cell of an actor."""
    cell = cell_of(ref)
    assert cell is not None
    return cell


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def dead_letters() -> Iterator[list[Any]]:
    letters: list[Any] = []
    unsubscribe = subscribe(lambda event: letters.append(event.message) if isinstance(event, DeadLetter) else None)
    yield letters
    unsubscribe()


def block(release: threading.Event, entered: threading.Semaphore, _: Any) -> None:
    """A message, once bound, whose handler hangs until it is released."""
    entered.release()
    release.wait(WAIT)


# -- EDGE-02


def hang_all(root: ActorRef[Any], count: int, release: threading.Event) -> None:
    entered = threading.Semaphore(0)
    for number in range(count):
        found = child(root, number)
        assert found is not None
        tell(found, partial(block, release, entered))
    for _ in range(count):
        assert entered.acquire(timeout=WAIT)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_EDGE_02_supervisors_have_pool_workers_that_no_handler_can_hold(
    begin: Start, journal: Journal, release: threading.Event, size: int
) -> None:
    pool = PoolDispatcher(size, idle=0.05)
    inner = ChildSpec("inner", (Supervisor, ([spec(journal, "below")],)))
    root = begin(Supervisor, [*(spec(journal, number, shutdown=0.05) for number in range(size)), inner], on=pool)
    hang_all(root, size, release)
    assert len(which_children(root, timeout=WAIT)) == size + 1
    below = child(root, "inner")
    assert below is not None
    assert len(which_children(below, timeout=WAIT)) == 1
    hung = child(root, 0)
    assert hung is not None
    terminate_child(root, 0, timeout=WAIT)  # by its deadline
    assert its(hung).exit == Exit("killed")
    for number in range(1, size):
        kill(running(root, number))
        assert ask(running(root, number), "who") == number  # by the worker that takes the place of the lost one
    assert set(abandoned(root)) <= {name for name in abandoned(root) if name.startswith("Probe#")}
    stop(root, timeout=WAIT)
    release.set()
    wait_until(lambda: pool.workers == 0)


@pytest.mark.parametrize("mail", [False, True], ids=["idle", "mail waits"])
def test_EDGE_02b_who_is_idle_obeys_at_once_though_all_workers_are_held(
    begin: Start, journal: Journal, release: threading.Event, mail: bool
) -> None:
    pool = PoolDispatcher(2, idle=0.05)
    hung = [spec(journal, number, shutdown=0.05) for number in range(2)]
    root = begin(Supervisor, [*hung, spec(journal, "innocent", shutdown="infinity")], on=pool)
    hang_all(root, 2, release)
    innocent = running(root, "innocent")
    if mail:
        innocent.tell("after its end")
    assert stop(root, timeout=WAIT) == Exit("shutdown")  # the innocent one is stopped first, and has no deadline
    assert its(innocent).exit == Exit("shutdown")
    release.set()
    wait_until(lambda: pool.workers == 0)


def test_EDGE_02_a_supervisor_has_its_turn_in_a_long_queue_of_others(begin: Start, journal: Journal) -> None:
    """In the order of the queue it would come after all of them."""
    pool = PoolDispatcher(1, idle=0.05)
    root = begin(Supervisor, [spec(journal, "child")], on=pool)
    done: list[int] = []

    class Slow(Actor):
        def on_receive(self, message: Any) -> None:
            time.sleep(0.002)
            done.append(1)

    refs = [begin(Slow, on=pool) for _ in range(500)]
    for ref in refs:
        ref.tell(1)
    assert len(which_children(root, timeout=WAIT)) == 1
    assert len(done) < len(refs)


def test_EDGE_02_no_spare_worker_comes_for_who_has_had_its_turn(
    begin: Start, journal: Journal, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place in the queue stays until a worker comes to it, which may be never."""
    pool = PoolDispatcher(1, idle=0.05)
    root = begin(Supervisor, [spec(journal, 0, shutdown=0.05)], on=pool)
    hang_all(root, 1, release)
    assert len(which_children(root, timeout=WAIT)) == 1
    wait_until(lambda: its(root).busy is None and not pool._urgent)  # pyright: ignore[reportPrivateUsage]
    looked, put_first, staffed = threading.Semaphore(0), pool._put_first, list[int]()  # pyright: ignore[reportPrivateUsage]
    staff = pool._staff  # pyright: ignore[reportPrivateUsage]

    def counted(spare: int = 0, *, pressing: bool = False) -> None:
        staffed.append(spare)
        staff(spare, pressing=pressing)

    def look() -> None:
        put_first()
        looked.release()

    monkeypatch.setattr(pool, "_staff", counted)
    monkeypatch.setattr(pool, "_put_first", look)
    for _ in range(5):
        assert looked.acquire(timeout=WAIT)
    assert not any(staffed)
    release.set()


def foremen() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "watched foreman"]


def test_EDGE_02_nobody_looks_on_at_a_pool_that_has_nothing_to_do(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(1, idle=0.05, name="watched")
    root = begin(Supervisor, [spec(journal, 0, shutdown=0.05)], on=pool)
    wait_until(lambda: foremen() == [])
    for _ in range(2):  # and a new one comes when it is needed again
        release = threading.Event()
        hang_all(root, 1, release)
        assert len(which_children(root, timeout=WAIT)) == 1
        assert len(foremen()) == 1
        release.set()
        wait_until(lambda: foremen() == [])


# -- EDGE-03


def every_timers(loop: Loop) -> list[Any]:
    return [LoopTimers(loop.loop), ThreadTimers(), ManualTimers()]


@pytest.mark.parametrize("seconds", [float("nan"), None, "1", [], 10**400, 1j], ids=["nan", "None", "text", "list", "huge", "complex"])
def test_EDGE_03_a_time_that_is_none_is_refused_where_the_timer_is_made(begin: Start, journal: Journal, loop: Loop, seconds: Any) -> None:
    ref = begin(Probe, journal, on=ThreadDispatcher())
    for timers in every_timers(loop):
        for send in (timers.send_after, timers.send_at):
            with pytest.raises((TypeError, ValueError)):
                send(seconds, ref, "never")
        assert_works(timers, ref, journal)
        assert "never" not in [message for _, message in journal.of("message")]


def test_EDGE_03_a_receiver_that_is_no_ref_is_refused_where_the_timer_is_made(begin: Start, journal: Journal, loop: Loop) -> None:
    ref = begin(Probe, journal, on=ThreadDispatcher())
    for timers in every_timers(loop):
        for nobody in (None, Registry().via("x"), ref.proxy(), ref.actor_inbox, "probe"):
            with pytest.raises(TypeError):
                timers.send_after(0, nobody, "never")
            with pytest.raises(TypeError):
                timers.send_at(timers.now(), nobody, "never")
        assert_works(timers, ref, journal)


class BadRef(pykka.ThreadingActor):
    """Its ref raises what it is told to."""


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit])
def test_EDGE_03_what_one_timer_raises_costs_itself_alone(
    begin: Start, journal: Journal, loop: Loop, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = begin(Probe, journal, on=ThreadDispatcher())
    bad: Any = BadRef.start()
    tried = threading.Semaphore(0)

    def refuse(_: Any) -> None:
        tried.release()
        raise error

    monkeypatch.setattr(bad, "tell", refuse)
    for timers in every_timers(loop):
        timers.send_after(0, bad, "x")
        if isinstance(timers, ManualTimers):
            timers.advance(1)
        assert tried.acquire(timeout=WAIT)
        assert_works(timers, ref, journal)
    assert loop.run(lambda: "the loop is as it was") == "the loop is as it was"
    monkeypatch.undo()
    bad.stop()


def assert_works(timers: Any, ref: ActorRef[Any], journal: Journal) -> None:
    times = len(journal.entries)
    timers.send_after(0, ref, times)
    if isinstance(timers, ManualTimers):
        timers.advance(1)
    journal.wait_for(("message", "probe", times))


# -- EDGE-05


class Scribe(Actor):
    """Writes down each message."""

    def __init__(self, seen: list[Any]) -> None:
        super().__init__()
        self.seen = seen

    def on_receive(self, message: Any) -> Any:
        self.seen.append(message)


def through_kills(dispatch: Dispatcher, letters: list[Any], messages: int, kills: int, interval: float) -> None:
    seen: list[Any] = []
    root = start_and_wait(Supervisor, [ChildSpec("kept", (Scribe, (seen,)), mailbox="keep")], max_restarts=10**6, on=dispatch)
    ref = child(root, "kept")
    assert ref is not None
    sent, killed = threading.Event(), [0]

    def storm() -> None:
        while killed[0] < kills and not sent.is_set():
            killed[0] += kill(ref)
            time.sleep(random.random() * 0.001)

    killer = threading.Thread(target=storm)
    with switching(interval):
        killer.start()
        for number in range(messages):
            ref.tell(number)
        sent.set()
        killer.join(WAIT)
        assert not killer.is_alive()
        ask(ref, "end")
    stop(root, timeout=WAIT)
    lost = {letter for letter in letters if isinstance(letter, int)}
    letters.clear()
    # What was in work at a kill is a dead letter; its abandoned handler may still write it down, late.
    whole = [number for number in seen if number != "end" and number not in lost]
    assert whole == [number for number in range(messages) if number not in lost]
    assert len(seen) == len(set(seen))
    assert len(lost) <= killed[0]


@pytest.mark.parametrize("interval", [1e-6, 0.005])
def test_EDGE_05_a_kept_mailbox_delivers_once_and_in_order_through_kills(
    dispatch: Dispatcher, dead_letters: list[Any], interval: float
) -> None:
    for _ in range(3):
        through_kills(dispatch, dead_letters, 5_000, 50, interval)


@pytest.mark.slow
def test_EDGE_05_one_hundred_thousand_messages_pass_fifty_kills(dispatch: Dispatcher, dead_letters: list[Any]) -> None:
    through_kills(dispatch, dead_letters, 100_000, 50, 1e-6)


def test_EDGE_05_what_comes_while_an_incarnation_ends_is_moved_on_once(begin: Start, journal: Journal) -> None:
    root = begin(Supervisor, [spec(journal, "kept", mailbox="keep")], on=ThreadDispatcher())
    ref = running(root, "kept")
    cell: Any = cell_of(ref)
    entered, gate = threading.Event(), threading.Event()
    tell(ref, partial(hold, entered, gate))
    assert entered.wait(WAIT)
    for number in range(3):
        tell(ref, number)

    class Late(deque[Any]):
        """A queue to which a sender puts something just after the mark of a kill."""

        def copy(self) -> Any:
            late = threading.Thread(target=partial(tell, ref, 3))
            length = len(self)
            late.start()
            wait_until(lambda: len(self) > length)
            threads.append(late)
            return super().copy()

    threads: list[threading.Thread] = []
    cell.user = Late(cell.user)
    kill(ref)
    gate.set()
    threads[0].join(WAIT)
    ask(ref, "last")
    assert journal.of("message") == [("kept", number) for number in (0, 1, 2, 3, "last")]


# -- EDGE-06 (c)


class Made(Actor):
    """Crashes when told to; the second one takes its time in `__init__`, and fails to start."""

    made = 0

    def __init__(self, entered: threading.Event, gate: threading.Event) -> None:
        super().__init__()
        type(self).made += 1
        if self.made == 2:
            entered.set()
            gate.wait(WAIT)

    def on_start(self) -> None:
        if self.made == 2:
            raise RuntimeError

    def on_receive(self, message: Any) -> Any:
        return message


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_EDGE_06_asks_to_a_child_that_is_being_made_end_with_its_supervisor(dispatch: Dispatcher, kind: Any) -> None:
    entered, gate = threading.Event(), threading.Event()

    class Child(Made):
        pass

    before_all = set(alive)
    root = start_and_wait(kind, on=dispatch, timeout=WAIT)
    ref = start_child(root, ChildSpec("kept", (Child, (entered, gate)), mailbox="keep"), timeout=WAIT)
    ref.tell(Crash())
    assert entered.wait(WAIT)
    before = later(ref, "before")
    kill(root)
    after = later(ref, "after")
    gate.set()
    for reply in (before, after):
        with pytest.raises(ActorDeadError):
            reply.get(timeout=WAIT)
    wait_until(lambda: not ref.is_alive())
    with pytest.raises(ActorDeadError):
        ask(ref, "late")
    wait_until(lambda: set(alive) <= before_all)  # the root's own thread comes to its end


# -- EDGE-08


def watchers_of(ref: ActorRef[Any]) -> int:
    return len(its(ref).watchers)


@pytest.mark.parametrize("end", [kill, stop])
def test_EDGE_08_monitors_and_links_go_with_their_watcher(begin: Start, dispatch: Dispatcher, journal: Journal, end: Any) -> None:
    service = begin(Probe, journal, "service", on=dispatch)
    at_first = watchers_of(service)
    others = [begin(Probe, journal, number, on=dispatch) for number in range(3)]
    ask(others[0], partial(tied, monitor, service))
    monitor(service, to=others[1])
    ask(others[2], partial(tied, link, service))
    assert watchers_of(service) == at_first + 3
    for other in others:
        end(other, Exit("normal"))
        wait_ended(other)
    wait_until(lambda: watchers_of(service) == at_first)
    monitor(service, to=others[0])  # for the dead
    assert watchers_of(service) == at_first
    assert service.is_alive()


def test_EDGE_08_a_link_with_the_dead_leaves_nothing(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    service = begin(Trapping, journal, "service", on=dispatch)
    other = begin(Probe, journal, "other", on=dispatch)
    stop(other)
    at_first = watchers_of(service)
    for pair in ((service, other), (other, service)):
        with_ref = pair
        try:
            link(*with_ref)
        except AssertionError:  # the dead has no ref of its own to tell of
            continue
    wait_until(lambda: watchers_of(service) == at_first)


def test_EDGE_08_a_long_lived_watcher_keeps_no_trace_of_the_watched(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    watcher = begin(Probe, journal, "watcher", on=dispatch)
    at_first = watchers_of(watcher)
    for number in range(10):
        other = start_and_wait(Probe, journal, number, on=dispatch)
        monitor(other, to=watcher)
        assert demonitor(monitor(other, to=watcher))
        stop(other)
    journal.wait(lambda seen: sum(isinstance(entry[-1], Down) for entry in seen) == 10)
    assert watchers_of(watcher) == at_first


def test_EDGE_08_a_monitor_of_an_earlier_incarnation_does_not_tell_the_next(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    service = begin(Probe, journal, "service", on=dispatch)

    class Watching(Probe):
        def on_start(self) -> None:
            super().on_start()
            monitor(service)

    root = begin(Supervisor, [ChildSpec("kept", (Watching, (journal, "kept")), mailbox="keep")], on=dispatch)
    ref = running(root, "kept")
    ref.tell(Crash())
    journal.wait_for(("start", "kept"), times=2)
    ask(ref, "who")
    stop(service)
    ask(ref, "who")
    assert sum(isinstance(entry[-1], Down) for entry in journal.entries) == 1


@pytest.mark.slow
def test_EDGE_08_fifty_thousand_watchers_come_and_go_with_flat_memory(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(2, idle=0.05)
    service = begin(Probe, journal, "service", on=ThreadDispatcher())
    at_first = watchers_of(service)

    class Session(Actor):
        def on_start(self) -> None:
            monitor(service)

    kept: list[int] = []
    for _ in range(5):
        for _ in range(10_000):
            kill(start_and_wait(Session, on=pool))
        gc.collect()
        kept.append(sum(isinstance(each, Cell) for each in gc.get_objects()))
    assert watchers_of(service) == at_first
    assert kept[-1] <= kept[0] + 10


# -- EDGE-11


@pytest.mark.slow
def test_EDGE_11_a_flood_of_messages_leaves_room_on_the_loop(journal: Journal) -> None:
    """Measured by the time that the loop's thread itself has worked: a machine with other work to do changes nothing."""
    gaps: list[float] = []

    class Busy(Actor):
        def on_receive(self, message: Any) -> None:
            end = time.thread_time() + 20e-6
            while time.thread_time() < end:
                pass

    async def beat() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            gaps.append(now - last)
            last = now

    async def main() -> None:
        ref = start_and_wait(Busy, on=LoopDispatcher(asyncio.get_running_loop()))
        beating = asyncio.create_task(beat())

        def flood() -> None:
            for _ in range(60_000):
                ref.tell(1)

        await asyncio.to_thread(flood)
        await ref.ask(1, block=False)
        beating.cancel()
        stop_here(ref)

    asyncio.run(main())
    assert sorted(gaps)[-3] < 0.01  # a collection of garbage may come between, or two
    assert max(gaps) < 0.1


def stop_here(ref: ActorRef[Any]) -> None:
    """Stop an actor from the thread of its own loop."""
    exit_signal(ref, Exit("shutdown"))
    assert not ref.is_alive()


def test_EDGE_11_turns_that_wait_to_go_on_are_no_more_for_a_put_or_a_beat(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many coroutines put something, and however many beats have passed, one round of the loop has one slice of turns."""
    monkeypatch.setattr("allm.supervisors.dispatch._SLICE", 0.0)
    monkeypatch.setattr("allm.supervisors.dispatch._LONGEST", 0.0)
    dispatcher = LoopDispatcher(loop.loop)
    done: list[int] = []

    class Counting(Actor):
        def on_receive(self, message: Any) -> None:
            done.append(1)

    def fill() -> list[ActorRef[Any]]:
        return [start_and_wait(Counting, on=dispatcher) for _ in range(10)]

    refs = loop.run(fill)

    def flood() -> None:
        for ref in refs:
            for _ in range(640):
                its(ref).user.append(Envelope(1))
            its(ref).poke()

    async def rounds() -> list[int]:
        dispatcher.keep_beating(weakly(dispatcher))
        dispatcher.keep_beating(weakly(dispatcher))
        seen: list[int] = []
        flood()
        while len(done) < 10 * 640:
            before = len(done)
            await asyncio.sleep(0)
            dispatcher.keep_beating(weakly(dispatcher))
            refs[0].tell("more")
            seen.append(len(done) - before)
        return seen

    seen = asyncio.run_coroutine_threadsafe(rounds(), loop.loop).result(WAIT)
    assert max(seen) <= 6 * 64
    for ref in refs:
        stop(ref, timeout=WAIT)


class Clock:
    """A clock that goes on only when somebody works."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    worked = now


@pytest.mark.parametrize(("others", "turns"), [(0.0, 3), (0.001, 3), (0.02, 21), (1.0, 51)])
def test_EDGE_11_turns_have_as_much_of_a_loop_as_all_else_on_it_takes(
    others: float, turns: int, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn takes 1 ms here. Two milliseconds if the others take less, and no more than 50."""
    clock = Clock()
    monkeypatch.setattr("allm.supervisors.dispatch.clock", clock)
    dispatcher = LoopDispatcher(loop.loop)
    done: list[int] = []

    class Working(Actor):
        def on_receive(self, message: Any) -> None:
            clock.time += 0.001
            done.append(1)

    refs = loop.run(lambda: [start_and_wait(Working, on=dispatcher) for _ in range(400)])

    def flood() -> None:
        for ref in refs:
            ref.tell(1)

    async def rounds() -> list[int]:
        seen: list[int] = []
        thread = threading.Thread(target=flood)
        thread.start()
        thread.join()
        while len(done) < len(refs):
            before = len(done)
            clock.time += others
            await asyncio.sleep(0)
            seen.append(len(done) - before)
        return seen

    seen = asyncio.run_coroutine_threadsafe(rounds(), loop.loop).result(WAIT)
    assert set(seen[1:-2]) <= {turns, turns - 1}  # the clock is a float
    for ref in refs:
        stop(ref, timeout=WAIT)


def weakly(dispatcher: LoopDispatcher) -> Any:
    return weakref.ref(dispatcher)


# -- EDGE-13


class Asking(Actor):
    """Asks whom it is told to ask, which asks back."""

    def on_receive(self, message: Any) -> Any:
        to, back = message
        return to.ask((back, to)) if back is not None else to.ask((self.actor_ref, None))


def test_EDGE_13_rings_of_asks_are_seen_for_kept_children_after_restarts(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    root = begin(Supervisor, [spec(journal, name, mailbox="keep") for name in "ab"], max_restarts=100, on=threads)
    a, b = running(root, "a"), running(root, "b")
    for ref in (a, b):
        ref.tell(Crash())
        ask(ref, "who")

    def ring(one: ActorRef[Any], two: ActorRef[Any], me: Any) -> Any:
        return ask(two, lambda _: ask(one, "who"))

    with pytest.raises(AskCycle):
        ask(a, partial(ring, a, b))
    for ref in (a, b):
        with pytest.raises(AskCycle):
            ask(ref, partial(ask_back, ref))
        with pytest.raises(AskCycle):
            ask(ref, partial(call_itself, ref))


class Store:
    def load(self, key: Any) -> Any:
        return None

    def save(self, key: Any, state: Any) -> None:
        pass


class Shelved_(Shelved):
    def on_receive(self, message: Any) -> Any:
        return message(self) if callable(message) else message

    def on_snapshot(self) -> Any:
        return None


def call_itself(ref: ActorRef[Any], _: Any) -> Any:
    return call(ref, "who")


def ask_shelf(shelf: Shelf, key: str, message: Any, _: Any) -> Any:
    return shelf.ask(key, message).get(timeout=WAIT)


def ask_back(other: ActorRef[Any], _: Any) -> Any:
    return ask(other, "back")


def test_EDGE_13_rings_of_asks_are_seen_for_shelves(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    shelf = Shelf(begin(DynamicSupervisor, on=threads), Shelved_, Store())
    assert shelf.ask("a", "hot").get(timeout=WAIT) == "hot"
    for key in ("a", "cold"):  # in memory, or started by the ask itself
        with pytest.raises(AskCycle):
            shelf.ask(key, partial(ask_shelf, shelf, key, "itself")).get(timeout=WAIT)
        other = start_and_wait(Probe, journal, on=threads)
        with pytest.raises(AskCycle):
            ask(other, partial(ask_shelf, shelf, key, partial(ask_back, other)))
        wait_ended(other)


# -- EDGE-18


@pytest.mark.parametrize("full", ["refuse", "drop_newest", "drop_oldest"])
@pytest.mark.parametrize("when", ["last", "first", "between"])
def test_EDGE_18_a_stop_passes_a_full_mailbox_and_is_not_pushed_out(
    dispatch: Dispatcher, loop: Loop, dead_letters: list[Any], full: Any, when: str
) -> None:
    class Bounded(Probe):
        bound = Bound(2, full)

    journal = Journal()
    ref = start_and_wait(Bounded, journal, on=dispatch)
    entered, gate = threading.Event(), threading.Event()
    tell(ref, partial(hold, entered, gate))
    assert entered.wait(WAIT)
    steps: list[Any] = [1, 2]
    steps.insert({"last": 2, "first": 0, "between": 1}[when], "stop")
    stopped: Any = None
    for step in [*steps, 3, 4, 5]:
        if step == "stop":
            stopped = ref.stop(block=False)
        else:
            with_refusal = pytest.raises(MailboxFull) if full == "refuse" and len(its(ref).user) >= 2 else nothing()
            with with_refusal:
                ref.tell(step)
    monitor(ref, ref)
    gate.set()
    assert stopped.get(timeout=WAIT) is True
    assert wait_ended(ref).kind in ("normal", "noproc")
    handled = [message for _, message in journal.of("message")]
    assert handled == sorted(handled)
    assert not set(handled) & set(dead_letters)
    if when == "last" and full != "drop_oldest":
        assert handled == [1, 2]


@contextmanager
def nothing() -> Generator[None]:
    yield


def test_EDGE_18_an_actor_stops_itself_with_a_full_mailbox(dispatch: Dispatcher) -> None:
    class Bounded(Probe):
        bound = Bound(1, "drop_newest")

    journal = Journal()
    ref = start_and_wait(Bounded, journal, on=dispatch)
    entered, gate = threading.Event(), threading.Event()

    def end(me: Actor) -> None:
        entered.set()
        gate.wait(WAIT)
        me.stop()

    tell(ref, end)
    assert entered.wait(WAIT)
    ref.tell(1)
    gate.set()
    wait_ended(ref)


def test_EDGE_18_signals_and_reports_are_not_pushed_out(
    begin: Start, dispatch: Dispatcher, journal: Journal, dead_letters: list[Any]
) -> None:
    class Bounded(Trapping):
        bound = Bound(2, "drop_oldest")

    ref = start_and_wait(Bounded, journal, "bounded", on=dispatch)
    other, linked = (start_and_wait(Probe, journal, name, on=dispatch) for name in ("other", "linked"))
    entered, gate = threading.Event(), threading.Event()
    tell(ref, partial(link_and_hold, linked, entered, gate))
    assert entered.wait(WAIT)
    monitor(other, to=ref)
    kill(other)
    kill(linked)
    for number in range(5):
        ref.tell(number)
    gate.set()
    journal.wait(lambda seen: {Down, Exited} <= {type(entry[-1]) for entry in seen})
    assert len(dead_letters) >= 3
    exit_signal(ref, Exit("shutdown", "now"))
    stop(ref, timeout=WAIT)


# -- EDGE-19


class Trapping(Probe):
    trap_exits = True


def tied(tie: Callable[[ActorRef[Any]], object], other: ActorRef[Any], _: Any) -> None:
    tie(other)


def link_and_hold(other: ActorRef[Any], entered: threading.Event, gate: threading.Event, me: Probe) -> None:
    link(other)
    hold(entered, gate, me)


@pytest.mark.parametrize("how", ["exit", "crash", "stop", "normal"])
def test_EDGE_19_what_an_actor_sent_comes_before_the_news_of_its_end(
    begin: Start, dispatch: Dispatcher, journal: Journal, how: str
) -> None:
    hearer = begin(Trapping, journal, "hearer", on=dispatch)
    entered, gate = threading.Event(), threading.Event()

    def results(me: Any) -> None:
        for number in range(100):
            hearer.tell(number)
        if how == "crash":
            raise RuntimeError
        if how == "stop":
            exit_signal(me.actor_ref, Exit("shutdown"))
        else:
            me.exit(Exit("enough" if how == "exit" else "normal"))

    for tie in (link, monitor):
        worker = start_and_wait(Probe, journal, "worker", on=dispatch)
        ask(hearer, partial(tied, tie, worker))
        if not isinstance(dispatch, LoopDispatcher):  # its mailbox is full of them when the end comes
            tell(hearer, partial(hold, entered, gate))
            assert entered.wait(WAIT)
        tell(worker, results)
        wait_ended(worker)
        gate.set()
        journal.wait(lambda seen: isinstance(seen[-1][-1], (Exited, Down)) or any(isinstance(each[-1], (Exited, Down)) for each in seen))
        got = [entry[-1] for entry in journal.entries if entry[0] == "message"]
        assert got[:100] == list(range(100))
        assert isinstance(got[100], Exited if tie is link else Down)
        journal._entries.clear()  # pyright: ignore[reportPrivateUsage]
        entered.clear()
        gate.clear()


def test_EDGE_19_an_exit_that_waits_is_not_for_the_next_incarnation(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    root = begin(Supervisor, [ChildSpec("kept", (Trapping, (journal, "kept")), mailbox="keep")], on=threads)
    ref = running(root, "kept")
    worker = start_and_wait(Probe, journal, "worker", on=threads)
    entered, gate = threading.Event(), threading.Event()
    tell(ref, partial(link_and_hold, worker, entered, gate))
    assert entered.wait(WAIT)
    kill(worker)
    ref.tell("kept message")
    kill(ref)
    gate.set()
    journal.wait_for(("message", "kept", "kept message"))
    assert not any(isinstance(entry[-1], Exited) for entry in journal.entries)


# -- EDGE-23


def fail(_: Any) -> None:
    raise ValueError("a bug that nobody sees")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], str]:
    """Wait for a line of the standard library's logger."""
    caplog.set_level(logging.WARNING, "allm")

    def found(word: str) -> str:
        def lines() -> list[str]:
            return [record.getMessage() for record in caplog.records if record.name == "allm" and word in record.getMessage()]

        wait_until(lambda: bool(lines()))
        return lines()[0]

    return found


@pytest.mark.parametrize("way", ["tell", "ask", "on_start"])
def test_EDGE_23_a_crash_of_an_actor_that_nobody_supervises_is_logged(
    dispatch: Dispatcher, journal: Journal, logged: Callable[[str], str], way: str
) -> None:
    events: list[Any] = []
    unsubscribe = subscribe(events.append)
    ref = Probe.start_on(dispatch, journal, "lonely", ["fail"] if way == "on_start" else None)
    if way == "tell":
        tell(ref, fail)
    elif way == "ask":
        with pytest.raises(ValueError, match="bug"):
            ask(ref, fail)
    wait_ended(ref)
    line = logged("actor_crashed")
    wait_until(lambda: any(isinstance(event, ActorCrashed) for event in events))  # listeners are told after the log
    unsubscribe()
    assert "Probe#" in line
    assert ("this start fails" if way == "on_start" else "a bug that nobody sees") in line
    assert (f"\n{support()}:" if way == "on_start" else f"\n{__file__}:") in line  # the traceback, as text on lines of its own
    crashed = [event for event in events if isinstance(event, ActorCrashed)]
    assert len(crashed) == 1
    assert crashed[0].exit.kind == "error"
    data: Any = crashed[0].to_data()
    assert "on_" in data["exit"]["detail"]["trace"] or "fail" in data["exit"]["detail"]["trace"]


def support() -> str:
    return str(sys.modules[Probe.__module__].__file__)


def test_EDGE_23_what_is_no_crash_or_is_a_supervisors_affair_is_not_logged_as_one(
    supervise: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    crashed: list[Any] = []
    unsubscribe = subscribe(lambda event: crashed.append(event) if isinstance(event, ActorCrashed) else None)
    root = supervise([spec(journal, "child")])
    tell(running(root, "child"), fail)
    journal.wait_for(("start", "child"), times=2)
    ends: list[Callable[[ActorRef[Any]], object]] = [kill, stop, lambda ref: tell(ref, Exit("tired"))]
    for end in ends:
        ref = start_and_wait(Probe, journal, on=dispatch)
        end(ref)
        wait_ended(ref)
    unsubscribe()
    assert not crashed


def test_EDGE_23_warnings_and_errors_go_to_the_standard_logger(
    begin: Start, dispatch: Dispatcher, journal: Journal, logged: Callable[[str], str]
) -> None:
    root = begin(Supervisor, [spec(journal, "child")], on=dispatch)
    tell(running(root, "child"), fail)
    assert "a bug that nobody sees" in logged("supervisor_report")
    assert logged("child_restarting")


# -- EDGE-24


class OwnError(SupervisionError):
    """A program's own."""

    def __init__(self, number: int, what: Any) -> None:
        super().__init__(f"number {number}")
        self.number, self.what = number, what


def samples(ref: ActorRef[Any]) -> list[BaseException]:
    exit = Exit("error", {"type": "X", "message": "m", "trace": ""})
    return [
        ActorExited("worker", exit),
        AlreadyRegistered(("key", 1), ref, "worker"),
        AskCycle("calling_self: a"),
        MailboxFull("full"),
        StartError(exit),
        SpecError("invalid_id", [1]),
        SpecError("invalid_start", threading.Lock()),
        SupervisorError(Refused("already_started", ref=ref, exit=exit)),
        OwnError(1, lambda: None),
        allm.supervisors.CallTimeout("late"),
        allm.supervisors.ExitError("own", exit),
        allm.supervisors.Fenced("gone"),
        allm.supervisors.WouldBlock("no"),
    ]


def test_EDGE_24_every_error_pickles_with_its_attributes(begin: Start, journal: Journal) -> None:
    ref = begin(Probe, journal, on=ThreadDispatcher())
    for error in samples(ref):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), again.args) == (str(error), error.args)
        assert vars(again).keys() == vars(error).keys()
        for name, value in vars(error).items():
            if isinstance(value, ActorRef):
                assert getattr(again, name) is None  # of this process alone
            elif "lock" in repr(value) or callable(value):
                assert getattr(again, name) == repr(value)
            else:
                assert getattr(again, name) == value
        assert vars(copy.copy(error)) == vars(error)
    leave = pickle.loads(pickle.dumps(Leave(Exit("tired"))))
    assert leave.exit == Exit("tired")


def test_EDGE_24_every_error_has_one_base_and_stays_what_it_was() -> None:
    found: set[type[BaseException]] = set()
    for module in pkgutil.iter_modules(allm.supervisors.__path__, "allm.supervisors."):
        members = vars(importlib.import_module(module.name)).values()
        errors = (each for each in members if isinstance(each, type) and issubclass(each, Exception))
        found |= {each for each in errors if each.__module__.startswith("allm.")}
    assert {type(each) for each in samples(None)} - {OwnError} <= found  # type: ignore[arg-type]
    assert all(issubclass(each, SupervisionError) for each in found)
    assert issubclass(ActorExited, pykka.ActorDeadError)
    assert issubclass(allm.supervisors.CallTimeout, pykka.Timeout)
    assert issubclass(SpecError, ValueError)


# -- EDGE-26


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_EDGE_26_a_listener_that_raises_anything_is_its_own_affair(
    begin: Start, dispatch: Dispatcher, journal: Journal, error: Any
) -> None:
    def leave(event: Any) -> None:
        if isinstance(event, SupervisorReport):
            raise error

    root = begin(Supervisor, [spec(journal, "child")], on=dispatch)
    unsubscribe = subscribe(leave)
    ref = running(root, "child")
    told: list[Down] = []

    def bad(_: Down) -> None:
        raise error

    monitor(ref, bad)
    monitor(ref, told.append)
    later(ref, "who").add_done_callback(bad)  # type: ignore[arg-type]
    tell(ref, fail)
    journal.wait_for(("start", "child"), times=2)
    wait_until(lambda: [down.exit.kind for down in told] == ["error"])  # the supervisor hears first, and may be quicker
    again = running(root, "child")
    monitor(again, bad)
    monitor(again, told.append)
    assert kill(again)
    assert [down.exit.kind for down in told] == ["error", "killed"]
    unsubscribe()
    assert ask(running(root, "child"), "who") == "child"


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class Stiff(Exception):
    """Takes no attributes."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


class Homeless(allm.supervisors.ExitError):
    """Forgets the exit it should say."""

    def __init__(self) -> None:
        Exception.__init__(self)


@pytest.mark.parametrize("error", [Mute, Stiff, Homeless])
@pytest.mark.parametrize("mailbox", ["drop", "keep"])
def test_EDGE_26_an_error_whose_text_raises_ends_its_actor_alone(
    begin: Start, dispatch: Dispatcher, journal: Journal, error: Any, mailbox: Any
) -> None:
    def raise_it(_: Any) -> None:
        raise error

    seen: list[Any] = []
    unsubscribe = subscribe(lambda event: seen.append(event.to_data()))
    root = begin(Supervisor, [spec(journal, "child", mailbox=mailbox), spec(journal, "other")], on=dispatch)
    tell(running(root, "child"), raise_it)
    journal.wait_for(("start", "child"), times=2)
    with pytest.raises(error):
        ask(running(root, "child"), raise_it)
    journal.wait_for(("start", "child"), times=3)
    assert ask(running(root, "child"), "who") == "child"
    assert ask(running(root, "other"), "who") == "other"
    unsubscribe()
    assert seen


def test_EDGE_26_an_exit_is_an_exit(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Probe, journal, on=dispatch)
    with pytest.raises(TypeError):
        ask(ref, lambda me: me.exit("tired"))
    assert wait_ended(ref).kind in ("error", "noproc")


@pytest.mark.parametrize("nowhere", [PoolDispatcher, object(), "pool", 1], ids=["class", "object", "text", "number"])
def test_EDGE_26_an_actor_given_to_no_dispatcher_is_not_among_the_living(journal: Journal, nowhere: Any) -> None:
    class Lost(Probe):
        dispatcher = nowhere

    before = set(alive)
    for start in (partial(Probe.start_on, nowhere), Lost.start):
        with pytest.raises(TypeError):
            start(journal)
    assert set(alive) == before


def test_EDGE_26_an_actor_whose_dispatcher_fails_is_not_among_the_living(journal: Journal) -> None:
    class Failing(ThreadDispatcher):
        def launch(self, runnable: Any, /) -> bool:
            raise OSError("no more of these")

    before = set(alive)
    with pytest.raises(OSError, match="no more"):
        Probe.start_on(Failing(), journal)
    assert set(alive) == before


def test_EDGE_26_a_wait_for_the_stop_leaves_nothing(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=dispatch)
    flag: Any = ref.actor_stopped
    assert isinstance(flag, StopFlag)
    for _ in range(5):
        assert not flag.wait(0.001)
    assert not flag._gates  # pyright: ignore[reportPrivateUsage]
    waiting = threading.Thread(target=flag.wait)
    waiting.start()
    wait_until(lambda: len(flag._gates) == 1)  # pyright: ignore[reportPrivateUsage]
    stop(ref)
    waiting.join(WAIT)
    assert not waiting.is_alive()


def test_EDGE_26_the_abandoned_are_forgotten_when_their_threads_have_ended(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    root = begin(Supervisor, [spec(journal, "child")], max_restarts=10**6, on=threads)
    for _ in range(20):
        entered, gate = threading.Event(), threading.Event()
        ref = running(root, "child")
        tell(ref, partial(hold, entered, gate))
        assert entered.wait(WAIT)
        kill(ref)
        wait_until(lambda ref=ref: running(root, "child") is not ref)  # type: ignore[misc]
        assert [name.split("#")[0] for name in abandoned(root)] == ["Probe"]
        gate.set()
        wait_until(lambda: abandoned(root) == ())
    assert len(its(root).abandoned) <= 1


@pytest.mark.slow
def test_EDGE_26_a_tell_near_the_recursion_limit_leaves_nobody_unaware(loop: Loop, journal: Journal) -> None:
    dispatcher = LoopDispatcher(loop.loop)

    def deeply(ref: ActorRef[Any], left: int) -> None:
        if left > 0:
            deeply(ref, left - 1)
        else:
            ref.tell("crash")

    def tell_at(ref: ActorRef[Any], room: int) -> None:
        depth, frame = 0, sys._getframe()  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        try:
            deeply(ref, sys.getrecursionlimit() - depth - room)
        except RecursionError:
            pass

    for room in range(4, 60):
        root = start_and_wait(Supervisor, [spec(Journal(), "child")], max_restarts=10, on=dispatcher)
        ref = running(root, "child")
        loop.run(partial(tell_at, ref, room))
        wait_until(partial(is_settled, root, ref))
        if its(root).exit is None:  # else it stood there, too: a root ends, with all below
            assert ask(running(root, "child"), "who") == "child"
            stop(root, timeout=WAIT)


def is_settled(root: ActorRef[Any], ref: ActorRef[Any]) -> bool:
    ended = its(ref).exit is not None
    if its(root).exit is not None:
        return ended
    found = child(root, "child")
    return found is not None and found.is_alive() and (ended or not its(ref).user)


def test_EDGE_26_an_actor_in_pykkas_registry_goes_from_there_at_its_end(dispatch: Dispatcher, journal: Journal) -> None:
    ends: list[Callable[[ActorRef[Any]], object]] = [kill, stop, lambda ref: ref.stop()]
    for end in ends:
        ref = start_and_wait(Probe, journal, on=dispatch)
        ActorRegistry.register(ref)
        assert ActorRegistry.get_by_urn(ref.actor_urn) is ref
        end(ref)
        wait_ended(ref)
        assert ActorRegistry.get_by_urn(ref.actor_urn) is None
    ActorRegistry.broadcast("nobody is there, nothing is raised")
