"""Several copies of one child, each responsible for its share of the keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pykka import ActorRef

from allm.supervisors import decisions
from allm.supervisors.cell import cell_of
from allm.supervisors.exits import NOPROC, ActorExited
from allm.supervisors.keys import key_number
from allm.supervisors.names import Address, call, resolve
from allm.supervisors.policy import Strategy
from allm.supervisors.requests import Refused
from allm.supervisors.slots import Slot
from allm.supervisors.spec import ChildSpec, SpecError
from allm.supervisors.supervisor import Supervisor
from allm.supervisors.timers import Timers

__all__ = ["PartitionSupervisor", "Partitioned", "count_partitions", "partition_for", "resize_partitions"]


@dataclass(frozen=True, slots=True)
class Resize:
    """Answer: the number of partitions there were."""

    partitions: int


class PartitionSupervisor(Supervisor):
    """`partitions` children with the ids 0, 1, ...; `with_arguments(args, index)` gives each its own arguments."""

    handlers: ClassVar[dict[type, str]] = {**Supervisor.handlers, Resize: "_resize"}

    def __init__(
        self,
        child: ChildSpec | Mapping[str, Any],
        *,
        partitions: int | None = None,
        with_arguments: Callable[[tuple[Any, ...], int], tuple[Any, ...]] | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        timers: Timers | None = None,
    ) -> None:
        count = partitions if partitions is not None else os.cpu_count() or 1
        if type(count) is not int or count < 1:
            raise SpecError("invalid_partitions", count)
        spec = ChildSpec.of(child)
        shares = [_share(spec, index, with_arguments) for index in range(count)]
        super().__init__(shares, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, timers=timers)
        self.size = self._most = count

    def slot_for(self, key: Hashable) -> Slot | None:
        """The slot a key belongs to. Any thread."""
        size = self.size
        if size == 0:
            raise ValueError("there are no partitions")
        return self.slot(key_number(key) % size)

    def _resize(self, request: Resize) -> Any:
        wanted, before = request.partitions, self.size
        if type(wanted) is not int or not 0 <= wanted <= self._most:
            return Refused("invalid_partitions")
        self.size = wanted
        return self._keeper.feed(decisions.Arrange(range(wanted, self._most), range(wanted), self.later(), before))


def _share(spec: ChildSpec, index: int, with_arguments: Callable[[tuple[Any, ...], int], tuple[Any, ...]] | None) -> ChildSpec:
    function, args, *more = spec.start
    own = tuple(args) if with_arguments is None else with_arguments(tuple(args), index)
    start: Any = (function, own, *more)
    return replace(spec, id=index, start=start)


def _body(supervisor: Address) -> PartitionSupervisor:
    cell = cell_of(resolve(supervisor))
    body = cell.body if cell is not None else None
    if not isinstance(body, PartitionSupervisor):
        raise ActorExited(str(supervisor), NOPROC)
    return body


def partition_for(supervisor: Address, key: Hashable) -> ActorRef[Any]:
    """The partition that is responsible for a key, the same one for all keys that equal it, in every process (see `keys`).

    ValueError when there are none; TypeError for a key that no rule can place.
    """
    slot = _body(supervisor).slot_for(key)
    if slot is None or slot.ref is None:
        raise ActorExited(f"the partition of {key!r}", NOPROC)
    return slot.ref


def count_partitions(supervisor: Address) -> int:
    """The number of partitions."""
    return _body(supervisor).size


def resize_partitions(supervisor: Address, count: int, timeout: float | None = 5.0) -> int:
    """Stop the partitions above `count`, or start them again; never more than there were at first."""
    return resized(call(supervisor, Resize(count), timeout), count)


def resized(answer: Any, count: int) -> int:
    """The answer to a `Resize`; ValueError when it was refused."""
    if isinstance(answer, Refused):
        raise ValueError(f"the number of partitions must be between 0 and the initial one, not {count}")
    return int(answer)


@dataclass(frozen=True, slots=True)
class Partitioned:
    """The partition of a key as a name for `call` and `cast`."""

    supervisor: ActorRef[Any]
    key: Hashable

    def whereis(self) -> ActorRef[Any] | None:
        """The partition now."""
        try:
            return partition_for(self.supervisor, self.key)
        except ActorExited:
            return None
