"""Anthropic Messages: a content block as it comes, from its start to its end, and the shapes in which hosts send one."""

from typing import Any

from allm.providers.anthropic_terms import obj
from allm.wire_json import MalformedJson, decode, encode, is_array, is_object

__all__ = ["OpenBlock", "blocks_of", "input_of"]


class OpenBlock:
    """A block that has begun and not ended. `data` is how it began, `pieces` the JSON text that came since; `grown` are the pieces of the
    texts of a block that is not known: they are joined once."""

    __slots__ = ("citations", "data", "grown", "kind", "pieces")

    def __init__(self, kind: str, data: dict[str, Any]) -> None:
        self.kind = kind
        self.data = data
        self.pieces: list[str] = []
        self.citations: list[Any] = []
        self.grown: dict[str, list[str]] = {}

    def grow(self, delta: dict[str, Any]) -> None:
        """Take a delta of a newer wire: texts and lists grow, anything else is replaced (as in a `compaction_delta`)."""
        for name, value in delta.items():
            if name == "type":
                continue
            had = self.data.get(name)
            if isinstance(had, str) and isinstance(value, str):
                self.grown.setdefault(name, [had]).append(value)
                continue
            self.grown.pop(name, None)
            if is_array(had):
                had.extend(value if is_array(value) else [value])
            else:
                self.data[name] = value

    def join(self) -> None:
        """Put what came in pieces into `data`. An input that is no JSON object is an empty one."""
        self.data |= {name: "".join(pieces) for name, pieces in self.grown.items()}
        if self.pieces or isinstance(self.data.get("input"), str):
            try:
                self.data["input"] = obj(decode(("".join(self.pieces) or self.data["input"]).encode()))
            except (MalformedJson, UnicodeEncodeError):
                self.data["input"] = {}


def blocks_of(content: Any) -> list[Any] | None:
    """The blocks of a message; some hosts send a text in their place, or the only one. None for anything else."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [content] if is_object(content) and content else content if is_array(content) else None


def input_of(data: dict[str, Any]) -> str:
    """The input that a call began with, as JSON; hosts send it as an object or as a text. Empty for none."""
    given = data.get("input")
    return given if isinstance(given, str) else encode(given).decode() if given else ""
