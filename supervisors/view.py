"""The live tree as plain data, read from outside without a message: from any thread, never blocking."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

from pykka import ActorRef

from allm.supervisors.cell import cell_of
from allm.supervisors.parent import Parent
from allm.supervisors.slots import Slot

__all__ = ["abandoned", "child", "tree"]


def tree(ref: ActorRef[Any]) -> dict[str, Any]:
    """An actor and, of a supervisor, its children: id, kind, status, restarts, mailbox length, children."""
    cell = cell_of(ref)
    status = "running" if ref.is_alive() else "ended"
    if cell is not None and cell.exit is None:
        status = "running" if cell.started else "starting"
        status = status if ref.is_alive() else "stopping"
    return _node(ref, ref.actor_class.__name__, status, 0)


def abandoned(ref: ActorRef[Any]) -> tuple[str, ...]:
    """The actors under this one, itself included, that were killed in a handler and whose threads are still in it."""
    cell = cell_of(ref)
    return tuple(each.name for each in cell.abandoned if each.busy is not None) if cell is not None else ()


def child(ref: ActorRef[Any], *path: Hashable) -> ActorRef[Any] | None:
    """The live descendant under these ids, or None. Any thread, no message: it may be gone when you look at it."""
    for name in path:
        cell = cell_of(ref)
        body = cell.body if cell is not None else None
        slot = body.slot(name) if isinstance(body, Parent) else None
        found = slot.ref if slot is not None else None
        if found is None:
            return None
        ref = found
    return ref


def _node(ref: ActorRef[Any], name: object, status: str, restarts: int) -> dict[str, Any]:
    """The node of an actor and of all below it; a list of what is to be looked at, as a tree may be deeper than the stack."""
    root, slots = _own(ref, name, status, restarts)
    waiting = [(root, slots)]
    while waiting:
        node, slots = waiting.pop()
        if slots is None:
            continue
        below = [_child(slot) for slot in slots]
        node["children"] = [each for each, _ in below]
        waiting += below
    return root


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
