"""Reports to structlog, and only where the program configured it: a library is silent by default."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["enabled", "error", "info", "warning"]


def error(event: str, **values: Any) -> None:
    """Something that should not have happened."""
    _write("error", event, values)


def warning(event: str, **values: Any) -> None:
    """Something that was dealt with."""
    _write("warning", event, values)


def info(event: str, **values: Any) -> None:
    """Progress."""
    _write("info", event, values)


def enabled() -> bool:
    """Whether anybody configured structlog."""
    # A program that never imported structlog has not configured it; importing it here would block a loop.
    structlog: Any = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())


def _write(level: str, event: str, values: dict[str, Any]) -> None:
    if enabled():
        getattr(sys.modules["structlog"].get_logger("allm"), level)(event, **values)
