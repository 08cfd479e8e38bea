"""Which engine actor serves a call: one for each adapter, address and transport."""

import hashlib
from typing import Final

from allm.actors.call import Plan
from allm.actors.directory import EngineKey
from allm.masking import masked_address
from allm.settings import Http

__all__ = ["EngineKeys"]

_PLAIN: Final = Http()
_MOST: Final = 1000


class EngineKeys:
    """Of one runtime. Remembers what it worked out, as an engine makes many calls."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int], tuple[Http, EngineKey, str]] = {}

    def of(self, plan: Plan) -> tuple[EngineKey, str]:
        """What serves this plan, and its name in the tree. The name shows no secret; part of a hash stands for what it leaves out."""
        engine, http = plan.engine, plan.engine.http
        known = self._known.get((engine.adapter, plan.base_url, id(http)))
        if known is not None:  # it holds `http`, so that the id is its own
            return known[1], known[2]
        transport = http.kind, http.proxy, str(http.verify), str(http.cert), http.max_connections
        key: EngineKey = (engine.adapter, plan.base_url, *transport)
        shown = masked_address(plan.base_url)
        name = " ".join(part for part in (engine.adapter, shown) if part)
        if http != _PLAIN or shown != plan.base_url:
            name += " " + hashlib.sha256(repr(key).encode()).hexdigest()[:6]
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[engine.adapter, plan.base_url, id(http)] = (http, key, name)
        return key, name
