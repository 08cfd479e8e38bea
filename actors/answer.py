"""An answer as it comes in: its headers, its body's bytes within their bound, and which form it has."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from allm.actors.unpacking import PackedError, coding_of, unpacked
from allm.framing import Form, form_of
from allm.wire_json import too_crowded

__all__ = ["Answer", "Body", "UnfitAnswer", "drain", "headers_of", "read_error"]

_ERROR_TIME = 10.0
"""Seconds that an error answer may take: its status is known, only its text is missing."""
_DRAIN_TIME = 1.0
"""Seconds after the terminal event for the end of the body, so that the connection can be used again."""
_DRAIN_BYTES: Final = 1 << 20
_TURNS: Final = 64
_PIECES: Final = 1000
"""Pieces of under 1 KiB that are held: one of two bytes takes forty."""


class UnfitAnswer(Exception):
    """An answer of which no more is read. Its text quotes nothing of it. The same request would bring the like: no further attempt."""


class Answer(Protocol):
    """An answer whose head has come, over whichever transport."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...
    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes in."""
        ...

    async def close(self) -> None:
        """Give the connection back, or end it if the body was not read to its end."""
        ...


def headers_of(answer: Answer) -> dict[str, str]:
    """By lower-case name."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}


class Body:
    """An answer's body. `most` bytes of it are read, unpacked ones where a host compresses though we ask it not to."""

    def __init__(self, answer: Answer, headers: Mapping[str, str], most: int) -> None:
        self.raw = answer.chunks
        self.most = most
        self._kind = headers.get("content-type", "").lower()
        try:
            coding = coding_of(headers.get("content-encoding", ""))
        except PackedError as error:
            raise UnfitAnswer(str(error)) from None
        self.chunks = self.raw if coding is None else unpacked(self.raw, coding)
        self._turns = 0

    async def breathe(self) -> None:
        """Let others have the loop, each so many chunks: what has come in already is given without waiting, and may be in pieces of a
        byte."""
        self._turns += 1
        if not self._turns % _TURNS:
            await asyncio.sleep(0)

    @property
    def is_json(self) -> bool:
        """Whether it says that it is JSON."""
        return "json" in self._kind

    async def begin(self) -> tuple[Form, list[bytes]]:
        """(form, what was read to know it). Some hosts call a stream JSON, or nothing at all: its first bytes that are no blanks tell."""
        kind = self._kind
        if kind and ("event-stream" in kind or "ndjson" in kind or "jsonl" in kind):
            return "events", []
        read: list[bytes] = []
        beginning, size = b"", 0  # without the blanks before it
        async for chunk in self.chunks:
            read.append(chunk)
            size += len(chunk)
            self.check(size)
            await self.breathe()
            beginning = beginning + chunk if beginning else chunk.lstrip()
            if (form := form_of(beginning)) is not None:
                return form, read
        return "other" if beginning else "json", read

    async def rest(self, read: list[bytes]) -> int:
        """Read on to its end, and add that to what was read; how many bytes it has."""
        size = sum(map(len, read))
        packed, before = len(read), size
        async for chunk in self.chunks:
            read.append(chunk)
            size += len(chunk)
            self.check(size)
            await self.breathe()
            if len(read) - packed >= _PIECES:
                if size - before < _PIECES << 10:
                    read[packed:] = [b"".join(read[packed:])]
                packed, before = len(read), size
        return size

    def joined(self, read: list[bytes]) -> bytes:
        """All that was read, as one. Raises UnfitAnswer for JSON that would take much more room than it has bytes. Any thread."""
        data = read[0] if len(read) == 1 else b"".join(read)
        read.clear()
        if too_crowded(data, 2 * self.most):
            raise UnfitAnswer("the body is JSON of more values than an answer has")
        return data

    def check(self, size: int) -> None:
        """Raises UnfitAnswer for more bytes than are read."""
        if size > self.most:
            raise UnfitAnswer(f"the answer is larger than {_told(self.most)}")


async def read_error(answer: Answer, headers: Mapping[str, str], most: int) -> tuple[bytes, str | None]:
    """(what is read of an error answer, why no more of it can be). It is an ordinary body, also for a request that wanted a stream."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_ERROR_TIME):
            body = Body(answer, headers, most)
            async for chunk in body.chunks:
                chunks.append(chunk[: most - size])
                size += len(chunk)
                if size >= most:
                    break
                await body.breathe()
    except asyncio.CancelledError:
        raise
    except (UnfitAnswer, PackedError) as error:
        return b"".join(chunks), str(error)
    except Exception:
        pass  # what was read says enough: the status is known
    return b"".join(chunks), None


async def drain(body: Body) -> None:
    """Read and drop the rest of the body (at most 1 s and 1 MiB) so that the connection can be reused; else it is closed."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_TIME):
            async for chunk in body.raw:
                size += len(chunk)
                if size > _DRAIN_BYTES:
                    return
                await body.breathe()
    except TimeoutError:
        pass


def _told(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"
