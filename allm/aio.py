"""The same calls as coroutines: `await allm.aio.generate(engine, "Hi")`. Any event loop, any number of them."""

from typing import Unpack

from allm.actors.embedding_calls import embed_async as embed
from allm.actors.embedding_calls import moderate_async as moderate
from allm.actors.facade import stream, stream_generate, stream_step
from allm.actors.handle import Stream
from allm.actors.image_calls_async import edit_image, generate_image, image_variations
from allm.actors.mapping import map_async as map
from allm.actors.options import CallOptions, LoopOptions
from allm.actors.request_plan import Ask, plan_call
from allm.actors.turn_options import plan_turn
from allm.engine import Engine
from allm.responses import ChatResult, Response, StepResult

__all__ = [
    "chat",
    "edit_image",
    "embed",
    "generate",
    "generate_image",
    "image_variations",
    "map",
    "moderate",
    "step",
    "stream",
    "stream_generate",
    "stream_step",
]


async def generate(engine: Engine, request: Ask, **opts: Unpack[CallOptions]) -> Response:
    """One round trip: the response. Cancelling the task ends the HTTP request at once. See `allm.generate`."""
    call: Stream[Response] = Stream(*plan_call(engine, request, opts, folding=True))
    del opts
    return await call


async def step(engine: Engine, request: Ask, **opts: Unpack[LoopOptions]) -> StepResult:
    """One round trip and the tools it asks for; asynchronous handlers run on this loop. See `allm.step`."""
    call: Stream[StepResult] = Stream(*plan_turn(engine, request, opts, folding=True, single=True))
    del opts
    return await call


async def chat(engine: Engine, request: Ask, **opts: Unpack[LoopOptions]) -> ChatResult:
    """Steps until something halts the loop; asynchronous handlers run on this loop. See `allm.chat`."""
    call: Stream[ChatResult] = Stream(*plan_turn(engine, request, opts, folding=True, single=False))
    del opts
    return await call
