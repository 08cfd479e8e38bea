"""The adapter `sim`: a Simulator of this process, spoken to over real HTTP on loopback. `Engine("sim:")` works on a fresh machine."""

import atexit
import threading

from msgspec.structs import replace

from allm.engine import Engine
from allm.providers.adapter import HttpRequest
from allm.providers.openai_chat import OpenAIChat
from allm.requests import Request
from allm.testing.simulator import Reply, Simulator

__all__ = ["Sim", "shared_simulator"]

_lock = threading.Lock()
_shared: list[Simulator] = []


def shared_simulator() -> Simulator:
    """The Simulator behind `sim:` engines, started at its first use and closed at exit."""
    with _lock:
        if not _shared:
            _shared.append(Simulator(default=Reply(delay=0.03)))
            atexit.register(_shared[0].close)
        return _shared[0]


class Sim(OpenAIChat):
    """The Chat wire to the Simulator of this process (or to `base_url`, if the engine has one)."""

    name = "sim"
    provider = "sim"

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """As on the Chat wire, without a key."""
        if not (request.model or engine.model):
            request = replace(request, model="sim")
        made = super().request(engine, request, base_url or shared_simulator().base_url("chat"), stream)
        return replace(made, key_header=None)
