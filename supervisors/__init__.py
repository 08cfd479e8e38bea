"""Erlang's supervision on Pykka: actors that end with a reason, supervisors that restart what fails.

Generic: nothing here knows of language models. Names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm.supervisors import aio
    from allm.supervisors.actor import Actor, Crash
    from allm.supervisors.admin import (
        SupervisorError,
        change_specs,
        count_children,
        delete_child,
        get_spec,
        restart_child,
        start_child,
        terminate_child,
        which_child,
        which_children,
    )
    from allm.supervisors.application import run
    from allm.supervisors.dispatch import LoopDispatcher, PoolDispatcher, ThreadDispatcher
    from allm.supervisors.dynamic import DynamicSupervisor
    from allm.supervisors.events import subscribe
    from allm.supervisors.exits import ActorExited, CallTimeout, Exit, ExitError, SupervisionError
    from allm.supervisors.here import AskCycle, Fenced, WouldBlock, guard
    from allm.supervisors.idle import ReceiveTimeout
    from allm.supervisors.lifetime import StartError, kill, start_and_wait, stop, wait_started
    from allm.supervisors.locks import KeyedLocks
    from allm.supervisors.looking import counting, get_state
    from allm.supervisors.mailbox import Bound, MailboxFull
    from allm.supervisors.monitors import Down, Exited, demonitor, exit_signal, link, monitor, unlink
    from allm.supervisors.names import Via, call, cast
    from allm.supervisors.partition import Partitioned, PartitionSupervisor, count_partitions, partition_for, resize_partitions
    from allm.supervisors.passivation import Shelf, StateStore
    from allm.supervisors.policy import Backoff, GiveUp, Policy, Restart, Strategy
    from allm.supervisors.registry import AlreadyRegistered, Registry
    from allm.supervisors.requests import Refused, StartChild, StopChild
    from allm.supervisors.shelved import Shelved
    from allm.supervisors.spec import ChildSpec, Flags, SpecError, check_specs
    from allm.supervisors.streams import async_stream
    from allm.supervisors.supervisor import Supervisor
    from allm.supervisors.tasks import Ok, Task, TaskSupervisor, async_, async_nolink, await_many, callers
    from allm.supervisors.timers import LoopTimers, ManualTimers, ThreadTimers
    from allm.supervisors.view import abandoned, child, tree

_HOMES = {
    "actor": ("Actor", "Crash"),
    "admin": (
        "SupervisorError",
        "change_specs",
        "count_children",
        "delete_child",
        "get_spec",
        "restart_child",
        "start_child",
        "terminate_child",
        "which_child",
        "which_children",
    ),
    "application": ("run",),
    "dispatch": (
        "LoopDispatcher",
        "PoolDispatcher",
        "ThreadDispatcher",
    ),
    "dynamic": ("DynamicSupervisor",),
    "events": ("subscribe",),
    "exits": (
        "ActorExited",
        "CallTimeout",
        "Exit",
        "ExitError",
        "SupervisionError",
    ),
    "here": (
        "AskCycle",
        "Fenced",
        "WouldBlock",
        "guard",
    ),
    "idle": ("ReceiveTimeout",),
    "lifetime": ("StartError", "kill", "start_and_wait", "stop", "wait_started"),
    "locks": ("KeyedLocks",),
    "looking": ("counting", "get_state"),
    "mailbox": (
        "Bound",
        "MailboxFull",
    ),
    "monitors": (
        "Down",
        "Exited",
        "demonitor",
        "exit_signal",
        "link",
        "monitor",
        "unlink",
    ),
    "names": (
        "Via",
        "call",
        "cast",
    ),
    "partition": (
        "PartitionSupervisor",
        "Partitioned",
        "count_partitions",
        "partition_for",
        "resize_partitions",
    ),
    "passivation": (
        "Shelf",
        "StateStore",
    ),
    "policy": (
        "Backoff",
        "GiveUp",
        "Policy",
        "Restart",
        "Strategy",
    ),
    "registry": (
        "AlreadyRegistered",
        "Registry",
    ),
    "requests": (
        "Refused",
        "StartChild",
        "StopChild",
    ),
    "shelved": ("Shelved",),
    "spec": (
        "ChildSpec",
        "Flags",
        "SpecError",
        "check_specs",
    ),
    "streams": ("async_stream",),
    "supervisor": ("Supervisor",),
    "tasks": (
        "Ok",
        "Task",
        "TaskSupervisor",
        "async_",
        "async_nolink",
        "await_many",
        "callers",
    ),
    "timers": (
        "LoopTimers",
        "ManualTimers",
        "ThreadTimers",
    ),
    "view": ("abandoned", "child", "tree"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Actor",
    "ActorExited",
    "AlreadyRegistered",
    "AskCycle",
    "Backoff",
    "Bound",
    "CallTimeout",
    "ChildSpec",
    "Crash",
    "Down",
    "DynamicSupervisor",
    "Exit",
    "ExitError",
    "Exited",
    "Fenced",
    "Flags",
    "GiveUp",
    "KeyedLocks",
    "LoopDispatcher",
    "LoopTimers",
    "MailboxFull",
    "ManualTimers",
    "Ok",
    "PartitionSupervisor",
    "Partitioned",
    "Policy",
    "PoolDispatcher",
    "ReceiveTimeout",
    "Refused",
    "Registry",
    "Restart",
    "Shelf",
    "Shelved",
    "SpecError",
    "StartChild",
    "StartError",
    "StateStore",
    "StopChild",
    "Strategy",
    "SupervisionError",
    "Supervisor",
    "SupervisorError",
    "Task",
    "TaskSupervisor",
    "ThreadDispatcher",
    "ThreadTimers",
    "Via",
    "WouldBlock",
    "abandoned",
    "aio",
    "async_",
    "async_nolink",
    "async_stream",
    "await_many",
    "call",
    "callers",
    "cast",
    "change_specs",
    "check_specs",
    "child",
    "count_children",
    "count_partitions",
    "counting",
    "delete_child",
    "demonitor",
    "exit_signal",
    "get_spec",
    "get_state",
    "guard",
    "kill",
    "link",
    "monitor",
    "partition_for",
    "resize_partitions",
    "restart_child",
    "run",
    "start_and_wait",
    "start_child",
    "stop",
    "subscribe",
    "terminate_child",
    "tree",
    "unlink",
    "wait_started",
    "which_child",
    "which_children",
]


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("allm.supervisors.aio")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
