"""Names of tools that every wire takes: a letter or underscore, then letters, digits, `_` and `-`, 64 in all."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

__all__ = ["legal_names"]

LONGEST: Final = 64
_LEGAL: Final = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{LONGEST - 1}}}")
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]")


def legal_names(names: Iterable[str], prefix: str = "") -> dict[str, str]:
    """A server's names -> those they have here, each of them legal, no two alike, whatever the order of the names.

    One that is legal behind its prefix stays as it is. In others `_` stands for what is not allowed; one that is too long then, or would
    be like another, ends in a part of its hash.
    """
    wanted = {name: prefix + name for name in names}
    found = {name: want for name, want in wanted.items() if _LEGAL.fullmatch(want)}
    cleaned = {name: _cleaned(want) for name, want in wanted.items() if name not in found}
    taken, counts = set(found.values()), Counter(cleaned.values())
    for name, clean in cleaned.items():
        if len(clean) <= LONGEST and clean not in taken and counts[clean] == 1:
            found[name] = clean
    taken.update(found.values())
    for name in sorted(cleaned.keys() - found.keys()):
        found[name] = _hashed(cleaned[name], wanted[name], taken)
        taken.add(found[name])
    return {name: found[name] for name in wanted}


def _cleaned(name: str) -> str:
    clean = _ILLEGAL.sub("_", name)
    return clean if clean and (clean[0].isalpha() or clean[0] == "_") else f"_{clean}"


def _hashed(clean: str, name: str, taken: set[str]) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    for size in range(6, LONGEST):
        made = f"{clean[: LONGEST - size - 1]}_{digest[:size]}"
        if made not in taken:
            return made
    raise AssertionError("two names with the same hash")
