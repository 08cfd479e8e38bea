"""What a loop of ten steps with tools costs over its bare calls, in CPU time: `python benchmarks/tool_loop.py [rounds]`.

Both sides go the whole way of a call with the fake adapter, so that what is left is the loop's own: the turn machine, its actor, the
handlers' actors. Aim: at most 2,000 us a step.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import allm

STEPS = 10
CALLS = 50
"""Loops a round."""


@allm.tool
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


def engine(loops: int) -> allm.Engine:
    """One with scripts for so many loops."""
    script: list[Any] = [[("tool_call", "add", {"a": 1}), ("finish", "tool_calls")]] * (STEPS - 1)
    script.append([("text", "done"), ("finish", "stop")])
    return allm.Engine("fake:any", adapter_opts={"scripts": script * loops}, tools=[add])


def microseconds(work: Callable[[], object]) -> float:
    """CPU time of one `work()`, by the mean of many."""
    work()
    before = time.process_time()
    for _ in range(CALLS):
        work()
    return (time.process_time() - before) / CALLS * 1e6


def main(rounds: int) -> None:
    """Prints the median of the rounds."""
    thread = allm.chat(engine(1), "Go.", max_turns=STEPS).thread.messages
    loops, bares = [], []
    for _ in range(rounds):
        looping, calling = engine(CALLS + 1), engine(CALLS + 1)

        def bare(calling: allm.Engine = calling) -> None:
            for step in range(STEPS):
                allm.generate(calling, thread[: 1 + 2 * step])

        loops.append(microseconds(lambda looping=looping: allm.chat(looping, "Go.", max_turns=STEPS)))  # type: ignore[misc]
        bares.append(microseconds(bare))
    loop, alone = statistics.median(loops), statistics.median(bares)
    print(f"a loop of {STEPS} steps {loop:,.0f} us, its bare calls {alone:,.0f} us: {(loop - alone) / STEPS:,.0f} us a step more")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
