"""Reports to structlog, and only where the program configured it: a library is silent by default."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Literal, TypeAlias

__all__ = ["Level", "enabled", "error", "info", "warning", "write"]

Level: TypeAlias = Literal["info", "warning", "error"]


def error(event: str, **values: Any) -> None:
    """Something that should not have happened."""
    write("error", event, values)


def warning(event: str, **values: Any) -> None:
    """Something that was dealt with."""
    write("warning", event, values)


def info(event: str, **values: Any) -> None:
    """Progress."""
    write("info", event, values)


def enabled() -> bool:
    """Whether anybody configured structlog."""
    # A program that never imported structlog has not configured it; importing it here would block a loop.
    structlog: Any = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())


def write(level: Level, event: str, values: dict[str, Any]) -> None:
    """One line, where anybody configured structlog."""
    if enabled():
        with suppress(Exception):  # an actor does not fall over the program's log
            getattr(sys.modules["structlog"].get_logger("allm"), level)(event, **values)
