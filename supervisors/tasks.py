"""Functions as supervised actors: run one beside you, wait for its result, stream many with bounded concurrency.

A task started with `async_` by an actor is linked to it, so that neither outlives the failure of the other; one
started with `async_nolink` tells its failure as a `Down` message. Results and failures come by futures: no stray
message is left behind. The functions run on the task supervisor's dispatcher; they may block on threads and pools.
"""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pykka import ActorRef, Timeout

from allm.supervisors.actor import Actor
from allm.supervisors.admin import start_child
from allm.supervisors.cell import Cell, cell_of
from allm.supervisors.dynamic import DynamicSupervisor
from allm.supervisors.exits import NOPROC, NORMAL, ActorExited, Exit
from allm.supervisors.futures import Reply
from allm.supervisors.here import here
from allm.supervisors.lifetime import kill, stop
from allm.supervisors.monitors import Monitor, demonitor, link, monitor
from allm.supervisors.names import Address
from allm.supervisors.spec import ChildSpec, Shutdown

__all__ = ["Ok", "Task", "TaskSupervisor", "all_of", "async_", "async_nolink", "await_many", "callers"]

T = TypeVar("T")
_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """A task's result, where it might have been an `Exit`."""

    value: T


class TaskSupervisor(DynamicSupervisor):
    """Supervises tasks: temporary children, each its own failure."""


class TaskActor(Actor):
    """The actor of one task: the function is its first message, so that its start waits for nothing."""

    def __init__(self, task: Task[Any], function: Callable[..., Any], args: tuple[Any, ...], linked: bool) -> None:
        super().__init__()
        self.task = task
        self.callers = task.callers
        self._linked = linked
        self._work = (function, args)

    def on_start(self) -> None:
        self.actor_inbox.watch(self.task, self.task)
        owner = self.task.owner
        if self._linked and isinstance(owner, Cell):
            ref = owner.ref
            if ref is None:  # it ended while this task was on its way
                self.exit(NOPROC)
            link(self.actor_ref, ref)
        elif isinstance(owner, Cell):
            self.task.watch = monitor(self.actor_ref, self.task.down(owner))
        self.actor_inbox.put_message(self._work)

    def on_receive(self, message: Any) -> Any:
        function, args = message
        try:
            self.task.reply.answer(function(*args))
        except Exception as error:
            exit = Exit.from_exception(error)  # before the traceback is dropped
            self.task.reply.fail(error)
        else:
            exit = NORMAL
        self.exit(exit)


class AsyncTaskActor(TaskActor):
    """The actor of one task whose function is a coroutine function, on a loop."""

    async def on_receive(self, message: Any) -> None:
        function, args = message
        try:
            self.task.reply.answer(await function(*args))
        except Exception as error:
            exit = Exit.from_exception(error)
            self.task.reply.fail(error)
        else:
            exit = NORMAL
        self.exit(exit)


class Task(Generic[T]):
    """A handle on a task. Only who started it may wait for it."""

    def __init__(self, linked: bool) -> None:
        self.id = next(_ids)
        self.linked = linked
        self.ref: ActorRef[Any] | None = None
        self.reply: Reply[T] = Reply()
        self.watch: Monitor | None = None
        self.exit: Exit | None = None
        self.owner: object = here.cell or threading.current_thread()
        self.callers = (_name(self.owner), *callers())

    def result(self, timeout: float | None = 5.0) -> T:
        """Wait for the result (await). Its error is raised; after `timeout` seconds `CallTimeout`, and a linked task
        is killed: the one it worked for has given up."""
        self.check_owner()
        try:
            return self.reply.get(timeout=timeout)
        except Timeout:
            self.abandon()
            raise
        finally:
            self._flush()

    def poll(self, timeout: float = 0.0) -> Ok[T] | Exit | None:
        """Wait at most `timeout` seconds (yield); None: not done, ask again."""
        self.check_owner()
        return self.outcome(timeout)

    def outcome(self, timeout: float = 0.0) -> Ok[T] | Exit | None:
        """`poll`, from whatever thread has taken the task over."""
        try:
            value = self.reply.get(timeout=timeout)
        except Exception as error:
            if isinstance(error, Timeout) and self.reply.error is not error:  # ours: a task may fail with one of its own
                return None
            self._flush()
            return self._exit_for(error)
        self._flush()
        return Ok(value)

    def shutdown(self, timeout: float | None = 5.0) -> Ok[T] | Exit | None:
        """Stop it, by force after `timeout` seconds; what it had to say by then. None: nothing."""
        self.check_owner()
        done = self.poll()
        if done is not None or self.ref is None:
            return done
        self._unlink()
        self._flush()
        try:
            stop(self.ref, timeout=timeout)
        except Timeout:
            self._kill()
        last = self.poll()
        return last if isinstance(last, Ok) else None

    def abandon(self) -> None:
        """Wait for it no longer: a linked one that still runs is killed, for who it worked for has given up."""
        self._flush()
        if self.linked and not self.reply.done:
            self._kill()

    def give_up(self) -> None:
        """Kill it without waiting for its end; its failure is told to nobody. From whatever thread has taken it over."""
        self._flush()
        self._kill()

    def _kill(self) -> None:
        self._unlink()
        if self.ref is not None:
            kill(self.ref)

    def _unlink(self) -> None:
        cell = cell_of(self.ref) if self.ref is not None else None
        if self.linked and cell is not None and isinstance(self.owner, Cell):
            cell.unwatch(("link", self.owner.name))
            self.owner.unwatch(("link", cell.name))

    def _flush(self) -> None:
        if self.watch is not None:
            demonitor(self.watch, flush=True)

    def _exit_for(self, error: Exception) -> Exit:
        return error.exit if isinstance(error, ActorExited) else self.exit or Exit.from_exception(error)

    def check_owner(self) -> None:
        """Refuse whoever did not start it."""
        if self.owner is not (here.cell or threading.current_thread()):
            raise RuntimeError(f"only {_name(self.owner)} may wait for task {self.id}: it started it")

    def down(self, owner: Cell) -> Callable[[Any], object]:
        """The way of a failure into the owner's mailbox; after a result nothing goes there."""
        return lambda message: None if message.exit.kind == "normal" else owner.put_message(message)

    # -- as a watcher of its actor

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Fail the result, unless it is there."""
        self.exit = exit
        self.reply.fail(ActorExited(cell.name, exit))


def async_(supervisor: Address, function: Callable[..., T], *args: Any, shutdown: Shutdown = 5.0) -> Task[T]:
    """Run `function(*args)` as a task, linked to the actor whose handler this is."""
    return _start(supervisor, function, args, shutdown, linked=isinstance(here.cell, Cell))


def async_nolink(supervisor: Address, function: Callable[..., T], *args: Any, shutdown: Shutdown = 5.0) -> Task[T]:
    """Run it without a link: its failure reaches the actor whose handler this is as a `Down` message."""
    return _start(supervisor, function, args, shutdown, linked=False)


def _start(supervisor: Address, function: Callable[..., T], args: tuple[Any, ...], shutdown: Shutdown, *, linked: bool) -> Task[T]:
    task, spec = prepare(function, args, shutdown, linked=linked)
    task.ref = start_child(supervisor, spec)
    return task


def prepare(function: Callable[..., Any], args: tuple[Any, ...], shutdown: Shutdown, *, linked: bool) -> tuple[Task[Any], ChildSpec]:
    """A task and the child that is to run it."""
    task: Task[Any] = Task(linked)
    kind = AsyncTaskActor if inspect.iscoroutinefunction(function) else TaskActor
    return task, ChildSpec(task.id, (kind, (task, function, args, linked)), restart="temporary", shutdown=shutdown)


def await_many(tasks: list[Task[Any]], timeout: float | None = 5.0) -> list[Any]:
    """The results in order; the first failure is raised at once, whatever the others do.

    After `timeout` seconds `CallTimeout`, and the linked ones that still run are killed, as by `Task.result`.
    """
    together = all_of(tasks)
    try:
        together.get(timeout=timeout)
    except Timeout as error:
        for task in tasks if together.error is not error else ():  # else it is what a task failed with
            task.abandon()
        raise
    return [task.result(timeout=0) for task in tasks]


def all_of(tasks: list[Task[Any]]) -> Reply[None]:
    """The future of the moment when all tasks have succeeded; it fails with the first that does."""
    for task in tasks:
        task.check_owner()
    together: Reply[None] = Reply()
    missing = itertools.count(len(tasks) - 1, -1)

    def one_done(reply: Reply[Any]) -> None:
        if reply.error is not None:
            together.fail(reply.error)
        elif next(missing) == 0:
            together.answer(None)

    for task in tasks:
        task.reply.add_done_callback(one_done)
    if not tasks:
        together.answer(None)
    return together


def callers() -> tuple[str, ...]:
    """The names of the starter of the current task, and of those behind it, the nearest first; empty outside tasks."""
    body = here.cell.body if isinstance(here.cell, Cell) else None
    return body.callers if isinstance(body, TaskActor) else ()


def _name(owner: object) -> str:
    return str(getattr(owner, "name", owner))
