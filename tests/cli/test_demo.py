"""`allm demo`: what it plays, how it compares, and the whole of it."""

import io
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from rich.console import Console

import allm
from allm.cli.demo_view import Board, render
from allm.cli.scenario import DRAFT, FAULTS, SLOW, Conversation, Loss, Pace, Provider, Turn, draw, losses
from allm.testing import Fault, Reply, SimRequest

pytestmark = pytest.mark.alone

Allm = Callable[..., "subprocess.CompletedProcess[str]"]
Env = Callable[[Mapping[str, str]], dict[str, str]]

SCRIPT = Conversation("c01", (Turn("One?", "First.", ()), Turn("Two?", "Second.", ())))


class TestScripts:
    def test_the_seed_decides_everything(self) -> None:
        assert draw(20, 4, seed=7) == draw(20, 4, seed=7)
        assert draw(20, 4, seed=7) != draw(20, 4, seed=8)

    def test_there_are_as_many_as_asked_for(self) -> None:
        script = draw(3, 5, seed=1)
        assert [(each.name, len(each.turns)) for each in script] == [("c01", 5), ("c02", 5), ("c03", 5)]

    @pytest.mark.parametrize("seed", range(20))
    def test_every_kind_of_fault_comes_up(self, seed: int) -> None:
        kinds = {kind for conversation in draw(20, 4, seed) for turn in conversation.turns for kind in turn.faults}
        assert kinds == set(FAULTS)

    def test_no_two_turns_ask_the_same_and_no_answer_is_the_draft(self) -> None:
        turns = [turn for conversation in draw(100, 5, seed=1) for turn in conversation.turns]
        assert len({turn.question for turn in turns}) == len(turns)
        assert not any(turn.answer[:12] == DRAFT[:12] for turn in turns)


def request(question: str) -> SimRequest:
    return SimRequest(wire="chat", method="POST", path="/", headers={}, at=0.0, text=question)


class TestProvider:
    def test_each_attempt_meets_the_next_fault_and_then_comes_the_answer(self) -> None:
        script = (Conversation("c01", (Turn("One?", "First.", ("503 twice", "truncated stream")),)),)
        provider = Provider(script, Pace())
        met = [provider(request("One?")) for _ in range(5)]
        assert met[:3] == [Fault(status=503), Fault(status=503), *FAULTS["truncated stream"]]
        assert [answer.text for answer in met[3:] if isinstance(answer, Reply)] == ["First.", "First."]
        assert provider.injected == {"503 twice": 2, "truncated stream": 1}

    def test_a_slow_answer_is_the_answer(self) -> None:
        provider = Provider((Conversation("c01", (Turn("One?", "First.", (SLOW,)),)),), Pace())
        reply = provider(request("One?"))
        assert isinstance(reply, Reply)
        assert (reply.text, reply.text_pieces()[0], provider.injected) == ("First.", "", {SLOW: 1})


class TestComparison:
    def test_the_scripts_own_thread_has_lost_nothing(self) -> None:
        assert losses(SCRIPT, SCRIPT.thread) == []

    def test_a_missing_answer_is_a_loss(self) -> None:
        thread = allm.Thread().add_user("One?").add_user("Two?").add_assistant("Second.")
        assert losses(SCRIPT, thread) == [Loss("c01", 1, "First.", None)]

    def test_a_part_of_an_answer_is_a_loss(self) -> None:
        thread = allm.Thread().add_user("One?").add_assistant("First.").add_user("Two?").add_assistant("Sec")
        assert losses(SCRIPT, thread) == [Loss("c01", 2, "Second.", "Sec")]

    @pytest.mark.parametrize("order", [(0, 1, 1, 2, 3), (2, 3, 0, 1), (0, 1, 2, 3, 3)])
    def test_messages_twice_or_in_another_order_are_a_loss(self, order: tuple[int, ...]) -> None:
        thread = allm.Thread(tuple(SCRIPT.thread.messages[i] for i in order))
        assert len(losses(SCRIPT, thread)) == 1


def test_the_board_shows_what_each_stream_does_and_the_tree() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    with allm.Runtime() as runtime:
        board = Board((SCRIPT,), runtime, Counter({"503 twice": 1}), supervised=True)
        board.ask("c01", 1)
        error = allm.ErrorInfo("adapter", "service_unavailable", "busy", status=503)
        board.see("c01", allm.RetryScheduled("req-1", 1, 0.5, error))
        console.print(render(board))
        board.see("c01", allm.RequestStarted("req-1", "m", "sim", 2))
        board.see("c01", allm.TextDelta("b1", "Fir"))
        console.print(render(board))
    first, second = console.export_text().split("what it is doing")[1:]
    assert "service_unavailable 503: again in 0.50 s" in first
    assert re.search(r"c01 +1 +2 +streaming +Fir", second)
    assert "io  IoActor" in second
    assert "calls restarted 1" in second


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_the_demo_quietly(allm_env: Env) -> None:
    command, pipe = [sys.executable, "-m", "allm", "demo"], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", env=allm_env({})) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "again in" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == ""


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])


def test_a_small_demo_loses_nothing(allm_command: Allm) -> None:
    done = allm_command("demo", "--fast", "--conversations", "6", "--turns", "2", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: nothing" in done.stdout
    assert number(r"faults injected: (\d+)", done.stdout) > 0
    assert number(r"restarts by supervision: (\d+)", done.stdout) > 0
    assert done.stderr == ""


@pytest.mark.slow
def test_the_demo_meets_every_fault_and_crash_and_loses_nothing(allm_command: Allm) -> None:
    done = allm_command("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(re.search(rf"^ +\d+ {re.escape(kind)}$", done.stdout, re.MULTILINE) for kind in FAULTS)
    assert number(r"actors crashed: (\d+)", done.stdout) == 3
    assert number(r"(\d+) of IoActor", done.stdout) == 2
    assert number(r"(\d+) of EngineActor", done.stdout) == 1
    assert "compared with the script: 20 conversations, 160 messages\nlost: nothing" in done.stdout


@pytest.mark.slow
def test_without_supervision_the_demo_shows_what_is_lost(allm_command: Allm) -> None:
    done = allm_command("demo", "--break", "--fast")
    assert done.returncode == 1
    assert number(r"lost: (\d+) answers of 80", done.stdout) > 10
    assert number(r"(\d+) of calls", done.stdout) == 0
    assert "instead of" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
