"""Run as a program: calls that an exception from outside cuts off at every place; after each one another thread's call must work.

`signals SEED ROUNDS MODE`: by a timer's signal, many times in one call. `lines MODE`: at each line of ours, one call each. `depths MODE`:
at each depth near the recursion limit. Prints what happened as JSON, and ends with 1 if a later call did not come back.
"""

import collections
import faulthandler
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import allm
from allm.supervisors.cell import alive

WAIT = 8.0
ENGINE = allm.Engine("fake:any", adapter_opts={"script": [("text", "Hello"), ("finish", "stop")]})
MODES: dict[str, Callable[[], object]] = {
    "generate": lambda: allm.generate(ENGINE, "x"),
    "on_event": lambda: allm.generate(ENGINE, "x", on_event=str),
    "chat": lambda: allm.chat(ENGINE, "x"),
    "stream": lambda: list(allm.stream_generate(ENGINE, "x")),
}


class Cut(Exception):
    """Raised from outside."""


class Later:
    """Calls of another thread, and how long the slowest of them took."""

    def __init__(self) -> None:
        self.slowest = 0.0

    def works(self) -> bool:
        took: list[float] = []

        def call() -> None:
            begun = time.perf_counter()
            allm.generate(ENGINE, "y")
            took.append(time.perf_counter() - begun)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(WAIT)
        self.slowest = max(self.slowest, *took, 0.0)
        return bool(took)


def signals(seed: str, rounds: str, mode: str) -> tuple[bool, Any, float]:
    chance, later, armed = random.Random(int(seed)), Later(), [False]

    def raises(*_: object) -> None:
        if armed[0]:
            raise Cut

    signal.signal(signal.SIGALRM, raises)
    ends: collections.Counter[str] = collections.Counter()
    for number in range(int(rounds)):
        try:
            armed[0] = True
            # The second comes while the first is dealt with.
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 0.002), 0.00005)
            MODES[mode]()
            armed[0] = False
            ends["whole"] += 1
        except Cut:
            armed[0] = False
            ends["cut"] += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        if number % 20 == 0 and not later.works():
            return False, ends, later.slowest
    return later.works(), ends, later.slowest


def lines(mode: str) -> tuple[bool, Any, float]:
    later, number, ends = Later(), 0, collections.Counter[str]()
    while True:
        number += 1
        try:
            cut = _cut_at(number, MODES[mode])
        except Cut:
            cut = True
        ends["cut" if cut else "whole"] += 1
        if not later.works():
            return False, ends, later.slowest
        if not cut:
            return True, ends, later.slowest


def _cut_at(number: int, call: Callable[[], object]) -> bool:
    """Calls, and raises at the line of ours of this number; whether it came to that line."""
    seen = 0

    def local(frame: Any, event: str, arg: Any) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == number:
                raise Cut
        return local

    def enter(frame: Any, event: str, arg: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        return local if name.startswith(("allm", "pykka")) else None

    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(None)
    return seen >= number  # in a finaliser, which told nobody


def depths(mode: str) -> tuple[bool, Any, float]:
    later, ends = Later(), collections.Counter[str]()

    def deep(more: int) -> None:
        if more:
            deep(more - 1)
        else:
            MODES[mode]()

    for depth in range(sys.getrecursionlimit() - 120, sys.getrecursionlimit() - 3):
        try:
            deep(depth)
            ends["whole"] += 1
        except RecursionError:
            ends["cut"] += 1
        if not later.works():
            return False, ends, later.slowest
    return True, ends, later.slowest


def _leaves_nothing() -> bool:
    """Whether no call, no listener and no key is left, soon after."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        runtime = allm.default_runtime()
        left = [name for name in alive if name.startswith(("Listener", "StreamActor", "TurnActor"))]
        if not left and not runtime.stats()["calls"] and repr(runtime.vault) == "<Vault of 0>":
            return True
        time.sleep(0.02)
    return False


if __name__ == "__main__":
    faulthandler.dump_traceback_later(100, exit=True)
    sys.stderr.flush()
    for each in MODES.values():
        each()
    ways: dict[str, Callable[..., tuple[bool, Any, float]]] = {"signals": signals, "lines": lines, "depths": depths}
    works, ends, slowest = ways[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps({"works": works, "ends": ends, "slowest": slowest, "clean": works and _leaves_nothing()}))
    sys.stdout.flush()
    sys.exit(0 if works else 1)
