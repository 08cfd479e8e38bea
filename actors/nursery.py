"""The nursery: a process that forks a child for each tool with `isolation="process"`. Runs as a program, knows nothing of actors.

It has one thread and little in memory, so that a fork is safe and takes 2 ms. It alone reaps its children, so that it never kills a
process that merely has the id of a dead one. A child leads a process group of its own, and is killed with all that is in it. What a child
leaves outside of its group (a daemon in a session of its own) is inherited by that child while it lives, and by the nursery when it has
ended (see `offspring.py`): so that a process which is the nursery's, and is none of its children, belongs to nobody and is killed.
When the connection to the bot ends, for whatever reason, the nursery kills all children and ends.

Frames, both ways: a header (kind, number of the job, an extra number, length), then so many bytes. While there are children, the bot
hears something at least every half second (`ALIVE`): a nursery that is stopped or stuck is known by its silence.

A child writes its result as one frame: a seal (random bytes that only this child was given), a length, the data. The handler's code runs
in that child, and may write to any descriptor: what does not begin with the seal ends the job as crashed.
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

from allm.actors.offspring import children_of, inherit, kill, load
from allm.actors.toolwork import Work, awaitable, conclude, finished, said
from allm.environment import environment
from allm.errors import ErrorInfo, ToolError

__all__ = ["ALIVE", "ENDED", "FORGED", "HEADER", "KILL", "NOT_FORKED", "PARCEL", "RESULT", "SPAWN", "STARTED", "STARTING", "main"]

HEADER: Final = struct.Struct("!BQqQ")
SPAWN: Final = 1
"""To the nursery: run this pickled work; extra: the most bytes that its result may have."""
KILL: Final = 2
STARTING: Final = 3
"""From the nursery, before the fork: from here on the handler may have run."""
STARTED: Final = 4
"""Extra: the process id."""
RESULT: Final = 5
ENDED: Final = 6
"""The child is gone and reaped; extra: its exit code, minus the signal that ended it, NOT_FORKED or FORGED."""
ALIVE: Final = 7
"""Of no job: the nursery has started, or has children and nothing else to say."""
NOT_FORKED: Final = 1000
FORGED: Final = 1001
"""The child wrote what is no result, and was killed."""

PARCEL: Final = struct.Struct("!Q")
"""What SPAWN carries: this length, so many bytes of environment variables (JSON), the pickled work."""
_FRAME: Final = struct.Struct("!16sQ")
_BEAT: Final = 0.5
_NICE: Final = 10
"""Below the bot: a hundred endless loops kept its event loop waiting for 2.3 s on two cores, and the nursery from killing them."""
_CHUNK: Final = 1 << 20
_WAITID: Final = hasattr(os, "waitid")


class _Child:
    """A child and what came of its result."""

    __slots__ = ("data", "forged", "limit", "number", "pid", "pipe", "seal", "told")

    def __init__(self, number: int, pid: int, pipe: int, limit: int, seal: bytes) -> None:
        self.number = number
        self.pid = pid
        self.pipe = pipe
        self.limit = limit
        self.seal = seal
        self.data = bytearray()
        self.told = False
        self.forged = False

    def take(self, data: bytes) -> memoryview | None:
        """The whole result, once it is there. Sets `forged` at the first byte that cannot be of one."""
        self.data += data
        self.forged = not self.seal.startswith(self.data[: len(self.seal)])
        if self.forged or len(self.data) < _FRAME.size:
            return None
        size: int = _FRAME.unpack_from(self.data)[1]
        end = _FRAME.size + size
        self.forged = size > self.limit or len(self.data) > end
        return memoryview(self.data)[_FRAME.size : end] if len(self.data) == end else None


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
        self._heir = load() and inherit()

    def run(self) -> None:
        """Until the connection ends. Raises EOFError or OSError then."""
        beat = 0.0
        while True:
            for key, _ in self._selector.select(_BEAT if self._children else None if beat else 0):
                if key.fd in self._selector.get_map():  # not closed since
                    key.data()
            now = time.monotonic()
            if now >= beat + _BEAT and (self._children or not beat):
                self._tell(ALIVE, 0)
                beat = now

    def end(self) -> None:
        """Kill all children, and what they leave behind."""
        for child in self._children.values():
            kill(child.pid)
        deadline = time.monotonic() + 1
        pids = {child.pid for child in self._children.values()}
        while time.monotonic() < deadline:
            pids = {pid for pid in pids if _reaped(pid) is None}
            if not pids and not self._bury_orphans(pids):
                break
            time.sleep(0.005)

    # what the bot wants

    def _command(self) -> None:
        kind, number, extra, length = HEADER.unpack(self._exactly(HEADER.size))
        data = self._exactly(length)
        if kind == SPAWN:
            self._spawn(number, extra, data)
        elif kind == KILL and (child := self._children.get(number)) is not None:
            child.told = True  # nobody waits for it
            kill(child.pid)

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
        self._tell(STARTING, number)
        read, write = os.pipe()
        seal = os.urandom(16)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(read)
            os.close(write)
            self._tell(ENDED, number, NOT_FORKED, str(error).encode())
            return
        if pid == 0:
            self._grow_up(read, write, work, limit, seal)
        os.close(write)
        os.set_blocking(read, False)
        child = self._children[number] = _Child(number, pid, read, limit, seal)
        self._selector.register(read, selectors.EVENT_READ, lambda: self._read(child))
        self._tell(STARTED, number, pid)

    # what the children do

    def _read(self, child: _Child) -> None:
        """Take what a child has written. A whole result is passed on; the child has nothing more to do."""
        while child.pipe >= 0:
            try:
                data = os.read(child.pipe, _CHUNK)
            except BlockingIOError:
                return
            result = child.take(data) if data else None
            if result is not None:
                if not child.told:
                    child.told = True
                    self._tell(RESULT, child.number, 0, result)
                result.release()
            if not data or child.told or child.forged:
                self._close(child)
                if data:
                    kill(child.pid)

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
                self._tell(ENDED, child.number, FORGED if child.forged else code)
        self._bury_orphans({child.pid for child in self._children.values()})

    def _bury_orphans(self, known: set[int]) -> set[int]:
        """Kill and reap what children left behind that have ended; what it leaves behind in turn comes at the next signal."""
        orphans = children_of(os.getpid()) - known if self._heir else set[int]()
        for pid in orphans:
            kill(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return orphans

    # in the child

    def _grow_up(self, read: int, write: int, work: bytearray, limit: int, seal: bytes) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)  # no session of its own: Linux would give each of them as much of the processors as the whole bot
            inherit()
            os.nice(_NICE)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (read, *self._wakers, *(child.pipe for child in self._children.values() if child.pipe >= 0)):
                os.close(end)
            self._selector.close()
            self._control.close()
            gc.enable()
            _write(write, seal, _perform(work, limit))
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
        end = PARCEL.size + PARCEL.unpack_from(data)[0]
        environment.adopt(msgspec.json.decode(data[PARCEL.size : end], type=dict[str, str]))
        work: Work = cloudpickle.loads(memoryview(data)[end:])
    except BaseException as error:
        message = f"the tool cannot be loaded in a process of its own: {said(error)}"
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
    if awaitable(value):
        import asyncio  # 50 ms, and few tools in processes need it

        value = asyncio.run(finished(lambda: value))
    return value


def _write(pipe: int, seal: bytes, result: bytes) -> None:
    for data in (_FRAME.pack(seal, len(result)), result):
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view) :]


# processes


def _woken(number: int, frame: Any) -> None:
    """A signal is only there to write to the wake-up pipe."""


def _ended(pid: int) -> bool:
    """Whether it is a zombie; where the system does not tell, it may be."""
    return not _WAITID or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reaped(pid: int) -> int | None:
    """The exit code, or minus the signal, if it has ended. What is left of its group is killed first: now the id is still its own."""
    if not _ended(pid):
        return None
    if _WAITID:
        kill(pid)
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def main(fd: int) -> NoReturn:
    """The program. `fd` is its end of the connection to the bot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bot decides when it is over
    os.set_inheritable(fd, False)
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
