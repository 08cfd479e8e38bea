"""What an MCP server answers to a call, as the result of a tool: text or JSON, and the images that a model can be shown."""

import base64
import binascii
from typing import Any, Final

import mcp_types as types

from allm.errors import ToolError, ValidationError
from allm.images import Image, mime_of
from allm.limits import limits
from allm.tools import IMAGES, Illustrated

__all__ = ["value_of"]

_LARGEST: Final = 3_750_000
"""Bytes of one image: Anthropic's wire takes 5 MB of base64, the least of all, and refuses the whole conversation for a larger one."""


def value_of(result: types.CallToolResult, tool: str) -> Any:
    """The structured content if there is some, else the text; the images beside it, for wires that take images in results.

    A note stands in the place of each image, and of what is neither text nor an image that can be shown. With both structured content
    and something that is no text, the result is an object of the two, so that nothing is lost unsaid.
    Raises ToolError("failed") with the server's words where it says that the call has failed.
    """
    told = _Told()
    words = [told.add(block) for block in result.content]
    if result.is_error:
        raise ToolError("failed", "\n".join(words) or f"{tool} has failed, and its server does not say why")
    value: Any = result.structured_content
    if value is None:
        value = "\n".join(words)
    elif notes := [word for word, block in zip(words, result.content, strict=True) if not isinstance(block, types.TextContent)]:
        value = {"structuredContent": value, "content": notes}
    return Illustrated(value, tuple(told.images)) if told.images else value


class _Told:
    """The blocks of one result, one after the other: words for each, and the images among them."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self._left = limits().image

    def add(self, block: types.ContentBlock) -> str:
        """What a model reads of this block."""
        match block:
            case types.TextContent():
                return block.text
            case types.ImageContent():
                return self._image(block.mime_type, block.data)
            case types.AudioContent():
                return _left_out("audio", block.mime_type, block.data)
            case types.ResourceLink():
                return " ".join(part for part in (f"[resource {block.name}: {block.uri}", block.mime_type, block.description) if part) + "]"
            case types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, text=text)):
                return f"[resource {uri}]\n{text}"
            case types.EmbeddedResource(resource=types.BlobResourceContents(uri=uri, mime_type=mime, blob=blob)):
                return _left_out(f"resource {uri}", mime, blob)
            case _:
                return f"[{getattr(block, 'type', 'something')} that is not known here]"

    def _image(self, mime: str, data: str) -> str:
        """Its type is what its bytes say: a provider refuses the whole request for an image that is something else."""
        try:
            image = base64.b64decode(data, validate=True) if _size(data) <= min(_LARGEST, self._left) else b""
            kind = mime_of(image)
        except (binascii.Error, ValueError, ValidationError):
            kind, image = "", b""
        if kind not in IMAGES:
            return _left_out("image", mime, data)
        self._left -= len(image)
        self.images.append(Image(data=image, mime=kind))
        return f"[image {len(self.images)}: {kind}, {len(image)} bytes]"


def _left_out(what: str, mime: str | None, base64: str) -> str:
    return f"[{what} left out: {mime or 'of no stated type'}, {_size(base64)} bytes; a model cannot be shown this one]"


def _size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")
