"""The net under a runtime's calls: what was withdrawn, and what a thread that was interrupted never handed over.

`look` comes with each pulse (see `allm.supervisors.pulse`): a call that was submitted and that no supervisor has after a second is
handed over again; one whose submit was interrupted is dropped; and if the loop's thread has ended, who waits is told.
"""

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from allm.actors.call import Call
from allm.actors.directory import Directory
from allm.actors.engine import WithdrawCall, put
from allm.actors.loops import LoopThread
from allm.actors.turn_slot import Turn
from allm.actors.turns import StartTurn, WithdrawTurn
from allm.errors import StreamError
from allm.supervisors.clock import clock
from allm.supervisors.here import call_soon, threaded

__all__ = ["Net"]

_PATIENCE: Final = 0.8
"""Seconds in which a call has got to its supervisor, or never will by itself."""


class Net:
    """One per runtime."""

    def __init__(
        self,
        home: LoopThread,
        directory: Directory,
        hand_over: Callable[[Call], None],
        forget: Callable[[Any], None],
    ) -> None:
        self._home = home
        self._directory = directory
        self._hand_over = weakref.WeakMethod(hand_over)
        self._forget = weakref.WeakMethod(forget)
        self._dropped: deque[Call | Turn] = deque()
        self._seen: dict[str, float] = {}
        threaded.add(self)

    def withdraw(self, call: Call | Turn) -> None:
        """Nobody wants it any more. May be called from a finaliser: it takes no lock and sends no message itself."""
        self._dropped.append(call)
        call_soon(self._home.loop, self._withdraw_all)  # unless it is closed, and every call with it

    def look(self) -> None:
        """Any thread."""
        if self._home.over:
            self._lost()
        elif self._dropped or self._directory.calls or self._directory.turns:
            call_soon(self._home.loop, self._look)

    def after_fork(self) -> None:
        """The runtime is told of a fork itself."""

    def help(self) -> bool:
        """Nothing to do: a loop needs its thread."""
        return False

    def _lost(self) -> None:
        """The loop's thread has ended: no call goes on."""
        running: list[Call | Turn] = [*self._directory.turns.values(), *self._directory.calls.values()]
        for call in running:
            if not self._directory.stopping:
                call.pipe.finish(None, StreamError("unknown", "the thread of the runtime's loop has ended", request_id=call.id))

    def _look(self) -> None:
        if self._dropped:
            self._withdraw_all()
        now: float = clock.now()
        waiting: list[Call | Turn] = [call for call in list(self._directory.calls.values()) if not call.supervised and not call.ended]
        waiting += [turn for turn in list(self._directory.turns.values()) if turn.actor is None and not turn.ended]
        seen, self._seen = self._seen, {}
        for call in waiting:
            since = seen.get(call.id, now)
            self._seen[call.id] = since
            if now - since < _PATIENCE:
                continue
            if not call.handed:
                self._drop(call)
            elif isinstance(call, Turn):
                if self._directory.turns_ref is not None:
                    put(self._directory.turns_ref, StartTurn(call.id))
            elif (hand_over := self._hand_over()) is not None:
                hand_over(call)

    def _drop(self, call: Call | Turn) -> None:
        """Its submit was interrupted, and raised: its caller knows of no call."""
        self._directory.calls.pop(call.id, None)
        self._directory.turns.pop(call.id, None)
        self._give_up_key(call)

    def _withdraw_all(self) -> None:
        directory = self._directory
        while self._dropped:
            call = self._dropped.popleft()
            if isinstance(call, Turn):
                if directory.turns.get(call.id) is not call:
                    self._give_up_key(call)  # it was never submitted
                elif directory.turns_ref is not None:
                    put(directory.turns_ref, WithdrawTurn(call.id))
                continue
            engine = directory.engines.get(call.key)
            if directory.calls.get(call.id) is not call:
                self._give_up_key(call)
            elif engine is not None and engine.is_alive():
                engine.tell(WithdrawCall(call.id))
            elif not call.supervised:  # its engine is not there now, and need not come for this
                call.cancelled()
                directory.calls.pop(call.id, None)
                self._give_up_key(call)

    def _give_up_key(self, call: Call | Turn) -> None:
        if (forget := self._forget()) is not None:
            forget(call.plan)
