"""A test leaves nothing behind: no actor, no thread, no socket, no process. One that does fails, with the names of what it left.

The process-wide default runtime is the only exception, since it is meant to live until the process ends: what belongs
to it is excused while it is alive, and it is stopped when the session finishes. A test with a `Runtime` of its own
stops it. Threads of pools and timers that have nothing to do are no leak either: they end by themselves, soon after.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage
from hypothesis import settings

from tests import corpus
from tests.partners import servers

GRACE = 3.0  # seconds in which a thread may still end and a socket may still close after the test's last line
PATIENCE = 0.1  # seconds after which garbage is collected, which takes long where the recordings are in memory
POLL = 0.01  # seconds; nothing tells when a socket has closed
POOLS = ("allm-pool", "allm-keys", "allm-handlers", "allm-names")  # the names of the workers of runtimes' pools start so
WRITER = "allm-log"  # one for the process, which ends by itself a while after the last line
NURSERY = b"allm.actors.nursery"  # in the command of the process that runs tools
LISTENING = "0A"  # a state in /proc/net/tcp

settings.register_profile("allm", settings(), deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("allm")


def default_runtime_now() -> Any:
    """The default runtime, None if none runs in this process. It asks in a way that starts none."""
    home = sys.modules.get("allm.actors.runtime")
    found = getattr(home, "_default", None)
    return None if found is None or found.stopped else found


def stop_default_runtime() -> None:
    import allm

    allm.default_runtime().stop()


@dataclass(frozen=True)
class Living:
    """What lives in this process: name for people by identity."""

    threads: dict[threading.Thread, str]
    actors: dict[Any, str]
    sockets: dict[str, str]
    processes: dict[int, str]

    @classmethod
    def now(cls) -> "Living":
        return cls(_threads(), _actors(), _sockets(), _processes())

    def left_since(self, before: "Living") -> list[str]:
        """Names of what lives now, lived not before, and is not the default runtime's."""
        default = default_runtime_now()
        its_own: tuple[Any, ...] = ()
        its_threads: tuple[threading.Thread, ...] = ()
        its_processes: list[int] = []
        if default is not None:
            workshop = default.workshop
            pools = [crew.pool for crew in default.crews.all()]
            its_own = (default._dispatcher, *pools, workshop.pool, workshop.own_thread)
            nursery_threads = [thread for thread in self.threads if thread.name.startswith("Nursery#")]
            its_threads = (default._thread, *workshop.threads(), *nursery_threads)
            its_processes = [nursery.process.pid for nursery in workshop.processes]
        return [
            *(f"thread {name}" for thread, name in self.threads.items() if thread not in before.threads and thread not in its_threads),
            *(f"actor {name}" for actor, name in self.actors.items() if actor not in before.actors and _dispatcher(actor) not in its_own),
            *_left_sockets({inode: name for inode, name in self.sockets.items() if inode not in before.sockets}, default is not None),
            *(f"process {name}" for pid, name in self.processes.items() if pid not in before.processes and pid not in its_processes),
        ]


def _threads() -> dict[threading.Thread, str]:
    """Threads that somebody has to end; those that Python did not start are nobody's here, idle ones end by themselves."""
    idle: tuple[str, ...] = (WRITER, *POOLS) if _idle_workers() else (WRITER,)
    idle += ("timers",) if _idle_timers() else ()
    return {
        thread: thread.name
        for thread in threading.enumerate()
        if type(thread).__name__ != "_DummyThread" and not thread.name.startswith(idle)
    }


def _idle_workers() -> bool:
    """Whether no worker of any pool has anything to do."""
    home = sys.modules.get("allm.supervisors.here")
    pools = [pool for pool in getattr(home, "threaded", ()) if hasattr(pool, "_parked")]
    return all(pool.workers == len(pool._parked) and not pool._ready and not pool._urgent for pool in pools)


def _idle_timers() -> bool:
    """Whether no timer runs."""
    home = sys.modules.get("allm.supervisors.here")
    return not any(getattr(timers, "_heap", ()) for timers in getattr(home, "threaded", ()))


def _actors() -> dict[Any, str]:
    """Actors by their ref (those of Pykka) or their cell (ours, which Pykka's registry does not list)."""
    pykka, home = sys.modules.get("pykka"), sys.modules.get("allm.supervisors.cell")
    found: dict[Any, str] = {ref: str(ref) for ref in pykka.ActorRegistry.get_all()} if pykka else {}
    ours: dict[str, Any] = dict(getattr(home, "alive", {}))
    return {**found, **{cell: name for name, cell in ours.items()}}


def _dispatcher(actor: Any) -> Any:
    return getattr(actor, "dispatcher", None)


def _end(actor: Any) -> None:
    """Whatever it is, its thread would keep the interpreter from ending."""
    if hasattr(actor, "cancel"):
        actor.cancel()
    else:
        actor.stop(block=False)


def _sockets() -> dict[str, str]:
    """Open sockets, where the system tells (Linux)."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # closed since it was listed
                target = os.readlink(f"/proc/self/fd/{name}")
                if target.startswith("socket:"):
                    found[target] = f"fd {name}"
    return found


def _left_sockets(new: dict[str, str], beside_default: bool) -> list[str]:
    """Beside the default runtime only those that listen: its wake-up pair and kept-alive connections look like anybody's."""
    listening: set[str] = _listening() if new else set()  # costly where many connections have lately been closed
    return [
        f"socket {name}{', listening' if inode in listening else ''}"
        for inode, name in new.items()
        if inode in listening or not beside_default
    ]


def _listening() -> set[str]:
    found: set[str] = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _processes() -> dict[int, str]:
    """Children that the library started, where the system tells (Linux); what a test starts for itself is its own affair."""
    found: dict[int, str] = {}
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread, or the process, has ended since
            for pid in children.read_text().split():
                if NURSERY in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found[int(pid)] = f"{pid}, that runs tools"
    return found


def _still_left(before: Living) -> list[str]:
    """What is left when all that was ending has ended, or the grace is over."""
    started = time.monotonic()
    collected = False
    while left := (now := Living.now()).left_since(before):
        waited = time.monotonic() - started
        if waited >= GRACE:
            return left
        if waited >= PATIENCE and not collected:
            gc.collect()  # a socket in a reference cycle closes with it
            collected = True
        for thread in now.threads.keys() - before.threads.keys() - {threading.current_thread()}:
            with suppress(RuntimeError):  # it has not quite started
                thread.join(POLL)
        time.sleep(POLL)
    return []


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = Living.now()
    yield
    left = _still_left(before)
    if not left:
        return
    for actor, name in Living.now().actors.items():
        if actor not in before.actors and f"actor {name}" in left:
            _end(actor)
    pytest.fail("left behind: " + "; ".join(left), pytrace=False)


Say = Callable[[str], None]


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """Has a line printed in the summary: what a test counted or measured, whichever process it ran in."""
    return lambda line: request.node.user_properties.append(("said", line))


def _said(terminalreporter: pytest.TerminalReporter) -> list[str]:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    return [str(line) for report in reports if report.when == "call" for name, line in report.user_properties if name == "said"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that in the end no process waits for the other."""
    files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in files)


def pytest_collection_finish() -> None:
    """No collection of garbage has to look again at what lives as long as the tests do."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage is measured without the slow tests: traced they take three times as long, and run no line that the others do not."""
    stopped: list[Coverage] = []
    if item.get_closest_marker("slow"):
        while (running := Coverage.current()) is not None:  # a process of xdist has one within another
            running.stop()
            stopped.append(running)
    try:
        return (yield)
    finally:
        for each in reversed(stopped):
            each.start()


def pytest_sessionfinish() -> None:
    if default_runtime_now() is not None:
        stop_default_runtime()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests had no recordings to run on: a green run without them is not a full one."""
    if said := _said(terminalreporter):
        terminalreporter.write_sep("=", "what the tests counted")
        for line in said:
            terminalreporter.write_line(line)
    skipped = terminalreporter.getreports("skipped")
    without = sum(servers.ABSENT in str(report.longrepr) for report in skipped)
    if without:
        terminalreporter.write_sep("=", f"{without} skipped because {servers.ABSENT}", yellow=True)
        terminalreporter.write_line("bash .ci/run installs them, and names them in ALLM_PARTNERS_PYTHON and ALLM_PARTNERS_MODEL.")
    npm = sum("the reference servers of MCP are not installed" in str(report.longrepr) for report in skipped)
    if npm:
        terminalreporter.write_sep("=", f"{npm} skipped because the reference servers of MCP are not installed", yellow=True)
        terminalreporter.write_line("bash .ci/run installs them from npm, and names their folder in ALLM_MCP_SERVERS.")
    absent = sum(corpus.ABSENT in str(report.longrepr) for report in skipped)
    if absent:
        terminalreporter.write_sep("=", f"{absent} skipped because {corpus.ABSENT}", yellow=True)
        terminalreporter.write_line("They are read from ../shared/corpus, or from the folder that ALLM_RECORDINGS names.")
