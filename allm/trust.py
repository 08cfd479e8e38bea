"""What a document may name: code, proxies and unchecked certificates only where its reader trusts it or its module is listed.

A name is text, `"module:object"`, and reading imports nothing; but what is read is used, and using it runs what the name means. So
each value that can hold such a name asks `named_code` (or `refuse_unless_trusted`) when it is made, and these look at one context
variable: None while no document is read (a program says what it likes), else whether the document that is being read is trusted.
That holds for values inside others, and for decoders that third parties register.

`allm.configure(importable=("mybot.*",))` lists modules. A name in a listed module means what a listed module defines: the way to
it leads through classes only, so that `"mybot.tools:os.system"` and a function that `mybot.tools` imported from elsewhere are not it.
"""

from collections.abc import Iterable
from contextvars import ContextVar, Token
from fnmatch import fnmatchcase

from allm.errors import ValidationError

__all__ = ["is_listed", "is_untrusted", "named_code", "reading", "refuse_unless_trusted", "set_importable"]

_trusted: ContextVar[bool | None] = ContextVar("allm_document_trusted", default=None)
_patterns: tuple[str, ...] = ()


class reading:
    """Block in which the values of a document are made; None leaves what an outer block says, or does not trust where there is none."""

    __slots__ = ("_before", "_now")

    def __init__(self, trusted: bool | None) -> None:
        self._now = trusted

    def __enter__(self) -> None:
        self._before: Token[bool | None] = _trusted.set(bool(_trusted.get()) if self._now is None else self._now)

    def __exit__(self, *_: object) -> None:
        _trusted.reset(self._before)


def is_untrusted() -> bool:
    """Whether values are made of a document that nobody vouches for."""
    return _trusted.get() is False


def set_importable(patterns: Iterable[str]) -> None:
    """List the modules whose objects any document may name: `"mybot.tools"`, `"mybot.*"` (the package itself included)."""
    global _patterns
    listed = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in listed:
        if not isinstance(pattern, str) or not pattern:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError.at("importable", f"expected names of modules such as 'mybot.*', got {pattern!r}")
    _patterns = listed


def is_listed(module: str) -> bool:
    """Whether `allm.configure(importable=...)` names this module."""
    return any(fnmatchcase(module, pattern) or module == pattern.removesuffix(".*") for pattern in _patterns)


def named_code(path: str, field: str, secret: bool = False) -> None:
    """Raises ValidationError where an untrusted document names code that is not listed; a `secret` name is not quoted."""
    if is_untrusted() and not _may_name(path):
        refuse_unless_trusted(field, "a name of code" if secret else f"{path!r} is a name of code", listed=True)


def refuse_unless_trusted(field: str, what: str, listed: bool = False) -> None:
    """Raises ValidationError if an untrusted document is being read: `what` says which of its contents needs trust."""
    if is_untrusted():
        or_listed = ", or where allm.configure(importable=...) lists the module" if listed else ""
        raise ValidationError.at(field, f"{what}; it is read with from_json(..., trusted=True) only{or_listed}")


def _may_name(path: str) -> bool:
    module, _, name = path.partition(":")
    return is_listed(module) and all(part.isidentifier() and not part.startswith("__") for part in name.split("."))
