"""multipart/form-data, as forms with files are sent (RFC 7578)."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Field", "multipart"]


class Field(NamedTuple):
    """A field of a form; one with a `filename` is a file of the media type `mime`."""

    name: str
    value: bytes
    filename: str | None = None
    mime: str | None = None


def multipart(fields: Sequence[Field]) -> tuple[str, bytes]:
    """(content type, body). The boundary is made of what is sent: the same form is the same bytes, and nothing in it can end a field."""
    boundary = _boundary(fields)
    pieces: list[bytes] = []
    for field in fields:
        pieces += (b"--", boundary, b"\r\n", _head(field), b"\r\n", field.value, b"\r\n")
    return f"multipart/form-data; boundary={boundary.decode()}", b"".join([*pieces, b"--", boundary, b"--\r\n"])


def _head(field: Field) -> bytes:
    lines = f'Content-Disposition: form-data; name="{_quoted(field.name)}"'
    if field.filename is not None:
        lines += f'; filename="{_quoted(field.filename)}"'
    if field.mime is not None:
        lines += f"\r\nContent-Type: {_quoted(field.mime)}"
    return (lines + "\r\n").encode()


def _quoted(text: str) -> str:
    """As browsers write it: what would end the quotes or the line is percent-encoded."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _boundary(fields: Sequence[Field]) -> bytes:
    digest = hashlib.sha256()
    for field in fields:
        digest.update(field.value)
    while True:
        boundary = b"allm-" + digest.hexdigest()[:40].encode()
        if not any(boundary in field.value for field in fields):
            return boundary
        digest.update(boundary)
