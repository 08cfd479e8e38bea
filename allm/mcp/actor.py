"""The actor of an MCP server: one incarnation, one session. Its supervisor makes the next one, after a delay that grows."""

import random
from functools import partial
from typing import Any, Final

from allm.actors.engine import put
from allm.mcp.desk import Desk
from allm.mcp.session import Listed, Lost, Session
from allm.supervisors import Actor, Backoff, Exit, Restart

__all__ = ["Patience", "ServerActor"]

LOST: Final = "server_lost"
_BACKOFF: Final = Backoff(first=0.1, factor=2.0, max=10.0, jitter=0.25, reset_after=10.0)


class ServerActor(Actor):
    """Ends when its session ends. On a thread of its own, as its end blocks until the server is gone."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session: Session | None = None

    def on_start(self) -> None:
        before = self._desk.latest
        if before is not None:  # of an incarnation that was killed, and had no last words
            before.end()
        self._session = self._desk.latest = Session(self._desk.server, partial(put, self.actor_ref))

    def on_receive(self, message: Any) -> None:
        match message:
            case Listed(session, tools):
                self._desk.up(session, tools)
            case Lost(session, error, hopeless, up):
                self._desk.down(session, error, hopeless)
                self.exit(Exit(LOST, {"server": self._desk.server.name, "error": error, "up": round(up, 3)}))
            case _:
                super().on_receive(message)

    def on_exit(self, reason: Exit) -> None:
        self._desk.down(self._session)
        if self._session is not None:
            self._session.end()


class Patience:
    """The restart policy: always again, with a backoff that a server which held out starts anew. Spends no budget of anybody."""

    def __init__(self, backoff: Backoff = _BACKOFF) -> None:
        self._backoff = backoff
        self._failures = 0

    def decide(self, exit: Exit, attempt: int) -> Restart:
        """Asked after each abnormal exit; `attempt` counts those that were well for hours, too."""
        up = exit.detail["up"] if exit.kind == LOST else 0.0
        self._failures = 1 if up > self._backoff.reset_after else self._failures + 1
        return Restart(self._backoff.delay(self._failures, random.random()))
