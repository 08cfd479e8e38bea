"""From a start entry to a running child."""

from __future__ import annotations

from typing import Any, Final, cast

import pykka

from allm.supervisors.actor import Actor, construct, launch, spawning
from allm.supervisors.cell import cell_of, is_ref
from allm.supervisors.exits import Exit, Leave
from allm.supervisors.foreign import Foreign
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.mailbox import Kept
from allm.supervisors.slots import Slot
from allm.supervisors.spec import is_tuple

__all__ = ["IGNORE", "begin"]

IGNORE: Final = Exit("ignore")
"""What a start function returns to be left out."""


def begin(slot: Slot, inherited: Dispatcher, extra: tuple[Any, ...] = ()) -> Exit | None:
    """Start the child of a slot. An exit: it failed. None: it runs, if the slot says that it ``began``, or is still starting."""
    assert slot.start is not None, "the start arguments of this child were not kept"
    dispatcher = slot.spec.dispatcher or inherited
    slot.generation += 1
    slot.extra, slot.ended_inline, slot.began = None, None, False
    slot.present[:], slot.inline = [True], dispatcher.inline()
    if slot.kept is not None and slot.kept.buried:
        slot.kept = Kept(slot.spec.max_redeliver)
    try:
        return _call(slot, dispatcher, extra)
    except Leave as leave:
        return leave.exit
    except BaseException as error:  # throw, raise, exit in a start function: an error of that start
        return Exit.from_exception(error)
    finally:
        slot.inline = False


def _call(slot: Slot, dispatcher: Dispatcher, extra: tuple[Any, ...]) -> Exit | None:
    function, args, *more = cast("tuple[Any, ...]", slot.start)
    kwargs: dict[str, Any] = dict(*more)
    if isinstance(function, type) and issubclass(function, Actor):
        actor = construct(function, slot.kept, *extra, *args, **kwargs)
        slot.ref, slot.cell = actor.actor_ref, actor.actor_inbox
        launch(actor, dispatcher, slot, slot.generation)
    elif isinstance(function, type) and issubclass(function, pykka.Actor):
        slot.inline = False
        stranger = function(*extra, *args, **kwargs)
        slot.ref, slot.cell = stranger.actor_ref, Foreign(stranger, slot, slot.generation)
        slot.cell.launch(stranger)
    else:
        with spawning(dispatcher):
            result = function(*extra, *args, **kwargs)
        return _adopt(slot, result, dispatcher)
    return slot.ended_inline


def _adopt(slot: Slot, result: Any, dispatcher: Dispatcher) -> Exit | None:
    """Take in what a start function made: a ref, or a ref and something extra."""
    if isinstance(result, Exit):
        return result
    ref, slot.extra = result, None
    if is_tuple(result) and len(result) == 2:
        ref, slot.extra = result
    cell = cell_of(ref) if is_ref(ref) else None
    if cell is None:
        return Exit("bad_return", f"the start function returned {type(result).__name__}")
    slot.ref, slot.cell = ref, cell
    slot.inline = slot.inline and cell.dispatcher is dispatcher
    cell.generation = slot.generation
    cell.watch(slot, slot)  # first, so that no end is reported without the start
    cell.owner = slot  # its reports may come twice, then: the second is void
    return slot.ended_inline
