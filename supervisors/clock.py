"""The real monotonic clock, for whatever must go on while a test has stopped the clocks of the program.

freezegun and its like put a function of their own in the place of `time.monotonic`, in every module that holds it by
name; a loop whose `time` stands still never comes to its timers. What is kept here is out of their reach.
"""

from __future__ import annotations

import importlib.util
import time
from types import BuiltinFunctionType
from typing import Any, Final

__all__ = ["clock"]


def _monotonic() -> Any:
    if isinstance(time.monotonic, BuiltinFunctionType):
        return time.monotonic
    spec = importlib.util.find_spec("time")  # stopped before this was imported: a second copy of the module has its own
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh.monotonic


class _Clock:
    """`now()`: seconds of the monotonic clock; `worked()`: seconds of CPU time of this thread. Attributes of an object, which nobody
    patches by the way."""

    __slots__ = ()
    now = staticmethod(_monotonic())
    worked = staticmethod(time.thread_time)


clock: Final = _Clock()
