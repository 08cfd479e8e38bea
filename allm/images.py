"""Images as plain data: bytes or a URL, with a media type."""

import base64
from pathlib import Path
from typing import Any

from msgspec.structs import force_setattr

from allm.errors import ValidationError
from allm.magic import mime_by_bytes, settled_mime
from allm.plain import Value

__all__ = ["Image", "mime_of"]


class Image(Value, frozen=True, kw_only=True):
    """An image, either its bytes (`data`, base64 in JSON) or a `url`; `mime` is known for bytes: what they say, else what was given."""

    data: bytes | None = None
    url: str | None = None
    mime: str | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.url is None):
            raise ValidationError.at("image", "exactly one of data and url is needed")
        for name, kind in (("data", bytes), ("url", str), ("mime", str)):
            if not isinstance(value := getattr(self, name), kind | None):
                raise ValidationError.at(f"image.{name}", f"expected {kind.__name__}, got {type(value).__name__}")
        if self.data is not None:
            if not self.data:
                raise ValidationError.at("image.data", "it is empty")
            mime = mime_of(self.data) if self.mime is None else settled_mime(self.data, self.mime)
            if mime != self.mime and mime != "application/pdf":
                force_setattr(self, "mime", mime)

    @classmethod
    def from_file(cls, path: str | Path) -> "Image":
        """Read at once. Raises ValidationError if the file cannot be read or is no image."""
        try:
            return cls(data=Path(path).read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ValidationError.at("image", f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None

    @classmethod
    def from_binary(cls, data: bytes, mime: str | None = None) -> "Image":
        """From bytes; the media type is read from them when not given."""
        return cls(data=bytes(data) if isinstance(data, bytearray | memoryview) else data, mime=mime)

    @classmethod
    def from_url(cls, url: str) -> "Image":
        """A reference that the provider fetches (the runtime, where the provider takes none); `data:` URLs are read here."""
        scheme, colon, rest = url.partition(":") if isinstance(url, str) else ("", "", "")
        scheme = scheme.lower()
        if scheme == "data" and colon:
            return cls.from_data_uri(url)
        if scheme not in ("https", "http", "gs") or not rest.startswith("//"):
            raise ValidationError.at("image.url", "expected an http, https or gs address")
        return cls(url=f"{scheme}:{rest}")

    @classmethod
    def from_base64(cls, text: str, mime: str | None = None) -> "Image":
        """From base64 text. Raises ValidationError if it is none."""
        try:
            return cls(data=base64.b64decode(text, validate=True), mime=mime)
        except (ValueError, TypeError):
            raise ValidationError.at("image.data", "it is no base64") from None

    @classmethod
    def from_data_uri(cls, uri: str) -> "Image":
        """From `data:<mime>;base64,<text>`."""
        head, comma, text = uri.partition(",") if isinstance(uri, str) else ("", "", "")
        head = head.lower()  # a media type has no case either
        if not comma or not head.startswith("data:") or not head.endswith(";base64"):
            raise ValidationError.at("image", "expected data:<mime>;base64,<text>")
        return cls.from_base64(text, head[5:-7].partition(";")[0] or None)

    def to_base64(self) -> str:
        """The bytes as base64 text; those of a URL are fetched, as by `to_binary`."""
        return base64.b64encode(self.to_binary()).decode("ascii")

    def to_binary(self) -> bytes:
        """The bytes. Those of a URL are fetched, anew each time: at most 20 MiB, within 20 s, and from no private address unless
        `allm.configure(allow_private_urls=True)` was called.

        Raises ValidationError if they cannot be had, EngineError("would_block") where an event loop runs in this thread.
        """
        return self._fetched().data or b""

    def to_data_uri(self) -> str:
        """`data:<mime>;base64,<text>`. A URL is fetched, as by `to_binary`."""
        image = self._fetched()
        return f"data:{image.mime};base64,{base64.b64encode(image.data or b'').decode('ascii')}"

    def _fetched(self) -> "Image":
        """The image by its bytes."""
        if self.url is None:
            return self
        if not self.url.startswith(("https://", "http://")):
            raise ValidationError.at("image.url", f"only the provider reads {self.url.partition(':')[0]} addresses")
        from allm.actors.io import fetch_now

        return fetch_now(self.url)

    def __repr__(self) -> str:
        what: Any = self.url if self.data is None else f"{len(self.data)} bytes"
        return f"Image({what}, {self.mime})"


def mime_of(data: bytes) -> str:
    """The media type by the first bytes. Raises ValidationError when they are no known image."""
    mime = mime_by_bytes(data)
    if mime is None or not mime.startswith("image/"):
        raise ValidationError.at("image.data", "not an image of a known type; name its mime")
    return mime
