"""Handlers that a process of its own imports by name: next to nothing is imported with them."""

# pyright: reportPrivateUsage=false

import ctypes
import os
import signal
import struct
import sys
import time
from typing import Any

import msgspec

import allm
from allm.tools import ToolOutcome


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


def environment() -> list[str]:
    """The names of its variables; no value that must not be there was there when it began."""
    with open("/proc/self/environ") as file:
        assert "CANARY" not in file.read()
    return sorted(os.environ)


def spray(data: bytes) -> None:
    """Writes to every descriptor there is, but the three that everybody has."""
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            pass


def seal() -> bytes:
    """The seal of this process, as its frames give it away to who looks for it."""
    frame: Any = sys._getframe()
    while "seal" not in frame.f_locals or not isinstance(frame.f_locals["seal"], bytes):
        frame = frame.f_back
    return bytes(frame.f_locals["seal"])


def forged(id: str) -> bytes:
    return msgspec.msgpack.encode(ToolOutcome(id=id, name="handler", content="FORGED", result="FORGED"))


def framed(id: str) -> bytes:
    return struct.pack("!Q", len(forged(id))) + forged(id)


def sealed(data: bytes) -> bytes:
    return seal() + struct.pack("!Q", len(data)) + data


def daemon(pids: int, wait: float = 60) -> None:
    """Starts a process in a session of its own, which nobody is the parent of, and writes its id."""
    if os.fork() == 0:
        os.setsid()
        inner = os.fork()
        if inner == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(wait)
        else:
            os.write(pids, f"{inner}\n".encode())
        os._exit(0)


class Hostile:
    """Raises at every look, in whatever thread, and with what ends a thread."""

    def _raise(self, *_: Any, **__: Any) -> Any:
        raise SystemExit("looked at")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __reduce_ex__ = __reduce__ = __format__ = _raise
    __class__ = property(_raise)  # pyright: ignore
    __getattr__ = _raise


class Failure(Exception):
    """The same, raised."""

    __class__ = property(Hostile._raise)  # pyright: ignore
    __str__ = __repr__ = Hostile._raise  # pyright: ignore
    __traceback__ = property(Hostile._raise)  # pyright: ignore


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # pyright: ignore
        raise ValueError("no name")


class Nameless(Exception, metaclass=Meta):
    pass


def gives() -> Any:
    return Hostile()


def fails() -> Any:
    raise Failure


def nameless() -> Any:
    raise Nameless


def inside() -> Any:
    return {"rows": [Hostile()], "n": 1}


async def gives_later() -> Any:
    return Hostile()


async def fails_later() -> Any:
    raise Failure


def asks() -> Any:
    return allm.halt("mine", Hostile())
