"""`allm chat`: over a pipe, and at a terminal with a person's Ctrl-C."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from allm.testing import Fault, Reply, Simulator

Allm = Callable[..., "subprocess.CompletedProcess[str]"]
Env = Callable[[Mapping[str, str]], dict[str, str]]


@pytest.fixture
def provider() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def openai(provider: Simulator) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.base_url("chat")}


def asked(provider: Simulator, number: int) -> list[tuple[str, Any]]:
    """The messages of a request, counted from 0."""
    return [(message["role"], message["content"]) for message in provider.requests[number].body["messages"]]


def test_each_line_is_a_turn_and_the_thread_is_kept(allm_command: Allm, provider: Simulator) -> None:
    provider.reply("First answer.", "Second answer.")
    done = allm_command("chat", "--system", "Be brief.", stdin="One?\n\nTwo?\n", **openai(provider))
    assert (done.returncode, done.stdout, done.stderr) == (0, "First answer.\nSecond answer.\n", "")
    assert asked(provider, 1) == [("system", "Be brief."), ("user", "One?"), ("assistant", "First answer."), ("user", "Two?")]


def test_quit_leaves_and_help_helps(allm_command: Allm) -> None:
    done = allm_command("chat", "--engine", "sim:", stdin="/help\n/nonsense\n/quit\nnever said\n")
    assert done.returncode == 0
    help_line, unknown = done.stdout.splitlines()
    assert "/quit" in help_line
    assert "/nonsense" in unknown


def test_what_begins_with_a_slash_and_is_no_command_is_said(allm_command: Allm) -> None:
    assert "“/usr/bin is what?”" in allm_command("chat", "--engine", "sim:", stdin="/usr/bin is what?\n").stdout


def test_a_turn_that_fails_is_one_line_and_leaves_no_trace(allm_command: Allm, provider: Simulator) -> None:
    provider.fault(Fault(status=400, message="no such thing"))
    done = allm_command("chat", stdin="One?\nTwo?\n", **openai(provider))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "no such thing" in line
    assert asked(provider, 1) == [("user", "Two?")]


# At a terminal. The child's controlling terminal is the other end of a pty: what is typed there is a person's typing.

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

    AT_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from allm.cli import main
sys.exit(main())
"""

    class Terminal:
        """A process at a terminal of its own, and all that it has shown."""

        def __init__(self, env: dict[str, str], *arguments: str) -> None:
            self._master, slave = pty.openpty()
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, b"\x28\x00\x78\x00\x00\x00\x00\x00")  # 40 rows of 120
            command = [sys.executable, "-c", AT_TERMINAL, *arguments]
            self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
            os.close(slave)
            self._shown = b""
            self._read_to = 0

        def type(self, text: str) -> None:
            os.write(self._master, text.encode())

        def expect(self, text: str, timeout: float = 20.0) -> None:
            """Wait until it shows this, after what was expected before."""
            deadline = time.monotonic() + timeout
            while (at := self.shown.find(text, self._read_to)) < 0:
                left = deadline - time.monotonic()
                ready, _, _ = select.select([self._master], [], [], max(left, 0))
                assert ready, f"{text!r} does not come; there is {self.shown[self._read_to :]!r}"
                self._shown += os.read(self._master, 65536)
            self._read_to = at + len(text)

        @property
        def shown(self) -> str:
            """What it showed, without the orders to the terminal, the unfinished one at the end included."""
            return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>]|\[?[0-9;?]*$)", "", self._shown.decode("utf-8", "replace"))

        def close(self) -> None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(10)
            os.close(self._master)

    @pytest.fixture
    def terminal(allm_env: Env, provider: Simulator) -> Iterator[Terminal]:
        env = {**openai(provider), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        opened = Terminal(allm_env(env), "chat")
        yield opened
        opened.close()

    def test_ctrl_c_cancels_the_answer_and_keeps_what_there_is_of_it(terminal: Terminal, provider: Simulator) -> None:
        terminal.expect("you>")
        provider.reply(Reply(text="alpha beta " + "and so on " * 1000, delay=0.05))
        terminal.type("Go on.\r")
        terminal.expect("alpha beta and")
        terminal.type("\x03")
        terminal.expect("(cancelled)")
        assert provider.wait_idle()
        assert provider.requests[0].outcome == "client closed"
        terminal.expect("you>")

        provider.reset()
        provider.reply("Still here.")
        terminal.type("And now?\r")
        terminal.expect("Still here.")
        (first, partial, last) = asked(provider, 0)
        assert (first, last) == (("user", "Go on."), ("user", "And now?"))
        assert partial[0] == "assistant"
        assert partial[1].startswith("alpha beta and")

        terminal.expect("you>")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0

    def test_ctrl_c_before_the_first_word_leaves_the_thread_as_it_was(terminal: Terminal, provider: Simulator) -> None:
        terminal.expect("you>")
        provider.fault(Fault(slow_first_byte=60))
        terminal.type("Never mind.\r")
        assert provider.wait_requests(1, timeout=20)
        terminal.type("\x03")
        terminal.expect("(cancelled)")
        terminal.expect("you>")
        provider.reset()
        terminal.type("Hello?\r")
        terminal.expect("“Hello?”")
        assert asked(provider, 0) == [("user", "Hello?")]

    def test_ctrl_c_at_the_prompt_drops_the_line_only(terminal: Terminal, provider: Simulator) -> None:
        terminal.expect("you>")
        terminal.type("half a line")
        terminal.expect("half a line")
        terminal.type("\x03")
        terminal.expect("you>")
        terminal.type("/quit\r")
        assert terminal.process.wait(10) == 0
        assert provider.requests == ()

    def test_ctrl_c_cancels_the_answer_also_over_a_pipe(allm_env: Env, provider: Simulator) -> None:
        provider.reply(Reply(text="word " * 1000, delay=0.05))
        command = [sys.executable, "-m", "allm", "chat"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8", env=allm_env(openai(provider))) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("Go on.\n")
            process.stdin.flush()
            assert process.stdout.read(4) == "word"
            process.send_signal(signal.SIGINT)
            assert set(process.stdout.readline().split()) <= {"word"}  # what was still under way
            assert process.stdout.readline() == "(cancelled)\n"
            provider.reset()
            process.stdin.write("Hello?\n")
            process.stdin.close()
            assert "“Hello?”" in process.stdout.readline()
            assert process.wait(10) == 0
