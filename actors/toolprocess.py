"""The bot's side of tools in processes: one nursery (see `nursery.py`) for each runtime, started when the first such tool is called.

All that may block (starting the nursery, writing to it, reading from it) takes place on two threads of its own: a payload of megabytes
on its way through a socket, or a result of that size that is taken apart, would hold up every stream on the loop.

At most `limits().processes` children run at once; who comes later waits here, in the order of arrival. A nursery that is silent for
longer than it may be (it was stopped, or is stuck) is killed with all its descendants; jobs that had not begun go to the next one.
"""

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from pykka import ActorRef

from allm.actors.engine import put
from allm.actors.nursery import ALIVE, ENDED, FORGED, HEADER, KILL, NOT_FORKED, PARCEL, RESULT, SPAWN, STARTED, STARTING
from allm.actors.offspring import kill_trees
from allm.actors.pickling import dumps
from allm.actors.tooljob import ToolJob
from allm.actors.toolwork import NoResources, Work, said
from allm.environment import environment
from allm.errors import ErrorInfo, ToolError
from allm.limits import limits
from allm.supervisors import Actor, Exit, log
from allm.supervisors.clock import clock
from allm.tools import ToolContext

__all__ = ["Arrived", "KillProcess", "Nursery", "NurseryProcess", "Processes", "Spawn", "parcel", "pickled", "supported"]

_BOOT: Final = "import json, sys; sys.path[:] = json.load(sys.stdin); from allm.actors.nursery import main; main({fd})"
_LAST: Final = 2.0
"""Seconds in which a nursery that was let go ends; then it is killed."""
_START: Final = 30
"""Seconds in which a nursery must have begun to speak."""
_SILENT: Final = 4
"""Seconds for which a nursery with children may be silent: it speaks twice a second."""
_MOST: Final = 1 << 40


class Spawn(NamedTuple):
    """Run this parcel of work in a process; `ref` gets an `Arrived`."""

    job: ToolJob
    ref: ActorRef[Any]
    data: bytes


class KillProcess(NamedTuple):
    """End the process of this job, if there is one."""

    job_id: str


class Arrived(NamedTuple):
    """What came of a process: the bytes of its outcome, or the error that there are none."""

    data: bytearray | None
    error: ErrorInfo | None


def supported() -> bool:
    """Whether this platform has what it takes: a fork, and a Python to start."""
    return hasattr(os, "fork") and bool(sys.executable) and not getattr(sys, "frozen", False)


def parcel(work: Work) -> bytes:
    """The work and the environment variables that its tool asks for, as bytes for a process. Raises ToolError("not_portable")."""
    wanted = json.dumps(environment.named(work.tool.environment)).encode()
    return b"".join((PARCEL.pack(len(wanted)), wanted, pickled(work)))


def pickled(work: Work) -> bytes:
    """The work as bytes, for a process. Raises ToolError("not_portable").

    Of the context go what is plain: `context`, `session_id`, `request_id`, `tool_call`, and the engine if it can, without its keys.
    """
    context = work.context
    own = context.engine
    if own is not None:
        own = own.without_secrets()
    failure = Exception()
    for engine in (own, None) if own is not None else (None,):
        plain = ToolContext(
            context=dict(context.context),
            resources=NoResources(),
            session_id=context.session_id,
            request_id=context.request_id,
            tool_call=context.tool_call,
            engine=engine,
        )
        try:
            return dumps(Work(work.tool, work.call, plain, work.executor, work.encoder))
        except Exception as error:  # whatever the parts of it raise when they are pickled
            failure = error
    raise ToolError("not_portable", f"{work.call.name} cannot be sent to a process of its own: {said(failure)}") from None


class NurseryProcess:
    """The process and the connection to it. `spawn` and `kill` block until they are written; `cut` may be called from any thread."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, tuple[ToolJob, ActorRef[Any]]] = {}
        self._pids: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._patience = _START
        with theirs:
            fd = theirs.fileno()
            command = [sys.executable, *_flags(), "-c", _BOOT.format(fd=fd)]
            try:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, pass_fds=[fd], start_new_session=True, env=environment.for_children()
                )
            except OSError:
                self._socket.close()
                raise
        self.reader = threading.Thread(target=self._read, name="allm-tools-nursery", daemon=True)

    @property
    def running(self) -> int:
        """How many children there are, or will be as soon as it comes round to it."""
        return len(self._jobs)

    def start(self, lost: Callable[[], object], freed: Callable[[], object]) -> None:
        """Tell it where to import from. Calls `freed()` when a child has ended, and `lost()` when the process itself has."""
        self._lost, self._freed = lost, freed
        self.reader.start()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(json.dumps([path for path in sys.path if isinstance(path, str)]).encode())

    def spawn(self, job: ToolJob, ref: ActorRef[Any], data: bytes) -> None:
        """Has the work run. A process that has ended is told by `lost`."""
        number = next(self._numbers)
        self._jobs[number] = job, ref
        job.asked = clock.now()
        # The result goes as text, of four bytes a character, and as data, where a number of two characters may take nine.
        self._send(SPAWN, number, 9 * min(job.tool.max_result, _MOST) + 65_536, data)

    def kill(self, job_id: str) -> None:
        """Has the process of a job killed."""
        for number, (job, _) in list(self._jobs.items()):
            if job.id == job_id:
                self._send(KILL, number)

    def cut(self) -> None:
        """Lets it go: it kills its children and ends. Never blocks."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def inherited(self) -> None:
        """In a forked child: the nursery must see the end of the parent alone, and is not waited for here."""
        self._socket.close()
        self.process.returncode = 0

    def _send(self, kind: int, number: int, extra: int = 0, data: bytes = b"") -> None:
        with suppress(OSError):  # the reader sees the end, too
            self._socket.sendall(HEADER.pack(kind, number, extra, len(data)))
            if data:
                self._socket.sendall(data)

    # on the reader's thread

    def _read(self) -> None:
        try:
            while True:
                kind, number, extra, length = HEADER.unpack(self._exactly(HEADER.size))
                self._handle(kind, number, extra, self._exactly(length))
        except (EOFError, OSError):
            pass
        finally:
            self._end()
            self._lost()

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            self._listen()
            got = self._socket.recv_into(view[have:])
            if not got:
                raise EOFError
            have += got
        return data

    def _listen(self) -> None:
        """Wait until there is something to read. Raises EOFError if there is nothing for too long, while there should be.

        Counts seconds of waiting, and not the clock: after a sleep of the whole machine both sides are late.
        """
        silent = 0
        while not self._poll.poll(1000):
            silent = silent + 1 if self._jobs or self._patience == _START else 0
            if silent >= self._patience:
                log.warning("tool_nursery_silent", pid=self.process.pid, seconds=silent)
                kill_trees([self.process.pid])
                raise EOFError

    def _handle(self, kind: int, number: int, extra: int, data: bytearray) -> None:
        if kind == ALIVE:
            self._patience = _SILENT
            return
        job, ref = self._jobs[number]
        if kind == STARTING:
            job.began = clock.now()
        elif kind == STARTED:
            self._pids[number] = extra
        elif kind == RESULT:
            job.over = True
            put(ref, Arrived(data, None))
        elif kind == ENDED:
            del self._jobs[number]
            self._pids.pop(number, None)
            if not job.over:
                job.over = True
                put(ref, Arrived(None, _crash(job, extra, data.decode(errors="replace"))))
            self._freed()

    def _end(self) -> None:
        """The process has ended, or will. One that was killed leaves children behind, which nobody else knows of."""
        self.cut()
        try:
            self.process.wait(_LAST)
        except subprocess.TimeoutExpired:
            kill_trees([self.process.pid])
            self.process.wait()
        kill_trees(self._pids.values())
        self._socket.close()


def _flags() -> list[str]:
    """Start Python without the working directory on its path, and as isolated as this one is."""
    flags = sys.flags
    return ["-I"] if flags.isolated else ["-P", *(["-E"] if flags.ignore_environment else []), *(["-s"] if flags.no_user_site else [])]


def _crash(job: ToolJob, code: int, text: str) -> ErrorInfo:
    if code == NOT_FORKED:
        return job.info("crashed", f"no process could be started for {job.tool.name}: {text}")
    if code == FORGED:
        return job.info("crashed", f"the process of {job.tool.name} wrote something of its own where its result goes, and was ended")
    if code >= 0:
        return job.info("crashed", f"the process of {job.tool.name} exited with code {code} and gave no result", exit_code=code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return job.info("crashed", f"the process of {job.tool.name} was ended by {name}", signal=name)


class Processes(set[NurseryProcess]):
    """The nurseries of one runtime: one, or more while those that were lost come to their end."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._ended = False

    def start(self, lost: Callable[[], object], freed: Callable[[], object]) -> NurseryProcess:
        """Start another one; `lost` is called when it has ended, `freed` when one of its children has. Raises OSError."""

        def gone() -> None:
            self.discard(process)
            lost()

        with self._lock:
            if self._ended:
                raise OSError("the runtime was stopped")
            process = NurseryProcess()
            self.add(process)
            process.start(gone, freed)
            return process

    def end(self, timeout: float) -> None:
        """Lets go of all, and of one that is being started just now; there will be no more."""
        if self._lock.acquire(timeout=timeout):
            self._ended = True
            self._lock.release()
        for process in list(self):
            process.cut()


class Nursery(Actor):
    """Owns the process, and lives as long as that; on a thread of its own."""

    def __init__(self, processes: "Processes") -> None:
        super().__init__()
        self._processes = processes
        self._queue: deque[Spawn] = deque()

    def on_start(self) -> None:
        tell = self.actor_inbox.put_message
        self._process = process = self._processes.start(partial(tell, Lost()), partial(tell, Freed()))
        self.actor_inbox.cuts = [process.cut]
        if self.actor_inbox.exit is not None:  # killed meanwhile
            process.cut()

    def on_receive(self, message: Any) -> None:
        match message:
            case Spawn():
                self._queue.append(message)
                self._advance()
            case Freed():
                self._advance()
            case KillProcess(job_id):
                self._queue = deque(each for each in self._queue if each.job.id != job_id)
                self._process.kill(job_id)
            case Lost():
                self.exit(Exit("lost"))
            case _:
                super().on_receive(message)

    def _advance(self) -> None:
        """Start what waits, as many as may run."""
        while self._queue and self._process.running < limits().processes:
            job, ref, data = self._queue.popleft()
            if not job.settled:  # else it was cancelled on its way here, and its kill too
                self._process.spawn(job, ref, data)

    def on_exit(self, reason: Exit) -> None:
        self._process.cut()


class Freed(NamedTuple):
    """A child has ended: another one may start."""


class Lost(NamedTuple):
    """The nursery has ended."""
