"""Messages, their parts, and threads: what a conversation consists of."""

from collections.abc import Iterable, Sequence
from os import PathLike
from os.path import basename, splitext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from msgspec import StructMeta, field
from msgspec.structs import force_setattr, replace

from allm.errors import ValidationError
from allm.freezing import freeze_dict
from allm.images import Image
from allm.magic import settled_mime
from allm.plain import MAX_DEPTH, Value

__all__ = [
    "FilePart", "ImagePart", "Message", "Part", "ProviderPart", "ReasoningPart", "Role", "TextPart", "Thread", "ToolCall",
    "ToolCallPart", "Unknown", "assistant", "system", "tool_result", "user",
]  # fmt: skip

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class TextPart(Value, frozen=True):
    """Text. `signature` is the provider's proof of origin, sent back only to its maker."""

    text: str
    signature: str | None = None


class ImagePart(Value, frozen=True):
    """An image; `detail` is `auto`, `low` or `high`."""

    image: Image
    detail: str = "auto"


_MIMES = {
    ".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".json": "application/json",
    ".html": "text/html", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}  # fmt: skip


class _ReadsPath(StructMeta):
    """Lets `FilePart(path=...)` read the file at once. A decoder does not come this way: no document can name a file to be read."""

    def __call__(cls, *args: Any, path: str | PathLike[str] | None = None, **fields: Any) -> Any:
        if path is None:
            return super().__call__(*args, **fields)
        try:
            with open(path, "rb") as file:
                known = {"data": file.read(), "name": basename(path), "mime": _MIMES.get(splitext(path)[1].lower())}
                return super().__call__(*args, **{**known, **fields})
        except (OSError, ValueError) as error:
            raise ValidationError.at("file", f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None


class FilePart(Value, frozen=True, kw_only=True, metaclass=_ReadsPath):
    """A file by its bytes or a URL; `FilePart(path=..., mime=...)` reads it at once and raises ValidationError if it cannot.

    Of an image or a PDF, `mime` is what its bytes say.
    """

    data: bytes | None = None
    url: str | None = None
    mime: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.data, bytes) and (mime := settled_mime(self.data, self.mime)) != self.mime:
            force_setattr(self, "mime", mime)

    if TYPE_CHECKING:  # what `_ReadsPath` makes of it

        def __init__(
            self,
            *,
            data: bytes | None = None,
            url: str | None = None,
            mime: str | None = None,
            name: str | None = None,
            path: str | PathLike[str] | None = None,
        ) -> None: ...


class ReasoningPart(Value, frozen=True):
    """What the model thought; signed or opaque reasoning (`signature`, `data`) goes back only to `provider`."""

    text: str
    signature: str | None = None
    data: str | None = None
    provider: str | None = None


class ToolCallPart(Value, frozen=True):
    """A call that the model asks for. `raw_arguments` is what it wrote; `arguments` is `{}` where that is no JSON object."""

    id: str
    name: str
    arguments: dict[str, Any] = {}
    raw_arguments: str | None = None
    signature: str | None = None

    def __post_init__(self) -> None:
        if self.arguments:
            force_setattr(self, "arguments", freeze_dict(self.arguments, "arguments"))


ToolCall = ToolCallPart


class ProviderPart(Value, frozen=True):
    """A block that only its maker understands; kept in its place and sent back only to its maker.

    `type` is the maker's word for it; in JSON it is `part_type`, as `type` is the tag there.
    """

    provider: str
    type: str = field(name="part_type")
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.data:
            force_setattr(self, "data", freeze_dict(self.data, "data"))


class Unknown(Value, frozen=True, tag="$unknown"):
    """A value that a newer version wrote: its tag, and the whole object, which encodes back unchanged."""

    tag: str
    data: dict[str, Any]

    def __post_init__(self) -> None:
        data = self.data if self.data.get("type") == self.tag else {"type": self.tag, **self.data}
        if data["type"] != self.tag:
            raise ValidationError.at("unknown.data.type", f"expected the tag, {self.tag!r}")
        # An object of a newer version may carry a payload that is itself as deep as a payload may be.
        force_setattr(self, "data", freeze_dict(data, "data", -MAX_DEPTH))


Part: TypeAlias = TextPart | ImagePart | FilePart | ReasoningPart | ToolCallPart | ProviderPart | Unknown


class Message(Value, frozen=True):
    """One message. Content is text, or one ordered tuple of parts."""

    role: Role
    content: str | tuple[Part, ...] = ""
    name: str | None = None
    tool_call_id: str | None = None
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if type(cast("Any", self.content)) is list:
            force_setattr(self, "content", tuple(self.content))
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "message.metadata"))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts."""
        if isinstance(self.content, str):
            return (TextPart(self.content),) if self.content else ()
        return self.content

    @property
    def text(self) -> str:
        """All text, joined with nothing between."""
        if isinstance(self.content, str):
            return self.content
        return "".join([part.text for part in self.content if isinstance(part, TextPart)])

    @property
    def reasoning_text(self) -> str:
        """All readable reasoning, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, ReasoningPart)])

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The calls in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


def system(text: str) -> Message:
    """A system message."""
    return Message("system", text)


def user(content: "str | Part | Image | Sequence[str | Part | Image]") -> Message:
    """A user's message: text, or parts (strings and images among them become parts)."""
    return Message("user", content if isinstance(content, str) else _as_parts(content))


def assistant(text: "str | Sequence[str | Part | Image]") -> Message:
    """An assistant's message."""
    return Message("assistant", text if isinstance(text, str) else _as_parts(text))


def tool_result(tool_call_id: str, content: str) -> Message:
    """The result of the call `tool_call_id`, as the text that the model reads."""
    return Message("tool", content, tool_call_id=tool_call_id)


def _as_parts(content: "Part | Image | Sequence[str | Part | Image]") -> tuple[Part, ...]:
    items = content if isinstance(content, list | tuple) else (content,)
    return tuple(_as_part(item, i) for i, item in enumerate(items))


def _as_part(item: Any, index: int) -> Part:
    if isinstance(item, str):
        return TextPart(item)
    if isinstance(item, Image):
        return ImagePart(item)
    if isinstance(item, Part):
        return item
    raise ValidationError.at(f"content[{index}]", f"expected text, a part or an image, got {type(item).__name__}")


class Thread(Value, frozen=True):
    """Messages in order. Every change gives a new thread."""

    messages: tuple[Message, ...] = ()
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if type(cast("Any", self.messages)) is list:
            force_setattr(self, "messages", tuple(self.messages))
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "thread.metadata"))

    def add_message(self, message: Message) -> "Thread":
        """With one message more."""
        return replace(self, messages=(*self.messages, message))

    def add_messages(self, messages: Iterable[Message]) -> "Thread":
        """With these messages more."""
        return replace(self, messages=(*self.messages, *messages))

    def add_system(self, text: str) -> "Thread":
        """With a system message more."""
        return self.add_message(system(text))

    def add_user(self, content: "str | Sequence[str | Part | Image]") -> "Thread":
        """With a user's message more."""
        return self.add_message(user(content))

    def add_assistant(self, text: str) -> "Thread":
        """With an assistant's message more."""
        return self.add_message(assistant(text))

    @property
    def last_message(self) -> Message | None:
        """The newest message, if any."""
        return self.messages[-1] if self.messages else None
