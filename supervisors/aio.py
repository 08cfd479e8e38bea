"""The same calls for code that awaits: ``await aio.start_and_wait(...)``, ``await aio.call(...)``. Any event loop, any dispatcher.

Each function does what its namesake in `allm.supervisors` does, and waits on the running loop without blocking it, wherever
the actors in question run. Cancelling a wait leaves the actors as they are, but `start_and_wait` ends what it had started,
`run` shuts its tree down, and the tasks of an `async_stream` that is closed are ended.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from allm.supervisors import partition
from allm.supervisors.aio_calls import call, get_state, request, start_and_wait, stop, this_loop, wait_started
from allm.supervisors.aio_tasks import Task, async_, async_nolink, async_stream, await_many
from allm.supervisors.application import run_async as run
from allm.supervisors.names import Address
from allm.supervisors.requests import (
    ChangeSpecs,
    ChildInfo,
    CountChildren,
    Counts,
    DeleteChild,
    GetSpec,
    RestartChild,
    StartChild,
    StopChild,
    WhichChild,
    WhichChildren,
)
from allm.supervisors.spec import Child, ChildSpec, Flags

__all__ = [
    "Task",
    "async_",
    "async_nolink",
    "async_stream",
    "await_many",
    "call",
    "change_specs",
    "count_children",
    "delete_child",
    "get_spec",
    "get_state",
    "resize_partitions",
    "restart_child",
    "run",
    "start_and_wait",
    "start_child",
    "stop",
    "terminate_child",
    "this_loop",
    "wait_started",
    "which_child",
    "which_children",
]


async def start_child(supervisor: Address, spec: Child | Sequence[Any], timeout: float | None = None) -> Any:
    """Start a child; see `allm.supervisors.start_child`."""
    return await request(supervisor, StartChild(spec), timeout)


async def terminate_child(supervisor: Address, child: Hashable, timeout: float | None = None) -> None:
    """Stop a child and wait for its end; see `allm.supervisors.terminate_child`."""
    await request(supervisor, StopChild(child), timeout)


async def restart_child(supervisor: Address, id: Hashable, timeout: float | None = None) -> Any:
    """Start a stopped child again; see `allm.supervisors.restart_child`."""
    return await request(supervisor, RestartChild(id), timeout)


async def delete_child(supervisor: Address, id: Hashable, timeout: float | None = 5.0) -> None:
    """Forget the spec of a stopped child; see `allm.supervisors.delete_child`."""
    await request(supervisor, DeleteChild(id), timeout)


async def which_children(supervisor: Address, timeout: float | None = 5.0) -> list[ChildInfo]:
    """List the children, newest first; see `allm.supervisors.which_children`."""
    children: list[ChildInfo] = await request(supervisor, WhichChildren(), timeout)
    return children


async def which_child(supervisor: Address, id: Hashable, timeout: float | None = 5.0) -> ChildInfo:
    """Describe one child; see `allm.supervisors.which_child`."""
    info: ChildInfo = await request(supervisor, WhichChild(id), timeout)
    return info


async def count_children(supervisor: Address, timeout: float | None = 5.0) -> Counts:
    """Count the children; see `allm.supervisors.count_children`."""
    counts: Counts = await request(supervisor, CountChildren(), timeout)
    return counts


async def get_spec(supervisor: Address, id: Hashable, timeout: float | None = 5.0) -> ChildSpec:
    """Fetch the spec of a child; see `allm.supervisors.get_spec`."""
    spec: ChildSpec = await request(supervisor, GetSpec(id), timeout)
    return spec


async def change_specs(
    supervisor: Address,
    children: Sequence[Child],
    flags: Flags | None = None,
    timeout: float | None = 5.0,
) -> None:
    """Give a live supervisor new specs and flags; see `allm.supervisors.change_specs`."""
    await request(supervisor, ChangeSpecs(tuple(children), flags), timeout)


async def resize_partitions(supervisor: Address, count: int, timeout: float | None = 5.0) -> int:
    """Stop the partitions above `count`, or start them again; see `allm.supervisors.resize_partitions`."""
    return partition.resized(await call(supervisor, partition.Resize(count), timeout), count)
