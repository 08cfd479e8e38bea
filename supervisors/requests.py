"""Requests to a supervisor: plain values, so that any actor can send them.

Asked for what it cannot do, a supervisor answers `Refused`; the functions of `admin` raise it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pykka import ActorRef

from allm.supervisors.exits import Exit
from allm.supervisors.spec import ChildSpec, Flags

__all__ = [
    "ChangeSpecs",
    "ChildInfo",
    "CountChildren",
    "Counts",
    "DeleteChild",
    "GetSpec",
    "Refused",
    "RestartChild",
    "StartChild",
    "StopChild",
    "WhichChild",
    "WhichChildren",
]


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start a child now. Answer: its ref, or ``(ref, extra)`` when the start function gave extra, or None (ignore)."""

    spec: Any


@dataclass(frozen=True, slots=True)
class StopChild:
    """Stop a child, by id (static) or by ref or id (dynamic); a static one keeps its spec. Answer: None."""

    child: Hashable


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a stopped child again. Answer as for `StartChild`."""

    id: Hashable


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget the spec of a stopped child. Answer: None."""

    id: Hashable


class WhichChildren(NamedTuple):
    """Describe all children. Answer: a list of `ChildInfo`, newest first."""


@dataclass(frozen=True, slots=True)
class WhichChild:
    """Describe a child. Answer: its `ChildInfo`."""

    id: Hashable


class CountChildren(NamedTuple):
    """Count the children. Answer: `Counts`."""


@dataclass(frozen=True, slots=True)
class GetSpec:
    """Fetch the spec of a child. Answer: its `ChildSpec`."""

    id: Hashable


@dataclass(frozen=True, slots=True)
class ChangeSpecs:
    """New specs and flags for a live supervisor: running children stay, new ones are not started. Answer: None."""

    children: Sequence[Any]
    flags: Flags | None = None


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """A child at one moment; `ref` is None while it is down or restarting."""

    id: Hashable
    ref: ActorRef[Any] | None
    status: str
    type: str
    modules: tuple[str, ...]
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of children: specs, of these active, and by type."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A supervisor's refusal: a word of OTP's for the reason, and what goes with it."""

    reason: str
    ref: ActorRef[Any] | None = None
    exit: Exit | None = None
    spec: ChildSpec | None = None
