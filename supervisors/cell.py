"""The process behind an actor: its mailbox, its turns, its one end.

A cell outlives the actor object: refs hold it, so that a dead actor still answers "dead, and why" while its memory
is free. Whatever ends an actor (its own wish, an exception, SystemExit, a kill from another thread) goes through
`Cell.report`, which the first caller wins: owner and watchers hear of an end exactly once. From then on the cell has
no body; a thread that is still in a handler is fenced: it answers nobody, tells nobody, takes no other message.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, TypeGuard

from pykka import ActorRef, ActorRegistry
from pykka._envelope import Envelope

from allm.supervisors import events, log
from allm.supervisors.clock import clock
from allm.supervisors.exits import KILLED, NOPROC, ActorExited, Exit, Leave, stripped, text_of
from allm.supervisors.here import Waiter, guard, here, ordered
from allm.supervisors.inbox import Inbox, StopFlag, answer, fail
from allm.supervisors.timers import Timers, shared_timers

if TYPE_CHECKING:
    from pykka import Future

    from allm.supervisors.lanes import Dispatcher

__all__ = ["TURN", "Body", "Cell", "Hung", "Owner", "Shutdown", "Watcher", "alive", "cell_of", "is_ref"]

TURN: Final = 64
"""Messages an actor handles before others on its dispatcher get their turn."""


class Shutdown(NamedTuple):
    """A signal: end with this reason. Overtakes the mailbox."""

    exit: Exit


class Body(Protocol):
    """The actor, as its cell drives it."""

    leads: ClassVar[bool]
    """Whether it is a supervisor: its handlers do not block, and a pool has workers for it that nothing else can hold."""

    @property
    def actor_ref(self) -> ActorRef[Any]: ...

    def _actor_begin(self) -> bool:
        """Start; True when the start is complete, False when `Cell.acknowledge` comes later."""
        ...

    def _handle_receive(self, message: Any) -> Any: ...
    def _actor_signal(self, signal: Any) -> None: ...
    def _actor_finish(self, exit: Exit) -> Exit:
        """Say the last words; the exit that is reported."""
        ...


class Hung(Protocol):
    """An actor that was killed in its handler."""

    @property
    def name(self) -> str: ...
    @property
    def busy(self) -> object:
        """None once the thread that was in the handler has come back."""
        ...


class Owner(Protocol):
    """The owner of an actor, such as a supervisor's slot, hears of its start and its end. Never raises, never blocks."""

    def child_started(self, cell: Cell) -> None: ...
    def child_ended(self, cell: Cell, exit: Exit) -> None: ...


class Watcher(Protocol):
    """Someone who wants to hear of a start or an end. Called on any thread; must not block."""

    def started(self, cell: Cell) -> None: ...
    def ended(self, cell: Cell, exit: Exit) -> None: ...


TOO_DEEP: Final = Exit("error", {"type": "builtins.RecursionError", "message": "whoever told it stood at the recursion limit", "trace": ""})
interrupted: list[Cell] = []
"""Cells whose ends are not told to all yet, as who told them was interrupted: `pulse` goes on."""
alive: dict[str, Cell] = {}
"""Every launched cell that has not ended, by name: keeps idle actors in memory; fork and exit end what is here."""


class Cell(Inbox):
    """An incarnation of an actor."""

    __slots__ = (
        "__weakref__",
        "abandoned",
        "begun",
        "body",
        "born",
        "busy",
        "cuts",
        "dispatcher",
        "envelope",
        "fate",
        "generation",
        "later",
        "once",
        "owner",
        "started",
        "stopped",
        "stoppers",
        "waiting_on",
        "watchers",
    )

    def __init__(self, name: str, body: Body, stopped: StopFlag | None = None) -> None:
        super().__init__(name)
        self.body: Body | None = body
        self.busy: Body | None = None  # whose turn it is
        self.stopped = stopped or StopFlag()
        self.generation = 1
        self.born = clock.now()
        self.owner: Owner | None = None
        self.dispatcher: Dispatcher | None = None
        self.watchers: dict[object, Watcher] = {}  # made here: two threads that made it later would lose one's
        self.envelope: Envelope[Any] | None = None  # the message in its handler
        self.later: set[Future[Any]] | None = None  # asks to be answered after their handler
        self.stoppers: list[Future[Any]] | None = None  # asks that wait for the end
        self.cuts: list[Callable[[], object]] | None = None  # what frees a blocked handler
        self.waiting_on: Waiter | None = None
        self.begun = self.started = False
        self.fate: Exit | None = None  # why it is about to end
        self.once = Lock()  # taken by whoever reports the end, and never given back
        self.abandoned: tuple[Hung, ...] = ()

    # -- turns: on the dispatcher's thread

    def turn(self) -> bool:
        """Handle up to `TURN` messages; True when more wait."""
        if (body := self.body) is None:
            return False
        before, here.cell = here.cell, self
        self.busy = body
        try:
            if not self.begun:
                self.begun = True
                if body._actor_begin():  # pyright: ignore[reportPrivateUsage]
                    self.acknowledge()
            return self._work(body)
        except Leave as leave:
            self.fate, error = leave.exit, None
            exit = leave.exit
        except BaseException as raised:  # SystemExit and the like end this actor, not its neighbours
            self.fate = TOO_DEEP  # until there is room to say more
            exit, error = Exit.from_exception(raised), stripped(raised)
        finally:
            here.cell = before
            self.busy = None
        self._end(body, exit, error)
        return False

    def _work(self, body: Body) -> bool:
        user, signals = self.user, self.signals
        receive = body._handle_receive  # pyright: ignore[reportPrivateUsage]
        for _ in range(TURN):
            if signals:
                body._actor_signal(signals.popleft())  # pyright: ignore[reportPrivateUsage]
            elif user:
                # Set before `body` is looked at; a killer takes the body first and looks at it after (`report`).
                try:
                    self.envelope = envelope = user.popleft()
                except IndexError:  # a bounded mailbox made room
                    continue
                if self.body is not body:
                    self.give_back(envelope)
                    return False
                result = receive(envelope.message)
                if (reply := envelope.reply_to) is not None and self.envelope is envelope:
                    try:
                        reply.answer(result)  # type: ignore[attr-defined]  # pyright: ignore
                    except AttributeError:
                        answer(reply, result)  # a future of Pykka's own
                self.envelope = None
            elif self.body is not body or self.park():
                return False
        return self.body is body

    def give_back(self, envelope: Envelope[Any]) -> None:
        """Refuse a message that was taken out at the very moment of a kill, and was not handled."""
        self.refuse(envelope)
        if envelope.reply_to is None:
            events.dead_letter(self.name, envelope.message, self.exit or KILLED)

    def acknowledge(self) -> None:
        """The start is complete: tell who waits for it."""
        self.started = True
        if self.owner is not None:
            self.owner.child_started(self)
        if self.watchers:
            for watcher in list(self.watchers.values()):
                _guarded(watcher.started, self)

    def _end(self, body: Body, exit: Exit, error: BaseException | None) -> None:
        if self.body is not body:
            return
        self._stop_flag()
        before, here.cell = here.cell, self
        self.busy = body
        try:
            exit = body._actor_finish(exit)  # pyright: ignore[reportPrivateUsage]
        except Leave as leave:
            exit = leave.exit
        except BaseException as raised:
            exit = Exit.from_exception(raised)
        finally:
            here.cell = before
            self.busy = None
        self.report(exit, error)

    def _stop_flag(self) -> None:
        self.stopped.set()

    # -- the end: on any thread

    def report(self, exit: Exit, error: BaseException | None = None, *, busy: bool = False) -> bool:
        """Make the end known, to the owner first, so that who hears of it later finds it handled. False: it was.

        `busy`: a thread is still in its handler.
        """
        if not self.once.acquire(False):
            return False
        if busy:
            self.leave_behind((self,))
        self.exit = exit
        try:
            self._finish(exit, error)
        except BaseException:  # an interruption, or the recursion limit of who kills it: the next pulse tells the rest
            interrupted.append(self)
            raise
        return True

    def mend(self) -> None:
        """End it, or finish its end, where the recursion limit or an interruption left that undone; twice told is once."""
        if self.exit is not None:
            self._finish(self.exit, None)
        elif self.fate is not None and (body := self.body) is not None:
            self._end(body, self.fate, None)

    def _finish(self, exit: Exit, error: BaseException | None) -> None:
        self._stop_flag()
        body, self.body, self.cuts = self.body, None, None
        in_work = self._close(error)
        alive.pop(self.name, None)
        if body is not None and _listed:
            _unlist(body.actor_ref)
        if self.owner is not None:
            self.owner.child_ended(self, exit)
        elif exit.kind == "error" and events.wanted() and not (body is not None and body.leads):
            events.emit(events.ActorCrashed(self.name, exit))
        self._answer_all(in_work, exit, error)
        while self.watchers:
            for key in list(self.watchers):  # in the order they came
                if (watcher := self.watchers.pop(key, None)) is not None:
                    _guarded(watcher.ended, self, exit)

    def leave_behind(self, hung: tuple[Hung, ...]) -> None:
        """Note actors of this tree whose threads may never come back; those that have come back are forgotten."""
        self.abandoned = (*[each for each in self.abandoned if each.busy is not None and each not in hung], *hung)

    def _close(self, error: BaseException | None) -> Envelope[Any] | None:
        """Refuse what comes; a mailbox that is kept takes over what waits. The message in work, if nobody else answers for it."""
        self.closed = True
        return self.envelope

    def _answer_all(self, envelope: Envelope[Any] | None, exit: Exit, error: BaseException | None) -> None:
        if envelope is not None and envelope.reply_to is not None:
            # A SystemExit or KeyboardInterrupt was this actor's; raised in the asker it would end that one, too.
            failure = error if isinstance(error, Exception) else ActorExited(self.name, exit)
            fail(envelope.reply_to, failure, over=True)
        self.envelope = None
        for reply in self.stoppers or ():
            answer(reply, None)
        for reply in list(self.later or ()):
            fail(reply, ActorExited(self.name, exit), over=True)
        for left in self.reject():
            events.dead_letter(self.name, left.message, exit)

    def cancel(self, exit: Exit = KILLED) -> bool:
        """End it from outside, at once. A handler that runs is abandoned: what it does is void from now on.

        True when this call ended it. ``abandoned`` then names it if a thread is still in its handler.
        """
        cuts, busy = self.cuts, self.busy is not None and here.cell is not self
        if not self.report(exit, busy=busy):
            return False
        for cut in list(cuts or ()):
            _guarded(cut)
        if self.begun:
            self.lane.retire(self, busy)
        return True

    # -- those who watch

    def watch(self, key: object, watcher: Watcher) -> None:
        """Hear of the start and the end, each once; of an end in the past at once, as ``noproc``. Any thread."""
        self.watchers[key] = watcher
        if self.exit is not None:
            if self.watchers.pop(key, None) is not None:
                _guarded(watcher.ended, self, NOPROC)
        elif self.started:
            _guarded(watcher.started, self)

    def unwatch(self, key: object) -> bool:
        """Stop watching; False when there was nothing to stop."""
        return self.watchers.pop(key, None) is not None

    # -- messages

    def put_signal(self, signal: Any) -> None:
        """See `Inbox.put_signal`. Its supervisor's order to end wakes it if it waits for an answer from above: see `Reply`."""
        super().put_signal(signal)
        if self.begun:
            self.lane.urge(self)
        if self.waiting_on is not None and isinstance(signal, Shutdown) and here.cell is getattr(self.owner, "home", self):
            wake = ordered.get(self)
            if wake is not None:
                wake()

    def put(self, envelope: Envelope[Any], /) -> None:
        """Take a message from `tell` or `ask` of a ref: refused to an abandoned handler. Any thread."""
        if here.cell is not None:
            guard()
        self.post(envelope)

    def put_message(self, message: Any) -> None:
        """Put a report, a timer or the like: not fenced, not counted by a bound. Any thread."""
        self.post(Envelope(message))

    @property
    def ref(self) -> ActorRef[Any] | None:
        """The ref of the actor, while there is one. (Kept here it would be a cycle, and garbage to collect.)"""
        body = self.body
        return body.actor_ref if body is not None else None

    @property
    def leads(self) -> bool:
        """Whether it is a supervisor."""
        return self.body is not None and self.body.leads

    @property
    def urgent(self) -> bool:
        """Whether it waits for a turn that handlers that hang may not keep back."""
        mail = self.signals or (self.leads and (self.user or not self.begun))  # one that had its turn may still stand in the queue
        return self.busy is None and bool(mail)

    @property
    def timers(self) -> Timers:
        """The timers that a supervisor above was given, else those of its own dispatcher."""
        given = self.given_timers
        if given is not None:
            return given
        return self.dispatcher.timers if self.dispatcher is not None else shared_timers()

    @property
    def given_timers(self) -> Timers | None:
        """The timers that it, or a supervisor above it, was given."""
        cell: Any = self
        while cell is not None:
            given: Timers | None = getattr(cell.body, "_actor_timers", None)
            if given is not None:
                return given
            cell = getattr(cell.owner, "home", None)
        return None

    @property
    def acting(self) -> Cell:
        """The cell that is meant by this one today; another where a mailbox outlives incarnations."""
        return self


def is_ref(value: object) -> TypeGuard[ActorRef[Any]]:
    """Whether it is the ref of an actor, ours or not."""
    return isinstance(value, ActorRef)


def cell_of(ref: ActorRef[Any]) -> Cell | None:
    """The cell behind a ref; None for an actor that is not ours."""
    inbox: object = ref.actor_inbox
    return inbox.acting if isinstance(inbox, Cell) else None


def _guarded(function: Callable[..., object], *args: Any) -> None:
    try:
        function(*args)
    except BaseException as error:  # a watcher's bug is not the dead actor's
        log.error("watcher_failed", error=text_of(error, repr))


_listed: Final = ActorRegistry._actor_refs  # pyright: ignore[reportPrivateUsage]
"""Pykka's list of actors: ours are in it only if the program has put them there."""


def _unlist(ref: ActorRef[Any]) -> None:
    if ref in _listed:
        ActorRegistry.unregister(ref)
