"""The runtime: one loop thread and the supervision tree on it.

    Runtime (rest_for_one)
    ├── core (rest_for_one): io
    ├── engines (dynamic): one supervisor for each engine actor and its call supervisor
    ├── tools (dynamic): one actor for each handler that runs
    └── turns (dynamic): one actor for each step or loop that runs

`default_runtime()` is started at the first plain call, drained at exit, and made anew after a fork.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from pykka import ActorDeadError, ActorRef

from allm.actors import io, lifetime
from allm.actors.call import Call, Plan
from allm.actors.directory import Directory
from allm.actors.engine import Engines, OpenEngine, StartCall, WithdrawCall, put
from allm.actors.engine_keys import EngineKeys
from allm.actors.listener import Errand, Listener, Listening
from allm.actors.tools import Tools
from allm.actors.turn_plan import TurnPlan
from allm.actors.turn_slot import Turn
from allm.actors.turns import StartTurn, Turns, WithdrawTurn
from allm.actors.vault import Vault
from allm.actors.workshop import Workshop
from allm.errors import EngineError, ErrorInfo, StreamError, ValidationError
from allm.events import Event
from allm.freezing import freeze_dict
from allm.supervisors import (
    CallTimeout,
    ChildSpec,
    Exit,
    LoopDispatcher,
    PoolDispatcher,
    Supervisor,
    stop,
    wait_started,
)
from allm.supervisors.clock import clock
from allm.supervisors.view import child, tree
from allm.turn import step
from allm.turn_data import Begin, CallModel

__all__ = ["Runtime", "default_runtime"]

T = TypeVar("T")


class Root(Supervisor):
    """The root of the tree. A call that nobody can make any more ends with it."""

    def __init__(self, directory: Directory, specs: list[ChildSpec]) -> None:
        super().__init__(specs, strategy="rest_for_one")
        self._directory = directory

    def on_exit(self, reason: Exit) -> None:
        for call in list(self._directory.calls.values()):
            call.fail(ErrorInfo("stream", "cancelled", "the runtime was stopped", request_id=call.id))


class Runtime:
    """The supervision tree. Use it as a context manager, or call `stop()`; plain calls use `default_runtime()`.

    `resources` are live things for tool handlers (`ToolContext.resources`); they are never serialised. On `loop`, if one is given, run
    asynchronous handlers of calls that no task waits for.
    """

    def __init__(self, *, resources: Mapping[str, Any] | None = None, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.resources = dict(resources or {})
        self.user_loop = loop
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="allm-loop", daemon=True)
        self._dispatcher = LoopDispatcher(self._loop)
        # Callbacks that block must not keep another call from its key.
        self.pool = PoolDispatcher(64, name="allm-pool")
        self._errands = PoolDispatcher(64, name="allm-keys")
        self._directory = Directory(self._dispatcher.timers)
        self.workshop = Workshop(self._loop)
        self._dropped: deque[str] = deque()
        self._engine_keys = EngineKeys()
        self._stopped = False
        self._lock = threading.Lock()
        self._thread.start()
        self._root: ActorRef[Any] = Root.start_on(self._dispatcher, self._directory, self._specs())
        wait_started(self._root, 10)
        lifetime.enter(self)

    def _specs(self) -> list[ChildSpec]:
        # It keeps its mailbox: an attempt that is handed to it in its last moment is made by the next one.
        core = [ChildSpec("io", (io.IoActor, (self._directory, self._off_loop)), mailbox="keep")]
        return [
            ChildSpec("core", (Supervisor, (core,), {"strategy": "rest_for_one"})),
            ChildSpec("engines", (Engines, (self._directory,))),
            ChildSpec("tools", (Tools, (self._directory, self.workshop)), mailbox="keep"),
            ChildSpec("turns", (Turns, (self._directory,)), mailbox="keep"),
        ]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    # calls

    @property
    def stopped(self) -> bool:
        """Whether it takes no calls any more: it was stopped, or its root gave up."""
        return self._stopped or not self._root.is_alive()

    @property
    def vault(self) -> Vault:
        """The keys of calls that run now."""
        return self._directory.vault

    def prepare(self, plan: Plan) -> Call:
        """The slot of a call: imports, TLS context and the request's bytes are made here, in the caller's thread."""
        try:
            self._check()
            plan.encode()
            io.prepare(plan.engine.http)
            if plan.addresses:
                io.prepare(io.without_identity(plan.engine.http))
        except BaseException:
            self.forget(plan)
            raise
        key, name = self._engine_keys.of(plan)
        return Call(plan, key, name, self._listening(plan.on_event))

    def _listening(self, on_event: Callable[[Event], object] | None) -> Listening | None:
        if on_event is None:
            return None
        return Listening(Listener.start_on(self.pool, on_event), self._loop, self._directory.unfinished)

    def prepare_turn(self, plan: TurnPlan) -> Turn:
        """The slot of a turn: its first call is made ready here, in the caller's thread."""
        try:
            self._check()
            _, effects = step(plan.state, Begin())
            first = plan.call(next(effect for effect in effects if isinstance(effect, CallModel)))
            io.prepare(plan.engine.http)
        except BaseException:
            self.forget(plan)
            raise
        return Turn(plan, self, first, self._listening(plan.on_event))

    def submit(self, call: Call | Turn) -> None:
        """Hands the call to its engine actor, the turn to its supervisor. Any thread; returns at once."""
        self._check()
        if isinstance(call, Turn):
            self._submit_turn(call)
            return
        calls = self._directory.calls
        if calls.setdefault(call.id, call) is not call:  # the user's own request id, of a call that runs
            call.id = f"{call.id} {os.urandom(4).hex()}"
            calls[call.id] = call
        try:
            self._hand_over(call)
        except BaseException:
            calls.pop(call.id, None)
            self.forget(call.plan)
            raise

    def _hand_over(self, call: Call) -> None:
        engine = self._directory.engines.get(call.key)
        try:
            if engine is not None:
                engine.tell(StartCall(call.id))
                return
        except ActorDeadError:
            pass  # it is being restarted or was put away: its supervisor knows
        engines = child(self._root, "engines")
        if engines is not None:
            put(engines, OpenEngine(call.key, call.name, call.id))
        elif self.stopped:
            raise EngineError("stopped", "this runtime was stopped")
        # Else it is being restarted, and will find the call in the directory.

    def _submit_turn(self, turn: Turn) -> None:
        turns = self._directory.turns
        if turns.setdefault(turn.id, turn) is not turn:
            turn.id = f"{turn.id} {os.urandom(4).hex()}"
            turns[turn.id] = turn
        ref = self._directory.turns_ref
        if ref is not None:  # else it is being started, and will find the turn in the directory
            put(ref, StartTurn(turn.id))

    def withdraw(self, call: Call | Turn) -> None:
        """Nobody wants the call any more. May be called from a finaliser: it takes no lock and sends no message itself."""
        call.cancel_asked = True
        self._dropped.append(call.id)
        try:
            self._loop.call_soon_threadsafe(self._withdraw_all)
        except RuntimeError:
            pass  # the loop is closed, and every call with it

    def _withdraw_all(self) -> None:
        while self._dropped:
            id = self._dropped.popleft()
            turn, ref = self._directory.turns.get(id), self._directory.turns_ref
            if turn is not None and turn.cancel_asked and ref is not None:
                put(ref, WithdrawTurn(id))
            call = self._directory.calls.get(id)
            if call is not None and not call.cancel_asked:
                continue  # a turn's, of the same id
            engine = self._directory.engines.get(call.key) if call is not None else None
            if call is not None and engine is not None and engine.is_alive():
                engine.tell(WithdrawCall(call.id))
            elif call is not None and not call.supervised:  # its engine is not there now, and need not come for this
                call.cancelled()
                self._directory.calls.pop(call.id, None)
                self.forget(call.plan)

    def forget(self, plan: Plan | TurnPlan) -> None:
        """Drops the key of a plan of which no call is made. May be called from a finaliser."""
        if plan.key is not None and not (isinstance(plan, Plan) and plan.lends_key):
            self.vault.drop(plan.key)

    def on_loop(self) -> bool:
        """Whether the calling thread is the loop's own: nothing may block there."""
        return threading.current_thread() is self._thread

    async def _off_loop(self, function: Callable[..., Any], *args: Any, reason: str = "resolver_failed") -> Any:
        """Runs user code on a thread of the pool. Raises EngineError(reason) for whatever it raises."""
        errand = Errand.start_on(self._errands)
        reply: Any = errand.ask((function, args), block=False)
        ok, value = await reply
        if ok:
            return value
        raise EngineError(reason, f"{_CODE.get(reason, reason)} failed: {value}")

    # the tree

    def tree(self) -> dict[str, Any]:
        """The live tree as plain data: id, kind, status, restarts, mailbox and children of every actor."""
        return freeze_dict(tree(self._root), "tree")

    def stats(self) -> dict[str, Any]:
        """Counts, as plain data: calls that run, keys held, for each engine how its calls went, and how the tools' handlers ended."""
        engines = {}
        for ref in list(self._directory.engines.values()):
            actor: Any = getattr(ref.actor_inbox, "body", None)
            if actor is not None:
                engines[actor.name] = {
                    "running": actor.running, "done": actor.done, "failed": actor.failed, "last_failure": actor.last_failure,
                }  # fmt: skip
        counts = {"calls": len(self._directory.calls), "engines": engines, "tools": self.workshop.stats()}
        return freeze_dict(counts, "stats")

    def find(self, *path: str) -> ActorRef[Any]:
        """The ref of an actor of the tree, by the ids from the root down. Raises EngineError("not_found")."""
        ref = child(self._root, *path)
        if ref is None:
            raise EngineError("not_found", f"there is no {'/'.join(path)!r} in the tree now")
        return ref

    # the end

    def stop(self, timeout: float = 10) -> tuple[str, ...]:
        """Takes no more calls, waits for those that run, then ends every actor and the loop, all within about `timeout` seconds.

        Gives the ids of the calls that had to be cut off. A second call does nothing. A stream that nobody reads is not waited for.
        """
        if self.on_loop():
            raise EngineError("would_block", "a runtime cannot be stopped from its own loop")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < threading.TIMEOUT_MAX:
            raise ValidationError.at("timeout", f"expected a number of seconds, got {timeout!r}")
        return self.cut(timeout, patient=True)

    def cut(self, timeout: float, patient: bool = False) -> tuple[str, ...]:
        """`stop`; impatient, it waits for no call: at exit nobody is left who would read the answer."""
        with self._lock:
            if self._stopped:
                return ()
            self._stopped = True
        if self._pid != os.getpid():
            return ()
        deadline = clock.now() + timeout
        if patient:
            self._drain_calls(deadline)
        self._directory.stopping = True
        left = tuple({**self._directory.turns, **self._directory.calls})
        try:
            stop(self._root, Exit("shutdown", "runtime stopped"), max(0.2, deadline - clock.now()))
        except (CallTimeout, ActorDeadError):
            pass  # what did not end in time ends with the loop
        self._finish(max(0.5, deadline - clock.now()))
        return left

    def _running(self) -> list[Call | Turn]:
        return [*self._directory.turns.values(), *self._directory.calls.values()]

    def _drain_calls(self, deadline: float) -> None:
        """Until no call runs, or only such as wait for a reader, or the time is over."""
        ended = self._directory.call_ended
        while calls := self._running():
            ended.clear()
            left = deadline - clock.now()
            if left <= 0 or all(call.pipe.full for call in calls):
                return
            ended.wait(min(left, 0.05))

    def _finish(self, timeout: float) -> None:
        """The last callbacks, the connections, the loop and its thread."""
        try:
            self._await(self._rest(), timeout)
        except Exception:
            pass  # what cannot be closed must not keep the loop
        self.workshop.end(timeout)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout)
        self.pool.close()
        self._errands.close()
        if not self._thread.is_alive():
            self._loop.close()
        for finish in list(self._directory.unfinished):
            finish()
        for call in self._running():
            call.pipe.finish(None, StreamError("cancelled", "the runtime was stopped"))
        lifetime.leave(self)

    async def _rest(self) -> None:
        """On the loop: transports that are being closed, callbacks that still run."""
        if self._directory.closing:
            await asyncio.wait(set(self._directory.closing), timeout=2)
        end = self._loop.time() + 1
        while self._directory.unfinished and self._loop.time() < end:
            await asyncio.sleep(0.005)

    def _await(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise EngineError("forked", "this runtime belongs to the parent process; make a new one after a fork")
        if self.stopped:
            raise EngineError("stopped", "this runtime was stopped")

    def inherited(self) -> None:
        """In a child after a fork: the threads are gone. The loop and its connections are kept, never closed: that would reach the
        parent's. Who waits for a call is told."""
        self._stopped = True
        self.workshop.inherited()
        for call in self._running():
            call.pipe.finish(None, StreamError("connection_closed", "the call belongs to the parent process"))

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Runtime {'stopped' if self._stopped else 'running'}, {len(self._directory.calls)} calls>"


_CODE = {"resolver_failed": "the key resolver", "history_failed": "the history policy"}
_default: Runtime | None = None
_default_lock = threading.Lock()


def default_runtime() -> Runtime:
    """The runtime of plain calls: started at the first use, drained at exit, made anew after a fork."""
    global _default
    with _default_lock:
        if _default is None or _default.stopped:
            _default = Runtime()
        return _default


def _after_fork() -> None:
    global _default, _default_lock
    _default_lock = threading.Lock()
    _default = None


os.register_at_fork(after_in_child=_after_fork)
