"""Names and tool call ids on a wire: a canonical id that the wire does not allow is replaced by one that is made from it.

The replacement depends on nothing but the id, so that a call and its result agree, in this request and in every later one.
"""

import hashlib
import re
from collections.abc import Callable, Iterable

__all__ = ["dotted_name", "real_names", "wire_id", "wire_name", "wire_names"]

_SAFE = re.compile(r"[a-zA-Z0-9_-]+")
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")
_UNSAFE_DOTTED = re.compile(r"[^a-zA-Z0-9_.:-]")
_BEGINNING = re.compile(r"[a-zA-Z_]")


def wire_id(canonical: str, limit: int = 64) -> str:
    """`canonical` if it consists of letters, digits, `_` and `-` and is no longer than `limit`, else a hash of it that does."""
    if len(canonical) <= limit and _SAFE.fullmatch(canonical):
        return canonical
    return f"call_{hashlib.sha256(canonical.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def wire_name(name: str, limit: int = 64) -> str:
    """A name as wires allow it: others take dots, colons and blanks, and a schema's is the user's."""
    return _UNSAFE.sub("_", name)[:limit] or "_"


def dotted_name(name: str, limit: int = 64) -> str:
    """A name as Gemini allows it: with dots and colons, and a letter or `_` before all else."""
    safe = _UNSAFE_DOTTED.sub("_", name)
    return (safe if _BEGINNING.match(safe) else f"_{safe}")[:limit]


def wire_names(names: Iterable[str], limit: int = 64, allowed: Callable[[str, int], str] = wire_name) -> dict[str, str]:
    """Each name of a tool -> its name on the wire, which `allowed` makes of it. No two are alike: `a.b` beside `a_b` gets a name that is
    made from it."""
    given = list(names)
    if not given:
        return {}
    taken = {name for name in given if allowed(name, limit) == name}
    wired: dict[str, str] = {}
    for name in given:
        sent = name if name in taken else allowed(name, limit)
        if sent != name and sent in taken:
            sent = f"{sent[: limit - 9]}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        taken.add(sent)
        wired[name] = sent
    return wired


def real_names(names: Iterable[str], limit: int = 64, allowed: Callable[[str, int], str] = wire_name) -> dict[str, str]:
    """The reverse, for those names alone that the wire does not allow."""
    return {sent: name for name, sent in wire_names(names, limit, allowed).items() if sent != name}
