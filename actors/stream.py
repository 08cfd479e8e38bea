"""The stream actor: one attempt of one call. It hands events on, in legal order, and watches the clock; its exit says how it ended.

Runs on the loop. Its exit reasons are plain data: `normal`, or `attempt_failed` with the error and whether content had been seen.
"""

from typing import Any, Final, NamedTuple, cast

import msgspec
from pykka import ActorDeadError

from allm.actors.call import Call
from allm.actors.directory import Directory
from allm.errors import ErrorInfo
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.providers.adapter import PROGRESS
from allm.supervisors import Actor, Exit
from allm.supervisors.timers import TimerRef, Timers

__all__ = [
    "FAILED",
    "Begin",
    "Connected",
    "Connecting",
    "Ended",
    "Read",
    "Resolving",
    "Resumed",
    "StreamActor",
    "Watch",
    "failure_of",
]

FAILED: Final = "attempt_failed"


class Begin(NamedTuple):
    """To the I/O actor: make the exchange of this call's attempt and report to `stream`."""

    call: Call
    generation: int
    stream: Any


class Connecting(NamedTuple):
    """A new connection is being made."""


class Connected(NamedTuple):
    """It stands."""


class Resolving(NamedTuple):
    """The key is asked for (user code), an image is fetched, or a large request goes out: no provider can be blamed for these."""


class Read(NamedTuple):
    """What one read of the network gave. `progress`: it feeds the watchdog without being content. `size`: of how many bytes it was
    made."""

    events: list[Event]
    progress: bool
    size: int = 0


class Resumed(NamedTuple):
    """The reader had paused for our own consumer and goes on."""


class Ended(NamedTuple):
    """The exchange is over without a terminal event. `unanswered`: it died on a reused connection before any byte of an answer."""

    error: ErrorInfo
    unanswered: bool = False


class Watch(NamedTuple):
    """Look at the clock."""


def failure_of(exit: Exit) -> tuple[ErrorInfo, bool, bool]:
    """(error, content seen, unanswered) of the exit of an attempt; a bug of ours is the reason `unknown`."""
    detail: Any = exit.detail
    if exit.kind == FAILED:
        return msgspec.convert(detail["error"], ErrorInfo), bool(detail["content"]), bool(detail["unanswered"])
    told = f": {detail['type']}: {detail['message']}" if isinstance(detail, dict) and "type" in detail else ""
    return ErrorInfo("stream", "unknown", f"the call's actor ended ({exit.kind}){told}"), False, False


class StreamActor(Actor):
    """One attempt."""

    def __init__(self, call: Call, directory: Directory) -> None:
        super().__init__()
        self._call = call
        self._directory = directory
        self._timers: Timers = directory.timers
        self._now = directory.timers.now
        self._timeouts = call.plan.options.timeouts
        self._watched = not call.plan.options.one_body
        self._timer: TimerRef | None = None
        self._armed = float("inf")
        self._phase = ""
        self._phase_ends = float("inf")
        self._total_ends = float("inf")

    def on_start(self) -> None:
        self._call.begin()
        now = self._now()
        if self._timeouts.total is not None:
            self._total_ends = now + self._timeouts.total
        self._enter("first_event", self._timeouts.first_event if self._watched else None, now)
        try:
            self._directory.io.tell(Begin(self._call, self._call.generation, self.actor_ref))
        except ActorDeadError:
            # By a timer: an exit within the first turn would be a failed start, which no policy is asked about.
            gone = ErrorInfo("adapter", "connection_closed", "the I/O actor is being restarted")
            self._timers.send_after(0, self.actor_ref, Ended(gone))

    def on_receive(self, message: Any) -> None:
        kind = cast("type[Any]", type(message))
        if kind is Read:
            self._read(message.events, message.progress, message.size)
        elif kind is Watch:
            self._look()
        elif kind is Ended:
            self._fail(message.error, message.unanswered)
        elif kind is Connecting:
            self._enter("connect", self._timeouts.connect, self._now())
        elif kind is Resolving:
            self._enter("key", None, self._now())
        elif kind is Connected:
            self._enter("first_event", self._timeouts.first_event if self._watched else None, self._now())
        elif kind is Resumed and self._phase == "idle":
            self._enter("idle", self._timeouts.idle, self._now())
        else:
            super().on_receive(message)

    def on_exit(self, reason: Exit) -> None:
        if self._timer is not None:
            self._timer.cancel()
        exchange, self._call.exchange = self._call.exchange, None
        if exchange is not None:
            exchange.leave(normal=reason.kind == "normal")

    def _read(self, events: list[Event], progress: bool, size: int) -> None:
        last = events[-1] if events else None
        kind = type(last)
        if kind is ErrorOccurred:
            self._call.emit(events[:-1], size)
            self._fail(cast(ErrorOccurred, last).error, False)
        self._call.emit(events, size)
        if kind is MessageCompleted:
            self._call.complete(cast(MessageCompleted, last).response)
            self.exit()
        if self._watched and (progress or kind in PROGRESS or any(type(event) in PROGRESS for event in events)):
            self._progress()

    def _progress(self) -> None:
        """The gap to the next progress begins. The timer is left as it is: it looks when it fires."""
        idle = self._timeouts.idle
        if self._phase != "idle":
            self._enter("idle", idle, self._now())
        elif idle is not None:
            self._phase_ends = self._now() + idle

    def _fail(self, error: ErrorInfo, unanswered: bool) -> None:
        detail = {"error": msgspec.to_builtins(error), "content": self._has_content(), "unanswered": unanswered}
        self.exit(Exit(FAILED, detail))

    def _has_content(self) -> bool:
        decoder = self._call.decoder
        return decoder is not None and decoder.has_content

    def _enter(self, phase: str, limit: float | None, now: float) -> None:
        """A new phase, which ends `limit` seconds from now."""
        self._phase = phase
        self._phase_ends = now + limit if limit is not None else float("inf")
        self._arm(now)

    def _arm(self, now: float) -> None:
        """One timer a stream: it is left to fire early rather than set anew at each read."""
        due = min(self._phase_ends, self._total_ends)
        if due < self._armed:
            if self._timer is not None:
                self._timer.cancel()
            self._armed = due
            self._timer = self._timers.send_after(due - now, self.actor_ref, Watch())

    def _look(self) -> None:
        self._armed = float("inf")
        self._timer = None
        now = self._now()
        if now >= self._total_ends:
            self._fail(self._timeout("total", self._timeouts.total), False)
        if now >= self._phase_ends:
            if not (self._phase == "idle" and self._call.pipe.full):
                self._fail(self._timeout(self._phase, getattr(self._timeouts, self._phase)), False)
            self._phase_ends = now + (self._timeouts.idle or 0)
        self._arm(now)

    def _timeout(self, which: str, limit: float | None) -> ErrorInfo:
        told = {
            "connect": f"no connection within {limit} s", "first_event": f"no content within {limit} s of the request",
            "idle": f"no progress for {limit} s", "total": f"the answer took longer than {limit} s",
        }  # fmt: skip
        options = self._call.plan.options
        return ErrorInfo(
            "adapter", "timeout", told[which], request_id=options.request_id, provider=self._call.plan.adapter.provider,
            metadata={"timeout": which, "seconds": limit},
        )  # fmt: skip
