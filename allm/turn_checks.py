"""The checks that the turn machine asks for: does an answer fit its format, do arguments fit the schemas of their tools.

An answer's check may run code of the user's (a dataclass's `__post_init__`, a pydantic validator), and any check may take long: who
drives the machine makes them where that does no harm. `checked_at_once` gives the input only where both are out of the question.
"""

from typing import Final

from allm.schemas import checker, known_checker
from allm.structured import problem_of, runs_code
from allm.turn_data import AnswerChecked, ArgumentsChecked, CheckAnswer, CheckArguments

__all__ = ["check_answer", "check_arguments", "checked_at_once"]

_SMALL: Final = 4_096
"""Characters of JSON, and in all of a step's calls."""

_UNITS: Final = 20_000
"""Units of work of `allm.schemas`: under 1 ms."""


def check_answer(effect: CheckAnswer) -> AnswerChecked:
    """What does not fit in the answer. May run code of the user's."""
    return AnswerChecked(problem_of(effect.text, effect.format))


def check_arguments(effect: CheckArguments) -> ArgumentsChecked:
    """What does not fit in the arguments of each call."""
    pairs = zip(effect.calls, effect.tools, strict=True)
    return ArgumentsChecked(tuple(checker(tool.schema).problem(call.arguments) for call, tool in pairs))


def checked_at_once(effect: CheckAnswer | CheckArguments) -> AnswerChecked | ArgumentsChecked | None:
    """What the check comes to, if it takes no time and runs no code but ours; else None. On any thread, the loop too."""
    if isinstance(effect, CheckAnswer):
        small = len(effect.text) <= _SMALL and not runs_code(effect.format) and _is_cheap(effect.format.schema, len(effect.text))
        return check_answer(effect) if small else None
    sizes = [len(call.raw_arguments) if call.raw_arguments is not None else _SMALL for call in effect.calls]
    if sum(sizes) > _SMALL:
        return None
    if not all(_is_cheap(tool.schema, size) for tool, size in zip(effect.tools, sizes, strict=True)):
        return None
    return check_arguments(effect)


def _is_cheap(schema: object, size: int) -> bool:
    found = known_checker(schema)
    return found is not None and found.cost(size) <= _UNITS
