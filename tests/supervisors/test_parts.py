"""The parts one by one: futures, flags, timers, mailboxes, the log, the edges, the names of the package."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import pykka
import pytest
import structlog
from pykka import ActorDeadError, ActorRef, ThreadingActor

import allm.supervisors as package
from allm.supervisors import (
    Actor,
    CallTimeout,
    ChildSpec,
    Exit,
    LoopDispatcher,
    ManualTimers,
    PoolDispatcher,
    Supervisor,
    ThreadTimers,
    cast,
    child,
    edges,
    events,
    exit_signal,
    kill,
    link,
    log,
    monitor,
    stop,
    subscribe,
    tree,
)
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher, ThreadDispatcher
from allm.supervisors.exits import stripped
from allm.supervisors.futures import Reply
from allm.supervisors.inbox import StopFlag
from allm.supervisors.lifetime import start_and_wait
from allm.supervisors.monitors import Down
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, ask, hold, later, raised, spec, tell, wait_until


def test_pykka_still_has_the_extension_points_this_stands_on() -> None:
    for name in ("_create_actor_inbox", "_create_future", "_start_actor_loop", "_handle_receive"):
        assert callable(getattr(pykka.Actor, name))
    ref = ThreadingActor.start()
    assert {"actor_inbox", "actor_stopped", "actor_urn", "actor_class", "_actor_weakref"} <= set(vars(ref))
    ref.stop(timeout=WAIT)
    assert set(Actor.__abstractmethods__) == set()
    with pytest.raises(NotImplementedError):
        Actor._create_actor_inbox()  # pyright: ignore[reportPrivateUsage]


def test_every_name_of_the_package_loads_and_nothing_else_does() -> None:
    assert sorted(dir(package)) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        package.Nonsense  # noqa: B018  # pyright: ignore


def test_importing_the_package_loads_neither_pykka_nor_structlog_nor_asyncio() -> None:
    text = "import sys, allm.supervisors; print(sorted({'pykka', 'structlog', 'asyncio'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


# -- futures


def test_a_reply_is_set_once_and_says_so_to_all() -> None:
    reply: Reply[int] = Reply()
    seen: list[Any] = []
    reply.add_done_callback(lambda done: seen.append(done.get()))
    reply.add_done_callback(lambda _: 1 / 0)
    assert repr(reply) == "<Reply open>"
    reply.set(1)
    with pytest.raises(queue.Full):
        reply.set(2)
    reply.answer(3)
    reply.fail(ValueError("late"))
    reply.add_done_callback(lambda done: seen.append(done.get()))
    assert seen == [1, 1]
    assert (reply.get(), reply.error, repr(reply)) == (1, None, "<Reply set>")


def test_a_reply_keeps_no_frames_of_its_error() -> None:
    reply: Reply[int] = Reply()
    try:
        raise ValueError("no") from KeyError("cause")
    except ValueError:
        reply.set_exception()
    for _ in range(2):
        with pytest.raises(ValueError, match="no") as error:
            reply.get()
        assert error.value.__cause__ is None
    empty: Reply[int] = Reply()
    empty.set_exception((KeyError, None, None))  # pyright: ignore[reportArgumentType]
    with pytest.raises(KeyError):
        empty.get()
    assert stripped(ValueError()).__traceback__ is None


def test_pykka_combinators_work_on_replies() -> None:
    one: Reply[int] = Reply()
    two: Reply[int] = Reply()
    joined = one.join(two).map(sum)
    one.set(1)
    two.set(2)
    assert joined.get(timeout=WAIT) == 3
    with pytest.raises(CallTimeout, match=r"0\.01 seconds"):
        Reply[int]().get(timeout=0.01)


async def awaiting(ref: ActorRef[Any]) -> list[Any]:
    return [await later(ref, "who"), await later(ref, "who")]


def test_a_reply_can_be_awaited_without_blocking_the_loop(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=dispatch)
    assert asyncio.run(awaiting(ref)) == ["probe", "probe"]

    async def give_up() -> None:
        waiting: Reply[int] = Reply()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(as_coroutine(waiting)), 0.01)
        waiting.set(1)
        await asyncio.sleep(0)

    asyncio.run(give_up())


async def as_coroutine(reply: Reply[int]) -> int:
    return await reply


def test_a_stop_flag_is_an_event() -> None:
    flag = StopFlag()
    assert not flag.wait(0.001)
    waiter = threading.Thread(target=flag.wait, args=(WAIT,))
    waiter.start()
    flag.set()
    waiter.join(WAIT)
    assert flag.is_set()
    assert flag.wait()
    flag.clear()
    assert not flag.is_set()


# -- exits


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def test_an_exit_from_an_exception_is_text() -> None:
    try:
        raise Mute
    except Mute as error:
        exit = Exit.from_exception(error)
    assert exit.detail["message"] == "(no message)"
    assert "test_parts.py" in exit.detail["trace"]
    assert Exit.from_data(exit.to_data() | {"new": 1}) == exit


# -- actors


def test_a_handler_can_answer_now_or_later(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=dispatch)
    kept: list[Reply[Any]] = []
    assert ask(ref, lambda probe: probe.reply("now")) == "now"
    answer = later(ref, lambda probe: kept.append(probe.later()))
    assert ask(ref, "who") == "probe"
    kept[0].set("later")
    assert answer.get(timeout=WAIT) == "later"
    tell(ref, lambda probe: probe.reply("to nobody"))
    failing = later(ref, lambda probe: kept.append(probe.later()))
    ask(ref, "who")
    stop(ref, timeout=WAIT)
    with pytest.raises(ActorDeadError):
        failing.get(timeout=WAIT)


def test_actors_start_where_their_class_says(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(2, idle=0.05)

    class Pooled(Probe):
        dispatcher = pool

    ref = Pooled.start(journal, "a")
    assert ask(ref, "who") == "a"
    stop(ref, timeout=WAIT)
    direct = Probe(journal, "b")
    direct._start_actor_loop()  # pyright: ignore[reportPrivateUsage]
    assert ask(direct.actor_ref, "who") == "b"
    stop(direct.actor_ref, timeout=WAIT)


def test_an_init_that_forgets_its_superclass_is_told_so(dispatch: Dispatcher) -> None:
    class Forgetful(Actor):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="does not call super"):
        Forgetful.start_on(dispatch)


def test_strangers_are_told_apart(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    class Stranger(ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message

    stranger, ours = Stranger.start(), begin(Probe, journal, on=threads)
    with pytest.raises(TypeError, match="plain Pykka"):
        monitor(stranger, ours)
    with pytest.raises(TypeError, match="plain Pykka"):
        link(stranger, ours)
    with pytest.raises(TypeError, match="plain Pykka"):
        exit_signal(stranger, Exit("x"))
    assert tree(stranger)["status"] == "running"
    assert package.call(stranger, 1) == 1
    stranger.stop(timeout=WAIT)
    cast(stranger, 1)
    seen: list[Down] = []
    monitor(stranger, seen.append)
    assert [down.exit for down in seen] == [Exit("noproc")]
    ManualTimers().send_after(0, stranger, 1)
    timers = ManualTimers()
    timers.send_after(0, stranger, "to the dead")
    timers.advance(1)


def test_a_killed_actor_says_nothing_more(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = start_and_wait(Probe, journal, "a", on=dispatch, timeout=WAIT)
    assert kill(ref)
    assert not kill(ref)
    assert journal.of("stop") == []
    unstarted = Probe(journal, "b")
    assert unstarted.actor_inbox.cancel()


def test_the_live_descendants_can_be_found(supervise: Start, journal: Journal) -> None:
    ref = supervise([ChildSpec("inner", (Supervisor, ([spec(journal, "leaf")],)))])
    leaf = child(ref, "inner", "leaf")
    assert leaf is not None
    assert ask(leaf, "who") == "leaf"
    assert child(ref, "nobody") is None
    assert child(ref, "inner", "leaf", "deeper") is None


def test_turns_that_hold_a_loop_are_reported(loop: Loop, journal: Journal) -> None:
    slow: list[Any] = []
    take_back = subscribe(lambda event: slow.append(event) if isinstance(event, events.SlowTurn) else None)
    ref = start_and_wait(Probe, journal, "a", on=LoopDispatcher(loop.loop, slow=0.02), timeout=WAIT)
    ask(ref, lambda _: None)
    ask(ref, lambda _: threading.Event().wait(0.05))
    stop(ref, timeout=WAIT)
    take_back()
    take_back()
    assert len(slow) >= 1
    assert slow[0].seconds >= 0.05


def test_a_busy_actor_leaves_its_loop_to_others(begin: Start, loop: Loop, journal: Journal) -> None:
    dispatch = LoopDispatcher(loop.loop)
    busy, other = begin(Probe, journal, "busy", on=dispatch), begin(Probe, journal, "other", on=dispatch)
    ticks: list[int] = []

    def again(probe: Probe) -> None:
        ticks.append(1)
        if len(ticks) < 100_000 and not journal.of("message"):
            tell(probe.actor_ref, again)

    tell(busy, again)
    tell(other, "heard")
    journal.wait_for(("message", "other", "heard"))
    ask(busy, "who")


# -- the log


def test_the_log_is_silent_until_the_program_configures_one() -> None:
    text = "import logging; from allm.supervisors import log; log.error('x', what=1); print(log.enabled(), log.flush(5))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=WAIT, check=True)
    assert (done.stdout, done.stderr) == ("False True\n", "")


def test_structlog_gets_the_lines_once_the_program_configured_it() -> None:
    seen: list[Any] = []

    def keep(_: Any, level: str, values: Any) -> Any:
        seen.append((level, values["event"]))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        log.error("a")
        log.warning("b")
        log.info("c")
    finally:
        log.flush(WAIT)
        structlog.reset_defaults()
    assert seen == [("error", "a"), ("warning", "b"), ("info", "c")]


def test_a_listener_that_fails_stops_no_other() -> None:
    seen: list[Any] = []

    def fail(_: Any) -> None:
        raise RuntimeError

    taken = [subscribe(fail), subscribe(seen.append)]
    event = events.SlowTurn("a", 1.0)
    events.emit(event)
    for take_back in taken:
        take_back()
    assert seen == [event]


def test_a_watcher_that_fails_stops_no_other(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Probe, journal, on=dispatch)
    seen: list[Any] = []

    def fail(_: Any) -> None:
        raise RuntimeError

    monitor(ref, fail)
    monitor(ref, seen.append)
    raised(ref, Exit("normal"))
    wait_until(lambda: bool(seen))


# -- the edges of the process, as far as they can be tried in this one


def test_drain_stops_all_roots_and_lets_go_of_what_hangs(threads: Dispatcher, journal: Journal) -> None:
    release = threading.Event()
    fine = start_and_wait(Supervisor, [spec(journal, "fine")], on=threads, timeout=WAIT)
    hung = start_and_wait(Probe, journal, "hung", on=threads, timeout=WAIT)
    entered = threading.Event()
    tell(hung, partial(hold, entered, release))
    assert entered.wait(WAIT)
    left = edges.drain(0.2)
    assert [name.split("#")[0] for name in left] == ["Probe"]
    assert not fine.is_alive()
    assert not hung.is_alive()
    assert ("stop", "fine", "shutdown") in journal.entries
    release.set()


def test_drain_ends_actors_of_a_loop_that_does_not_run(journal: Journal) -> None:
    loop = asyncio.new_event_loop()
    ref = Probe.start_on(LoopDispatcher(loop), journal, "never")
    assert edges.drain(WAIT) == []
    assert not ref.is_alive()
    loop.close()


def test_the_calling_thread_helps_a_pool_and_timers_without_threads(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, timers = PoolDispatcher(1, idle=0.01), ThreadTimers(linger=0.01)
    ref = start_and_wait(Supervisor, [spec(journal, "a", shutdown=5)], timers=timers, on=pool, timeout=WAIT)
    wait_until(lambda: pool.workers == 0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    timers.send_after(0, ref, "stray")
    assert edges.drain(WAIT) == []
    assert ("stop", "a", "shutdown") in journal.entries
    assert not pool.help()
    while timers.help():
        pass


def test_after_a_fork_pools_and_timers_start_anew(begin: Start, journal: Journal) -> None:
    pool, timers = PoolDispatcher(2, idle=0.01), ThreadTimers(linger=0.01)
    before = begin(Probe, journal, "parent's", on=pool)
    assert before.is_alive()
    stop(before, timeout=WAIT)
    wait_until(lambda: pool.workers == 0)
    pool.after_fork()
    timers.after_fork()
    ref = begin(Probe, journal, "child's", on=pool)
    timers.send_after(0, ref, "hello")
    journal.wait_for(("message", "child's", "hello"))


def test_a_forked_child_finds_all_actors_dead(begin: Start, journal: Journal) -> None:
    kept = dict(alive)
    ref = Probe.start_on(ThreadDispatcher(), journal, "a")
    journal.wait_for(("start", "a"))
    cell: Any = ref.actor_inbox
    body = cell.body
    edges._after_fork()  # pyright: ignore[reportPrivateUsage]
    assert not ref.is_alive()
    with pytest.raises(ActorDeadError):
        ref.ask("who")
    assert body is not None
    edges.inherited.clear()
    alive.update(kept)
    cell.lane.retire(cell, False)  # its thread must end, here


def test_a_closed_pool_keeps_no_idle_worker_and_still_gives_turns(begin: Start, journal: Journal) -> None:
    pool = PoolDispatcher(4, idle=1000, name="closing")
    refs = [begin(Probe, journal, number, on=pool) for number in range(4)]
    entered, release = threading.Event(), threading.Event()
    tell(refs[0], partial(hold, entered, release))
    assert entered.wait(WAIT)
    assert pool.workers > 0
    pool.close()
    wait_until(lambda: pool.workers == 1)  # the one in its handler
    assert ask(refs[1], "who") == 1
    release.set()
    wait_until(lambda: pool.workers == 0)
    wait_until(lambda: not any(thread.name == "closing" for thread in threading.enumerate()))
    assert ask(refs[2], "who") == 2
    wait_until(lambda: pool.workers == 0)


def test_pykkas_own_hook_is_called_unless_the_one_with_the_reason_is_taken(begin: Start, dispatch: Dispatcher) -> None:
    ended = Journal()

    class Plain(Actor):
        def on_stop(self) -> None:
            ended.add("on_stop")

    class WithReason(Plain):
        def on_exit(self, reason: Exit) -> None:
            ended.add(reason.kind)
            super().on_exit(reason)

    stop(begin(Plain, on=dispatch), timeout=WAIT)
    assert ended.entries == ["on_stop"]
    begin(WithReason, on=dispatch).stop(timeout=WAIT)
    assert ended.entries == ["on_stop", "normal", "on_stop"]
