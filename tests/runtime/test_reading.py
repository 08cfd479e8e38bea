"""Large answers are read on threads: the loop goes on, and who ends a call meanwhile gets what had come."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import allm
from allm.actors.reading import LARGE
from allm.providers.openai_chat import OpenAIChat
from allm.providers.openai_chat_decoder import ChatDecoder
from tests.runtime.conftest import Make
from tests.runtime.support import (
    WAIT,
    RawServer,
    Respond,
    answers,
    chat_body,
    chat_event,
    chat_stream,
    eventually,
    http,
    kinds,
    one_end,
    text_of,
)

Raw = Callable[..., tuple[RawServer, allm.Engine]]

BIG = "x" * (4 * LARGE)


class Gate:
    """Stops a reader within its work; `threads` has read."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.inside = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def pass_through(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.inside.set()
        assert self.open.wait(WAIT)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """What completes a large event of a Chat answer, every body and every error of that wire pass it."""
    gate = Gate()
    feed, body, failure = ChatDecoder.feed, ChatDecoder.body, OpenAIChat.failure

    def gated_feed(self: ChatDecoder, data: bytes) -> Any:
        if b"\n\n" in data and (len(data) >= LARGE or threading.current_thread().name != "allm-loop"):
            gate.pass_through()
        return feed(self, data)

    def gated_body(self: ChatDecoder, data: bytes) -> Any:
        gate.pass_through()
        return body(self, data)

    def gated_failure(self: OpenAIChat, *told: Any) -> Any:
        gate.pass_through()
        return failure(self, *told)

    monkeypatch.setattr(ChatDecoder, "feed", gated_feed)
    monkeypatch.setattr(ChatDecoder, "body", gated_body)
    monkeypatch.setattr(OpenAIChat, "failure", gated_failure)
    yield gate
    gate.open.set()


def by_a_reader(gate: Gate) -> bool:
    return bool(gate.threads) and all(name.startswith("allm-pool-readers") for name in gate.threads)


def test_a_large_body_is_read_by_a_thread_and_a_small_one_by_the_loop(raw: Raw, runtime: allm.Runtime, gate: Gate) -> None:
    _, engine = raw(answers(http(chat_body("Hello"), "application/json"), http(chat_body(BIG), "application/json")))
    assert allm.generate(engine, "x", wire="json", runtime=runtime).text == "Hello"
    assert gate.threads == {"allm-loop"}
    gate.threads.clear()
    assert allm.generate(engine, "x", wire="json", runtime=runtime).text == BIG
    assert by_a_reader(gate)


@pytest.mark.parametrize("mode", ["fold", "stream"])
def test_a_large_event_of_a_stream_is_read_by_a_thread_and_the_order_is_kept(
    mode: str, raw: Raw, runtime: allm.Runtime, gate: Gate
) -> None:
    body = chat_event("a") + chat_event(BIG) + chat_event("b") + chat_stream("c")
    _, engine = raw(answers(http(body)))
    if mode == "fold":
        assert allm.generate(engine, "x", runtime=runtime).text == f"a{BIG}bc"
    else:
        events = list(allm.stream_generate(engine, "x", runtime=runtime))
        assert text_of(events) == f"a{BIG}bc"
        assert isinstance(one_end(events), allm.MessageCompleted)
    assert by_a_reader(gate)


def test_a_large_error_is_read_by_a_thread(raw: Raw, runtime: allm.Runtime, gate: Gate) -> None:
    body = json.dumps({"error": {"message": "no", "beside": BIG}}).encode()
    _, engine = raw(answers(http(body, "application/json", "400 Bad Request")))
    with pytest.raises(allm.AdapterError, match="no"):
        allm.generate(engine, "x", runtime=runtime)
    assert by_a_reader(gate)


def test_a_body_of_very_many_blocks_is_handed_on_in_slices_and_whole(raw: Raw, runtime: allm.Runtime) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}] * 6_000
    body = json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": parts}}]}).encode()
    _, engine = raw(answers(http(body, "application/json")))
    events = list(allm.stream_generate(engine, "x", wire="json", runtime=runtime))
    assert kinds(events).count("TextCompleted") == kinds(events).count("ReasoningCompleted") == 6_000
    assert isinstance(one_end(events), allm.MessageCompleted)
    response = allm.fold(events)
    assert isinstance(response, allm.Response)
    assert response.text == "a" * 6_000


def test_while_a_thread_reads_other_calls_go_on(
    serve: Callable[[Respond], RawServer], fast: Make, runtime: allm.Runtime, gate: Gate
) -> None:
    large = serve(answers(http(chat_body(BIG), "application/json")))
    small = serve(answers(http(chat_stream("Hello"))))
    found: list[str] = []
    gate.open.clear()
    reading = threading.Thread(target=lambda: found.append(allm.generate(fast(base_url=large.url), "x", wire="json", runtime=runtime).text))
    reading.start()
    assert gate.inside.wait(WAIT)
    assert allm.generate(fast(base_url=small.url), "x", runtime=runtime).text == "Hello"
    assert not found
    gate.open.set()
    reading.join(WAIT)
    assert found == [BIG]


def test_a_stream_that_is_cancelled_while_a_thread_reads_keeps_all_that_came(raw: Raw, runtime: allm.Runtime, gate: Gate) -> None:
    def respond(visit: Any) -> None:
        visit.read()
        whole = http(chat_event("a") + chat_event(BIG) + chat_stream("never"))
        cut = whole.index(b"never")
        visit.send(whole[:cut])
        visit.wait_gone()

    _, engine = raw(respond)
    gate.open.clear()
    stream = allm.stream_generate(engine, "x", runtime=runtime)
    events = iter(stream)
    first = next(event for event in events if isinstance(event, allm.TextDelta))
    assert gate.inside.wait(WAIT)
    stream.cancel()
    assert runtime.stats()["calls"] in (0, 1)  # the loop answers
    gate.open.set()
    rest = list(events)
    response = stream.response()
    assert first.delta + text_of(rest) == response.text
    assert response.text.startswith(f"a{BIG}")
    assert response.finish_reason == "cancelled"


def test_the_time_that_ends_while_a_thread_reads_is_told_once_it_has_read(raw: Raw, runtime: allm.Runtime, gate: Gate) -> None:
    _, engine = raw(answers(http(chat_body(BIG), "application/json")), timeouts=allm.Timeouts(total=0.3), retry=allm.Retry.none())
    gate.open.clear()
    found: list[Any] = []

    def call() -> None:
        try:
            found.append(allm.generate(engine, "x", wire="json", runtime=runtime))
        except allm.AllmError as error:
            found.append(error)

    calling = threading.Thread(target=call)
    calling.start()
    assert gate.inside.wait(WAIT)
    eventually(lambda: runtime.stats()["calls"] == 0, "its time is over")
    gate.open.set()
    calling.join(WAIT)
    assert len(found) == 1
    assert isinstance(found[0], allm.Response)  # it had come in whole: that is better than the error
    assert found[0].text == BIG


def test_a_runtime_that_stops_while_a_thread_reads_leaves_nobody_waiting(raw: Raw, gate: Gate) -> None:
    runtime = allm.Runtime()
    _, engine = raw(answers(http(chat_body(BIG), "application/json")))
    gate.open.clear()
    ended = threading.Event()

    def call() -> None:
        try:
            allm.generate(engine, "x", wire="json", runtime=runtime)
        except allm.AllmError:
            pass
        ended.set()

    threading.Thread(target=call, daemon=True).start()
    assert gate.inside.wait(WAIT)
    stopping = threading.Thread(target=lambda: runtime.stop(0.2))
    stopping.start()
    stopping.join(WAIT)
    gate.open.set()
    assert ended.wait(WAIT)
