"""Logical actors that need no memory while nobody talks to them, and lose no message by it.

A `Shelf` starts the actor of a key with its stored state when a message comes, and puts it away when asked to: the
state is saved in the actor's own turn, between two messages. What arrives meanwhile waits in the key's mailbox and
starts the actor again; a save that fails leaves the actor where it is.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple, Protocol

from pykka import ActorRef
from pykka._envelope import Envelope

from allm.supervisors import log
from allm.supervisors.actor import Actor, construct, inherited, launch
from allm.supervisors.cell import cell_of
from allm.supervisors.clock import clock
from allm.supervisors.exits import ActorExited, Exit, Leave
from allm.supervisors.futures import Reply
from allm.supervisors.here import forked
from allm.supervisors.mailbox import Kept, KeptCell
from allm.supervisors.requests import StartChild
from allm.supervisors.spec import ChildSpec

__all__ = ["PASSIVATED", "Shelf", "Shelved", "StateStore"]

PASSIVATED = Exit("shutdown", "passivated")


class StateStore(Protocol):
    """Where states are kept."""

    def load(self, key: Hashable) -> Any:
        """The state saved last; None when there is none."""
        ...

    def save(self, key: Hashable, state: Any) -> None:
        """Keep it; raising means it is not kept."""
        ...


class PutAway(NamedTuple):
    """A signal: save and end, if nothing waits."""

    store: StateStore
    key: Hashable


class Shelved(Actor):
    """An actor a `Shelf` may put away: started with ``(key, state)``, it gives its state when asked."""

    def __init__(self, key: Hashable, state: Any) -> None:
        super().__init__()
        self.key = key

    def on_snapshot(self) -> Any:
        """The state to start again from."""
        raise NotImplementedError

    def _actor_signal(self, signal: Any) -> None:
        if not isinstance(signal, PutAway):
            super()._actor_signal(signal)
        elif not self.actor_inbox.user:  # busy again: not now
            try:
                signal.store.save(signal.key, self.on_snapshot())
            except Exception as error:
                log.error("not_passivated", actor=str(self), error=repr(error))
            else:
                raise Leave(PASSIVATED)


class _Place(Kept):
    """The mailbox of one key; it asks for an actor when it holds something and has none."""

    def __init__(self, shelf: Shelf, key: Hashable) -> None:
        super().__init__()
        self._shelf, self.key = shelf, key
        self.starting = False
        self.used = clock.now()

    def take(self, envelope: Envelope[Any]) -> bool:
        taken = super().take(envelope)
        self.used = clock.now()
        if taken and self.current is None:
            self.wake()
        return taken

    def wake(self) -> None:
        """Have the actor started, once."""
        with self._lock:
            if self.starting or self.current is not None or not self._held or self.buried:
                return
            self.starting = True
        self._shelf.start(self)

    def close(self, cell: KeptCell, error: BaseException | None) -> None:
        super().close(cell, error)
        self.wake()
        self._shelf.tidy(self)

    def unused(self) -> bool:
        """Bury it if nothing waits in it and nobody runs: from then on it takes no message."""
        with self._lock:
            if self.current is None and not self.starting and not self._held and self._buried is None:
                self._buried = PASSIVATED
                return True
        return False


class Shelf:
    """Actors of one class by key, children of a dynamic supervisor. Any thread."""

    def __init__(self, supervisor: ActorRef[Any], actor_class: type[Shelved], store: StateStore) -> None:
        home = cell_of(supervisor)
        if home is None:
            raise TypeError(f"{supervisor} is a plain Pykka actor")
        self._home, self._class, self._store = home, actor_class, store
        self._places: dict[Hashable, _Place] = {}
        self._lock = threading.Lock()
        forked.add(self)

    def after_fork(self) -> None:
        """The actors live in the parent process, and what waited for them."""
        self._lock, self._places = threading.Lock(), {}

    def __len__(self) -> int:
        return len(self._places)

    def tell(self, key: Hashable, message: Any) -> None:
        """Tell the actor of a key, started if need be."""
        self._put(key, Envelope(message))

    def ask(self, key: Hashable, message: Any) -> Reply[Any]:
        """Ask it; the answer comes by the future."""
        reply: Reply[Any] = Reply()
        self._put(key, Envelope(message, reply_to=reply))
        return reply

    def passivate(self, key: Hashable) -> None:
        """Put the actor of a key away, once it has handled what waits."""
        place = self._places.get(key)
        cell = place.current if place is not None else None
        if cell is not None:
            cell.put_signal(PutAway(self._store, key))

    def sweep(self, idle: float) -> None:
        """Put away all that had no message for `idle` seconds."""
        before = clock.now() - idle
        for key, place in list(self._places.items()):
            if place.used <= before:
                self.passivate(key)

    def hot(self, key: Hashable) -> ActorRef[Any] | None:
        """The actor of a key if it is in memory."""
        place = self._places.get(key)
        cell = place.current if place is not None else None
        return cell.ref if cell is not None else None

    def _put(self, key: Hashable, envelope: Envelope[Any]) -> None:
        while True:
            place = self._places.get(key)
            if place is None:
                with self._lock:
                    place = self._places.setdefault(key, _Place(self, key))
            if place.take(envelope):
                return
            self._forget(place)

    # -- called by places

    def start(self, place: _Place) -> None:
        """Have the supervisor start the actor; a refusal fails what waits."""
        spec = ChildSpec(place.key, (self._incarnate, (place,)), restart="temporary")
        reply: Reply[Any] = Reply()
        reply.add_done_callback(partial(self._started, place))
        # Not by `ask`: this may be the thread of an actor that has just ended.
        self._home.post(Envelope(StartChild(spec), reply_to=reply))

    def _started(self, place: _Place, reply: Reply[Any]) -> None:
        if reply.error is None and isinstance(reply.get(), ActorRef):
            place.starting = False  # not earlier: the id is taken until the supervisor has answered
            place.wake()
            self.tidy(place)
            return
        exit = reply.error.exit if isinstance(reply.error, ActorExited) else getattr(reply.get(), "exit", None)
        place.bury(exit or Exit("error", "not started"))
        self._forget(place)

    def _incarnate(self, place: _Place) -> ActorRef[Any]:
        actor = construct(self._class, place, place.key, self._store.load(place.key))
        launch(actor, inherited())
        return actor.actor_ref

    def tidy(self, place: _Place) -> None:
        """Forget a key that nothing waits for."""
        if place.unused():
            self._forget(place)

    def _forget(self, place: _Place) -> None:
        with self._lock:
            if self._places.get(place.key) is place:
                del self._places[place.key]
