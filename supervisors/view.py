"""The live tree as plain data, read from outside without a message: from any thread, never blocking."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, TypeVar, overload

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
    return _node(ref, ref.actor_class.__name__, status, 0, _Full(None) if full else None)


def abandoned(ref: ActorRef[Any]) -> tuple[str, ...]:
    """The actors under this one, itself included, that were killed in a handler: a thread may still be in each."""
    cell = cell_of(ref)
    return cell.abandoned if cell is not None else ()


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
        slots = body.slots() if isinstance(body, Parent) else []
        found = next((slot.ref for slot in slots if slot.id == name), None)
        if found is None:
            return None
        ref = found
    if not issubclass(ref.actor_class, kind):
        raise TypeError(f"{ref} is no {kind.__name__}")
    return ref


class _Full(NamedTuple):
    """What a full node knows more."""

    last_exit: Exit | None

    def into(self, node: dict[str, Any], cell: Cell | None) -> None:
        alive = cell is not None and cell.exit is None
        node["age"] = max(0.0, clock.now() - cell.born) if cell is not None and alive else None
        node["last_exit"] = self.last_exit.to_data() if self.last_exit is not None else None


def _node(ref: ActorRef[Any], name: object, status: str, restarts: int, full: _Full | None) -> dict[str, Any]:
    node: dict[str, Any] = {
        "id": name if isinstance(name, (str, int)) else str(name),
        "kind": ref.actor_class.__name__,
        "status": status,
        "restarts": restarts,
    }
    cell = cell_of(ref)
    node["mailbox"] = len(cell.user) if cell is not None else None
    if full is not None:
        full.into(node, cell)
    body = cell.body if cell is not None else None
    if isinstance(body, Parent):
        node["children"] = [_child(slot, full is not None) for slot in body.slots()]
    return node


def _child(slot: Slot, is_full: bool) -> dict[str, Any]:
    ref = slot.ref
    full = _Full(slot.exit) if is_full else None
    if ref is not None:
        return _node(ref, slot.id, slot.status, slot.restarts, full)
    kind = slot.spec.type or "worker"
    name = slot.id if isinstance(slot.id, (str, int)) else str(slot.id)
    node = {"id": name, "kind": kind, "status": slot.status, "restarts": slot.restarts, "mailbox": 0}
    if full is not None:
        full.into(node, None)
    return node
