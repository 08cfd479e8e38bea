"""The suite that every adapter passes, ours and yours: subclass `AdapterConformance`, name the adapter, give it a wire, run pytest.

    class TestMine(AdapterConformance):
        adapter = "mine"        # what Engine(adapter=...) takes
        wire = MyWire()         # says what the provider would say: an `OwnWire`

Nothing here imports pytest; any runner that finds test methods will do. `examples/third_party` has a whole one.
"""

import json
from typing import Any

from allm.testing.conformance_calls import CallTests
from allm.testing.conformance_ends import EndTests
from allm.testing.conformance_fields import FieldTests
from allm.testing.wires.contract import Ask, Frames
from allm.testing.wires.script import Failure, Reply

__all__ = ["AdapterConformance", "OwnWire"]


class AdapterConformance(EndTests, FieldTests, CallTests):
    """Tests that a subclass inherits. What it says of its adapter:

    `adapter`    its name, as `Engine(adapter=...)` takes it
    `wire`       the provider's side: the name of a wire of the Simulator ("chat", "responses", "messages", "gemini"), or an `OwnWire`;
                 None for an adapter that sends nothing, whose `engine` plays the replies itself
    `model`      the model to ask for
    `unknown`    frames that the wire does not have (yet), each to be passed over
    `tools`, `reasoning`, `usage`   False where the wire has none
    `length`     the wire's word (a `Reply.finish`) for an answer that ended because it grew too long; None where it has none
    `engine(base_url, replies)`   the engine under test; override it where it needs more than its adapter, model and base URL

    What a request says must be sent or refused; of a parameter that the wire has no place for, the adapter may tell instead, by its
    method `left_out` (see `allm.adapters.Adapter`).

    The tests start a `Simulator` with the wire, so faults are real: cut connections, early ends, statuses, waits.
    """


class OwnWire:
    """A provider's side of a wire that the Simulator does not know. Write `stream` and `body`; the rest may stay as it is.

    A `Reply` says what the model says (`text_pieces()`, `reasoning_pieces()`, `tool_calls`, `input_tokens`, `told_tokens()`),
    and in `finish`, if that is set, in which word the answer ends.
    `Frames` has a stream's content type, too; `malformed` is a frame that is broken.
    """

    name = "own"
    base_path = ""
    malformed = b'data: {"broken\n\n'

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        """The frames of a streamed answer; the end marker in `Frames.end`."""
        raise NotImplementedError

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        """The same answer in one body."""
        raise NotImplementedError

    def serves(self, path: str) -> bool:
        """Whether requests to this path are meant; all are."""
        return True

    def parse(self, target: str, body: Any) -> Ask:
        """Whether a stream is asked for: by `"stream": true` in the body."""
        return Ask(model=str(body.get("model", "")), stream=bool(body.get("stream")))

    def error(self, failure: Failure) -> bytes:
        """The body of an error answer."""
        return json.dumps({"error": {"message": failure.message, "code": failure.code}}).encode()

    def stream_error(self, failure: Failure) -> bytes:
        """How a stream that began well tells of an error."""
        return b"data: " + self.error(failure) + b"\n\n"

    def ping(self, ask: Ask, number: int) -> bytes:
        """What keeps a connection alive and says nothing."""
        return b"\n"

    def headers(self, number: int, failure: Failure | None) -> tuple[tuple[str, str], ...]:
        """Response headers of its own; a wait is told in `retry-after`."""
        wait = None if failure is None else failure.retry_after
        return () if wait is None else (("retry-after", f"{wait:g}"),)
