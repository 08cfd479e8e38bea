"""Monitors tell of an end, links share it.

A monitor delivers one `Down` to an actor's mailbox (or calls a function). A link between two actors ends each with
the other's exit unless that is ``normal``; an actor that sets ``trap_exits`` gets `Exited` messages instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from pykka import ActorRef

from allm.supervisors.cell import Cell, cell_of, is_ref
from allm.supervisors.exits import NOPROC, Exit
from allm.supervisors.here import here

__all__ = ["Down", "ExitSignal", "Exited", "Monitor", "demonitor", "exit_signal", "link", "monitor", "unlink"]

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored actor ended, or was dead already (``noproc``)."""

    monitor: Monitor
    ref: ActorRef[Any]
    exit: Exit


@dataclass(frozen=True, slots=True)
class Exited:
    """A linked actor ended: what an actor that traps exits gets in place of its own end."""

    ref: ActorRef[Any]
    exit: Exit


@dataclass(frozen=True, slots=True)
class ExitSignal:
    """The signal itself: overtakes the mailbox, or is a message in it, `to` the incarnation that was linked and traps exits."""

    ref: ActorRef[Any]
    exit: Exit
    own: bool = False
    to: Cell | None = None


@dataclass(slots=True, eq=False)
class Monitor:
    """A watch over an actor."""

    ref: ActorRef[Any]
    id: int = field(default_factory=_ids.__next__)
    flushed: bool = False
    _notify: Callable[[Down], object] | None = None
    _for: Cell | None = None
    """The incarnation that watches: the monitor goes with it."""

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Deliver the one `Down`."""
        notify, self._notify = self._notify, None
        self._let_go()
        if notify is not None:
            notify(Down(self, self.ref, exit))

    def _let_go(self) -> None:
        watcher, self._for = self._for, None
        if watcher is not None:
            watcher.unwatch(("monitor", self.id))


class _Watching:
    """An entry with the actor that watches: at its end the monitor is taken back."""

    def __init__(self, watch: Monitor, watched: Cell) -> None:
        self._watch, self._watched = watch, watched

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, exit: Exit) -> None:
        self._watched.unwatch(self._watch)


def monitor(ref: ActorRef[Any], to: ActorRef[Any] | Callable[[Down], object] | None = None) -> Monitor:
    """Watch an actor. The `Down` goes to `to`, by default the actor whose handler this is; with that one the monitor ends, too."""
    watcher = _here() if to is None else _cell(to) if is_ref(to) else None
    cell = cell_of(ref)
    if watcher is None:
        watch = Monitor(ref, _notify=cast("Callable[[Down], object]", to))
    else:
        kept = watcher.exit is not None and to is not None and cast("ActorRef[Any]", to).is_alive()  # between two incarnations
        watch = Monitor(ref, _notify=watcher.put_message, _for=None if kept or cell is None else watcher)
    if cell is not None:
        cell.watch(watch, watch)
        if watcher is not None and (watch._for is watcher):  # pyright: ignore[reportPrivateUsage]
            watcher.watch(("monitor", watch.id), _Watching(watch, cell))
            if watch._for is None:  # it has ended meanwhile  # pyright: ignore[reportPrivateUsage]
                watcher.unwatch(("monitor", watch.id))
    elif ref.is_alive():
        raise TypeError(f"{ref} is a plain Pykka actor: it cannot be monitored")
    else:
        watch.ended(None, NOPROC)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return watch


def demonitor(watch: Monitor, *, flush: bool = False) -> bool:
    """Stop watching; False when the `Down` was sent already. `flush`: then it is not handled any more."""
    cell = cell_of(watch.ref)
    pending = cell is not None and cell.unwatch(watch)
    if pending:
        watch._let_go()  # pyright: ignore[reportPrivateUsage]
    watch.flushed = watch.flushed or flush
    return pending


def link(ref: ActorRef[Any], other: ActorRef[Any] | None = None) -> None:
    """Tie two actors together; by default `ref` and the actor whose handler this is. Twice is once."""
    one, two = _cell(ref), _cell(other) if other is not None else _here()
    if one is two:
        return
    refs = (_ref(one, ref), _ref(two, other))
    one.watch(("link", two.name), _Link(two, refs[0]))
    two.watch(("link", one.name), _Link(one, refs[1]))
    if one.exit is not None:  # it was dead, or has died before the other watched it
        two.unwatch(("link", one.name))
    if two.exit is not None:
        one.unwatch(("link", two.name))


def unlink(ref: ActorRef[Any], other: ActorRef[Any] | None = None) -> None:
    """Untie them; harmless when they are not linked."""
    one, two = _cell(ref), _cell(other) if other is not None else _here()
    one.unwatch(("link", two.name))
    two.unwatch(("link", one.name))


def exit_signal(ref: ActorRef[Any], exit: Exit) -> None:
    """Send an exit: ``normal`` ends only oneself; anything else ends the receiver unless it traps exits."""
    cell, sender = _cell(ref), here.cell
    cell.put_signal(ExitSignal(ref, exit, own=sender is cell))


class _Link:
    """A direction of a link: the end of the watched goes to the other."""

    def __init__(self, other: Cell, ref: ActorRef[Any]) -> None:
        self.other, self.ref = other, ref

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, exit: Exit) -> None:
        other = self.other
        other.unwatch(("link", cell.name))
        if getattr(other.body, "trap_exits", False):  # behind what the dead has sent
            other.put_message(ExitSignal(self.ref, exit, to=other))
        else:
            other.put_signal(ExitSignal(self.ref, exit))


def _here() -> Cell:
    if not isinstance(here.cell, Cell):
        raise RuntimeError("not in an actor's handler: say for whom")
    return here.cell


def _cell(ref: ActorRef[Any]) -> Cell:
    cell = cell_of(ref)
    if cell is None:
        raise TypeError(f"{ref} is a plain Pykka actor: it has no links, monitors or signals")
    return cell


def _ref(cell: Cell, ref: ActorRef[Any] | None) -> ActorRef[Any]:
    known = ref or cell.ref
    assert known is not None
    return known
