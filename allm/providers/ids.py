"""Names and tool call ids on a wire: a canonical id that the wire does not allow is replaced by one that is made from it.

The replacement depends on nothing but the id, so that a call and its result agree, in this request and in every later one.
"""

import hashlib
import re

__all__ = ["wire_id", "wire_name"]

_SAFE = re.compile(r"[a-zA-Z0-9_-]+")
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


def wire_id(canonical: str, limit: int = 64) -> str:
    """`canonical` if it consists of letters, digits, `_` and `-` and is no longer than `limit`, else a hash of it that does."""
    if len(canonical) <= limit and _SAFE.fullmatch(canonical):
        return canonical
    return f"call_{hashlib.sha256(canonical.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def wire_name(name: str) -> str:
    """A name as wires allow it: others take dots, colons and blanks, and a schema's is the user's."""
    return _UNSAFE.sub("_", name)[:64] or "_"
