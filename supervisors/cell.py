"""The process behind an actor: its mailbox, its turns, its one end.

`Cell` outlives the actor object: refs hold it, so that a dead actor still answers "dead, and why" while its memory
is free. Whatever ends an actor (its own wish, an exception, SystemExit, a kill from another thread) goes through
`report`, which the first caller wins: owner and watchers hear of an end exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pykka._envelope import Envelope

from allm.supervisors import log
from allm.supervisors.exits import KILLED, NOPROC, ActorExited, Exit, Leave, stripped
from allm.supervisors.here import Waiter, here
from allm.supervisors.inbox import Inbox, StopFlag
from allm.supervisors.timers import Timers, shared_timers

if TYPE_CHECKING:
    from pykka import ActorRef, Future

    from allm.supervisors.lanes import Dispatcher

__all__ = ["TURN", "Body", "Cell", "Owner", "Shutdown", "Watcher", "alive", "cell_of"]

TURN: Final = 64
"""Messages an actor handles before others on its dispatcher get their turn."""


class Shutdown(NamedTuple):
    """A signal: end with this reason. Overtakes the mailbox."""

    exit: Exit


class Body(Protocol):
    """The actor, as its cell drives it."""

    @property
    def actor_ref(self) -> ActorRef[Any]: ...
    def _begin(self) -> bool:
        """Start; True when the start is complete, False when `Cell.acknowledge` comes later."""
        ...

    def _handle_receive(self, message: Any) -> Any: ...
    def _signal(self, signal: Any) -> None: ...
    def _finish(self, exit: Exit) -> Exit:
        """Last words; the exit that is reported."""
        ...


class Owner(Protocol):
    """Who started it and hears of its start and its end: a supervisor's slot. Never raises."""

    def child_started(self, cell: Cell) -> None: ...
    def child_ended(self, cell: Cell, exit: Exit, left: list[Envelope[Any]]) -> None: ...


class Watcher(Protocol):
    """Someone who wants to hear of a start or an end. Called on any thread; must not block."""

    def started(self, cell: Cell) -> None: ...
    def ended(self, cell: Cell, exit: Exit) -> None: ...


alive: set[Cell] = set()
"""Every launched cell that has not ended: keeps idle actors in memory, and is what a fork or the program's end ends."""


class Cell(Inbox):
    """One incarnation of an actor."""

    __slots__ = (
        "__weakref__",
        "abandoned",
        "begun",
        "body",
        "busy",
        "cuts",
        "dispatcher",
        "envelope",
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

    def __init__(self, name: str, body: Body) -> None:
        super().__init__(name)
        self.body: Body | None = body
        self.stopped = StopFlag()
        self.generation = 1
        self.owner: Owner | None = None
        self.dispatcher: Dispatcher | None = None
        self.watchers: dict[object, Watcher] | None = None
        self.envelope: Envelope[Any] | None = None  # the message in its handler
        self.later: set[Future[Any]] | None = None  # asks to be answered after their handler
        self.stoppers: list[Future[Any]] | None = None  # asks that wait for the end
        self.cuts: list[Callable[[], object]] | None = None  # what frees a blocked handler
        self.waiting_on: Waiter | None = None
        self.begun = self.started = self.busy = False
        self.once = [True]  # popped by whoever reports the end: list.pop is atomic
        self.abandoned: tuple[str, ...] = ()

    # -- turns: on the dispatcher's thread

    def turn(self) -> bool:
        """Handle up to `TURN` messages; True when more wait."""
        if self.closed or (body := self.body) is None:
            return False
        before, here.cell = here.cell, self
        self.busy = True
        try:
            if not self.begun:
                self.begun = True
                if body._begin():  # pyright: ignore[reportPrivateUsage]
                    self.acknowledge()
            return self._work(body)
        except Leave as leave:
            exit, error = leave.exit, None
        except BaseException as raised:
            exit, error = Exit.from_exception(raised), stripped(raised)
        finally:
            here.cell = before
            self.busy = False
        self._end(body, exit, error)
        return False

    def _work(self, body: Body) -> bool:
        user, signals = self.user, self.signals
        receive = body._handle_receive  # pyright: ignore[reportPrivateUsage]
        for _ in range(TURN):
            if signals:
                body._signal(signals.popleft())  # pyright: ignore[reportPrivateUsage]
            elif user:
                # Set before `closed` is looked at; a killer closes first and looks at it after (`report`).
                self.envelope = envelope = user.popleft()
                if self.closed:
                    self.refuse_reply(envelope)
                    return False
                result = receive(envelope.message)
                reply = envelope.reply_to
                if reply is not None and self.envelope is envelope:
                    reply.set(result)
                self.envelope = None
            elif self.closed or self.park():
                return False
        return True

    def acknowledge(self) -> None:
        """The start is complete: tell who waits for it."""
        self.started = True
        if self.owner is not None:
            self.owner.child_started(self)
        if self.watchers:
            for watcher in list(self.watchers.values()):
                watcher.started(self)

    def _end(self, body: Body, exit: Exit, error: BaseException | None) -> None:
        if self.closed:
            return
        self.stopped.set()
        here.cell, before = self, here.cell
        try:
            exit = body._finish(exit)  # pyright: ignore[reportPrivateUsage]
        except BaseException as raised:
            exit = Exit.from_exception(raised)
        finally:
            here.cell = before
        self.report(exit, error)

    # -- the end: on any thread

    def report(self, exit: Exit, error: BaseException | None = None) -> bool:
        """Make the end known: asks fail, watchers and the owner hear of it. False when it was known."""
        try:
            self.once.pop()
        except IndexError:
            return False
        self.exit = exit
        self.stopped.set()
        left = self.close()
        self._fail_open_asks(exit, error)
        alive.discard(self)
        self.body = self.cuts = None
        while self.watchers:
            try:
                _, watcher = self.watchers.popitem()
            except KeyError:
                break
            _guard(watcher.ended, self, exit)
        if self.owner is not None:
            self.owner.child_ended(self, exit, left)
        return True

    def _fail_open_asks(self, exit: Exit, error: BaseException | None) -> None:
        envelope, self.envelope = self.envelope, None
        if envelope is not None:
            if error is not None and envelope.reply_to is not None:
                envelope.reply_to.set_exception((type(error), error, None))
            else:
                self.refuse_reply(envelope)
        for reply in self.stoppers or ():
            reply.set(None)
        for reply in list(self.later or ()):
            reply.set_exception((ActorExited, ActorExited(self.name, exit), None))

    def cancel(self, exit: Exit = KILLED) -> bool:
        """End it from outside, at once. A handler that runs is abandoned: what it does is void from now on.

        True when this call ended it. ``abandoned`` then names it if a thread is still in its handler.
        """
        cuts = self.cuts
        if self.busy and here.cell is not self:
            self.abandoned = (self.name,)
        if not self.report(exit):
            return False
        for cut in list(cuts or ()):
            _guard(cut)
        if self.begun and self.flag.acquire(False):
            self.lane.schedule(self)  # an own thread that waits must come to its end
        return True

    # -- those who watch

    def watch(self, key: object, watcher: Watcher) -> None:
        """Hear of the start and the end, each once; of the past at once. Any thread."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[key] = watcher
        if self.exit is not None:
            if self.watchers.pop(key, None) is not None:
                _guard(watcher.ended, self, NOPROC if self.once else self.exit)
        elif self.started:
            watcher.started(self)

    def unwatch(self, key: object) -> bool:
        """Stop watching; False when there was nothing to stop."""
        return self.watchers is not None and self.watchers.pop(key, None) is not None

    @property
    def timers(self) -> Timers:
        """The timers of the dispatcher it runs on."""
        return self.dispatcher.timers if self.dispatcher is not None else shared_timers()

    # -- messages from inside

    def put_message(self, message: Any) -> None:
        """Put a report, a timer or the like: not counted by a bound. Any thread."""
        self.put(Envelope(message))

    put_late = put_message
    """What a timer uses once `tell` refuses: an actor on its way down still hears its deadlines."""


def cell_of(ref: ActorRef[Any]) -> Cell | None:
    """The cell behind a ref; None for an actor that is not ours."""
    inbox: object = ref.actor_inbox
    return inbox if isinstance(inbox, Cell) else None


def _guard(function: Callable[..., object], *args: Any) -> None:
    try:
        function(*args)
    except Exception as error:
        log.error("watcher_failed", error=error)
