"""The engine of a test: code under test asks `current_engine()`, the test says which one it is."""

import contextvars
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from allm.engine import Engine
from allm.errors import EngineError

__all__ = ["current_engine", "use_engine"]


class _Use:
    """An engine in use; over when its block is, also for a thread that lives on."""

    def __init__(self, engine: Engine, outer: "_Use | None") -> None:
        self.engine = engine
        self.outer = outer
        self.over = False


_current: contextvars.ContextVar[_Use | None] = contextvars.ContextVar("allm_current_engine", default=None)
_lock = threading.Lock()
_uses = 0
_start = threading.Thread.start


def current_engine(default: Engine | None = None) -> Engine:
    """The engine of the innermost `use_engine` round this code, else `default`. Raises EngineError("no_current_engine")."""
    use = _current.get()
    while use is not None and use.over:
        use = use.outer
    if use is not None:
        return use.engine
    if default is None:
        raise EngineError("no_current_engine", "no engine is in use here; see allm.testing.use_engine, or give a default")
    return default


@contextmanager
def use_engine(engine: Engine) -> Generator[Engine]:
    """Inside, `current_engine()` gives this engine: in this context, and in the tasks and threads that it starts."""
    if not isinstance(engine, Engine):
        raise EngineError("no_engine", f"expected an allm.Engine, got {type(engine).__name__}")
    use = _Use(engine, _current.get())
    token = _current.set(use)
    _carry(1)
    try:
        yield engine
    finally:
        use.over = True
        _carry(-1)
        _current.reset(token)


def _carry(change: int) -> None:
    """Threads do not inherit context variables: while an engine is in use, they are started in a copy of their starter's context."""
    global _uses
    with _lock:
        _uses += change
        start: Any = _start_in_context if _uses else _start
        threading.Thread.start = start  # type: ignore[method-assign]


def _start_in_context(thread: threading.Thread) -> None:
    if _current.get() is not None:
        context, run = contextvars.copy_context(), thread.run
        thread.run = partial(context.run, run)  # type: ignore[method-assign]
    _start(thread)
