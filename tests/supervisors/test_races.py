"""Crashes, kills and administration from several threads at once, with a thread switch every microsecond: nothing hangs afterwards."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pykka import ActorDeadError, ActorRef

from allm.supervisors import (
    CallTimeout,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Supervisor,
    SupervisorError,
    child,
    count_children,
    delete_child,
    kill,
    restart_child,
    start_child,
    stop,
    terminate_child,
)
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.lifetime import start_and_wait
from tests.conftest import Say
from tests.supervisors.support import WAIT, Journal, later, spec, wait_until

MANY: dict[str, Any] = {"max_restarts": 1_000_000, "max_seconds": 1.0}
IDS = "abc"
SUPERVISORS = ("one", "all", "rest", "dynamic")


@pytest.fixture(autouse=True)
def a_switch_every_microsecond() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Storm:
    """A tree of four supervisors, and what threads do to it."""

    def __init__(self, dispatcher: Dispatcher, mailbox: str, seed: int) -> None:
        self.journal, self.mailbox, self.seed = Journal(), mailbox, seed
        self.asked: list[Reply[Any]] = []
        self.done: Counter[str] = Counter()
        children = [self.static("one", "one_for_one"), self.static("all", "one_for_all"), self.static("rest", "rest_for_one")]
        children.append(ChildSpec("dynamic", (DynamicSupervisor, (), MANY)))
        self.root = start_and_wait(Supervisor, children, on=dispatcher, timeout=WAIT, **MANY)

    def static(self, name: str, strategy: str) -> ChildSpec:
        kids = [self.worker(id) for id in IDS]
        return ChildSpec(name, (Supervisor, (kids,), {"strategy": strategy, **MANY}))

    def worker(self, id: str) -> ChildSpec:
        return spec(self.journal, id, mailbox=self.mailbox, shutdown=1.0)

    def rage(self, number: int, count: int) -> None:
        """One thread's share."""
        chance = random.Random(f"{self.seed} {number}")
        for _ in range(count):
            step = chance.choice(["crash", "crash", "kill", "kill", "ask", "terminate", "restart", "delete", "start", "supervisor"])
            with suppress(SupervisorError, ActorDeadError):
                self.do(step, chance.choice(SUPERVISORS), chance.choice(IDS), chance)
                self.done[step] += 1

    def do(self, step: str, where: str, id: str, chance: random.Random) -> None:
        boss = child(self.root, where)
        worker = child(self.root, where, id)
        if boss is None:
            return
        if step == "supervisor":
            kill(boss) if chance.random() < 0.5 else self.ask(boss, Crash())
        elif step == "start":
            start_child(boss, self.worker(id), timeout=WAIT)
        elif step in ("terminate", "restart", "delete"):
            {"terminate": terminate_child, "restart": restart_child, "delete": delete_child}[step](boss, id, timeout=WAIT)
        elif worker is not None and step == "kill":
            kill(worker)
        elif worker is not None:
            self.ask(worker, "crash" if step == "crash" else (id, step))

    def ask(self, ref: ActorRef[Any], message: Any) -> None:
        self.asked.append(later(ref, message))

    def calm(self) -> None:
        """Every supervisor answers, the tree stops, and no ask is open."""
        count_children(self.root, timeout=WAIT)
        for name in SUPERVISORS:
            wait_until(partial(self.answers, name))
        stop(self.root, timeout=WAIT)
        wait_until(lambda: all(reply.done for reply in self.asked))

    def answers(self, name: str) -> bool:
        boss = child(self.root, name)
        with suppress(ActorDeadError):
            return boss is not None and count_children(boss, timeout=WAIT) is not None
        return False


@pytest.mark.slow
@pytest.mark.parametrize("mailbox", ["drop", "keep"])
def test_after_a_storm_every_ask_is_answered_and_no_supervisor_waits_for_ever(dispatch: Dispatcher, mailbox: str, say: Say) -> None:
    done: Counter[str] = Counter()
    for seed in range(5):
        storm = Storm(dispatch, mailbox, seed)
        try:
            threads = [threading.Thread(target=storm.rage, args=(number, 60), daemon=True) for number in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT * 2)
                assert not thread.is_alive(), "a request was never answered"
            storm.calm()
        except CallTimeout as error:
            kill(storm.root)
            raise AssertionError(f"seed {seed}: a supervisor waits for ever: {error}") from None
        done.update(storm.done)
        done["asks"] += len(storm.asked)
    say(f"storm, {mailbox}: " + ", ".join(f"{count} {step}" for step, count in sorted(done.items())))


@pytest.mark.slow
@pytest.mark.parametrize("mailbox", ["drop", "keep"])
def test_kills_while_children_are_being_made_leave_no_supervisor_waiting(dispatch: Dispatcher, mailbox: str) -> None:
    """One thread crashes a child over and over, another kills whatever is in its place."""
    journal = Journal()
    root = start_and_wait(Supervisor, [spec(journal, "a", mailbox=mailbox)], on=dispatch, timeout=WAIT, **MANY)
    over = threading.Event()

    def kill_all() -> None:
        while not over.is_set():
            if (ref := child(root, "a")) is not None:
                kill(ref)

    killer = threading.Thread(target=kill_all, daemon=True)
    killer.start()
    try:
        for _ in range(200):
            if (ref := child(root, "a")) is not None:
                with suppress(ActorDeadError):
                    ref.tell("crash")
            count_children(root, timeout=WAIT)
    finally:
        over.set()
        killer.join(WAIT)
    assert stop(root, timeout=WAIT).kind == "shutdown"
