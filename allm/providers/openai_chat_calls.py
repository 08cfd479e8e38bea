"""OpenAI Chat Completions: which tool call a piece of one belongs to.

By the wire's own rule a call is its `index`, and has its id and its name in its first piece only. Hosts break each part of that: all
calls have the index 0, or none has one; ids are missing, equal, or new in each piece; the name comes with each piece; a call is told once
more at the end, or in the old form (`function_call`) too. What tells calls apart then:

    a piece without a name               goes on with the call of its id, else of its index, else with the newest one
    another name                         is another call
    two pieces with names in one chunk   are two calls
    a name where the arguments are whole begins another call, unless it says the same once more
    a name and an id that is known       go on with the call of that id
    a new id, where the arguments begin anew as these did, is another call: several are open at once
    any other piece with a name          goes on, whatever its id

Whether arguments are whole is found by reading them, where they end like an object and a name comes again, a bounded number of times.
"""

from typing import Any, Final

from allm.blocks import MessageBuilder
from allm.wire_json import MalformedJson, decode, encode, is_object

__all__ = ["ChatCalls"]

_TRIES: Final = 32
_MOST_READ: Final = 1 << 20
"""Characters of arguments that are read at most to find whether they are whole."""


class _Known:
    """A call, and what came of it."""

    __slots__ = ("chunk", "echo", "extra", "id", "key", "name", "nameless", "pieces", "size", "tries", "whole_at")

    def __init__(self, key: int) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.size = 0
        self.chunk = 0
        self.nameless = False
        self.whole_at = -1
        self.tries = _TRIES
        self.extra: Any = None
        self.echo = ""
        """What was told of it in the other form, and is awaited once more."""

    def is_new(self, text: str) -> str:
        """What of this piece was not told in the other form."""
        echo = self.echo
        if echo.startswith(text):
            self.echo = echo[len(text) :]
            return ""
        self.echo = ""
        return text[len(echo) :] if text.startswith(echo) else text

    def begins_anew(self, text: str) -> bool:
        """Whether arguments that are not whole yet begin once more, with the same field, or where only a field could follow."""
        begun = "".join(self.pieces[:8]).strip()
        return bool(begun) and text.lstrip().startswith("{") and (begun == "{" or _first_field(text) == _first_field(begun))

    def is_whole(self) -> bool:
        """Whether the arguments so far are a JSON object."""
        if self.whole_at == self.size:
            return True
        if not self.pieces or self.size > _MOST_READ or not self.tries or not self.pieces[-1].rstrip().endswith("}"):
            return False
        try:
            whole = is_object(decode("".join(self.pieces).encode("utf-8", "replace")))
        except MalformedJson:
            whole = False
        self.whole_at = self.size if whole else -1
        self.tries -= not whole
        return whole


class ChatCalls:
    """The calls of one answer. `chunk()` begins each chunk; `told`, `legacy` say what is in it; `end` gives the ids that they have."""

    def __init__(self, build: MessageBuilder, answer_tool: str | None = None) -> None:
        self._build = build
        self._all: list[_Known] = []
        self._at: dict[int, _Known] = {}
        self._by_id: dict[str, _Known] = {}
        self._legacy: _Known | None = None
        self._chunk = 0
        self._several = False
        self._answer_tool = answer_tool

    def chunk(self) -> None:
        """Another chunk begins."""
        self._chunk += 1

    def told(self, index: int | None, call_id: str | None, name: str | None, arguments: Any, extra: Any = None) -> None:
        """A piece of a call in `tool_calls`."""
        self._several = True
        text = _text(arguments)
        known = self._find(index, call_id, name)
        if known is not None and (known.echo or known is self._legacy) and name in (None, "", known.name):
            if known is self._legacy:
                self._legacy, known.echo = None, "".join(known.pieces)
            text = known.is_new(text)
        elif known is not None and name and known.name:
            if self._is_repeated(known, index, call_id, name, text):
                known.id = known.id or call_id or ""
                return
            if self._is_another(known, index, call_id, name, text):
                known = None
        self._add(known or self._begin(index), index, call_id, name, text, extra)

    def legacy(self, name: str | None, arguments: Any) -> None:
        """A piece of the one call in `function_call`. Beside `tool_calls` it says the same once more."""
        if not self._several:
            self._legacy = self._legacy or self._begin(None)
            self._add(self._legacy, None, None, name, _text(arguments), None)

    def end(self, whole: bool) -> dict[str, Any]:
        """All calls are complete. `whole`: nothing was cut from them, so that no arguments at all are `{}`.

        Gives what stood beside them: their ids -> `extra_content`.
        """
        ended = [(self._build.end_call(known.key, whole=whole), known.extra) for known in self._all]
        return {name: extra for name, extra in ended if name is not None and extra is not None}

    @property
    def begun(self) -> bool:
        """Whether there is any, the answer's own tool included."""
        return bool(self._all)

    @property
    def silent(self) -> bool:
        """Whether the newest call has not a byte of arguments: where no reason is told for the end, it may have been cut before them."""
        return bool(self._all) and not self._all[-1].size

    def ids(self) -> list[str]:
        """The ids that the host gave them."""
        return [known.id for known in self._all]

    def __bool__(self) -> bool:
        return any(known.name and known.name != self._answer_tool for known in self._all)

    def _find(self, index: int | None, call_id: str | None, name: str | None) -> _Known | None:
        """The call that this piece may go on with."""
        placed = self._at.get(index) if index is not None else None
        named = self._by_id.get(call_id) if call_id else None
        if not name:
            if named is not None and (placed is None or placed.id != call_id):
                return named
            return placed or (self._all[-1] if index is None and self._all else None)
        if placed is None and self._legacy is not None and self._legacy.name == name:
            return self._legacy
        if index is not None:
            elsewhere = named is not None and placed is not None and placed.id and call_id != placed.id
            return named if elsewhere and named is not None and named.name == name else placed
        return named or placed or (self._all[-1] if self._all else None)

    def _is_repeated(self, known: _Known, index: int | None, call_id: str | None, name: str, text: str) -> bool:
        """Whether a whole call is told once more, as some hosts do at the end. Without an id and an index it is a second such call."""
        another_id = bool(call_id and known.id and call_id != known.id)
        nowhere = index is None and not call_id
        if name != known.name or known.chunk == self._chunk or not text or another_id or nowhere:
            return False
        return known.is_whole() and text.strip() == "".join(known.pieces).strip()

    def _is_another(self, known: _Known, index: int | None, call_id: str | None, name: str, text: str) -> bool:
        """Whether a piece that has a name begins a call, and does not go on with this one."""
        if name != known.name or known.chunk == self._chunk:
            return True
        new_id = bool(call_id and known.id and call_id != known.id)
        if known.is_whole():
            if call_id and call_id == known.id and "".join(known.pieces).strip() == "{}":
                return False  # it began with arguments of nothing
            return bool(text.strip()) or new_id or (not call_id and known.nameless)
        if new_id:
            return (not text and not known.size) or known.begins_anew(text)
        return not call_id and known.nameless

    def _begin(self, index: int | None) -> _Known:
        known = _Known(len(self._all))
        self._all.append(known)
        return known

    def _add(self, known: _Known, index: int | None, call_id: str | None, name: str | None, text: str, extra: Any) -> None:
        if index is not None:
            self._at[index] = known
        if call_id:
            self._by_id[call_id] = known
        self._build.call(known.key, call_id if not known.id else None, name if not known.name else None, text or None)
        known.id = known.id or call_id or ""
        known.nameless = known.nameless or (not name and bool(known.name))
        known.name = known.name or name or ""
        known.chunk = self._chunk
        if text:
            known.pieces.append(text)
            known.size += len(text)
        if is_object(extra):
            self._sign(known, extra)

    def _sign(self, known: _Known, extra: dict[str, Any]) -> None:
        """What stands beside a call; Google's OpenAI endpoint has the proof of its origin there."""
        known.extra = extra
        google = extra.get("google")
        signature = google.get("thought_signature") if is_object(google) else None
        if isinstance(signature, str) and signature:
            self._build.sign_call(known.key, signature)


def _first_field(text: str) -> str:
    """How the arguments begin: up to the first field's name, or as much of it as there is."""
    return text.lstrip()[1:].lstrip().partition(":")[0].rstrip()


def _text(arguments: Any) -> str:
    """Arguments are JSON as text; some hosts send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return encode(arguments).decode()
