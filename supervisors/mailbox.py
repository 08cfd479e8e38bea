"""Mailboxes with a will of their own: kept across restarts, or bounded.

`Kept` belongs to a child's slot: refs of all incarnations put into it, a restart loses only the message that failed,
and what is left when the child does not come back goes to the dead letters. A put to the incarnation that runs takes no
lock: it appends first and looks at ``closed`` after; what it then finds left behind moves on. A lock guards the change
from one incarnation to the next; it is held for appends, never while anything runs.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pykka._envelope import Envelope

from allm.supervisors import events
from allm.supervisors.cell import Body, Cell
from allm.supervisors.exits import NOPROC, ActorExited, Exit
from allm.supervisors.here import guard, here
from allm.supervisors.inbox import StopFlag

__all__ = ["Bound", "BoundedCell", "Kept", "KeptCell", "MailboxFull"]


class MailboxFull(RuntimeError):
    """The mailbox holds as many messages as it may."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many messages of others may wait, and what happens to one more.

    ``refuse`` raises `MailboxFull` in the sender (an ask fails with it), the two others make a dead letter. Signals,
    timers and reports of children are never counted. Senders that race may overshoot by their number.
    """

    limit: int
    full: Literal["refuse", "drop_newest", "drop_oldest"] = "refuse"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {self.limit}")


_FULL = Exit("mailbox_full")


class BoundedCell(Cell):
    """A cell whose mailbox refuses or drops what is too much."""

    __slots__ = ("bound",)

    def __init__(self, name: str, body: Body, bound: Bound) -> None:
        super().__init__(name, body)
        self.bound = bound

    def put(self, envelope: Envelope[Any], /) -> None:
        """Take a message unless too many wait."""
        if here.cell is not None:
            guard()  # before room is made
        if len(self.user) < self.bound.limit or self._make_room(envelope):
            self.post(envelope)

    def _make_room(self, envelope: Envelope[Any]) -> bool:
        if self.bound.full == "drop_oldest":
            with suppress(IndexError):
                self._drop(self.user.popleft())
            return True
        if self.bound.full == "refuse" and envelope.reply_to is None:
            raise MailboxFull(f"{self.name} has {self.bound.limit} messages waiting")
        self._drop(envelope)
        return False

    def _drop(self, envelope: Envelope[Any]) -> None:
        if envelope.reply_to is None:
            events.dead_letter(self.name, envelope.message, _FULL)
        else:
            error = MailboxFull(f"{self.name} has {self.bound.limit} messages waiting")
            envelope.reply_to.set_exception((MailboxFull, error, None))


class Kept:
    """The mailbox of a slot: one incarnation at a time takes from it."""

    def __init__(self, max_redeliver: int = 0) -> None:
        self.stopped = StopFlag()
        self.current: KeptCell | None = None
        self._held: deque[Envelope[Any]] = deque()
        self._lock = threading.RLock()  # a finaliser may run inside, and tell somebody
        self._max_redeliver = max_redeliver
        self._poison: tuple[Envelope[Any], int] | None = None
        self._buried: Exit | None = None
        self._opened = 0  # incarnations so far

    @property
    def buried(self) -> bool:
        """Whether it is closed for good."""
        return self._buried is not None

    def put(self, envelope: Envelope[Any]) -> None:
        """Append to the incarnation that runs, or keep it for the next. Any thread."""
        if not self.take(envelope):
            _lost("a child", envelope, self._buried or NOPROC)

    def take(self, envelope: Envelope[Any]) -> bool:
        """`put`; False when it is closed for good."""
        cell = self.current
        if cell is None:
            return self._keep(envelope)
        cell.user.append(envelope)
        if cell.closed:
            self._recover(cell)
        else:
            cell.poke()
        return True

    def _keep(self, envelope: Envelope[Any]) -> bool:
        with self._lock:
            cell = self.current
            if cell is not None:
                cell.user.append(envelope)
            elif self._buried is None:
                self._held.append(envelope)
            else:
                return False
        if cell is not None:
            cell.poke()
        return True

    def _recover(self, cell: KeptCell) -> None:
        """Take over what came to an incarnation in its last moment."""
        with self._lock:
            left = _emptied(cell.user)
            current, buried = self.current, self._buried
            if current is not None:
                current.user.extend(left)
            elif buried is None:
                self._held.extend(left)
        if current is not None:
            current.poke()
        elif buried is not None:
            for envelope in left:
                _lost(cell.name, envelope, buried)

    def open(self, cell: KeptCell) -> None:
        """A new incarnation takes over, before it runs."""
        with self._lock:
            cell.user.extend(self._held)
            self._held.clear()
            self.current = cell
            self._opened = cell.opened = self._opened + 1

    def close(self, cell: KeptCell, error: BaseException | None) -> None:
        """An incarnation ended: keep what waits, and the message it failed on while that may be tried again."""
        abrupt = error is not None or (cell.exit is not None and cell.exit.kind == "killed")
        with self._lock:
            cell.closed = True
            self.current = None
            cell.taken = cell.envelope
            failed = cell.envelope if abrupt else None
            if failed is not None and failed.reply_to is None and self._may_retry(failed):
                cell.envelope = failed = None
            self._held.extend(_emptied(cell.user))
        if failed is not None and failed.reply_to is None and cell.exit is not None:
            text = f"{type(error).__name__}: {error}" if error is not None else cell.exit.kind
            events.dead_letter(cell.name, failed.message, cell.exit, text)

    def _may_retry(self, failed: Envelope[Any]) -> bool:
        tried = self._poison[1] if self._poison is not None and self._poison[0] is failed else 0
        self._poison = (failed, tried + 1)
        if tried >= self._max_redeliver:
            self._poison = None
            return False
        self._held.append(failed)  # first in line: nothing is held while an incarnation runs
        return True

    def give_back(self, cell: KeptCell, envelope: Envelope[Any]) -> None:
        """Taken out at the very moment of a kill: first in line again, unless the killer has seen it as in work.

        Once another incarnation has taken over, its place in the line is gone: it counts as the message that was in work.
        """
        with self._lock:
            if cell.taken is envelope:
                return
            cell.envelope = None
            if self._buried is None and self._opened == cell.opened:
                self._held.appendleft(envelope)
                return
        _lost(cell.name, envelope, self._buried or cell.exit or NOPROC)

    def bury(self, exit: Exit) -> None:
        """The child will not come back: asks fail, tells become dead letters."""
        with self._lock:
            self._buried = exit
            left = list(self._held)
            self._held.clear()
        self.stopped.set()
        for envelope in left:
            _lost("a child", envelope, exit)


class KeptCell(Cell):
    """An incarnation whose mailbox outlives it."""

    __slots__ = ("kept", "opened", "taken")

    def __init__(self, name: str, body: Body, kept: Kept) -> None:
        super().__init__(name, body, kept.stopped)
        self.kept = kept
        self.taken: Envelope[Any] | None = None  # in work when it was closed
        self.opened = 0  # which incarnation it is

    def post(self, envelope: Envelope[Any], /) -> None:
        """Into the mailbox of the slot, whichever incarnation runs."""
        if envelope.reply_to is not None:
            envelope.reply_to.target = self  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        self.kept.put(envelope)

    def give_back(self, envelope: Envelope[Any]) -> None:
        """To the next incarnation."""
        self.kept.give_back(self, envelope)

    def _stop_flag(self) -> None:
        """Refs stay alive while the slot may start it again."""

    def _close(self, error: BaseException | None) -> None:
        self.kept.close(self, error)

    @property
    def acting(self) -> Cell:
        """The incarnation that runs now."""
        return self.kept.current or self


def _emptied(waiting: deque[Envelope[Any]]) -> list[Envelope[Any]]:
    """What waits, taken out one by one: who appends meanwhile is not overlooked, and takes out the rest."""
    taken: list[Envelope[Any]] = []
    while waiting:
        try:
            taken.append(waiting.popleft())
        except IndexError:
            break
    return taken


def _lost(name: str, envelope: Envelope[Any], exit: Exit) -> None:
    if envelope.reply_to is not None:
        envelope.reply_to.set_exception((ActorExited, ActorExited(name, exit), None))
    else:
        events.dead_letter(name, envelope.message, exit)
