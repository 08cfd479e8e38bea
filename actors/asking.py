"""How a call asks for its answer by a schema where its host may refuse the wire's own way, and what a runtime knows of its hosts.

Each way is tried at most once in a call, the one that is known to work first. What a call finds out is noted when its answer is complete.
"""

from typing import Any, Final

from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.providers.adapter import Adapter
from allm.providers.answer_ways import ANSWER_TOOL, refuses
from allm.requests import JsonSchema, Request

__all__ = ["Asking", "KnownWays", "asking"]

_Host = tuple[str, str, str]
"""Adapter, base URL and model."""

MOST_KNOWN: Final = 1024
"""Hosts and models that are remembered; beyond it the one goes whose last call is the longest ago."""


class KnownWays:
    """The ways that worked where the wire's own was refused. One per runtime; read by any thread, written on the loop."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._ways: dict[_Host, str] = {}

    def of(self, host: _Host) -> str | None:
        """The way that worked here last; None for a host that did not refuse the wire's own."""
        return self._ways.get(host)

    def note(self, host: _Host, way: str | None) -> None:
        """It worked just now; None for the wire's own way, which needs no note."""
        self._ways.pop(host, None)
        if way is None:
            return
        self._ways[host] = way
        if len(self._ways) > self._most:
            del self._ways[next(iter(self._ways))]

    def __len__(self) -> int:
        return len(self._ways)


class Asking:
    """The ways of one call: `way` is the one it asks in now. Used on the loop once the call has begun."""

    __slots__ = ("_exhausted", "_first", "_host", "_known", "_left", "_own", "way")

    def __init__(self, known: KnownWays, host: _Host, ways: tuple[str, ...]) -> None:
        self._known = known
        self._host = host
        self._own = ways[0]
        remembered = known.of(host)
        self.way = remembered if remembered in ways else self._own
        self._left = [way for way in ways if way != self.way]
        self._first: ErrorInfo | None = None
        self._exhausted = False

    def refused(self, error: ErrorInfo) -> bool | None:
        """True if the host refused this way and there is another, which is `way` now; False if it refused them all; None for an error
        about something else."""
        if not refuses(error, self.way):
            return None
        self._first = self._first or error
        if self._left:
            self.way = self._left.pop(0)
            return True
        self._exhausted = True
        return False

    def worked(self) -> None:
        """The answer is complete."""
        self._known.note(self._host, self.way if self.way != self._own else None)

    def told(self, error: ErrorInfo) -> ErrorInfo:
        """The error to tell at the end of the call: the first refusal, where each way was refused."""
        return self._first if self._exhausted and self._first is not None else error


def asking(engine: Engine, adapter: Adapter, request: Request, base_url: str, known: KnownWays) -> Asking | None:
    """The ways for this request; None where it asks for no schema, the engine names a way, or the adapter has only one for this host."""
    if type(request.response_format) is not JsonSchema or engine.structured != "auto":
        return None
    offered: Any = getattr(adapter, "ways", None)
    ways: tuple[str, ...] = offered(engine, request, base_url) if offered is not None else ()
    if any(tool.name == ANSWER_TOOL for tool in request.tools):
        ways = tuple(way for way in ways if way != "tool")  # the name is taken
    return Asking(known, (engine.adapter, base_url, request.model or engine.model), ways) if len(ways) > 1 else None
