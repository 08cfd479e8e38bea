"""Hooks that break things on purpose, to see supervision at work."""

from allm.actors.runtime import Runtime, default_runtime
from allm.supervisors import Crash

__all__ = ["crash"]


def crash(*path: str, runtime: Runtime | None = None) -> None:
    """Makes an actor fail as a bug would: `crash("core", "io")`, `crash("engines", name, "calls")`, `crash(..., "calls", request_id)`.

    The path is that of `Runtime.tree()`, from the root down. Raises EngineError("not_found") when there is no such actor now.
    """
    (runtime or default_runtime()).find(*path).tell(Crash("crashed by allm.testing.crash"))
