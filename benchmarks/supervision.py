"""Actors and supervisors side by side with plain Pykka, in one run: `python benchmarks/supervision.py [--quick]`.

Plain Pykka has no supervisor, so its column ends where restarts begin. Every figure comes from a fresh process, the two libraries in
turn; the table shows medians of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka

from allm.supervisors import Actor, ChildSpec, Crash, DynamicSupervisor, PoolDispatcher, StartChild, start_and_wait, stop
from allm.supervisors.view import child


class Ours(Actor):
    """Answers what it is asked."""

    def on_receive(self, message: Any) -> Any:
        return message


class Plain(pykka.ThreadingActor):
    """The same on plain Pykka."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


class Told(Ours):
    """Counts down to an event."""

    def __init__(self, left: int, done: threading.Event) -> None:
        super().__init__()
        self.left, self.done = left, done

    def on_receive(self, message: Any) -> Any:
        self.left -= 1
        if not self.left:
            self.done.set()


class PlainTold(Plain):
    """The same on plain Pykka."""

    def __init__(self, left: int, done: threading.Event) -> None:
        super().__init__()
        self.left, self.done = left, done

    on_receive = Told.on_receive  # type: ignore[assignment]


class Risen(Ours):
    """Notes when it serves again."""

    def __init__(self, started: list[float], served: threading.Semaphore) -> None:
        super().__init__()
        self.started, self.served = started, served

    def on_start(self) -> None:
        self.started.append(time.perf_counter())
        self.served.release()


def memory_kb() -> int:
    """Resident memory of this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def start_one(library: str, pool: PoolDispatcher, *args: Any) -> Any:
    """An idle actor of either library."""
    if library == "pykka":
        return PlainTold.start(*args) if args else Plain.start()
    return Told.start_on(pool, *args) if args else Ours.start_on(pool)


def spawn(library: str, n: int) -> float:
    """Actors started a second."""
    pool = PoolDispatcher()
    began = time.perf_counter()
    refs = [start_one(library, pool) for _ in range(n)]
    refs[-1].ask(1, timeout=60)
    return n / (time.perf_counter() - began)


def memory(library: str, n: int) -> float:
    """KB per idle actor."""
    pool = PoolDispatcher()
    start_one(library, pool).ask(1, timeout=10)
    before = memory_kb()
    refs = [start_one(library, pool) for _ in range(n)]
    refs[-1].ask(1, timeout=60)
    return (memory_kb() - before) / n


def tell(library: str, n: int) -> float:
    """Messages handled a second, told by one thread to one actor."""
    done = threading.Event()
    ref = start_one(library, PoolDispatcher(), n, done)
    began = time.perf_counter()
    for _ in range(n):
        ref.tell(1)
    assert done.wait(60)
    return n / (time.perf_counter() - began)


def ask(library: str, n: int) -> float:
    """Median of an ask and its answer, in us."""
    ref = start_one(library, PoolDispatcher())
    times = []
    for _ in range(n):
        began = time.perf_counter()
        ref.ask(1, timeout=10)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def family(n: int) -> tuple[Any, list[float], threading.Semaphore]:
    """A supervisor on a pool with n children that serve."""
    started: list[float] = []
    served = threading.Semaphore(0)
    parent = start_and_wait(DynamicSupervisor, on=PoolDispatcher(), max_restarts=10**9, max_seconds=1.0)
    for i in range(n):
        parent.tell(StartChild(ChildSpec(i, (Risen, (started, served)))))
    for _ in range(n):
        assert served.acquire(timeout=120)
    return parent, started, served


def restart(library: str, n: int) -> list[float]:
    """us from a crash to serving again, median and 99th percentile, with n siblings."""
    parent, started, served = family(n)
    times = []
    for i in range(300):
        ref = child(parent, i % n)
        while ref is None:
            ref = child(parent, i % n)
        began = time.perf_counter()
        ref.tell(Crash())
        assert served.acquire(timeout=30)
        times.append((started[-1] - began) * 1e6)
    times.sort()
    return [statistics.median(times), times[int(len(times) * 0.99)]]


def storm(library: str, n: int) -> float:
    """Seconds from n crashes at once until all serve again."""
    parent, _, served = family(n)
    refs = [ref for i in range(n) if (ref := child(parent, i)) is not None]
    began = time.perf_counter()
    for ref in refs:
        ref.tell(Crash())
    for _ in range(n):
        assert served.acquire(timeout=60)
    return time.perf_counter() - began


def stopping(library: str, n: int) -> float:
    """Seconds to stop n: a supervisor's children in parallel, plain Pykka's one after the other."""
    if library == "allm":
        parent, _, _ = family(n)
        began = time.perf_counter()
        stop(parent, timeout=120)
        return time.perf_counter() - began
    refs = [Plain.start() for _ in range(n)]
    began = time.perf_counter()
    for future in [ref.stop(block=False) for ref in refs]:
        future.get(timeout=120)
    return time.perf_counter() - began


MEASURES: list[tuple[str, Callable[[str, int], Any], int, tuple[str, ...]]] = [
    ("start, actors a second", spawn, 2_000, ("pykka", "allm")),
    ("tell, messages a second", tell, 200_000, ("pykka", "allm")),
    ("ask, us", ask, 5_000, ("pykka", "allm")),
    ("KB per idle actor, 1,000", memory, 1_000, ("pykka", "allm")),
    ("KB per idle actor, 10,000", memory, 10_000, ("pykka", "allm")),
    ("KB per idle actor, 100,000", memory, 100_000, ("allm",)),
    ("restart with 1 child, us (median, p99)", restart, 1, ("allm",)),
    ("restart with 1,000, us (median, p99)", restart, 1_000, ("allm",)),
    ("restart with 10,000, us (median, p99)", restart, 10_000, ("allm",)),
    ("1,000 crash at once, s until all serve", storm, 1_000, ("allm",)),
    ("stop 10,000, s", stopping, 10_000, ("pykka", "allm")),
]


def measure(name: str, library: str) -> Any:
    """One figure from a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", name, library], capture_output=True, text=True, timeout=300, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def show(values: list[Any]) -> str:
    """The median of the rounds."""
    known = [value for value in values if value is not None]
    if not known:
        return "failed"
    if isinstance(known[0], list):
        return ", ".join(show(list(column)) for column in zip(*known, strict=True))
    middle = statistics.median(known)
    return f"{middle:,.0f}" if middle >= 100 else f"{middle:.2f}"


def main() -> None:
    """Prints the table."""
    ask_for = argparse.ArgumentParser(description=__doc__)
    ask_for.add_argument("--one", nargs=2)
    ask_for.add_argument("--rounds", type=int, default=3)
    args = ask_for.parse_args()
    if args.one:
        name, library = args.one
        function, n = next((function, n) for known, function, n, _ in MEASURES if known == name)
        print(json.dumps(function(library, n)), flush=True)
        os._exit(0)  # thousands of idle threads are not waited for
    print("| | plain Pykka | allm.supervisors |\n|---|---|---|")
    for name, _, _, libraries in MEASURES:
        rounds = [{library: measure(name, library) for library in libraries} for _ in range(args.rounds)]
        cells = [show([each[library] for each in rounds]) if library in libraries else "" for library in ("pykka", "allm")]
        print(f"| {name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
