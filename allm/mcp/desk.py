"""What the connection of a server, its actor and the calls of its tools have in common. It outlives every incarnation of the actor."""

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from allm.errors import ToolError
from allm.mcp.server import Server

if TYPE_CHECKING:
    from allm.mcp.session import Session

__all__ = ["Desk"]


class Desk:
    """Which session serves now, if any, and who waits for one. Any thread; never blocks."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tools: tuple[Any, ...] = ()
        """As the server told them last."""
        self.latest: Session | None = None
        """The session that was begun last, whether it serves or not."""
        self._session: Session | None = None
        self._waiting: list[Future[Session]] = []
        self._last_error = "it has not started yet"
        self._was_up = False
        self.closed = False
        """Whether there will be no session any more."""
        self._lock = threading.Lock()

    def up(self, session: "Session", tools: tuple[Any, ...]) -> None:
        """This session serves."""
        with self._lock:
            self._session, self.tools, self._was_up = session, tools, True
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            with suppress(InvalidStateError):  # it waits no more
                future.set_result(session)

    def down(self, session: "Session | None", error: str | None = None, hopeless: bool = False) -> None:
        """This session, if it is the one that serves, does so no more. One that never began, and never will, fails who waits."""
        with self._lock:
            if self._session is session:
                self._session = None
            self._last_error = error or self._last_error
            if not hopeless or self._was_up:
                return
        self._fail_all()

    def close(self) -> None:
        """There will be no session any more."""
        with self._lock:
            self.closed, self._session = True, None
            self._last_error = "its connection was closed"
        self._fail_all()

    def wait(self) -> "Future[Session]":
        """The session that serves, as soon as there is one. Fails with ToolError("unavailable") if there will be none."""
        future: Future[Session] = Future()
        with self._lock:
            if self._session is not None:
                future.set_result(self._session)
            elif self.closed:
                future.set_exception(self.unavailable())
            else:
                self._waiting = [each for each in self._waiting if not each.done()]
                self._waiting.append(future)
        return future

    def unavailable(self, then: str = "") -> ToolError:
        """The error of who waited for nothing."""
        return ToolError("unavailable", f"the MCP server {self.server.name} is not available: {self._last_error}{then}")

    def _fail_all(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            with suppress(InvalidStateError):
                future.set_exception(self.unavailable())
