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
    """The signal itself; overtakes the mailbox."""

    ref: ActorRef[Any]
    exit: Exit
    own: bool = False


@dataclass(slots=True, eq=False)
class Monitor:
    """One watch over one actor."""

    ref: ActorRef[Any]
    id: int = field(default_factory=_ids.__next__)
    flushed: bool = False
    _notify: Callable[[Down], object] | None = None

    def started(self, cell: Cell) -> None:
        """Of no interest."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """Deliver the one `Down`."""
        notify, self._notify = self._notify, None
        if notify is not None:
            notify(Down(self, self.ref, exit))


def monitor(ref: ActorRef[Any], to: ActorRef[Any] | Callable[[Down], object] | None = None) -> Monitor:
    """Watch an actor. The `Down` goes to `to`, by default the actor whose handler this is."""
    watch = Monitor(ref, _notify=_receiver(to))
    cell = cell_of(ref)
    if cell is not None:
        cell.watch(watch, watch)
    elif ref.is_alive():
        raise TypeError(f"{ref} is a plain Pykka actor: it cannot be monitored")
    else:
        watch.ended(None, NOPROC)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return watch


def demonitor(watch: Monitor, *, flush: bool = False) -> bool:
    """Stop watching; False when the `Down` was sent already. `flush`: then it is not handled any more."""
    cell = cell_of(watch.ref)
    pending = cell is not None and cell.unwatch(watch)
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
    """One direction of a link: the end of the watched goes to the other."""

    def __init__(self, other: Cell, ref: ActorRef[Any]) -> None:
        self.other, self.ref = other, ref

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, exit: Exit) -> None:
        self.other.unwatch(("link", cell.name))
        self.other.put_signal(ExitSignal(self.ref, exit))


def _receiver(to: ActorRef[Any] | Callable[[Down], object] | None) -> Callable[[Down], object]:
    if to is None:
        return _here().put_message
    return _cell(to).put_message if is_ref(to) else cast("Callable[[Down], object]", to)


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
