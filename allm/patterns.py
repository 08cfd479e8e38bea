"""Regular expressions of strangers: searched only where that cannot take long.

Python's matcher backtracks: each repetition in a pattern multiplies its time by the text's length, each alternative doubles it, and a
repetition of what has choices itself is exponential. There is no time limit to set, so that the length of the text is limited
instead, by what the pattern may cost at most (about ten million steps, a third of a second); longer texts are not checked.
"""

import functools
import math
import re
from typing import Any, Final, NamedTuple

__all__ = ["search"]

_COST: Final = 10_000_000
_LONGEST: Final = 10_000
_LONGEST_PATTERN: Final = 1_000
_MANY: Final = 16
_COUNTED: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")


def search(pattern: Any, text: Any) -> bool | None:
    """Whether the pattern is found in the text. None: not said, as it is no pattern, or the text is too long for it."""
    if not isinstance(pattern, str) or not isinstance(text, str) or (compiled := _compiled(pattern)) is None:
        return None
    if len(text) > _limit(pattern):
        return None
    return compiled.search(text) is not None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    if len(pattern) > _LONGEST_PATTERN:
        return None
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None


@functools.lru_cache(maxsize=256)
def _limit(pattern: str) -> int:
    """Characters that a text may have for this pattern."""
    cost = _cost(pattern)
    power = cost.power + (0 if pattern.startswith("^") and "|" not in pattern else 1)  # a search begins at every character
    room = math.log(_COST) - cost.choices
    if cost.base > 1:
        return next((n for n in range(_MANY * 2, 0, -1) if n * math.log(cost.base) + max(power - 2, 0) * math.log(n) <= room), 0)
    return 0 if room < 0 else min(_LONGEST, int(math.exp(room / max(power, 1))))


class _Cost(NamedTuple):
    """What a part of a pattern costs, for a text of n characters: n to the `power`, times e to the `choices`, times `base` to the n."""

    power: int = 0
    choices: float = 0.0
    base: float = 1.0

    def then(self, other: "_Cost") -> "_Cost":
        return _Cost(self.power + other.power, self.choices + other.choices, max(self.base, other.base))

    def repeated(self, least: int, most: int | None) -> "_Cost":
        if most is None or most > _MANY:
            ways = math.exp(min(self.choices, 100)) * (1 + self.power)
            return _Cost(self.power + 1, self.choices, max(self.base, ways) if ways > 1 else self.base)
        return _Cost(self.power * max(most, 1), self.choices * max(most, 1) + math.log(max(most - least, 0) + 1), self.base)


def _cost(pattern: str) -> _Cost:
    groups = [_Cost()]
    last = _Cost()  # of the atom that a repetition would repeat; not in its group yet
    i = 0
    while i < len(pattern):
        width, bounds = _atom(pattern, i)
        if bounds is not None:
            last = last.repeated(*bounds)
        else:
            groups[-1], last = groups[-1].then(last), _Cost()
            if pattern[i] == "(":
                groups.append(_Cost())
            elif pattern[i] == ")" and len(groups) > 1:
                last = groups.pop()
            elif pattern[i] == "|":
                last = _Cost(choices=math.log(2))
        i += width
    return functools.reduce(_Cost.then, [*groups, last])


def _atom(pattern: str, i: int) -> tuple[int, tuple[int, int | None] | None]:
    """(characters, the bounds if it is a repetition) of what stands at `i`."""
    sign = pattern[i]
    if sign == "\\":
        return 2, None
    if sign == "[":
        end = pattern.find("]", i + (3 if pattern.startswith("[^", i) else 2))
        while end > 0 and _is_escaped(pattern, end):
            end = pattern.find("]", end + 1)
        return (end + 1 - i if end > 0 else 1), None
    if sign == "(" and pattern.startswith("(?", i):
        return 2, None
    counted = _COUNTED.match(pattern, i)
    if sign not in "*+?" and counted is None:
        return 1, None
    width = len(counted[0]) if counted else 1
    lazy = pattern[i + width : i + width + 1] in ("?", "+")
    return width + lazy, _bounds(sign, counted)


def _bounds(sign: str, counted: re.Match[str] | None) -> tuple[int, int | None]:
    if counted is None:
        return (0, 1) if sign == "?" else (0, None)
    least = int(counted[1][:9] or 0)
    return least, least if not counted[2] else int(counted[3][:9]) if counted[3] else None


def _is_escaped(pattern: str, i: int) -> bool:
    before = pattern[:i]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
