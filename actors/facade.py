"""The calls: one round trip, one step with its tools, the whole loop; each whole, or as a stream of its events."""

from typing import Unpack

from allm.actors.handle import Stream
from allm.actors.options import CallOptions, LoopOptions
from allm.actors.outgoing import TurnContext
from allm.actors.request_plan import Ask, plan_call
from allm.actors.turn_options import plan_turn
from allm.engine import Engine
from allm.responses import ChatResult, Response, StepResult

__all__ = ["Ask", "TurnContext", "chat", "generate", "step", "stream", "stream_generate", "stream_step"]


def generate(engine: Engine, request: Ask, **opts: Unpack[CallOptions]) -> Response:
    """One round trip: the response. Blocks; see `allm.aio.generate` for asyncio.

    Raises AdapterError when the call failed before any content and its retries are spent; after content the response carries the
    partial text, `finish_reason="error"` and `error`. Raises ValidationError, before anything is sent, for bad input.
    """
    stream: Stream[Response] = Stream(*plan_call(engine, request, opts, folding=True))
    return stream.response()


def stream_generate(engine: Engine, request: Ask, **opts: Unpack[CallOptions]) -> Stream[Response]:
    """One round trip as a `Stream` of its events. Nothing is sent before the first one is asked for."""
    return Stream(*plan_call(engine, request, opts, folding=False))


def step(engine: Engine, request: Ask, **opts: Unpack[LoopOptions]) -> StepResult:
    """One round trip and the tools it asks for. Blocks. Errors as `generate`; those of tools are fed to the model by the next step."""
    stream: Stream[StepResult] = Stream(*plan_turn(engine, request, opts, folding=True, single=True))
    return stream.result()


def stream_step(engine: Engine, request: Ask, **opts: Unpack[LoopOptions]) -> Stream[StepResult]:
    """One step as a `Stream` of its events; the last one is `StepCompleted`."""
    return Stream(*plan_turn(engine, request, opts, folding=False, single=True))


def chat(engine: Engine, request: Ask, **opts: Unpack[LoopOptions]) -> ChatResult:
    """Steps until the model answers without calling a tool, or something halts the loop (`halted_reason`). Blocks.

    Raises as `generate` does before the first step has anything; afterwards an error is in the result, with every completed step.
    """
    stream: Stream[ChatResult] = Stream(*plan_turn(engine, request, opts, folding=True, single=False))
    return stream.result()


def stream(engine: Engine, request: Ask, **opts: Unpack[LoopOptions]) -> Stream[ChatResult]:
    """The loop as a `Stream` of its events; the last one is `ChatCompleted`."""
    return Stream(*plan_turn(engine, request, opts, folding=False, single=False))
