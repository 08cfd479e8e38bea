"""The supervisor of tools: starts each call of a tool as an actor of its own, and holds its clock.

Runs on the loop and never blocks. Whatever becomes of a handler, its job is reported exactly once: when it ends, when its time is over,
when it is cancelled, when the actor, its process or the runtime ends.
"""

from typing import Any, ClassVar, Final, NamedTuple

from pykka import ActorRef

from allm.actors.directory import Directory
from allm.actors.engine import put
from allm.actors.tooljob import ToolJob
from allm.actors.toolprocess import KillProcess, Nursery, supported
from allm.actors.toolrun import Again, Go, ToolRun
from allm.actors.toolwork import encode, failed
from allm.actors.workshop import Workshop
from allm.errors import ErrorInfo
from allm.supervisors import ChildSpec, DynamicSupervisor, Exit, Refused, StopChild, log
from allm.supervisors.clock import clock
from allm.supervisors.slots import Slot
from allm.supervisors.timers import TimerRef

__all__ = ["CancelTool", "RunTool", "ToolJob", "Tools", "encode"]

_GRACE: Final = 0.5
"""Seconds that an asynchronous handler has to obey its cancellation before it counts as abandoned."""
_START: Final = 30.0
"""Seconds that a process may take to start."""
_MOVES: Final = 2
"""How often a job that has not begun is handed to another nursery, when the one before is lost."""
_LOOK: Final = 0.02
"""Seconds between two looks whether a handler has begun."""
_NURSERY: Final = "processes"


class RunTool(NamedTuple):
    """Run this job; its outcome goes to `job.report`."""

    job: ToolJob


class CancelTool(NamedTuple):
    """Nobody wants this job any more: it is reported as cancelled, its handler stopped as far as that is possible."""

    job_id: str


class Due(NamedTuple):
    """The time of a job may be over."""

    entry: "Entry"


class LookAfter(NamedTuple):
    """An asynchronous handler was cancelled a while ago."""

    job: ToolJob


class Entry:
    """A job, its place in the tree, its timer."""

    __slots__ = ("child_id", "job", "moves", "nursery", "ref", "timer")

    def __init__(self, job: ToolJob, nursery: ActorRef[Any] | None) -> None:
        self.job = job
        self.child_id = f"{job.tool.name} {job.id}"
        self.nursery = nursery
        self.timer: TimerRef | None = None
        self.ref: ActorRef[Any] | None = None
        self.moves = 0


class Tools(DynamicSupervisor):
    """Every execution of a tool is a temporary child, by the tool's name and the job's id."""

    handlers: ClassVar[dict[type, str]] = {
        **DynamicSupervisor.handlers,
        RunTool: "_run",
        CancelTool: "_cancel",
        Due: "_due",
        LookAfter: "_look_after",
    }

    def __init__(self, directory: Directory, workshop: Workshop) -> None:
        super().__init__()
        self._directory = directory
        self._workshop = workshop
        self._entries: dict[str, Entry] = {}  # by job
        self._children: dict[Any, Entry] = {}  # by child
        self._nursery: ActorRef[Any] | None = None
        self._waiting: list[RunTool] = []  # what came after it had crashed

    def on_start(self) -> None:
        self._directory.tools = self.actor_ref

    def on_exit(self, reason: Exit) -> None:
        for message in self._waiting:  # the mailbox is kept for the next one
            self.actor_inbox.put_message(message)

    # messages

    def _run(self, message: RunTool) -> None:
        job = message.job
        if self._final is not None and self._final.abnormal:
            self._waiting.append(message)
        elif self._final is not None:
            self._fail(job, self._end_of(job, self._final))
        elif job.id in self._entries:
            self._fail(job, job.info("failed", f"there is a job {job.id!r} already"))
        elif job.tool.isolation == "process" and not supported():
            self._fail(job, job.info("unsupported", f"{job.tool.name} wants a process of its own, which this platform does not offer"))
        else:
            self._try(job)

    def _try(self, job: ToolJob) -> None:
        """Starts it; a job that makes no sense ends alone, and not with all the others."""
        try:
            self._start(job)
        except Exception as error:
            failure = job.info("crashed", f"{job.tool.name} was not started: {type(error).__name__}: {error}")
            if (entry := self._entries.get(job.id)) is not None:
                self._give_up(entry, failure)
            else:
                self._fail(job, failure)

    def _start(self, job: ToolJob) -> None:
        entry = Entry(job, self._find_nursery() if job.tool.isolation == "process" else None)
        if entry.nursery is None and job.tool.isolation == "process":
            self._fail(job, job.info("crashed", f"{job.tool.name} was not started: there is no process that runs tools"))
            return
        self._workshop.jobs[job.id] = job
        self._entries[job.id] = self._children[entry.child_id] = entry
        spec = ChildSpec(
            entry.child_id, (ToolRun, (job, self._workshop, entry.nursery)),
            restart="temporary", shutdown="brutal_kill", dispatcher=self._workshop.pool, context=job.contextvars,
        )  # fmt: skip
        slot = self.add(spec)
        if isinstance(slot, Slot) and slot.ref is not None:
            self._set_clock(entry, job.timeout)
            entry.ref = slot.ref
            put(slot.ref, Go())
        else:
            reason = slot.reason if isinstance(slot, Refused) else "it has ended"
            self._let_go(entry)
            self._fail(job, job.info("crashed", f"{job.tool.name} was not started: {reason}"))

    def _cancel(self, message: CancelTool) -> None:
        entry = self._entries.get(message.job_id)
        if entry is not None:
            self._give_up(entry, entry.job.info("cancelled", f"{entry.job.tool.name} was cancelled before it ended"))

    def _due(self, message: Due) -> None:
        entry, job = message.entry, message.entry.job
        entry.timer = None
        if job.settled or job.timeout is None:
            return
        if job.began is None:  # it waits for a thread or a process, whose holders have their own time; or for its own to start
            if job.asked is None or clock.now() < job.asked + _START:
                self._set_clock(entry, max(job.timeout, _LOOK))
                return
        elif (left := job.began + job.timeout - clock.now()) > 0:
            self._set_clock(entry, left)
            return
        self._give_up(entry, job.info("timeout", f"{job.tool.name} did not end within {job.timeout:g} seconds"))

    def _look_after(self, message: LookAfter) -> None:
        job = message.job
        running = self._workshop.running.get(job.id)
        if running is None or job.over:
            return
        if not running.loop.is_running():
            self._workshop.returned(job)  # its loop has ended, and it has no more steps to take
            return
        if not running.cancel_seen:
            self._workshop.replace(running.loop)
        self._workshop.abandon(job)

    # the end of a job

    def _give_up(self, entry: Entry, error: ErrorInfo) -> None:
        """Reports the error at once, and then stops what can be stopped."""
        if self._fail(entry.job, error):
            self._stop_child(StopChild(entry.child_id))

    def _fail(self, job: ToolJob, error: ErrorInfo) -> bool:
        duration = clock.now() - job.began if job.began is not None else 0.0
        if not self._workshop.settle(job, failed(job.call, error, duration)):
            return False
        job.cancelled.set()
        return True

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        entry = self._children.get(child.id)
        if entry is not None:
            self._let_go(entry)
            if not entry.job.settled:
                self._fail(entry.job, self._end_of(entry.job, exit))
            self._stop_work(entry)
        elif child.id == _NURSERY:
            self._nursery_gone()
        if len(self.actor_inbox.abandoned) > 100:  # names for people; the count is kept elsewhere
            self.actor_inbox.abandoned = self.actor_inbox.abandoned[-50:]

    def _let_go(self, entry: Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        del self._entries[entry.job.id], self._children[entry.child_id]

    def _stop_work(self, entry: Entry) -> None:
        """The actor is gone; its handler may go on."""
        job = entry.job
        if job.over:
            return
        if entry.nursery is not None:
            put(entry.nursery, KillProcess(job.id))
        elif (running := self._workshop.running.get(job.id)) is not None:
            running.cancel()
            self._timers.send_after(_GRACE, self.actor_ref, LookAfter(job))
        elif job.began is not None:
            self._workshop.abandon(job)

    def _end_of(self, job: ToolJob, exit: Exit) -> ErrorInfo:
        """Why it ended with no outcome of its own."""
        if self._final is None:
            log.error("tool_run_ended", tool=job.tool.name, job=job.id, kind=exit.kind, detail=exit.detail)
            return job.info("crashed", f"{job.tool.name} was ended before it gave a result ({exit.kind})")
        if self._final.abnormal:
            return job.info("crashed", f"{job.tool.name} was lost with the supervisor of tools")
        return job.info("cancelled", "the runtime was stopped")

    def _set_clock(self, entry: Entry, delay: float | None) -> None:
        if delay is not None:
            entry.timer = self._timers.send_after(delay, self.actor_ref, Due(entry))

    # processes

    def _find_nursery(self) -> ActorRef[Any] | None:
        """The nursery; started on need."""
        if self._nursery is None or not self._nursery.is_alive():
            spec = ChildSpec(
                _NURSERY, (Nursery, (self._workshop.processes,)),
                restart="temporary", shutdown="brutal_kill", dispatcher=self._workshop.own_thread,
            )  # fmt: skip
            slot = self.add(spec)
            self._nursery = slot.ref if isinstance(slot, Slot) else None
        return self._nursery

    def _nursery_gone(self) -> None:
        """Jobs that it ran have no process any more; those that it has not begun, and the next ones, get another nursery."""
        for entry in list(self._entries.values()):
            if entry.nursery is not None and not entry.nursery.is_alive() and not entry.job.over and not self._move(entry):
                entry.job.over = True
                error = self._end_of(entry.job, Exit("lost"))
                if self._final is None:
                    error = entry.job.info("crashed", f"{entry.job.tool.name} was lost with the process that runs tools")
                self._give_up(entry, error)

    def _move(self, entry: Entry) -> bool:
        """Hand a job that has not begun to another nursery; False if it may have begun, or has been moved too often."""
        if self._final is not None or entry.job.began is not None or entry.ref is None or entry.moves >= _MOVES:
            return False
        entry.moves += 1
        entry.job.asked = None
        entry.nursery = self._find_nursery()
        if entry.nursery is None:
            return False
        put(entry.ref, Again(entry.nursery))
        return True
