"""Where user code runs: on the pool, one actor at a time, never on the loop."""

from collections.abc import Callable
from typing import Any

from allm.events import TERMINAL, Event
from allm.supervisors import Actor, log

__all__ = ["Errand", "Listener"]


class Listener(Actor):
    """Calls an `on_event` callback with each event of a call, in order. One that raises is reported, and called again."""

    def __init__(self, on_event: Callable[[Event], object]) -> None:
        super().__init__()
        self._on_event = on_event

    def on_receive(self, message: list[Event]) -> None:
        for event in message:
            try:
                self._on_event(event)
            except BaseException as error:  # SystemExit too: this thread is no place to leave from
                log.error("on_event_failed", error=type(error).__name__)
            if isinstance(event, TERMINAL):
                self.exit()


class Errand(Actor):
    """Calls one function: (True, its value) or (False, what it raised, as text)."""

    def on_receive(self, message: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        function, args = message
        try:
            outcome: tuple[bool, Any] = (True, function(*args))
        except BaseException as error:
            outcome = (False, f"{type(error).__name__}: {error}")
        self.reply(outcome)
        self.exit()
