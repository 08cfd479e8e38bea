"""What a server writes to its standard output, made into lines that can be read: a server may print, and print what it likes.

The SDK's reader keeps a line of any length, and ends for ever at a byte that is no UTF-8. Here a line that is no message is left out and
told, invalid bytes are replaced, and of a line beyond the bound no more than its two ends are kept. Where such a line was the answer to
a request, which its id tells, the request is answered with an error: who waits for it need not wait until the time is over.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec
from mcp_types import INTERNAL_ERROR, jsonrpc_message_adapter

__all__ = ["Lines"]

_ENDS: Final = 256
"""Bytes of a line that is too long which are kept of each end, to find its id."""
_HEAD: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,18})\s*,\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"(?:result|error)"'
)
_TAIL: Final = re.compile(rb'[\}\]"]\s*,\s*"id"\s*:\s*(\d{1,18})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')


class Lines:
    """A filter. `complain(why, line)` is told of each line that is left out, `lose(why)` of one that may have been anybody's answer."""

    def __init__(self, most: int, complain: Callable[[str, bytes], object], lose: Callable[[str], object]) -> None:
        self._most = most
        self._complain = complain
        self._lose = lose
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete with this piece, fit to be read."""
        *ended, rest = data.split(b"\n")
        passed: list[bytes] = []
        for piece in ended:
            self._keep(piece)
            passed.append(self._line())
            self._parts, self._size = [], 0
        if rest:
            self._keep(rest)
        return b"".join(passed)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        self._parts.append(piece)
        if self._size > self._most:
            kept = b"".join(self._parts)
            self._parts = [kept[:_ENDS], kept[-_ENDS:]] if len(kept) > 2 * _ENDS else [kept]

    def _line(self) -> bytes:
        line = b"".join(self._parts).strip()
        if self._size > self._most:
            why = f"a message larger than {self._most} bytes"
            return self._answered(why, line) or self._hopeless(why)
        if not line:
            return b""
        text = line.decode("utf-8", "replace")
        try:
            jsonrpc_message_adapter.validate_json(text, by_name=False)
        except ValueError:
            why = "a line that is no message"
            self._complain(why, line)
            return self._answered(why, line)
        return text.encode() + b"\n"

    def _answered(self, why: str, line: bytes) -> bytes:
        """An error in place of an answer, if the line was one."""
        found = _HEAD.match(line) or _TAIL.search(line)
        if found is None:
            return b""
        error = {"code": INTERNAL_ERROR, "message": f"the server has answered with {why}"}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": int(found[1]), "error": error}) + b"\n"

    def _hopeless(self, why: str) -> bytes:
        self._lose(f"it has sent {why}")
        return b""
