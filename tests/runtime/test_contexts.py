"""The work of a call runs in its caller's context, and in nobody else's: transports, resolvers, callbacks, lines of the log."""

import contextvars
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

import allm
from allm.supervisors import log
from allm.testing import Fault, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
CALLERS = 8
ROUNDS = 10


class Told(httpx.AsyncHTTPTransport):
    """Notes in whose context each request is sent."""

    seen: list[tuple[str, str]]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append((request.headers["x-who"], who.get()))
        return await super().handle_async_request(request)


Told.seen = []


def as_many(call: Any) -> None:
    """Runs `call(name)` for each of many callers at once, each with a context of its own."""

    def run(name: str) -> None:
        who.set(name)
        structlog.contextvars.bind_contextvars(who=name)
        for _ in range(ROUNDS):
            call(name)

    threads = [threading.Thread(target=run, args=(f"caller {n}",)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)


def test_a_transport_of_ones_own_sees_the_context_of_its_caller(fast: Make, runtime: allm.Runtime) -> None:
    Told.seen.clear()

    def call(name: str) -> None:
        http = allm.Http(transport=f"{__name__}:Told", headers={"x-who": name})
        allm.generate(fast(http=http), "x", runtime=runtime)

    as_many(call)
    assert len(Told.seen) == CALLERS * ROUNDS
    assert [pair for pair in Told.seen if pair[0] != pair[1]] == []


def test_on_event_and_the_key_resolver_see_the_context_of_their_caller(fast: Make, runtime: allm.Runtime) -> None:
    seen: list[tuple[str, str]] = []

    def call(name: str) -> None:
        def resolve(*_: Any) -> str:
            seen.append((name, who.get()))
            return "key"

        allm.generate(fast(keys=resolve), "x", on_event=lambda _: seen.append((name, who.get())), runtime=runtime)

    as_many(call)
    assert len(seen) >= CALLERS * ROUNDS * 4
    assert [pair for pair in seen if pair[0] != pair[1]] == []


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What structlog is told, with the fields of whoever had it to say."""
    found: list[dict[str, Any]] = []

    def keep(_: Any, __: str, values: Any) -> Any:
        found.append(dict(values))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    yield found
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_lines_about_a_call_have_the_fields_of_its_caller(
    sim: Simulator, fast: Make, runtime: allm.Runtime, lines: list[dict[str, Any]]
) -> None:
    sim.fault(Fault(status=503), times=3)

    def call(name: str) -> None:
        allm.generate(fast(), "x", request_id=f"{name}/{len(lines)}/{threading.get_ident()}", runtime=runtime)

    as_many(call)
    assert log.flush(WAIT)
    about = [(line, str(line.get("call") or line.get("child") or line.get("offender", {}).get("id") or "")) for line in lines]
    told = [(id.partition("/")[0], line.get("who")) for line, id in about if id.startswith("caller")]
    assert len(told) >= CALLERS * ROUNDS * 3
    assert {line["event"] for line, id in about if id.startswith("caller")} >= {"call_finished", "child_started", "child_restarting"}
    assert [pair for pair in told if pair[0] != pair[1]] == []
    assert {line.get("who") for line, id in about if not id.startswith("caller")} <= {None}


def test_a_finished_call_has_one_line_with_its_model_tokens_and_seconds(
    fast: Make, runtime: allm.Runtime, lines: list[dict[str, Any]]
) -> None:
    allm.generate(fast(), "x", request_id="r1", runtime=runtime)
    assert log.flush(WAIT)
    (line,) = [line for line in lines if line["event"] == "call_finished"]
    assert (line["call"], line["model"], line["attempts"], line["finish_reason"]) == ("r1", "m", 1, "stop")
    assert line["input_tokens"] > 0
    assert line["output_tokens"] > 0
    assert line["seconds"] >= 0


def test_what_a_callback_raises_is_logged_with_its_traceback_by_the_standard_library(
    fast: Make, runtime: allm.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def misspelt(event: Any) -> None:
        event.no_such_attribute()

    with caplog.at_level(logging.ERROR, logger="allm"):
        allm.generate(fast(), "x", on_event=misspelt, runtime=runtime)
        assert log.flush(WAIT)
    records = [record for record in caplog.records if record.getMessage().startswith("on_event_failed")]
    assert records
    assert records[0].name == "allm"
    assert records[0].exc_text is not None or records[0].exc_info is not None
    assert "no_such_attribute" in caplog.text
    assert "in misspelt" in caplog.text


def test_a_listener_does_not_hear_of_itself(fast: Make, runtime: allm.Runtime) -> None:
    """A processor that makes a call itself: its lines would make the next call, without end."""
    calls: list[str] = []

    def asks(_: Any, __: str, values: Any) -> Any:
        if values["event"] == "call_finished":
            calls.append(allm.generate(fast(), "inside", runtime=runtime).text)
        raise structlog.DropEvent

    structlog.configure(processors=[asks])
    try:
        allm.generate(fast(), "x", runtime=runtime)
        assert log.flush(WAIT)
    finally:
        structlog.reset_defaults()
    assert len(calls) == 1
