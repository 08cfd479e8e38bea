"""Adapters with one bug each in what they send, which the conformance suite must find; beside those of `broken.py`."""

import itertools
import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ValidationError
from allm.messages import ImagePart, Message, ToolCallPart
from allm.providers.adapter import HttpRequest
from allm.providers.openai_chat import ChatDecoder, OpenAIChat
from allm.requests import Request
from tests.testing.broken import counts_nothing, loses_the_word, told_otherwise


class Sends(OpenAIChat):
    """Sends what it was told by `spoil`."""

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        made = super().request(engine, self.other(request), base_url, stream)
        body = json.loads(made.body)
        self.spoil(body, engine, request)
        return replace(made, body=json.dumps(body).encode())

    def other(self, request: Request) -> Request:
        return request

    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        """Changes the body."""


class NoSystem(Sends):
    def other(self, request: Request) -> Request:
        return replace(request, messages=tuple(message for message in request.messages if message.role != "system"))


class NoResults(Sends):
    def other(self, request: Request) -> Request:
        return replace(request, messages=tuple(message if message.role != "tool" else Message("user", "?") for message in request.messages))


class Numbers(Sends):
    numbers = itertools.count()

    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["user"] = str(next(self.numbers))


class NoOptions(Sends):
    def other(self, request: Request) -> Request:
        return replace(request, options={})


class TellsAll(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["metadata"] = repr(request.messages)


class SendsTheKey(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["user"] = str(dict(engine.keys))


class ForgetsTheAsker(Sends):
    """Everything is told in the name of one."""

    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        for message in body["messages"]:
            message["role"] = "user"


class EngineDecides(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["model"] = engine.model


class OneModel(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["model"] = "fixed"


class AlwaysStreams(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["stream"] = True


class NeverStreams(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body.pop("stream", None)


class SaysItLeavesOut(Sends):
    def left_out(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        return () if request.seed is None else ("seed",)


class RefusesNamelessly(Sends):
    def other(self, request: Request) -> Request:
        if request.seed is not None:
            raise ValidationError.at("somewhere", "no")
        return request


class Plain(Sends):
    """Not broken: it refuses tools, and says that it leaves out the seed."""

    def left_out(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        return () if request.seed is None else ("seed",)

    def other(self, request: Request) -> Request:
        if request.tools:
            raise ValidationError.at("tools", "no tools here")
        return replace(request, seed=None, reasoning=None)

    def decoder(self, engine: Engine, context: CallContext) -> ChatDecoder:
        return told_otherwise(lambda response: loses_the_word(counts_nothing(response))).decoder(engine, context)


def sending(other: Callable[[Request], Request]) -> OpenAIChat:
    """The Chat wire, which makes another request of each."""
    adapter = Sends()
    vars(adapter)["other"] = other
    return adapter


def drops(**nothing: Any) -> OpenAIChat:
    def without(request: Request) -> Request:
        return replace(request, **nothing)

    return sending(without)


def parts_of(request: Request, change: Callable[[Any], Any]) -> Request:
    """The request with other parts in its messages; a part that becomes None is left out."""

    def changed(message: Message) -> Message:
        parts = (change(part) for part in message.parts)
        return replace(message, content=tuple(part for part in parts if part is not None))

    return replace(request, messages=tuple(map(changed, request.messages)))


def no_images(request: Request) -> Request:
    return parts_of(request, lambda part: None if isinstance(part, ImagePart) else part)


def one_image(request: Request) -> Request:
    seen = itertools.count()
    return parts_of(request, lambda part: None if isinstance(part, ImagePart) and next(seen) else part)


def no_arguments(request: Request) -> Request:
    return parts_of(request, lambda part: ToolCallPart(part.id, part.name) if isinstance(part, ToolCallPart) else part)


def no_names(request: Request) -> Request:
    return parts_of(request, lambda part: ToolCallPart(part.id, "tool", part.arguments) if isinstance(part, ToolCallPart) else part)


def no_zero(request: Request) -> Request:
    return replace(request, temperature=request.temperature or None, seed=request.seed or None)


def results_in_order(request: Request) -> Request:
    """Whatever they answer, the results go to the calls in the order in which they stand."""
    ids = iter([call.id for message in request.messages for call in message.tool_calls])
    told = (replace(message, tool_call_id=next(ids)) if message.role == "tool" else message for message in request.messages)
    return replace(request, messages=tuple(told))


def may_call(request: Request) -> Request:
    return replace(request, tool_choice=None) if request.tool_choice == "none" else request


def any_tool(request: Request) -> Request:
    return replace(request, tool_choice="required") if request.tool_choice not in (None, "none") else request


no_temperature, no_top_p, no_limit, no_seed = drops(temperature=None), drops(top_p=None), drops(max_tokens=None), drops(seed=None)
no_stops, no_effort, no_format, no_choice = drops(stop=()), drops(reasoning=None), drops(response_format=None), drops(tool_choice=None)
no_tools = drops(tools=(), tool_choice=None)
lost_images, lost_arguments, lost_names, lost_zeros, one_of_the_images = map(
    sending, (no_images, no_arguments, no_names, no_zero, one_image)
)
mixes_results_up, calls_anyway, calls_any = map(sending, (results_in_order, may_call, any_tool))
