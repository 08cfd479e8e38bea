"""A turn: what stays whatever becomes of its actor; and the pipe that its model calls have."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from pykka import ActorRef

from allm.actors.call import Call, Plan
from allm.actors.listener import Listening
from allm.actors.pipe import Pipe
from allm.actors.turn_plan import TurnPlan
from allm.errors import AllmError, ErrorInfo
from allm.events import ErrorOccurred, Event, TextDelta, ToolCallDelta
from allm.responses import ChatResult, Response, StepResult
from allm.turn import interrupted, step
from allm.turn_data import Cancel, Done, Emit

__all__ = ["StepPipe", "Turn"]


class Turn:
    """The slot of one turn: what stays whatever becomes of its actor. The counterpart of a `Call`."""

    def __init__(self, plan: TurnPlan, runtime: Any, first: Plan | None, listening: Listening | None) -> None:
        self.plan = plan
        self.id = plan.options.request_id
        self.runtime = runtime
        self.first = first
        self.pipe = Pipe(live=not plan.options.folding)
        self.actor: ActorRef[Any] | None = None
        self.call: Call | None = None
        self.state = plan.state
        """Where the machine stands: what is left of the turn if its actor goes."""
        self.ended = False
        self.handed = False
        """Whether its submit came to its end."""
        self.cancel_asked = False
        self._listening = listening
        options = plan.options
        self._drops = tuple(kind for kind, wanted in ((TextDelta, options.text_deltas), (ToolCallDelta, options.tool_deltas)) if not wanted)

    def emit(self, events: list[Event], size: int = 0) -> None:
        """Hands events on, made of `size` bytes, to who watches. On the loop."""
        if self.ended or not events:
            return
        if self._listening is not None:
            self._listening.tell(events)
        if self._drops:
            events = [event for event in events if not isinstance(event, self._drops)]
        if events:
            self.pipe.put(events, size)

    def finish(self, result: StepResult | ChatResult | None, error: AllmError | None) -> None:
        """The end. The caller gets it once its `on_event` has seen all of it."""
        if self.ended:
            return
        self.ended = True
        self.call = None  # whose pipe refers to this: all of it would wait for the garbage collector
        end = partial(self.pipe.finish, cast("Any", result), error if result is None else None)
        if self._listening is None:
            end()
        else:
            self._listening.finish(end)

    def cancelled(self) -> None:
        """Cancelled before anything was sent."""
        _, effects = step(self.plan.state, Cancel())
        self.emit([effect.event for effect in effects if isinstance(effect, Emit)])
        self.finish(next((effect.result for effect in effects if isinstance(effect, Done)), None), None)

    def fail(self, error: ErrorInfo) -> None:
        """Ended by something that is none of its own: what it had is its result. On the loop."""
        if self.ended:
            return
        call, self.call = self.call, None
        half = None
        if call is not None and not call.ended:
            call.fail(error)  # closes what is open
            half = cast("StepPipe", call.pipe).response
            self.runtime.withdraw(call)
        _, effects = interrupted(self.state, error, half)
        self.emit([effect.event for effect in effects if isinstance(effect, Emit)])
        self.finish(next((effect.result for effect in effects if isinstance(effect, Done)), None), error.exception())


class StepPipe:
    """Stands in for the pipe of a model call: events go on to the turn's own, which also says when the reader must pause."""

    __slots__ = ("_ended", "_turn", "done", "live", "response")

    def __init__(self, turn: Turn, ended: Callable[[Response | None, AllmError | None], None]) -> None:
        self._turn = turn
        self._ended = ended
        self.live = True
        self.done = False
        self.response: Response | None = None

    @property
    def full(self) -> bool:
        """Whether the reader must pause."""
        return self._turn.pipe.full

    def put(self, events: list[Event], size: int = 0) -> None:
        """A batch; whether an error ends the turn is the machine's to say."""
        if type(events[-1]) is ErrorOccurred:
            events = events[:-1]
        self._turn.emit(events, size)

    def when_resumed(self, resume: Callable[[], object]) -> None:
        """Call `resume` once there is room again."""
        self._turn.pipe.when_resumed(resume)

    def finish(self, response: Response | None, error: AllmError | None) -> None:
        """The end of the call."""
        if not self.done:
            self.done, self.response = True, response
            self._ended(response, error)
