"""Calls on all four wires to `llmock`, a mock of the providers that breaks on demand and judges how its client took it."""

import asyncio
import itertools
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import allm
from tests.partners.servers import ask, free_port, partners_python, serving

PATHS = {"openai.chat": "/v1", "openai.responses": "/v1", "anthropic": "/anthropic", "gemini": "/gemini"}
ANSWER = "It rains in Bergen, as it does on most days of the year."
RETRY = allm.Retry(max_attempts=3, base_delay=0.2, jitter=0)
"""Its delays are far enough from one another, and from nothing, for the mock to see that they grow on a busy machine."""
LONG = " ".join(["It rains."] * 300)
PACE = "--stream-chunk-delay-ms=10"
"""After a malformed chunk the mock writes on, and takes as a retry only what comes after an answer that it could not end: a long one,
with a pause behind each word, so that it meets the closed connection however busy the machine is."""
PATIENT = allm.Retry(max_attempts=3, base_delay=1, jitter=0, mid_stream="restart")
IMPATIENT = allm.Timeouts(first_event=0.8, idle=0.8, total=20)
RETRIED = {
    408: "timeout", 409: "server_error", 429: "rate_limited", 500: "server_error", 502: "server_error", 503: "service_unavailable",
    504: "timeout", 529: "overloaded",
}  # fmt: skip
REFUSED = {
    400: "invalid_request", 401: "authentication", 402: "quota_exceeded", 403: "permission", 404: "not_found", 405: "invalid_request",
    413: "invalid_request", 415: "invalid_request", 418: "invalid_request", 422: "invalid_request", 451: "invalid_request",
}  # fmt: skip
WEATHER = allm.ToolSpec(
    "get_weather", "The weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)

pytestmark = [pytest.mark.slow]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Mock:
    """A running llmock, seen through one wire, with a model of its own for each test: faults queued for it meet nobody else."""

    url: str
    wire: str
    model: str
    runtime: allm.Runtime

    def engine(self, **more: Any) -> allm.Engine:
        fields: dict[str, Any] = {"retry": RETRY, "timeouts": allm.Timeouts(first_event=10, idle=10, total=20), **more}
        return allm.Engine(adapter=self.wire, model=self.model, base_url=self.url + PATHS[self.wire], **fields)

    def queue(self, *faults: dict[str, Any]) -> None:
        queued = [{**fault, "match": {"model": self.model, **fault.get("match", {})}} for fault in faults]
        ask(f"{self.url}/_llmock/scenario", {"behaviors": queued})

    def answers(self, times: int = 1, **reply: Any) -> None:
        self.queue({"type": "reply", "text": ANSWER, "times": times, **reply})

    def generate(self, request: Any = "How is the weather in Bergen?", engine: allm.Engine | None = None, **opts: Any) -> allm.Response:
        return allm.generate(engine or self.engine(), request, api_key="a-key", runtime=self.runtime, **opts)

    def requests(self) -> list[dict[str, Any]]:
        """What came for this test, in order."""
        told = ask(f"{self.url}/_llmock/requests")
        return [request for request in told["requests"] if request["model"] == self.model]


def report(url: str) -> "subprocess.CompletedProcess[str]":
    """What llmock thinks of its clients."""
    command = [str(partners_python().with_name("llmock")), "report", "--url", url, "--strict"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def reason(wire: str, status: int) -> str:
    """What an error answer means; Anthropic's 503 says in its body that it is overloaded."""
    return "overloaded" if (wire, status) == ("anthropic", 503) else RETRIED[status]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from started(tmp_path_factory.mktemp("llmock"), PACE)


def started(folder: Path, *options: str) -> Iterator[str]:
    port = str(free_port())
    place = ["--host", "127.0.0.1", "--port", port, "--log-level", "warning"]
    command = [str(partners_python().with_name("llmock")), "serve", *place, *options]
    with serving(command, f"http://127.0.0.1:{port}", folder / "log") as url:
        yield url


@pytest.fixture(params=PATHS)
def mock(url: str, request: pytest.FixtureRequest) -> Iterator[Mock]:
    with allm.Runtime() as runtime:
        yield Mock(url, request.param, f"model-{next(_numbers)}", runtime)
    ask(f"{url}/_llmock/scenario", method="DELETE")


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_an_answer(mock: Mock, wire: str) -> None:
    mock.answers()
    response = mock.generate(wire=wire)
    assert (response.text, response.finish_reason, response.error) == (ANSWER, "stop", None)
    assert response.usage.input_tokens
    assert response.usage.output_tokens


@pytest.mark.parametrize("why", ["length", "content_filter"])
def test_why_it_ended(mock: Mock, why: str) -> None:
    mock.answers(finish_reason=why)
    unknown = mock.wire == "openai.responses" and why == "content_filter"  # the mock has no word for it there
    assert mock.generate().finish_reason == ("stop" if unknown else why)


@pytest.mark.parametrize("status", RETRIED)
def test_a_status_that_may_pass_is_tried_again(mock: Mock, status: int) -> None:
    mock.answers()
    mock.queue({"type": "fail", "status": status})
    seen: list[allm.Event] = []
    assert mock.generate(on_event=seen.append, wire="json" if status % 2 else "sse").text == ANSWER
    (error,) = [event.error for event in seen if isinstance(event, allm.RetryScheduled)]
    assert (error.reason, error.status) == (reason(mock.wire, status), status)


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_delays_grow_from_attempt_to_attempt(mock: Mock, wire: str) -> None:
    mock.answers()
    mock.queue({"type": "fail", "status": 500, "times": 2})
    assert mock.generate(wire=wire).text == ANSWER
    assert len(mock.requests()) == 3


@pytest.mark.parametrize("status", [500, 529])
def test_a_status_that_does_not_pass_is_raised_in_the_end(mock: Mock, status: int) -> None:
    mock.queue({"type": "fail", "status": status, "times": None})
    with pytest.raises(allm.AdapterError) as raised:
        mock.generate()
    assert (raised.value.reason, raised.value.status) == (RETRIED[status], status)
    assert len(mock.requests()) == 3


@pytest.mark.parametrize("status", REFUSED)
def test_a_status_that_cannot_pass_is_raised_at_once(mock: Mock, status: int) -> None:
    mock.queue({"type": "fail", "status": status, "times": None})
    with pytest.raises(allm.AdapterError) as raised:
        mock.generate()
    assert (raised.value.reason, raised.value.status) == (REFUSED[status], status)
    assert len(mock.requests()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_is_asked_for_is_waited(mock: Mock, status: int) -> None:
    mock.answers()
    mock.queue({"type": "fail", "status": status, "retry_after": 0.6})
    seen: list[allm.Event] = []
    assert mock.generate(on_event=seen.append).text == ANSWER
    # It is told twice: in milliseconds, and in whole seconds, which may be longer.
    assert [event.delay for event in seen if isinstance(event, allm.RetryScheduled)] in ([0.6], [1.0])


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed", "stall"])
def test_a_stream_that_breaks_is_made_whole_by_a_fold(mock: Mock, kind: str, after: int) -> None:
    mock.answers(text=LONG)
    mock.answers()
    mock.queue({"type": "stream_fault", "kind": kind, "after_chunks": after, "stall_seconds": 20})
    response = mock.generate(engine=mock.engine(timeouts=IMPATIENT, retry=RETRY if kind != "malformed" else PATIENT))
    assert (response.text, response.finish_reason) == (ANSWER, "stop")
    assert len(mock.requests()) == 2


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed", "stall"])
def test_a_stream_that_is_watched_is_made_whole_where_that_is_asked_for(mock: Mock, kind: str) -> None:
    mock.answers(text=LONG)
    mock.answers()
    mock.queue({"type": "stream_fault", "kind": kind, "after_chunks": 5, "stall_seconds": 20})
    engine = mock.engine(retry=PATIENT, timeouts=IMPATIENT)
    events = list(allm.stream_generate(engine, "Watch.", api_key="a-key", runtime=mock.runtime))
    assert sum(isinstance(event, allm.StreamRestarted) for event in events) == 1
    assert allm.text(events) == ANSWER


def test_three_broken_streams_in_a_row_leave_the_partial_text_and_the_error(mock: Mock) -> None:
    mock.answers(times=3)
    mock.queue({"type": "stream_fault", "kind": "disconnect", "after_chunks": 5, "times": 3})
    response = mock.generate()
    assert response.finish_reason == "error"
    assert response.error is not None
    assert response.error.reason == "connection_closed"
    assert response.text
    assert ANSWER.startswith(response.text)


@pytest.mark.parametrize("kind", ["delay", "slow_first_token"])
def test_a_slow_answer_is_waited_for(mock: Mock, kind: str) -> None:
    mock.answers()
    mock.queue({"type": kind, "seconds": 0.5})
    assert mock.generate().text == ANSWER
    assert len(mock.requests()) == 1


@pytest.mark.parametrize("kind", ["delay", "slow_first_token"])
def test_an_answer_that_does_not_begin_in_time_is_asked_for_again(mock: Mock, kind: str) -> None:
    mock.answers(times=2)
    mock.queue({"type": kind, "seconds": 4})
    engine = mock.engine(timeouts=allm.Timeouts(first_event=0.6))
    seen: list[allm.Event] = []
    assert mock.generate(engine=engine, on_event=seen.append).text == ANSWER
    assert [event.error.reason for event in seen if isinstance(event, allm.RetryScheduled)] == ["timeout"]


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_a_tool_call_and_its_result_go_there_and_back(mock: Mock, wire: str) -> None:
    asked = allm.request([allm.user("How is the weather in Bergen?")], tools=(WEATHER,))
    called = mock.generate(asked, wire=wire)
    assert called.finish_reason == "tool_calls"
    (call,) = called.tool_calls
    assert call.name == "get_weather"
    assert isinstance(call.arguments["city"], str)
    thread = [*asked.messages, called.message, allm.tool_result(call.id, "rain")]
    answer = mock.generate(allm.request(thread, tools=(WEATHER,)), wire=wire)
    assert (answer.finish_reason, answer.tool_calls) == ("stop", ())
    assert answer.text


def test_calls_in_parallel_behind_a_broken_connection(mock: Mock) -> None:
    calls = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Bergen", "Oslo")]
    mock.answers(times=3, text=None, tool_calls=calls)
    mock.queue({"type": "stream_fault", "kind": "disconnect", "after_chunks": 0 if mock.wire == "gemini" else 3})
    response = mock.generate(allm.request([allm.user("And in Oslo?")], tools=(WEATHER,)))
    assert [(call.name, call.arguments) for call in response.tool_calls] == [(call["name"], call["arguments"]) for call in calls]
    assert len(mock.requests()) == 2


def test_arguments_that_are_no_json_are_kept_as_they_came(mock: Mock) -> None:
    mock.queue({"type": "tool_fault", "kind": "malformed_arguments"})
    response = mock.generate(allm.request([allm.user("How is the weather?")], tools=(WEATHER,)))
    (call,) = response.tool_calls
    assert call.name == "get_weather"
    assert call.raw_arguments is not None
    if mock.wire != "gemini":  # it has an object there, which cannot be malformed
        assert (call.arguments, call.raw_arguments[:1]) == ({}, "{")


def test_a_tool_that_nobody_offered_is_told_as_it_came(mock: Mock) -> None:
    mock.queue({"type": "tool_fault", "kind": "unknown_tool"})
    response = mock.generate(allm.request([allm.user("How is the weather?")], tools=(WEATHER,)))
    (call,) = response.tool_calls
    assert call.name not in ("", "get_weather")


def test_an_answer_in_json_fits_its_schema(mock: Mock) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}}, "required": ["city", "degrees"]}
    form = allm.json_schema("weather", {**schema, "additionalProperties": False})
    parsed: Any = mock.generate(response_format=form).parsed
    assert {name: type(value) for name, value in parsed.items()} == {"city": str, "degrees": int}


def test_llmock_finds_no_fault_with_any_of_this(url: str) -> None:
    """The last of these tests: it judges all requests of those before it."""
    seen = ask(f"{url}/_llmock/verdict")
    judged = report(url)
    assert judged.returncode == 0, judged.stdout
    assert seen["faults_injected"] >= 100, "hardly anything was judged"


def test_llmock_would_find_a_fault(tmp_path: Path) -> None:
    for url in started(tmp_path):
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        faults = [{"type": "fail", "status": 429, "retry_after": 5}, {"type": "stream_fault", "kind": "truncate"}]
        ask(f"{url}/_llmock/scenario", {"behaviors": faults})
        with suppress(OSError, ValueError):  # at once again, and content with half an answer
            ask(f"{url}/v1/chat/completions", body)
        with suppress(OSError, ValueError):
            ask(f"{url}/v1/chat/completions", body)
        judged = report(url)
        assert judged.returncode == 1
        assert "retry_after_ignored" in judged.stdout
        assert "truncated_stream_accepted" in judged.stdout


def test_a_provider_in_which_anything_may_break_at_any_time(tmp_path: Path) -> None:
    """A fault of some kind in every fourth answer; ten calls at once on each wire."""
    faults = [f"--stream-fault={kind}=0.05" for kind in ("disconnect", "truncate", "malformed", "stall")]
    faults += ["--error-rate=429=0.04", "--error-rate=503=0.04", "--stream-stall-seconds=15"]

    async def call(url: str, wire: str, number: int, runtime: allm.Runtime) -> allm.Response:
        engine = allm.Engine(adapter=wire, model="m", base_url=url + PATHS[wire], timeouts=allm.Timeouts(first_event=4, idle=2, total=30))
        retry = allm.Retry(max_attempts=9, base_delay=0.2, max_delay=2)
        return await allm.aio.generate(engine, f"Tell me of {number}.", api_key="a-key", retry=retry, runtime=runtime)

    async def calls(url: str, runtime: allm.Runtime) -> list[allm.Response]:
        return await asyncio.gather(*(call(url, wire, number, runtime) for number in range(10) for wire in PATHS))

    for url in started(tmp_path, *faults):
        with allm.Runtime() as runtime:
            responses = asyncio.run(calls(url, runtime))
        assert [response.error for response in responses] == [None] * 40
        assert all(response.text and response.finish_reason == "stop" for response in responses)
        judged = ask(f"{url}/_llmock/verdict")  # not its warnings: they go by times, which are not ours alone with forty calls at once
        assert judged["errors"] == 0, judged
        assert judged["faults_injected"] > 0
