"""Conformance of whole calls: through a runtime, over HTTP, with faults. Part of `AdapterConformance`."""

import logging
import pickle
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, cast

import structlog

from allm.actors.facade import generate, stream_generate
from allm.actors.runtime import Runtime
from allm.codec import to_json
from allm.errors import AdapterError, AllmError, ValidationError
from allm.events import ErrorOccurred, Event, MessageCompleted, RequestStarted, TextDelta
from allm.folding import fold, text
from allm.messages import Message, tool_result, user
from allm.providers.adapter import HttpRequest
from allm.requests import Request
from allm.responses import Response
from allm.supervisors import log
from allm.testing.conformance_base import CALLS, TEXT, TOOLS, Conformance, legal
from allm.testing.conformance_requests import KEY
from allm.testing.simulator import Fault, Reply

__all__ = ["CallTests"]

_SLOW: Final = Reply(text="one two three four five six seven eight nine ten", delay=0.2)
_BAD: Final = (
    Request(()),
    Request((user("Hi"),), temperature=float("nan")),
    Request((user("Hi"),), tools=(TOOLS[0], TOOLS[0])),
    Request((Message("tool", "no id"),)),
    Request((Message(cast("Any", "robot"), "no such role"),)),
)
_BROKEN_OFF: Final = frozenset({"truncated", "connection_closed", "malformed_response"})


class CallTests(Conformance):
    """What a caller of every adapter may rely on."""

    def test_every_way_to_make_a_call_gives_the_same(self) -> None:
        for reply in self._replies():
            with self._live(*[reply] * 4) as (engine, runtime, _):
                request = Request((user("Hi"),), tools=TOOLS if reply.tool_calls else ())
                events = list(stream_generate(engine, request, runtime=runtime))
                _is_one_call(events)
                responses = [
                    fold(events),
                    generate(engine, request, runtime=runtime),
                    generate(engine, request, runtime=runtime, wire="json"),
                    stream_generate(engine, request, runtime=runtime, emit_text_deltas=False, emit_tool_deltas=False).response(),
                ]
                assert text(events) == reply.text, f"the deltas say {text(events)!r}"
                for response in responses:
                    assert isinstance(response, Response), response
                    assert _said(response) == (reply.text, reply.reasoning, reply.tool_calls), response
                    assert response.finish_reason == ("tool_calls" if reply.tool_calls else "stop"), response

    def test_tool_calls_and_their_results_go_there_and_back(self) -> None:
        if not self.tools:
            return
        with self._live(CALLS, TEXT) as (engine, runtime, sim):
            request = Request((user("What is it like in Zürich?"),), tools=TOOLS)
            asked = generate(engine, request, runtime=runtime)
            assert len(asked.tool_calls) == 2, f"two calls were made, not {asked.tool_calls}"
            results = [tool_result(call.id, f"the result of {call.name}") for call in asked.tool_calls]
            thread = (*request.messages, asked.message, *results)
            answer = generate(engine, Request(thread, tools=TOOLS), runtime=runtime)
            assert answer.text == TEXT.text, f"the thread with the results was answered by {answer}"
            if sim is not None:
                sent = repr(sim.requests[-1].body)
                for call in asked.tool_calls:
                    assert f"the result of {call.name}" in sent, f"the result of {call.name} is not in {sent}"

    def test_cancelling_keeps_what_came_and_closes_upstream(self) -> None:
        with self._served(_SLOW) as (engine, runtime, sim):
            stream = stream_generate(engine, "Count.", runtime=runtime)
            events: list[Event] = []
            for event in stream:
                events.append(event)
                if isinstance(event, TextDelta) and len(text(events).split()) == 2:
                    stream.cancel()
            response = stream.response()
            assert response.finish_reason == "cancelled", response
            assert response.text == text(events), f"{response.text!r} is left of {text(events)!r}"
            assert response.text, "what came was lost"
            assert _SLOW.text.startswith(response.text), response.text
            assert sim.wait_idle(2), "two seconds after the cancellation the request still runs"
            outcomes = [request.outcome for request in sim.requests]
            assert outcomes == ["client closed"], f"upstream was not closed by us: {outcomes}"

    def test_a_stream_that_ends_too_early_is_truncated_and_keeps_what_came(self) -> None:
        with self._served(TEXT, TEXT, TEXT) as (engine, runtime, sim):
            sim.fault(Fault(end_after=2), times=2)
            events = list(stream_generate(engine, "Hi", runtime=runtime))
            last = legal(events)[-1]
            assert isinstance(last, ErrorOccurred), f"taken for whole: {last}"
            for kept in (fold(events), generate(engine, "Hi", runtime=runtime)):
                assert isinstance(kept, Response), kept
                assert kept.finish_reason == "error", f"taken for whole: {kept}"
                assert kept.error is not None, f"no error: {kept}"
                assert kept.error.reason == "truncated", kept.error
                assert kept.text, "what came was lost"
                assert TEXT.text.startswith(kept.text), kept.text
            sim.fault(Fault(end_after=0))
            error = _fails(partial(generate, engine, "Hi", runtime=runtime))
            assert error.reason == "truncated", error.info

    def test_a_connection_that_breaks_is_no_success(self) -> None:
        with self._served(TEXT) as (engine, runtime, sim):
            for wire in ("sse", "json"):
                for fault in (Fault(cut_after=60), Fault(cut_after=60, reset=True), Fault(refuse=True)):
                    sim.fault(fault)
                    try:
                        response = generate(engine, "Hi", runtime=runtime, wire=wire)
                    except AdapterError as error:
                        reason = error.reason
                    else:
                        assert response.error is not None, f"{wire}, {fault}: taken for whole: {response}"
                        reason = response.error.reason
                    assert reason in _BROKEN_OFF, f"{wire}, {fault}: {reason}"

    def test_an_error_answer_is_raised_with_its_reason_status_and_wait(self) -> None:
        with self._served(TEXT) as (engine, runtime, sim):
            for status, reason, wait in ((429, "rate_limited", 7.0), (401, "authentication", None), (500, "server_error", None)):
                for wire in ("sse", "json"):
                    sim.fault(Fault(status=status, retry_after=wait))
                    error = _fails(partial(generate, engine, "Hi", runtime=runtime, wire=wire, request_id="req-7"))
                    assert (error.reason, error.status) == (reason, status), error.info
                    assert error.retry_after == wait, f"asked to wait {wait} s, understood {error.retry_after}"
                    assert error.request_id == "req-7", error.info
                    assert error.provider == self._adapter().provider, error.info

    def test_bad_requests_are_refused_before_anything_is_sent(self) -> None:
        with self._live(TEXT) as (engine, runtime, sim):
            for request in _BAD:
                refused = _fails(partial(generate, engine, request, runtime=runtime))
                assert isinstance(refused, ValidationError), f"this was sent: {request}"
                assert refused.metadata.get("path"), f"no path: {refused!r}"
            assert sim is None or sim.requests == (), "a bad request was sent"

    def test_the_key_is_sent_and_stays_nowhere(self) -> None:
        with self._served(TEXT, TEXT, TEXT) as (engine, runtime, sim), _logged() as log:
            told: list[Any] = []
            sim.fault(Fault(status=401, message=f"{KEY} is no key of ours"), Fault(error_after=1, message=f"{KEY} broke"))
            error = _fails(partial(_call, engine, runtime, told))
            told += [_call(engine, runtime, told), _call(engine, runtime, told)]
            told += [*stream_generate(engine, "Hi", api_key=KEY, runtime=runtime), error.info]
            for value in told:
                for form in (repr(value), str(value), to_json(value).decode(), pickle.dumps(value).decode("latin-1")):
                    assert KEY not in form, f"the key is in {type(value).__name__}"
            where = {"the exception": repr((error, error.args, str(error), pickle.dumps(error)))}
            where |= {"its traceback": _frames(error), "the runtime": repr((runtime.tree(), runtime)), "the log": repr(log)}
            for place, shown in where.items():
                assert KEY not in shown, f"the key is in {place}"
            made = self._adapter().request(engine, Request((user("Hi"),)), sim.url, True)
            if isinstance(made, HttpRequest) and made.key_header is not None:
                for request in sim.requests:
                    assert made.key_header.lower() in request.headers, f"no key was sent in {made.key_header}"


def _call(engine: Any, runtime: Runtime, told: list[Any]) -> Response:
    return generate(engine, "Hi", api_key=KEY, runtime=runtime, on_event=told.append)


def _fails(call: Callable[[], object]) -> AllmError:
    try:
        result = call()
    except AllmError as error:
        return error
    raise AssertionError(f"this is no success: {result}")


def _is_one_call(events: list[Event]) -> None:
    """From its request to its message, in legal order."""
    legal(events)
    assert isinstance(events[0], RequestStarted), f"the first event is {events[0]}"
    assert isinstance(events[-1], MessageCompleted), f"the last event is {events[-1]}"


def _said(response: Response) -> tuple[Any, ...]:
    return response.text, response.reasoning_text, tuple((call.name, call.arguments) for call in response.tool_calls)


def _frames(error: BaseException) -> str:
    """What the frames of its traceback hold, and those of what it is chained to."""
    shown: list[str] = []
    left: BaseException | None = error
    while left is not None:
        trace: TracebackType | None = left.__traceback__
        while trace is not None:
            shown.append(repr(trace.tb_frame.f_locals))
            trace = trace.tb_next
        left = left.__cause__ or left.__context__
    return "\n".join(shown)


class _Lines(logging.Handler):
    def __init__(self, lines: list[Any]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.getMessage(), record.args, record.exc_text))


@contextmanager
def _logged() -> Generator[list[Any], None, None]:
    """Everything that is logged meanwhile, by the standard library and by structlog."""
    lines: list[Any] = []
    handler = _Lines(lines)
    root, configured = logging.getLogger(), structlog.is_configured()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with structlog.testing.capture_logs() as captured:
            yield lines
            log.flush(5)
            lines += captured
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        if not configured:
            structlog.reset_defaults()
