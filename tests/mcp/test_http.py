"""Servers that speak streamable HTTP, on loopback."""

import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import allm
from tests.mcp.support import LITTLE, Tooled, environment
from tests.partners.servers import free_port
from tests.runtime.support import RawServer, answers, eventually, http, node


@contextmanager
def serving(port: int, log: Path) -> Generator["subprocess.Popen[bytes]"]:
    """The little server on this port."""
    env = {**environment(), "LITTLE_LOG": str(log)}
    process = subprocess.Popen([sys.executable, str(LITTLE), "--http", str(port)], env=env, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_tools_over_http_come_back_when_the_server_does(
    runtime: allm.Runtime, model: Tooled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, port = tmp_path / "log", free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    with serving(port, log) as first, allm.mcp.Server.http(url, name="far", timeout=40).connect(runtime, timeout=50) as tools:
        asked = model(tools)
        assert asked.value("add", a=1, b=2) == {"sum": 3}
        assert asked.error("fail", message="no").message == "no"
        assert asked.value("grow", name="late") == "grown"
        eventually(lambda: "late" in [tool.name for tool in tools], "the new tool is listed")
        assert asked.error("die").reason == "connection_lost"
        assert first.wait(10) == -signal.SIGKILL
        with monkeypatch.context() as patched:
            patched.setattr("allm.mcp.connection._PATIENCE", 0.3)
            error = asked.error("echo", text="x")
            assert error.reason == "unavailable"
            assert error.message.startswith("the MCP server far is not available: ")
        with serving(port, log):
            eventually(lambda: asked.call("echo", text="x").error is None, "it is back", 40)
            assert asked.value("echo", text="again") == "again"
            assert node(runtime.tree(), "mcp far", "server")["restarts"] >= 1


def test_a_call_to_a_server_that_was_replaced_is_made_again(runtime: allm.Runtime, model: Tooled, tmp_path: Path) -> None:
    """Nobody has told of the death before the call: what did not reach the server is sent to the next one."""
    log, port = tmp_path / "log", free_port()
    with serving(port, log) as first:
        tools = allm.mcp.Server.http(f"http://127.0.0.1:{port}/mcp", name="far").connect(runtime, timeout=50).open()
        first.kill()
        first.wait(10)
        with serving(port, log) as second:
            asked = model(tools)
            eventually(lambda: asked.call("pid").error is None, "it is back", 40)
            assert asked.value("pid") == str(second.pid)
            tools.close()


def test_a_call_that_takes_too_long_is_cancelled_there(runtime: allm.Runtime, model: Tooled, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    server = allm.mcp.Server.http(f"http://127.0.0.1:{port}/mcp", timeout=0.5)
    with serving(port, log), server.connect(runtime, timeout=50) as tools:
        assert model(tools).error("slow", seconds=30).reason == "timeout"
        eventually(lambda: "cancelled" in log.read_text(), "the server was told")


def test_wrong_credentials_are_said_at_once_and_not_shown(runtime: allm.Runtime) -> None:
    door = RawServer(answers(http(b"sesame-4711?", "text/plain", "401 Unauthorized")))
    server = allm.mcp.Server.http(f"{door.url}/mcp", headers={"Authorization": "Bearer sesame-4711"})
    began = time.monotonic()
    with pytest.raises(allm.ToolError, match="HTTP 401") as caught, server.connect(runtime):
        pass
    assert time.monotonic() - began < 10
    assert "sesame" not in repr(caught.value.info)
    assert door.header("authorization")[0] == "Bearer sesame-4711"
    door.close()
