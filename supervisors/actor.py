"""The actor type: Pykka's, with exits as data, a failed ask that fails the actor, and a choice of dispatcher.

Built on Pykka's three extension points; refs, `tell`, `ask`, `stop` and proxies are Pykka's own. Not listed in
`pykka.ActorRegistry`: that is a plain list, and unregistering from it costs 12 ms at 100,000 actors.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import uuid
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self, TypeVar, cast

import pykka
from pykka import ActorRef, messages

from allm.supervisors import edges, log, looking
from allm.supervisors.async_cells import AsyncBoundedCell, AsyncCell, AsyncKeptCell
from allm.supervisors.cell import Cell, Owner, Shutdown, alive
from allm.supervisors.coroutines import has_coroutines, refuse_misplaced, spawn
from allm.supervisors.dispatch import Dispatcher, is_dispatcher
from allm.supervisors.exits import NORMAL, ActorExited, Exit, Leave
from allm.supervisors.futures import Reply
from allm.supervisors.idle import Idle, Idled
from allm.supervisors.looking import Look, public_state
from allm.supervisors.mailbox import Bound, BoundedCell, KeptCell
from allm.supervisors.making import THREADS, given
from allm.supervisors.monitors import Down, Exited, ExitSignal
from allm.supervisors.specified import Specified
from allm.supervisors.ticks import Tick
from allm.supervisors.timers import Timers

__all__ = ["Actor", "Crash", "launch"]

T = TypeVar("T")

_ActorStop = messages._ActorStop  # pyright: ignore[reportPrivateUsage]
_process = [f"urn:uuid:{uuid.uuid4()}:", ""]
"""What urns begin with, and serial numbers: a process that was forked has beginnings of its own."""
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Crash:
    """A message whose handling fails, in any actor, as a bug would. For tests."""

    message: str = "crash"


_SPECIAL = frozenset((_ActorStop, Down, ExitSignal, messages.ProxyCall, messages.ProxyGetAttr, messages.ProxySetAttr, Crash, Tick, Idled))


def _after_fork() -> None:
    _process[:] = f"urn:uuid:{uuid.uuid4()}:", f"{os.getpid()}-"
    given.dispatcher = given.kept = given.timers = None


os.register_at_fork(after_in_child=_after_fork)


class Actor(Specified, pykka.Actor):
    """An actor that ends with a reason.

    Hooks: `on_start`, `on_receive`, `on_exit`. An exception in a handler ends the actor; who asked gets the error
    without its traceback. Everything runs on the dispatcher, but for the ``__init__`` of an actor that no supervisor starts: that
    runs in the thread that starts it.
    """

    child_type: ClassVar[str] = "worker"
    """What a child spec calls it when it does not say."""
    dispatcher: ClassVar[Dispatcher | None] = None
    """Where actors of this class run when nothing else is said; None: a daemon thread each."""

    leads: ClassVar[bool] = False
    """Whether its handlers never block: on a pool it has workers that no other actor can hold. Supervisors have."""
    trap_exits: ClassVar[bool] = False
    """Whether ends of linked actors, and exit signals, arrive as `Exited` messages."""
    bound: ClassVar[Bound | None] = None
    """A limit to its mailbox; not together with a mailbox that is kept."""

    _actor_idle: Idle | None = None
    _actor_timers: Timers | None = None  # given to a supervisor
    _initial: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    """Of one that was prepared: the arguments of its ``__init__``, until that has run."""

    _making = False

    actor_inbox: Cell  # pyright: ignore[reportIncompatibleVariableOverride]
    actor_awaits: ClassVar[bool] = False
    """Whether the class has coroutine functions, so that its cell waits for them. Found when the class is made."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.actor_awaits = has_coroutines(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        if self._initial is None:
            self._equip()
        else:
            self._initial = None  # prepared: it has all this

    def _equip(self) -> None:
        # In place of Pykka's: its uuid4 and its Event cost more than all the rest of a start.
        serial = f"{_process[1]}{next(_serial)}"
        self.actor_urn = f"{_process[0]}{serial}"
        cell = self._actor_cell(f"{type(self).__name__}#{serial}")
        self.actor_inbox = cell  # pyright: ignore[reportIncompatibleVariableOverride]
        self.actor_stopped = cell.stopped
        self._actor_ref = ActorRef(self)

    # -- starting

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start it on its class's dispatcher (under a supervisor: the supervisor's) and return at once."""
        return cls.start_on(given.dispatcher or cls.dispatcher or THREADS, *args, **kwargs)

    @classmethod
    def start_on(cls, dispatcher: Dispatcher, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """Start it on that dispatcher and return at once; on a loop's own thread `on_start` has run by then."""
        if not is_dispatcher(dispatcher):
            raise TypeError(f"{dispatcher!r} is no dispatcher")
        actor = cls(*args, **kwargs)
        launch(actor, dispatcher)
        return actor.actor_ref

    @staticmethod
    def _create_actor_inbox() -> Cell:
        raise NotImplementedError("made in __init__: a cell belongs to its actor")

    def _actor_cell(self, name: str) -> Cell:
        kept, given.kept = given.kept, None
        awaits = self.actor_awaits
        if kept is not None:
            return AsyncKeptCell(name, self, kept) if awaits else KeptCell(name, self, kept)
        if self.bound is not None:
            return AsyncBoundedCell(name, self, self.bound) if awaits else BoundedCell(name, self, self.bound)
        return AsyncCell(name, self) if awaits else Cell(name, self)

    @staticmethod
    def _create_future() -> Reply[Any]:
        return Reply()

    def _start_actor_loop(self) -> None:
        launch(self, given.dispatcher or self.dispatcher or THREADS)

    # -- hooks

    def on_start(self) -> Any:
        """Begin, first on the dispatcher; an exception here is a failed start. A coroutine function on a `LoopDispatcher`: awaited."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what is returned answers an ask. A coroutine function on a `LoopDispatcher`: awaited, before the next."""
        log.warning("unexpected_message", actor=str(self), message=type(message).__name__)

    def on_exit(self, reason: Exit) -> Any:
        """Finish, last of all, whatever ended the actor, unless it was killed. An exception here becomes the reason.

        Unless overridden it calls `on_stop()`, Pykka's hook, for actors to whom the reason is all one.
        """
        return self.on_stop()

    def on_stop(self) -> Any:
        """See `pykka.Actor.on_stop`."""

    def on_get_state(self) -> Any:
        """Give plain data for `get_state`, on the actor's own thread between two messages. By default the public attributes."""
        return public_state(self)

    # -- what a handler may use

    def exit(self, reason: Exit = NORMAL) -> NoReturn:
        """End this actor with a reason of its own; from inside a handler only."""
        raise Leave(reason)

    def ignore(self) -> NoReturn:
        """Leave this child out, without that being a failure: from `on_start` only."""
        raise Leave(Exit("ignore"))

    def later(self) -> Reply[Any]:
        """Answer the message in hand later, by ``set`` or ``answer`` on the result; what the handler returns is dropped."""
        cell = self.actor_inbox
        envelope = cell.envelope
        if envelope is None or envelope.reply_to is None:
            cell.envelope = None
            return Reply()
        reply = cast("Reply[Any]", envelope.reply_to)
        later = cell.later = cell.later or set()
        later.add(reply)
        cell.envelope = None  # in this order: a killer answers for what is in work, then for what is in the set
        reply.add_done_callback(later.discard)
        if cell.exit is not None:  # who killed it meanwhile may have looked before this one was added
            reply.end(ActorExited(cell.name, cell.exit))
        return reply

    def reply(self, value: Any = None) -> None:
        """Answer the message in hand now, before its handler ends."""
        self.later().answer(value)

    def receive_timeout(self, seconds: float | None) -> None:
        """Have a `ReceiveTimeout` told to this actor whenever no message was handled for `seconds`; None: no more of it."""
        idle, self._actor_idle = self._actor_idle, None
        if idle is not None:
            idle.cancel()
        if seconds is not None:
            self._actor_idle = Idle(cast("Any", self), seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine beside the handlers, as a task of this actor's loop, in this actor's name.

        It is cancelled when the actor ends, before `on_exit`; what it raises ends the actor as if a handler had raised it.
        """
        return spawn(self.actor_inbox, coroutine, name)

    @contextmanager
    def cutting(self, cut: Callable[[], object]) -> Generator[None]:
        """While inside: a kill calls `cut`, on the killer's thread, to free what this handler blocks on."""
        cell = self.actor_inbox
        cuts = cell.cuts = cell.cuts if cell.cuts is not None else []
        cuts.append(cut)
        try:
            yield
        finally:
            cuts.remove(cut)

    # -- driven by the cell

    def _actor_begin(self) -> Any:
        if self._initial is not None:
            self._initialize(*self._initial)
        return self._actor_open()

    def _initialize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._making = True  # an end has no `on_exit` until this is done
        type(self).__init__(self, *args, **kwargs)
        if self._initial is not None:
            raise TypeError(f"{type(self).__name__}.__init__ does not call super().__init__()")
        if self.actor_inbox.exit is not None:
            raise Leave(self.actor_inbox.exit)  # killed meanwhile
        self._making = False

    def _actor_open(self) -> Any:
        """Start, once ``__init__`` has run; True when the start is complete, a coroutine that has to be awaited first."""
        begun = self.on_start()
        return begun if begun is not None and inspect.iscoroutine(begun) else True

    def _handle_receive(self, message: Any) -> Any:
        if type(message) in _SPECIAL:
            return self._actor_special(message)
        return self.on_receive(message)

    def _actor_special(self, message: Any) -> Any:
        if isinstance(message, Crash):
            raise RuntimeError(message.message)
        if isinstance(message, Down):
            return None if message.monitor.flushed else self.on_receive(message)
        if isinstance(message, ExitSignal):
            return self._actor_exit_signal(message) if message.to is self.actor_inbox else None
        if isinstance(message, Tick):
            return self._handle_receive(message.message) if message.cell is self.actor_inbox else None
        if isinstance(message, Idled):
            return message.idle.look()
        if type(message) is not _ActorStop:
            if self._actor_idle is not None:
                self._actor_idle.touch()
            return super()._handle_receive(message)
        cell = self.actor_inbox
        if cell.envelope is not None and cell.envelope.reply_to is not None:
            cell.stoppers = [*(cell.stoppers or ()), cell.envelope.reply_to]
        cell.envelope = None
        self._actor_signal(Shutdown(NORMAL))
        return None

    def _actor_signal(self, signal: Any) -> Any:
        if isinstance(signal, Shutdown):
            raise Leave(signal.exit)
        if isinstance(signal, ExitSignal):
            return self._actor_exit_signal(signal)
        if isinstance(signal, Look):
            signal.answer(self.on_get_state)
        else:
            log.warning("unexpected_signal", actor=str(self), signal=type(signal).__name__)
        return None

    def _actor_exit_signal(self, signal: ExitSignal) -> Any:
        if self.trap_exits:
            return self.on_receive(Exited(signal.ref, signal.exit))
        if signal.own or signal.exit.kind != "normal":
            raise Leave(signal.exit)
        return None

    def _actor_finish(self, exit: Exit) -> Any:
        if self._actor_idle is not None:
            self._actor_idle.cancel()
        last = self.on_exit(exit) if exit.kind != "ignore" and not self._making else None
        return _then(last, exit) if last is not None and inspect.iscoroutine(last) else exit


async def _then(last: Coroutine[Any, Any, object], exit: Exit) -> Exit:
    await last
    return exit


def launch(actor: Actor, dispatcher: Dispatcher, owner: Owner | None = None, generation: int = 1) -> bool:
    """Give a constructed actor to a dispatcher; True when its first turn is over."""
    cell: Cell | None = getattr(actor, "actor_inbox", None)
    if cell is None:
        raise TypeError(f"{type(actor).__name__}.__init__ does not call super().__init__()")
    if actor.actor_awaits:
        _refuse_misplaced(actor, dispatcher)
    cell.owner = owner
    cell.generation = generation
    cell.dispatcher = dispatcher
    if owner is None and given.timers is not None and vars(actor).get("_actor_timers") is None:
        vars(actor)["_actor_timers"] = given.timers  # its supervisor's, which will not be its owner before it has started
    if looking.wanted:
        looking.install(cell)
    if not edges.installed:
        edges.install()
    alive[cell.name] = cell
    if isinstance(cell, KeptCell):
        cell.kept.open(cell)  # not before it has an owner: from here on who has the ref may kill it
    if cell.exit is not None:  # killed meanwhile, perhaps before it had an owner: told twice is told once
        alive.pop(cell.name, None)
        if owner is not None:
            owner.child_ended(cell, cell.exit)
    try:
        return dispatcher.launch(cell)
    except BaseException as error:  # it is none, or cannot
        cell.cancel(Exit.from_exception(error))
        raise


def _refuse_misplaced(actor: Actor, dispatcher: Dispatcher) -> None:
    kind = type(actor)
    try:
        refuse_misplaced(kind, dispatcher, supervises=kind._actor_open is not Actor._actor_open)  # pyright: ignore[reportPrivateUsage]
    except TypeError as error:
        cell = actor.actor_inbox
        cell.owner = None  # it hears of this by the error
        cell.cancel(Exit.from_exception(error))
        raise
