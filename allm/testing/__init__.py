"""For tests of bots: `Fake` (scripts, no network), `Simulator` (a real HTTP server with faults), and hooks that break things."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm.testing.breaking import crash
    from allm.testing.conformance import AdapterConformance, OwnWire
    from allm.testing.current import current_engine, use_engine
    from allm.testing.fake_images import FakeImages
    from allm.testing.fake_services import FakeEmbeddings, FakeModeration
    from allm.testing.fakes import Fake
    from allm.testing.simulator import Fault, Reply, SimRequest, Simulator

_HOMES = {
    "AdapterConformance": "allm.testing.conformance",
    "OwnWire": "allm.testing.conformance",
    "crash": "allm.testing.breaking",
    "current_engine": "allm.testing.current",
    "use_engine": "allm.testing.current",
    "Fake": "allm.testing.fakes",
    "FakeEmbeddings": "allm.testing.fake_services",
    "FakeModeration": "allm.testing.fake_services",
    "FakeImages": "allm.testing.fake_images",
    "Fault": "allm.testing.simulator",
    "Reply": "allm.testing.simulator",
    "SimRequest": "allm.testing.simulator",
    "Simulator": "allm.testing.simulator",
}

__all__ = [
    "AdapterConformance",
    "Fake",
    "FakeEmbeddings",
    "FakeImages",
    "FakeModeration",
    "Fault",
    "OwnWire",
    "Reply",
    "SimRequest",
    "Simulator",
    "crash",
    "current_engine",
    "use_engine",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'allm.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
