"""Arguments of a tool call that come in pieces (`partialArgs`, `willContinue`): values for JSON paths, put together."""

import re
from itertools import pairwise
from typing import Any, Final

import msgspec

from allm.providers.decoding import storable
from allm.wire_json import encode, is_array, is_object

__all__ = ["StreamedArguments"]

_MOST_ITEMS: Final = 10_000  # how far beyond its end an array may be written: what is between is null


class StreamedArguments:
    """Arguments that come in pieces: values for JSON paths (`$.recipe.steps[1]`), text in several strokes."""

    __slots__ = ("_root", "_unfinished")

    def __init__(self, args: msgspec.Raw) -> None:
        given = storable(args)
        self._root: dict[str, Any] = dict(given) if is_object(given) else {}
        self._unfinished: str | None = None  # the path whose text goes on

    def add(self, pieces: list[Any]) -> None:
        """More of them; what cannot be understood is passed over."""
        for piece in pieces:
            path = piece.get("jsonPath") if is_object(piece) else None
            if isinstance(path, str) and (steps := _steps(path)):
                self._put(path, steps, piece)

    def text(self) -> str:
        """The arguments so far, as JSON."""
        return encode(self._root).decode()

    def _put(self, path: str, steps: list[str | int], piece: dict[str, Any]) -> None:
        at: Any = self._root
        for step, following in pairwise(steps):
            inner: Any = _get(at, step)
            if not (is_array(inner) if isinstance(following, int) else is_object(inner)):
                inner = list[Any]() if isinstance(following, int) else dict[str, Any]()
                _set(at, step, inner)
            at = inner
        value = next((piece[name] for name in ("stringValue", "numberValue", "boolValue") if name in piece), None)
        before = _get(at, steps[-1])
        if self._unfinished == path and isinstance(value, str) and isinstance(before, str):
            value = before + value
        if value is not None or "nullValue" in piece:
            _set(at, steps[-1], value)
        self._unfinished = path if piece.get("willContinue") else None


_STEP = re.compile(r"\.([^.\[\]]+)|\[([0-9]{1,9})\]|\[(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\]")
_ESCAPED = re.compile(r"\\(.)")


def _steps(path: str) -> list[str | int] | None:
    """The keys and indices of a JSON path; None if it is not one that leads into an object."""
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return None
        name, index, single, double = match.groups()
        quoted = single if single is not None else double
        steps.append(int(index) if index is not None else name if name is not None else _ESCAPED.sub(r"\1", quoted))
        at = match.end()
    return steps if path[:1] == "$" and steps and isinstance(steps[0], str) else None


def _get(at: Any, step: Any) -> Any:
    if is_array(at):
        return at[step] if isinstance(step, int) and step < len(at) else None
    return at.get(step)


def _set(at: Any, step: Any, value: Any) -> None:
    if is_array(at):
        at.extend([None] * (min(step, len(at) + _MOST_ITEMS) + 1 - len(at)))
        at[min(step, len(at) - 1)] = value
    else:
        at[step] = value
