"""What an MCP server answers to a call, as the result of a tool: text or JSON, the two things that a tool can give."""

from typing import Any

import mcp_types as types

from allm.errors import ToolError

__all__ = ["value_of"]


def value_of(result: types.CallToolResult, tool: str) -> Any:
    """The structured content if there is some, else the text; of what is neither, a note stands in its place.

    With both structured content and something that is no text (an image), it is an object of the two, so that nothing is lost unsaid.
    Raises ToolError("failed") with the server's words where it says that the call has failed.
    """
    if result.is_error:
        raise ToolError("failed", "\n".join(map(_words, result.content)) or f"{tool} has failed, and its server does not say why")
    structured: Any = result.structured_content
    if structured is None:
        return "\n".join(map(_words, result.content))
    notes = [_words(block) for block in result.content if not isinstance(block, types.TextContent)]
    return {"structuredContent": structured, "content": notes} if notes else structured


def _words(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            kind = "image" if isinstance(block, types.ImageContent) else "audio"
            return _left_out(kind, block.mime_type, block.data)
        case types.ResourceLink():
            return " ".join(part for part in (f"[resource {block.name}: {block.uri}", block.mime_type, block.description) if part) + "]"
        case types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, text=text)):
            return f"[resource {uri}]\n{text}"
        case types.EmbeddedResource(resource=types.BlobResourceContents(uri=uri, mime_type=mime, blob=blob)):
            return _left_out(f"resource {uri}", mime, blob)
        case _:
            return f"[{getattr(block, 'type', 'something')} that is not known here]"


def _left_out(what: str, mime: str | None, base64: str) -> str:
    size = len(base64) * 3 // 4 - base64[-2:].count("=")
    return f"[{what} left out: {mime or 'of no stated type'}, {size} bytes; a tool's result is text or JSON]"
