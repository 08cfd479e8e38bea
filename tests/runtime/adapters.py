"""Adapters with bugs."""

from collections.abc import Mapping

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import Event, TextDelta
from allm.providers.openai_chat import ChatDecoder, OpenAIChat
from allm.responses import FinishReason, Response


class IllegalDecoder(ChatDecoder):
    def feed(self, data: bytes) -> list[Event]:
        return [*super().feed(data), TextDelta("nowhere", "opened")]


class Illegal(OpenAIChat):
    """Gives events in an order that is not legal."""

    def decoder(self, engine: Engine, context: CallContext) -> ChatDecoder:
        return IllegalDecoder(context)


class RaisingDecoder(ChatDecoder):
    def feed(self, data: bytes) -> list[Event]:
        raise ZeroDivisionError

    def end(self) -> list[Event]:
        raise ZeroDivisionError


class Raising(OpenAIChat):
    """Raises when it is fed."""

    def decoder(self, engine: Engine, context: CallContext) -> ChatDecoder:
        return RaisingDecoder(context)


class NoPartialDecoder(IllegalDecoder):
    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        raise ZeroDivisionError


class NoPartial(OpenAIChat):
    """Raises once more when it is asked for what came so far."""

    def decoder(self, engine: Engine, context: CallContext) -> ChatDecoder:
        return NoPartialDecoder(context)


class NoDecoder(OpenAIChat):
    """Has none."""

    def decoder(self, engine: Engine, context: CallContext) -> ChatDecoder:
        raise ZeroDivisionError


class NoFailure(OpenAIChat):
    """Raises at an error answer."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        raise ZeroDivisionError
