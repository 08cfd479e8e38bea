"""From a start entry to a running child."""

from __future__ import annotations

from typing import Any, Final

from pykka import ActorRef

from allm.supervisors.actor import Actor, launch, spawning
from allm.supervisors.cell import cell_of
from allm.supervisors.exits import Exit, Leave
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.slots import STARTING, Slot

__all__ = ["IGNORE", "begin"]

IGNORE: Final = Exit("ignore")
"""What a start function returns to be left out."""


def begin(slot: Slot, inherited: Dispatcher, extra: tuple[Any, ...] = ()) -> Exit | None:
    """Start the child of a slot. An exit: it failed. None: look at the status, running or still starting."""
    assert slot.start is not None, "the start arguments of this child were not kept"
    dispatcher = slot.spec.dispatcher or inherited
    function, args, *more = slot.start
    kwargs: Any = more[0] if more else {}
    slot.generation += 1
    slot.status, slot.extra, slot.ended_inline = STARTING, None, None
    slot.gone, slot.inline = False, dispatcher.inline()
    try:
        if isinstance(function, type) and issubclass(function, Actor):
            actor = function(*extra, *args, **kwargs)
            slot.ref = actor.actor_ref
            launch(actor, dispatcher, slot, slot.generation)
        else:
            with spawning(dispatcher):
                result = function(*extra, *args, **kwargs)
            return _adopt(slot, result, dispatcher)
    except Leave as leave:
        return leave.exit
    except BaseException as error:
        return Exit.from_exception(error)
    finally:
        slot.inline = False
    return slot.ended_inline


def _adopt(slot: Slot, result: Any, dispatcher: Dispatcher) -> Exit | None:
    if isinstance(result, Exit):
        return result
    ref, slot.extra = result if isinstance(result, tuple) and len(result) == 2 else (result, None)  # pyright: ignore[reportUnknownVariableType]
    cell = cell_of(ref) if isinstance(ref, ActorRef) else None  # pyright: ignore[reportUnknownArgumentType]
    if cell is None:
        return Exit("bad_return", f"the start function returned {type(result).__name__}")
    slot.ref = ref
    cell.generation = slot.generation
    slot.inline = slot.inline and cell.dispatcher is dispatcher
    cell.watch(slot, slot)
    return slot.ended_inline
