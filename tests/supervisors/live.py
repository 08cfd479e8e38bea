"""The trees that the reference model is held against: supervisors of ours, with workers that do as the model says."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, defaultdict, deque
from typing import Any

from pykka import ActorDeadError, ActorRef

from allm.supervisors import (
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    ManualTimers,
    Refused,
    StartError,
    Supervisor,
    ThreadDispatcher,
    child,
    count_children,
    monitor,
    stop,
    subscribe,
    tree,
)
from allm.supervisors import events as told
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.lifetime import start_and_wait
from tests.supervisors.model import Kid, Path, Tree, personal
from tests.supervisors.support import WAIT, later

__all__ = ["Clock", "Scene", "word"]


class Clock(ManualTimers):
    """A clock that sends one message at a time, so that what follows from it is over before the next."""

    def fire(self, until: float) -> bool:
        """Move to the next timer that is due by then, and send it; False when there is none."""
        while self._heap and self._heap[0][2].remaining() is None:
            heapq.heappop(self._heap)
        if not self._heap or self._heap[0][0] > until:
            self._now = until
            return False
        when, _, timer = heapq.heappop(self._heap)
        self._now = when
        timer.fire()
        return True


class Worker(Actor):
    """Starts as planned, hangs when told, and says where it hangs."""

    def __init__(self, scene: Scene, path: Path) -> None:
        super().__init__()
        self.scene, self.path = scene, path
        self.gate: threading.Event | None = None  # what its last words wait for
        scene.named(self.actor_inbox.name, path)

    def on_start(self) -> None:
        outcome = self.scene.outcome(self.path)
        if outcome == "hang":
            self.hang(threading.Event())
        elif outcome == "ignore":
            self.ignore()
        elif outcome == "fail":
            raise RuntimeError("this start fails")
        elif outcome != "ok":
            self.exit(Exit(outcome))

    def on_receive(self, message: Any) -> Any:
        if message == "hold":
            self.hang(threading.Event())
        elif message == "deafen":
            self.gate = threading.Event()
        elif message == "crash":
            raise RuntimeError("crash")
        elif message != "echo":
            self.exit(Exit(message))

    def on_exit(self, reason: Exit) -> None:
        if self.gate is not None:
            self.hang(self.gate)

    def hang(self, gate: threading.Event) -> None:
        self.scene.hanging(self.actor_inbox.name, gate)
        assert gate.wait(WAIT * 6)


class Static(Supervisor):
    """A static supervisor that tells its name; killed children of an earlier one of the same place are not mistaken for its own."""

    def __init__(self, scene: Scene, path: Path, what: Tree) -> None:
        kids = [scene.spec(path, kid) for kid in what.kids]
        flags: dict[str, Any] = {"max_restarts": what.max_restarts, "max_seconds": what.max_seconds, "timers": scene.clock}
        super().__init__(kids, strategy=what.strategy, auto_shutdown=what.auto_shutdown, **flags)
        scene.made(self.actor_inbox.name, path)


class Dynamic(DynamicSupervisor):
    """A dynamic one."""

    def __init__(self, scene: Scene, path: Path, what: Tree) -> None:
        super().__init__(max_restarts=what.max_restarts, max_seconds=what.max_seconds, timers=scene.clock)
        scene.made(self.actor_inbox.name, path)


class Scene:
    """One live tree, and all that can be seen of it from outside."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.clock = Clock(1000.0)
        self.plans: dict[Path, deque[str]] = defaultdict(deque)
        self.changed = threading.Condition()
        self.events: dict[tuple[Path, int], list[tuple[Any, ...]]] = defaultdict(list)
        self.exit: str | None = None
        self.closed = False  # from then on nobody hangs
        self._paths: dict[str, Path] = {}
        self._keys: dict[str, tuple[Path, int]] = {}
        self._counts: Counter[Path] = Counter()
        self._gates: dict[str, threading.Event] = {}
        self._up: set[tuple[Any, ...]] = set()
        self._unsubscribe = subscribe(self._hear)

    def plant(self, what: Tree) -> None:
        """Start the root."""
        self.root: ActorRef[Any] = self.start((), what)
        monitor(self.root, self._down)

    def start(self, path: Path, what: Tree) -> ActorRef[Any]:
        return start_and_wait(Dynamic if what.dynamic else Static, self, path, what, on=self.dispatcher, timeout=WAIT)

    def close(self) -> None:
        """End the tree, whatever hangs."""
        self.closed = True
        for gate in list(self._gates.values()):
            gate.set()
        try:
            if self.exit is None:
                stop(self.root, timeout=WAIT)
        finally:
            self._unsubscribe()

    def spec(self, path: Path, kid: Kid) -> ChildSpec:
        place = (*path, kid.id)
        kid = personal(kid, place)
        start: Any = (Worker, (self, place))
        if kid.below is not None:
            start = (Dynamic if kid.below.dynamic else Static, (self, place, kid.below))
        return ChildSpec(
            kid.id,
            start,
            restart=kid.restart,
            shutdown=kid.shutdown,
            significant=kid.significant,
            backoff=None if kid.backoff is None else Backoff(kid.backoff[0], max=kid.backoff[1]),
            start_timeout=kid.start_timeout,
            dispatcher=ThreadDispatcher() if kid.apart else None,
        )

    # -- told by those in the tree, on any thread

    def named(self, name: str, path: Path) -> None:
        self._paths[name] = path

    def made(self, name: str, path: Path) -> None:
        self.named(name, path)
        self._counts[path] += 1
        self._keys[name] = path, self._counts[path]

    def outcome(self, path: Path) -> str:
        plan = self.plans[path]
        return plan.popleft() if plan else "ok"

    def hanging(self, name: str, gate: threading.Event) -> None:
        with self.changed:
            self._gates[name] = gate
            if self.closed:
                gate.set()
            self.changed.notify_all()

    def _down(self, down: Any) -> None:
        with self.changed:
            self.exit = down.exit.kind
            self.changed.notify_all()

    def _hear(self, event: Any) -> None:
        key = self._keys.get(getattr(event, "supervisor", ""))
        if key is None:
            return
        with self.changed:
            if isinstance(event, told.ChildStarted):
                self.events[key].append(("started", event.child, event.generation))
                self._up.add((key, event.child, event.generation))
            elif isinstance(event, told.ChildEnded):
                # A start that failed inline has no such event, elsewhere it has one: only ends of what was up are held against the model.
                if (up := (key, event.child, event.generation)) in self._up:
                    self._up.remove(up)
                    self.events[key].append(("ended", event.child, event.generation, event.exit.kind))
            elif isinstance(event, told.ChildRestarting):
                self.events[key].append(("restarting", event.child, event.exit.kind, event.restarts, event.delay))
            elif isinstance(event, told.Escalated):
                self.events[key].append(("escalated", event.child, event.exit.kind))
            self.changed.notify_all()

    def heard(self) -> dict[tuple[Path, int], list[tuple[Any, ...]]]:
        """The events since they were last forgotten, by supervisor."""
        with self.changed:
            return {key: list(events) for key, events in self.events.items() if events}

    def forget(self) -> None:
        """Begin a new list of events."""
        with self.changed:
            self.events.clear()

    # -- looked at and done by the test

    def find(self, path: Path) -> ActorRef[Any]:
        ref = child(self.root, *path)
        assert ref is not None, path
        return ref

    def ask(self, path: Path, message: Any) -> Reply[Any] | str:
        """The future of an ask; of one that is refused at once, how."""
        try:
            return later(self.find(path), message)
        except ActorDeadError:
            return "dead"

    def release(self, path: Path) -> None:
        """Let go of what hangs there."""
        self._gates.pop(self.find(path).actor_inbox.name).set()  # type: ignore[attr-defined]  # pyright: ignore

    def let_go(self) -> None:
        """Those that were killed in what they hang in may leave it."""
        for name, gate in list(self._gates.items()):
            if name not in alive:
                gate.set()
                del self._gates[name]

    def paths(self) -> list[Path]:
        """Where somebody lives."""
        return sorted(self._paths[name] for name in list(alive) if name in self._paths)

    def blocked(self) -> list[Path]:
        """Where somebody hangs."""
        return sorted(self._paths[name] for name, gate in list(self._gates.items()) if name in alive and not gate.is_set())

    def view(self) -> Any:
        """The tree: id, status and restarts of each child, and what is below it."""
        return None if self.exit is not None else [_seen(node) for node in tree(self.root)["children"]]

    def knock(self, bosses: list[Path]) -> None:
        """An ask to each supervisor: answered after all that it had to do before."""
        for path in bosses:
            ref = child(self.root, *path)
            if ref is not None:
                try:
                    count_children(ref, timeout=WAIT)
                except ActorDeadError:
                    continue

    def rest(self, seconds: float) -> None:
        """Until something happens."""
        with self.changed:
            self.changed.wait(seconds)


def _seen(node: dict[str, Any]) -> Any:
    below = node.get("children")
    return node["id"], node["status"], node["restarts"], None if below is None else [_seen(inner) for inner in below]


def word(reply: Reply[Any] | str) -> str | None:
    """What an answer comes to, in the model's words; None while there is none."""
    if isinstance(reply, str) or not reply.done:
        return reply if isinstance(reply, str) else None
    try:
        answer = reply.get(timeout=0)
    except ActorDeadError:
        return "dead"
    except (RuntimeError, StartError):
        return "error"
    return answer.reason if isinstance(answer, Refused) else "ok"
