"""The simulator over real HTTP: what it says, how it fails, and that it leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from allm.testing.simulator import Fault, Reply, SimRequest, Simulator
from allm.testing.wires import WIRES
from allm.testing.wires.contract import Ask
from allm.testing.wires.plan import plan_answer

PATH = "/v1/chat/completions"
TIMEOUT = 10.0


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


class Client:
    """One keep-alive connection."""

    def __init__(self, sim: Simulator) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", int(sim.url.rpartition(":")[2]), timeout=TIMEOUT)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.http.close()

    def send(self, text: str = "Hi", **fields: Any) -> http.client.HTTPResponse:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
        self.http.request("POST", PATH, json.dumps(body), {"Authorization": "Bearer secret"})
        return self.http.getresponse()

    def text(self, text: str = "Hi", **fields: Any) -> str:
        answer = json.loads(self.send(text, **fields).read())
        return str(answer["choices"][0]["message"]["content"])

    def stream(self, text: str = "Hi", **fields: Any) -> bytes:
        return self.send(text, stream=True, **fields).read()


def ask(sim: Simulator, text: str = "Hi", **fields: Any) -> str:
    with Client(sim) as client:
        return client.text(text, **fields)


def stream(sim: Simulator, text: str = "Hi", **fields: Any) -> bytes:
    with Client(sim) as client:
        return client.stream(text, **fields)


def data_lines(body: bytes) -> list[str]:
    return [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: ")]


def chunks(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data_lines(body) if line != "[DONE]"]


def deltas(body: bytes) -> list[dict[str, Any]]:
    found = [chunk["choices"][0]["delta"] for chunk in chunks(body) if chunk.get("choices")]
    return [delta for delta in found[1:] if delta]


def streamed_text(body: bytes) -> str:
    return "".join(delta.get("content") or "" for delta in deltas(body))


def outcomes(sim: Simulator) -> list[str]:
    return [request.outcome for request in sim.requests]


# Replies


def test_replies_are_given_in_the_order_they_were_queued(sim: Simulator) -> None:
    sim.reply("one", Reply(text="two"))
    assert [ask(sim), ask(sim)] == ["one", "two"]


def test_with_nothing_queued_it_says_back_what_the_user_said(sim: Simulator) -> None:
    assert "green ideas" in ask(sim, "green ideas")
    assert streamed_text(stream(sim, "green ideas")) == ask(sim, "green ideas")


def test_the_default_reply_can_be_chosen() -> None:
    with Simulator(default="always this") as sim:
        assert [ask(sim), ask(sim)] == ["always this", "always this"]
    with Simulator(default=Reply(delay=0.01)) as sim:
        assert "green" in ask(sim, "green")


def test_a_user_message_in_parts_is_heard(sim: Simulator) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    stream(sim, messages=[{"role": "user", "content": parts}])
    assert sim.requests[0].text == "look"


def test_a_stream_opens_with_the_role_and_ends_with_finish_and_done(sim: Simulator) -> None:
    sim.reply("Hello, dear world.")
    body = stream(sim)
    assert chunks(body)[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [delta["content"] for delta in deltas(body)] == ["Hello,", " dear", " world."]
    assert chunks(body)[-1]["choices"][0]["finish_reason"] == "stop"
    assert data_lines(body)[-1] == "[DONE]"


def test_usage_is_streamed_only_when_asked_for(sim: Simulator) -> None:
    sim.reply(Reply(text="a b", input_tokens=7), Reply(text="a b", output_tokens=40))
    told = chunks(stream(sim, stream_options={"include_usage": True}))
    assert told[-1]["choices"] == []
    assert (told[-1]["usage"]["prompt_tokens"], told[-1]["usage"]["completion_tokens"]) == (7, 2)
    assert all("usage" not in chunk for chunk in chunks(stream(sim)))


@pytest.mark.parametrize(
    ("pieces", "cut"),
    [
        (None, ["ab", " cd", " ef"]),
        (2, ["ab c", "d ef"]),
        (100, list("ab cd ef")),
        (("ab cd", " ef"), ["ab cd", " ef"]),
    ],
)
def test_the_text_is_cut_as_told(sim: Simulator, pieces: int | tuple[str, ...] | None, cut: list[str]) -> None:
    sim.reply(Reply(text="ab cd ef", pieces=pieces))
    assert [delta["content"] for delta in deltas(stream(sim))] == cut


def test_pieces_that_are_not_the_text_are_refused() -> None:
    assert Reply(pieces=("a", "b")).text == "ab"
    with pytest.raises(ValueError, match="pieces"):
        Reply(text="a", pieces=("b",))
    with pytest.raises(ValueError, match="pieces"):
        Reply(text="a", pieces=0)


def test_tool_calls_come_with_numbered_ids_and_arguments_in_halves(sim: Simulator) -> None:
    sim.reply(Reply(tool_calls=(("weather", {"city": "Oslo"}), ("clock", {}))))
    body = stream(sim, tools=[])
    parts = [delta["tool_calls"][0] for delta in deltas(body)]
    assert [part["index"] for part in parts] == [0, 0, 0, 1, 1, 1]
    assert [part["id"] for part in parts if "id" in part] == ["call_1", "call_2"]
    assert "".join(part["function"]["arguments"] for part in parts[:3]) == '{"city":"Oslo"}'
    assert chunks(body)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_call_ids_are_counted_on_from_the_thread(sim: Simulator) -> None:
    sim.reply(Reply(tool_calls=(("clock", {}),)))
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}, {"id": "call_2"}]}
    with Client(sim) as client:
        answer = json.loads(client.send(messages=[called]).read())
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["id"] == "call_3"


def test_reasoning_and_refusal_are_fields_of_their_own(sim: Simulator) -> None:
    sim.reply(*[Reply(reasoning="well then", refusal="I will not", finish="content_filter")] * 2)
    body = stream(sim)
    assert [next(iter(delta)) for delta in deltas(body)] == ["reasoning_content"] * 2 + ["refusal"] * 3
    with Client(sim) as client:
        choice = json.loads(client.send().read())["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"] == "I will not"
    assert choice["message"]["reasoning_content"] == "well then"


def test_delay_spaces_the_deltas(sim: Simulator) -> None:
    sim.reply(*[Reply(text="a b c d", delay=0.03)] * 2)
    for call in (stream, ask):
        began = time.monotonic()
        call(sim)
        assert time.monotonic() - began >= 0.09


def test_a_responder_decides_before_the_queues(sim: Simulator) -> None:
    def respond(request: SimRequest) -> Reply | str | Fault | None:
        if request.text == "fail" and request.attempt == 1:
            return Fault(status=503)
        told: dict[str, Reply | str] = {"a": "for a", "b": Reply(text="for b")}
        return told.get(request.text)

    sim.reply("queued")
    sim.respond(respond)
    assert [ask(sim, "b"), ask(sim, "a"), ask(sim, "c")] == ["for b", "for a", "queued"]
    with Client(sim) as client:
        assert client.send("fail").read()
        assert client.send("fail").status == 200
    sim.respond(None)
    assert "for a" not in ask(sim, "a")


def test_a_responder_that_raises_or_returns_nonsense_shows_at_once(sim: Simulator) -> None:
    def confused(request: SimRequest) -> Any:
        return 3 if request.text == "three" else 1 / 0

    sim.respond(confused)
    for text, told in (("three", "returned 3"), ("other", "ZeroDivisionError")):
        with Client(sim) as client:
            response = client.send(text)
            assert response.status == 400
            assert told in json.loads(response.read())["error"]["message"]


# What it saw


def test_requests_are_told_with_secrets_struck_out(sim: Simulator) -> None:
    with Client(sim) as client:
        headers = {"Authorization": "Bearer secret", "X-Api-Key": "secret", "X-Mine": "1"}
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        client.http.request("POST", PATH + "?key=secret&alt=sse", json.dumps(body), headers)
        client.http.getresponse().read()
    (request,) = sim.requests
    assert "secret" not in repr(request)
    assert (request.headers["authorization"], request.headers["x-mine"]) == ("***", "1")
    assert request.path == PATH + "?key=***&alt=sse"
    assert (request.wire, request.model, request.stream, request.text) == ("chat", "m", False, "Hi")
    assert (request.number, request.attempt, request.outcome, request.body) == (1, 1, "complete", body)


def test_attempts_count_up_to_a_complete_answer(sim: Simulator) -> None:
    sim.fault(Fault(status=500), times=2)
    with Client(sim) as client:
        for _ in range(4):
            client.send().read()
        client.send("other").read()
    assert [request.attempt for request in sim.requests] == [1, 2, 3, 1, 1]
    assert outcomes(sim) == ["fault", "fault", "complete", "complete", "complete"]


def test_reset_forgets_queues_and_requests(sim: Simulator) -> None:
    sim.reply("queued")
    sim.fault(Fault(status=500))
    with Client(sim) as client:
        client.send().read()
    sim.fault(Fault(status=500))
    sim.reset()
    assert sim.requests == ()
    assert "fresh" in ask(sim, "fresh")


def test_a_client_that_leaves_mid_stream_is_noticed_at_once(sim: Simulator) -> None:
    sim.reply(Reply(text="a b c", delay=60.0))
    client = Client(sim)
    response = client.send(stream=True)
    response.read(10)
    assert sim.active_requests == 1
    assert not sim.wait_idle(timeout=0.0)
    response.close()
    client.http.close()
    assert sim.wait_idle()
    assert sim.wait_closed()
    assert outcomes(sim) == ["client closed"]


def test_a_client_that_leaves_between_two_writes_is_noticed() -> None:
    """Whatever the server meets first: that there is nothing more to read, or that it cannot write."""
    with Simulator(default=Reply(pieces=tuple(f"{number}:".ljust(100_000, ".") for number in range(100)))) as sim:
        for number in range(200):
            with socket.create_connection(("127.0.0.1", int(sim.url.rpartition(":")[2])), timeout=TIMEOUT) as raw:
                raw.sendall(request_bytes())
                for _ in range(number % 40):
                    raw.recv(65_536)
        assert sim.wait_idle(TIMEOUT)
        assert set(outcomes(sim)) == {"client closed"}


def test_a_client_that_vanishes_before_the_answer_is_noticed(sim: Simulator) -> None:
    sim.fault(Fault(slow_first_byte=60.0))
    sim.reply("for the retry")
    with socket.create_connection(("127.0.0.1", int(sim.url.rpartition(":")[2])), timeout=TIMEOUT) as raw:
        raw.sendall(request_bytes())
        assert sim.wait_requests(1)
    assert sim.wait_closed()
    assert outcomes(sim) == ["client closed"]
    assert ask(sim) == "for the retry"


def test_a_client_that_vanishes_within_its_request_leaves_no_trace(sim: Simulator) -> None:
    with socket.create_connection(("127.0.0.1", int(sim.url.rpartition(":")[2])), timeout=TIMEOUT) as raw:
        raw.sendall(request_bytes() + request_bytes()[:-5])
        assert sim.wait_requests(1)
    assert sim.wait_closed()
    assert len(sim.requests) == 1


# Faults


@pytest.mark.parametrize("streamed", [False, True])
def test_a_status_is_answered_with_the_wires_error_and_leaves_the_reply(sim: Simulator, streamed: bool) -> None:
    sim.reply("for the retry")
    sim.fault(Fault(status=429, retry_after=1.5, message="slow down", code="insufficient_quota"))
    with Client(sim) as client:
        response = client.send(stream=streamed)
        error = json.loads(response.read())["error"]
        assert (response.status, response.getheader("retry-after")) == (429, "1.5")
        assert response.getheader("content-type") == "application/json"
        assert (error["message"], error["code"]) == ("slow down", "insufficient_quota")
        assert client.text() == "for the retry"
    assert sim.requests[0].fault is not None


def test_an_unusual_status_is_fine(sim: Simulator) -> None:
    sim.fault(Fault(status=529))
    with Client(sim) as client:
        response = client.send()
        assert response.status == 529
        assert json.loads(response.read())["error"]["type"] == "server_error"


@pytest.mark.parametrize("streamed", [False, True])
def test_cut_after_counts_bytes_of_the_body(sim: Simulator, streamed: bool) -> None:
    sim.reply("for the retry")
    whole = stream(sim) if streamed else b""
    sim.reset()
    sim.reply("for the retry")
    sim.fault(Fault(cut_after=20))
    with Client(sim) as client, pytest.raises(http.client.IncompleteRead) as cut:
        client.send(stream=streamed).read()
    assert len(cut.value.partial) == 20
    assert whole[:20] in (b"", cut.value.partial)
    assert outcomes(sim) == ["fault"]
    assert ask(sim) == "for the retry"


def test_a_cut_beyond_the_body_leaves_the_answer_complete(sim: Simulator) -> None:
    sim.fault(Fault(cut_after=1_000_000))
    assert data_lines(stream(sim))[-1] == "[DONE]"
    assert outcomes(sim) == ["complete"]


def test_every_cut_sends_exactly_so_many_bytes_of_the_same_body() -> None:
    reply, asked = Reply(text="one two"), Ask(model="m", stream=True)

    def body(fault: Fault | None) -> tuple[bytes, bool]:
        plan = plan_answer(WIRES["chat"], asked, reply, fault, 1)
        return b"".join(piece.data for piece in plan.pieces), plan.complete

    whole, _ = body(None)
    for count in range(len(whole) + 2):
        assert body(Fault(cut_after=count)) == (whole[:count], count >= len(whole))


def test_a_reset_arrives_as_a_reset(sim: Simulator) -> None:
    sim.fault(Fault(cut_after=20, reset=True), Fault(reset=True))
    with Client(sim) as client:
        response = client.send(stream=True)
        with pytest.raises(ConnectionResetError):
            response.read()
    with Client(sim) as client, pytest.raises(ConnectionResetError):
        client.send()
    assert outcomes(sim) == ["fault", "fault"]


def test_refuse_closes_without_a_byte(sim: Simulator) -> None:
    sim.fault(Fault(refuse=True))
    with Client(sim) as client, pytest.raises(http.client.RemoteDisconnected):
        client.send()
    assert outcomes(sim) == ["fault"]


def test_end_after_ends_the_body_properly_without_the_end_marker(sim: Simulator) -> None:
    sim.reply("one two three")
    sim.fault(Fault(end_after=2), Fault(end_after=2), Fault(end_after=0))
    with Client(sim) as client:
        assert streamed_text(client.stream()) == "one two"
        assert b"[DONE]" not in client.stream()
        assert len(chunks(client.stream())) == 1
        assert streamed_text(client.stream()) == "one two three"
    assert outcomes(sim) == ["fault", "fault", "fault", "complete"]


def test_stall_after_goes_silent_until_the_client_leaves(sim: Simulator) -> None:
    sim.reply("one two three")
    sim.fault(Fault(stall_after=1))
    with Client(sim) as client:
        client.http.connect()
        client.http.sock.settimeout(0.2)
        response = client.send(stream=True)
        assert streamed_text(response.read1() + response.read1()) == "one"
        with pytest.raises(TimeoutError):
            response.read1()
        assert sim.active_requests == 1
    response.close()
    assert sim.wait_idle()
    assert outcomes(sim) == ["client closed"]
    assert ask(sim) == "one two three"


def test_a_stall_with_pings_says_nothing_but_keeps_talking(sim: Simulator) -> None:
    sim.reply("one two three")
    sim.fault(Fault(stall_after=1, pings=True, ping_interval=0.01))
    with Client(sim) as client:
        response = client.send(stream=True)
        got = b""
        while got.count(b": keep-alive") < 3:
            got += response.read1()
        response.close()
    assert streamed_text(got) == "one"
    assert sim.wait_closed()


def test_a_stalled_json_answer_pings_with_blank_lines(sim: Simulator) -> None:
    sim.fault(Fault(stall_after=0, pings=True, ping_interval=0.01), Fault(stall_after=1))
    with Client(sim) as client:
        response = client.send()
        assert response.read(3) == b"\n\n\n"
        response.close()
    with Client(sim) as client:
        response = client.send()
        assert response.read1(1) == b"{"
        response.close()
    assert sim.wait_closed()


def test_malformed_after_sends_a_line_that_is_no_json_and_goes_on(sim: Simulator) -> None:
    sim.fault(Fault(malformed_after=1))
    sim.reply("one two")
    lines = data_lines(stream(sim))
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[2])
    assert json.loads(lines[3])["choices"][0]["delta"]["content"] == " two"
    assert lines[-1] == "[DONE]"
    assert ask(sim) == "one two"


def test_error_after_sends_the_wires_error_in_the_stream(sim: Simulator) -> None:
    sim.fault(Fault(error_after=1, message="overheated"))
    sim.reply("one two")
    with Client(sim) as client:
        response = client.send(stream=True)
        assert response.status == 200
        body = response.read()
    assert streamed_text(body) == "one"
    assert chunks(body)[-1]["error"]["message"] == "overheated"
    assert b"[DONE]" not in body
    assert ask(sim) == "one two"


def test_faults_of_deltas_have_their_like_in_a_json_body(sim: Simulator) -> None:
    sim.fault(Fault(end_after=1), Fault(malformed_after=1), Fault(error_after=1, message="overheated"))
    with Client(sim) as client:
        for _ in range(2):
            body = client.send().read()
            assert body.startswith(b"{")
            with pytest.raises(json.JSONDecodeError):
                json.loads(body)
        assert json.loads(client.send().read())["error"]["message"] == "overheated"
    assert outcomes(sim) == ["fault"] * 3


def test_a_slow_first_byte_delays_the_head_and_completes(sim: Simulator) -> None:
    sim.fault(Fault(slow_first_byte=0.1))
    began = time.monotonic()
    ask(sim)
    assert time.monotonic() - began >= 0.1
    assert outcomes(sim) == ["complete"]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 500, "end_after": 1},
        {"end_after": 1, "stall_after": 1},
        {"refuse": True, "status": 500},
        {"reset": True, "error_after": 1},
        {"cut_after": -1},
    ],
)
def test_a_fault_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Fault"):
        Fault(**fields)


# Requests a provider would refuse


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", PATH, b"{nonsense", 400),
        ("POST", PATH, b"", 400),
        ("POST", PATH, b"\xff\xfe", 400),
        ("POST", PATH, b"[" * 100_000, 400),
        ("POST", PATH, b"[]", 400),
        ("POST", PATH, b'{"messages": [{"role": "user", "content": "Hi"}]}', 400),
        ("POST", PATH, b'{"model": "m"}', 400),
        ("POST", PATH, b'{"model": "m", "messages": [{"content": 3}]}', 400),
        ("POST", "/v1/nowhere", b"{}", 404),
        ("GET", "/", b"", 404),
        ("GET", PATH, b"", 405),
    ],
)
def test_a_bad_request_gets_the_wires_error(sim: Simulator, method: str, path: str, body: bytes, status: int) -> None:
    sim.reply("kept")
    sim.fault(Fault(slow_first_byte=0.0))
    with Client(sim) as client:
        client.http.request(method, path, body)
        response = client.http.getresponse()
        assert response.status == status
        assert json.loads(response.read())["error"]["message"]
        assert client.text() == "kept"
    assert outcomes(sim) == ["rejected", "complete"]


def test_a_wire_that_is_not_spoken_is_refused(sim: Simulator) -> None:
    assert sim.base_url("chat") == sim.url + "/v1"
    with pytest.raises(ValueError, match="morse"):
        sim.base_url("morse")
    with pytest.raises(ValueError, match="morse"):
        Simulator(wires=("morse",))
    with pytest.raises(ValueError, match="wire"):
        Simulator(wires=())


# HTTP


def request_bytes(*extra: str, body: bytes | None = None, version: str = "1.1") -> bytes:
    if body is None:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
    framing = () if any("transfer-encoding" in line for line in extra) else (f"content-length: {len(body)}",)
    head = (f"POST {PATH} HTTP/{version}", "host: sim", *framing, *extra, "\r\n")
    return "\r\n".join(head).encode() + body


def exchange(sim: Simulator, *parts: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", int(sim.url.rpartition(":")[2])), timeout=TIMEOUT) as raw:
        for part in parts:
            raw.sendall(part)
        return b"".join(iter(lambda: raw.recv(65536), b""))


def test_a_connection_serves_many_requests(sim: Simulator) -> None:
    with Client(sim) as client:
        for turn in range(10):
            assert f"turn {turn}" in client.text(f"turn {turn}")
            assert f"turn {turn}" in streamed_text(client.stream(f"turn {turn}"))
            assert sim.open_connections == 1
    assert sim.wait_closed()


def test_a_chunked_request_is_read_in_any_split(sim: Simulator) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Grüße"}]}).encode()
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    framed += b"0\r\nTrailer: x\r\n\r\n"
    whole = request_bytes("transfer-encoding: chunked", "connection: close", body=framed)
    assert b"200 OK" in exchange(sim, *(whole[i : i + 7] for i in range(0, len(whole), 7)))
    assert sim.requests[0].text == "Grüße"


def test_requests_sent_ahead_are_answered_in_order(sim: Simulator) -> None:
    sim.reply("one", "two")
    answers = exchange(sim, request_bytes() + b"\r\n" + request_bytes("connection: close"))
    assert answers.index(b'"one"') < answers.index(b'"two"')


def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(sim: Simulator) -> None:
    answer = exchange(sim, request_bytes(version="1.0"))
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


def test_a_client_that_expects_a_hundred_gets_it(sim: Simulator) -> None:
    assert exchange(sim, request_bytes("expect: 100-continue", "connection: close")).startswith(b"HTTP/1.1 100 ")


def test_a_large_body_is_taken_and_a_larger_one_refused(sim: Simulator) -> None:
    large = "x" * (32 * 1024 * 1024)
    assert "xxx" in ask(sim, large)
    assert sim.requests[0].text == large
    sim.reset()
    answer = exchange(sim, request_bytes("x: y", body=b"").replace(b"length: 0", b"length: 67108865"))
    assert b" 413 " in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 70_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: 1234567890\r\n" * 7_000, 431),
    ],
)
def test_bytes_that_are_no_http_are_refused(sim: Simulator, sent: bytes, status: int) -> None:
    assert exchange(sim, sent).startswith(b"HTTP/1.1 %d " % status)
    assert sim.requests == ()


def test_two_hundred_conversations_at_once(sim: Simulator) -> None:
    sim.respond(lambda request: Reply(text=f"for {request.text} only", delay=0.02))
    together = threading.Barrier(200)

    def converse(number: int) -> list[str]:
        with Client(sim) as client:
            client.http.connect()
            together.wait(TIMEOUT)
            return [streamed_text(client.stream(f"{number}.{turn}")) for turn in range(3)]

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(converse, range(200)))
    assert answers == [[f"for {number}.{turn} only" for turn in range(3)] for number in range(200)]
    assert outcomes(sim) == ["complete"] * 600
    assert sim.wait_closed()


# Closing


def test_closing_drops_connections_and_ends_the_thread() -> None:
    before = threading.active_count()
    sim = Simulator(replies=[Reply(text="a b", delay=60.0)], faults=[Fault(slow_first_byte=0.0)])
    idle, busy = Client(sim), Client(sim)
    idle.http.connect()
    response = busy.send(stream=True)
    response.read1()
    sim.close()
    sim.close()
    assert threading.active_count() == before
    assert sim.open_connections == 0
    assert outcomes(sim) == ["server closed"]
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()
    response.close()
    for client in (idle, busy):
        client.http.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(sim.url.rpartition(":")[2])), timeout=TIMEOUT)


def test_closing_amid_a_rush_of_clients_leaves_nothing() -> None:
    for _ in range(20):
        with Simulator() as sim:
            port = int(sim.url.rpartition(":")[2])
            clients = [socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) for _ in range(20)]
        for client in clients:
            client.close()
        assert sim.open_connections == 0


def test_a_port_can_be_chosen_and_taken_again_at_once() -> None:
    with Simulator() as first:
        port = int(first.url.rpartition(":")[2])
        ask(first)
        with pytest.raises(OSError, match=r"in use|Errno"):
            Simulator(port=port)
    with Simulator(port=port) as second:
        assert second.url == first.url
        ask(second)
