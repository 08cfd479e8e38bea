"""The engine actor and its call supervisor: one pair for each adapter, base URL and transport setting.

Retry is restart: a failed attempt ends its stream actor with a plain-data reason, and the call supervisor asks the call's policy what
follows. Nobody else retries. All of them run on the loop.
"""

from typing import Any, ClassVar, NamedTuple, cast

from pykka import ActorRef

from allm.actors.call import Call
from allm.actors.directory import Directory, EngineKey
from allm.actors.stream import FAILED, StreamActor, failure_of
from allm.errors import ErrorInfo, StreamError
from allm.retry import RestartAfter
from allm.supervisors import (
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    GiveUp,
    Refused,
    Restart,
    StopChild,
    Supervisor,
    log,
)

__all__ = ["CallSupervisor", "EngineActor", "Engines", "OpenEngine", "Outcome", "StartCall", "WithdrawCall", "put"]

MOST_ENGINES = 256
"""Engine actors kept at most; beyond it the ones without a call go first (a bot with an address per tenant has thousands)."""


class StartCall(NamedTuple):
    """Make this call."""

    call_id: str


class WithdrawCall(NamedTuple):
    """Its caller wants no more of it."""

    call_id: str


class Outcome(NamedTuple):
    """A call is over; `reason` is None if it went well."""

    reason: str | None


class OpenEngine(NamedTuple):
    """There is no engine actor for `key` yet (or no more): have one, and hand the call to it."""

    key: EngineKey
    name: str
    call_id: str


def put(ref: ActorRef[Any], message: Any) -> None:
    """`tell`, but to one that is gone it is no error: who comes after it finds the call in the directory."""
    ref.actor_inbox.put_message(message)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def _detail_of(exit: Exit) -> dict[str, Any]:
    """What an exit tells, if that is an object."""
    detail: Any = exit.detail
    return cast("dict[str, Any]", detail) if isinstance(detail, dict) else {}


class CallPolicy:
    """The retry policy of a call as the restart policy of its stream actor."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def decide(self, exit: Exit, attempt: int) -> Restart | GiveUp:
        """Asked after each attempt. `attempt` counts starts; the call's own count leaves the free one out."""
        if exit.kind != FAILED:
            return GiveUp()
        error, content, unanswered = failure_of(exit)
        if unanswered and self._call.resend():
            return Restart(0.0)
        if self._call.tighten(error, content):
            return Restart(0.0)
        if (otherwise := self._call.ask_otherwise(error, content)) is not None:
            return Restart(0.0) if otherwise else GiveUp()
        decision = self._call.decide(error, content)
        return Restart(decision.delay) if isinstance(decision, RestartAfter) else GiveUp()


class CallSupervisor(DynamicSupervisor):
    """Supervises the calls of one engine; each is a child whose restarts its own policy decides."""

    handlers: ClassVar[dict[type, str]] = {
        **DynamicSupervisor.handlers,
        StartCall: "_start_call",
        WithdrawCall: "_withdraw",
    }

    def __init__(self, key: EngineKey, directory: Directory) -> None:
        super().__init__()
        self._key = key
        self._directory = directory

    def on_start(self) -> None:
        self._directory.supervisors[self._key] = self.actor_ref
        # Calls that reached the engine while its supervisor was away.
        for call in list(self._directory.calls.values()):
            if call.key == self._key and not call.supervised and not call.ended:
                self.actor_ref.tell(StartCall(call.id))

    def _start_call(self, message: StartCall) -> None:
        call = self._directory.calls.get(message.call_id)
        if call is None or call.supervised or call.ended or self._final is not None:
            return  # what comes while this one stops is for the next: started now, it would keep the stop waiting
        call.supervised = True
        if call.cancel_asked:
            self._over_with(call, Exit("shutdown"))
            return
        spec = ChildSpec(
            call.id, (StreamActor, (call, self._directory)),
            restart="temporary", policy=CallPolicy(call), shutdown=1.0, context=call.plan.contextvars,
        )  # fmt: skip
        if isinstance(refused := self.add(spec), Refused) and not call.ended:
            self._over_with(call, refused.exit or Exit("error", refused.reason))

    def _withdraw(self, message: WithdrawCall) -> None:
        call = self._directory.calls.get(message.call_id)
        if call is None:
            return
        if not call.supervised:
            self._over_with(call, Exit("shutdown"))
            return
        self._stop_child(StopChild(message.call_id))

    def on_child_restarting(self, child: Any, exit: Exit, delay: float) -> None:
        call = self._directory.calls.get(child.id)
        if call is not None:
            call.restarting(failure_of(exit)[0], delay)

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        call = self._directory.calls.get(child.id)
        if call is not None:
            self._over_with(call, exit)

    def _over_with(self, call: Call, exit: Exit) -> None:
        """The call is over; the caller gets its end whatever the way there."""
        reason = None
        try:
            reason = self._give_end(call, exit)
        except Exception as error:  # a bug of ours: this call's caller is told, and nobody else hears of it
            log.error("call_end_failed", call=call.id, error=type(error).__name__)
            call.pipe.finish(None, StreamError("unknown", f"the end of the call failed: {type(error).__name__}"))
        if call.exchange is not None:
            call.exchange.leave(normal=False)
        if call.plan.key is not None and not call.plan.lends_key:
            self._directory.vault.drop(call.plan.key)
        self._directory.calls.pop(call.id, None)
        self._directory.call_ended.set()
        engine = self._directory.engines.get(self._key)
        if engine is not None:
            put(engine, Outcome(reason))

    def _give_end(self, call: Call, exit: Exit) -> str | None:
        """Gives the call its end if it has none yet; the reason, if it failed."""
        if call.ended:
            return None
        if call.cancel_asked:
            call.cancelled()
            return None
        if self._directory.stopping:
            call.fail(ErrorInfo("stream", "cancelled", "the runtime was stopped", request_id=call.id))
            return None
        error = failure_of(exit)[0]
        call.fail(error)
        return error.reason


class EngineActor(Actor):
    """One way to a provider: it hands calls to its supervisor and keeps the count of how they went."""

    def __init__(self, key: EngineKey, directory: Directory, name: str) -> None:
        super().__init__()
        self._key = key
        self._directory = directory
        self.name = name
        self.running = 0
        self.done = 0
        self.failed = 0
        self.last_failure: str | None = None

    def on_start(self) -> None:
        self._directory.engines[self._key] = self.actor_ref
        self.running = sum(call.supervised and call.key == self._key for call in list(self._directory.calls.values()))

    def on_receive(self, message: Any) -> Any:
        match message:
            case StartCall():
                self.running += 1
                self._forward(message)
            case WithdrawCall():
                self._forward(message)
            case Outcome(reason):
                self.running = max(0, self.running - 1)
                self.done += 1
                if reason is not None:
                    self.failed += 1
                    self.last_failure = reason
            case _:
                super().on_receive(message)

    def _forward(self, message: StartCall | WithdrawCall) -> None:
        """To the supervisor; one that is being restarted finds the call in the directory."""
        supervisor = self._directory.supervisors.get(self._key)
        if supervisor is not None:
            put(supervisor, message)


class Engines(DynamicSupervisor):
    """All engines of a runtime."""

    handlers: ClassVar[dict[type, str]] = {**DynamicSupervisor.handlers, OpenEngine: "_open"}

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self._directory = directory

    def on_start(self) -> None:
        self._take_over()

    def _take_over(self) -> None:
        """Calls that were handed to one that is gone."""
        for call in list(self._directory.calls.values()):
            engine = self._directory.engines.get(call.key)
            if not (call.supervised or call.ended or (engine is not None and engine.is_alive())):
                put(self.actor_ref, OpenEngine(call.key, call.name, call.id))

    def _open(self, message: OpenEngine) -> None:
        if self._final is not None:
            return  # the next one will find the call in the directory
        engine = self._directory.engines.get(message.key)
        if engine is None or not engine.is_alive():
            if any(slot.id == message.name for slot in self.slots()):
                return  # it waits to be started again: its call supervisor will find the call in the directory
            self._make_room()
            added = self.add(self._pair(message))
            engine = self._directory.engines.get(message.key)
            if engine is None:
                self._not_opened(message.call_id, added)
                return
        engine.tell(StartCall(message.call_id))

    def _not_opened(self, call_id: str, added: Any) -> None:
        """The engine did not come up: its call is over, and the next one tries again."""
        call = self._directory.calls.pop(call_id, None)
        if call is None:
            return
        exit: Exit = (added.exit if isinstance(added, Refused) else None) or Exit("error")
        while (reason := _detail_of(exit).get("reason")) is not None:  # of the child that it was
            exit = Exit.from_data(reason)
        call.fail(failure_of(exit)[0])
        if call.plan.key is not None and not call.plan.lends_key:
            self._directory.vault.drop(call.plan.key)

    def _pair(self, message: OpenEngine) -> ChildSpec:
        pair = [
            ChildSpec("engine", (EngineActor, (message.key, self._directory, message.name)), mailbox="keep"),
            ChildSpec("calls", (CallSupervisor, (message.key, self._directory))),
        ]
        return ChildSpec(message.name, (Supervisor, (pair,)), backoff=Backoff())

    def _make_room(self) -> None:
        slots = self.slots()
        if len(slots) < MOST_ENGINES:
            return
        busy = {call.name for call in list(self._directory.calls.values())}
        for slot in slots:
            if slot.id not in busy:
                self._stop_child(StopChild(slot.id))
                return

    def on_child_gone(self, child: Any, exit: Exit) -> None:
        gone = [key for key, ref in list(self._directory.engines.items()) if not ref.is_alive()]
        for key in gone:
            del self._directory.engines[key]
            self._directory.supervisors.pop(key, None)
        if not self._directory.stopping:
            self._take_over()
