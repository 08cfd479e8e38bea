"""A sender that is interrupted between two steps leaves nothing that another cannot go on from; a pulse finds what it left."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from pykka._envelope import Envelope

from allm.supervisors import Actor, LoopDispatcher, PoolDispatcher, pulse
from allm.supervisors.cell import Cell, cell_of, interrupted
from allm.supervisors.clock import clock
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.here import threaded
from allm.supervisors.mailbox import Kept, KeptCell
from allm.supervisors.timers import ThreadTimers
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, wait_until


class Interrupted(BaseException):
    """What a signal's handler raised."""


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A pulse that is due."""

    def now() -> None:
        pulse._due[0] = 0.0  # pyright: ignore[reportPrivateUsage]
        pulse.pulse()

    return now


def found(ref: Any) -> Cell:
    cell = cell_of(ref)
    assert cell is not None
    return cell


def test_a_message_of_a_sender_that_told_nobody_is_found(
    dispatch: Dispatcher, begin: Start, journal: Journal, now: Callable[[], None]
) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)
    cell = found(ref)
    assert ref.ask("who", timeout=WAIT) == "a"
    wait_until(lambda: not cell.flag.locked())
    cell.flag.acquire()  # and it came no further
    cell.user.append(Envelope("lost?"))
    assert ("message", "a", "lost?") not in journal.entries
    now()
    wait_until(lambda: ("message", "a", "lost?") in journal.entries)
    assert ref.ask("who", timeout=WAIT) == "a"


def test_a_sender_whose_lane_raises_has_locked_nobody_out(
    dispatch: Dispatcher, begin: Start, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)
    cell = found(ref)
    assert ref.ask("who", timeout=WAIT) == "a"
    wait_until(lambda: not cell.flag.locked())

    def interrupt(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(type(cell.lane), "schedule", interrupt)
        with pytest.raises(Interrupted):
            ref.tell("cut")
    assert ref.ask("next", timeout=WAIT) == "next"
    assert [entry for entry in journal.entries if entry[0] == "message"] == [("message", "a", "cut"), ("message", "a", "next")]


def test_a_loop_whose_wake_up_was_interrupted_is_woken_by_the_next(
    loop: Loop, begin: Start, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = begin(Probe, journal, "a", on=LoopDispatcher(loop.loop))
    cell = found(ref)
    wait_until(lambda: not cell.flag.locked())

    def interrupt(*_: Any, **__: Any) -> None:
        raise RecursionError

    with monkeypatch.context() as patched:
        patched.setattr(loop.loop, "call_soon_threadsafe", interrupt)
        with pytest.raises(RecursionError):
            ref.tell("cut")
    assert ref.is_alive()
    assert ref.ask("next", timeout=WAIT) == "next"


def test_a_loop_that_nobody_woke_drains_at_its_next_beat(loop: Loop, begin: Start, journal: Journal) -> None:
    ref = begin(Probe, journal, "a", on=LoopDispatcher(loop.loop))
    cell = found(ref)
    wait_until(lambda: not cell.flag.locked())
    cell.flag.acquire()
    cell.user.append(Envelope("late"))  # and the sender is gone; nobody waits, nobody tells it anything more
    wait_until(lambda: ("message", "a", "late") in journal.entries)


class Alone(Actor):
    """Notes when two turns overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = threading.Lock()
        self.seen: list[int] = []
        self.overlapped = False

    def on_receive(self, message: int) -> None:
        if not self.inside.acquire(False):
            self.overlapped = True
            return
        self.seen.append(message)
        self.inside.release()


def test_an_actor_that_is_scheduled_many_times_has_one_turn_at_a_time_and_its_messages_in_order(dispatch: Dispatcher, begin: Start) -> None:
    ref = begin(Alone, on=dispatch)
    cell = found(ref)
    body: Any = cell.body
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            cell.flag.acquire(False)
            cell.lane.schedule(cell)
            if cell.flag.locked():
                cell.claim()

    disturbers = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in disturbers:
        thread.start()
    for number in range(2000):
        ref.tell(number)
    wait_until(lambda: len(body.seen) == 2000 or body.overlapped)
    over.set()
    for thread in disturbers:
        thread.join(WAIT)
    assert not body.overlapped
    assert body.seen == list(range(2000))


def test_a_pool_whose_worker_was_never_called_or_never_hired_works_on(begin: Start, journal: Journal, now: Callable[[], None]) -> None:
    pool = PoolDispatcher(1, idle=0.05)
    ref = begin(Probe, journal, "a", on=pool)
    cell = found(ref)
    wait_until(lambda: pool.workers == 0)
    cell.flag.acquire()
    cell.user.append(Envelope("one"))
    pool._ready.append(cell)  # pyright: ignore[reportPrivateUsage]  # and nobody was hired
    now()
    wait_until(lambda: ("message", "a", "one") in journal.entries)
    wait_until(lambda: pool.workers == 0)
    pool._crew[threading.Thread()] = -100.0  # pyright: ignore[reportPrivateUsage]  # hired, and never started
    cell.flag.acquire()
    cell.user.append(Envelope("two"))
    now()
    wait_until(lambda: ("message", "a", "two") in journal.entries)
    pool._idle = 0.2  # pyright: ignore[reportPrivateUsage]
    assert ref.ask("who", timeout=WAIT) == "a"
    wait_until(lambda: pool._parked != [])  # pyright: ignore[reportPrivateUsage]
    pool._parked.pop()  # pyright: ignore[reportPrivateUsage]  # called, and not let through
    assert ref.ask("who", timeout=WAIT) == "a"


def test_a_worker_that_is_replaced_while_it_works_counts_again_after(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(1)
    gate = threading.Event()
    slow = begin(Probe, journal, "slow", on=pool)
    other = begin(Probe, journal, "other", on=pool)

    def hold(_: Any) -> None:
        gate.wait(WAIT)

    slow.tell(hold)
    wait_until(lambda: found(slow).busy is not None)
    assert pool.replace(found(slow))
    assert not pool.replace(found(slow))
    assert other.ask("who", timeout=WAIT) == "other"
    gate.set()
    assert slow.ask("who", timeout=WAIT) == "slow"
    assert pool._waiting == 0  # pyright: ignore[reportPrivateUsage]


def test_what_comes_to_a_kept_mailbox_in_the_last_moment_of_an_incarnation_moves_on(journal: Journal) -> None:
    kept = Kept()
    first = KeptCell("first", Probe(journal), kept)
    kept.open(first)

    class Closing(deque[Any]):
        def append(self, envelope: Any, /) -> None:
            if not first.closed:
                kept.close(first, None)
            super().append(envelope)

    first.user = Closing()
    assert kept.take(Envelope("late"))
    second = KeptCell("second", Probe(journal), kept)
    kept.open(second)
    assert [envelope.message for envelope in second.user] == ["late"]


def test_a_timer_thread_that_was_not_started_is_started_by_the_next_look(begin: Start, journal: Journal, dispatch: Dispatcher) -> None:
    timers = ThreadTimers(linger=0.05)
    ref = begin(Probe, journal, "a", on=dispatch)
    timers._thread = threading.Thread()  # pyright: ignore[reportPrivateUsage]  # made, and not started
    timers.send_after(0.01, ref, "due")
    timers.look()
    wait_until(lambda: ("message", "a", "due") in journal.entries)


def test_mailboxes_are_drained_in_an_empty_context(loop: Loop, begin: Start, journal: Journal) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    dispatcher = LoopDispatcher(loop.loop)
    ref = begin(Probe, journal, "a", on=dispatcher)
    seen: list[str] = []

    def note(_: Any) -> None:
        seen.append(who.get())

    def look(probe: Any) -> None:
        seen.append(who.get())
        dispatcher.timers.send_after(0.01, probe.actor_ref, note)

    async def inside() -> None:
        who.set("a task of the loop")
        ref.tell(look)

    who.set("the sender")
    ref.tell(look)
    asyncio.run_coroutine_threadsafe(inside(), loop.loop).result(WAIT)
    wait_until(lambda: len(seen) == 4)
    assert seen == ["nobody"] * 4


class Slow:
    """Has threads, and takes its time to look for what is undone, without a processor."""

    def look(self) -> None:
        time.sleep(0.1)

    def after_fork(self) -> None: ...

    def help(self) -> bool:
        return False


def test_a_look_that_had_to_wait_for_a_processor_is_not_followed_by_a_long_pause(now: Callable[[], None]) -> None:
    slow = Slow()
    threaded.add(slow)
    now()
    assert pulse._due[0] - clock.now() <= pulse.PULSE  # pyright: ignore[reportPrivateUsage]


class Unmendable:
    name = "Unmendable#1"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def mend(self) -> None:
        raise self.error


def test_one_that_cannot_be_mended_costs_itself_alone(
    now: Callable[[], None], journal: Journal, begin: Start, dispatch: Dispatcher
) -> None:
    ref = begin(Probe, journal, "a", on=dispatch)
    cell = found(ref)
    interrupted.append(cast("Any", Unmendable(ValueError("no"))))
    assert ref.ask("who", timeout=WAIT) == "a"
    wait_until(lambda: not cell.flag.locked())
    cell.flag.acquire()
    cell.user.append(Envelope("lost?"))
    now()
    wait_until(lambda: ("message", "a", "lost?") in journal.entries)
    assert interrupted == []


def test_one_that_finds_too_little_room_is_mended_later(now: Callable[[], None]) -> None:
    left = cast("Any", Unmendable(RecursionError()))
    interrupted.append(left)
    try:
        with pytest.raises(RecursionError):
            now()
        assert interrupted == [left]
    finally:
        interrupted.clear()
