"""Look-ups of host names, on threads of our own.

asyncio's run on its default executor, which `concurrent.futures` closes before a program's last threads have ended: a call by host name
would fail as soon as the main thread's code is done. These threads are daemons, end when they are idle, and one that hangs in the
system's resolver costs nobody else: who waits for it gives up, and its place is free again.
"""

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

import aiohttp.abc

__all__ = ["Lookups", "Resolver", "lookups", "take_over"]

_MOST: Final = 64
"""Look-ups at once; further ones wait."""
_MOST_LOST: Final = 256
"""Threads beside these that hang in look-ups which nobody waits for any more."""
_IDLE: Final = 1.0
"""Seconds that a thread waits for its next look-up."""


class _Job(Future[Any]):
    """A look-up. Cancelled while it runs, it is lost: its thread no longer counts."""

    def __init__(self, work: Callable[[], Any], lose: Callable[["_Job"], None]) -> None:
        super().__init__()
        self._work = work
        self._lose = lose
        self.lost = False

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if not cancelled and not self.done():
            self._lose(self)
        return cancelled

    def run(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = self._work()
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(result)


class Lookups:
    """Daemon threads that look names up. No `ThreadPoolExecutor`: that cannot even be imported once the main thread is done."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._running = 0
        self._idle = 0
        self._lost = 0

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have `work` done by a thread. Where the interpreter ends and starts none any more, it is done here and now."""
        job = _Job(work, self._lose)
        with self._changed:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
                return job
            refused = self._start() if self._has_room() else None
            if refused is None or self._running > self._lost:  # one of those that run takes it
                return job
            self._jobs.remove(job)
        if "shutdown" in refused or not threading.main_thread().is_alive():
            job.run()
        else:
            job.set_exception(OSError("there is no thread to look up the name"))
        return job

    def _has_room(self) -> bool:
        return self._running - self._lost < self._most and self._lost < _MOST_LOST

    def _start(self) -> str | None:
        """Start a thread; why the system, or the end of the interpreter, refuses it."""
        try:
            threading.Thread(target=self._serve, name="allm-names", daemon=True).start()
        except RuntimeError as error:
            return str(error)
        self._running += 1
        return None

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            with self._changed:
                if job.lost:
                    self._lost -= 1

    def _next(self) -> _Job | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._jobs, _IDLE)
            self._idle -= 1
            if self._jobs:
                return self._jobs.popleft()
            self._running -= 1
            return None

    def _lose(self, job: _Job) -> None:
        with self._changed:
            if job.lost or job.done():
                return
            job.lost = True
            self._lost += 1
            if self._jobs and not self._idle and self._has_room():
                self._start()


_shared = Lookups()


def lookups() -> Lookups:
    """Those of this process."""
    return _shared


def _after_fork() -> None:
    """The threads are the parent's."""
    global _shared
    _shared = Lookups()


os.register_at_fork(after_in_child=_after_fork)


def take_over(loop: asyncio.AbstractEventLoop) -> None:
    """Have this loop's own look-ups, by which stock httpx goes, made by `lookups()`."""

    async def getaddrinfo(host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        return await asyncio.wrap_future(lookups().submit(partial(_known, host, port, family, type, proto, flags)))

    own: Any = loop
    try:
        own.getaddrinfo = getaddrinfo
    except AttributeError:
        pass  # a loop written in C (uvloop), which has threads of its own for names


class Resolver(aiohttp.abc.AbstractResolver):
    """aiohttp's resolver, on `lookups()`. `patience` tells the seconds after which the look-up of the moment is given up."""

    def __init__(self, patience: Callable[[], float | None]) -> None:
        self._patience = patience

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[aiohttp.abc.ResolveResult]:
        patience = self._patience()
        try:
            async with asyncio.timeout(patience):
                found: list[aiohttp.abc.ResolveResult] = await asyncio.wrap_future(
                    lookups().submit(partial(_addresses, host, port, family))
                )
                return found
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, f"the name was not resolved within {patience:g} s") from None

    async def close(self) -> None:
        """Nothing is held."""


def _known(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """`getaddrinfo`, which raises nothing but OSError, and gives at least one address. On a thread."""
    try:
        found: list[Any] = socket.getaddrinfo(host, port, family, type, proto, flags)
    except OSError:
        raise
    except Exception:  # UnicodeError for a label that is too long; and programs put functions of their own in its place
        raise socket.gaierror(socket.EAI_NONAME, "this is no name that can be resolved") from None
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
    return found


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[aiohttp.abc.ResolveResult]:
    """What the system knows of this name. On a thread."""
    try:
        found = _known(host, port, family, socket.SOCK_STREAM, 0, getattr(socket, "AI_ADDRCONFIG", 0))
    except socket.gaierror:
        if host.rstrip(".").lower() != "localhost":
            raise
        found = _known(host, port, family, socket.SOCK_STREAM)  # a machine without a network has that name
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    results: list[aiohttp.abc.ResolveResult] = []
    for kind, _, protocol, _, address in found:
        name: Any = address[0]
        if len(address) == 4 and address[3]:  # an address of one link needs the link's name
            name = socket.getnameinfo(address, socket.NI_NUMERICHOST)[0]
        results.append({"hostname": host, "host": name, "port": int(address[1]), "family": kind, "proto": protocol, "flags": numeric})
    return results
