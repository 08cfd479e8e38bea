"""Logical actors that need no memory while nobody talks to them, and lose no message by it.

A `Shelf` starts the actor of a key with its stored state when a message comes, and puts it away when asked to: between two
messages the actor gives its state, handles nothing while that is saved, and ends once it is. What arrives meanwhile waits in
the key's mailbox and starts the actor again; a save that fails leaves the actor where it is.

The store may block. Loads and saves are jobs on a dispatcher of the shelf's own, one at a time for each key and side by side
for different ones; neither the supervisor nor the actor's thread waits for them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

from pykka import ActorRef
from pykka._envelope import Envelope

from allm.supervisors.actor import launch
from allm.supervisors.cell import Cell, cell_of
from allm.supervisors.clock import clock
from allm.supervisors.dispatch import Dispatcher, PoolDispatcher
from allm.supervisors.exits import NOPROC, ActorExited, Exit
from allm.supervisors.futures import Reply
from allm.supervisors.here import forked, guard
from allm.supervisors.jobs import Job
from allm.supervisors.making import construct, inherited
from allm.supervisors.names import Address
from allm.supervisors.requests import Refused, StartChild
from allm.supervisors.shelved import PASSIVATED, Place, PutAway, Shelved
from allm.supervisors.spec import ChildSpec
from allm.supervisors.timers import shared_timers

__all__ = ["PASSIVATED", "Shelf", "Shelved", "StateStore"]

_incarnations = itertools.count(1)
_WORKERS = 32
_IDLE = 0.2
"""Seconds a worker waits for the next load or save: as many threads for as many keys should not outlive their rush."""
_LOOKS = 0.05
"""Seconds between two looks for a supervisor that is being started again."""


class StateStore(Protocol):
    """A place for states. Both methods may block; they are called for one key at a time, for several keys at once."""

    def load(self, key: Hashable) -> Any:
        """The state saved last; None when there is none. What it raises fails the messages that wait."""
        ...

    def save(self, key: Hashable, state: Any) -> None:
        """Keep it; raising means it is not kept. One that is slow asks `guard` before its effect: it may have been given up."""
        ...


class Shelf:
    """Actors of one class by key, children of a dynamic supervisor. Any thread.

    Given by a name (see `Via`), the supervisor is looked up at each start, and for `patience` seconds where it was there
    before: over its restarts nothing is lost. A load or a save may take `timeout` seconds. A load that raises, or takes
    longer, fails what waits for the actor, and so does a start that is refused: asks with `ActorExited`, whose ``exit``
    says why. A save that raises or takes longer is logged, and the actor goes on. A shutdown waits for a save that runs.
    `on` is where loads and saves run, and must be a dispatcher whose handlers may block: by default a pool of 32 threads.
    """

    def __init__(
        self,
        supervisor: Address,
        actor_class: type[Shelved],
        store: StateStore,
        *,
        on: Dispatcher | None = None,
        timeout: float | None = 30.0,
        patience: float = 5.0,
    ) -> None:
        if isinstance(supervisor, ActorRef) and cell_of(supervisor) is None:
            raise TypeError(f"{supervisor} is a plain Pykka actor")
        self._supervisor, self._class, self._store = supervisor, actor_class, store
        self._on = on if on is not None else PoolDispatcher(_WORKERS, idle=_IDLE, name="shelf")
        self._timeout, self._patience = timeout, patience
        self._seen = False  # whether the supervisor was there before
        self._missed: float | None = None  # since when it is not
        self._places: dict[Hashable, Place] = {}
        self._lock = threading.RLock()  # a finaliser may run inside, and tell somebody
        forked.add(self)

    def __len__(self) -> int:
        return len(self._places)

    def after_fork(self) -> None:
        """The child has none of the parent's actors; a supervisor of its own may take the name."""
        self._lock = threading.RLock()
        self._places, self._seen, self._missed = {}, False, None

    def tell(self, key: Hashable, message: Any) -> None:
        """Tell the actor of a key, started if need be."""
        guard()
        self._put(key, Envelope(message))

    def ask(self, key: Hashable, message: Any) -> Reply[Any]:
        """Ask it; the answer comes by the future."""
        guard()
        reply: Reply[Any] = Reply()
        self._put(key, Envelope(message, reply_to=reply))
        return reply

    def passivate(self, key: Hashable) -> None:
        """Put the actor of a key away, once it has handled what waits; what comes later starts it again."""
        place = self._places.get(key)
        if place is not None:
            place.ask_away(PutAway())

    def sweep(self, idle: float) -> None:
        """Put away all that had no message for `idle` seconds, unless one comes before their turn."""
        before = clock.now() - idle
        for place in list(self._places.values()):
            if place.used <= before and not place.swept:
                place.swept = True
                place.ask_away(PutAway(before))

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
                    place = self._places.setdefault(key, Place(self, key))
            if place.take(envelope):
                return
            self._forget(place)

    # -- called by places; any thread, also that of an actor that has just ended

    def start(self, place: Place) -> None:
        """Load the state, then have the supervisor start the actor; what goes wrong fails what waits."""
        try:
            home = self._home()
        except Exception as error:  # a name of the program's own
            self._fail(place, Exit.from_exception(error))
            return
        if home is None or place.current is not None:  # or the last one has not ended quite yet, with its supervisor
            self._without(place, NOPROC)
            return
        load = Job(partial(self._store.load, place.key), partial(self._loaded, place))
        place.home, place.load = home, load
        home.watch(load, load)  # of one that is gone it hears at once
        load.start(self._on, self._timeout, "the load")

    def save(self, place: Place, state: Any, done: Callable[[Any, Exit | None], object]) -> None:
        """Save a state; `done` is called with its outcome."""
        Job(partial(self._store.save, place.key, state), done).start(self._on, self._timeout, "the save")

    def tidy(self, place: Place) -> None:
        """Forget a key that nothing waits for."""
        if place.unused():
            self._forget(place)

    # -- starting

    def _home(self) -> Cell | None:
        """The supervisor, where it is there."""
        found = self._supervisor if isinstance(self._supervisor, ActorRef) else self._supervisor.whereis()
        cell = cell_of(found) if found is not None else None
        if cell is None or cell.exit is not None:
            return None
        self._seen, self._missed = True, None
        return cell

    def _without(self, place: Place, exit: Exit) -> None:
        """Look again soon for a supervisor that is being started again, if it may be found."""
        named = not isinstance(self._supervisor, ActorRef) or self._supervisor.is_alive()
        now = clock.now()
        since = self._missed
        if since is None or now > since + 2 * self._patience:  # or it came and went with nobody looking
            since = self._missed = now
        if named and self._seen and now < since + self._patience:
            shared_timers().call_after(_LOOKS, partial(self.start, place))
        else:
            self._fail(place, exit)

    def _loaded(self, place: Place, state: Any, failure: Exit | None) -> None:
        home, load, place.load = place.home, place.load, None
        assert home is not None
        home.unwatch(load)
        if home.exit is not None:
            self._without(place, home.exit)
        elif failure is not None:
            self._fail(place, failure)
        else:
            # An id of its own: the supervisor may not know yet that the last one has ended, and may serve other shelves.
            spec = ChildSpec((place.key, next(_incarnations)), (self._incarnate, (place, state)), restart="temporary")
            reply: Reply[Any] = Reply()
            reply.add_done_callback(partial(self._started, place))
            home.post(Envelope(StartChild(spec), reply_to=reply))

    def _incarnate(self, place: Place, state: Any) -> ActorRef[Any]:
        actor = construct(self._class, place, place.key, state)
        launch(actor, inherited())
        return actor.actor_ref

    def _started(self, place: Place, reply: Reply[Any]) -> None:
        error = reply.error
        answer = reply.get() if error is None else None
        if isinstance(answer, ActorRef):
            place.answered()
        elif isinstance(error, ActorExited):
            self._without(place, error.exit)
        elif isinstance(answer, Refused):
            exit = answer.exit or Exit(answer.reason)
            self._fail(place, exit) if answer.reason != "shutting_down" else self._without(place, exit)
        else:
            self._fail(place, Exit("ignore") if error is None else Exit.from_exception(error))

    def _fail(self, place: Place, exit: Exit) -> None:
        place.bury(exit)
        self._forget(place)

    def _forget(self, place: Place) -> None:
        with self._lock:
            if self._places.get(place.key) is place:
                del self._places[place.key]
