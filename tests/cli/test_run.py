"""`allm run`, and what all commands share."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.testing import Fault, Reply, Simulator

Allm = Callable[..., "subprocess.CompletedProcess[str]"]
Env = Callable[[Mapping[str, str]], dict[str, str]]

KEY = "sk-test-0123456789"


@pytest.fixture
def provider() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def openai(provider: Simulator) -> dict[str, str]:
    """The environment that makes `provider` OpenAI."""
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url("chat")}


def one_line(text: str) -> str:
    """The only line; a traceback has more."""
    (line,) = text.splitlines()
    return line


def test_it_prints_the_answer_and_nothing_else(allm_command: Allm) -> None:
    done = allm_command("run", "--engine", "sim:", "Hello?")
    assert done.returncode == 0
    assert one_line(done.stdout) == "You said: “Hello?” I am only a simulator, but I heard you."
    assert done.stderr == ""


def test_the_engine_may_come_from_the_environment(allm_command: Allm) -> None:
    assert "“Hello?”" in allm_command("run", "Hello?", ALLM_ENGINE="sim:").stdout


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_the_prompt_may_come_down_a_pipe(allm_command: Allm, arguments: tuple[str, ...]) -> None:
    done = allm_command("run", "--engine", "sim:", *arguments, stdin="a prompt of\ntwo lines: åé雨\n")
    assert "“a prompt of\ntwo lines: åé雨”" in done.stdout


def test_a_prompt_that_is_given_wins_over_a_pipe(allm_command: Allm) -> None:
    assert "“given”" in allm_command("run", "--engine", "sim:", "given", stdin="piped").stdout


def test_no_prompt_at_all_is_a_mistake_in_the_call(allm_command: Allm) -> None:
    done = allm_command("run", "--engine", "sim:")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no prompt" in done.stderr


def test_with_a_key_and_no_engine_the_default_model_is_asked(allm_command: Allm, provider: Simulator) -> None:
    done = allm_command("run", "--system", "Be: brief", "Hello?", **openai(provider))
    assert done.returncode == 0
    (request,) = provider.requests
    assert request.model == "gpt-4.1-mini"
    assert [(message["role"], message["content"]) for message in request.body["messages"]] == [("system", "Be: brief"), ("user", "Hello?")]


@pytest.mark.parametrize("command", ["run", "chat"])
def test_without_engine_and_key_one_line_says_what_to_do(allm_command: Allm, command: str) -> None:
    done = allm_command(command, stdin="Hello?\n")
    assert (done.returncode, done.stdout) == (1, "")
    line = one_line(done.stderr)
    assert all(told in line for told in ("--engine", "ALLM_ENGINE", "OPENAI_API_KEY", "--engine sim:"))


def test_a_missing_key_is_told_with_the_provider_and_the_places(allm_command: Allm) -> None:
    done = allm_command("run", "--engine", "openai.chat:gpt-4.1-mini", "Hello?")
    assert (done.returncode, done.stdout) == (1, "")
    line = one_line(done.stderr)
    assert "openai" in line
    assert "OPENAI_API_KEY" in line


@pytest.mark.parametrize("engine", ["nonsense", "no.such:model", "openai.chat"])
def test_an_engine_that_is_none_is_one_line(allm_command: Allm, engine: str) -> None:
    done = allm_command("run", "--engine", engine, "Hello?")
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr).startswith("allm: ")


def test_a_call_that_fails_is_one_line_and_never_shows_the_key(allm_command: Allm, provider: Simulator) -> None:
    provider.fault(Fault(status=401, message=f"Incorrect API key provided: {KEY}"))
    done = allm_command("run", "Hello?", **openai(provider))
    assert (done.returncode, done.stdout) == (1, "")
    assert "authentication, HTTP 401" in one_line(done.stderr)
    assert KEY not in done.stderr


def test_an_answer_that_breaks_off_is_shown_and_is_a_failure(allm_command: Allm, provider: Simulator) -> None:
    provider.reply("one two three four")
    provider.fault(Fault(end_after=2))
    done = allm_command("run", "Count.", **openai(provider))
    assert (done.returncode, done.stdout) == (1, "one two\n")
    assert "truncated" in one_line(done.stderr)


def test_a_refusal_is_printed(allm_command: Allm, provider: Simulator) -> None:
    provider.reply(Reply(refusal="I will not."))
    assert allm_command("run", "Do it.", **openai(provider)).stdout == "I will not.\n"


def events(text: str) -> list[Any]:
    return [allm.from_json(line.encode()) for line in text.splitlines()]


class TestJson:
    def test_it_prints_the_events_one_a_line(self, allm_command: Allm) -> None:
        done = allm_command("run", "--json", "--engine", "sim:", "Hello?")
        told = events(done.stdout)
        assert isinstance(told[0], allm.RequestStarted)
        assert isinstance(told[-1], allm.MessageCompleted)
        response = allm.fold(told)
        assert isinstance(response, allm.Response)
        assert response.text.startswith("You said: “Hello?”")
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_call_that_fails_before_its_first_word_ends_in_an_error_event(self, allm_command: Allm, provider: Simulator) -> None:
        provider.fault(Fault(status=404))
        done = allm_command("run", "--json", "Hello?", **openai(provider))
        last = events(done.stdout)[-1]
        assert isinstance(last, allm.ErrorOccurred)
        assert last.error.reason == "not_found"
        assert done.returncode == 1
        assert "not_found" in one_line(done.stderr)

    def test_an_answer_that_breaks_off_ends_in_one_error_event(self, allm_command: Allm, provider: Simulator) -> None:
        provider.fault(Fault(error_after=2))
        done = allm_command("run", "--json", "Hello?", **openai(provider))
        ends = [event for event in events(done.stdout) if isinstance(event, allm.ErrorOccurred | allm.MessageCompleted)]
        assert [type(event) for event in ends] == [allm.ErrorOccurred]
        assert done.returncode == 1


def start(env: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "allm", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=env,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_closes_the_upstream_and_is_130(allm_env: Env, provider: Simulator) -> None:
    provider.reply(Reply(text="word " * 1000, delay=0.05))
    with start(allm_env(openai(provider)), "run", "Go on.") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == "word"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert process.stderr.read() == ""
    assert provider.wait_idle()
    assert [request.outcome for request in provider.requests] == ["client closed"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_reader_who_leaves_is_no_error_message(allm_env: Env, provider: Simulator) -> None:
    provider.reply(Reply(text="word " * 1000, delay=0.01))
    with start(allm_env(openai(provider)), "run", "Go on.") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == "word"
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert process.stderr.read() == ""
    assert provider.wait_idle()


def test_it_says_its_version(allm_command: Allm) -> None:
    assert allm_command("--version").stdout == f"allm {allm.__version__}\n"


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "Hello?"], []])
@pytest.mark.parametrize(
    "start", ["import runpy; runpy.run_module('allm', run_name='__main__', alter_sys=True)", "import allm.cli; sys.exit(allm.cli.main())"]
)
def test_without_the_extra_one_line_says_what_to_install(start: str, arguments: list[str], tmp_path: Path) -> None:
    source = BLOCKED.format(names=("typer", "rich", "prompt_toolkit")) + start
    done = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, encoding="utf-8", timeout=30, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'allm-actors[cli]'" in one_line(done.stderr)


def test_importing_the_library_loads_nothing_of_the_command_line() -> None:
    source = "import sys, json, allm, allm.cli; print(json.dumps([n for n in ('typer', 'rich', 'prompt_toolkit') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, encoding="utf-8", timeout=30, check=True)
    assert json.loads(done.stdout) == []


def test_the_command_and_the_module_are_the_same_program(allm_env: Env) -> None:
    script = Path(sys.executable).parent / ("allm.exe" if os.name == "nt" else "allm")
    if not script.exists():
        pytest.skip("not installed")
    done = subprocess.run([script, "--version"], capture_output=True, encoding="utf-8", timeout=30, env=allm_env({}))
    assert done.stdout == f"allm {allm.__version__}\n"
