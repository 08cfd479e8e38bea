"""Engines to other processes, lambdas and closures included. Between trusted processes only, never from a store: it is a pickle."""

from typing import Any

import cloudpickle

from allm.actors import pickling
from allm.engine import Engine
from allm.errors import ValidationError

__all__ = ["dumps", "loads"]


def dumps(engine: Engine) -> bytes:
    """The engine as bytes. Raises EngineError("holds_keys") when it holds literal keys."""
    if not isinstance(engine, Engine):
        raise ValidationError.at("engine", f"expected an allm.Engine, got {type(engine).__name__}")
    return pickling.dumps(engine)


def loads(data: bytes) -> Engine:
    """The engine from what `dumps` gave in a process that is trusted: unpickling runs code."""
    value: Any = cloudpickle.loads(data)
    if not isinstance(value, Engine):
        raise ValidationError.at("data", f"expected an engine, got {type(value).__name__}")
    return value
