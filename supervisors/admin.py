"""Administration of a live supervisor, as functions that wait for the answer and raise a refusal.

From inside an actor, tell or ask the messages of `requests` instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from pykka import ActorRef

from allm.supervisors.exits import Exit, SupervisionError
from allm.supervisors.names import Address, call
from allm.supervisors.requests import (
    ChangeSpecs,
    ChildInfo,
    CountChildren,
    Counts,
    DeleteChild,
    GetSpec,
    Refused,
    RestartChild,
    StartChild,
    StopChild,
    WhichChild,
    WhichChildren,
)
from allm.supervisors.spec import Child, ChildSpec, Flags

__all__ = [
    "SupervisorError",
    "accepted",
    "change_specs",
    "count_children",
    "delete_child",
    "get_spec",
    "restart_child",
    "start_child",
    "terminate_child",
    "which_child",
    "which_children",
]


class SupervisorError(SupervisionError):
    """A supervisor refused; ``reason`` is OTP's word for why, ``ref`` a holder, ``exit`` a failed start's."""

    def __init__(self, refused: Refused) -> None:
        detail = f": {refused.exit.kind} {refused.exit.detail or ''}".rstrip() if refused.exit is not None else ""
        super().__init__(refused.reason + detail)
        self.reason = refused.reason
        self.ref: ActorRef[Any] | None = refused.ref
        self.exit: Exit | None = refused.exit


def accepted(answer: Any) -> Any:
    """The answer of a supervisor; `SupervisorError` when it is a refusal."""
    if isinstance(answer, Refused):
        raise SupervisorError(answer)
    return answer


def _ask(supervisor: Address, request: Any, timeout: float | None) -> Any:
    return accepted(call(supervisor, request, timeout))


def start_child(supervisor: Address, spec: Child | Sequence[Any], timeout: float | None = None) -> Any:
    """Start a child: its ref, or ``(ref, extra)``, or None when it asked to be left out.

    Under a supervisor with a template, `spec` is the arguments to append. By default it waits as long as the child may take:
    its own ``start_timeout``, if it has one.
    """
    return _ask(supervisor, StartChild(spec), timeout)


def terminate_child(supervisor: Address, child: Hashable, timeout: float | None = None) -> None:
    """Stop a child and wait for its end, by default as long as its own ``shutdown`` allows."""
    _ask(supervisor, StopChild(child), timeout)


def restart_child(supervisor: Address, id: Hashable, timeout: float | None = None) -> Any:
    """Start a stopped child again; waits as `start_child` does."""
    return _ask(supervisor, RestartChild(id), timeout)


def delete_child(supervisor: Address, id: Hashable, timeout: float | None = 5.0) -> None:
    """Forget the spec of a stopped child."""
    _ask(supervisor, DeleteChild(id), timeout)


def which_children(supervisor: Address, timeout: float | None = 5.0) -> list[ChildInfo]:
    """The children, newest first."""
    children: list[ChildInfo] = _ask(supervisor, WhichChildren(), timeout)
    return children


def which_child(supervisor: Address, id: Hashable, timeout: float | None = 5.0) -> ChildInfo:
    """Describe a child."""
    info: ChildInfo = _ask(supervisor, WhichChild(id), timeout)
    return info


def count_children(supervisor: Address, timeout: float | None = 5.0) -> Counts:
    """Count the children."""
    counts: Counts = _ask(supervisor, CountChildren(), timeout)
    return counts


def get_spec(supervisor: Address, id: Hashable, timeout: float | None = 5.0) -> ChildSpec:
    """The spec of a child."""
    spec: ChildSpec = _ask(supervisor, GetSpec(id), timeout)
    return spec


def change_specs(
    supervisor: Address,
    children: Sequence[Child],
    flags: Flags | None = None,
    timeout: float | None = 5.0,
) -> None:
    """New specs and flags for a live supervisor: what runs stays, what is new is not started."""
    _ask(supervisor, ChangeSpecs(tuple(children), flags), timeout)
