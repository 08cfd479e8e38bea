"""The way from a start entry to a running child.

An actor's ``__init__`` runs in the child's own first turn; a start function, or a plain Pykka actor's ``__init__``, in a turn
of a `Starter`, an actor on the child's dispatcher. So neither holds up the supervisor, nor acts in its name. What a start
function made belongs to whoever takes ``Made.open``: the supervisor that adopts it, or who finds that nobody will and ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, Final, NamedTuple, cast

import pykka

from allm.supervisors.actor import Actor, launch
from allm.supervisors.cell import Cell, alive, cell_of, is_ref
from allm.supervisors.exits import KILLED, Exit, Leave
from allm.supervisors.foreign import Foreign
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.mailbox import Kept
from allm.supervisors.making import prepare, spawning
from allm.supervisors.slots import Made, Slot
from allm.supervisors.spec import is_tuple

__all__ = ["IGNORE", "adopt", "begin", "discard"]

IGNORE: Final = Exit("ignore")
"""What a start function returns to be left out."""

_OWNER: Final = "owner"


def begin(slot: Slot, inherited: Dispatcher, extra: tuple[Any, ...] = ()) -> Exit | None:
    """Start the child of a slot. An exit: it failed. None: it runs, if the slot says that it ``began``, or is still starting."""
    assert slot.start is not None, "the start arguments of this child were not kept"
    dispatcher = slot.spec.dispatcher or inherited
    slot.generation += 1
    slot.extra, slot.ended_inline, slot.began, slot.made = None, None, False, None
    if slot.present.locked():
        slot.present.release()
    if slot.kept is not None and slot.kept.buried:
        slot.kept = Kept(slot.spec.max_redeliver)
    try:
        slot.inline = inline = dispatcher.inline()
        exit = _call(slot, dispatcher, extra)
    except BaseException as error:
        return Exit.from_exception(error)
    finally:
        slot.inline = False
    if inline and exit is None and slot.made is None and slot.cell is not None and slot.cell.exit is not None:
        return _ended_meanwhile(slot, slot.cell)
    return exit


def _ended_meanwhile(slot: Slot, cell: Cell | Foreign) -> Exit | None:
    """Look once more at a child that another thread ended: it may have taken the start for one that is seen at once."""
    exit = cell.exit or KILLED
    if not slot.began and not cell.started:
        return exit
    slot.child_ended(cast("Cell", cell), exit)  # told twice is told once
    return None


def _call(slot: Slot, dispatcher: Dispatcher, extra: tuple[Any, ...]) -> Exit | None:
    function, args, *more = cast("tuple[Any, ...]", slot.start)
    kwargs: dict[str, Any] = dict(*more)
    if isinstance(function, type) and issubclass(function, Actor):
        actor = prepare(function, slot.kept, (*extra, *args), kwargs)
        cell = actor.actor_inbox
        cell.owner, cell.generation = slot, slot.generation  # first: by its ref it may be killed
        slot.ref, slot.cell = actor.actor_ref, cell
        launch(actor, dispatcher, slot, slot.generation)
        return slot.ended_inline
    make = partial(function, *extra, *args, **kwargs)
    if isinstance(function, type) and issubclass(function, pykka.Actor):
        make = partial(_stranger, make, slot, slot.generation)
    starter = Starter(slot, dispatcher, make)
    slot.ref, slot.cell = None, starter.actor_inbox
    launch(starter, dispatcher, _Errand(slot), slot.generation)
    made = slot.made if slot.inline else None
    return slot.ended_inline if made is None else adopt(made)


class Starter(Actor):
    """Calls a start function, and hands over what it made."""

    def __init__(self, slot: Slot, dispatcher: Dispatcher, make: Callable[[], Any]) -> None:
        super().__init__()
        self._slot, self._generation, self._dispatcher, self._make = slot, slot.generation, dispatcher, make

    def on_start(self) -> None:
        slot, cell = self._slot, self.actor_inbox
        made = Made(slot, self._generation, self._result(), cell, Lock())
        if cell.exit is not None:  # given up meanwhile
            discard(made)
            return
        slot.made = made
        alive.pop(cell.name, None)  # its work is done: nobody waits for its end
        if not slot.inline:
            slot.home.put_message(made)
        if slot.home.exit is not None or cell.exit is not None:
            discard(made)
        self.exit()

    def _result(self) -> Any:
        try:
            with spawning(self._dispatcher, self._slot.home.given_timers):
                return self._make()
        except Leave as leave:
            return leave.exit
        except BaseException as error:  # throw, raise, exit in a start function: an error of that start
            return Exit.from_exception(error)


class _Errand:
    """Hears of the end of a `Starter`, for a slot: of any but the one after its work."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def child_started(self, cell: Cell) -> None:
        pass

    def child_ended(self, cell: Cell, exit: Exit) -> None:
        if exit.kind != "normal":
            self._slot.child_ended(cell, exit)


class _Stranger(NamedTuple):
    """A plain Pykka actor that is not started yet."""

    actor: pykka.Actor
    foreign: Foreign


def _stranger(make: Callable[[], pykka.Actor], slot: Slot, generation: int) -> _Stranger:
    actor = make()
    return _Stranger(actor, Foreign(actor, slot, generation))


def adopt(made: Made) -> Exit | None:
    """Take in what a start function made: a ref, or a ref and something extra."""
    slot, result = made.slot, made.result
    slot.made = None
    if not made.open.acquire(False):
        return KILLED
    if isinstance(result, Exit):
        return result
    if isinstance(result, _Stranger):
        slot.ref, slot.cell = result.foreign.ref, result.foreign
        slot.inline = False
        result.foreign.launch(result.actor)
        return None
    ref, extra = _parts(result)
    cell = cell_of(ref) if is_ref(ref) else None
    if cell is None or _above(cell, slot):
        return Exit("bad_return", f"the start function returned {ref if cell is not None else type(result).__name__}")
    holder = cell.watchers.setdefault(_OWNER, slot) if cell.owner is None else cell.owner
    if holder is not slot:
        return Exit("already_started", cell.name)
    slot.ref, slot.cell, slot.extra = ref, cell, extra
    slot.inline = slot.inline and cell.dispatcher is made.cell.dispatcher
    cell.generation = slot.generation
    cell.watch(_OWNER, slot)  # first, so that no end is reported without the start
    cell.owner = slot  # its reports may come twice, then: the second is void
    return slot.ended_inline


def _above(cell: Cell, slot: Slot) -> bool:
    """Whether the child is its own supervisor, or one above that."""
    above: Cell | None = slot.home
    while above is not None and above is not cell:
        above = above.owner.home if isinstance(above.owner, Slot) else None
    return above is cell


def discard(made: Made) -> None:
    """End what a start function made for a supervisor that does not want it any more."""
    if not made.open.acquire(False):
        return
    ref, _ = _parts(made.result)
    cell = cell_of(ref) if is_ref(ref) else None
    if cell is not None and cell.owner is None:
        cell.cancel(KILLED)


def _parts(result: Any) -> tuple[Any, Any]:
    if is_tuple(result) and len(result) == 2:
        return result[0], result[1]
    return result, None
