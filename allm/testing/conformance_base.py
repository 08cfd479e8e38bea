"""What an adapter's author gives to the conformance suite, and what its tests share. The suite itself is `allm.testing.conformance`."""

import unittest
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from allm.actors.runtime import Runtime
from allm.blocks import CallContext
from allm.engine import Engine
from allm.events import TERMINAL, Event, MessageCompleted
from allm.order import OrderChecker
from allm.providers.adapter import Adapter, Decoder, Script
from allm.providers.registry import adapter_for
from allm.requests import Request, ToolSpec
from allm.responses import Response
from allm.retry import Retry
from allm.settings import Timeouts
from allm.testing.simulator import Reply, Simulator
from allm.testing.wires import WIRES
from allm.testing.wires.contract import Ask, Wire

__all__ = ["CALLS", "TEXT", "THOUGHT", "TOOLS", "Conformance", "Live", "completed", "decode", "legal"]

TEXT: Final = Reply(text="Grüße an die 世界 🌍, told in more than one piece.", input_tokens=21)
THOUGHT: Final = Reply(reasoning="Let me think about it.", text="Here it is.", input_tokens=5)
CALLS: Final = Reply(text="I look.", tool_calls=(("get_weather", {"city": "Zürich", "days": 2}), ("get_time", {})))
TOOLS: Final = (
    ToolSpec("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}),
    ToolSpec("get_time", "The time.", {"type": "object", "properties": {}}),
)


class Live(NamedTuple):
    """A server with replies, an engine that talks to it, and a runtime of one's own. `sim` is None where nothing is sent."""

    engine: Engine
    runtime: Runtime
    sim: Simulator | None


class Frames(NamedTuple):
    """The pieces of a stream: what opens it, its deltas, and its end marker."""

    start: tuple[bytes, ...]
    deltas: tuple[bytes, ...]
    end: tuple[bytes, ...]


class Conformance:
    """The hooks: see `allm.testing.AdapterConformance`."""

    adapter: str
    wire: str | Wire | None = None
    model: str = "model-1"
    unknown: tuple[bytes, ...] = ()
    tools: bool = True
    reasoning: bool = True
    usage: bool = True
    length: str | None = "length"

    def engine(self, base_url: str, replies: Sequence[Reply]) -> Engine:
        """The engine under test, for a server at `base_url` that gives these replies; retries off."""
        return Engine(adapter=self.adapter, model=self.model, base_url=base_url, retry=Retry.none(), timeouts=Timeouts(total=20))

    # what the tests use

    def _replies(self) -> tuple[Reply, ...]:
        """One of each kind that the wire can say."""
        return (TEXT, *((THOUGHT,) if self.reasoning else ()), *((CALLS,) if self.tools else ()))

    def _adapter(self) -> Adapter:
        return adapter_for(self.adapter)

    def _wire(self) -> Wire:
        """Its wire; a test that needs one is skipped where nothing goes over a wire."""
        if self.wire is None:
            raise unittest.SkipTest("this adapter sends nothing")
        return WIRES[self.wire] if isinstance(self.wire, str) else self.wire

    @contextmanager
    def _live(self, *replies: Reply) -> Generator[Live, None, None]:
        """All of it, up and running."""
        with Runtime() as runtime:
            if self.wire is None:
                yield Live(self.engine("", replies), runtime, None)
                return
            wire = self._wire()
            with Simulator(wires=[wire], replies=replies) as sim:
                yield Live(self.engine(sim.base_url(wire.name), replies), runtime, sim)

    @contextmanager
    def _served(self, *replies: Reply) -> Generator[tuple[Engine, Runtime, Simulator], None, None]:
        """The same, for tests that look at the server or make it fail."""
        self._wire()
        with self._live(*replies) as (engine, runtime, sim):
            assert sim is not None
            yield engine, runtime, sim

    def _decoder(self, generation: int = 1, used_ids: Iterable[str] = (), raw: bool = False) -> Decoder:
        context = CallContext(request_id="req-1", generation=generation, used_ids=frozenset(used_ids), include_raw_chunks=raw)
        made = self._adapter().decoder(self.engine("http://127.0.0.1:9", [TEXT]), context)
        made.headers({"content-type": "application/octet-stream"})
        return made

    def _frames(self, reply: Reply) -> Frames:
        """The bytes of a streamed answer."""
        if self.wire is not None:
            told = self._wire().stream(self._ask(stream=True), reply, 1)
            return Frames(told.start, told.deltas, told.end)
        script = self._adapter().request(self.engine("", [reply]), Request(()), "", True)
        assert isinstance(script, Script), "an adapter without a wire plays scripts"
        items = tuple(item for _, item in script.steps)
        return Frames((), items[:-1], items[-1:])

    def _body(self, reply: Reply) -> bytes:
        """The bytes of an answer in one body."""
        return self._wire().body(self._ask(stream=False), reply, 1)

    def _ask(self, stream: bool) -> Ask:
        return Ask(model=self.model, stream=stream)


def decode(decoder: Decoder, pieces: Iterable[bytes]) -> list[Event]:
    """The events of a stream that came in these pieces and ended."""
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    return events + decoder.end()


def legal(events: Iterable[Event], about: Any = "") -> list[Event]:
    """The events, if their order is legal; AssertionError otherwise."""
    given = list(events)
    checker = OrderChecker()
    for event in given:
        try:
            checker.check(event)
        except Exception as illegal:
            raise AssertionError(f"{about}: {illegal}; of {[type(each).__name__ for each in given]}") from None
    return given


def completed(events: Iterable[Event], about: Any = "") -> Response:
    """The response of a stream that ended well, whose order is legal."""
    given = legal(events, about)
    ends = [event for event in given if isinstance(event, TERMINAL)]
    assert len(ends) == 1, f"{about}: {len(ends)} terminal events"
    assert given[-1] is ends[0], f"{about}: the terminal event is not the last"
    end = ends[0]
    assert isinstance(end, MessageCompleted), f"{about}: the answer is whole, but it ended with {end}"
    return end.response
