"""Starting, stopping and asking actors, for code that awaits: what `aio` is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

from pykka import ActorRef

from allm.supervisors.actor import Actor
from allm.supervisors.admin import accepted
from allm.supervisors.dispatch import Dispatcher, LoopDispatcher
from allm.supervisors.exits import SHUTDOWN, CallTimeout, Exit
from allm.supervisors.here import here
from allm.supervisors.lifetime import end_of, kill, start_of
from allm.supervisors.looking import look
from allm.supervisors.names import Address, Answers, RefTo, ask

__all__ = ["call", "get_state", "request", "start_and_wait", "stop", "this_loop", "wait_started"]

A = TypeVar("A", bound=Actor)
M = TypeVar("M")
R = TypeVar("R")

_dispatchers: WeakValueDictionary[int, LoopDispatcher] = WeakValueDictionary()
"""The dispatcher of each loop, by the loop's identity: kept by the actors that run on it."""


def this_loop() -> LoopDispatcher:
    """The dispatcher of the running loop: the same one for all who ask while any actor runs on it."""
    loop = asyncio.get_running_loop()
    found = _dispatchers.get(id(loop))
    if found is None or found.loop is not loop:
        _dispatchers[id(loop)] = found = LoopDispatcher(loop)
    return found


async def wait_started(ref: ActorRef[Any], timeout: float | None = None) -> None:
    """Return when its start is complete; see `allm.supervisors.wait_started`."""
    with start_of(ref) as start:
        await start.within(timeout)


async def start_and_wait(
    actor_class: type[A], *args: Any, on: Dispatcher | None = None, timeout: float | None = None, **kwargs: Any
) -> ActorRef[A]:
    """Start an actor and return when its start is complete; see `allm.supervisors.start_and_wait`.

    Where nothing says on which dispatcher, one whose handlers are coroutines runs on this loop. When the time is over, or the
    wait is cancelled, the actor is ended.
    """
    on = on or actor_class.dispatcher or (this_loop() if actor_class.actor_awaits else None)
    ref = actor_class.start_on(on, *args, **kwargs) if on is not None else actor_class.start(*args, **kwargs)
    try:
        await wait_started(ref, timeout)
    except (CallTimeout, asyncio.CancelledError):
        kill(ref)
        raise
    return ref


async def stop(ref: ActorRef[Any], reason: Exit = SHUTDOWN, timeout: float | None = None) -> Exit:
    """End an actor with a reason and return its exit when it is down; see `allm.supervisors.stop`."""
    with end_of(ref, reason) as end:
        return await end.within(timeout)


@overload
async def call(address: RefTo[Answers[M, Coroutine[Any, Any, R]]], message: M, timeout: float | None = 5.0) -> R: ...
@overload
async def call(address: RefTo[Answers[M, R]], message: M, timeout: float | None = 5.0) -> R: ...
@overload
async def call(address: Address, message: Any, timeout: float | None = 5.0) -> Any: ...
async def call(address: Any, message: Any, timeout: float | None = 5.0) -> Any:
    """Ask and wait for the answer; see `allm.supervisors.call`. A task that an actor spawned may call that actor."""
    return await ask(address, message, here.awaiter).within(timeout)


async def get_state(address: Address, timeout: float | None = 5.0) -> Any:
    """Ask a live actor for its state; see `allm.supervisors.get_state`."""
    with look(address) as reply:
        return await reply.within(timeout)


async def request(supervisor: Address, message: Any, timeout: float | None) -> Any:
    """Ask a supervisor for something; `SupervisorError` when it refuses."""
    return accepted(await call(supervisor, message, timeout))
