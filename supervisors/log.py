"""Reports to the program's log: structlog where it is configured, else the standard library's logger `allm`, where that is heard.

A library is silent by default. Lines are written by a thread of their own (`logwriter`); `flush` waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import Context, copy_context
from typing import Any, Final, Literal, TypeAlias

from allm.supervisors.logwriter import Line, LogWriter, writing

__all__ = ["Level", "enabled", "error", "failure", "flush", "info", "warning", "write"]

Level: TypeAlias = Literal["info", "warning", "error"]

_NUMBERS: Final = {"info": 20, "warning": 30, "error": 40}
_logger: list[Any] = []


def error(event: str, **values: Any) -> None:
    """Log a thing that should not have happened."""
    write("error", event, values)


def warning(event: str, **values: Any) -> None:
    """Log a thing that was dealt with."""
    write("warning", event, values)


def info(event: str, **values: Any) -> None:
    """Log progress."""
    write("info", event, values)


def failure(event: str, raised: BaseException, **values: Any) -> None:
    """Log an exception that code of the program's own raised, with its traceback."""
    write("error", event, {**values, "error": type(raised).__name__, "exc_info": (type(raised), raised, raised.__traceback__)})


def enabled(level: Level = "error") -> bool:
    """Whether anybody hears lines of this level."""
    # A program that never imported a log has not configured it; importing one here would block a loop.
    structlog: Any = sys.modules.get("structlog")
    return bool(structlog is not None and structlog.is_configured()) or _heard(level)


def write(level: Level, event: str, values: dict[str, Any], context: Context | None = None) -> None:
    """Have a line written where anybody hears it: in `context`, else in a copy of the caller's."""
    if not enabled(level):
        return
    own = copy_context() if context is None else context.copy()
    if not own.get(writing):
        _writer.put(Line(level, event, values, own, _structured()))


def flush(timeout: float = 1.0) -> bool:
    """Wait until the lines that were logged before are written; False if they were not within `timeout` seconds."""
    return _writer.flush(timeout)


def _structured() -> bool:
    structlog: Any = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())


def _heard(level: str) -> bool:
    if not _logger:
        logging: Any = sys.modules.get("logging")
        if logging is None:
            return False
        _logger.append(logging.getLogger("allm"))
    logger = _logger[0]
    # `hasHandlers` of a logger whose name has no dot: its parent is the root.
    handled = logger.handlers or (logger.propagate and logger.parent is not None and logger.parent.handlers)
    return bool(handled and logger.isEnabledFor(_NUMBERS[level]))


def _written(line: Line) -> None:
    """Write a line. On the writer's thread."""
    if line.structured and _structured():
        given = getattr(_bound(sys.modules["structlog"]), line.level)(line.event, **line.values)
        if hasattr(given, "__await__"):
            _on_a_loop(given)
    elif _heard(line.level):
        values = dict(line.values)
        raised = values.pop("exc_info", None)
        _logger[0].log(_NUMBERS[line.level], "%s", _text(line.event, values), exc_info=raised)


def _bound(structlog: Any) -> Any:
    """The logger; of an asynchronous one of structlog's, which is made on a loop, the synchronous one inside."""
    if not hasattr(structlog.get_config()["wrapper_class"], "sync_bl"):
        return structlog.get_logger("allm").bind()

    async def make() -> Any:
        return structlog.get_logger("allm").bind().sync_bl

    return _on_a_loop(make())


def _on_a_loop(given: Any) -> Any:
    """Await something; on this thread no event loop runs."""
    import asyncio  # only for a program that has it already, as its logger is asynchronous

    async def wait() -> Any:
        return await given

    return asyncio.run(wait())


def _is_error(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("detail"), dict)  # pyright: ignore[reportUnknownMemberType]


def _text(event: str, values: Mapping[str, Any]) -> str:
    """The line; the traceback of an exit under it, as one reads it."""
    shown, traces = dict(values), ""
    for name, value in values.items():
        detail: dict[str, Any] = dict(value["detail"]) if _is_error(value) else {}
        if isinstance(trace := detail.pop("trace", None), str):
            shown[name] = {**value, "detail": detail}
            traces += f"\n{trace.rstrip()}" if trace else ""
    return " ".join((event, *(f"{name}={value!r}" for name, value in shown.items()))) + traces


_writer: Final = LogWriter(_written)
