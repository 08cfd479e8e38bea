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
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pykka import ActorDeadError, ActorRef

from allm.actors import io, lifetime
from allm.actors.asking import KnownWays
from allm.actors.call import Call, Plan
from allm.actors.crews import Crews, Failed, Late
from allm.actors.directory import Directory
from allm.actors.engine import Engines, OpenEngine, StartCall, put
from allm.actors.engine_keys import EngineKeys
from allm.actors.listener import Listening
from allm.actors.loops import LoopThread, not_started, refuse_patched_threads
from allm.actors.net import Net
from allm.actors.outgoing import asked_in_time
from allm.actors.tools import Tools
from allm.actors.turn_plan import TurnPlan
from allm.actors.turn_slot import Turn
from allm.actors.turns import StartTurn, Turns
from allm.actors.vault import Vault
from allm.actors.workshop import Workshop
from allm.errors import AdapterError, EngineError, ErrorInfo, StreamError, ValidationError
from allm.freezing import freeze_dict
from allm.supervisors import (
    CallTimeout,
    ChildSpec,
    Exit,
    LoopDispatcher,
    StartError,
    Supervisor,
    WouldBlock,
    log,
    stop,
    wait_started,
)
from allm.supervisors.clock import clock
from allm.supervisors.exits import stripped
from allm.supervisors.view import child, tree
from allm.turn import step
from allm.turn_data import Begin, CallModel

__all__ = ["Runtime", "default_runtime"]


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
        if sys.is_finalizing():
            raise EngineError("stopped", "this runtime was stopped: the interpreter is ending")
        refuse_patched_threads()
        self.resources = dict(resources or {})
        self.user_loop = loop
        self._pid = os.getpid()
        self._stopped = False
        self._lock = threading.Lock()
        self._engine_keys = EngineKeys()
        self._known_ways = KnownWays()
        try:
            self._home = LoopThread("allm-loop")
        except OSError as error:  # no descriptors are left
            raise not_started(error) from stripped(error)
        self._loop, self._thread = self._home.loop, self._home.thread
        self._dispatcher = LoopDispatcher(self._loop)
        self.crews = Crews(self._loop)
        self.pool, self._errands = self.crews.listeners.pool, self.crews.keys.pool
        self._directory = Directory(self._dispatcher.timers)
        self.workshop = Workshop(self._loop)
        self._net = Net(self._home, self._directory, self._hand_over, self.forget)
        try:
            self._home.start()
            self._root: ActorRef[Any] = Root.start_on(self._dispatcher, self._directory, self._specs())
            wait_started(self._root, 10)
        except BaseException as error:
            self._stopped = True
            self._home.end(1.0)
            if isinstance(error, StartError | CallTimeout | WouldBlock):
                raise not_started(error) from stripped(error)
            raise
        lifetime.enter(self)

    def _specs(self) -> list[ChildSpec]:
        # It keeps its mailbox: an attempt that is handed to it in its last moment is made by the next one.
        core = [ChildSpec("io", (io.IoActor, (self._directory, self._off_loop, self.crews.readers)), mailbox="keep")]
        return [
            ChildSpec("core", (Supervisor, (core,), {"strategy": "rest_for_one"})),
            ChildSpec("engines", (Engines, (self._directory,))),
            ChildSpec("tools", (Tools, (self._directory, self.workshop)), mailbox="keep"),
            ChildSpec("turns", (Turns, (self._directory,)), mailbox="keep"),
        ]

    # calls

    @property
    def stopped(self) -> bool:
        """Whether it takes no calls any more: it was stopped, or its root gave up."""
        return self._stopped or not self._root.is_alive()

    @property
    def lost(self) -> bool:
        """Whether the thread of its loop has ended, and every call with it."""
        return self._home.over

    @property
    def vault(self) -> Vault:
        """The keys of calls that run now."""
        return self._directory.vault

    def prepare(self, plan: Plan) -> Call:
        """The slot of a call: imports, TLS context and the request's bytes are made here, in the caller's thread."""
        try:
            self._check()
            plan.ask(self._known_ways)
            plan.encode()
            io.prepare(plan.engine.http)
            if plan.addresses:
                io.prepare(io.without_identity(plan.engine.http))
        except BaseException:
            self.forget(plan)
            raise
        key, name = self._engine_keys.of(plan)
        return Call(plan, key, name, self._listening(plan))

    def _listening(self, plan: Plan | TurnPlan) -> Listening | None:
        if plan.on_event is None:
            return None
        limit = plan.options.timeouts.callback
        return Listening(plan.on_event, plan.contextvars.copy(), limit, self.crews, self._loop, self._directory.unfinished)

    def prepare_turn(self, plan: TurnPlan) -> Turn:
        """The slot of a turn: its first call is made ready here, in the caller's thread."""
        try:
            self._check()
            plan.ways = self._known_ways
            _, effects = step(plan.state, Begin())
            effect = next(effect for effect in effects if isinstance(effect, CallModel))
            first = asked_in_time(plan.engine, self, plan.options.timeouts.callback, partial(plan.call, effect))
            io.prepare(plan.engine.http)
        except BaseException:
            self.forget(plan)
            raise
        return Turn(plan, self, first, self._listening(plan))

    def submit(self, call: Call | Turn) -> None:
        """Hands the call to its engine actor, the turn to its supervisor. Any thread; returns at once."""
        self._check()
        if isinstance(call, Turn):
            self._submit_turn(call)
            call.handed = True
            return
        calls = self._directory.calls
        if calls.setdefault(call.id, call) is not call:  # the user's own request id, of a call that runs
            call.id = f"{call.id} {os.urandom(4).hex()}"
            calls[call.id] = call
        try:
            self._hand_over(call)
            call.handed = True
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
        self._net.withdraw(call)

    def forget(self, plan: Plan | TurnPlan) -> None:
        """Drops the key of a plan of which no call is made. May be called from a finaliser."""
        if plan.key is not None and not (isinstance(plan, Plan) and plan.lends_key):
            self.vault.drop(plan.key)

    def on_loop(self) -> bool:
        """Whether the calling thread is the loop's own: nothing may block there."""
        return threading.current_thread() is self._thread

    async def _off_loop(self, reason: str, limit: float | None, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function of the user on a thread, in the context of the task. Raises EngineError(reason) for whatever it raises, and
        AdapterError("timeout") if it does not come back within `limit` seconds; a task that is cancelled gives it up."""
        name = _CODE.get(reason, reason)
        crew = self.crews.keys if reason == "resolver_failed" else self.crews.history
        try:
            return await crew.run(name, partial(function, *args), limit)
        except Failed as failed:
            raise EngineError(reason, f"{name} failed: {failed}") from None
        except Late as late:
            raise AdapterError("timeout", f"{name} {late}") from None

    # the tree

    def tree(self) -> dict[str, Any]:
        """The live tree as plain data: id, kind, status, restarts, mailbox and children of every actor."""
        return freeze_dict(tree(self._root), "tree")

    def stats(self) -> dict[str, Any]:
        """Counts, as plain data: calls that run, keys held, for each engine how its calls went, how the tools' handlers
        ended, and for each kind of other functions of the user (`functions`) how they went: `given_up` are those that were too late for
        their call, `stuck` those of them that have not come back yet."""
        engines = {}
        for ref in list(self._directory.engines.values()):
            actor: Any = getattr(ref.actor_inbox, "body", None)
            if actor is not None:
                engines[actor.name] = {
                    "running": actor.running, "done": actor.done, "failed": actor.failed, "last_failure": actor.last_failure,
                }  # fmt: skip
        counts = {
            "calls": len(self._directory.calls), "engines": engines, "tools": self.workshop.stats(), "functions": self.crews.stats(),
        }  # fmt: skip
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
        try:
            return self._cut(clock.now() + timeout, patient)
        except BaseException:  # a second Ctrl-C, or a signal's exception: what is left ends now
            self._directory.stopping = True
            self._finish(0.5)
            raise

    def _cut(self, deadline: float, patient: bool) -> tuple[str, ...]:
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
        if self._thread.is_alive():
            rest = asyncio.run_coroutine_threadsafe(self._rest(timeout), self._loop)
            try:
                rest.result(timeout + 0.5)
            except Exception:
                rest.cancel()  # what cannot be closed must not keep the loop
        self.workshop.end(timeout)
        self.crews.close()
        self._home.end(timeout)
        log.flush(min(1.0, timeout))
        for finish in list(self._directory.unfinished):
            finish()
        for call in self._running():
            call.pipe.finish(None, StreamError("cancelled", "the runtime was stopped"))
        lifetime.leave(self)

    async def _rest(self, timeout: float) -> None:
        """On the loop: transports that are being closed, callbacks that still run."""
        end = self._loop.time() + min(1, timeout)
        if self._directory.closing:
            await asyncio.wait(set(self._directory.closing), timeout=min(2, timeout))
        while self._directory.unfinished and self._loop.time() < end:
            await asyncio.sleep(0.005)

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise EngineError("forked", "this runtime belongs to the parent process; make a new one after a fork")
        if self.stopped:
            raise EngineError("stopped", "this runtime was stopped")
        if self.lost:
            raise EngineError("stopped", "the thread of this runtime's loop has ended")

    def inherited(self) -> None:
        """In a child after a fork: the threads are gone. The loop and its connections are kept, never closed: that would reach the
        parent's. Who waits for a call is told."""
        self._stopped = True
        self.workshop.inherited()
        for call in self._running():
            call.pipe.finish(None, StreamError("connection_closed", "the call belongs to the parent process"))

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stops it. After Ctrl-C calls of other threads have a second to end, not ten."""
        self.stop(1 if kind is not None and issubclass(kind, KeyboardInterrupt) else 10)

    def __repr__(self) -> str:
        return f"<Runtime {'stopped' if self._stopped else 'running'}, {len(self._directory.calls)} calls>"


_CODE = {"resolver_failed": "the key resolver", "history_failed": "the history policy"}
_default: Runtime | None = None
_default_lock = threading.Lock()


def default_runtime() -> Runtime:
    """The runtime of plain calls: started at the first use, drained at exit, made anew after a fork and where its loop was lost."""
    global _default
    found = _default
    if found is not None and not found.stopped and not found.lost:
        return found
    with _default_lock:
        if _default is None or _default.stopped or _default.lost:
            _default = Runtime()
        return _default


def _after_fork() -> None:
    global _default, _default_lock
    _default_lock = threading.Lock()
    _default = None


os.register_at_fork(after_in_child=_after_fork)
