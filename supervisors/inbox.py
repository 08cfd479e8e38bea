"""A closable mailbox of two lanes; signals overtake messages and are never dropped.

No lock on the way in. Deques append and pop atomically; a put appends first and looks at ``closed`` after, whoever
closes raises ``closed`` first and empties after: whatever the interleaving, someone takes each envelope out, once,
and resolves its future. ``flag`` is a lock used as an atomic bit: held while the owner is scheduled or runs.

A sender may be interrupted at any bytecode (a signal's handler raises, the recursion limit is met), so that no state
relies on its coming to the end of a line. A place in a ready queue is a hint, never a right: a dispatcher gives a turn
only to an owner whose flag is held or that has mail (`claim`), and to no owner twice at a time. With that, a flag may be
lowered or an owner scheduled once too often at no cost, and both are how an interrupted put is made good: by the sender
itself where it can, else by the next `pulse`.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from allm.supervisors.clock import clock
from allm.supervisors.exits import NOPROC, ActorExited, Exit

if TYPE_CHECKING:
    from pykka._envelope import Envelope

    from allm.supervisors.lanes import Lane

__all__ = ["Inbox", "StopFlag", "answer", "fail", "lower"]


def lower(bit: threading.Lock) -> None:
    """Release a lock that serves as a bit; one that is free already stays so."""
    try:
        bit.release()
    except RuntimeError:
        if bit.locked():
            raise


class StopFlag(threading.Event):
    """An Event that costs an attribute until somebody waits for it; a stock one makes a Condition."""

    _gates: list[threading.Lock] = []
    """Of those for which nobody waits: it stays empty."""

    def __init__(self) -> None:
        self._raised = False

    def is_set(self) -> bool:
        """Whether it is raised."""
        return self._raised

    def set(self) -> None:
        """Raise it and wake who waits."""
        self._raised = True
        while self._gates:
            try:
                self._gates.pop().release()
            except IndexError:
                return

    def clear(self) -> None:
        """Lower it again."""
        self._raised = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is raised."""
        gate = threading.Lock()
        gate.acquire()
        gates: list[threading.Lock] = self.__dict__.setdefault("_gates", [])  # atomic
        gates.append(gate)
        end = None if timeout is None else clock.now() + timeout
        while not self._raised:  # with a clock: who raises it may be interrupted before it opens the gates
            left = 1.0 if end is None else min(1.0, end - clock.now())
            if left <= 0 or gate.acquire(timeout=left):
                break
        with suppress(ValueError):  # whoever raised it has taken it
            gates.remove(gate)
        return self._raised


class Inbox:
    """Two lanes, a run flag and the lane that is told when there is work."""

    __slots__ = ("closed", "exit", "flag", "lane", "name", "signals", "user")

    lane: Lane
    exit: Exit | None

    def __init__(self, name: str) -> None:
        self.name = name
        self.user: deque[Envelope[Any]] = deque()
        self.signals: deque[Any] = deque()
        self.flag = threading.Lock()
        self.flag.acquire()  # until the owner is launched
        self.closed = False
        self.exit = None

    def post(self, envelope: Envelope[Any], /) -> None:
        """Take a message; never raises, never blocks. Any thread."""
        if envelope.reply_to is not None:
            envelope.reply_to.target = self  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        self.user.append(envelope)
        if self.closed:
            self.reject()
            return
        try:
            if self.flag.acquire(False):
                self.lane.schedule(self)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        except BaseException:
            try:  # lower the flag for the next sender, by no call of ours: this may be the recursion limit
                self.flag.release()
            except RuntimeError:
                pass  # it was not raised, or there is no room for this either: the next pulse finds the mail
            raise

    put = post
    """Pykka's name for it."""

    def put_signal(self, signal: Any) -> None:
        """Take a signal: it is handled before all messages. Any thread."""
        self.signals.append(signal)
        self.poke()

    def poke(self) -> None:
        """See that what waits is handled. Any thread."""
        try:
            if not self.closed and self.flag.acquire(False):
                self.lane.schedule(self)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        except BaseException:
            try:  # lower the flag for the next sender, by no call of ours: this may be the recursion limit
                self.flag.release()
            except RuntimeError:
                pass  # it was not raised, or there is no room for this either: the next pulse finds the mail
            raise

    def claim(self) -> bool:
        """Raise the flag if there is mail: a turn is due though nobody asked for one."""
        return bool(self.user or self.signals) and self.flag.acquire(False)

    def get(self) -> Envelope[Any]:
        """The next message; raises IndexError when there is none."""
        return self.user.popleft()

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self.user

    def park(self) -> bool:
        """Lower the run flag; False when something came in meanwhile and the owner must go on."""
        try:
            self.flag.release()
        except RuntimeError:
            if self.flag.locked():  # else a sender that was interrupted has lowered it
                raise
        return not ((self.user or self.signals) and self.flag.acquire(False))

    def reject(self) -> list[Envelope[Any]]:
        """Once closed: take out what waits. Asks fail with the exit, tells are returned."""
        told: list[Envelope[Any]] = []
        while self.user:
            try:
                envelope = self.user.popleft()
            except IndexError:
                break
            if envelope.reply_to is None:
                told.append(envelope)
            else:
                self.refuse(envelope)
        return told

    def refuse(self, envelope: Envelope[Any]) -> None:
        """Fail an ask with the reason the owner is gone."""
        if envelope.reply_to is not None:
            fail(envelope.reply_to, ActorExited(self.name, self.exit or NOPROC), over=True)


def answer(ask: Any, value: Any) -> None:
    """Answer an ask; without effect where it has an answer. Its future may be one of Pykka's, which would raise."""
    try:
        quietly = ask.answer
    except AttributeError:
        with suppress(queue.Full):
            ask.set(value)
    else:
        quietly(value)


def fail(ask: Any, error: BaseException, *, over: bool = False) -> None:
    """Answer an ask with an error, as `answer` does; `over`: since the actor that was to answer has ended."""
    try:
        quietly = ask.end if over else ask.fail
    except AttributeError:
        with suppress(queue.Full):
            ask.set_exception((type(error), error, None))
    else:
        quietly(error)
