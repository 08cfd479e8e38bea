"""The demo's scenario: what is said, what goes wrong, and the comparison at the end. Pure: the seed decides everything."""

import random
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import allm
from allm.testing import Fault, Reply, SimRequest

__all__ = ["DRAFT", "FAULTS", "SLOW", "Conversation", "Loss", "Pace", "Provider", "Turn", "draw", "losses"]

SLOW: Final = "slow first byte"
FAULTS: Final[Mapping[str, tuple[Fault, ...]]] = MappingProxyType(
    {
        "503 twice": (Fault(status=503), Fault(status=503)),
        "429 with Retry-After": (Fault(status=429, retry_after=0.3),),
        "reset in mid-answer": (Fault(cut_after=2000, reset=True),),
        "truncated stream": (Fault(end_after=5),),
        "error in the stream": (Fault(error_after=4),),
        "stall with pings": (Fault(stall_after=3, pings=True),),
        "malformed chunk": (Fault(malformed_after=6),),
        "connection refused": (Fault(refuse=True),),
        "dead connection": (Fault(slow_first_byte=60, refuse=True),),
        SLOW: (),
    }
)
"""What the attempts of a turn meet before one is answered. A slow answer is not a failure, so it has no attempt of its own."""

DRAFT: Final = (
    "This is how an attempt begins that breaks off. A model words its next attempt otherwise, so that whoever glues "
    "the two together, or takes a part for the whole, ends up with a text that is in no script."
)
"""The text of every attempt that fails in mid-answer."""

_SUBJECTS: Final = ("the tide", "a heron", "the ferryman", "Ångström's lamp", "an old lichen", "the night train", "雨", "a lighthouse")
_VERBS: Final = ("waits for", "remembers", "circles", "outlives", "mends", "quietly follows", "paints", "never quite reaches")
_PLACES: Final = ("the far pier", "every fjord", "a naïve question", "the seventh bell", "salt and iron", "a map of Oslo")
_TIMES: Final = ("at dawn", "for a year or two", "in the rain", "as ever", "without a word", "until the lamps are lit")


class Pace(NamedTuple):
    """The demo's times, in seconds. A dead connection is given up after `first_event`, a stalled stream after `idle`."""

    delta: float = 0.025
    slow: float = 0.4
    first_event: float = 1.2
    idle: float = 0.5
    base_delay: float = 0.05

    def faster(self) -> "Pace":
        """About half of all that."""
        return Pace(self.delta / 3, self.slow / 3, self.first_event / 2, self.idle / 2, self.base_delay / 2)


class Turn(NamedTuple):
    """A question, its answer, and the kinds of faults that come in between."""

    question: str
    answer: str
    faults: tuple[str, ...]


class Conversation(NamedTuple):
    """One conversation's script."""

    name: str
    turns: tuple[Turn, ...]

    @property
    def thread(self) -> allm.Thread:
        """What it must have come to, message for message."""
        thread = allm.Thread()
        for turn in self.turns:
            thread = thread.add_user(turn.question).add_assistant(turn.answer)
        return thread


class Loss(NamedTuple):
    """An answer that is not the script's. `got` is what there is in its place, if anything."""

    conversation: str
    turn: int
    expected: str
    got: str | None


def draw(conversations: int, turns: int, seed: int) -> tuple[Conversation, ...]:
    """The scripts. Of three turns, about two meet faults; every kind comes up before one comes up again."""
    rng = random.Random(seed)
    deck: list[str] = []

    def deal() -> str:
        if not deck:
            deck.extend(rng.sample(sorted(FAULTS), len(FAULTS)))
        return deck.pop()

    def turn(name: str, number: int) -> Turn:
        faults = tuple(deal() for _ in range(rng.choice((0, 1, 2))))
        return Turn(f"{name}, question {number}: what is new with {rng.choice(_SUBJECTS)}?", _answer(rng), faults)

    names = (f"c{i:02}" for i in range(1, conversations + 1))
    return tuple(Conversation(name, tuple(turn(name, n) for n in range(1, turns + 1))) for name in names)


def _answer(rng: random.Random) -> str:
    said = (" ".join(map(rng.choice, (_SUBJECTS, _VERBS, _PLACES, _TIMES))) for _ in range(3))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said)


class Provider:
    """The simulator's side: for each request the next fault of its turn, and the answer once there are no more.

    Runs on the simulator's thread. `injected` counts faults by kind and may be read once all is said.
    """

    def __init__(self, script: tuple[Conversation, ...], pace: Pace) -> None:
        self.injected: Counter[str] = Counter()
        self._pace = pace
        self._turns = {turn.question: turn for conversation in script for turn in conversation.turns}
        self._ahead = {
            question: [(kind, fault) for kind in turn.faults for fault in FAULTS[kind]]
            for question, turn in self._turns.items()
        }  # fmt: skip

    def __call__(self, request: SimRequest) -> Reply | Fault:
        """What becomes of this request."""
        turn, ahead = self._turns[request.text], self._ahead[request.text]
        if ahead:
            kind, fault = ahead.pop(0)
            self.injected[kind] += 1
            return fault
        if SLOW not in turn.faults:
            return Reply(text=turn.answer, delay=self._pace.delta)
        self.injected[SLOW] += 1
        half = len(turn.answer) // 2
        return Reply(pieces=("", turn.answer[:half], turn.answer[half:]), delay=self._pace.slow)


def losses(conversation: Conversation, thread: allm.Thread) -> list[Loss]:
    """The answers that differ from the script; none only if the thread is the script's, message for message."""
    answers: dict[str, str] = {}
    question = ""
    for message in thread.messages:
        if message.role == "user":
            question = message.text
        else:
            answers[question] = message.text
    lost = [
        Loss(conversation.name, number, turn.answer, answers.get(turn.question))
        for number, turn in enumerate(conversation.turns, 1)
        if answers.get(turn.question) != turn.answer
    ]
    if not lost and thread != conversation.thread:
        lost = [Loss(conversation.name, 0, "the script's messages in the script's order", None)]
    return lost
