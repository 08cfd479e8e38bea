"""Erlang's supervision on Pykka: actors that end with a reason, supervisors that restart what fails.

Generic: nothing here knows of language models. Names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm.supervisors.actor import Actor, Crash, StartError, kill, start_and_wait, stop, wait_started
    from allm.supervisors.dispatch import LoopDispatcher, PoolDispatcher, ThreadDispatcher
    from allm.supervisors.dynamic import DynamicSupervisor
    from allm.supervisors.exits import ActorExited, CallTimeout, Exit
    from allm.supervisors.policy import Backoff, GiveUp, Policy, Restart, Strategy
    from allm.supervisors.requests import Refused, StartChild, StopChild
    from allm.supervisors.spec import ChildSpec, Flags, SpecError, check_specs
    from allm.supervisors.supervisor import Supervisor
    from allm.supervisors.timers import LoopTimers, ManualTimers, ThreadTimers
    from allm.supervisors.view import child, tree

_HOMES = {
    "actor": ("Actor", "Crash", "StartError", "kill", "start_and_wait", "stop", "wait_started"),
    "dispatch": ("LoopDispatcher", "PoolDispatcher", "ThreadDispatcher"),
    "dynamic": ("DynamicSupervisor",),
    "exits": ("ActorExited", "CallTimeout", "Exit"),
    "policy": ("Backoff", "GiveUp", "Policy", "Restart", "Strategy"),
    "requests": ("Refused", "StartChild", "StopChild"),
    "spec": ("ChildSpec", "Flags", "SpecError", "check_specs"),
    "supervisor": ("Supervisor",),
    "timers": ("LoopTimers", "ManualTimers", "ThreadTimers"),
    "view": ("child", "tree"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Actor",
    "ActorExited",
    "Backoff",
    "CallTimeout",
    "ChildSpec",
    "Crash",
    "DynamicSupervisor",
    "Exit",
    "Flags",
    "GiveUp",
    "LoopDispatcher",
    "LoopTimers",
    "ManualTimers",
    "Policy",
    "PoolDispatcher",
    "Refused",
    "Restart",
    "SpecError",
    "StartChild",
    "StartError",
    "StopChild",
    "Strategy",
    "Supervisor",
    "ThreadDispatcher",
    "ThreadTimers",
    "check_specs",
    "child",
    "kill",
    "start_and_wait",
    "stop",
    "tree",
    "wait_started",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
