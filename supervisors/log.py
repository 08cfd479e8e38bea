"""Reports to structlog, and only where the program configured it: a library is silent by default."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["error", "info", "warning"]


def error(event: str, **values: Any) -> None:
    """Something that should not have happened."""
    _write("error", event, values)


def warning(event: str, **values: Any) -> None:
    """Something that was dealt with."""
    _write("warning", event, values)


def info(event: str, **values: Any) -> None:
    """Progress."""
    _write("info", event, values)


def _write(level: str, event: str, values: dict[str, Any]) -> None:
    # A program that never imported structlog has not configured it; importing it here would block a loop.
    structlog: Any = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        getattr(structlog.get_logger("allm"), level)(event, **values)
