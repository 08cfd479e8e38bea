"""What the fakes were asked: a count for each engine and service, and the requests while somebody wants them. Bounded, as a process
that tests bots for days makes engines without end."""

import itertools
from collections import deque
from typing import Any, Final
from weakref import WeakValueDictionary

from allm.engine import Engine

__all__ = ["FakeLog", "Requests", "keep_requests", "log_of"]

_RECENT: Final = 100
_MOST: Final = 10_000
"""Engines whose calls are counted. Behind that the oldest are forgotten: their scripts begin anew."""


class Requests(list[Any]):
    """What one engine's fake was asked, in order; kept as long as somebody holds this list."""

    __slots__ = ("__weakref__",)


class FakeLog:
    """How many calls (not attempts) there were of one engine's fake, and, with `record`, their requests."""

    def __init__(self, key: tuple[str, str]) -> None:
        self._key = key
        self._counter = itertools.count()
        self.calls = 0

    @property
    def requests(self) -> Requests:
        """The requests, in order. Without a holder (see `keep_requests`) those of the _RECENT engines asked last are kept."""
        kept = _requests.get(self._key)
        if kept is None:
            kept = _requests.setdefault(self._key, Requests())
            _recent.append(kept)
        return kept

    def next(self, request: Any, record: bool) -> int:
        """The number of this call, from 0."""
        if record:
            self.requests.append(request)
        self.calls = (number := next(self._counter)) + 1
        return number


_logs: dict[tuple[str, str], FakeLog] = {}
_requests: WeakValueDictionary[tuple[str, str], Requests] = WeakValueDictionary()
_recent: deque[Requests] = deque(maxlen=_RECENT)


def log_of(engine: Engine, service: str = "text") -> FakeLog:
    """The log of the engine's fake; engines made from one another with `with_*` and `put_*` share it."""
    key = str(engine.id), service
    log = _logs.get(key)
    if log is None:
        if len(_logs) >= _MOST:
            for old in list(_logs)[: _MOST // 10]:
                _logs.pop(old, None)
        log = _logs.setdefault(key, FakeLog(key))
    return log


def keep_requests(engine: Engine, service: str = "text") -> Requests:
    """The requests that the engine's fake will be asked, kept as long as the caller holds them."""
    return _requests.setdefault((str(engine.id), service), Requests())
