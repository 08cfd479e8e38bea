"""Descendants of a process: taken in, found, killed.

On Linux a process can be made to inherit what its descendants leave behind (a "subreaper"): a daemon in a session of its own does not
escape to the init process, and shows up among the kernel's list of its heir's children. Elsewhere there is the process group alone.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["children_of", "inherit", "kill", "kill_trees", "load"]

_SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER."""
_libc: Any = None


def load() -> bool:
    """Load what `inherit` needs, before any fork. False where the system has no such thing."""
    global _libc
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        _libc = ctypes.CDLL(None)
        return hasattr(_libc, "prctl")
    except (ImportError, OSError):
        return False


def inherit() -> bool:
    """From now on this process is the parent of whatever its descendants leave behind. True if the system agreed."""
    return _libc is not None and _libc.prctl(_SUBREAPER, 1, 0, 0, 0) == 0


def children_of(pid: int) -> set[int]:
    """The direct children of a process, zombies included; none where the system does not tell."""
    found: set[int] = set()
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that ended just now
                found.update(map(int, (task / "children").read_text().split()))
    return found


def kill(pid: int) -> None:
    """Kill a child that is not reaped yet, and the group that it leads, if it has come so far as to lead one."""
    for send in (os.kill, os.killpg):
        with suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def kill_trees(roots: Iterable[int]) -> None:
    """Kill these processes with all their descendants. Each is stopped before its children are looked up: it has no more of them then."""
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
            waiting += children_of(pid)
    for pid in found:
        kill(pid)
