"""Arguments of a tool call that come in pieces (`partialArgs`, `willContinue`): values for JSON paths, put together."""

import re
from itertools import pairwise
from typing import Any, Final

import msgspec

from allm.providers.decoding import storable
from allm.wire_json import encode, is_array, is_object

__all__ = ["StreamedArguments"]

_MOST_HOLES: Final = 10_000
"""Places of arrays that may be left out, of all arguments of a call: they are filled with null. What lies beyond moves up to the end."""

_VALUES: Final = ("stringValue", "numberValue", "boolValue")
_DEEPEST: Final = 64
"""Steps of a path."""


class StreamedArguments:
    """Arguments that come in pieces: values for JSON paths (`$.recipe.steps[1]`), text in several strokes, which are joined once."""

    __slots__ = ("_holes", "_root", "_spot", "_strokes", "_unfinished")

    def __init__(self, args: msgspec.Raw) -> None:
        given = storable(args)
        self._root: dict[str, Any] = dict(given) if is_object(given) else {}
        self._holes = _MOST_HOLES
        self._unfinished: str | None = None  # the path whose text goes on
        self._spot: tuple[Any, str | int] | None = None  # where it stands
        self._strokes: list[str] = []

    def add(self, pieces: list[Any]) -> None:
        """More of them; what cannot be understood is passed over."""
        for piece in pieces:
            path = piece.get("jsonPath") if is_object(piece) else None
            if isinstance(path, str) and not self._goes_on(path, piece) and (steps := _steps(path)):
                self._put(path, steps, piece)

    def text(self) -> str:
        """The arguments so far, as JSON."""
        self._join()
        return encode(self._root).decode()

    def _goes_on(self, path: str, piece: dict[str, Any]) -> bool:
        """Takes one more stroke of the text that is being written; False if this is something else."""
        stroke = next((piece[name] for name in _VALUES if name in piece), "")
        if path != self._unfinished or not self._strokes or not isinstance(stroke, str) or "nullValue" in piece:
            return False
        self._strokes.append(stroke)
        if not piece.get("willContinue"):
            self._join()
            self._unfinished = None
        return True

    def _join(self) -> None:
        if self._spot is not None and len(self._strokes) > 1:
            self._set(*self._spot, "".join(self._strokes))
        self._spot = None
        self._strokes = []

    def _put(self, path: str, steps: list[str | int], piece: dict[str, Any]) -> None:
        self._join()
        at: Any = self._root
        for step, following in pairwise(steps):
            inner: Any = _get(at, step)
            if not (is_array(inner) if isinstance(following, int) else is_object(inner)):
                inner = list[Any]() if isinstance(following, int) else dict[str, Any]()
                self._set(at, step, inner)
            at = inner
        value = next((piece[name] for name in _VALUES if name in piece), None)
        step, before = steps[-1], _get(at, steps[-1])
        if self._unfinished == path and isinstance(value, str) and isinstance(before, str):
            value = before + value
        if value is not None or "nullValue" in piece:
            step = self._set(at, step, value)
        self._unfinished = path if piece.get("willContinue") else None
        if self._unfinished is not None and isinstance(value, str):
            self._spot, self._strokes = (at, step), [value]

    def _set(self, at: Any, step: Any, value: Any) -> Any:
        """Puts a value there, and gives the place that it really has."""
        if is_array(at):
            holes = min(max(step - len(at), 0), self._holes)
            self._holes -= holes
            at.extend([None] * holes)
            step = min(step, len(at))
            at[step : step + 1] = [value]
        else:
            at[step] = value
        return step


_STEP = re.compile(r"\.([^.\[\]]+)|\[([0-9]{1,9})\]|\[(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\]")
_ESCAPED = re.compile(r"\\(.)")


def _steps(path: str) -> list[str | int] | None:
    """The keys and indices of a JSON path; None if it is not one that leads into an object."""
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        if len(steps) == _DEEPEST:
            return None
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
