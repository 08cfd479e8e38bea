"""The actor of one execution of a tool. It runs what is the user's: binding, handler, executor, encoder, pickling.

On a pool of threads of its own. A synchronous handler holds a thread; while an asynchronous one runs on its loop, or one in its process,
the actor is idle and holds none.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec
from pykka import ActorRef

from allm.actors.engine import put
from allm.actors.tooljob import ToolJob
from allm.actors.toolloop import AsyncRun
from allm.actors.toolprocess import Arrived, Spawn, parcel
from allm.actors.toolwork import awaitable, conclude, failed
from allm.actors.workshop import Workshop
from allm.errors import ErrorInfo
from allm.supervisors import Actor
from allm.supervisors.clock import clock
from allm.tools import ToolOutcome

__all__ = ["Again", "Go", "ToolRun"]


class Go(NamedTuple):
    """Begin."""


class Again(NamedTuple):
    """The process that was to run this job is gone, and has not begun it: hand the job to this one."""

    nursery: ActorRef[Any]


class Gave(NamedTuple):
    """An asynchronous handler has ended."""

    value: Any
    error: BaseException | None


class ToolRun(Actor):
    """Does one job and ends. With a `nursery` the job is done in a process."""

    def __init__(self, job: ToolJob, workshop: Workshop, nursery: ActorRef[Any] | None) -> None:
        super().__init__()
        self._job = job
        self._work = job.work
        self._workshop = workshop
        self._nursery = nursery

    def on_receive(self, message: Any) -> None:
        match message:
            case Go():
                self._begin()
            case Again(nursery):
                self._nursery = nursery
                self._begin()
            case Gave(value, error):
                self._conclude(value, error)
            case Arrived(data, error):
                self._settle(failed(self._job.call, error, self._took()) if error is not None else self._read(data))
            case _:
                super().on_receive(message)

    def _begin(self) -> None:
        if self._job.settled:
            self.exit()
        try:
            if self._nursery is not None:
                put(self._nursery, Spawn(self._job, self.actor_ref, parcel(self._work)))
            elif self._work.asynchronous:
                self._launch(self._work.begin, self._job.fresh_context())
            else:
                self._call()
        except Exception as error:  # of what comes before the handler; its own are dealt with where it is called
            self._conclude(None, error)

    # synchronous handlers

    def _call(self) -> None:
        """Calls the handler on this thread. A killed actor's handler comes back here, too, to nobody."""
        job, context = self._job, self._job.fresh_context()
        value, failure = None, None
        job.began = clock.now()
        try:
            value = context.run(self._work.begin)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are the handler's end, not this thread's
            failure = error
        if failure is None and not job.settled and awaitable(value):
            self._launch(lambda: value, context)
            return
        job.over = True
        self._workshop.returned(job)
        if not job.settled:
            self._conclude(value, failure)

    # asynchronous handlers

    def _launch(self, call: Callable[[], Any], context: Any) -> None:
        job, inbox = self._job, self.actor_inbox

        def ended(value: Any, error: BaseException | None) -> None:
            job.over = True
            self._workshop.returned(job)
            inbox.put_message(Gave(value, error))

        job.began = job.began or clock.now()
        self._workshop.launch(job, partial(AsyncRun, call=call, context=context, ended=ended))

    def _conclude(self, value: Any, error: BaseException | None) -> None:
        if issubclass(type(error), asyncio.CancelledError):  # `isinstance` would ask the error itself for its class
            info = self._job.info("cancelled", f"{self._job.tool.name} was cancelled, or the event loop that it ran on has ended")
            self._settle(failed(self._job.call, info, self._took()))
        else:
            began = self._job.began or clock.now()
            context = self._job.fresh_context()
            self._settle(context.run(conclude, self._work, began, value, error))

    # handlers in processes

    def _read(self, data: bytearray | None) -> ToolOutcome:
        try:
            found: ToolOutcome | ErrorInfo = msgspec.msgpack.decode(data or b"", type=ToolOutcome | ErrorInfo)
        except (msgspec.MsgspecError, ValueError) as error:
            found = self._job.info("crashed", f"the process of {self._job.tool.name} gave what cannot be read: {error}")
        if isinstance(found, ToolOutcome) and (found.id, found.name) != (self._job.call.id, self._job.call.name):
            message = f"the process of {self._job.tool.name} gave the result of another call, which was not taken"
            found = self._job.info("crashed", message)
        return failed(self._job.call, found, self._took()) if isinstance(found, ErrorInfo) else found

    def _took(self) -> float:
        return clock.now() - self._job.began if self._job.began is not None else 0.0

    def _settle(self, outcome: ToolOutcome) -> None:
        self._workshop.settle(self._job, outcome)
        self.exit()
