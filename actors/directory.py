"""Who is where in one runtime: the actors that were found by name last, and the calls that run. Read and written on the loop.

An actor writes itself in when it starts, so that after a restart the next message finds the new one.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pykka import ActorRef

from allm.actors.vault import Vault
from allm.supervisors.timers import Timers

if TYPE_CHECKING:
    from allm.actors.call import Call
    from allm.actors.turn_slot import Turn

__all__ = ["Directory", "EngineKey"]

EngineKey = tuple[Any, ...]
"""Adapter, base URL and transport settings: what one engine actor serves."""


class Directory:
    """One per runtime."""

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.vault = Vault()
        self.io: ActorRef[Any]
        self.engines: dict[EngineKey, ActorRef[Any]] = {}
        self.supervisors: dict[EngineKey, ActorRef[Any]] = {}
        self.calls: dict[str, Call] = {}
        self.turns: dict[str, Turn] = {}
        self.turns_ref: ActorRef[Any] | None = None
        self.tools: ActorRef[Any]
        self.stopping = False
        self.call_ended = threading.Event()
        """Set at the end of each call; who waits for the last one clears it."""
        self.unfinished: set[Callable[[], None]] = set()
        """Ends of calls that wait for their callbacks."""
        self.closing: set[asyncio.Task[None]] = set()
        """Transports that are being closed."""
