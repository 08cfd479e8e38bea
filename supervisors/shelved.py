"""An actor that can be put away, and the place that its key has on a shelf: a mailbox that outlives its incarnations.

What a key is doing is told by its place:

| | `current` | `starting` | `saving` |
|---|---|---|---|
| nothing; the place is forgotten | | | |
| its state is loaded, its supervisor is looked for or asked to start it | | yes | |
| it is in memory | yes | perhaps still | |
| its state is saved | yes | | yes |
| it was ended while its state was saved: nothing is loaded before that is over | | | yes |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from pykka._envelope import Envelope

from allm.supervisors import log
from allm.supervisors.actor import Actor
from allm.supervisors.cell import Cell, Shutdown
from allm.supervisors.clock import clock
from allm.supervisors.exits import Exit, Leave
from allm.supervisors.here import Waiter
from allm.supervisors.idle import Idled
from allm.supervisors.jobs import Job
from allm.supervisors.mailbox import Kept, KeptCell, outlived
from allm.supervisors.ticks import Tick

__all__ = ["PASSIVATED", "Keeper", "Place", "PutAway", "Shelved"]

PASSIVATED = Exit("shutdown", "passivated")


class Keeper(Protocol):
    """The shelf, as its places see it. Any thread."""

    def start(self, place: Place) -> None:
        """Load the state of a key and start its actor."""
        ...

    def save(self, place: Place, state: Any, done: Callable[[Any, Exit | None], object]) -> None:
        """Save a state; `done` is called with the outcome."""
        ...

    def tidy(self, place: Place) -> None:
        """Forget a key that nothing waits for."""
        ...


class PutAway(NamedTuple):
    """A message: save and end. With `idle_since`: unless others came after that time."""

    idle_since: float | None = None


class Saved(NamedTuple):
    """A signal: the save is over; `failure` says why it is not kept."""

    failure: Exit | None


class Shelved(Actor):
    """An actor a `Shelf` may put away: started with ``(key, state)``, it gives its state when asked."""

    def __init__(self, key: Hashable, state: Any) -> None:
        super().__init__()
        self.key = key
        self._saving = False
        self._deferred: list[Any] = []  # signals that came during a save

    def on_snapshot(self) -> Any:
        """The state to start again from. Nothing is handled from now until it is saved."""
        raise NotImplementedError

    def _handle_receive(self, message: Any) -> Any:
        if self._saving:
            return self._shelf_place.put_off(self.actor_inbox)
        if type(message) is PutAway:
            return self._put_away() if self._shelf_place.due(message) else None
        return super()._handle_receive(message)

    def _put_away(self) -> None:
        try:
            state = self.on_snapshot()
        except Exception as error:
            log.error("not_passivated", actor=str(self), error=repr(error))
            return
        self._saving = True
        self._shelf_place.save(self.actor_inbox, state)

    def _actor_signal(self, signal: Any) -> None:
        if isinstance(signal, Saved):
            self._saved(signal.failure)
        elif self._saving:
            self._deferred.append(signal)
        else:
            super()._actor_signal(signal)

    def _saved(self, failure: Exit | None) -> None:
        """The save is over: end, unless it failed, or a signal that came meanwhile has another thing to say."""
        self._saving = False
        if failure is not None:
            log.error("not_passivated", actor=str(self), error=f"{failure.kind}: {failure.detail}")
        deferred, self._deferred = self._deferred, []
        for signal in deferred:
            if isinstance(signal, Shutdown) or failure is not None:
                super()._actor_signal(signal)
        if failure is not None:
            self._shelf_place.put_back(self.actor_inbox)
        elif not deferred:
            raise Leave(PASSIVATED)
        else:  # what it does now is not in the state that was saved
            for signal in deferred:
                super()._actor_signal(signal)
            self._put_away()

    @property
    def _shelf_place(self) -> Place:
        return cast("Place", cast("KeptCell", self.actor_inbox).kept)


class Place(Kept):
    """The mailbox of one key; it asks for an actor when it holds something and has none."""

    def __init__(self, shelf: Keeper, key: Hashable) -> None:
        super().__init__()
        self.name = f"the actor of {key!r}"
        self._shelf, self.key = shelf, key
        self.starting = False
        self.saving = False
        self.ending = False  # its actor has ended, and the supervisor is about to hear of it
        self.swept = False  # a `PutAway` of a sweep is on its way
        self.used = clock.now()
        self.home: Cell | None = None  # the supervisor that is to start it
        self.load: Job | None = None  # what loads its state
        self._off: deque[Envelope[Any]] = deque()  # what came during a save

    @property
    def acting(self) -> Waiter:
        """The target of a wait for an answer: the actor, or the job that loads its state."""
        if self.current is not None:
            return self.current
        return self.load.cell if self.load is not None else self

    # -- messages: any thread

    def take(self, envelope: Envelope[Any]) -> bool:
        taken = super().take(envelope)
        if not _is_look(envelope.message):
            self.used = clock.now()
        if taken and self.current is None:
            self.wake()
        return taken

    def ask_away(self, wish: PutAway) -> None:
        """Put a `PutAway` behind what waits, unless there is nothing to put away."""
        with self._lock:
            if self.current is None and not self._held:
                self.swept = False
                return
        super().take(Envelope(wish))
        if self.current is None:
            self.wake()
            self._shelf.tidy(self)

    def wake(self) -> None:
        """Have the actor started, once."""
        with self._lock:
            if self.current is not None:
                return
            while self._held and type(self._held[0].message) is PutAway:  # there is nothing to put away
                self._held.popleft()
                self.swept = False
            if self.starting or self.saving or self.ending or not self._held or self.buried:
                return
            self.starting = True
        self._shelf.start(self)

    def answered(self) -> None:
        """The supervisor has answered: what ended since may be started again."""
        self.starting = False
        self.wake()
        self._shelf.tidy(self)

    def bury(self, exit: Exit) -> None:
        with self._lock:
            for envelope in [each for each in self._held if type(each.message) is PutAway]:
                self._held.remove(envelope)
        super().bury(exit)

    def unused(self) -> bool:
        """Bury it if nothing waits in it and nobody runs: from then on it takes no message."""
        with self._lock:
            if self.current is None and not (self.starting or self.saving or self.ending or self._held) and self._buried is None:
                self._buried = PASSIVATED
                return True
        return False

    # -- called by the actor, on its own thread

    def due(self, wish: PutAway) -> bool:
        """Whether to put it away now: a sweep lets go of who has become busy."""
        if wish.idle_since is None:
            return True
        self.swept = False
        return bool(self.used <= wish.idle_since)

    def put_off(self, cell: Cell) -> None:
        """Lay the message in hand aside until the save is over. Under the lock: who kills it meanwhile sees it in work, or here."""
        with self._lock:
            envelope = cell.envelope
            if cell.exit is None and envelope is not None:
                self._off.append(envelope)
                cell.envelope = None

    def put_back(self, cell: Cell) -> None:
        """Put what was laid aside before what waits."""
        with self._lock:
            if cell.exit is None:
                cell.user.extendleft(reversed(self._off))
                self._off.clear()

    def save(self, cell: Cell, state: Any) -> None:
        """Have the state saved; the actor is told by a signal."""
        with self._lock:
            self.saving = True
        self._shelf.save(self, state, partial(self._saved, cell))

    # -- any thread

    def _saved(self, cell: Cell, _: Any, failure: Exit | None) -> None:
        with self._lock:
            self.saving = False
        cell.put_signal(Saved(failure))
        self.wake()  # it may have been ended meanwhile
        self._shelf.tidy(self)

    def open(self, cell: KeptCell) -> None:
        super().open(cell)
        cell.watch(self, self)

    def close(self, cell: KeptCell, error: BaseException | None) -> None:
        with self._lock:
            self._held.extend(each for each in self._off if not outlived(each))
            self._off.clear()
            self.swept, self.ending = False, self.current is cell
        super().close(cell, error)

    # -- as a watcher of its actor: told of the end after the supervisor, whose count of children has room again then

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Have the actor started again, if something waits for it."""
        self.ending = False
        self.wake()
        self._shelf.tidy(self)


def _is_look(message: Any) -> bool:
    """Whether it is no message but the look of a receive timeout."""
    return type(message) is Tick and type(message.message) is Idled
