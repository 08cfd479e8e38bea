"""The tools of a server that is well."""

import asyncio
import pickle
import time
from pathlib import Path

import pytest

import allm
from allm.testing.wires.script import Reply
from tests.mcp.support import Model, Tooled, little
from tests.runtime.support import eventually


def test_a_tool_is_as_the_server_describes_it(shared: allm.mcp.Connection) -> None:
    add = next(tool for tool in shared if tool.name == "add")
    assert add.description == "Add two numbers."
    assert add.schema["properties"]["a"]["type"] == "integer"
    assert set(add.schema["required"]) == {"a", "b"}
    assert shared[0] in shared.tools
    assert repr(shared) == f"<Connection to little: {len(shared)} tools>"


def test_text_comes_as_text(asks: Model) -> None:
    assert asks.value("echo", text="hällo") == "hällo"


def test_structured_content_is_the_value(asks: Model) -> None:
    assert asks.value("add", a=2, b=3) == {"sum": 5}


def test_what_is_neither_is_named_in_its_place(asks: Model) -> None:
    assert asks.value("picture") == "look:\n[image left out: image/png, 5 bytes; a model cannot be shown this one]"


def test_an_error_of_the_server_is_a_tool_error_in_its_words(asks: Model) -> None:
    error = asks.error("fail", message="no such city")
    assert (error.kind, error.reason, error.message) == ("tool", "failed", "no such city")


def test_a_name_and_an_argument_that_nobody_likes_are_no_obstacle(asks: Model) -> None:
    assert asks.value("odd_name_of_a_tool", self="but true") == "odd but true"


def test_arguments_against_the_schema_do_not_reach_the_server(asks: Model) -> None:
    assert asks.error("add", a="two", b=3).reason == "invalid_arguments"


def test_calls_of_one_step_run_side_by_side(asks: Model) -> None:
    began = time.monotonic()
    first, second, third = asks.calls(("slow", {"seconds": 1.0}), ("echo", {"text": "x"}), ("slow", {"seconds": 1.0}))
    assert (first.result, second.result, third.result) == ("done", "x", "done")
    assert time.monotonic() - began < 1.9


def test_a_chat_goes_on_with_the_result(asks: Model) -> None:
    asks.sim.reply(Reply(tool_calls=(("add", {"a": 1, "b": 2}),)), "It is 3.")
    result = allm.chat(asks.engine, "1 + 2?")
    assert result.text == "It is 3."
    assert result.thread.messages[-2].text == '{"sum":3}'


def test_tools_run_on_the_loop_of_who_awaits(asks: Model) -> None:
    async def main() -> str:
        asks.sim.reply(Reply(tool_calls=(("echo", {"text": "here"}),)), "Well.")
        return (await allm.aio.chat(asks.engine, "Go.")).thread.messages[-2].text

    assert asyncio.run(main()) == "here"


def test_a_connection_is_opened_and_closed_by_a_task_as_well(runtime: allm.Runtime, model: Tooled) -> None:
    async def main() -> list[str]:
        async with little(prefix="x_").connect(runtime) as tools:
            asked = model(tools)
            asked.sim.reply(Reply(tool_calls=(("x_echo", {"text": "here"}),)), "Well.")
            assert (await allm.aio.chat(asked.engine, "Go.", runtime=runtime)).text == "Well."
        with pytest.raises(allm.ToolError, match="not available"):
            async with allm.mcp.Server.stdio("false").connect(runtime, timeout=0.5):
                pass
        return [str(node["id"]) for node in runtime.tree()["children"]]

    assert asyncio.run(main())[-1] == "turns"


def test_secrets_are_in_no_error_and_no_repr(asks: Model, shared: allm.mcp.Connection) -> None:
    error = asks.error("fail", message="the password is sesame-4711, you know")
    assert error.message == "the password is ***, you know"
    server = allm.mcp.Server.http("https://me:sesame@example.org/mcp?key=sesame", headers={"Authorization": "Bearer sesame"})
    assert repr(server) == "<Server example.org: https://example.org/mcp>"
    assert "sesame" not in server.scrub("Bearer sesame, sesame")
    with pytest.raises(allm.EngineError, match="secrets"):
        pickle.dumps(server)
    assert pickle.loads(pickle.dumps(allm.mcp.Server.stdio("x", name="y"))).name == "y"
    assert "sesame" not in repr(allm.default_runtime().tree()) + repr(shared) + repr(shared.tools)


def test_a_server_gets_none_of_our_keys(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none-of-its-business")
    show = allm.mcp.Server.stdio("sh", ["-c", "env >&2; exit 1"], name="show")
    with pytest.raises(allm.ToolError) as caught, allm.Runtime() as runtime, show.connect(runtime, timeout=0.3):
        pass
    assert caught.value.reason == "unavailable"
    assert "exit code 1" in caught.value.message
    said = capfd.readouterr().err
    assert "PATH=" in said
    assert "sk-none" not in said


def test_a_call_that_takes_too_long_is_cancelled_at_the_server_too(tmp_path: Path, model: Tooled, runtime: allm.Runtime) -> None:
    log = tmp_path / "log"
    with little(log=log, timeout=0.5, max_result=1000).connect(runtime) as tools:
        bounded = model(tools)
        assert bounded.error("slow", seconds=30).reason == "timeout"
        eventually(lambda: "cancelled" in log.read_text(), "the server was told")
        assert bounded.error("big", size=2000).reason == "result_too_large"
        assert bounded.value("echo", text="still there") == "still there"


def test_a_stream_that_is_left_cancels_its_calls_at_the_server(tmp_path: Path, model: Tooled, runtime: allm.Runtime) -> None:
    log = tmp_path / "log"
    with little(log=log).connect(runtime) as tools:
        asked = model(tools)
        asked.sim.reply(Reply(tool_calls=(("slow", {"seconds": 30}),)))
        stream = allm.stream(asked.engine, "Go.", runtime=runtime)
        for event in stream:
            if isinstance(event, allm.ToolExecutionStarted):
                eventually(lambda: "slow" in log.read_text(), "the server has the call")
                break
        eventually(lambda: "cancelled" in log.read_text(), "the server was told")


def test_tools_that_come_later_are_seen(model: Tooled, runtime: allm.Runtime) -> None:
    with little(prefix="my_").connect(runtime) as tools:
        asked = model(tools)
        assert "my_late" not in [tool.name for tool in tools]
        assert asked.value("my_grow", name="late") == "grown"
        eventually(lambda: "my_late" in [tool.name for tool in tools], "the new tool is listed")
        assert asked.value("my_late") == asked.value("my_pid")


def test_two_of_the_same_name_are_two(runtime: allm.Runtime, model: Tooled) -> None:
    with little(prefix="a_").connect(runtime) as first, little(prefix="b_").connect(runtime) as second:
        asked = model([*first, *second])
        assert asked.value("a_pid") != asked.value("b_pid")
        assert [node["id"] for node in runtime.tree()["children"]][-2:] == ["mcp little", "mcp little 2"]
    assert [node["id"] for node in runtime.tree()["children"]][-1] == "turns"
    with pytest.raises(allm.EngineError, match="once"):
        first.open()
    assert asked.error("a_pid").message == "the MCP server little is not available: its connection was closed"


@pytest.mark.parametrize("given", [{"command": ""}, {"command": "x", "args": "one text"}, {"command": "x", "env": {"A": 1}}])
def test_a_wrong_server_is_refused_at_once(given: dict[str, object]) -> None:
    with pytest.raises(allm.ValidationError):
        allm.mcp.Server.stdio(**given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_wrong_url_is_refused_at_once() -> None:
    with pytest.raises(allm.ValidationError, match="url"):
        allm.mcp.Server.http("ftp://example.org")
