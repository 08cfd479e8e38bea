"""What a call was made of goes with its last reference: nothing of it waits for the garbage collector, whichever way it ended.

All of a call in one ring costs a fiftieth of its time, and the memory of hundreds of calls between two collections.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import allm
from allm.testing import Fault, Reply, Simulator
from tests.runtime.support import eventually

WIRES = {"chat": "openai.chat", "responses": "openai.responses", "messages": "anthropic", "gemini": "gemini"}
KEYS = {"openai": "k", "anthropic": "k", "gemini": "k"}
CALLS = tuple(
    f"allm.{name}."
    for name in (
        *(f"actors.{each}" for each in ("answer", "call", "exchange", "pipe", "stream", "turn_actor", "turn_plan", "turn_slot")),
        *("blocks", "errors", "events", "messages", "order", "requests", "responses", "turn_data", "usage"),
    )
)
"""Where the values are that a call is made of. A runtime that a test before this one has stopped is a ring, and may go only now."""
FAST = allm.Retry(base_delay=0.01, max_delay=0.01)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def in_one_body(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    allm.generate(engine, "Hi", wire="json", runtime=runtime)


def streamed(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    assert list(allm.stream_generate(engine, "Hi", runtime=runtime))


def awaited(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    async def main() -> None:
        await allm.aio.generate(engine, "Hi", runtime=runtime)
        assert [event async for event in allm.stream_generate(engine, "Hi", runtime=runtime)]

    asyncio.run(main())


def left(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    with allm.stream_generate(engine, "Hi", runtime=runtime) as stream:
        next(iter(stream))


def refused(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    sim.fault(Fault(status=400))
    with pytest.raises(allm.AdapterError):
        allm.generate(engine, "Hi", runtime=runtime)


def tried_again(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    sim.fault(Fault(status=503))
    allm.generate(engine, "Hi", runtime=runtime)


def broken_off(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    sim.fault(Fault(cut_after=400))
    allm.generate(engine, "Hi", runtime=runtime)


def talked(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    sim.reply(Reply(tool_calls=(("add", {"a": 1, "b": 2}), ("add", {"a": "x"}))))
    assert allm.chat(engine, "Hi", tools=[allm.tool(add)], runtime=runtime).text


def listened_to(engine: allm.Engine, runtime: allm.Runtime, sim: Simulator) -> None:
    seen: list[str] = []
    allm.chat(engine, "Hi", runtime=runtime, on_event=lambda event: seen.append(type(event).__name__))
    assert seen


WAYS: list[Callable[[allm.Engine, allm.Runtime, Simulator], None]] = [
    in_one_body, streamed, awaited, left, refused, tried_again, broken_off, talked, listened_to,
]  # fmt: skip


def _kind(value: object) -> type[object]:
    return type(value)


@pytest.fixture
def rings() -> Iterator[Callable[[], Counter[str]]]:
    """What of ours the collector finds that nobody refers to; it is off meanwhile."""

    def found() -> Counter[str]:
        gc.collect()
        names = [f"{kind.__module__}.{kind.__qualname__}" for kind in map(_kind, gc.garbage)]
        return Counter(name for name in names if name.startswith(CALLS))

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield found
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(wires=tuple(WIRES)) as simulator:
        yield simulator


@pytest.mark.parametrize("way", WAYS, ids=lambda way: str(way.__name__))
@pytest.mark.parametrize("wire", WIRES)
def test_nothing_of_a_call_waits_for_the_garbage_collector(
    wire: str,
    way: Callable[[allm.Engine, allm.Runtime, Simulator], None],
    sim: Simulator,
    runtime: allm.Runtime,
    rings: Callable[[], Counter[str]],
) -> None:
    engine = allm.Engine(f"{WIRES[wire]}:m", base_url=sim.base_url(wire), keys=KEYS, retry=FAST)
    for _ in range(3):
        way(engine, runtime, sim)
    eventually(lambda: runtime.stats()["calls"] == 0, "the calls are over")
    allm.generate(engine, "Bye", runtime=runtime)  # whoever held the last one holds this one
    assert rings() == Counter()
