"""Receive timeouts: a message for an actor to which none has come for a while.

Costs an actor that sets none nothing: the hook is put before the `on_receive` of the one actor.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from allm.supervisors.timers import TimerRef

if TYPE_CHECKING:
    from allm.supervisors.actor import Actor

__all__ = ["Idle", "Idled", "ReceiveTimeout"]


@dataclass(frozen=True, slots=True)
class ReceiveTimeout:
    """No message has come for `seconds`; told to an actor that has asked for it by `Actor.receive_timeout`."""

    seconds: float


class Idled(NamedTuple):
    """The time may be over: told by the timer."""

    idle: Idle


class Idle:
    """Watches one actor, on its own thread: one timer, that looks when the last message was handled, not one for each."""

    def __init__(self, actor: Actor, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a receive timeout must be more than 0 seconds, not {seconds!r}")
        self._actor, self.seconds = actor, seconds
        self._timers = actor.actor_inbox.timers
        self._last = self._timers.now()
        self._timer: TimerRef = self._arm(seconds)
        self._over = False
        self._before = vars(actor).get("on_receive")  # an actor may have one of its own
        self._hook = vars(actor)["on_receive"] = self._receive

    def _arm(self, seconds: float) -> TimerRef:
        return self._timers.send_after(seconds, self._actor.actor_ref, Idled(self))

    def touch(self) -> None:
        """A message was handled."""
        self._last = self._timers.now()

    def cancel(self) -> None:
        """Watch no longer."""
        self._over = True
        self._timer.cancel()
        own = vars(self._actor)
        if own.get("on_receive") is self._hook:
            del own["on_receive"]
            if self._before is not None:
                own["on_receive"] = self._before

    def look(self) -> Any:
        """The timer has come: tell the actor if no message has come since, and wait anew."""
        if self._over:
            return None
        left = self._last + self.seconds - self._timers.now()
        self._timer = self._arm(self.seconds if left <= 0 else left)
        return self._receive(ReceiveTimeout(self.seconds)) if left <= 0 else None

    def _receive(self, message: Any) -> Any:
        try:
            result = type(self._actor).on_receive(self._actor, message) if self._before is None else self._before(message)
        finally:
            self.touch()
        return self._awaited(result) if inspect.iscoroutine(result) else result

    async def _awaited(self, result: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await result
        finally:
            self.touch()
