"""Names for actors, in this process: unique keys, or keys with many holders. A holder's end frees its keys.

Not an actor: a table under a lock that is held for dictionary work only. A holder that is dead counts as gone even
where its clean-up has not come through yet.
"""

from __future__ import annotations

import threading
import typing
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pykka import ActorRef

from allm.supervisors import log
from allm.supervisors.cell import Cell, cell_of, is_ref
from allm.supervisors.exits import Exit, ExitError, text_of
from allm.supervisors.here import forked, guard, here
from allm.supervisors.ticks import deliver

__all__ = ["AlreadyRegistered", "Key", "Registered", "Registry", "Unregistered"]


class AlreadyRegistered(ExitError):
    """A unique key has a holder: ``ref``. An actor that fails to start with it is reported as already started."""

    def __init__(self, key: Hashable, ref: ActorRef[Any], name: str) -> None:
        super().__init__(f"{key!r} is held by {name}", Exit("already_started", name))
        self.key = key
        self.ref = ref


@dataclass(frozen=True, slots=True)
class Registered:
    """An actor took a key; told to listeners."""

    registry: str
    key: Hashable
    ref: ActorRef[Any]
    value: Any


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A key was given back, or its holder ended; told to listeners."""

    registry: str
    key: Hashable
    ref: ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A name in a registry, resolved when used: for `call`, `cast` and `whereis`."""

    registry: Registry
    key: Hashable

    def whereis(self) -> ActorRef[Any] | None:
        """The holder now."""
        return self.registry.whereis(self.key)

    def __str__(self) -> str:
        return f"{self.registry.name}:{self.key}"


@dataclass(frozen=True, slots=True)
class _Entry:
    ref: ActorRef[Any]
    value: Any
    cell: Cell


Listener = ActorRef[Any] | Callable[[Any], object]


class Registry:
    """Keys to actors; any thread."""

    def __init__(
        self,
        keys: Literal["unique", "duplicate"] = "unique",
        *,
        name: str = "registry",
        listeners: Iterable[Listener] = (),
    ) -> None:
        self.name = name
        self._unique = keys == "unique"
        self._listeners = tuple(listeners)
        self._lock = threading.RLock()  # a finaliser may run inside
        self._entries: dict[Hashable, dict[str, list[_Entry]]] = {}  # key -> holder's name -> what it registered
        self._held: dict[str, set[Hashable]] = {}  # holder's name -> its keys
        self._events: deque[Registered | Unregistered] = deque()
        self._telling = threading.Lock()
        forked.add(self)

    def after_fork(self) -> None:
        """The holders live in the parent process: all keys are free here."""
        self._lock, self._telling = threading.RLock(), threading.Lock()
        self._entries, self._held, self._events = {}, {}, deque()

    def register(self, key: Hashable, value: Any = None, ref: ActorRef[Any] | None = None) -> None:
        """Give `key` to `ref`, by default the actor whose handler this is; `AlreadyRegistered` if it is taken.

        In a registry of duplicate keys one actor may hold a key several times, each with a value of its own.
        """
        guard()
        cell = _cell(ref)
        holder = ref or cell.ref
        assert holder is not None
        with self._lock:
            self._refuse_taken(key, cell)
            self._entries.setdefault(key, {}).setdefault(cell.name, []).append(_Entry(holder, value, cell))
            first = cell.name not in self._held
            self._held.setdefault(cell.name, set()).add(key)
            self._note(Registered(self.name, key, holder, value))
        if first:
            cell.watch(self, self)  # of a dead one it hears at once
        self._tell()

    def _refuse_taken(self, key: Hashable, cell: Cell) -> None:
        if not self._unique:  # the dead are left out by who looks
            return
        for entry in self._of(key):
            if entry.cell.exit is not None:
                self._take_out(key, entry.cell.name)
            else:
                raise AlreadyRegistered(key, entry.ref, entry.cell.name)

    def _of(self, key: Hashable) -> list[_Entry]:
        return [entry for own in self._entries.get(key, {}).values() for entry in own]

    def update_value(self, key: Hashable, function: Callable[[Any], Any], ref: ActorRef[Any] | None = None) -> tuple[Any, Any]:
        """Replace the value of a unique key that one holds by ``function(value)``; the new value and the old one.

        KeyError when one does not hold it. The function may be called again if another thread changes the value meanwhile.
        """
        guard()
        if not self._unique:
            raise ValueError(f"{self.name} has duplicate keys, which may have several values for one actor")
        cell = _cell(ref)
        while True:
            with self._lock:
                own = self._entries.get(key, {}).get(cell.name)
            if own is None or cell.exit is not None:
                raise KeyError(key)
            before = own[0]
            value = function(before.value)
            with self._lock:
                if self._entries.get(key, {}).get(cell.name) is own and own[0] is before:
                    own[0] = _Entry(before.ref, value, cell)
                    return value, before.value

    def unregister(self, key: Hashable, ref: ActorRef[Any] | None = None) -> None:
        """Give back one's own key, however often one holds it; nothing happens when one does not."""
        cell = _cell(ref)
        with self._lock:
            self._take_out(key, cell.name)
            idle = cell.name not in self._held
        if idle:
            cell.unwatch(self)
            if cell.name in self._held:  # another thread has just registered it again
                cell.watch(self, self)
        self._tell()

    def _take_out(self, key: Hashable, holder: str) -> None:
        entries = self._entries.get(key)
        own = entries.pop(holder, []) if entries is not None else []
        if entries is not None and not entries:
            del self._entries[key]
        for entry in own:
            self._note(Unregistered(self.name, key, entry.ref))
        keys = self._held.get(holder)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._held[holder]

    # -- as a watcher of the holders

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Free the keys of a holder."""
        with self._lock:
            for key in list(self._held.get(cell.name, ())):
                self._take_out(key, cell.name)
        self._tell()

    # -- looking up

    def lookup(self, key: Hashable) -> list[tuple[ActorRef[Any], Any]]:
        """The holders of a key that live, with the values they gave."""
        with self._lock:
            entries = self._of(key)
        return [(entry.ref, entry.value) for entry in entries if entry.cell.exit is None]

    def whereis(self, key: Hashable) -> ActorRef[Any] | None:
        """The holder of a unique key."""
        found = self.lookup(key)
        return found[0][0] if found else None

    def keys(self, ref: ActorRef[Any] | None = None) -> list[Hashable]:
        """The keys an actor holds."""
        with self._lock:
            name = _cell(ref).name
            return [key for key in self._held.get(name, ()) for _ in self._entries[key][name]]

    def via(self, key: Hashable) -> Key:
        """The key as a name that `call` and `cast` take."""
        return Key(self, key)

    def __len__(self) -> int:
        with self._lock:
            return sum(len(own) for entries in self._entries.values() for own in entries.values())

    def dispatch(self, key: Hashable, function: Callable[[ActorRef[Any], Any], object], *, parallel: bool = False) -> int:
        """Call `function(ref, value)` for each holder; the number of holders. One that raises stops no other."""
        found = self.lookup(key)
        if parallel and len(found) > 1:
            with ThreadPoolExecutor(min(len(found), 8)) as pool:
                for ref, value in found:
                    pool.submit(_guarded, function, ref, value)
        else:
            for entry in found:
                _guarded(function, *entry)
        return len(found)

    # -- telling listeners: in the order in which things happened, by one thread at a time, outside the lock

    def _note(self, event: Registered | Unregistered) -> None:
        if self._listeners:
            self._events.append(event)

    def _tell(self) -> None:
        while self._events and self._telling.acquire(False):
            try:
                while self._events:
                    event = self._events.popleft()
                    for listener in self._listeners:
                        _tell_one(listener, event)
            finally:
                self._telling.release()


def _tell_one(listener: Listener, event: Registered | Unregistered) -> None:
    if is_ref(listener):
        deliver(listener, event)
    else:
        _guarded(typing.cast("Callable[[Any], object]", listener), event)


def _cell(ref: ActorRef[Any] | None) -> Cell:
    cell = cell_of(ref) if ref is not None else here.cell
    if not isinstance(cell, Cell):
        raise RuntimeError("not in an actor's handler: say for whom" if ref is None else f"{ref} is a plain Pykka actor")
    return cell


def _guarded(function: Callable[..., object], *args: Any) -> None:
    try:
        function(*args)
    except BaseException as error:
        log.error("listener_failed", error=text_of(error, repr))
