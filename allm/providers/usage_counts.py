"""Counts of tokens as hosts write them, and what their sums tell of how they were counted.

Hosts disagree on what is in a count: some leave reasoning out of what was generated, some the cached tokens out of the prompt. Where they
tell a total, it decides, as it has everything in it. Pure functions of numbers.
"""

from typing import Any, Final

__all__ = ["counted", "settled", "tokens"]

_LIMIT: Final = 1 << 63


def tokens(value: Any) -> int | None:
    """The value if it is a count."""
    if value.__class__ is int:  # nearly always
        return value if 0 <= value < _LIMIT else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LIMIT else None


def counted(*told: Any) -> int | None:
    """The first of these, names of one count at several hosts, that counted anything; else the first that is a count at all."""
    first: int | None = None
    for each in told:
        if each is None:
            continue
        if each.__class__ is int and 0 < each < _LIMIT:  # nearly always
            return each
        if (count := tokens(each)) is not None:
            if count:
                return count
            first = count if first is None else first
    return first


def settled(
    given: int | None, output: int | None, total: int | None, thought: int | None, beside: tuple[int | None, ...] = ()
) -> tuple[int | None, int | None, int | None]:
    """(input, output, total), with what a host left out of them. `beside`: cached tokens, read and written, that may not be in `given`.

    What the total has more is theirs if it is as much, else it was generated. More reasoning than output was not counted in it.
    """
    if given is None or output is None:
        return given, output, total
    more = 0 if total is None else total - given - output
    read_or_written = [count or 0 for count in beside]
    if more > 0 and more in (sum(read_or_written), *read_or_written):
        given += more
    elif more > 0 and (not thought or more == thought or thought > output):
        output += more
    elif more <= 0 and thought is not None and thought > output:
        output += thought
    return given, output, total if total is None else max(total, given + output)
