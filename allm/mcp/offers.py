"""What a server offers, and what of it can be used here: the rest is left out, and told in the log."""

from collections.abc import Iterable

import mcp_types as types
import msgspec

from allm.errors import ValidationError
from allm.limits import limits
from allm.mcp.server import Server
from allm.supervisors import log
from allm.tools import Tool

__all__ = ["usable"]


def usable(offered: Iterable[types.Tool], server: Server) -> tuple[types.Tool, ...]:
    """The tools that can be called from here, each name once (the last tool of that name, in the place of the first)."""
    found: dict[str, types.Tool] = {}
    for tool in offered:
        why = _obstacle(tool)
        if why is None and tool.name not in found and len(found) >= limits().tools:
            why = f"there are more than {limits().tools} tools"
        if why is None:
            found[tool.name] = tool
        else:
            log.warning("mcp_tool_left_out", server=server.name, tool=ascii(tool.name[:100]), why=why)
    return tuple(found.values())


def _obstacle(tool: types.Tool) -> str | None:
    """Why this tool cannot be used, if it cannot."""
    if tool.execution is not None and tool.execution.task_support == "required":
        return "it runs as a task, which is not offered here"
    try:
        size = len(msgspec.json.encode((tool.description, tool.title, tool.input_schema)))
        if size > limits().schema:
            return f"its schema and description have {size} bytes, at most {limits().schema} are allowed"
        Tool(name="x", description=tool.description or tool.title or "", schema=tool.input_schema)
    except (ValidationError, RecursionError) as error:
        return f"its schema cannot be used: {str(error)[:200]}"
    return None
