"""Mailboxes with a will of their own: kept across restarts, or bounded.

`Kept` belongs to a child's slot: refs of all incarnations put into it, a restart loses only the message that failed,
and what is left when the child does not come back goes to the dead letters. A put to the incarnation that runs takes no
lock: it appends first and looks at ``closed`` after; what it then finds left behind moves on. A lock guards the change
from one incarnation to the next; it is held for appends, never while anything runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from pykka import messages
from pykka._envelope import Envelope

from allm.supervisors import events
from allm.supervisors.cell import TURN, Body, Cell
from allm.supervisors.exits import FORKED, NOPROC, ActorExited, Exit, SupervisionError, text_of
from allm.supervisors.here import Waiter, forked, guard, here
from allm.supervisors.inbox import StopFlag, answer, fail
from allm.supervisors.ticks import Tick

__all__ = ["Bound", "BoundedCell", "Kept", "KeptCell", "MailboxFull"]


class MailboxFull(SupervisionError, RuntimeError):
    """The mailbox holds as many messages as it may."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit to the messages of others that may wait, and the fate of the next.

    ``refuse`` raises `MailboxFull` in the sender (an ask fails with it), the two others make a dead letter. Signals,
    timers and reports of children are never counted. Senders that race may overshoot by their number.
    """

    limit: int
    full: Literal["refuse", "drop_newest", "drop_oldest"] = "refuse"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {self.limit}")


_FULL = Exit("mailbox_full")
_ActorStop = messages._ActorStop  # pyright: ignore[reportPrivateUsage]


class _Report(Envelope[Any]):
    """An envelope that a bound does not count."""

    __slots__ = ()


class BoundedCell(Cell):
    """A cell whose mailbox refuses or drops what is too much."""

    __slots__ = ("bound",)

    def __init__(self, name: str, body: Body, bound: Bound) -> None:
        super().__init__(name, body)
        self.bound = bound

    def put(self, envelope: Envelope[Any], /) -> None:
        """Take a message unless too many wait; a stop always."""
        if here.cell is not None:
            guard()  # before room is made
        if len(self.user) < self.bound.limit or type(envelope.message) is _ActorStop or self._make_room(envelope):
            self.post(envelope)

    def put_message(self, message: Any) -> None:
        """Put a report, a timer or the like: not fenced, not counted by the bound and not pushed out. Any thread."""
        self.post(_Report(message))

    def _make_room(self, envelope: Envelope[Any]) -> bool:
        if self.bound.full == "drop_oldest":
            return self._push_out(envelope)
        if self.bound.full == "refuse" and envelope.reply_to is None:
            raise MailboxFull(f"{self.name} has {self.bound.limit} messages waiting")
        self._drop(envelope)
        return False

    def _push_out(self, envelope: Envelope[Any]) -> bool:
        """Drop the oldest message; the new one where a stop is the first that may go: what comes after that is not handled."""
        oldest = next((each for each in self._waiting() if type(each) is Envelope), None)
        if oldest is not None and type(oldest.message) is _ActorStop:
            self._drop(envelope)
            return False
        if oldest is not None:
            try:
                self.user.remove(oldest)  # not by its place: the actor may take it meanwhile
            except (ValueError, IndexError):
                return True
            self._drop(oldest)
        return True

    def _waiting(self) -> Iterator[Envelope[Any]]:
        try:
            yield self.user[0]
        except IndexError:
            return
        yield from self.user.copy()

    def _drop(self, envelope: Envelope[Any]) -> None:
        if envelope.reply_to is None:
            events.dead_letter(self.name, envelope.message, _FULL)
        else:
            fail(envelope.reply_to, MailboxFull(f"{self.name} has {self.bound.limit} messages waiting"))


class Kept:
    """The mailbox of a slot: one incarnation at a time takes from it.

    An incarnation that ends leaves its queue where it is: under the lock a mark is put behind what waits, and what is before
    the mark goes to the next one, as a copy. Whoever appends after the mark finds the incarnation closed and moves on what
    is behind the mark. So that nobody takes out of a queue but the thread of its incarnation, which looks at a message, says
    that it is in work, sees that the body is still there, and only then takes it out (`KeptCell._work`): a message is
    handled, or in the copy, never both.
    """

    name = "a child"
    waiting_on: Waiter | None = None

    def __init__(self, max_redeliver: int = 0) -> None:
        self.stopped = StopFlag()
        self.current: KeptCell | None = None
        self._held: deque[Envelope[Any]] = deque()
        self._lock = threading.RLock()  # a finaliser may run inside, and tell somebody
        self._max_redeliver = max_redeliver
        self._poison: tuple[Envelope[Any], int] | None = None
        self._buried: Exit | None = None
        forked.add(self)

    @property
    def buried(self) -> bool:
        """Whether it is closed for good."""
        return self._buried is not None

    @property
    def exit(self) -> Exit | None:
        """Its exit, once it is closed for good."""
        return self._buried

    @property
    def acting(self) -> Waiter:
        """The incarnation that runs, for who waits for an answer: it may be another one by then."""
        return self.current or self

    def put(self, envelope: Envelope[Any]) -> None:
        """Append to the incarnation that runs, or keep it for the next. Any thread."""
        if not self.take(envelope):
            _lost(self.name, envelope, self._buried or NOPROC)

    def take(self, envelope: Envelope[Any]) -> bool:
        """`put`; False when it is closed for good."""
        if envelope.reply_to is not None:
            envelope.reply_to.target = self  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        cell = self.current
        if cell is None:
            return self._keep(envelope)
        user = cell.user
        user.append(envelope)
        if cell.closed:
            self._recover(cell, user)
        else:
            cell.poke()
        return True

    def _keep(self, envelope: Envelope[Any]) -> bool:
        with self._lock:
            cell = self.current
            if cell is not None:
                cell.user.append(envelope)
            elif outlived(envelope):
                return True
            elif self._buried is None:
                self._held.append(envelope)
            else:
                return False
        if cell is not None:
            cell.poke()
        return True

    def _recover(self, cell: KeptCell, user: deque[Envelope[Any]]) -> None:
        """Take over what came to an incarnation in its last moment: what is behind the mark in its queue."""
        left: deque[Envelope[Any]] = deque()
        with self._lock:
            while user and user[-1] is not _MARK:  # what another appends between the two is as good
                envelope = user.pop()
                if not outlived(envelope):
                    left.appendleft(envelope)
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
        """A new incarnation takes over, before it runs; one that was killed before that leaves what waits to the next."""
        before = self.current
        if before is not None and before is not cell:
            before.mend()  # its end was seen, and its killer has not come to tell us of it: no later, or what waits is lost
        with self._lock:
            if cell.closed:
                return
            cell.user.extend(self._held)
            self._held.clear()
            self.current = cell

    def close(self, cell: KeptCell, error: BaseException | None) -> None:
        """An incarnation ended: keep what waits, and the message it failed on while that may be tried again."""
        abrupt = error is not None or (cell.exit is not None and cell.exit.kind == "killed")
        with self._lock:
            cell.closed = True
            if self.current is not cell:
                return
            user, in_work, buried = cell.user, cell.envelope, self._buried
            user.append(_MARK)
            left = user.copy()
            while left.pop() is not _MARK:
                pass  # it came after the mark: who put it moves it on
            waiting = [each for each in left if each is not _MARK and each is not in_work and not outlived(each)]
            failed = in_work if abrupt else None
            if failed is not None and failed.reply_to is None and buried is None and self._may_retry(failed):
                waiting.insert(0, failed)
                in_work = failed = None
            # From here on nothing is called that the recursion limit could refuse: all of it is done, or nothing.
            if buried is None:
                self._held.extend(waiting)
            cell.user, cell.taken = deque(), in_work
            self.current = cell.envelope = None
        if failed is not None and failed.reply_to is None and cell.exit is not None:
            text = f"{type(error).__name__}: {text_of(error)}" if error is not None else cell.exit.kind
            events.dead_letter(cell.name, failed.message, cell.exit, text)
        if buried is not None:  # with its supervisor, while this incarnation was being made
            for envelope in waiting:
                _lost(cell.name, envelope, buried)

    def _may_retry(self, failed: Envelope[Any]) -> bool:
        tried = self._poison[1] if self._poison is not None and self._poison[0] is failed else 0
        self._poison = (failed, tried + 1)
        if tried >= self._max_redeliver:
            self._poison = None
            return False
        return True

    def bury(self, exit: Exit) -> None:
        """The child will not come back: asks fail, tells become dead letters, its refs say dead."""
        with self._lock:
            self._buried = exit
            left = self._emptied()
        self.stopped.set()
        for envelope in left:
            _lost(self.name, envelope, exit)

    def _emptied(self) -> list[Envelope[Any]]:
        left = list(self._held)
        self._held.clear()
        return left

    def after_fork(self) -> None:
        """Its actor lives in the parent process: asks fail, tells are the parent's to answer for."""
        self._lock = threading.RLock()
        self._buried = FORKED
        cell, self.current = self.current, None
        self.stopped.set()
        waiting = [*self._emptied(), *(cell.user.copy() if cell is not None else ())]
        for envelope in waiting:
            if envelope.reply_to is not None:
                _lost(self.name, envelope, FORKED)


class KeptCell(Cell):
    """An incarnation whose mailbox outlives it."""

    __slots__ = ("kept", "taken")

    def __init__(self, name: str, body: Body, kept: Kept) -> None:
        super().__init__(name, body, kept.stopped)
        self.kept = kept
        self.taken: Envelope[Any] | None = None  # in work when it was closed, and not to be tried again

    def post(self, envelope: Envelope[Any], /) -> None:
        """Put a message into the mailbox of the slot, whichever incarnation runs."""
        self.kept.put(envelope)

    def _work(self, body: Body) -> bool:
        user, signals = self.user, self.signals
        receive = body._handle_receive  # pyright: ignore[reportPrivateUsage]
        for _ in range(TURN):
            if signals:
                body._actor_signal(signals.popleft())  # pyright: ignore[reportPrivateUsage]
            elif user:
                # In this order, and a killer does it in the other one (`Cell.report`, `Kept.close`): see `Kept`.
                self.envelope = envelope = user[0]
                if self.body is not body:
                    return False
                user.popleft()
                result = receive(envelope.message)
                if (reply := envelope.reply_to) is not None and self.envelope is envelope:
                    try:
                        reply.answer(result)  # type: ignore[attr-defined]  # pyright: ignore
                    except AttributeError:
                        answer(reply, result)  # a future of Pykka's own
                self.envelope = None
            elif self.body is not body or self.park():
                return False
        return self.body is body

    def reject(self) -> list[Envelope[Any]]:
        """Refuse nothing: what waits is the slot's."""
        return []

    def _stop_flag(self) -> None:
        """Refs stay alive while the slot may start it again."""

    def _close(self, error: BaseException | None) -> Envelope[Any] | None:
        self.kept.close(self, error)
        return self.taken

    @property
    def acting(self) -> Cell:
        """The incarnation that runs now."""
        return self.kept.current or self


_MARK: Final[Envelope[Any]] = Envelope(None)
"""Put behind what waited when an incarnation ended."""


def outlived(envelope: Envelope[Any]) -> bool:
    """Whether it is of a timer whose incarnation has ended: nobody is to handle it, or to be started for it."""
    message = envelope.message
    return type(message) is Tick and message.cell.exit is not None


def _lost(name: str, envelope: Envelope[Any], exit: Exit) -> None:
    if envelope.reply_to is not None:
        fail(envelope.reply_to, ActorExited(name, exit), over=True)
    else:
        events.dead_letter(name, envelope.message, exit)
