"""What the tests of the supervisors share: an actor that writes a journal and does as told, and ways to wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from pykka import ActorRef

from allm.supervisors import Actor, ChildSpec, DynamicSupervisor, Exit, Supervisor, monitor
from allm.supervisors.admin import which_children
from allm.supervisors.dispatch import Dispatcher, LoopDispatcher, PoolDispatcher, ThreadDispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.spec import is_tuple

WAIT = 10.0
"""Seconds a test waits for what must happen; reached only when it does not."""


class Journal:
    """What happened, in order; tests wait on it."""

    def __init__(self) -> None:
        self._entries: list[Any] = []
        self._changed = threading.Condition()

    def add(self, entry: Any) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    @property
    def entries(self) -> list[Any]:
        with self._changed:
            return list(self._entries)

    def of(self, kind: str) -> list[Any]:
        """The names of the entries ``(kind, name)``, or ``(name, detail)`` of longer ones."""
        found = [entry for entry in self.entries if is_tuple(entry) and entry[0] == kind]
        return [entry[1] if len(entry) == 2 else entry[1:] for entry in found]

    def wait(self, test: Callable[[list[Any]], bool], timeout: float = WAIT) -> list[Any]:
        """Until the entries pass the test."""
        with self._changed:
            if not self._changed.wait_for(lambda: test(self._entries), timeout):
                raise AssertionError(f"waited {timeout} s in vain; the journal is {self._entries}")
            return list(self._entries)

    def wait_for(self, *entries: Any, times: int = 1, timeout: float = WAIT) -> list[Any]:
        """Until each of these entries is there, so many times."""
        return self.wait(lambda seen: all(seen.count(entry) >= times for entry in entries), timeout)


class Probe(Actor):
    """Writes ("start", name) and ("stop", name, kind). `plan` says what each start does: ok, fail, ignore, exit."""

    def __init__(self, journal: Journal, name: Any = "probe", plan: list[str] | None = None) -> None:
        super().__init__()
        self.journal, self.name, self.plan = journal, name, plan

    def on_start(self) -> None:
        step = self.plan.pop(0) if self.plan else "ok"
        if step == "fail":
            self.journal.add(("failed", self.name))
            raise RuntimeError("this start fails")
        if step == "ignore":
            self.ignore()
        if step == "exit":
            raise SystemExit(1)
        self.journal.add(("start", self.name))

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise RuntimeError("crash")
        if message == "who":
            return self.name
        if isinstance(message, Exit):
            self.exit(message)
        if callable(message):
            return message(self)
        self.journal.add(("message", self.name, message))
        return message

    def on_exit(self, reason: Exit) -> None:
        self.journal.add(("stop", self.name, reason.kind))


class Deaf(Probe):
    """Does not stop when told: its last words wait until `release` is set."""

    def __init__(self, journal: Journal, name: Any, release: threading.Event) -> None:
        super().__init__(journal, name)
        self.release = release

    def on_exit(self, reason: Exit) -> None:
        self.journal.add(("deaf", self.name))
        self.release.wait(WAIT)
        super().on_exit(reason)


class Hooked(DynamicSupervisor):
    """Writes its hooks to a journal."""

    def __init__(self, journal: Journal, **options: Any) -> None:
        super().__init__(**options)
        self.journal = journal

    def on_child_restarting(self, child: Any, exit: Exit, delay: float) -> None:
        self.journal.add(("again", child.id, exit.kind, delay))

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        self.journal.add(("gone", child.id, exit.kind))


class Scripted(Actor):
    """Mixed into a supervisor: runs a function it is told in its own handler, to put what follows in order."""

    def on_receive(self, message: Any) -> Any:
        return message(self) if callable(message) else super().on_receive(message)


class Watched(Supervisor):
    """A static supervisor that does the same."""

    def __init__(self, journal: Journal, children: Any = (), **options: Any) -> None:
        super().__init__(children, **options)
        self.journal = journal

    def on_child_restarting(self, child: Any, exit: Exit, delay: float) -> None:
        self.journal.add(("again", child.id, exit.kind, delay))

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        self.journal.add(("gone", child.id, exit.kind))


def spec(journal: Journal, name: Any, plan: list[str] | None = None, **options: Any) -> ChildSpec:
    """A child spec of a `Probe`."""
    return ChildSpec(name, (Probe, (journal, name, plan)), **options)


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="test loop", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT)
        self.loop.close()

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function on the loop's thread, outside all handlers."""

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(WAIT)


def make_dispatcher(kind: str, loop: Loop) -> Dispatcher:
    if kind == "loop":
        return LoopDispatcher(loop.loop)
    return PoolDispatcher(8, idle=0.05) if kind == "pool" else ThreadDispatcher()


Message: TypeAlias = "Callable[[Any], Any] | object"
"""What a `Probe` takes: a function is called with it."""


def ask(ref: ActorRef[Any], message: Message) -> Any:
    """`ref.ask` that does not wait for ever."""
    return ref.ask(message, timeout=WAIT)


def later(ref: ActorRef[Any], message: Message) -> Reply[Any]:
    """The future of an ask."""
    reply: Any = ref.ask(message, block=False)
    return cast("Reply[Any]", reply)


def tell(ref: ActorRef[Any], message: Message) -> None:
    """`ref.tell`."""
    ref.tell(message)


def wait_until(test: Callable[[], bool]) -> None:
    """For what nobody announces: look until it is so."""
    deadline = time.monotonic() + WAIT
    while not test():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def running(supervisor: ActorRef[Any], id: Any) -> ActorRef[Any]:
    """The child with this id, once it runs."""
    found: list[ActorRef[Any] | None] = []

    def look() -> bool:
        found[:] = [info.ref for info in which_children(supervisor) if info.id == id]
        return bool(found) and found[0] is not None

    wait_until(look)
    assert found[0] is not None
    return found[0]


def wait_ended(ref: ActorRef[Any]) -> Exit:
    """Wait until an actor has ended; ``noproc`` if it had."""
    seen: list[Exit] = []
    ended = threading.Event()

    def down(message: Any) -> None:
        seen.append(message.exit)
        ended.set()

    monitor(ref, down)
    assert ended.wait(WAIT)
    return seen[0]


def hold(entered: threading.Event, release: threading.Event, _: Probe) -> None:
    """A message, once bound, that keeps an actor in its handler."""
    entered.set()
    release.wait(WAIT)


def raised(ref: ActorRef[Any], message: Message) -> BaseException:
    """The error an ask fails with."""
    try:
        answer = ask(ref, message)
    except Exception as error:
        return error
    raise AssertionError(f"answered {answer!r}")
