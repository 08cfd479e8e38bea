"""What the readers of all wires share: strict access to the fields of a body, and what a reading gives."""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from allm import FilePart, Image, ImagePart, Request
from allm.messages import Part
from allm.wire_json import is_array, is_object

__all__ = [
    "Fields", "Inexpressible", "Json", "Reading", "arguments_of", "data_part", "is_array", "is_object", "numbered", "present",
    "text_blocks",
]  # fmt: skip

Json = dict[str, Any]


class Inexpressible(Exception):
    """The field of a body that no neutral request can say."""


@dataclass(frozen=True)
class Reading:
    """A body as a neutral request; whether it asks for a stream; what of it is a setting of the engine here."""

    request: Request
    stream: bool = False
    opts: Json = field(default_factory=dict[str, Any])


class Fields:
    """An object whose fields are taken one by one; `end` raises for one that was not taken, so that none is overlooked."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not is_object(value):
            raise Inexpressible(path or "body")
        self.path = path
        self.left: Json = {name: item for name, item in value.items() if item is not None}

    def take(self, name: str, default: Any = None) -> Any:
        """The field, which is then taken; null is absent."""
        return self.left.pop(name, default)

    def many(self, name: str) -> list[Any]:
        """A field that is a list."""
        value = self.take(name, [])
        if not is_array(value):
            raise Inexpressible(f"{self.path}.{name}")
        return value

    def end(self, *empty: str) -> None:
        """No field is left, but for these where they are empty."""
        for name, value in self.left.items():
            if name not in empty or value:
                raise Inexpressible(f"{self.path}.{name}".lstrip("."))


def present(value: Json) -> Json:
    """Without what is null."""
    return {name: item for name, item in value.items() if item is not None}


def arguments_of(raw: str) -> Json:
    """Arguments as an object; an empty one for what is none, as a decoder has it."""
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if is_object(value) else {}


def data_part(uri: str, name: str | None = None, detail: str = "auto", path: str = "") -> Part:
    """A `data:` URI as a part."""
    head, comma, text = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise Inexpressible(path)
    mime = head.removeprefix("data:").removesuffix(";base64")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Inexpressible(path) from None
    if mime.startswith("image/"):
        return ImagePart(Image(data=data, mime=mime), detail)
    return FilePart(data=data, mime=mime, name=name)


def text_blocks(content: Any, kind: str = "text") -> list[Any]:
    """Text by itself as the list of one block; none as an empty one."""
    return [{"type": kind, "text": content}] if isinstance(content, str) and content else list(content or ())


def numbered(ids: Iterable[str]) -> Callable[[str], str]:
    """Ids as numbers in the order of their first use: they tie a result to its call and mean nothing else."""
    numbers = {name: f"#{i}" for i, name in enumerate(dict.fromkeys(ids))}
    return lambda name: numbers.get(name, name)
