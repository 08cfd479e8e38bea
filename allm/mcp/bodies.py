"""Bodies of an MCP server's answers over HTTP, within their bound: a few packed bytes can stand for gigabytes."""

from collections.abc import AsyncIterator

import httpx2

from allm.actors.unpacking import PackedError, coding_of, unpacked

__all__ = ["bound_body"]


def bound_body(response: httpx2.Response, most: int) -> None:
    """Have the answer's body unpacked here, and no more read of it than `most` bytes (a stream of events has a bound on each instead).

    Raises httpx2.DecodingError for what comes in another way, or in several layers; so does reading the body, for what is too large.
    """
    try:
        coding = coding_of(response.headers.get("content-encoding", ""))
    except PackedError as error:
        raise httpx2.DecodingError(str(error)) from None
    streamed = "event-stream" in response.headers.get("content-type", "").lower()
    if coding is None and streamed:
        return
    response.headers.pop("content-encoding", None)
    response.stream = _Bound(response.stream, coding, None if streamed else most)


class _Bound(httpx2.AsyncByteStream):
    def __init__(self, inner: object, coding: str | None, most: int | None) -> None:
        assert isinstance(inner, httpx2.AsyncByteStream), "an asynchronous client has such"
        self._inner = inner
        self._coding = coding
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raw = aiter(self._inner)
        size = 0
        try:
            async for chunk in raw if self._coding is None else unpacked(raw, self._coding):
                size += len(chunk)
                if self._most is not None and size > self._most:
                    raise httpx2.DecodingError(f"the answer is larger than {self._most} bytes")
                yield chunk
        except PackedError as error:
            raise httpx2.DecodingError(str(error)) from None

    async def aclose(self) -> None:
        await self._inner.aclose()
