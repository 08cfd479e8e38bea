"""Bodies that come compressed though we ask for `identity`: one layer of gzip or deflate, unpacked piece by piece.

A few bytes can stand for gigabytes. So no more than a piece is unpacked at a time, whoever reads counts what comes out and stops, and
what comes in several layers, or in another way, is refused.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

__all__ = ["PackedError", "Unpacker", "coding_of", "unpacked"]

_PIECE: Final = 256 << 10
_KNOWN: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_MAGIC: Final = b"\x1f\x8b"
_MOST_SHOWN: Final = 8
_CODINGS: Final = frozenset({*_KNOWN, "br", "zstd", "compress", "x-compress", "dcb", "dcz", "lz4", "xz", "lzma", "bzip2", "snappy"})


class PackedError(Exception):
    """Its text says what is wrong, and quotes nothing of the body."""


def coding_of(header: str) -> str | None:
    """`gzip` or `deflate`, None for a body that comes as it is. Raises PackedError for any other coding, and for several."""
    if not header:
        return None
    layers = [coding for part in header.lower().split(",") if (coding := part.strip()) not in ("", "identity")]
    if not layers:
        return None
    if len(layers) == 1 and layers[0] in _KNOWN:
        return _KNOWN[layers[0]]
    # Only names that are known are shown: a host may write there what it was sent, the key among it.
    shown = ", ".join(layers) if len(layers) <= _MOST_SHOWN and _CODINGS.issuperset(layers) else "something unknown"
    raise PackedError(f"the answer is packed as {shown}, which was not asked for (one layer of gzip or deflate is understood)")


class Unpacker:
    """One layer: feed it bytes, it gives pieces of at most 256 KiB."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._unpack = zlib.decompressobj(zlib.MAX_WBITS | (16 if self._gzip else 0))
        self._begun = False
        self._between: bytes = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes unpack to. Raises PackedError if they are not what was told."""
        rest = data
        while rest:
            if self._unpack.eof:
                rest = self._next_member(rest)
                if not rest:
                    return
            try:
                piece = self._unpack.decompress(rest, _PIECE)
            except zlib.error:
                if self._gzip or self._begun:
                    raise PackedError("the answer is not packed as it says") from None
                # Some hosts mean the bare format by "deflate".
                self._unpack, self._begun = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            self._begun = True
            rest = self._unpack.unconsumed_tail or self._unpack.unused_data
            if piece:
                yield piece

    def _next_member(self, rest: bytes) -> bytes:
        """Where the next member of a gzip body begins; what follows the last one is no part of the body."""
        rest = self._between + rest
        self._between = b""
        if not self._gzip or not (rest.startswith(_MAGIC) or rest == _MAGIC[:1]):
            return b""
        if len(rest) < len(_MAGIC):
            self._between = rest
            return b""
        self._unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
        return rest

    def end(self) -> None:
        """Raises PackedError if the body ended before what is packed did."""
        if self._begun and not self._unpack.eof:
            raise PackedError("the answer broke off in the midst of what is packed")


async def unpacked(body: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """The body as it was before it was packed. Others get their turn between the pieces."""
    unpacker = Unpacker(coding)
    async for chunk in body:
        first = True
        for piece in unpacker.feed(chunk):
            if not first:
                await asyncio.sleep(0)
            first = False
            yield piece
    unpacker.end()
