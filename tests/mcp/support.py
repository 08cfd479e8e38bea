"""What the tests of MCP share: the little server, calls of its tools by a simulated model, and a look at processes."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import allm
from allm.testing import Simulator
from allm.testing.wires.script import Reply

LITTLE = Path(__file__).with_name("little_server.py")


def little(*options: str, log: Path | None = None, **more: Any) -> allm.mcp.Server:
    """The little server, as a process."""
    env = {**more.pop("env", {}), **({"LITTLE_LOG": str(log)} if log is not None else {})}
    return allm.mcp.Server.stdio(sys.executable, [str(LITTLE), *options], name="little", env=env, **more)


class Model:
    """A simulated model that calls tools, and the engine that asks it."""

    def __init__(self, sim: Simulator, runtime: allm.Runtime | None, tools: Any) -> None:
        self.sim = sim
        self.runtime = runtime
        self.tools = tools

    @property
    def engine(self) -> allm.Engine:
        engine = allm.Engine("openai.chat:m", base_url=self.sim.base_url("chat"), retry=allm.Retry.none())
        return engine.put_tools(self.tools)

    def calls(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """What came of these calls, made in one step."""
        self.sim.reply(Reply(tool_calls=calls))
        return list(allm.step(self.engine, "Go.", runtime=self.runtime).tool_results)

    def call(self, name: str, /, **arguments: Any) -> Any:
        """What came of this one."""
        (result,) = self.calls((name, arguments))
        return result

    def value(self, name: str, /, **arguments: Any) -> Any:
        """Its value; it must not fail."""
        result = self.call(name, **arguments)
        assert result.error is None, result.error
        return result.result

    def error(self, name: str, /, **arguments: Any) -> allm.ErrorInfo:
        """Its error; it must fail."""
        result = self.call(name, **arguments)
        error: allm.ErrorInfo | None = result.error
        assert error is not None, result.result
        return error


Tooled = Callable[[Any], Model]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def children() -> dict[int, str]:
    """The processes that this one has started: id and command line."""
    found: dict[int, str] = {}
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            with suppress(OSError):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return found


def environment() -> dict[str, str]:
    """For a bot of the test's own."""
    return {**os.environ, "PYTHONPATH": str(LITTLE.parents[2])}
