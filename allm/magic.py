"""Media types by the first bytes of a file: what the bytes say goes before what they are called. Pure.

Providers refuse an image whose label is wrong, and label their own wrongly (Gemini has sent JPEGs as `image/png`).
"""

import re
from typing import Final

__all__ = ["mime_by_bytes", "settled_mime"]

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF", "application/pdf"),
)
_BRANDS: Final = {
    b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"heim": "image/heic",
    b"heis": "image/heic", b"mif1": "image/heic", b"msf1": "image/heic",
}  # fmt: skip
_SVG: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,1000}?-->\s*)?(?:<!DOCTYPE svg[^>]{0,300}>\s*)?<svg[\s>/]", re.S | re.I
)
_WEAK: Final = frozenset({"image/bmp", "image/svg+xml"})
"""Texts may begin like these: what is told to be no image is believed."""
_SAME: Final = frozenset({"image/heic", "image/heif", "image/avif"})
"""A container whose brand allows of more than one label: any of these is believed."""


def mime_by_bytes(data: bytes) -> str | None:
    """The media type of an image or a PDF; None for what its first bytes do not tell."""
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    if data[:2] == b"BM":
        return "image/bmp"
    return "image/svg+xml" if _SVG.match(data[:2048]) else None


def settled_mime(data: bytes, told: str | None) -> str | None:
    """What the bytes say, else what was told."""
    found = mime_by_bytes(data)
    if found is None or told is None:
        return found or told
    as_told = told.lower()
    if (found in _WEAK and not as_told.startswith("image/")) or (found in _SAME and as_told in _SAME):
        return told
    return found
