"""What is made anew at each sending: the instructions, the part of the thread that is sent, and results for calls that have none."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from allm.callables import resolve_callable
from allm.engine import Engine
from allm.errors import ValidationError
from allm.history import KeepLast, TokenBudget, apply, repair
from allm.messages import system
from allm.plain import Value
from allm.requests import Request

__all__ = ["FUNCTIONS", "TurnContext", "asked_in_time", "asks_functions", "outgoing"]


Made = TypeVar("Made")
FUNCTIONS: Final = "instructions or history"
"""What these functions are called in an error."""


class TurnContext(Value, frozen=True, kw_only=True):
    """What an `instructions` function is told."""

    request_id: str
    session_id: str | None = None
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


def outgoing(engine: Engine, request: Request, request_id: str, context: Mapping[str, Any], tighter: bool = False) -> Request:
    """The request as it is sent: instructions first, the part of the thread that the history policy leaves, and no call without a result.
    Runs functions of the user."""
    messages = repair(request.messages)
    if engine.history is not None:
        messages = apply(engine.history, messages, tighter)
    if engine.instructions is not None:
        messages = (system(_instructions(engine, request, request_id, context)), *messages)
    return request if messages is request.messages else replace(request, messages=messages)


def asks_functions(engine: Engine) -> bool:
    """Whether making the request anew calls functions of the user."""
    own = engine.history is not None and not isinstance(engine.history, KeepLast | TokenBudget)
    written = engine.instructions is None or isinstance(engine.instructions, str)
    return own or not written


def asked_in_time(engine: Engine, runtime: Any, limit: float | None, make: Callable[[], Made]) -> Made:
    """What `make` gives, which makes a request ready; on a worker with a clock if that calls functions of the user. Raises what they raise,
    and EngineError for one that does not come back within `limit` seconds. Waits in the calling thread: before the first request."""
    if not asks_functions(engine) or runtime.on_loop():
        return make()
    crews = runtime.crews
    crew = crews.history if isinstance(engine.instructions, str | None) else crews.instructions
    made: Made = crew.wait(FUNCTIONS, make, limit)
    return made


def _instructions(engine: Engine, request: Request, request_id: str, context: Mapping[str, Any]) -> str:
    if isinstance(engine.instructions, str):
        return engine.instructions
    text = resolve_callable(engine.instructions, "engine.instructions")(
        TurnContext(request_id=request_id, context={**engine.context, **context}, metadata=request.metadata)
    )
    if not isinstance(text, str):
        raise ValidationError.at("engine.instructions", f"the function gave {type(text).__name__}, not text")
    return text
