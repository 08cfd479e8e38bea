"""Servers that die, hang, or will not go: nothing hangs with them, their tools come back, nothing stays behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.supervisors import kill, subscribe
from tests.mcp.support import Tooled, environment, is_alive, little
from tests.runtime.support import eventually, node

pytestmark = pytest.mark.alone


def restarts(runtime: allm.Runtime) -> int:
    return int(node(runtime.tree(), "mcp little", "server")["restarts"])


def test_a_death_in_mid_call_is_a_tool_error_and_the_tools_come_back(runtime: allm.Runtime, model: Tooled) -> None:
    """Three times in a row: more than a supervisor's budget would bear."""
    with little().connect(runtime) as tools:
        asked = model(tools)
        first = asked.value("pid")
        for _ in range(3):
            error = asked.error("die")
            while error.reason == "unavailable":  # a busy machine took longer to start it than a call waits
                error = asked.error("die")
            assert error.reason == "connection_lost"
            assert error.message == "the MCP server little was lost while die ran; it may have done its work"
        eventually(lambda: asked.call("pid").error is None, "it is back", 40)
        assert asked.value("pid") != first
        assert restarts(runtime) >= 3


def test_all_calls_under_way_end_with_their_server(runtime: allm.Runtime, model: Tooled, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with little(log=log).connect(runtime) as tools:
        asked = model(tools)
        pid = int(asked.value("pid"))

        def assassin() -> None:
            eventually(lambda: log.read_text().count("slow") == 5, "all calls have come")
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=assassin)
        killer.start()
        began = time.monotonic()
        results = asked.calls(*[("slow", {"seconds": 50.0})] * 5)
        assert time.monotonic() - began < 20
        assert [result.error.reason for result in results] == ["connection_lost"] * 5
        killer.join()


def test_a_death_between_calls_is_made_good_before_the_next(runtime: allm.Runtime, model: Tooled) -> None:
    with little().connect(runtime) as tools:
        asked = model(tools)
        pid = int(asked.value("pid"))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: restarts(runtime) == 1, "its death was seen")
        eventually(lambda: asked.call("pid").error is None, "it is back", 40)
        assert asked.value("pid") != str(pid)


def test_a_call_while_it_is_down_says_so(runtime: allm.Runtime, model: Tooled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("allm.mcp.connection._PATIENCE", 0.3)
    gate = tmp_path / "gate"
    gate.touch()
    script = f'test -e {gate} && exec "$@"; echo sesame-4711 >&2; exit 3'
    original = little(env={"PASSWORD": "sesame-4711"})
    server = allm.mcp.Server.stdio("sh", ["-c", script, "sh", original.command, *original.args], name="little", env=original.env)
    events: list[Any] = []
    unsubscribe = subscribe(events.append)
    with server.connect(runtime) as tools:
        asked = model(tools)
        gate.unlink()
        os.kill(int(asked.value("pid")), signal.SIGKILL)
        eventually(lambda: restarts(runtime) >= 2, "it was started again, in vain")
        began = time.monotonic()
        error = asked.error("pid")
        assert time.monotonic() - began < 3
        assert error.reason == "unavailable"
        assert error.message.startswith("the MCP server little is not available: ")
        assert error.message.endswith("(exit code 3); pid was not called")
        gate.touch()
        eventually(lambda: asked.call("pid").error is None, "it is back", 40)
    unsubscribe()
    assert "server_lost" in repr(events)
    assert "sesame" not in repr(events)


def test_a_server_that_dies_at_its_start_is_started_again(runtime: allm.Runtime, model: Tooled, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with little("--die-first", "2", log=log).connect(runtime, timeout=50) as tools:
        assert log.read_text().count("start") == 3
        assert restarts(runtime) == 2
        assert model(tools).value("echo", text="alive") == "alive"


def test_a_server_that_never_answers_is_given_up_and_killed(runtime: allm.Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"
    began = time.monotonic()
    with pytest.raises(allm.ToolError) as caught, little("--mute", log=log).connect(runtime, timeout=6):
        pass
    assert time.monotonic() - began < 15
    assert caught.value.reason == "unavailable"
    assert "6 seconds" in caught.value.message
    assert all(not is_alive(int(line.split()[1])) for line in log.read_text().splitlines())
    assert [child["id"] for child in runtime.tree()["children"]][-1] == "turns"


def test_a_program_that_does_not_exist_is_said_at_once(runtime: allm.Runtime) -> None:
    began = time.monotonic()
    with pytest.raises(allm.ToolError, match="no-such-program"), allm.mcp.Server.stdio("no-such-program").connect(runtime):
        pass
    assert time.monotonic() - began < 10


def test_junk_on_standard_output_is_passed_over(runtime: allm.Runtime, model: Tooled, capfd: pytest.CaptureFixture[str]) -> None:
    with little("--junk").connect(runtime) as tools:
        assert model(tools).value("echo", text="clear") == "clear"
    assert "Traceback" not in capfd.readouterr().err


def test_one_that_will_not_go_is_killed_with_all_that_it_started(runtime: allm.Runtime, model: Tooled) -> None:
    with little("--stubborn").connect(runtime) as tools:
        asked = model(tools)
        pids = [int(asked.value("pid")), int(asked.value("child"))]
        assert all(map(is_alive, pids))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert not any(map(is_alive, pids))


def test_children_of_one_that_died_do_not_stay(runtime: allm.Runtime, model: Tooled) -> None:
    with little().connect(runtime) as tools:
        asked = model(tools)
        child, pid = int(asked.value("child")), int(asked.value("pid"))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(child), "its child is gone, too")


def test_the_end_of_the_runtime_is_the_end_of_its_servers(model: Tooled) -> None:
    runtime = allm.Runtime()
    tools = little("--stubborn").connect(runtime).open()
    other = model(tools)  # of a runtime that goes on
    pid = int(other.value("pid"))
    runtime.stop()
    assert not is_alive(pid)
    began = time.monotonic()
    assert other.error("pid").reason == "unavailable"
    assert time.monotonic() - began < 5
    tools.close()


def test_a_killed_actor_leaves_no_second_server(runtime: allm.Runtime, model: Tooled) -> None:
    with little().connect(runtime) as tools:
        asked = model(tools)
        pid = int(asked.value("pid"))
        kill(runtime.find("mcp little", "server"))
        eventually(lambda: not is_alive(pid), "the first one is ended")
        eventually(lambda: asked.call("echo", text="x").error is None, "there is another", 40)
        assert asked.value("pid") != str(pid)


BOT = """
import sys, allm, os, time
server = allm.mcp.Server.stdio(sys.executable, sys.argv[2:], name="little", env=dict(LITTLE_LOG=sys.argv[1]))
tools = server.connect().open()
print("up", flush=True)
if input() == "exit":
    sys.exit(0)
"""


@pytest.mark.parametrize(("how", "option"), [("exit", "--stubborn"), ("kill", "--junk")])
def test_nothing_outlives_the_bot(how: str, option: str, tmp_path: Path) -> None:
    """One that ends kills it; one that is killed closes its standard input, at least, and a server of good manners ends then."""
    log, server = tmp_path / "log", little(option)
    command = [sys.executable, "-c", BOT, str(log), *server.args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True) as bot:
        assert bot.stdin is not None
        assert bot.stdout is not None
        assert bot.stdout.readline() == "up\n"
        pid = int(log.read_text().split()[1])
        assert is_alive(pid)
        if how == "exit":
            bot.stdin.write("exit\n")
            bot.stdin.flush()
            assert bot.wait(20) == 0
            assert not is_alive(pid)
        else:
            bot.kill()
            eventually(lambda: not is_alive(pid), "the server has ended, too")


def test_without_the_extra_it_says_what_to_install() -> None:
    source = """
import sys
sys.modules["mcp"] = None
import allm
try:
    allm.mcp.Server.stdio("x").connect().open()
except allm.EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", source], env=environment(), capture_output=True, text=True, timeout=50)
    assert done.stdout == "MCP is an extra: pip install 'allm-actors[mcp]' (missing_extra)\n", done.stderr
