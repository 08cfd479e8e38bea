"""The media type of a file that a caller gave without one."""

from typing import Final

from allm.errors import ValidationError
from allm.messages import FilePart

__all__ = ["by_name", "mime_of_file"]

_BY_SUFFIX: Final = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "heic": "image/heic", "heif": "image/heif",
    "gif": "image/gif", "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html",
    "xml": "text/xml", "json": "application/json", "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg",
    "m4a": "audio/mp4", "mp4": "video/mp4", "mov": "video/quicktime", "webm": "video/webm", "mpeg": "video/mpeg",
}  # fmt: skip


def by_name(name: str | None) -> str | None:
    """By the suffix of a name or an address."""
    return _BY_SUFFIX.get((name or "").partition("?")[0].rpartition(".")[2].lower())


def mime_of_file(part: FilePart, path: str) -> str:
    """As told (a part reads its first bytes itself), or by the name. Raises ValidationError where neither says it: a guess would be sent
    as the truth."""
    mime = part.mime or by_name(part.name)
    if mime is None:
        raise ValidationError.at(path, "the file's media type is not known; give mime=")
    return mime
