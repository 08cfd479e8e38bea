"""The supervisor of turns: each is a temporary child, its own failure. Runs on the loop."""

from typing import Any, ClassVar, NamedTuple

from allm.actors.directory import Directory
from allm.actors.engine import put
from allm.actors.turn_actor import TurnActor
from allm.actors.turn_slot import Turn
from allm.errors import ErrorInfo
from allm.supervisors import ChildSpec, DynamicSupervisor, Exit, Refused
from allm.turn_data import Cancel

__all__ = ["StartTurn", "Turns", "WithdrawTurn"]


class StartTurn(NamedTuple):
    """Run this turn."""

    turn_id: str


class WithdrawTurn(NamedTuple):
    """Its caller wants no more of it."""

    turn_id: str


class Turns(DynamicSupervisor):
    """All turns of a runtime; each its own failure."""

    handlers: ClassVar[dict[type, str]] = {**DynamicSupervisor.handlers, StartTurn: "_start_turn", WithdrawTurn: "_withdraw"}

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self._directory = directory

    def on_start(self) -> None:
        self._directory.turns_ref = self.actor_ref
        for turn in list(self._directory.turns.values()):  # of one that is gone, or handed to nobody yet
            if turn.actor is None:
                put(self.actor_ref, StartTurn(turn.id))
            elif not turn.ended:
                self._over_with(turn, ErrorInfo("stream", "unknown", "the supervisor of turns was restarted"))

    def _start_turn(self, message: StartTurn) -> None:
        turn = self._directory.turns.get(message.turn_id)
        if turn is None or turn.actor is not None or turn.ended or self._final is not None:
            return
        spec = ChildSpec(turn.id, (TurnActor, (turn, self._directory)), restart="temporary", shutdown=1.0, context=turn.plan.contextvars)
        if isinstance(refused := self.add(spec), Refused):
            self._over_with(turn, ErrorInfo("stream", "unknown", f"the turn was not started: {refused.reason}"))

    def _withdraw(self, message: WithdrawTurn) -> None:
        turn = self._directory.turns.get(message.turn_id)
        if turn is None:
            return
        if turn.actor is not None:
            put(turn.actor, Cancel())
        else:
            turn.cancelled()
            self._over_with(turn, None)

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        turn = self._directory.turns.get(child.id)
        if turn is not None:
            stopping = self._directory.stopping
            error = ErrorInfo("stream", "cancelled", "the runtime was stopped", request_id=turn.id)
            crashed = ErrorInfo("stream", "unknown", f"the turn's actor ended ({exit.kind})", request_id=turn.id)
            self._over_with(turn, error if stopping else crashed)

    def _over_with(self, turn: Turn, error: ErrorInfo | None) -> None:
        """The turn is over; the caller gets its end whatever the way there."""
        if error is not None:
            turn.fail(error)
        turn.runtime.forget(turn.plan)
        self._directory.turns.pop(turn.id, None)
        self._directory.call_ended.set()
