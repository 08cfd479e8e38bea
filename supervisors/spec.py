"""Child specs and supervisor flags: data, checked when made, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, Literal, TypeAlias, TypeGuard, cast, get_args

import pykka

from allm.supervisors.exits import SupervisionError
from allm.supervisors.lanes import Dispatcher, is_dispatcher
from allm.supervisors.policy import AutoShutdown, Backoff, Policy, RestartType, Strategy, is_time

__all__ = ["Child", "ChildSpec", "Flags", "Mailbox", "Shutdown", "SpecError", "Start", "check_specs"]

Shutdown: TypeAlias = "Literal['brutal_kill', 'infinity'] | float"
Start: TypeAlias = "tuple[Callable[..., Any], Iterable[Any]] | tuple[Callable[..., Any], Iterable[Any], Mapping[str, Any]]"
Child: TypeAlias = "ChildSpec | type[pykka.Actor] | Mapping[str, Any]"
"""What lists of children hold. A class stands for its own `spec`, under its name."""
Mailbox: TypeAlias = Literal["drop", "keep"]

_RESTARTS = get_args(RestartType)
_STRATEGIES = get_args(Strategy)
_AUTO = get_args(AutoShutdown)
_MAILBOXES = get_args(Mailbox)
_TYPES = ("worker", "supervisor")


class SpecError(SupervisionError, ValueError):
    """A spec or a set of flags that is refused; ``reason`` is a word for programs, ``value`` the culprit."""

    def __init__(self, reason: str, value: object = None) -> None:
        super().__init__(f"{reason}: {value!r}" if value is not None else reason)
        self.reason = reason
        self.value = value


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """The ways to start, restart and stop one child.

    `start` is ``(actor class or function, args)`` or ``(..., args, kwargs)``; a function returns the ref of an
    actor it started. `shutdown` is seconds to obey in, ``"infinity"`` or ``"brutal_kill"``; by default 5 seconds
    for workers and infinity for supervisors. `type` follows the class when not given. What is logged about the child is
    logged in `context` (a supervisor has none of its own: its loop serves everybody).
    """

    id: Hashable
    start: Start
    restart: RestartType = "permanent"
    shutdown: Shutdown | None = None
    type: Literal["worker", "supervisor"] | None = None
    significant: bool = False
    policy: Policy | None = None
    dispatcher: Dispatcher | None = None
    backoff: Backoff | None = None
    mailbox: Mailbox = "drop"
    max_redeliver: int = 0
    start_timeout: float | None = None
    context: Context | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.id is None:
            raise SpecError("missing_id")
        _check_start(self.start)
        if self.type is None:
            object.__setattr__(self, "type", getattr(self.start[0], "child_type", "worker"))
        if self.shutdown is None:
            object.__setattr__(self, "shutdown", "infinity" if self.type == "supervisor" else 5.0)
        try:
            hash(self.id)
        except TypeError:
            raise SpecError("invalid_id", self.id) from None
        if self.mailbox == "keep":
            _check_keep(self.start[0])
        # A spec is made for every dynamic child: the usual ones cost a look into a set.
        seconds: Any = self.shutdown
        usual = (self.restart, self.type, 5.0 if seconds.__class__ is float and 0.0 <= seconds < inf else seconds, self.mailbox)
        try:
            known = usual in _USUAL
        except TypeError:  # what strangers send cannot always be looked up
            known = False
        if self.policy is not None or self.dispatcher is not None or self.backoff is not None or self.context is not None:
            _check_parts(self)
        if not known or self.significant is not False or self.max_redeliver != 0 or self.start_timeout is not None:
            _check_fields(self)

    @classmethod
    def of(cls, value: Child) -> ChildSpec:
        """A spec from a spec, from an actor class, which says it by its `spec`, or from a mapping, whose unknown keys are ignored."""
        if isinstance(value, ChildSpec):
            return value
        if isinstance(value, type):
            return _of_class(cast("type[object]", value))
        if not isinstance(value, Mapping):
            raise SpecError("invalid_child_spec", value)
        if value.get("id") is None:
            raise SpecError("missing_id", dict(value))
        if "start" not in value:
            raise SpecError("missing_start", dict(value))
        return cls(**{key: value[key] for key in _NAMES if key in value})

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that the start function comes from."""
        return (getattr(self.start[0], "__module__", "?"),)


def _of_class(actor_class: type[object]) -> ChildSpec:
    if not issubclass(actor_class, pykka.Actor):
        raise SpecError("invalid_child_spec", actor_class)
    named: Callable[[str], ChildSpec] | None = getattr(actor_class, "spec", None)
    return named(actor_class.__name__) if named is not None else ChildSpec(actor_class.__name__, (actor_class, ()))


_USUAL = frozenset(
    [(restart, "worker", 5.0, mailbox) for restart in _RESTARTS for mailbox in _MAILBOXES]
    + [(restart, "supervisor", "infinity", "drop") for restart in _RESTARTS]
)
_NAMES = tuple(each.name for each in fields(ChildSpec))


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    """Whether it is a tuple, of whatever."""
    return isinstance(value, tuple)


def _check_start(start: Any) -> None:
    if start is None:
        raise SpecError("missing_start")
    size = len(start) if is_tuple(start) else 0
    if size not in (2, 3) or not callable(start[0]) or not isinstance(start[1], (tuple, list)):
        raise SpecError("invalid_start", start)
    if size == 3 and not isinstance(start[2], Mapping):
        raise SpecError("invalid_start", start)


def _check_keep(start: Any) -> None:
    """A mailbox is kept for actors that their supervisor makes, and those have a bound or none, but not both."""
    if getattr(start, "_actor_cell", None) is None:  # a function, or a class of plain Pykka actors
        raise SpecError("bad_combination", ("mailbox", "keep", "start", start))
    if getattr(start, "bound", None) is not None:
        raise SpecError("bad_combination", ("mailbox", "keep", "bound"))


def _check_fields(spec: ChildSpec) -> None:
    if spec.restart not in _RESTARTS:
        raise SpecError("invalid_restart_type", spec.restart)
    if spec.type not in _TYPES:
        raise SpecError("invalid_child_type", spec.type)
    if not _is_shutdown(spec.shutdown):
        raise SpecError("invalid_shutdown", spec.shutdown)
    if type(spec.significant) is not bool:
        raise SpecError("invalid_significant", spec.significant)
    if spec.significant and spec.restart == "permanent":
        raise SpecError("bad_combination", ("significant", "permanent"))
    if spec.mailbox not in _MAILBOXES:
        raise SpecError("invalid_mailbox", spec.mailbox)
    if type(spec.max_redeliver) is not int or spec.max_redeliver < 0:
        raise SpecError("invalid_max_redeliver", spec.max_redeliver)
    if spec.start_timeout is not None and (isinstance(spec.start_timeout, str) or not _is_shutdown(spec.start_timeout)):
        raise SpecError("invalid_start_timeout", spec.start_timeout)


def _check_parts(spec: ChildSpec) -> None:
    """The objects of a spec that have to be able to do something."""
    if spec.dispatcher is not None and not is_dispatcher(spec.dispatcher):
        raise SpecError("invalid_dispatcher", spec.dispatcher)
    if spec.policy is not None and (isinstance(spec.policy, type) or not callable(getattr(spec.policy, "decide", None))):
        raise SpecError("invalid_policy", spec.policy)
    if spec.backoff is not None and not isinstance(spec.backoff, Backoff):
        raise SpecError("invalid_backoff", spec.backoff)
    if spec.context is not None and not isinstance(spec.context, Context):
        raise SpecError("invalid_context", spec.context)


def _is_shutdown(value: object) -> bool:
    return is_time(value, endless=True) or value in ("brutal_kill", "infinity")


@dataclass(frozen=True, slots=True)
class Flags:
    """The rules by which a supervisor restarts and gives up. The budget is 3 restarts in 5 seconds."""

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        if self.strategy not in _STRATEGIES:
            raise SpecError("invalid_strategy", self.strategy)
        if type(self.max_restarts) is not int or self.max_restarts < 0:
            raise SpecError("invalid_intensity", self.max_restarts)
        if not is_time(self.max_seconds, endless=True) or not self.max_seconds > 0:
            raise SpecError("invalid_period", self.max_seconds)
        if self.auto_shutdown not in _AUTO:
            raise SpecError("invalid_auto_shutdown", self.auto_shutdown)

    @classmethod
    def of(cls, value: Flags | Mapping[str, Any]) -> Flags:
        """Flags from flags or a mapping; unknown keys are ignored."""
        if isinstance(value, Flags):
            return value
        if not isinstance(value, Mapping):
            raise SpecError("invalid_flags", value)
        names = ("strategy", "max_restarts", "max_seconds", "auto_shutdown")
        return cls(**{key: value[key] for key in names if key in value})


def check_specs(specs: Iterable[Child], auto_shutdown: AutoShutdown = "never") -> list[ChildSpec]:
    """The specs, checked, alone and together; nothing is started."""
    checked = [ChildSpec.of(spec) for spec in specs]
    seen: set[Hashable] = set()
    for spec in checked:
        if spec.id in seen:
            raise SpecError("duplicate_child_name", spec.id)
        seen.add(spec.id)
        check_significant(spec, auto_shutdown)
    return checked


def check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """A significant child needs a supervisor that looks at it."""
    if spec.significant and auto_shutdown == "never":
        raise SpecError("bad_combination", ("auto_shutdown", "never", "significant"))


def bare(spec: ChildSpec) -> ChildSpec:
    """The spec without its start arguments: what is kept of a child that will not be started again."""
    copy = object.__new__(ChildSpec)
    for name in _NAMES:
        object.__setattr__(copy, name, getattr(spec, name))
    object.__setattr__(copy, "start", (spec.start[0], ()))
    return copy
