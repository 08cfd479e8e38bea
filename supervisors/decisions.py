"""Reports, which a supervisor decides on, and actions, which it decides to take: plain data on both sides of `decide`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, TypeAlias

from allm.supervisors.children import Child
from allm.supervisors.events import Context
from allm.supervisors.exits import Exit
from allm.supervisors.policy import GiveUp, Restart

__all__ = [
    "Action",
    "Add",
    "Answer",
    "Arrange",
    "Begin",
    "Broken",
    "Decline",
    "Delete",
    "Disarm",
    "Down",
    "Due",
    "Ended",
    "Ending",
    "Failed",
    "GaveUp",
    "Gone",
    "Halt",
    "Judge",
    "Judged",
    "Judgement",
    "Launch",
    "Leave",
    "Pause",
    "Ready",
    "Refuse",
    "Report",
    "Restarting",
    "Revive",
    "Shutdown",
    "Stop",
    "Tell",
    "Up",
]  # fmt: skip

# -- reports


class Begin(NamedTuple):
    """The first start, of these children, one after the other."""

    children: Sequence[Child]


class Up(NamedTuple):
    """A child that was starting runs; `now` is 0.0 unless its policy or backoff needs the time."""

    child: Child
    now: float = 0.0


class Failed(NamedTuple):
    """A child that was starting has ended."""

    child: Child
    exit: Exit


class Down(NamedTuple):
    """A child has ended."""

    child: Child
    exit: Exit


class Judged(NamedTuple):
    """The answer to `Judge`: the time, a random number in [0, 1), and the word of the child's policy if it was asked."""

    child: Child
    exit: Exit
    retried: bool
    now: float
    random: float
    word: Restart | GiveUp | None


class Due(NamedTuple):
    """The delay before the restart of this generation is over."""

    child: Child
    generation: int


class Add(NamedTuple):
    """A child is to be started that is not there yet."""

    child: Child
    reply: Any


class Stop(NamedTuple):
    """A child is to be stopped: the child itself, or its id."""

    child: Child | Hashable
    reply: Any


class Revive(NamedTuple):
    """A child that is down is to be started again."""

    id: Hashable
    reply: Any


class Delete(NamedTuple):
    """A child that is down is to be forgotten."""

    id: Hashable
    reply: Any


class Arrange(NamedTuple):
    """Children under `stop` are to be stopped, those under `start` that are down to be started; then the answer is `value`."""

    stop: Sequence[Hashable]
    start: Sequence[Hashable]
    reply: Any
    value: Any


class Shutdown(NamedTuple):
    """The supervisor is to end, after all its children. `crashed`: orders to children may not have been carried out."""

    exit: Exit
    crashed: bool = False


class Judgement(NamedTuple):
    """Held: a child ended by itself, or its restart failed."""

    child: Child
    exit: Exit
    generation: int
    retried: bool


Report: TypeAlias = Begin | Up | Failed | Down | Judged | Due | Add | Stop | Revive | Delete | Arrange | Shutdown

# -- actions


class Launch(NamedTuple):
    """Start the child; `Up` or `Failed` follows."""

    child: Child


class Halt(NamedTuple):
    """Tell the child to stop and set its deadline; `Down` follows. `again`: it may have been told, and its time goes on then."""

    child: Child
    again: bool = False


class Judge(NamedTuple):
    """Ask for what a verdict takes; `Judged` follows."""

    child: Child
    exit: Exit
    retried: bool
    ask: bool
    """Whether the child's policy is asked."""


class Restarting(NamedTuple):
    """Tell that the child will be started again."""

    child: Child
    exit: Exit
    delay: float


class Pause(NamedTuple):
    """Send `Due` after this time, and after what is in the mailbox."""

    child: Child
    delay: float


class Disarm(NamedTuple):
    """Take back the timer of the child."""

    child: Child


class Gone(NamedTuple):
    """A child will not come back: bury its mailbox, answer the requests that wait for its stop, tell the hook."""

    child: Child
    exit: Exit


class Ended(NamedTuple):
    """Tell that an incarnation has ended."""

    child: Child
    exit: Exit


class Tell(NamedTuple):
    """Report something to whoever listens to supervisors."""

    context: Context
    child: Child
    exit: Exit


class GaveUp(NamedTuple):
    """Tell that the budget is spent."""

    child: Child
    exit: Exit


class Broken(NamedTuple):
    """Log that something that belongs to the child failed."""

    what: str
    child: Child
    error: BaseException


class Answer(NamedTuple):
    """Answer a request; a child stands for its ref."""

    reply: Any
    value: Any


class Decline(NamedTuple):
    """Refuse a request, in a word of OTP's; the ref of a child goes with it."""

    reply: Any
    reason: str
    child: Child | None = None


class Refuse(NamedTuple):
    """Answer a request for a start that failed."""

    reply: Any
    exit: Exit


class Ready(NamedTuple):
    """All first children are there: the supervisor's own start is complete."""


class Ending(NamedTuple):
    """The end has begun."""


class Leave(NamedTuple):
    """No child is left: end with this exit."""

    exit: Exit


Action: TypeAlias = (
    Launch
    | Halt
    | Judge
    | Restarting
    | Pause
    | Disarm
    | Gone
    | Ended
    | Tell
    | GaveUp
    | Broken
    | Answer
    | Decline
    | Refuse
    | Ready
    | Ending
    | Leave
)
