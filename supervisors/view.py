"""The live tree as plain data, read from outside without a message: from any thread, never blocking."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias, TypeVar, overload

import pykka
from pykka import ActorRef

from allm.supervisors.cell import Cell, cell_of
from allm.supervisors.clock import clock
from allm.supervisors.exits import Exit
from allm.supervisors.parent import Parent
from allm.supervisors.slots import Slot

__all__ = ["abandoned", "child", "tree"]

A = TypeVar("A", bound=pykka.Actor)


def tree(ref: ActorRef[Any], *, full: bool = False) -> dict[str, Any]:
    """An actor and, of a supervisor, its children: id, kind, status, restarts, mailbox length, children.

    `full`: and for each the seconds its incarnation has lived (`age`) and how the one before ended (`last_exit`); None
    when there is none.
    """
    cell = cell_of(ref)
    status = "running" if ref.is_alive() else "ended"
    if cell is not None and cell.exit is None:
        status = "running" if cell.started else "starting"
        status = status if ref.is_alive() else "stopping"
    return _node(ref, ref.actor_class.__name__, status, 0, full)


def abandoned(ref: ActorRef[Any]) -> tuple[str, ...]:
    """The actors under this one, itself included, that were killed in a handler and whose threads are still in it."""
    cell = cell_of(ref)
    return tuple(each.name for each in cell.abandoned if each.busy is not None) if cell is not None else ()


@overload
def child(ref: ActorRef[Any], *path: Hashable) -> ActorRef[Any] | None: ...
@overload
def child(ref: ActorRef[Any], *path: Hashable, kind: type[A]) -> ActorRef[A] | None: ...
def child(ref: ActorRef[Any], *path: Hashable, kind: type[Any] = pykka.Actor) -> ActorRef[Any] | None:
    """The live descendant under these ids, or None. Any thread, no message: it may be gone when you look at it.

    With `kind` the ref has that actor's type; TypeError when the descendant is of another class.
    """
    for name in path:
        cell = cell_of(ref)
        body = cell.body if cell is not None else None
        slot = body.slot(name) if isinstance(body, Parent) else None
        found = slot.ref if slot is not None else None
        if found is None:
            return None
        ref = found
    if not issubclass(ref.actor_class, kind):
        raise TypeError(f"{ref} is no {kind.__name__}")
    return ref


def _node(ref: ActorRef[Any], name: object, status: str, restarts: int, full: bool) -> dict[str, Any]:
    """The node of an actor and of all below it; a list of what is to be looked at, as a tree may be deeper than the stack."""
    root, slots = _own(ref, name, status, restarts)
    if full:
        _fill(root, cell_of(ref), None)
    waiting = [(root, slots)]
    while waiting:
        node, slots = waiting.pop()
        if slots is None:
            continue
        below = [_child(slot) for slot in slots]
        node["children"] = [each for each, _ in below]
        if full:
            for slot, (each, _) in zip(slots, below, strict=True):
                _fill(each, cell_of(slot.ref) if slot.ref is not None else None, slot.exit)
        waiting += below
    return root


def _fill(node: dict[str, Any], cell: Cell | None, last_exit: Exit | None) -> None:
    """Add what a full node tells more."""
    lives = cell is not None and cell.exit is None
    node["age"] = max(0.0, clock.now() - cell.born) if cell is not None and lives else None
    node["last_exit"] = last_exit.to_data() if last_exit is not None else None


_Found: TypeAlias = "tuple[dict[str, Any], list[Slot] | None]"


def _own(ref: ActorRef[Any], name: object, status: str, restarts: int) -> _Found:
    """The node of one actor, and the slots below it if it is a supervisor."""
    node: dict[str, Any] = {
        "id": name if isinstance(name, (str, int)) else str(name),
        "kind": ref.actor_class.__name__,
        "status": status,
        "restarts": restarts,
    }
    cell = cell_of(ref)
    node["mailbox"] = len(cell.user) if cell is not None else None
    body = cell.body if cell is not None else None
    return node, body.slots() if isinstance(body, Parent) else None


def _child(slot: Slot) -> _Found:
    ref = slot.ref
    if ref is not None:
        return _own(ref, slot.id, slot.status, slot.restarts)
    kind = slot.spec.type or "worker"
    name = slot.id if isinstance(slot.id, (str, int)) else str(slot.id)
    return {"id": name, "kind": kind, "status": slot.status, "restarts": slot.restarts, "mailbox": 0}, None
