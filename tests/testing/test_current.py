"""`use_engine`: what `current_engine()` gives, in tasks and threads too, and no longer afterwards."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import allm
from allm.testing import current_engine, use_engine

ONE, TWO = allm.Engine("fake:one"), allm.Engine("fake:two")


def in_a_thread() -> list[allm.Engine]:
    found: list[allm.Engine] = []
    thread = threading.Thread(target=lambda: found.append(current_engine(TWO)))
    thread.start()
    thread.join()
    return found


def test_the_innermost_engine_is_current() -> None:
    with pytest.raises(allm.EngineError) as raised:
        current_engine()
    assert raised.value.reason == "no_current_engine"
    assert current_engine(TWO) is TWO
    with use_engine(ONE):
        assert current_engine() is ONE
        with use_engine(TWO) as engine:
            assert current_engine() is engine is TWO
        assert current_engine() is ONE
    with pytest.raises(allm.EngineError):
        current_engine()


def test_threads_and_tasks_have_it_too() -> None:
    async def task() -> allm.Engine:
        await asyncio.sleep(0)
        return current_engine()

    async def main() -> list[allm.Engine]:
        first = asyncio.create_task(task())
        with use_engine(TWO):
            second = asyncio.create_task(task())
            inside = await second
            late = asyncio.create_task(task())
        return [await first, inside, await late]

    with use_engine(ONE):
        assert in_a_thread() == [ONE]
        assert asyncio.run(main()) == [ONE, TWO, ONE]  # the block round the last one is over before it asks
        assert asyncio.run(task()) is ONE
    assert in_a_thread() == [TWO]
    assert threading.Thread.start.__name__ == "start"


def test_a_thread_that_lives_on_does_not_keep_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        with use_engine(ONE):
            assert pool.submit(current_engine).result() is ONE
        assert pool.submit(current_engine, TWO).result() is TWO
    with pytest.raises(allm.EngineError), use_engine("fake:one"):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pass
