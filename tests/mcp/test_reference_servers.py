"""The reference servers, which nobody here wrote: from npm, in the folder that `ALLM_MCP_SERVERS` names. `.ci/run` installs them."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.testing import Simulator
from tests.mcp.support import Tooled, children, is_alive
from tests.partners.servers import free_port
from tests.runtime.support import eventually
from tests.wire import judging

ABSENT = "the reference servers of MCP are not installed"
FOLDER = os.environ.get("ALLM_MCP_SERVERS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason=f"{ABSENT} (ALLM_MCP_SERVERS is not set)")


def program(name: str) -> str:
    path = Path(FOLDER, name).absolute()
    assert path.exists(), f"ALLM_MCP_SERVERS names a folder without {name}"
    return str(path)


def test_everything_over_stdio(runtime: allm.Runtime, model: Tooled) -> None:
    server = allm.mcp.Server.stdio(program("mcp-server-everything"), ["stdio"], name="everything", prefix="every_")
    with server.connect(runtime) as tools:
        use_everything(model(tools), "every_")


def use_everything(asked: Any, prefix: str) -> None:
    assert asked.value(f"{prefix}echo", message="hello") == "Echo: hello"
    assert "5" in asked.value(f"{prefix}get-sum", a=2, b=3)
    picture = asked.value(f"{prefix}get-tiny-image")
    assert "[image 1: image/png, " in picture
    weather = asked.value(f"{prefix}get-structured-content", location="New York")
    assert set(weather) == {"temperature", "conditions", "humidity"}
    assert asked.error(f"{prefix}get-sum", a="two", b=3).reason == "invalid_arguments"


def test_everything_dies_and_comes_back(runtime: allm.Runtime, model: Tooled) -> None:
    server = allm.mcp.Server.stdio(program("mcp-server-everything"), ["stdio"], name="everything")
    with server.connect(runtime) as tools:
        asked = model(tools)
        for _ in range(3):
            pid = running()
            os.kill(pid, 9)
            eventually(partial(gone, pid), "it is dead")
            eventually(lambda: asked.call("echo", message="x").error is None, "it is back", 40)
        last = running()
    assert not is_alive(last)


def gone(pid: int) -> bool:
    return not is_alive(pid)


def running() -> int:
    """The process of the one server that this process has."""
    (pid,) = [pid for pid, command in children().items() if "server-everything" in command]
    return pid


@contextmanager
def everything_over_http(port: int) -> Generator[None]:
    env = {**os.environ, "PORT": str(port)}
    process = subprocess.Popen(
        [program("mcp-server-everything"), "streamableHttp"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def test_everything_over_http_is_replaced_and_its_tools_go_on(runtime: allm.Runtime, model: Tooled) -> None:
    """The one that takes over does not know the session of the other."""
    port = free_port()
    with everything_over_http(port):
        tools = allm.mcp.Server.http(f"http://127.0.0.1:{port}/mcp", name="everything").connect(runtime, timeout=50).open()
        asked = model(tools)
        use_everything(asked, "")
    with everything_over_http(port):
        eventually(lambda: asked.call("echo", message="x").error is None, "it is back", 40)
        use_everything(asked, "")
        tools.close()


@judging.judged
@pytest.mark.parametrize(
    ("wire", "model_name", "kind"),
    [
        ("chat", "openai.chat:m", judging.CHAT),
        ("responses", "openai.responses:m", judging.RESPONSES),
        ("messages", "anthropic:m", judging.MESSAGES),
        ("gemini", "gemini:m", judging.GEMINI),
    ],
)
def test_every_wire_takes_their_tools(wire: str, model_name: str, kind: str, runtime: allm.Runtime) -> None:
    server = allm.mcp.Server.stdio(program("mcp-server-everything"), ["stdio"], name="everything")
    with server.connect(runtime) as tools, Simulator(wires=(wire,)) as sim, judging.Judge() as judge:
        sim.reply("ok")
        keys = {"openai": "k", "anthropic": "k", "gemini": "k"}
        engine = allm.Engine(model_name, base_url=sim.base_url(wire), tools=tools, keys=keys)
        assert allm.generate(engine, "Hi.", max_tokens=10, runtime=runtime).text == "ok"
        assert judge.errors(kind, sim.requests[0].body) == []


def test_the_file_system(runtime: allm.Runtime, model: Tooled, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("remember the milk")
    server = allm.mcp.Server.stdio(program("mcp-server-filesystem"), [str(tmp_path)], name="files")
    with server.connect(runtime) as tools:
        asked = model(tools)
        read = asked.value("read_text_file", path=str(tmp_path / "note.txt"))
        assert "remember the milk" in str(read)
        asked.value("write_file", path=str(tmp_path / "new.txt"), content="done")
        assert (tmp_path / "new.txt").read_text() == "done"
        error = asked.error("read_text_file", path="/etc/hostname")
        assert error.reason == "failed"
        assert "denied" in error.message.lower()
