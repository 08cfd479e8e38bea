"""What of a long thread is sent: policies that keep its end, cut where no call is parted from its result; and repair of the thread.

All pure. Always kept are the system messages at the front, the last user message, and the newest message with the results that belong
to it: a model that never sees its own call's result would call for ever. Between these, what is oldest goes first. A cut that would
part a call from its result is none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, cast

import msgspec

from allm.callables import resolve_callable
from allm.errors import ValidationError
from allm.messages import FilePart, ImagePart, Message, Part, ProviderPart, ReasoningPart, TextPart, Thread, ToolCallPart, Unknown
from allm.plain import Value

__all__ = ["NO_RESULT", "KeepLast", "TokenBudget", "apply", "estimate", "keep_last", "repair", "token_budget"]

NO_RESULT: Final = "no result: the call ended before it gave one"
"""What stands for the result of a call that has none."""

IMAGE_TOKENS: Final = 1_000
"""What an image or a file counts in an estimate; the providers take from 85 to 1,600 for an image."""

MESSAGE_TOKENS: Final = 4
"""What a message counts beside its content."""

_CHARACTERS: Final = 4
"""Characters a token, for English text."""


class KeepLast(Value, frozen=True):
    """Policy: at most `n` messages, those at the front not counted. See `keep_last`."""

    n: int

    def __post_init__(self) -> None:
        _positive("n", self.n)


class TokenBudget(Value, frozen=True):
    """Policy: at most `n` tokens, as estimated. See `token_budget`."""

    n: int

    def __post_init__(self) -> None:
        _positive("n", self.n)


def keep_last(n: int) -> KeepLast:
    """Sends the last `n` messages, fewer where the cut would part a call from its result, and the system messages at the front."""
    return KeepLast(n)


def token_budget(n: int) -> TokenBudget:
    """Sends as much of the thread's end as fits into `n` tokens, system messages included, by `estimate`."""
    return TokenBudget(n)


def apply(history: Any, messages: Sequence[Message], tighter: bool = False) -> tuple[Message, ...]:
    """What of `messages` is sent. `history`: a policy, a function of a Thread, its `"module:function"`, or None for all.

    `tighter` leaves half of the tokens that the policy leaves: fewer messages as long as more than the last turn is there. What
    cannot be left out is sent, whatever the policy says. Raises ValidationError if a function gives anything but messages.
    """
    given = tuple(messages)
    if history is None:
        return given
    kept = _applied(history, given)
    return _cut(kept, _tokens, _total(kept, _tokens) // 2) if tighter else kept


def estimate(messages: Iterable[Message]) -> int:
    """Tokens, estimated: a fourth of the characters, IMAGE_TOKENS for an image or a file, MESSAGE_TOKENS for a message."""
    return sum(map(_tokens, messages))


def _applied(history: Any, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if isinstance(history, KeepLast):
        return _cut(messages, lambda _: 1, history.n)
    if isinstance(history, TokenBudget):
        front = _front(messages)
        return _cut(messages, _tokens, history.n - estimate(messages[:front]))
    given: Any = resolve_callable(history, "engine.history")(Thread(messages))
    found: Any = given.messages if isinstance(given, Thread) else given
    if not isinstance(found, list | tuple) or not found:
        raise ValidationError.at("engine.history", f"the function gave {type(given).__name__}, expected messages")
    for i, message in enumerate(cast("Sequence[Any]", found)):
        if not isinstance(message, Message):
            raise ValidationError.at(f"engine.history[{i}]", f"the function gave {type(message).__name__}, expected a Message")
    return tuple(cast("Sequence[Message]", found))


# Cutting


def _cut(messages: tuple[Message, ...], weight: Callable[[Message], int], most: int) -> tuple[Message, ...]:
    """The front, the last user message, and the longest end that together with that one weighs at most `most`."""
    front = _front(messages)
    rest = messages[front:]
    places = _places(rest)
    if not places:
        return messages
    user = max((i for i, message in enumerate(rest) if message.role == "user"), default=None)
    ends = [0, *accumulate(weight(message) for message in reversed(rest))][::-1]  # of rest[i:], for each i

    def weighs(i: int) -> int:
        return ends[i] + (weight(rest[user]) if user is not None and user < i else 0)

    cut = next((i for i in places if weighs(i) <= most), places[-1])
    kept = rest[cut:] if user is None or user >= cut else (rest[user], *rest[cut:])
    return messages[:front] + kept


def _front(messages: Sequence[Message]) -> int:
    """How many system messages stand at the front."""
    return next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))


def _places(messages: Sequence[Message]) -> list[int]:
    """Where a thread may begin: before a user's or an assistant's message, where no later result answers an earlier call.

    (With a system message it would have another front than before, and a policy applied again would cut again.)
    """
    callers: dict[str, int] = {}
    needed = list(range(len(messages)))  # the earliest message that messages[i:] need, worked out from the end below
    for i, message in enumerate(messages):
        for call in _calls(message):
            callers[call.id] = i
        if message.role == "tool" and message.tool_call_id is not None:
            needed[i] = callers.get(message.tool_call_id, i)
    earliest = list(accumulate(reversed(needed), min))[::-1]
    return [i for i, message in enumerate(messages) if message.role in ("user", "assistant") and earliest[i] == i]


def _calls(message: Message) -> tuple[ToolCallPart, ...]:
    """Quick for the many messages that are text, as this is asked of each message at every step."""
    return () if isinstance(message.content, str) else message.tool_calls


def _total(messages: Sequence[Message], weight: Callable[[Message], int]) -> int:
    return sum(weight(message) for message in messages[_front(messages) :])


def _tokens(message: Message) -> int:
    if isinstance(message.content, str):
        return MESSAGE_TOKENS + len(message.content) // _CHARACTERS
    return MESSAGE_TOKENS + sum(map(_part_tokens, message.content))


def _part_tokens(part: Part) -> int:
    match part:
        case TextPart() | ReasoningPart():
            return len(part.text) // _CHARACTERS
        case ToolCallPart():
            arguments = part.raw_arguments if part.raw_arguments is not None else _json(part.arguments)
            return (len(part.name) + len(arguments)) // _CHARACTERS
        case ImagePart() | FilePart():
            return IMAGE_TOKENS
        case ProviderPart() | Unknown():
            return len(_json(part.data)) // _CHARACTERS


def _json(data: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(data)


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError.at(name, f"expected a whole number of at least 1, got {value!r}")


# Repair


def repair(messages: Sequence[Message], pending: Iterable[str] = ()) -> tuple[Message, ...]:
    """The thread with exactly one result for each call, right after the message that calls; the same one if nothing is to be done.

    A call without a result gets NO_RESULT, marked as an error, unless its id is `pending`. A result that came later than the next
    message is put behind its call. A second result for a call, and one for a call that is not there, are left out: as text of the
    user, where they could be told, a tool would speak in the user's name. A tool message that names no call is left as it is: that
    is an error of whoever wrote it.
    """
    given = tuple(messages)
    if not any(message.role == "tool" or _calls(message) for message in given):
        return given
    answers = _answers(given)
    waiting = frozenset(pending)
    repaired: list[Message] = []
    for i, message in enumerate(given):
        if message.role != "tool" or not message.tool_call_id:
            repaired.append(message)
        if i in answers:
            repaired += _results(message, answers[i], waiting)
    return given if len(repaired) == len(given) and all(map(_same, repaired, given)) else tuple(repaired)


def _same(one: Message, other: Message) -> bool:
    return one is other


def _answers(messages: Sequence[Message]) -> dict[int, dict[str, Message]]:
    """Of each message that calls: its calls' results by id, in the order in which they came. The latest caller of an id owns it."""
    callers: dict[str, int] = {}
    answers: dict[int, dict[str, Message]] = {}
    for i, message in enumerate(messages):
        for call in _calls(message):
            callers[call.id] = i
            answers.setdefault(i, {})
        if message.role == "tool" and (caller := callers.get(message.tool_call_id or "")) is not None:
            answers[caller].setdefault(message.tool_call_id or "", message)
    return answers


def _results(message: Message, answers: Mapping[str, Message], pending: frozenset[str]) -> list[Message]:
    """The results in the order in which they came; one that is missing stands behind that of the call before."""
    results = dict(answers)
    order = list(results)
    at = 0
    for call in message.tool_calls:
        if call.id in results:
            at = order.index(call.id) + 1
        elif call.id not in pending:
            results[call.id] = Message("tool", NO_RESULT, tool_call_id=call.id, metadata={"is_error": True})
            order.insert(at, call.id)
            at += 1
    return [results[id] for id in order]
