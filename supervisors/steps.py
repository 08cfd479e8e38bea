"""What takes several steps, one after the other, without blocking whoever runs them.

A step may wait for a child; then the queue rests until that child reports. Work that must not mix with what is going
on is held until the queue is empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from allm.supervisors.slots import Slot

__all__ = ["Step", "Steps"]

Step: TypeAlias = Callable[[], None]


class Steps:
    """The queue of one supervisor; runs on its thread."""

    def __init__(self) -> None:
        self._queue: deque[Step] = deque()
        self._held: deque[Step] = deque()
        self.waiting: Slot | None = None

    @property
    def busy(self) -> bool:
        """Whether something is going on."""
        return self.waiting is not None or bool(self._queue)

    def add(self, steps: Iterable[Step]) -> None:
        """Put steps at the end of what is going on; `advance` runs them."""
        self._queue.extend(steps)

    def when_idle(self, step: Step) -> None:
        """Run this once nothing is going on: now, if that is so."""
        self._held.append(step)
        if not self.busy:
            self.advance()

    def clear(self, *, held: bool = False) -> None:
        """Forget the steps to come, and with `held` what waits for them."""
        self._queue.clear()
        if held:
            self._held.clear()

    def resume(self, slot: Slot) -> None:
        """This child has reported: go on, if it was waited for."""
        if self.waiting is slot:
            self.waiting = None
        self.advance()

    def advance(self) -> None:
        """Run steps until one waits; then what is held, one by one."""
        while self.waiting is None:
            if self._queue:
                self._queue.popleft()()
            elif self._held:
                self._held.popleft()()
            else:
                return
