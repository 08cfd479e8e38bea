"""The same calls as coroutines: `await allm.aio.generate(engine, "Hi")`. Any event loop, any number of them."""

from typing import Any

from allm.actors.facade import Ask, plan_call
from allm.actors.handle import Stream
from allm.engine import Engine
from allm.responses import Response

__all__ = ["generate"]


async def generate(engine: Engine, request: Ask, **opts: Any) -> Response:
    """One round trip: the response. Cancelling the task ends the HTTP request at once. See `allm.generate`."""
    stream = Stream(*plan_call(engine, request, opts, folding=True))
    del opts
    return await stream
