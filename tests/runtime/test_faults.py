"""What a call does when the provider fails: every row of the table, as a fold and as a stream, over both transports."""

import asyncio
import gzip
import itertools
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.utils import formatdate
from typing import Any

import pytest

import allm
from allm.actors import answer as answering
from allm.actors.explain import explain
from allm.events import Event
from allm.testing import Fault, Reply, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import (
    FAST,
    WAIT,
    RawServer,
    Visit,
    answers,
    chat_body,
    chat_event,
    chat_stream,
    chunked,
    eventually,
    first_delta,
    http,
    kinds,
    one_end,
    text_of,
)

TEXT = " ".join(f"word{number}" for number in range(12))
LATE = 1.0
"""Seconds by which a timeout may be late on a machine that does other things too; 50 ms on an idle one."""

Raw = Callable[..., tuple[RawServer, allm.Engine]]

MID_ANSWER = {
    "reset": (Fault(cut_after=1_500, reset=True), "connection_closed"),
    "cut": (Fault(cut_after=1_500), "connection_closed"),
    "truncated": (Fault(end_after=5), "truncated"),
    "error": (Fault(error_after=5), "server_error"),
    "malformed": (Fault(malformed_after=5), "malformed_response"),
}


@pytest.fixture(params=MID_ANSWER)
def broken(request: pytest.FixtureRequest, sim: Simulator) -> tuple[Fault, str]:
    """A fault in the midst of an answer, which was read before, and its reason."""
    sim.reply(*[Reply(text=TEXT, delay=0.005)] * 3)
    return MID_ANSWER[request.param]


@contextmanager
def within(least: float, most: float) -> Generator[None]:
    """Takes so long; the upper bound is generous."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert least * 0.9 <= took <= 2 * most, f"took {took:.3f} s, expected {least} to {most}"


def failed(engine: allm.Engine, **opts: Any) -> allm.AllmError:
    """What a fold raises."""
    with pytest.raises(allm.AllmError) as raised:
        allm.generate(engine, "Hi", **opts)
    return raised.value


# before any content


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=500), Fault(status=529), Fault(refuse=True), Fault(reset=True)], ids=str)
def test_a_failure_before_content_is_retried_on_folds_and_streams(
    fault: Fault, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    sim.fault(fault, times=2)
    assert allm.generate(engine, "Hi", runtime=runtime).finish_reason == "stop"
    assert len(sim.requests) == 3
    sim.fault(fault, times=2)
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    events = list(stream)
    retries = [event for event in events if isinstance(event, allm.RetryScheduled) and event.delay > 0]
    resent = [event for event in events if isinstance(event, allm.RetryScheduled) and event.delay == 0]
    attempts = [event.attempt for event in events if isinstance(event, allm.RequestStarted)]
    assert [(event.attempt, event.error.status) for event in retries] in ([(1, fault.status), (2, fault.status)], [(1, fault.status)])
    assert len(retries) + len(resent) == 2
    assert attempts == sorted(attempts)
    assert kinds(events).count("RequestStarted") == 3
    assert isinstance(one_end(events), allm.MessageCompleted)
    assert len(sim.requests) == 6


def test_a_call_that_gives_up_raises_on_a_fold_and_on_a_stream(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=503, message="busy"), times=6)
    error = failed(engine, runtime=runtime, request_id="req-1")
    assert isinstance(error, allm.AdapterError)
    assert (error.reason, error.status, error.request_id, error.provider) == ("service_unavailable", 503, "req-1", "openai")
    assert "busy" in str(error)
    assert len(sim.requests) == 3
    events: list[Event] = []
    with pytest.raises(allm.AdapterError):
        events.extend(allm.stream_generate(engine, "Hi", runtime=runtime))
    assert len(sim.requests) == 6
    sim.fault(Fault(status=400))
    with pytest.raises(allm.AdapterError):
        asyncio.run(allm.aio.generate(engine, "Hi", runtime=runtime))


def test_the_delay_grows_by_the_policy(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=503), times=2)
    engine = make(retry=allm.Retry(base_delay=0.02, jitter=0))
    delays = [event.delay for event in allm.stream_generate(engine, "Hi", runtime=runtime) if isinstance(event, allm.RetryScheduled)]
    assert delays == [0.02, 0.04]


def test_the_calls_retry_policy_wins_over_the_engines(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=503), times=2)
    failed(engine, runtime=runtime, retry=allm.Retry.none())
    assert len(sim.requests) == 1


def test_a_retry_after_is_waited_for(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=429, retry_after=0.3))
    with within(0.3, 0.3 + LATE):
        events = list(allm.stream_generate(engine, "Hi", runtime=runtime))
    (retry,) = (event for event in events if isinstance(event, allm.RetryScheduled))
    assert (retry.delay, retry.error.reason, retry.error.retry_after) == (0.3, "rate_limited", 0.3)
    assert isinstance(one_end(events), allm.MessageCompleted)


def test_a_retry_after_that_is_too_long_is_not_waited_for(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=429, retry_after=9))
    with within(0, LATE):
        error = failed(make(retry=allm.Retry(max_retry_after=5)), runtime=runtime)
    assert (error.reason, error.retry_after, len(sim.requests)) == ("rate_limited", 9, 1)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=400), "invalid_request"),
        (Fault(status=401), "authentication"),
        (Fault(status=402), "quota_exceeded"),
        (Fault(status=403), "permission"),
        (Fault(status=404), "not_found"),
        (Fault(status=413), "invalid_request"),
        (Fault(status=422), "invalid_request"),
        (Fault(status=400, code="context_length_exceeded"), "context_length_exceeded"),
        (Fault(status=400, code="content_filter"), "content_filter"),
        (Fault(status=429, code="insufficient_quota", retry_after=0.01), "quota_exceeded"),
    ],
)
def test_what_no_retry_mends_is_not_retried(fault: Fault, reason: str, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.fault(fault, times=2)
    error = failed(engine, runtime=runtime)
    assert (error.reason, error.status) == (reason, fault.status)
    with pytest.raises(allm.AdapterError) as raised:
        list(allm.stream_generate(engine, "Hi", runtime=runtime))
    assert raised.value.reason == reason
    assert len(sim.requests) == 2


def test_a_spent_quota_is_not_retried_even_when_the_policy_names_it(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=429, code="insufficient_quota"))
    failed(make(retry=allm.Retry(retry_on=("quota_exceeded", "rate_limited"))), runtime=runtime)
    assert len(sim.requests) == 1


# in the midst of an answer


def test_a_fold_that_broke_in_the_midst_recovers(
    broken: tuple[Fault, str], sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    fault, reason = broken
    sim.fault(fault)
    watched: list[Event] = []
    response = allm.generate(engine, "Hi", runtime=runtime, on_event=watched.append)
    assert (response.text, response.finish_reason, response.error) == (TEXT, "stop", None)
    assert len(sim.requests) == 2
    eventually(lambda: watched and isinstance(watched[-1], allm.MessageCompleted), "the end is told")
    (restart,) = (event for event in watched if isinstance(event, allm.StreamRestarted))
    assert restart.error.reason == reason


def test_a_fold_that_broke_too_often_keeps_its_partial(
    broken: tuple[Fault, str], sim: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    fault, reason = broken
    sim.fault(fault, times=2)
    response = allm.generate(make(retry=allm.Retry(max_attempts=2, **FAST)), "Hi", runtime=runtime)
    assert response.finish_reason == "error"
    assert response.error is not None
    assert response.error.reason == reason
    assert TEXT.startswith(response.text) and response.text  # noqa: PT018
    assert len(sim.requests) == 2
    with pytest.raises(allm.AdapterError) as raised:
        response.raise_for_error()
    assert raised.value.reason == reason


@pytest.mark.parametrize("world", ["for", "async for"])
def test_a_stream_that_broke_in_the_midst_ends_with_the_error_and_keeps_its_partial(
    world: str, broken: tuple[Fault, str], sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    async def collect(stream: allm.Stream) -> list[Event]:
        return [event async for event in stream]

    fault, reason = broken
    sim.fault(fault)
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    events = list(stream) if world == "for" else asyncio.run(collect(stream))
    end = one_end(events)
    assert isinstance(end, allm.ErrorOccurred)
    assert end.error.reason == reason
    response = stream.response()
    assert (response.text, response.finish_reason, response.error) == (text_of(events), "error", end.error)
    assert TEXT.startswith(response.text) and response.text  # noqa: PT018
    assert allm.fold(events) == response
    assert len(sim.requests) == 1


def test_which_call_made_the_stream_decides_and_not_how_it_is_read(
    broken: tuple[Fault, str], sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    sim.fault(broken[0])
    response = allm.stream_generate(engine, "Hi", runtime=runtime).response()
    assert (response.finish_reason, len(sim.requests)) == ("error", 1)


def test_a_fold_told_to_fail_is_not_restarted(broken: tuple[Fault, str], sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(broken[0])
    response = allm.generate(make(retry=allm.Retry(mid_stream="fail", **FAST)), "Hi", runtime=runtime)
    assert (response.finish_reason, len(sim.requests)) == ("error", 1)


def test_a_stream_told_to_restart_names_the_blocks_to_forget_and_folds_to_one_clean_message(
    broken: tuple[Fault, str], sim: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    fault, reason = broken
    sim.fault(fault, times=2)
    stream = allm.stream_generate(make(retry=allm.Retry(mid_stream="restart", **FAST)), "Hi", runtime=runtime)
    events = list(stream)
    restarts = [index for index, event in enumerate(events) if isinstance(event, allm.StreamRestarted)]
    assert len(restarts) == 2
    begun, seen = 0, set[str]()
    for index in restarts:
        restart = events[index]
        assert isinstance(restart, allm.StreamRestarted)
        ids = {event.id for event in events[begun:index] if isinstance(event, allm.TextDelta)}
        assert ids
        assert ids <= set(restart.discarded)
        assert restart.error.reason == reason
        seen |= ids
        begun = index + 1
    kept = events[begun:]
    assert not seen & {event.id for event in kept if isinstance(event, allm.TextDelta)}
    assert text_of(kept) == TEXT
    assert isinstance(one_end(events), allm.MessageCompleted)
    assert stream.response().text == TEXT
    assert allm.fold(events) == stream.response()


def test_a_restarting_stream_that_gives_up_ends_with_the_error_and_the_last_partial(
    broken: tuple[Fault, str], sim: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    fault, reason = broken
    sim.fault(fault, times=2)
    engine = make(retry=allm.Retry(mid_stream="restart", max_attempts=2, **FAST))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    end = one_end(list(stream))
    assert isinstance(end, allm.ErrorOccurred)
    assert end.error.reason == reason
    assert TEXT.startswith(stream.response().text)


def test_an_end_without_the_end_marker_is_no_success_though_no_content_came(
    sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    sim.fault(Fault(end_after=0), times=3)
    error = failed(engine, runtime=runtime)
    assert (error.reason, len(sim.requests)) == ("truncated", 3)


def test_a_break_after_the_end_marker_is_no_failure(raw: Raw, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(chat_event("Hello"), chat_event(finish="stop"), end=False))

    server, engine = raw(respond)
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert len(server.heads) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_one_body_cut_short_is_no_success(reset: bool, sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text=TEXT))
    sim.fault(Fault(cut_after=100, reset=reset))
    assert allm.generate(make(), "Hi", runtime=runtime, wire="json").text == TEXT
    assert len(sim.requests) == 2
    sim.fault(Fault(cut_after=100, reset=reset))
    error = failed(make(retry=allm.Retry.none()), runtime=runtime, wire="json")
    assert error.reason in ("connection_closed", "truncated")


# the connection


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("address", ["refused", "unknown name"])
def test_no_connection_is_connection_closed_and_retried(address: str, make: Make, runtime: allm.Runtime) -> None:
    host = f"127.0.0.1:{closed_port()}" if address == "refused" else "name.invalid"
    watched: list[Event] = []
    engine = make(base_url=f"http://{host}/v1", retry=allm.Retry(max_attempts=2, **FAST))
    error = failed(engine, runtime=runtime, on_event=watched.append)
    assert (error.reason, error.status) == ("connection_closed", None)
    eventually(lambda: watched and isinstance(watched[-1], allm.ErrorOccurred), "the end is told")
    assert kinds(watched).count("RequestStarted") == 2


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v1", "http://127.0.0.1:99999/v1", "http:///v1"])
def test_an_address_that_cannot_be_used_is_refused_and_not_retried(url: str, make: Make, runtime: allm.Runtime) -> None:
    error = failed(make(base_url=url), runtime=runtime)
    assert error.reason in ("invalid_request", "invalid"), error


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"HTTP/9.9 what\r\n\r\n"], ids=["ssh", "tls", "http"]
)
def test_an_answer_that_is_no_http_is_malformed(garbage: bytes, raw: Raw, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(garbage)

    server, engine = raw(respond, retry=allm.Retry(max_attempts=2, **FAST))
    assert failed(engine, runtime=runtime).reason == "malformed_response"
    assert len(server.heads) == 2


def test_a_bad_chunk_in_the_midst_is_a_failure_with_its_partial(raw: Raw, runtime: allm.Runtime) -> None:
    read = threading.Event()

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(chat_event("Hello"), end=False))
        read.wait(WAIT)
        visit.send(b"no chunk size\r\n")

    _, engine = raw(respond)
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    events = iter(stream)
    first_delta(events)
    read.set()
    with within(0, LATE):
        end = one_end(list(events))
    assert isinstance(end, allm.ErrorOccurred)
    assert end.error.reason in ("malformed_response", "connection_closed")
    assert stream.response().text == "Hello"


def test_a_header_of_twenty_kilobytes_is_read(raw: Raw, runtime: allm.Runtime) -> None:
    _, engine = raw(answers(http(chat_stream("Hello"), "text/event-stream", "200 OK", "x-long: " + "a" * 20_000)))
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"


class Mortal:
    """Answers the first request of a connection and dies at its second without a byte, on the connections named."""

    def __init__(self, *deadly: int) -> None:
        self.deadly = deadly

    def __call__(self, visit: Visit) -> None:
        visit.read()
        visit.send(http(chat_stream("Hello")))
        while visit.read() is not None:
            if visit.number in self.deadly:
                return
            visit.send(http(chat_stream("Hello")))


def test_a_request_that_dies_on_a_reused_connection_is_sent_again_and_is_no_attempt(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(Mortal(1), retry=allm.Retry.none())
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    with within(0, LATE):
        events = list(allm.stream_generate(engine, "Hi", runtime=runtime))
    assert isinstance(one_end(events), allm.MessageCompleted)
    (resent,) = (event for event in events if isinstance(event, allm.RetryScheduled))
    assert (resent.delay, resent.attempt, resent.error.reason) == (0, 1, "connection_closed")
    assert [event.attempt for event in events if isinstance(event, allm.RequestStarted)] == [1, 1]
    assert (len(server.heads), server.connections) == (3, 2)


@pytest.mark.parametrize("dead", [1, 2, 6])
def test_however_many_kept_connections_are_dead_it_is_sent_again_once_on_a_new_one(dead: int, raw: Raw, runtime: allm.Runtime) -> None:
    """A balancer forgot them all: the others in the pool are no better than the one that died."""
    all_of_them = threading.Barrier(dead)

    def respond(visit: Visit) -> None:
        visit.read()
        if visit.number <= dead:
            all_of_them.wait(WAIT)  # so that so many connections are made, and kept
        visit.send(http(chat_stream("Hello")))
        visit.read()

    server, engine = raw(respond, retry=allm.Retry.none())
    with ThreadPoolExecutor(dead) as pool:
        for call in [pool.submit(allm.generate, engine, "Hi", runtime=runtime) for _ in range(dead)]:
            assert call.result(WAIT).text == "Hello"
    eventually(lambda: runtime.stats()["calls"] == 0, "all are over")
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert (len(server.heads), server.connections) == (dead + 2, dead + 1)


@pytest.mark.parametrize("how", ["silence", "408"])
def test_kept_connections_that_are_dead_otherwise_cost_one_attempt(how: str, raw: Raw, runtime: allm.Runtime) -> None:
    """A NAT lets nothing through, or the server has waited long enough and says so: the next attempt takes none of them."""
    dead = 4
    all_of_them, over = threading.Barrier(dead), threading.Event()

    def respond(visit: Visit) -> None:
        visit.read()
        if visit.number > dead:
            visit.send(http(chat_stream("Hello")))
            return
        all_of_them.wait(WAIT)
        visit.send(http(chat_stream("Hello")))
        if visit.read() is not None:
            if how == "408":
                visit.send(http(b"", "text/plain", "408 Request Timeout", "connection: close"))
            else:
                over.wait(WAIT)

    timeouts = allm.Timeouts(first_event=0.3 if how == "silence" else WAIT)
    server, engine = raw(respond, retry=allm.Retry(max_attempts=2, **FAST), timeouts=timeouts)
    with ThreadPoolExecutor(dead) as pool:
        for call in [pool.submit(allm.generate, engine, "Hi", runtime=runtime) for _ in range(dead)]:
            assert call.result(WAIT).text == "Hello"
    eventually(lambda: runtime.stats()["calls"] == 0, "all are over")
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert server.connections == dead + 1
    over.set()


def test_a_new_connection_that_dies_after_it_is_a_failure_as_any_other(raw: Raw, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        if visit.number == 1:
            visit.send(http(chat_stream("Hello")))
            visit.read()

    server, engine = raw(respond, retry=allm.Retry.none())
    allm.generate(engine, "Hi", runtime=runtime)
    assert failed(engine, runtime=runtime).reason == "connection_closed"
    assert len(server.heads) == 3


def test_a_call_that_was_sent_again_has_all_its_attempts(raw: Raw, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        if visit.number in (1, 4):
            visit.send(http(chat_stream("Hello")))
            visit.read()

    server, engine = raw(respond, retry=allm.Retry(max_attempts=3, **FAST))
    allm.generate(engine, "Hi", runtime=runtime)
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert len(server.heads) == 5


def test_a_dead_new_connection_counts(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(Visit.read, retry=allm.Retry.none())
    assert failed(engine, runtime=runtime).reason == "connection_closed"
    assert len(server.heads) == 1


def test_a_finished_stream_leaves_its_connection_to_the_next_call(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    for _ in range(5):
        list(allm.stream_generate(engine, "Hi", runtime=runtime))
        allm.generate(engine, "Hi", runtime=runtime)
        eventually(lambda: runtime.stats()["calls"] == 0, "the call is over")
    assert sim.open_connections <= 2


def test_a_body_that_does_not_end_after_its_terminal_event_is_not_waited_for(
    raw: Raw, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(chat_stream("Hello"), end=False))
        visit.wait_gone()
        gone.set()

    monkeypatch.setattr(answering, "_DRAIN_TIME", 0.1)
    _, engine = raw(respond)
    with within(0, LATE):
        assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert gone.wait(WAIT)


# timeouts


def timed_out(error: allm.ErrorInfo | None) -> tuple[Any, ...]:
    assert error is not None
    return error.reason, error.metadata.get("timeout"), error.metadata.get("seconds")


@pytest.mark.parametrize(
    "fault", [Fault(slow_first_byte=30), Fault(stall_after=0), Fault(stall_after=0, pings=True, ping_interval=0.02)], ids=str
)
def test_the_first_event_has_its_time(fault: Fault, sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(fault)
    engine = make(timeouts=allm.Timeouts(first_event=0.3), retry=allm.Retry.none())
    with within(0.3, 0.3 + LATE):
        error = failed(engine, runtime=runtime)
    assert timed_out(error.info) == ("timeout", "first_event", 0.3)
    assert sim.wait_idle()
    assert sim.requests[0].outcome == "client closed"


def test_a_timeout_before_content_is_retried(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(slow_first_byte=30))
    engine = make(timeouts=allm.Timeouts(first_event=0.2))
    assert allm.generate(engine, "Hi", runtime=runtime).finish_reason == "stop"
    assert len(sim.requests) == 2


@pytest.mark.parametrize("pings", [False, True])
def test_a_silent_provider_is_given_up_after_the_idle_time_pings_or_not(
    pings: bool, sim: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    sim.reply(Reply(text=TEXT))
    sim.fault(Fault(stall_after=5, pings=pings, ping_interval=0.02))
    engine = make(timeouts=allm.Timeouts(idle=0.3))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    with within(0.3, 0.3 + LATE):
        end = one_end(list(stream))
    assert isinstance(end, allm.ErrorOccurred)
    assert timed_out(end.error) == ("timeout", "idle", 0.3)
    assert stream.response().text == " ".join(TEXT.split()[:5])
    assert sim.wait_idle()
    assert sim.requests[0].outcome == "client closed"


def test_progress_feeds_the_idle_watchdog(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text=TEXT, reasoning=TEXT, tool_calls=(("f", {"a": 1}),), refusal="no no no", delay=0.04))
    response = allm.generate(make(timeouts=allm.Timeouts(idle=0.5, first_event=0.5)), "Hi", runtime=runtime)
    assert response.text == TEXT
    assert len(sim.requests) == 1


def test_a_steady_stream_ends_when_its_total_time_is_over(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text="word " * 1_000, delay=0.02))
    stream = allm.stream_generate(make(timeouts=allm.Timeouts(total=0.4)), "Hi", runtime=runtime)
    with within(0.4, 0.4 + LATE):
        end = one_end(list(stream))
    assert isinstance(end, allm.ErrorOccurred)
    assert timed_out(end.error) == ("timeout", "total", 0.4)
    assert stream.response().text
    assert sim.wait_idle()


def test_one_body_has_a_total_time_only(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(slow_first_byte=0.4))
    timeouts = allm.Timeouts(first_event=0.1, idle=0.1)
    assert allm.generate(make(timeouts=timeouts), "Hi", runtime=runtime, wire="json").finish_reason == "stop"
    sim.fault(Fault(slow_first_byte=30))
    error = failed(make(), runtime=runtime, wire="json", timeouts=allm.Timeouts(total=0.2), retry=allm.Retry.none())
    assert timed_out(error.info) == ("timeout", "total", 0.2)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that takes no more connections: the system drops what asks for one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting: list[socket.socket] = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            with suppress(BlockingIOError):
                waiting[-1].connect(("127.0.0.1", port))
        yield port
        for sock in waiting:
            sock.close()


def test_a_connection_has_its_time(full_port: int, make: Make, runtime: allm.Runtime) -> None:
    engine = make(base_url=f"http://127.0.0.1:{full_port}/v1", timeouts=allm.Timeouts(connect=0.3), retry=allm.Retry.none())
    with within(0.3, 0.3 + LATE):
        error = failed(engine, runtime=runtime)
    assert timed_out(error.info) == ("timeout", "connect", 0.3)


def test_no_limits_are_no_limits(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text=TEXT, delay=0.01))
    timeouts = allm.Timeouts(connect=None, first_event=None, idle=None, total=None)
    assert allm.generate(make(timeouts=timeouts), "Hi", runtime=runtime).text == TEXT


def test_a_blocked_consumer_does_not_stop_the_watchdog(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text=TEXT))
    sim.fault(Fault(stall_after=5))
    events = iter(allm.stream_generate(make(timeouts=allm.Timeouts(idle=0.3)), "Hi", runtime=runtime))
    first_delta(events)
    assert sim.wait_idle()  # nobody has asked for an event since
    assert sim.requests[0].outcome == "client closed"
    rest = list(events)
    assert isinstance(rest[-1], allm.ErrorOccurred)
    assert timed_out(rest[-1].error) == ("timeout", "idle", 0.3)


def test_a_full_buffer_suspends_idle_and_not_total(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(pieces=tuple(str(number).ljust(12_000, ".") for number in range(2_500))))
    engine = make(timeouts=allm.Timeouts(idle=0.1, total=0.8))
    events = iter(allm.stream_generate(engine, "Hi", runtime=runtime))
    first_delta(events)
    assert not sim.wait_idle(0.4)
    assert sim.wait_idle()
    rest = list(events)
    assert isinstance(rest[-1], allm.ErrorOccurred)
    assert timed_out(rest[-1].error) == ("timeout", "total", 0.8)


# odd answers


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_a_compressed_answer_is_read_though_none_was_asked_for(wire: Any, raw: Raw, runtime: allm.Runtime) -> None:
    plain, kind = (chat_stream("Hel", "lo"), "text/event-stream") if wire == "sse" else (chat_body("Hello"), "application/json")
    server, engine = raw(answers(http(gzip.compress(plain), kind, "200 OK", "content-encoding: gzip")))
    assert allm.generate(engine, "Hi", runtime=runtime, wire=wire, retry=allm.Retry.none()).text == "Hello"
    assert server.header("accept-encoding") == ["identity"]


def test_a_compressed_answer_that_is_none_is_malformed(raw: Raw, runtime: allm.Runtime) -> None:
    _, engine = raw(answers(http(b"not gzip at all", "text/event-stream", "200 OK", "content-encoding: gzip")), retry=allm.Retry.none())
    assert failed(engine, runtime=runtime).reason == "malformed_response"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http(b""), "truncated"),
        (http(b"", "application/json"), "truncated"),
        (http(b" \n", "application/json"), "truncated"),
        (chunked(kind="text/plain"), "truncated"),
        (http(b"<!doctype html><p>Sign in", "text/html"), "malformed_response"),
        (http(b"<!doctype html><p>Sign in", "application/json"), "malformed_response"),
        (http(b"[1, 2]", "application/json"), "malformed_response"),
        (http(b"{}", "application/json"), "malformed_response"),
        (http(b'{"error": {"message": "no", "type": "overloaded_error"}}', "application/json"), "overloaded"),
    ],
)
@pytest.mark.parametrize("wire", ["sse", "json"])
def test_an_odd_answer_with_status_200_is_no_success(wire: str, answer: bytes, reason: str, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(answer), retry=allm.Retry(max_attempts=2, **FAST))
    assert failed(engine, runtime=runtime, wire=wire).reason == reason
    assert len(server.heads) == 2


def test_a_redirect_is_not_followed_and_not_retried(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(b"", "text/html", "307 Temporary Redirect", "location: /elsewhere")))
    error = failed(engine, runtime=runtime)
    assert (error.reason, error.status, len(server.heads)) == ("invalid_request", 307, 1)


def test_an_error_told_in_chunks_is_read(raw: Raw, runtime: allm.Runtime) -> None:
    body = (b'{"error": {"message": "no such', b' model", "code": "model_not_found"}}')
    _, engine = raw(answers(chunked(*body, kind="application/json", status="404 Not Found")))
    error = failed(engine, runtime=runtime)
    assert (error.reason, error.status, error.message) == ("not_found", 404, "no such model")


def test_a_huge_error_is_not_read_to_its_end(raw: Raw, runtime: allm.Runtime) -> None:
    _, engine = raw(answers(http(b"x" * (24 << 20), "text/plain", "400 Bad Request")))
    error = failed(engine, runtime=runtime)
    assert (error.reason, error.status) == ("invalid_request", 400)
    assert len(error.message) <= 500


def test_an_error_that_does_not_end_is_not_waited_for(raw: Raw, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(b'{"error": {"message": "no', kind="application/json", status="401 Unauthorized", end=False))
        visit.wait_gone()

    monkeypatch.setattr(answering, "_ERROR_TIME", 0.2)
    _, engine = raw(respond)
    with within(0.2, 0.2 + LATE):
        error = failed(engine, runtime=runtime)
    assert (error.reason, error.status) == ("authentication", 401)


def test_an_error_whose_text_breaks_off_keeps_its_status(raw: Raw, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        visit.read()
        visit.send(chunked(b"no", kind="text/plain", status="403 Forbidden", end=False))

    _, engine = raw(respond)
    error = failed(engine, runtime=runtime)
    assert (error.reason, error.status, error.message) == ("permission", 403, "no")


def test_an_event_stream_that_calls_itself_something_else_is_understood(raw: Raw, runtime: allm.Runtime) -> None:
    kinds_of_host = ("application/json", "text/plain", "")
    beginnings = (b"", b": hello\n\n", b"event: message\n", b"id: 1\n", b"retry: 10\n")
    for kind, beginning in itertools.product(kinds_of_host, beginnings):
        _, engine = raw(answers(http(beginning + chat_stream("Hello"), kind)))
        assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello", (kind, beginning)


def test_no_cookie_is_kept_between_calls(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(chat_stream("Hello"), "text/event-stream", "200 OK", "set-cookie: tenant=one; Path=/")))
    for _ in range(2):
        allm.generate(engine, "Hi", runtime=runtime)
    assert server.header("cookie") == [None, None]


def test_headers_of_the_engine_go_out_and_replace_the_librarys(raw: Raw, runtime: allm.Runtime, transport: str) -> None:
    headers = {"User-Agent": "mine", "x-team": "a"}
    server, engine = raw(answers(http(chat_stream("Hello"))), http=allm.Http(transport=transport, headers=headers))
    allm.generate(engine, "Hi", runtime=runtime)
    head = server.heads[0].lower()
    assert head.count("user-agent:") == 1
    assert server.header("user-agent") == ["mine"]
    assert server.header("x-team") == ["a"]


def test_the_library_says_who_it_is(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(chat_stream("Hello"))))
    allm.generate(engine, "Hi", runtime=runtime)
    assert server.header("user-agent") == [f"allm/{allm.__version__}"]
    assert server.header("host") == [server.url.removeprefix("http://")]


def test_more_connections_than_allowed_wait_for_their_turn(sim: Simulator, make: Make, transport: str, runtime: allm.Runtime) -> None:
    async def go() -> list[allm.Response]:
        return await asyncio.gather(*(allm.aio.generate(engine, "Hi", runtime=runtime) for _ in range(12)))

    sim.respond(lambda request: Reply(text="Hello there", delay=0.02))
    engine = make(http=allm.Http(transport=transport, max_connections=3))
    assert {response.text for response in asyncio.run(go())} == {"Hello there"}
    assert sim.open_connections <= 3


def test_a_transport_of_ones_own_is_used(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast(http=allm.Http(transport=f"{__name__}:stock"))
    assert allm.generate(engine, "Hi", runtime=runtime).finish_reason == "stop"
    sim.fault(Fault(status=503), Fault(refuse=True))
    assert allm.generate(engine, "Hi", runtime=runtime).finish_reason == "stop"


@pytest.mark.parametrize(("path", "reason"), [(f"{__name__}:nothing", "bad_http"), ("nowhere.at_all:x", "not_importable")])
def test_a_transport_that_is_none_is_an_engine_error(path: str, reason: str, fast: Make, runtime: allm.Runtime) -> None:
    error = failed(fast(http=allm.Http(transport=path)), runtime=runtime)
    assert isinstance(error, allm.EngineError)
    assert error.reason == reason


def test_a_certificate_that_cannot_be_read_is_an_engine_error_before_anything_is_sent(fast: Make, runtime: allm.Runtime) -> None:
    error = failed(fast(http=allm.Http(verify="/nowhere/ca.pem")), runtime=runtime)
    assert (type(error), error.reason) == (allm.EngineError, "bad_http")


def stock() -> Any:
    import httpx

    return httpx.AsyncHTTPTransport()


def nothing() -> None:
    return None


def test_every_error_of_a_transport_has_a_reason_and_shows_nothing_of_the_request() -> None:
    import aiohttp
    import httpx

    cases: list[tuple[BaseException, str]] = [
        (httpx.ReadTimeout("x"), "timeout"),
        (httpx.ReadError("x"), "connection_closed"),
        (httpx.ProxyError("x"), "connection_closed"),
        (
            httpx.RemoteProtocolError("peer closed connection without sending complete message body (received 1 bytes, expected 2)"),
            "connection_closed",
        ),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), "connection_closed"),
        (httpx.RemoteProtocolError("illegal status line"), "malformed_response"),
        (httpx.UnsupportedProtocol("x"), "invalid_request"),
        (aiohttp.ServerTimeoutError(), "timeout"),
        (aiohttp.ClientPayloadError("x"), "connection_closed"),
        (aiohttp.ServerDisconnectedError(), "connection_closed"),
        (aiohttp.ClientError("x"), "connection_closed"),
        (ConnectionResetError(), "connection_closed"),
        (OSError("x"), "connection_closed"),
        (RuntimeError("sk-secret"), "unknown"),
    ]
    for error, reason in cases:
        found = explain(error)
        assert found.reason == reason, error
        assert "sk-secret" not in found.message


def test_a_decoder_that_raises_has_met_an_answer_that_is_malformed(sim: Simulator, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Reply(text=TEXT))
    engine = allm.Engine(adapter="tests.runtime.adapters:Raising", model="m", base_url=sim.base_url("chat"))
    with pytest.raises(allm.AdapterError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, retry=allm.Retry(max_attempts=2, base_delay=0.001))
    assert (raised.value.reason, raised.value.message) == ("malformed_response", "the answer could not be read: ZeroDivisionError")
    assert len(sim.requests) == 2


def test_a_bug_of_an_adapter_fails_its_own_call_only(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Reply(text=TEXT, delay=0.02) if request.text == "neighbour" else Reply(text=TEXT))
    neighbour = iter(allm.stream_generate(fast(), "neighbour", runtime=runtime))
    begun = first_delta(neighbour)
    for kind in ("Illegal", "Raising", "NoPartial", "NoDecoder", "NoFailure"):
        engine = allm.Engine(adapter=f"tests.runtime.adapters:{kind}", model="m", base_url=sim.base_url("chat"))
        if kind == "NoFailure":
            sim.respond(lambda request: Fault(status=400) if request.text == "Hi" else Reply(text=TEXT, delay=0.02))
        error: allm.ErrorInfo | None
        try:
            error = allm.generate(engine, "Hi", runtime=runtime, retry=allm.Retry.none()).error
        except allm.AllmError as raised:
            error = raised.info
        assert error is not None
        assert error.reason == ("malformed_response" if kind == "Raising" else "unknown"), (kind, error)
    assert begun.delta + text_of(neighbour) == TEXT
    assert allm.generate(fast(), "neighbour", runtime=runtime).text == TEXT


def test_a_date_to_wait_until_is_understood_without_a_date_of_the_answer(raw: Raw, runtime: allm.Runtime) -> None:
    at = formatdate(time.time() + 300, usegmt=True)
    server, engine = raw(answers(f"HTTP/1.1 429 Slow\r\nretry-after: {at}\r\ncontent-length: 0\r\n\r\n".encode()))
    error = failed(engine, runtime=runtime)
    assert error.retry_after is not None
    assert 290 < error.retry_after <= 301
    assert len(server.heads) == 1  # that is longer than anybody waits
