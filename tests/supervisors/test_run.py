"""A program that is a tree: its signals, its exit code, and why it ended."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from allm.supervisors import (
    Actor,
    ChildSpec,
    Exit,
    PoolDispatcher,
    Supervisor,
    aio,
    run,
    subscribe,
)
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.events import RootEnded
from tests.supervisors.support import WAIT, Journal, Loop, Probe, spec, tell, wait_until

PROGRAM = """
import asyncio, signal, sys, time, threading
from allm.supervisors import Actor, ChildSpec, Supervisor, PoolDispatcher, aio, child, run

class Worker(Actor):
    def on_start(self):
        print("up", flush=True)

    def on_exit(self, reason):
        print("down", reason.kind, flush=True)

class Deaf(Worker):
    def on_exit(self, reason):
        print("deaf", flush=True)
        time.sleep(60)

class Asker(Worker):
    async def on_receive(self, message):
        await asyncio.sleep(60)
"""


@pytest.fixture
def ended() -> Iterator[list[RootEnded]]:
    """The reports of programs that ended."""
    seen: list[RootEnded] = []
    unsubscribe = subscribe(lambda event: seen.append(event) if isinstance(event, RootEnded) else None)
    yield seen
    unsubscribe()


class Child:
    """A program of its own, told by its lines."""

    def __init__(self, main: str) -> None:
        code = PROGRAM + textwrap.dedent(main)
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=WAIT * 2)
        return self.process.returncode, out, err


Program = Callable[[str], Child]


@pytest.fixture
def program() -> Iterator[Program]:
    """Start programs, of which none is left after the test."""
    started: list[Child] = []

    def start(main: str) -> Child:
        started.append(Child(main))
        return started[-1]

    yield start
    for child in started:
        child.process.kill()
        child.process.communicate()


SYNC = "sys.exit(run({spec}))"
ASYNC = "sys.exit(asyncio.run(aio.run({spec})))"


@pytest.mark.parametrize("main", [SYNC, ASYNC], ids=["sync", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_APP_01_a_signal_shuts_the_tree_down_in_order(program: Program, main: str, number: signal.Signals) -> None:
    child = program(main.format(spec="Supervisor.spec('root', [Worker.spec('a'), Worker.spec('b')])"))
    assert [child.line(), child.line()] == ["up", "up"]
    child.process.send_signal(number)
    assert child.end() == (0, "down shutdown\ndown shutdown\n", "")


@pytest.mark.parametrize("main", [SYNC, ASYNC], ids=["sync", "asyncio"])
def test_APP_01b_a_second_signal_ends_it_at_once_and_shows_in_the_exit_code(program: Program, main: str) -> None:
    child = program(main.format(spec="Supervisor.spec('root', [Deaf.spec('deaf', shutdown='infinity')])"))
    assert child.line() == "up"
    child.process.send_signal(signal.SIGTERM)
    assert child.line() == "deaf"
    child.process.send_signal(signal.SIGTERM)
    code, out, err = child.end()
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert "killed (after SIGTERM)" in err


@pytest.mark.parametrize("main", [SYNC, ASYNC], ids=["sync", "asyncio"])
def test_APP_01c_a_root_that_gives_up_fails_the_program_and_says_why(program: Program, main: str) -> None:
    setup = """
        class Fails(Actor):
            def on_start(self):
                self.actor_ref.tell("now")

            def on_receive(self, message):
                raise ValueError("no database")

    """
    child = program(textwrap.dedent(setup) + main.format(spec="Supervisor.spec('root', [Fails])"))
    code, out, err = child.end()
    assert (code, out) == (1, "")
    assert "Supervisor#1 ended: shutdown reached_max_restart_intensity" in err
    assert "Supervisor#1 gave up on Fails: error builtins.ValueError: no database" in err


def test_APP_01d_a_program_of_asyncio_cancels_what_its_actors_await(program: Program) -> None:
    main = """
        async def main():
            root = Supervisor.spec("root", [Asker], dispatcher=aio.this_loop())
            program = asyncio.create_task(aio.run(root))
            print("running", flush=True)
            return await program

        sys.exit(asyncio.run(main()))
    """
    child = program(main)
    assert [child.line(), child.line()] == ["running", "up"]
    child.process.send_signal(signal.SIGINT)
    assert child.end() == (0, "down shutdown\n", "")


def press_when(journal: Journal, entry: Any) -> None:
    """Send this process a SIGTERM when that is in the journal."""

    def press() -> None:
        journal.wait_for(entry)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=press).start()


def test_APP_01e_the_handlers_of_before_are_back_afterwards(journal: Journal) -> None:
    def mine(number: int, frame: Any) -> None:
        journal.add(("signal", number))

    before = signal.signal(signal.SIGTERM, mine)
    try:
        press_when(journal, ("start", "a"))
        assert run(Supervisor.spec("root", [spec(journal, "a")])) == 0
        assert signal.getsignal(signal.SIGTERM) is mine
        assert journal.of("signal") == []
    finally:
        signal.signal(signal.SIGTERM, before)


class Brief(Actor):
    """Ends as it is told, as soon as it is up."""

    def __init__(self, exit: Exit | None = None) -> None:
        super().__init__()
        self._exit = exit

    def on_start(self) -> None:
        tell(self.actor_ref, self._exit)

    def on_receive(self, message: Any) -> Any:
        if message is None:
            raise ValueError("bad")
        self.exit(message)


def significant() -> Any:
    return Supervisor.spec(
        "root", [Brief.spec("a", Exit("normal"), restart="transient", significant=True)], auto_shutdown="any_significant"
    )


@pytest.mark.parametrize(
    ("make", "code", "kind"),
    [
        (lambda: Brief.spec("root", Exit("normal")), 0, "normal"),
        (lambda: Brief.spec("root", Exit("shutdown")), 0, "shutdown"),
        (lambda: Brief.spec("root", Exit("tired")), 1, "tired"),
        (lambda: Brief, 1, "error"),
        (lambda: {"id": "root", "start": (Brief, (Exit("normal"),))}, 0, "normal"),
        (significant, 0, "shutdown"),
        (lambda: Supervisor.spec("root", [Probe.spec("a", Journal(), "a", ["fail"])]), 1, "shutdown"),
        (lambda: ChildSpec("root", (lambda: Exit("no_config"), ())), 1, "no_config"),
        (lambda: ChildSpec("root", (lambda: 5, ())), 1, "error"),
        (lambda: ChildSpec("root", (lambda: Brief.start(Exit("normal")), ())), 0, "normal"),
        (lambda: ChildSpec("root", (Brief, (1, 2, 3))), 1, "error"),
    ],
)
def test_APP_01f_the_exit_code_tells_how_the_root_ended(
    dispatch: Dispatcher, ended: list[RootEnded], make: Callable[[], Any], code: int, kind: str
) -> None:
    assert run(make(), on=dispatch) == code
    assert [(event.exit.kind, event.code, event.signal) for event in ended] == [(kind, code, None)]
    assert ended[0].to_data()["event"] == "root_ended"


def test_APP_01g_a_report_names_the_child_that_was_given_up_on(ended: list[RootEnded], journal: Journal) -> None:
    inner = Supervisor.spec("inner", [Brief], restart="permanent", max_restarts=1)
    assert run(Supervisor.spec("root", [spec(journal, "a"), inner], max_restarts=1)) == 1
    cause = ended[0].cause
    assert cause is not None
    assert cause["child"] == "inner"
    assert cause["exit"]["detail"] == "reached_max_restart_intensity"
    assert journal.of("stop") == [("a", "shutdown")]


def test_APP_01h_the_time_to_obey_is_the_specs(journal: Journal, ended: list[RootEnded]) -> None:
    release = threading.Event()

    class Slow(Probe):
        def on_exit(self, reason: Exit) -> None:
            journal.add("slow")
            release.wait(WAIT)

    press_when(journal, ("start", "a"))
    assert run(Slow.spec("root", journal, "a", shutdown=0.02)) == 1
    assert (ended[0].exit.kind, ended[0].signal) == ("killed", "SIGTERM")
    release.set()


def test_APP_01i_a_signal_during_the_start_ends_it(journal: Journal, ended: list[RootEnded]) -> None:
    release = threading.Event()

    class Late(Probe):
        def on_start(self) -> None:
            journal.add("starting")
            release.wait(WAIT)
            super().on_start()

    def press() -> None:
        journal.wait_for("starting")
        signal.raise_signal(signal.SIGTERM)
        wait_until(lambda: any(cell.stopped.is_set() for cell in list(alive.values())))
        release.set()

    threading.Thread(target=press).start()
    assert run(Supervisor.spec("root", [Late.spec("late", journal, "late")])) == 0
    assert not ended[0].started


def test_APP_01j_on_another_thread_it_runs_without_signals(journal: Journal) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run(Brief.spec("root", Exit("normal")))))
    thread.start()
    thread.join(WAIT)
    assert codes == [0]


def test_APP_01k_where_a_loop_runs_it_says_what_to_call(journal: Journal) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await aio\.run"):
            run(Brief)
        assert await aio.run(Brief.spec("root", Exit("normal"))) == 0

    asyncio.run(main())


def test_APP_01l_cancelling_it_shuts_the_tree_down(journal: Journal) -> None:
    async def main() -> None:
        pool = PoolDispatcher(4, idle=0.05)
        program = asyncio.create_task(aio.run(Supervisor.spec("root", [spec(journal, "a")]), on=pool))
        while not journal.of("start"):
            await asyncio.sleep(0.001)
        program.cancel()
        with pytest.raises(asyncio.CancelledError):
            await program
        assert journal.of("stop") == [("a", "shutdown")]

    asyncio.run(main())


def test_APP_01m_a_killed_root_ends_the_program(loop: Loop, ended: list[RootEnded]) -> None:
    before = set(alive)

    def kill_it() -> None:
        wait_until(lambda: bool(set(alive) - before))
        for name in set(alive) - before:
            alive[name].cancel()

    threading.Thread(target=kill_it).start()
    assert run(Supervisor) == 1
    assert ended[0].exit.kind == "killed"


def test_APP_01n_a_failure_that_no_log_hears_is_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journal: Journal
) -> None:
    monkeypatch.setattr("allm.supervisors.log.enabled", lambda _level="error": False)  # as where no logging is set up
    assert run(Supervisor.spec("shop", [spec(journal, "a", ["fail"])]), signals=()) == 1
    told = capsys.readouterr().err
    assert "did not start: shutdown" in told
    assert "gave up on a: error" in told
    assert "this start fails" in told
