"""Reports, timers and requests that come in an order in which they rarely do: none may be taken for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from pykka import ActorRef, ThreadingActor

from allm.supervisors import (
    ActorExited,
    Backoff,
    Bound,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Fenced,
    Flags,
    GiveUp,
    ManualTimers,
    PartitionSupervisor,
    PoolDispatcher,
    Registry,
    Restart,
    Shelf,
    Shelved,
    StartChild,
    StopChild,
    Supervisor,
    TaskSupervisor,
    ThreadDispatcher,
    ThreadTimers,
    async_,
    change_specs,
    count_children,
    events,
    kill,
    resize_partitions,
    start_child,
    stop,
    subscribe,
    terminate_child,
    which_child,
    which_children,
)
from allm.supervisors.actor import launch
from allm.supervisors.cell import Cell, alive
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.futures import Reply
from allm.supervisors.registry import Registered, Unregistered
from allm.supervisors.requests import RestartChild
from tests.supervisors.conftest import Start
from tests.supervisors.support import (
    WAIT,
    Hooked,
    Journal,
    Probe,
    Scripted,
    Watched,
    ask,
    hold,
    later,
    raised,
    running,
    spec,
    tell,
    wait_ended,
    wait_until,
)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


class ScriptedHooked(Scripted, Hooked):
    """A dynamic supervisor that does as told."""


class ScriptedWatched(Scripted, Watched):
    """A static one."""


class ScriptedTasks(Scripted, TaskSupervisor):
    """One of tasks."""


class Slow(Probe):
    """Starts and ends when released."""

    def __init__(self, journal: Journal, name: Any, start: threading.Event, end: threading.Event | None = None) -> None:
        super().__init__(journal, name)
        self._start, self._end = start, end

    def on_start(self) -> None:
        self.journal.add(("starting", self.name))
        self._start.wait(WAIT)
        super().on_start()

    def on_exit(self, reason: Exit) -> None:
        self.journal.add(("stopping", self.name))
        if self._end is not None:
            self._end.wait(WAIT)
        super().on_exit(reason)


# -- timers that are in the mailbox already


def test_a_restart_that_is_due_when_its_child_is_terminated_is_void(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    ref = begin(ScriptedHooked, journal, timers=timers, on=dispatch)
    raised(start_child(ref, spec(journal, "a", backoff=Backoff(1.0))), "crash")
    assert which_child(ref, "a").status == "restarting"
    stopped: list[Reply[Any]] = []

    def stop_then_due(supervisor: Any) -> None:
        stopped.append(later(supervisor.actor_ref, StopChild("a")))
        timers.advance(1.0)

    ask(ref, stop_then_due)
    stopped[0].get(timeout=WAIT)
    assert which_children(ref) == []
    assert journal.of("start") == ["a"]


def test_the_time_to_start_is_not_taken_for_the_time_to_stop(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    timers, start, end = ManualTimers(), threading.Event(), threading.Event()
    ref = begin(ScriptedHooked, journal, timers=timers, on=threads)
    later(ref, StartChild(ChildSpec("a", (Slow, (journal, "a", start, end)), start_timeout=1, shutdown="infinity")))
    journal.wait_for(("starting", "a"))

    def began_stop_deadline(supervisor: Any) -> None:
        start.set()
        wait_until(lambda: len(supervisor.actor_inbox.user) == 1)
        later(supervisor.actor_ref, StopChild("a"))
        timers.advance(1.0)

    ask(ref, began_stop_deadline)
    journal.wait_for(("stopping", "a"))
    assert which_child(ref, "a").status == "stopping"
    end.set()
    journal.wait_for(("gone", "a", "shutdown"))


def test_a_restart_of_an_older_generation_leaves_the_timers_of_the_next_alone(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    timers, start = ManualTimers(), threading.Event()
    child = ChildSpec("a", (Slow, (journal, "a", start)), backoff=Backoff(1.0), start_timeout=5)
    start.set()
    ref = begin(ScriptedWatched, journal, [child], timers=timers, on=threads)
    raised(running(ref, "a"), "crash")
    assert which_child(ref, "a").status == "restarting"
    start.clear()
    asked: list[Reply[Any]] = []

    def stop_start_due(supervisor: Any) -> None:
        asked.append(later(supervisor.actor_ref, StopChild("a")))
        asked.append(later(supervisor.actor_ref, RestartChild("a")))
        timers.advance(1.0)

    ask(ref, stop_start_due)
    journal.wait_for(("starting", "a"), times=2)
    which_children(ref)
    start.set()
    asked[1].get(timeout=WAIT)
    assert timers.pending() == []


def test_a_time_no_thread_can_wait_for_stops_no_other_timer(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ThreadTimers(linger=0.01)
    ref = begin(Probe, journal, "a", on=dispatch)
    never = timers.send_after(1e15, ref, "never")
    timers.send_after(0.01, ref, "soon")
    journal.wait_for(("message", "a", "soon"))
    never.cancel()


# -- requests in the middle of something


def test_siblings_of_a_delayed_group_restart_come_back_under_a_new_strategy(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    timers = ManualTimers()
    children = [spec(journal, "a", backoff=Backoff(1.0)), spec(journal, "b")]
    ref = begin(Supervisor, children, strategy="one_for_all", timers=timers, on=dispatch)
    raised(running(ref, "a"), "crash")
    journal.wait_for(("stop", "b", "shutdown"))
    change_specs(ref, children, Flags("one_for_one"))
    timers.advance(1.0)
    journal.wait_for(("start", "a"), ("start", "b"), times=2)


class Again:
    """A policy: in a thousand seconds."""

    def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
        return Restart(1000)


def test_a_temporary_child_that_is_terminated_while_it_waits_is_forgotten(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    child = spec(journal, "a", restart="temporary", policy=Again())
    ref = begin(Watched, journal, [child], timers=ManualTimers(), on=dispatch)
    raised(running(ref, "a"), "crash")
    assert which_child(ref, "a").status == "restarting"
    terminate_child(ref, "a")
    assert which_children(ref) == []
    assert ("gone", "a", "error") in journal.entries


def test_a_partition_that_fails_to_come_back_keeps_no_other_and_no_answer_from_it(
    begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    plan = ["ok"] * 3 + ["fail"]
    ref = begin(PartitionSupervisor, ChildSpec("p", (Probe, (journal, "p", plan))), partitions=3, on=dispatch)
    resize_partitions(ref, 0)
    assert resize_partitions(ref, 3, timeout=WAIT) == 0
    journal.wait_for(("start", "p"), times=6)
    assert count_children(ref).active == 3


class Buggy(Watched):
    """Its hook fails."""

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        raise RuntimeError("a bug in a hook")


def test_a_hook_that_fails_while_a_stop_goes_on_disturbs_nobody(supervise: Start, journal: Journal) -> None:
    children = [spec(journal, "a"), spec(journal, "bug", restart="temporary")]
    parent = supervise([ChildSpec("inner", (Buggy, (journal, children)))])
    inner = running(parent, "inner")
    terminate_child(inner, "bug")
    assert [info.id for info in which_children(inner)] == ["a"]
    assert running(parent, "inner") is inner


# -- ends before something was complete


def test_an_end_that_is_told_before_the_start_is_no_failed_start(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    ref = begin(ScriptedHooked, journal, on=threads)
    start = threading.Event()
    started = later(ref, StartChild(ChildSpec("a", (Slow, (journal, "a", start)), restart="temporary")))
    journal.wait_for(("starting", "a"))
    cell = next(cell for name, cell in alive.items() if name.startswith("Slow#"))
    cell.started = True  # it was about to say so
    cell.cancel(Exit("late"))
    start.set()
    assert started.get(timeout=WAIT).actor_inbox is cell
    journal.wait_for(("gone", "a", "late"))


def test_a_task_whose_caller_ended_before_it_began_does_not_run(
    begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event
) -> None:
    tasks = begin(ScriptedTasks, on=threads)
    caller = begin(Probe, journal, "caller", on=threads)
    entered, ran = threading.Event(), threading.Event()
    tell(tasks, partial(hold, entered, release))
    assert entered.wait(WAIT)
    tell(caller, lambda _: async_(tasks, ran.set))
    cell: Any = tasks.actor_inbox
    wait_until(lambda: len(cell.user) == 1)
    kill(caller)
    release.set()
    wait_until(lambda: not which_children(tasks))
    assert not ran.is_set()


def test_a_child_is_gone_once_also_when_a_killer_and_the_supervisor_meet(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    told: list[Any] = []

    class Meeting(ScriptedHooked):
        def on_child_gone(self, child: Any, exit: Exit) -> None:
            told.append(child.id)
            if len(told) == 1:
                kill(self.actor_ref)

    ref = begin(Meeting, journal, on=threads)
    start_child(ref, spec(journal, "a"))
    terminate_child(ref, "a")
    wait_ended(ref)
    assert told == ["a"]


def test_children_of_a_killed_supervisor_are_reported_too(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ended = Journal()
    take_back = subscribe(lambda event: ended.add((event.child, event.exit.kind)) if isinstance(event, events.ChildEnded) else None)
    ref = begin(Hooked, journal, on=dispatch)
    start_child(ref, spec(journal, "a"))
    kill(ref)
    ended.wait_for(("a", "killed"))
    take_back()
    assert len(ended.entries) == 1


def test_an_actor_that_was_killed_before_it_was_launched_is_not_alive(dispatch: Dispatcher, journal: Journal) -> None:
    probe = Probe(journal)
    probe.actor_inbox.cancel()
    launch(probe, dispatch)
    assert probe.actor_inbox.name not in alive


def test_a_kill_that_comes_too_late_abandons_nobody(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=dispatch)
    stop(ref, timeout=WAIT)
    cell: Any = ref.actor_inbox
    cell.busy = "as it was seen a moment ago"
    assert not kill(ref)
    assert cell.abandoned == ()
    cell.busy = None


def test_a_thread_that_came_to_rest_while_its_actor_was_killed_ends(begin: Start, journal: Journal) -> None:
    ref = begin(Probe, journal, on=ThreadDispatcher())
    thread = ask(ref, lambda _: threading.current_thread())
    cell: Any = ref.actor_inbox
    wait_until(lambda: not cell.flag.locked())
    cell.busy = cell.body  # as the killer saw it a moment ago
    kill(ref)
    cell.busy = None
    thread.join(WAIT)
    assert not thread.is_alive()


def test_a_worker_that_left_its_handler_while_it_was_killed_is_not_counted_as_lost(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(1, idle=1000)
    ref = begin(Probe, journal, on=pool)
    cell: Any = ref.actor_inbox
    wait_until(lambda: not cell.flag.locked())
    pool.retire(cell, True)  # as the killer saw it a moment ago
    second = begin(Probe, journal, on=pool)
    entered, release = threading.Event(), threading.Event()
    tell(ref, partial(hold, entered, release))
    assert entered.wait(WAIT)
    waiting = later(second, "who")
    assert pool.workers == 1
    release.set()
    assert waiting.get(timeout=WAIT) == "probe"
    pool.close()


class Frail(Probe):
    """Its constructor fails as planned, late."""

    def __init__(self, journal: Journal, name: Any, plan: list[bool]) -> None:
        super().__init__(journal, name)
        if plan.pop(0):
            raise RuntimeError("half made")


def test_a_kept_mailbox_survives_a_constructor_that_fails(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    child = ChildSpec("a", (Frail, (journal, "a", [False, True, False])), mailbox="keep")
    ref = begin(Supervisor, [child], on=threads)
    first, gate = running(ref, "a"), threading.Event()
    tell(first, lambda _: gate.wait(WAIT))
    tell(first, "crash")
    tell(first, "kept")
    answer = later(first, "who")
    gate.set()
    assert answer.get(timeout=WAIT) == "a"
    assert journal.of("message") == [("a", "kept")]


class Nothing:
    """Keeps no state."""

    def load(self, key: Any) -> Any:
        return None

    def save(self, key: Any, state: Any) -> None:
        pass


class Reluctant(Shelved):
    """Its first start fails."""

    fails: list[bool]

    def on_start(self) -> None:
        if self.fails.pop(0):
            raise RuntimeError("not now")

    def on_receive(self, message: Any) -> Any:
        return message


def test_a_shelf_has_one_actor_for_a_key_whose_first_start_failed(begin: Start, dispatch: Dispatcher) -> None:
    Reluctant.fails = [True, False, False]
    home = begin(DynamicSupervisor, on=dispatch)
    shelf = Shelf(home, Reluctant, Nothing())
    with pytest.raises(ActorExited):
        shelf.ask("a", 1).get(timeout=WAIT)
    assert shelf.ask("a", 2).get(timeout=WAIT) == 2
    assert count_children(home).specs == 1


class Idle(ThreadingActor):
    """A plain Pykka actor that waits for messages."""

    threads: list[threading.Thread] = []

    def on_start(self) -> None:
        self.threads.append(threading.current_thread())


def test_a_plain_pykka_actor_that_is_killed_while_idle_keeps_no_thread(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Hooked, journal, on=dispatch)
    terminate_child(ref, start_child(ref, ChildSpec("p", (Idle, ()), shutdown="brutal_kill")))
    assert ("gone", "p", "killed") in journal.entries
    thread = Idle.threads.pop()
    thread.join(WAIT)
    assert not thread.is_alive()


class Full(Probe):
    """Makes room by dropping what is oldest."""

    bound = Bound(1, "drop_oldest")


def test_the_dead_make_no_room_in_a_full_mailbox(begin: Start, threads: Dispatcher, journal: Journal, release: threading.Event) -> None:
    full, sender = begin(Full, journal, "full", on=threads), begin(Probe, journal, "sender", on=threads)
    entered, held, fenced = threading.Event(), threading.Event(), threading.Event()
    tell(full, partial(hold, entered, release))
    assert entered.wait(WAIT)
    tell(full, "first")

    def send_late(_: Probe) -> None:
        held.set()
        dead.wait(WAIT)
        try:
            full.tell("late")
        except Fenced:
            fenced.set()

    dead = threading.Event()
    tell(sender, send_late)
    assert held.wait(WAIT)
    kill(sender)
    dead.set()
    assert fenced.wait(WAIT)
    release.set()
    journal.wait_for(("message", "full", "first"))


def test_an_answer_that_comes_with_the_end_of_the_wait_is_the_answer() -> None:
    class Racing(list[Any]):
        """The answer comes in the moment before a callback is taken back."""

        def remove(self, callback: Any) -> None:
            reply.set(1)
            super().remove(callback)

    reply: Reply[int] = Reply()
    reply._callbacks = Racing()  # pyright: ignore[reportPrivateUsage]
    assert reply.get(timeout=0.01) == 1


# -- the registry


def test_listeners_hear_of_a_registration_before_its_end(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    heard: list[Any] = []
    registry = Registry(listeners=[heard.append])
    ref: ActorRef[Any] = begin(Probe, journal, on=dispatch)
    stop(ref, timeout=WAIT)
    registry.register("late", 1, ref)  # by one that has just ended
    assert heard == [Registered("registry", "late", ref, 1), Unregistered("registry", "late", ref)]


def test_listeners_are_told_in_order_also_of_what_they_do_themselves(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    heard: list[Any] = []
    ref: ActorRef[Any] = begin(Probe, journal, on=dispatch)

    def undo(event: Any) -> None:
        if isinstance(event, Registered):
            registry.unregister(event.key, ref)
        heard.append(type(event))

    registry = Registry(listeners=[undo])
    registry.register("a", ref=ref)
    assert heard == [Registered, Unregistered]


def test_a_key_that_is_taken_while_the_last_one_is_given_back_is_still_freed(
    begin: Start, dispatch: Dispatcher, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    ref: ActorRef[Any] = begin(Probe, journal, on=dispatch)
    registry.register("a", ref=ref)
    unwatch, others = Cell.unwatch, [lambda: registry.register("b", ref=ref)]

    def another_thread_first(cell: Cell, key: object) -> bool:
        if others:
            others.pop()()
        return unwatch(cell, key)

    monkeypatch.setattr(Cell, "unwatch", another_thread_first)
    registry.unregister("a", ref)
    stop(ref, timeout=WAIT)
    assert len(registry) == 0
