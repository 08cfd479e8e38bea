"""Servers that are broken or hostile: what they say is bounded, told and mended, and never takes the place of something else."""

import base64
import json
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

import allm
from allm.limits import limits, set_limits
from allm.testing import Simulator
from allm.testing.wires.script import Reply
from tests.mcp.support import Tooled
from tests.runtime.support import eventually

SCRIPTED = Path(__file__).with_name("scripted_server.py")


def scripted(script: str = "", **more: Any) -> allm.mcp.Server:
    fields: dict[str, Any] = {"name": "odd", "timeout": 20, **more}
    return allm.mcp.Server.stdio(sys.executable, [str(SCRIPTED), script], **fields)


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    before = limits()
    yield
    set_limits(before)


# what it prints

PRINTS = {
    "latin-1": rb"gr\xfc\xdfe aus dem log\n",
    "half a character": rb"\xe2\x82\n",
    "no JSON": rb"starting up...\n{single: 1}\n",
    "control characters": rb"\x1b[2J\x00\x07\n",
    "nothing": rb"\n\r\n   \n",
    "JSON that is no message": rb"[1, 2]\n{\"jsonrpc\": \"1.0\"}\n{\"id\": 77, \"result\": 1}\n17\nnull\n",
    "a number that is none": rb"{\"jsonrpc\": \"2.0\", \"id\": NaN}\n",
    "an answer to nobody": rb"{\"jsonrpc\": \"2.0\", \"id\": 4711, \"result\": {}}\n",
}


@pytest.mark.parametrize("what", PRINTS)
def test_what_a_server_prints_beside_its_messages_is_left_out(what: str, model: Tooled, runtime: allm.Runtime) -> None:
    line = PRINTS[what].decode()
    script = f"put(b'{line}')\ndef called(id, arguments):\n    put(b'{line}')\n    text(id, 'done')\n    put(b'{line}')"
    with capture_logs() as logs, scripted(script).connect(runtime) as tools:
        asked = model(tools)
        assert [asked.value("go") for _ in range(3)] == ["done"] * 3
    told = [entry for entry in logs if entry["event"] == "mcp_line_ignored"]
    assert bool(told) == (what not in ("nothing", "an answer to nobody"))
    assert len(told) <= 10
    assert all(entry["server"] == "odd" and "\x1b" not in entry["line"] for entry in told)


def test_a_text_with_bytes_that_are_no_utf8_comes_with_marks_in_their_place(model: Tooled, runtime: allm.Runtime) -> None:
    script = r"""
def called(id, arguments):
    put(b'{"jsonrpc": "2.0", "id": %d, "result": {"content": [{"type": "text", "text": "caf\xe9"}]}}\n' % id)
"""
    with scripted(script).connect(runtime) as tools:
        assert model(tools).value("go") == "caf\ufffd"


@pytest.mark.parametrize(
    "answer",
    [
        r'{"jsonrpc": "2.0", "id": %d, "result": {"content": [oops]}}',
        r'{"result": {"content": [}, "jsonrpc": "2.0", "id": %d}',
        r'{"jsonrpc": "2.0", "id": %d, "result": "no object"}',
    ],
)
def test_an_answer_that_cannot_be_read_is_the_error_of_its_call(answer: str, model: Tooled, runtime: allm.Runtime) -> None:
    with scripted(f"def called(id, arguments): put(b'{answer}' % id + bytes([10]))").connect(runtime) as tools:
        error = model(tools).error("go")
    assert (error.reason, error.message) == ("failed", "the server has answered with a line that is no message")


@pytest.mark.parametrize("last", ["id", "result"])
def test_an_answer_beyond_the_bound_is_the_error_of_its_call(last: str, model: Tooled, runtime: allm.Runtime) -> None:
    allm.configure(limits=allm.Limits(frame=100_000))
    script = f"""
def called(id, arguments):
    result = {{"content": [{{"type": "text", "text": "x" * arguments["size"]}}]}}
    say({{"result": result, "id": id}} if {last!r} == "id" else {{"id": id, "result": result}})
"""
    with scripted(script).connect(runtime) as tools:
        asked = model(tools)
        assert asked.error("go", size=2_000_000).message == "the server has answered with a message larger than 100000 bytes"
        assert asked.value("go", size=90_000) == "x" * 90_000


def test_a_line_without_end_that_is_nobodys_answer_ends_the_session_and_not_the_memory(model: Tooled, runtime: allm.Runtime) -> None:
    allm.configure(limits=allm.Limits(frame=100_000))
    with scripted("def called(id, arguments):\n    put(b'x' * 5_000_000 + bytes([10]))").connect(runtime) as tools:
        assert model(tools).error("go").reason == "connection_lost"
        eventually(lambda: "larger than" in str(runtime.tree()) or model(tools).error("go").reason == "connection_lost", "it is back", 40)


# what it offers


def test_tools_beyond_the_bound_are_left_out_and_told(runtime: allm.Runtime) -> None:
    allm.configure(limits=allm.Limits(tools=20, schema=1000))
    script = """
tools = [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(30)]
tools.insert(3, {"name": "large", "inputSchema": {"type": "object", "description": "x" * 2000}})
tools.insert(4, {"name": "wordy", "description": "x" * 2000, "inputSchema": {"type": "object"}})
deep = {"type": "object"}
for _ in range(40): deep = {"type": "object", "properties": {"a": deep}}
tools.insert(5, {"name": "deep", "inputSchema": deep})
tools.insert(6, {"name": "task", "inputSchema": {"type": "object"}, "execution": {"taskSupport": "required"}})
"""
    with capture_logs() as logs, scripted(script).connect(runtime) as tools:
        assert [tool.name for tool in tools] == [f"t{n}" for n in range(20)]
    left = {entry["tool"].strip("'"): entry["why"] for entry in logs if entry["event"] == "mcp_tool_left_out"}
    assert {"large", "wordy", "deep", "task", "t20", "t29"} <= set(left)
    assert "task" in left["task"]


def test_a_list_without_end_ends(runtime: allm.Runtime) -> None:
    allm.configure(limits=allm.Limits(tools=5))
    script = """
def on(method, message):
    if method == "tools/list":
        names = [message.get("params", {}).get("cursor", "c") + str(n) for n in range(3)]
        found = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        say({"id": message["id"], "result": {"tools": found, "nextCursor": names[-1]}})
        return True
"""
    with scripted(script).connect(runtime) as tools:
        assert len(tools) == 5


def test_a_server_that_always_says_that_its_tools_have_changed_is_not_asked_without_end(model: Tooled, runtime: allm.Runtime) -> None:
    script = """
lists = []
def on(method, message):
    if method == "tools/list":
        lists.append(1)
        say({"id": message["id"], "result": {"tools": tools}})
        for _ in range(3): say({"method": "notifications/tools/list_changed"})
        return True
def called(id, arguments): text(id, str(len(lists)))
"""
    with scripted(script).connect(runtime) as tools:
        asked = model(tools)
        eventually(lambda: int(asked.value("go")) >= 3, "the list was told again")
        before = int(asked.value("go"))
        assert int(asked.value("go")) - before < 20


def test_a_schema_of_results_that_cannot_be_checked_in_time_is_not_checked(model: Tooled, runtime: allm.Runtime) -> None:
    script = """
slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
tools = [{"name": "go", "inputSchema": {"type": "object"}, "outputSchema": slow}]
def called(id, arguments):
    say({"id": id, "result": {"content": [], "structuredContent": {"a": "a" * 40 + "b"}}})
"""
    with scripted(script).connect(runtime) as tools:
        assert model(tools).value("go") == {"a": "a" * 40 + "b"}


def own() -> str:
    """Of the user's own."""
    return "own"


def test_a_tool_with_the_name_of_another_one_is_refused_and_not_put_in_its_place(runtime: allm.Runtime) -> None:
    mine = allm.Tool(name="go", handler=own)
    engine = allm.Engine("fake:any", tools=[mine])
    with scripted().connect(runtime) as first, scripted(name="other").connect(runtime) as second:
        for own_tools, theirs in (([mine], [*first]), ([], [*first, *second])):
            with pytest.raises(allm.ValidationError, match="prefix") as caught:
                allm.Engine("fake:any", tools=own_tools).put_tools(theirs)
            assert caught.value.metadata == {"path": "tools.go"}
        with pytest.raises(allm.ValidationError, match="the MCP server other"):
            allm.Engine("fake:any").put_tools(first).put_tools(second)
        with pytest.raises(allm.ValidationError, match="prefix"):
            allm.chat(engine, "Go.", tools=list(first), runtime=runtime)
        assert engine.tools == (mine,)
        again = allm.Engine("fake:any").put_tools(first).put_tools(first)
        assert [tool.name for tool in again.tools] == ["go"]
        assert again.put_tools([mine]).tools == (mine,)  # what the user puts there is what he wants
    with scripted(prefix="x_").connect(runtime) as third:
        assert [tool.name for tool in engine.put_tools(third).tools] == ["go", "x_go"]
    with scripted().connect(runtime) as anew:
        assert [tool.name for tool in again.put_tools(anew).tools] == ["go"]


# what it asks for


@pytest.mark.parametrize(
    ("method", "need"), [("sampling/createMessage", "sampling"), ("elicitation/create", "elicitation"), ("roots/list", "roots")]
)
def test_a_tool_that_asks_for_what_is_not_offered_says_so(method: str, need: str, model: Tooled, runtime: allm.Runtime) -> None:
    every: dict[str, Any] = {
        "sampling": {"messages": [], "maxTokens": 10},
        "elicitation": {"mode": "form", "message": "who?", "requestedSchema": {"type": "object", "properties": {}}},
        "roots": {},
    }
    params = every[need]
    script = f"""
def called(id, arguments):
    say({{"id": "ask", "method": {method!r}, "params": {params!r}}})
    script_id.append(id)
script_id = []
def on(method, message):
    if message.get("id") == "ask":
        say({{"id": script_id[-1], "error": message["error"]}})
        return True
"""
    with scripted(script).connect(runtime) as tools:
        assert model(tools).error("go").message == f"go asks its client for {need}, which is not offered here"


# silence


@pytest.mark.parametrize("method", ["initialize", "tools/list"])
def test_a_server_that_does_not_answer_at_its_start_is_told(method: str, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allm.mcp.session._START", 1.0)
    server = scripted(f"def on(method, message): return method in ({method!r}, 'server/discover')")
    with pytest.raises(allm.ToolError, match="did not tell its tools within 1 seconds") as caught, server.connect(runtime, timeout=3):
        pass
    assert caught.value.reason == "unavailable"


def test_a_server_that_answers_nothing_any_more_is_started_again(
    model: Tooled, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("allm.mcp.session._PING", 0.5)
    script = f"""
path = {str(tmp_path / "starts")!r}
open(path, "a").write("x")
deaf = []
def called(id, arguments):
    if len(open(path).read()) == 1: deaf.append(1)
    else: text(id, "well again")
def on(method, message): return bool(deaf)
"""
    with scripted(script, timeout=0.5).connect(runtime) as tools:
        asked = model(tools)
        assert asked.error("go").reason == "timeout"
        eventually(lambda: asked.call("go").result == "well again", "it was started again", 40)


def test_a_server_that_is_only_slow_is_not(model: Tooled, runtime: allm.Runtime) -> None:
    script = """
def called(id, arguments):
    if arguments.get("answer"): text(id, str(os.getpid()))
"""
    with scripted(script, timeout=0.5).connect(runtime) as tools:
        asked = model(tools)
        pid = asked.value("go", answer=True)
        assert asked.error("go").reason == "timeout"
        assert asked.value("go", answer=True) == pid


# images

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")


def picturing(*blocks: dict[str, Any], structured: Any = None) -> str:
    result = {"content": list(blocks), **({"structuredContent": structured} if structured is not None else {})}
    return f"def called(id, arguments): say({{'id': id, 'result': json.loads({json.dumps(json.dumps(result))})}})"


def image(data: bytes | str, mime: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "data": base64.b64encode(data).decode() if isinstance(data, bytes) else data, "mimeType": mime}


LOOK = {"type": "text", "text": "look:"}


@pytest.mark.parametrize(
    ("wire", "name"), [("chat", "openai.chat"), ("responses", "openai.responses"), ("messages", "anthropic"), ("gemini", "gemini")]
)
def test_an_image_of_a_tool_is_seen_by_the_model(wire: str, name: str, runtime: allm.Runtime) -> None:
    with scripted(picturing(LOOK, image(PNG, "image/jpeg"))).connect(runtime) as tools, Simulator(wires=(wire,)) as sim:
        sim.reply(Reply(tool_calls=(("go", {}),)), "A pixel.")
        keys = dict.fromkeys(("openai", "anthropic", "gemini"), "k")
        engine = allm.Engine(f"{name}:m", base_url=sim.base_url(wire), keys=keys, tools=tools)
        result = allm.chat(engine, "Go.", runtime=runtime, max_tokens=100)
    assert result.text == "A pixel."
    (answer,) = [message for message in result.thread.messages if message.role == "tool"]
    assert answer.text == f"look:\n[image 1: image/png, {len(PNG)} bytes]"
    assert [part.image for part in answer.parts if isinstance(part, allm.ImagePart)] == [allm.Image(data=PNG)]
    assert allm.from_json(allm.to_json(result), allm.ChatResult) == result
    sent = json.dumps(sim.requests[1].body)
    assert base64.b64encode(PNG).decode() in sent
    assert "image/png" in sent


def test_structured_content_with_an_image_keeps_both(model: Tooled, runtime: allm.Runtime) -> None:
    with scripted(picturing(LOOK, image(PNG), structured={"n": 1})).connect(runtime) as tools:
        value = model(tools).value("go")
    assert value == {"structuredContent": {"n": 1}, "content": [f"[image 1: image/png, {len(PNG)} bytes]"]}


@pytest.mark.parametrize("data", ["no base64!", b"hello", b"BM" + b"x" * 50, b"", PNG])
def test_an_image_that_no_wire_would_take_is_a_note(data: bytes | str, model: Tooled, runtime: allm.Runtime) -> None:
    script = picturing(LOOK, image(data))
    if data == PNG:
        script = (
            script.replace("json.loads(", "large(json.loads(").replace(")})", "))})")
            + """
def large(result):
    result["content"][1]["data"] = "iVBORw0KGgoA" + "A" * 6_000_000
    return result
"""
        )
    with scripted(script).connect(runtime) as tools:
        asked = model(tools)
        asked.sim.reply(Reply(tool_calls=(("go", {}),)), "Well.")
        result = allm.chat(asked.engine, "Go.", runtime=runtime)
    (answer,) = [message for message in result.thread.messages if message.role == "tool"]
    assert isinstance(answer.content, str)
    assert answer.content.startswith("look:\n[image left out: image/png, ")


# sessions over HTTP


class Forgetful(BaseHTTPRequestHandler):
    """A server of sessions that forgets them when a test says so, and then gives `answer` to whoever has one of those."""

    protocol_version = "HTTP/1.1"
    sessions: ClassVar[set[str]] = set()
    answer: ClassVar[tuple[int, Any]] = (404, None)
    only: ClassVar[frozenset[str]] = frozenset()
    """Methods that are answered so in a session that is known."""
    called: ClassVar[int] = 0
    begun: ClassVar[int] = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: Any, session: str = "") -> None:
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("content-length", str(len(data)))
        if session:
            self.send_header("mcp-session-id", session)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._send(405, None)

    def do_DELETE(self) -> None:
        self._send(200, None)

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        id, method = message.get("id"), message.get("method", "")
        cls = type(self)
        if method == "initialize":
            cls.begun += 1
            cls.sessions.add(session := uuid.uuid4().hex)
            version = message["params"]["protocolVersion"]
            result: Any = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}
            return self._send(200, {"jsonrpc": "2.0", "id": id, "result": result}, session)
        if self.headers.get("mcp-session-id") not in cls.sessions or method in cls.only:
            status, body = cls.answer
            return self._send(status, {**body, "id": id} if isinstance(body, dict) and status == 200 else body)
        if id is None:
            return self._send(202, None)
        if method == "tools/call":
            cls.called += 1
        result = {
            "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "hi"}]},
        }.get(method)
        error = {"code": -32601, "message": "Method not found"}
        return self._send(200, {"jsonrpc": "2.0", "id": id, **({"error": error} if result is None else {"result": result})})


@pytest.fixture
def forgetful() -> Iterator[tuple[type[Forgetful], str]]:
    handler = type("Handler", (Forgetful,), {"sessions": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/mcp"
    server.shutdown()
    thread.join()
    server.server_close()


def rpc(message: str, code: int = -32000, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, **more}


FORGOTTEN: dict[str, tuple[int, Any]] = {
    "the specification's": (404, None),
    "a page": (404, "<html>Not here</html>"),
    "400 without an id": (400, rpc("Bad Request: No valid session ID provided")),
    "400 with null for an id": (400, rpc("Bad Request: Server not initialized", id=None)),
    "400 in plain text": (400, "Invalid or missing session ID"),
    "400 without a word": (400, None),
    "401": (401, {"message": "Unauthorized: Session not found"}),
    "403 in other words": (403, {"detail": "unknown client"}),
    "410": (410, "gone"),
    "422": (422, {"error": {"message": "bad mcp-session-id"}}),
    "500": (500, {"error": "no such session"}),
    "503": (503, {"error": "unknown session"}),
    "an error of JSON-RPC": (200, rpc("Session expired", -32001)),
    "another one": (200, rpc("Invalid session", -32603)),
    "and another": (200, rpc("Server not initialized", -32002)),
    "before it was begun": (200, rpc("Received request before initialization was complete", -32602)),
    "no transport": (200, rpc("No transport found", -32000)),
}


@pytest.mark.parametrize("words", FORGOTTEN)
def test_a_session_that_is_forgotten_is_opened_anew_and_the_call_made_again(
    words: str, forgetful: tuple[type[Forgetful], str], model: Tooled, runtime: allm.Runtime
) -> None:
    handler, url = forgetful
    handler.answer = FORGOTTEN[words]
    with allm.mcp.Server.http(url, name="far", timeout=30).connect(runtime) as tools:
        asked = model(tools)
        assert asked.value("echo") == "hi"
        handler.sessions.clear()
        assert [asked.value("echo") for _ in range(3)] == ["hi"] * 3
    assert (handler.begun, handler.called) == (2, 4)


@pytest.mark.parametrize(
    "answer",
    [
        (400, rpc("no such session of the browser")),
        (403, {"message": "not you"}),
        (429, "slower"),
        (500, "oops"),
        (200, rpc("your session with the shop has expired")),
    ],
)
def test_an_error_of_one_call_in_a_session_that_is_known_is_that_calls_error(
    answer: tuple[int, Any], forgetful: tuple[type[Forgetful], str], model: Tooled, runtime: allm.Runtime
) -> None:
    handler, url = forgetful
    with allm.mcp.Server.http(url, name="far", timeout=30).connect(runtime) as tools:
        asked = model(tools)
        handler.answer, handler.only = answer, frozenset({"tools/call"})
        words = answer[1] if isinstance(answer[1], str) else answer[1].get("message") or answer[1]["error"]["message"]
        error = asked.error("echo")
        assert (error.reason, error.message) == ("failed", words)
        handler.only = frozenset()
        assert asked.value("echo") == "hi"
    assert handler.begun == 1


def test_a_call_that_a_gateway_lost_with_its_session_is_not_made_again(
    forgetful: tuple[type[Forgetful], str], model: Tooled, runtime: allm.Runtime
) -> None:
    handler, url = forgetful
    handler.answer = (502, "bad gateway")
    with allm.mcp.Server.http(url, name="far", timeout=30).connect(runtime) as tools:
        asked = model(tools)
        handler.sessions.clear()
        assert asked.error("echo").reason == "connection_lost"
        assert asked.value("echo") == "hi"
    assert handler.called == 1


def test_a_body_beyond_the_bound_is_the_error_of_its_call(
    forgetful: tuple[type[Forgetful], str], model: Tooled, runtime: allm.Runtime
) -> None:
    handler, url = forgetful
    with allm.mcp.Server.http(url, name="far", timeout=30).connect(runtime) as tools:
        allm.configure(limits=allm.Limits(frame=100_000))
        asked = model(tools)
        handler.answer, handler.only = (
            (200, {"jsonrpc": "2.0", "result": {"content": [{"type": "text", "text": "x" * 1_000_000}]}}),
            frozenset({"tools/call"}),
        )
        assert "larger than 100000 bytes" in asked.error("echo").message
        handler.only = frozenset()
        assert asked.value("echo") == "hi"
