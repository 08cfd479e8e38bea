"""The nursery: a process that forks a child for each tool with `isolation="process"`. Runs as a program, knows nothing of actors.

It has one thread and little in memory, so that a fork is safe and takes 2 ms. It alone reaps its children, so that it never kills a
process that merely has the id of a dead one. A child leads a process group of its own, and is killed with all that is in it. When the
connection to the bot ends, for whatever reason, the nursery kills all children and ends.

Frames, both ways: a header (kind, number of the job, an extra number, length), then so many bytes.
"""

import gc
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn

import cloudpickle
import msgspec

from allm.actors.toolwork import Work, conclude, finished
from allm.errors import ErrorInfo, ToolError

__all__ = ["ENDED", "HEADER", "KILL", "RESULT", "SPAWN", "STARTED", "main"]

HEADER: Final = struct.Struct("!BQqQ")
SPAWN: Final = 1
"""To the nursery: run this pickled work; extra: the most bytes that its result may have."""
KILL: Final = 2
STARTED: Final = 3
"""From the nursery; extra: the process id."""
RESULT: Final = 4
ENDED: Final = 5
"""The child is gone and reaped; extra: its exit code, minus the signal that ended it, or NOT_FORKED."""
NOT_FORKED: Final = 1000

_LENGTH: Final = struct.Struct("!Q")
_NICE: Final = 10
"""Below the bot: a hundred endless loops kept its event loop waiting for 2.3 s on two cores, and the nursery from killing them."""
_CHUNK: Final = 1 << 20
_WAITID: Final = hasattr(os, "waitid")


class _Child:
    """A child and what came of its result."""

    __slots__ = ("data", "limit", "number", "pid", "pipe", "told")

    def __init__(self, number: int, pid: int, pipe: int, limit: int) -> None:
        self.number = number
        self.pid = pid
        self.pipe = pipe
        self.limit = limit
        self.data = bytearray()
        self.told = False

    @property
    def result(self) -> memoryview | None:
        """The whole result, once it is there."""
        if len(self.data) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self.data)[0]
        return memoryview(self.data)[_LENGTH.size : end] if len(self.data) >= end else None


class Nursery:
    """The parent's side of all children. One thread; it blocks on nothing but the connection to the bot."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}  # by number
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._command)
        self._waker, waker = os.pipe()
        for end in (self._waker, waker):
            os.set_blocking(end, False)
        self._wakers = (self._waker, waker)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _woken)
        self._selector.register(self._waker, selectors.EVENT_READ, self._reap)

    def run(self) -> None:
        """Until the connection ends. Raises EOFError or OSError then."""
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._selector.get_map():  # not closed since
                    key.data()

    def end(self) -> None:
        """Kills all children."""
        for child in self._children.values():
            _kill(child.pid)
        deadline = time.monotonic() + 1
        pids = {child.pid for child in self._children.values()}
        while pids and time.monotonic() < deadline:
            pids = {pid for pid in pids if _reaped(pid) is None}
            if pids:
                time.sleep(0.005)

    # what the bot wants

    def _command(self) -> None:
        kind, number, extra, length = HEADER.unpack(self._exactly(HEADER.size))
        data = self._exactly(length)
        if kind == SPAWN:
            self._spawn(number, extra, data)
        elif kind == KILL and (child := self._children.get(number)) is not None:
            child.told = True  # nobody waits for it
            _kill(child.pid)

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            got = self._control.recv_into(view[have:])
            if not got:
                raise EOFError
            have += got
        return data

    def _tell(self, kind: int, number: int, extra: int = 0, data: Any = b"") -> None:
        self._control.sendall(HEADER.pack(kind, number, extra, len(data)))
        if data:
            self._control.sendall(data)

    def _spawn(self, number: int, limit: int, work: bytearray) -> None:
        read, write = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(read)
            os.close(write)
            self._tell(ENDED, number, NOT_FORKED, str(error).encode())
            return
        if pid == 0:
            self._grow_up(read, write, work, limit)
        os.close(write)
        os.set_blocking(read, False)
        child = self._children[number] = _Child(number, pid, read, limit)
        self._selector.register(read, selectors.EVENT_READ, lambda: self._read(child))
        self._tell(STARTED, number, pid)

    # what the children do

    def _read(self, child: _Child) -> None:
        """Takes what a child has written. A whole result is passed on; the child has nothing more to do."""
        while child.pipe >= 0:
            try:
                data = os.read(child.pipe, _CHUNK)
            except BlockingIOError:
                return
            child.data += data
            if (result := child.result) is not None and not child.told:
                child.told = True
                self._tell(RESULT, child.number, 0, result)
                result.release()
            too_much = len(child.data) > child.limit + _LENGTH.size  # it wrote past its own check: no word of it is taken
            if not data or child.told or too_much:
                self._close(child)
                if data:
                    _kill(child.pid)

    def _close(self, child: _Child) -> None:
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        child.pipe, child.data = -1, bytearray()

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._waker, 4096)
        for child in list(self._children.values()):
            if not _ended(child.pid):
                continue
            self._read(child)
            if child.pipe >= 0:  # a process that it left behind holds the other end
                self._close(child)
            code = _reaped(child.pid)
            if code is not None:
                del self._children[child.number]
                self._tell(ENDED, child.number, code)

    # in the child

    def _grow_up(self, read: int, write: int, work: bytearray, limit: int) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)  # no session of its own: Linux would give each of them as much of the processors as the whole bot
            os.nice(_NICE)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (read, *self._wakers, *(child.pipe for child in self._children.values() if child.pipe >= 0)):
                os.close(end)
            self._selector.close()
            self._control.close()
            gc.enable()
            _write(write, _perform(work, limit))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            os._exit(status)


def _perform(data: bytearray, limit: int) -> bytes:
    """What becomes of pickled work: a ToolOutcome, or an ErrorInfo where the work could not even be read."""
    began = time.monotonic()
    try:
        work: Work = cloudpickle.loads(bytes(data))
    except BaseException as error:
        message = f"the tool cannot be loaded in a process of its own: {type(error).__name__}: {error}"
        return msgspec.msgpack.encode(ErrorInfo("tool", "not_portable", message))
    value, failure = None, None
    try:
        value = _value_of(work)
    except BaseException as error:
        failure = error
    result = msgspec.msgpack.encode(conclude(work, began, value, failure))
    if len(result) > limit:
        message = f"the result of {work.call.name} is too large: {len(result)} bytes, at most {limit} are allowed; ask for less"
        refused = ToolError("result_too_large", message, metadata={"size": len(result), "max_result": work.tool.max_result})
        result = msgspec.msgpack.encode(conclude(work, began, error=refused))
    return result


def _value_of(work: Work) -> Any:
    value = work.begin()
    if hasattr(value, "__await__"):
        import asyncio  # 50 ms, and few tools in processes need it

        value = asyncio.run(finished(lambda: value))
    return value


def _write(pipe: int, result: bytes) -> None:
    for data in (_LENGTH.pack(len(result)), result):
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view) :]


# processes


def _woken(number: int, frame: Any) -> None:
    """A signal is only there to write to the wake-up pipe."""


def _kill(pid: int) -> None:
    """A child that is not reaped yet, and its group. It may not have come so far as to lead one."""
    for kill in (os.kill, os.killpg):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _ended(pid: int) -> bool:
    """Whether it is a zombie; where the system does not tell, it may be."""
    return not _WAITID or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reaped(pid: int) -> int | None:
    """The exit code, or minus the signal, if it has ended. What is left of its group is killed first: now the id is still its own."""
    if not _ended(pid):
        return None
    if _WAITID:
        _kill(pid)
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def main(fd: int) -> NoReturn:
    """The program. `fd` is its end of the connection to the bot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bot decides when it is over
    nursery = Nursery(socket.socket(fileno=fd))
    import_module("allm.engine")  # in nearly every work: loaded once here, not by each child
    gc.collect()
    gc.freeze()
    gc.disable()  # what is not touched is not copied for the children
    try:
        nursery.run()
    except (EOFError, OSError):
        pass
    finally:
        nursery.end()
    os._exit(0)
