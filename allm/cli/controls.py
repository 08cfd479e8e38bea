"""Control characters in what a model, a tool or a provider says: on a terminal they would act (title, clipboard, hidden text)."""

import re
from typing import Final

__all__ = ["REPLACEMENT", "Shown", "escaped", "one_line"]

REPLACEMENT: Final = "\ufffd"

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""C0 but tab and line feed, DEL, and C1, which terminals read as the two-character escapes that they abbreviate."""
_BEYOND_JSON: Final = re.compile("[\x7f-\x9f]")


class Shown:
    """Text that comes in pieces, as a terminal may show it. A carriage return counts as a line's end only before a line feed."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown of the text so far; a return at its end waits for what follows."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return _shown(text[: len(text) - len(self._held)])

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return _shown(held)


def one_line(text: str) -> str:
    """The text as one line."""
    return _shown(" ".join(text.split()))


def escaped(document: str) -> str:
    """A JSON document with the control characters escaped that JSON leaves as they are: it says the same."""
    return _BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _shown(text: str) -> str:
    return _CONTROL.sub(REPLACEMENT, text.replace("\r\n", "\n"))
