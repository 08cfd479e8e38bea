"""Handlers that a process of its own imports by name: next to nothing is imported with them."""

import ctypes
import os
import time


def pid_of(n: int) -> list[int]:
    return [os.getpid(), n]


def spin() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(30)


def hold() -> None:
    """Blocks in C, and keeps the interpreter's lock meanwhile."""
    ctypes.PyDLL(None).sleep(30)
