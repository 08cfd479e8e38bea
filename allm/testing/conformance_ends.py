"""Conformance of what is told of the end of an answer: why it came, what it cost, whose error it was. Part of `AdapterConformance`."""

from msgspec.structs import replace

from allm.events import ErrorOccurred, Event
from allm.responses import Response
from allm.testing.conformance_base import TEXT, completed, decode
from allm.testing.conformance_decoding import DecodingTests
from allm.testing.conformance_requests import STATUSES
from allm.testing.wires.script import Failure, Reply

__all__ = ["EndTests"]


class EndTests(DecodingTests):
    """What every answer must tell at its end."""

    def test_it_is_told_why_an_answer_ended(self) -> None:
        for word, finish in ((None, "stop"), (self.length, "length")):
            for response in self._ways(replace(TEXT, finish=word)) if word or finish == "stop" else ():
                about = f"for the wire's {word!r} (which `OwnWire` finds in `Reply.finish`)" if word else "for a good end"
                assert response.finish_reason == finish, f"{response.finish_reason!r} instead of {finish!r} {about}"
                assert response.raw_finish_reason or self.length is None, f"no raw_finish_reason {about}: the wire's own word is lost"

    def test_it_is_told_what_an_answer_used(self) -> None:
        for response in self._ways(TEXT) if self.usage else ():
            used = response.usage.input_tokens, response.usage.output_tokens
            expected = TEXT.input_tokens, TEXT.told_tokens()
            assert used == expected, f"{used} tokens of input and output instead of {expected}"

    def _ways(self, reply: Reply) -> list[Response]:
        """As a stream says it, and as one body does."""
        streamed = completed(decode(self._decoder(), self._stream(reply)), reply)
        return [streamed] if self.wire is None else [streamed, completed(self._decoder().body(self._body(reply)), reply)]

    def test_errors_are_told_of_the_provider_and_of_no_other(self) -> None:
        ours = self._adapter().provider
        said, told = Failure(500, "it broke"), self._wire()
        ends = [event for events in self._broken(told.stream_error(said), told.malformed) for event in events[-1:]]
        errors = [event.error for event in ends if isinstance(event, ErrorOccurred)]
        for info in (*errors, *(self._adapter().failure(status, {}, told.error(replace(said, status=status))) for status in STATUSES)):
            assert info.provider in (None, ours), f"an error of {ours!r} was told of {info.provider!r}: {info}"  # None: the runtime knows

    def _broken(self, *frames: bytes) -> list[list[Event]]:
        """The events of streams that each of these frames breaks off."""
        start, deltas, end = self._frames(TEXT)
        return [decode(self._decoder(), [*start, *deltas[:1], frame, *end]) for frame in frames]
