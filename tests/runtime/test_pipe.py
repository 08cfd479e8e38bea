"""The hand-over of events from the loop to a consumer: nothing lost, order kept, bounded, and nobody left waiting."""

import asyncio
import random
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.actors.pipe import LIMIT, Pipe
from allm.errors import StreamError
from allm.events import Event, TextDelta
from allm.responses import Response
from tests.runtime.support import WAIT

ROUNDS = 12
"""Races are run so often with other numbers each time; hundreds were run when this was written."""
ANSWER = Response(finish_reason="stop")


def batch(*numbers: int) -> list[Event]:
    return [TextDelta("b", str(number)) for number in numbers]


def drained(pipe: Pipe) -> list[str]:
    """What a consumer's thread takes up to the end."""
    got: list[str] = []
    while True:
        events = pipe.take()
        if events is not None:
            got += [event.delta for event in events if isinstance(event, TextDelta)]
        elif pipe.done and pipe.empty:
            return got
        else:
            pipe.wait()


async def drained_async(pipe: Pipe) -> list[str]:
    got: list[str] = []
    while True:
        events = pipe.take()
        if events is not None:
            got += [event.delta for event in events if isinstance(event, TextDelta)]
        elif pipe.done and pipe.empty:
            return got
        else:
            await pipe.wait_async()


class Reader:
    """Puts batches as an exchange does: pauses while the pipe is full, and goes on when it is told to."""

    def __init__(self, pipe: Pipe, sizes: list[int]) -> None:
        self.pipe = pipe
        self.sizes = sizes
        self.most = 0
        self.pauses = 0
        self.stuck = False

    def run(self) -> None:
        number = 0
        for size in self.sizes:
            self.pipe.put(batch(*range(number, number + size)))
            number += size
            self.most = max(self.most, waiting(self.pipe))
            if self.pipe.full:
                self.pauses += 1
                resumed = threading.Event()
                self.pipe.when_resumed(resumed.set)
                if not resumed.wait(WAIT):
                    self.stuck = True
                    return
        self.pipe.finish(ANSWER, None)


def waiting(pipe: Pipe) -> int:
    """Events that the consumer has not taken."""
    return sum(len(batch) for batch, _ in list(pipe._batches))  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(params=[5e-3, 1e-5], ids=["seldom", "often"])
def switching(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads that take turns seldom, and very often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


def test_a_batch_is_taken_in_the_order_it_was_put() -> None:
    pipe = Pipe(live=True)
    pipe.put(batch(1, 2))
    pipe.put(batch(3))
    pipe.finish(ANSWER, None)
    assert drained(pipe) == ["1", "2", "3"]
    assert pipe.take() is None
    assert pipe.response is ANSWER


def test_a_pipe_that_nobody_watches_keeps_nothing() -> None:
    pipe = Pipe(live=False)
    pipe.put(batch(*range(2 * LIMIT)))
    assert pipe.empty
    assert not pipe.full


def test_the_first_end_counts() -> None:
    pipe = Pipe(live=True)
    pipe.finish(ANSWER, None)
    pipe.finish(None, StreamError("cancelled"))
    assert (pipe.response, pipe.error) == (ANSWER, None)


def test_a_wait_returns_at_once_when_there_is_something_to_take_or_the_end_has_come() -> None:
    for what in ("event", "end"):
        pipe = Pipe(live=True)
        if what == "event":
            pipe.put(batch(1))
        else:
            pipe.finish(ANSWER, None)
        pipe.wait()
        asyncio.run(asyncio.wait_for(pipe.wait_async(), WAIT))


def test_the_end_wakes_all_who_wait() -> None:
    pipe = Pipe(live=True)
    threads = [threading.Thread(target=pipe.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    pipe.finish(ANSWER, None)
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)


def test_a_task_that_no_longer_waits_is_forgotten() -> None:
    async def go() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pipe.wait_async(), 0.01)

    pipe = Pipe(live=True)
    asyncio.run(go())
    assert not pipe._waiters  # pyright: ignore[reportPrivateUsage]
    pipe.put(batch(1))


def test_a_consumer_whose_loop_was_closed_disturbs_nobody() -> None:
    pipe = Pipe(live=True)
    loop = asyncio.new_event_loop()
    wait = pipe.wait_async()
    task = loop.create_task(wait)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    pipe.put(batch(1))
    assert drained_now(pipe) == ["1"]
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RuntimeError, match="closed"):
        wait.throw(RuntimeError("Event loop is closed"))


def drained_now(pipe: Pipe) -> list[str]:
    events = pipe.take()
    return [event.delta for event in events or () if isinstance(event, TextDelta)]


def test_a_full_pipe_resumes_its_reader_only_when_there_is_room() -> None:
    pipe = Pipe(live=True)
    pipe.put(batch(*range(LIMIT)))
    pipe.put(batch(0))
    resumed = threading.Event()
    pipe.when_resumed(resumed.set)
    assert pipe.full
    assert not resumed.is_set()
    pipe.take()
    assert not pipe.full
    assert resumed.is_set()


def test_a_reader_that_finds_room_goes_on_at_once() -> None:
    resumed = threading.Event()
    Pipe(live=True).when_resumed(resumed.set)
    assert resumed.is_set()


def test_who_wants_only_the_fold_lets_a_paused_reader_go_on() -> None:
    pipe = Pipe(live=True)
    pipe.put(batch(*range(LIMIT)))
    resumed = threading.Event()
    pipe.when_resumed(resumed.set)
    pipe.fold_only()
    assert resumed.is_set()
    assert pipe.empty
    pipe.put(batch(1))
    assert pipe.empty


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 3 * LIMIT // 2), max_size=8))
def test_whatever_the_sizes_of_the_batches_nothing_is_lost(sizes: list[int]) -> None:
    pipe = Pipe(live=True)
    reader = Reader(pipe, sizes)
    thread = threading.Thread(target=reader.run)
    thread.start()
    got = drained(pipe)
    thread.join(WAIT)
    assert got == [str(number) for number in range(sum(sizes))]
    assert reader.most < LIMIT + max(sizes, default=0)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("world", ["thread", "asyncio"])
def test_no_wake_up_is_lost_between_a_fast_reader_and_a_fast_consumer(world: str) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        pipe = Pipe(live=True)
        sizes = [chance.choice((1, 1, 1, 3, 200, LIMIT)) for _ in range(200)]
        reader = Reader(pipe, sizes)
        thread = threading.Thread(target=reader.run)
        thread.start()
        got = drained(pipe) if world == "thread" else asyncio.run(asyncio.wait_for(drained_async(pipe), WAIT))
        thread.join(WAIT)
        assert not reader.stuck, f"seed {seed}: the reader was not resumed"
        assert got == [str(number) for number in range(sum(sizes))], f"seed {seed}"
        assert reader.most < 2 * LIMIT + LIMIT, f"seed {seed}: {reader.most} events waited"


@pytest.mark.usefixtures("switching")
def test_turning_to_the_fold_in_the_midst_never_leaves_the_reader_paused() -> None:
    for seed in range(ROUNDS):
        pipe = Pipe(live=True)
        reader = Reader(pipe, [LIMIT // 3] * 30)
        thread = threading.Thread(target=reader.run)
        thread.start()
        for _ in range(seed % 10):
            pipe.take()
        pipe.fold_only()
        while not pipe.done:
            pipe.wait()
        thread.join(WAIT)
        assert not reader.stuck, f"seed {seed}: the reader was not resumed"
        assert not pipe.full, f"seed {seed}: full with nobody to take anything"


def test_a_slow_consumer_pauses_the_reader() -> None:
    pipe = Pipe(live=True)
    reader = Reader(pipe, [LIMIT // 2] * 20)
    thread = threading.Thread(target=reader.run)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert waiting(pipe) == LIMIT
    assert len(drained(pipe)) == 10 * LIMIT
    thread.join(WAIT)
    assert reader.pauses > 5
