"""For tests of bots: `Fake` (scripts, no network), `Simulator` (a real HTTP server with faults), and hooks that break things."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm.testing.breaking import crash
    from allm.testing.fakes import Fake
    from allm.testing.simulator import Fault, Reply, SimRequest, Simulator

_HOMES = {
    "crash": "allm.testing.breaking",
    "Fake": "allm.testing.fakes",
    "Fault": "allm.testing.simulator",
    "Reply": "allm.testing.simulator",
    "SimRequest": "allm.testing.simulator",
    "Simulator": "allm.testing.simulator",
}

__all__ = ["Fake", "Fault", "Reply", "SimRequest", "Simulator", "crash"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'allm.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
