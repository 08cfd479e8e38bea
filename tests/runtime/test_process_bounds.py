"""What code in a tool's process cannot do: answer for another call, leave something running, take the bot's keys, or stop other tools."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.actors import toolprocess
from allm.limits import limits, set_limits
from allm.tools import Tool
from tests.runtime.process_tools import (
    asks,
    daemon,
    environment,
    fails,
    fails_later,
    forged,
    framed,
    gives,
    gives_later,
    inside,
    nameless,
    seal,
    sealed,
    sleep,
    spray,
)
from tests.runtime.support import WAIT, eventually
from tests.runtime.test_tool_processes import ROOT, Processes
from tests.runtime.test_tools_chat import error_told, scripted, told
from tests.runtime.tooling import gone, until

pytestmark = [pytest.mark.alone, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose child a daemon was")


@pytest.fixture
def bench(runtime: allm.Runtime) -> Iterator[Processes]:
    before = limits()
    bench = Processes(runtime)
    yield bench
    set_limits(before)
    left = [pid for pid in (bench.nursery, *bench.children()) if pid is not None]
    runtime.stop(0)
    assert [pid for pid in left if not gone(pid)] == []


# results that are none


LIES: dict[str, Callable[[], bytes]] = {
    "no frame": lambda: b"hello\n",
    "a frame without its seal": lambda: framed("call-1"),
    "a length beyond all bounds": lambda: seal() + b"\xff" * 8,
    "what is no outcome": lambda: sealed(b"\xff\xff\xff"),
    "the outcome of nobody": lambda: sealed(forged("somebody else")),
    "the outcome of its sibling": lambda: sealed(forged("call-1")),
    "an outcome and more": lambda: sealed(forged("call-2")) + b"more",
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_result_of_this_call_ends_this_call_alone(lie: str, bench: Processes) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)

    def patient() -> str:
        time.sleep(0.3)
        return "its own"

    def liar() -> str:
        spray(LIES[lie]())
        time.sleep(30)
        return "late"

    sibling = bench.start(patient, name="handler")
    outcome = bench.start(liar, name="handler", timeout=20).outcome()
    os.close(read)
    os.close(write)
    assert (outcome.id, outcome.error and outcome.error.reason) == ("call-2", "crashed"), outcome
    assert "FORGED" not in outcome.content
    assert sibling.outcome().result == "its own"
    assert bench.run(lambda: 1).result == 1


def test_a_process_that_begins_to_write_a_result_and_does_not_end_is_killed_at_its_timeout(bench: Processes) -> None:
    def handler() -> None:
        spray(seal() + struct.pack("!Q", 1000) + b"half of it")
        time.sleep(30)

    assert bench.error(handler, timeout=0.5) == "timeout"


def test_a_conversation_with_a_liar_goes_on(runtime: allm.Runtime) -> None:
    def liar() -> None:
        spray(sealed(forged("somebody else")))
        time.sleep(30)

    tool = Tool(name="handler", handler=liar, isolation="process", timeout=20)
    result = allm.chat(scripted([("handler", {})], [tool]), "Go.", runtime=runtime)
    assert result.text == "done"
    assert "another call" in error_told(result)[0]


# where it imports from


def test_nothing_is_imported_from_a_working_directory_that_the_bot_does_not_import_from(tmp_path: Path) -> None:
    program, uploads = tmp_path / "bot", tmp_path / "uploads"
    program.mkdir()
    uploads.mkdir()
    for name in ("json", "sys_", "msgspec", "cloudpickle", "sitecustomize", "tempfile"):
        (uploads / f"{name}.py").write_text("import os; os.write(2, b'UPLOADED'); raise SystemExit(1)")
    (program / "bot.py").write_text(f"""
import sys
sys.path.append({str(ROOT)!r})
import allm
tool = allm.Tool(name="t", handler=lambda: __import__("tempfile").__file__, isolation="process")
script = [[("tool_call", "t", {{}}, "c"), ("finish", "tool_calls")], [("text", "done"), ("finish", "stop")]]
result = allm.chat(allm.Engine("fake:any", adapter_opts={{"scripts": script}}, tools=[tool]), "Go.")
print([message.text for message in result.thread.messages if message.role == "tool"])
""")
    done = subprocess.run([sys.executable, str(program / "bot.py")], cwd=uploads, capture_output=True, text=True, timeout=60, check=False)
    assert "UPLOADED" not in done.stderr
    assert "tempfile.py" in done.stdout, done.stderr
    assert "uploads" not in done.stdout


# how many there are


def test_so_many_run_at_once_and_the_others_wait_and_their_time_does_not_run(bench: Processes) -> None:
    allm.configure(limits=allm.Limits(processes=2))
    most = 0
    several = [bench.start(lambda: time.sleep(0.4), timeout=1.2) for _ in range(8)]
    while not all(each.reports for each in several):
        most = max(most, len(bench.children()))
        time.sleep(0.005)
    assert most == 2
    assert [each.outcome().error for each in several] == [None] * 8
    assert all(each.outcome().duration < 1.2 for each in several)


def test_who_waits_has_not_begun_and_can_be_cancelled(bench: Processes) -> None:
    allm.configure(limits=allm.Limits(processes=1))
    first = bench.start(sleep)
    eventually(bench.children, "it runs")
    second, third = bench.start(lambda: 2, timeout=0.05), bench.start(lambda: 3)
    eventually(lambda: len(bench.runtime.workshop.jobs) == 3, "they wait")
    time.sleep(0.2)  # longer than the timeout of the second
    assert [bench.runtime.workshop.jobs[each.id].began for each in (second, third)] == [None, None]
    bench.cancel(second)
    assert second.error() == "cancelled"
    assert second.outcome().duration == 0
    bench.cancel(first)
    assert third.outcome().result == 3


def test_a_runtime_that_stops_tells_those_that_wait(bench: Processes) -> None:
    allm.configure(limits=allm.Limits(processes=1))
    several = [bench.start(sleep) for _ in range(4)]
    eventually(bench.children, "one runs")
    bench.runtime.stop(0)
    assert [each.error() for each in several] == ["cancelled"] * 4


def test_a_message_with_more_calls_than_processes_gets_all_its_results(runtime: allm.Runtime) -> None:
    before = limits()
    allm.configure(limits=allm.Limits(processes=3))
    try:
        tool = Tool(name="twice", handler=lambda n: n * 2, isolation="process")
        result = allm.chat(scripted([("twice", {"n": n}) for n in range(20)], [tool]), "Go.", runtime=runtime)
    finally:
        set_limits(before)
    assert told(result) == [str(n * 2) for n in range(20)]


# its environment

SECRETS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "MISTRAL_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "PGPASSWORD",
    "db_password",
    "GITHUB_PAT",
    "SENTRY_DSN",
)
PUBLIC = ("PATH", "MY_SETTING", "TOKENIZERS_PARALLELISM", "KEYBOARD_LAYOUT")


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"CANARY {name}")
    for name in PUBLIC[1:]:
        monkeypatch.setenv(name, "x")


@linux
def test_a_process_has_the_environment_without_what_sounds_secret(secrets: None, bench: Processes) -> None:
    found = bench.run(environment).result
    assert not {*SECRETS} & {*found}
    assert {*PUBLIC, "PWD"} & {*os.environ} <= {*found}


@linux
def test_a_process_has_no_address_with_a_password_but_a_proxys(monkeypatch: pytest.MonkeyPatch, bench: Processes) -> None:
    for name in ("DATABASE_URL", "REDIS", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "postgres+ssl://me:sesame@127.0.0.1:1/db")
    monkeypatch.setenv("SERVICE_URL", "http://me@127.0.0.1:1/a:b@c")
    assert {"DATABASE_URL", "REDIS", "HTTPS_PROXY", "SERVICE_URL"} & {*bench.run(environment).result} == {"HTTPS_PROXY", "SERVICE_URL"}


def test_a_tool_names_what_its_process_needs_and_its_neighbours_do_not_get_it(secrets: None, bench: Processes) -> None:
    def seen() -> list[str]:
        return [name for name in SECRETS if os.environ.get(name) == f"CANARY {name}"]

    assert bench.run(seen, environment=["GITHUB_TOKEN", "AWS_*", "NOT_THERE"]).result == ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"]
    assert bench.run(seen, environment=["*"]).result == list(SECRETS)
    assert bench.run(seen).result == []


def test_the_names_are_part_of_the_tool_and_their_values_are_not(secrets: None) -> None:
    tool = Tool(name="t", handler="os:getpid", isolation="process", environment=("GITHUB_TOKEN",))
    engine = allm.Engine("fake:any", tools=[tool])
    written = allm.to_json(engine)
    assert b"CANARY" not in written
    assert allm.from_json(written, allm.Engine, trusted=True).tools == (tool,)
    wrong: Any = "GITHUB_TOKEN"
    with pytest.raises(allm.ValidationError, match="names of environment variables"):
        Tool(name="t", environment=wrong)


# what it leaves behind


@linux
@pytest.mark.parametrize("end", ["its timeout", "its result", "its crash", "its cancellation", "the end of the runtime"])
def test_a_daemon_in_a_session_of_its_own_does_not_outlive_its_tool(end: str, bench: Processes) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    path = f"/proc/{os.getpid()}/fd/{write}"

    def handler() -> None:
        daemon(os.open(path, os.O_WRONLY))
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        if end == "its crash":
            time.sleep(0.2)
            os._exit(3)
        time.sleep(0.2 if end == "its result" else 60)

    other = bench.start(lambda: time.sleep(1))
    pending = bench.start(handler, timeout=0.5 if end == "its timeout" else 60)
    pid = int(os.read(read, 100))
    os.close(read)
    os.close(write)
    assert not gone(pid)
    if end == "its cancellation":
        bench.cancel(pending)
    if end == "the end of the runtime":
        bench.runtime.stop(0)
    else:
        pending.outcome()
        assert other.outcome().error is None
    until(lambda: gone(pid) and not bench.children(), WAIT)


# the process that starts the others


def wait_for_death(pid: int) -> None:
    until(lambda: gone(pid), WAIT)


@pytest.mark.slow
def test_a_nursery_that_was_stopped_is_replaced_and_who_had_not_begun_is_run_by_the_next(bench: Processes) -> None:
    bench.run(lambda: 1)
    nursery = bench.nursery
    assert nursery is not None
    os.kill(nursery, signal.SIGSTOP)
    several = [bench.start(lambda: os.getpid()) for _ in range(3)]
    assert all(each.outcome().error is None for each in several)
    assert bench.nursery not in (nursery, None)
    assert gone(nursery)


@pytest.mark.slow
def test_a_handler_that_stops_the_nursery_is_lost_with_it_and_so_is_what_it_started(bench: Processes) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    path = f"/proc/{os.getpid()}/fd/{write}"

    def handler() -> None:
        if sys.platform == "linux":
            daemon(os.open(path, os.O_WRONLY))
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(60)

    allm.configure(limits=allm.Limits(processes=1))
    culprit = bench.start(handler)
    waiting = [bench.start(lambda: "well") for _ in range(3)]
    assert culprit.error() == "crashed"
    assert [each.outcome().result for each in waiting] == ["well"] * 3
    if sys.platform == "linux":
        wait_for_death(int(os.read(read, 100)))
    os.close(read)
    os.close(write)


def test_a_nursery_that_dies_again_and_again_gives_up_who_waits(bench: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolprocess, "_BOOT", "raise SystemExit # {fd}")
    allm.configure(limits=allm.Limits(processes=1))
    assert {each.error() for each in [bench.start(lambda: 1) for _ in range(5)]} == {"crashed"}
    monkeypatch.undo()
    assert bench.run(lambda: 1).result == 1


@pytest.mark.slow
def test_a_nursery_with_a_quiet_child_is_left_alone(bench: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolprocess, "_SILENT", 1)
    assert bench.run(lambda: time.sleep(2.5)).error is None
    nursery = bench.nursery
    time.sleep(1.5)  # and one without children need not speak
    assert bench.run(lambda: 1).result == 1
    assert bench.nursery == nursery


# objects that raise when they are looked at


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("handler", [gives, fails, nameless, inside, gives_later, fails_later, asks])
def test_an_object_that_raises_when_it_is_looked_at_costs_its_call_alone(handler: Any, isolation: Any, runtime: allm.Runtime) -> None:
    sibling = Tool(name="sibling", handler=lambda: "well", isolation=isolation)
    tool = Tool(name="t", handler=handler, isolation=isolation)
    result = allm.chat(scripted([("sibling", {}), ("t", {}), ("sibling", {})], [tool, sibling]), "Go.", runtime=runtime)
    first, sentence, last = told(result)
    assert (first, last, result.text) == ("well", "well", "done")
    assert sentence.startswith('{"error":')
    assert not any(word in sentence for word in ("Traceback", "trace", ".py", os.sep))


def test_an_actor_of_a_tool_that_ends_is_told_in_a_sentence_without_its_trace(
    runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allm.actors import toolrun

    def broken(*_: Any) -> None:
        raise RuntimeError(f"in {__file__}")

    monkeypatch.setattr(toolrun, "conclude", broken)
    result = allm.chat(scripted([("t", {})], [Tool(name="t", handler=lambda: 1)]), "Go.", runtime=runtime)
    assert error_told(result) == ["t was ended before it gave a result (error)"]
