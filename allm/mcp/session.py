"""One life of an MCP server: from its start to its end, on an event loop and a thread of its own.

The SDK's session lives on that loop alone; calls come from other threads by `submit` and go back as futures, each of which is resolved,
whatever becomes of the server. What the server says is bounded, see `lines.py`, `transports.py` and `offers.py`; where it falls silent, or
refuses, a ping finds out whether this session is still of use.
"""

import asyncio
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, NamedTuple

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

from allm.errors import AllmError, ToolError
from allm.limits import limits
from allm.mcp.lines import Lines
from allm.mcp.offers import usable
from allm.mcp.results import value_of
from allm.mcp.server import Server
from allm.mcp.transports import LOST, UNREACHABLE, HttpClient, SpawningLoop, open_transport, status_of
from allm.supervisors import log
from allm.version import __version__

__all__ = ["Listed", "Lost", "Session", "Undelivered"]

_START: Final = 30.0
"""Seconds that a server may take to start and to tell its tools."""
_PAGES: Final = 100
_RELISTEN: Final = 1.0
_RELIST: Final = 0.1
"""Seconds between two lists of tools: a server may say without end that they have changed."""
_STEPS: Final[tuple[tuple[float, str], ...]] = ((1.0, "SIGTERM"), (0.5, "SIGKILL"), (2.0, ""))
"""How a server is ended: its input is closed at once, and after so many seconds its process group gets this signal."""
_CLOSED: Final = "Connection closed"
"""The SDK's words to who writes, or waits, when the connection ends; with the same code servers may say what they like."""
_HOPELESS: Final = frozenset({401, 403, 404, 405})
_PING: Final = 5.0
"""Seconds in which a server that is of use answers a ping."""
_TOLD: Final = 10
"""Lines that are no messages which one session writes to the log; more would fill it."""
_FORGOTTEN: Final = re.compile(
    r"(?i)\bsession|(?:not|un|never) ?(?:been )?initiali[sz]ed|before initiali[sz]|\b(?:no|unknown|invalid) (?:transport|connection)"
)
_TOO_MANY: Final = 429
_NEEDS: Final = {"Sampling": "sampling", "Elicitation": "elicitation", "List roots": "roots"}

# The SDK writes to the log what it reads and cannot parse. That is for who wants to see it, not for everybody's standard error.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class Listed(NamedTuple):
    """The server has told its tools: it is up, or they have changed."""

    session: "Session"
    tools: tuple[types.Tool, ...]


class Lost(NamedTuple):
    """The session is over. `hopeless`: the next one would end alike. `up`: seconds that it served."""

    session: "Session"
    message: str
    hopeless: bool
    up: float


class Undelivered(Exception):
    """The server has not got this call: it may be made again."""


class Session:
    """Starts when it is made. `tell` gets a `Listed` for each list of tools and one `Lost` in the end, on its own thread."""

    def __init__(self, server: Server, tell: Callable[[Listed | Lost], object]) -> None:
        self._server = server
        self._tell = tell
        self._loop = SpawningLoop()
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self._closed = False
        self._since: float | None = None
        self._gone: str | None = None
        self._changed = asyncio.Event()
        self._stale = False
        self._http: HttpClient | None = None
        self._ping: asyncio.Task[bool] | None = None
        self._doubts: set[asyncio.Task[None]] = set()
        self._ignored = 0
        self._loop.lines = Lines(limits().frame, self._ignore, self.lose)
        self._main = self._loop.create_task(self._live())
        self.thread = threading.Thread(target=self._run, name=f"allm-mcp {server.name}", daemon=True)
        self.thread.start()

    # any thread

    def submit(self, tool: str, arguments: dict[str, Any]) -> "Future[Any]":
        """The value of a call; fails with a ToolError, or with Undelivered. Cancelling it cancels the call at the server."""
        work = self._call(tool, arguments)
        with self._lock:
            if self._closed:
                work.close()
                raise Undelivered
            future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    def end(self) -> None:
        """Ends the server, kindly first; returns when it is gone, after a few seconds at most."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._main.cancel)
        for patience, number in _STEPS:
            self.thread.join(patience)
            if not self.thread.is_alive():
                return
            self._signal(number)
        log.error("mcp_server_stuck", server=self._server.name)

    def _signal(self, name: str) -> None:
        process = self._loop.process
        if name and process is not None and hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.get_pid(), getattr(signal, name))

    # its thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        message, hopeless = "it was ended", False
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            message, hopeless = self._told(error)
        try:
            self._close()
        except Exception as error:  # whatever the SDK's tasks do at their end: the actor must hear of it
            log.error("mcp_session_end_failed", server=self._server.name, error=type(error).__name__)
        for future in list(self._calls):  # asked for in the last moment
            with suppress(InvalidStateError):
                future.set_exception(Undelivered())
        up = time.monotonic() - self._since if self._since is not None else 0.0
        self._tell(Lost(self, message, hopeless, up))

    def _close(self) -> None:
        with self._lock:
            self._closed = True
        try:
            self._loop.run_until_complete(self._rest())
            self._loop.run_until_complete(self._reap())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            self._signal("SIGKILL")  # what the server has left behind in its group

    async def _rest(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)

    async def _reap(self) -> None:
        """The SDK ends the process in good manners; where it was cancelled on the way, the process is still there."""
        process = self._loop.process
        if process is None:
            return
        if process.get_returncode() is None:
            with suppress(ProcessLookupError, PermissionError):
                process.kill()
            deadline = time.monotonic() + 1
            while process.get_returncode() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.005)
        process.close()

    def _told(self, error: BaseException) -> tuple[str, bool]:
        """What ended the session, for people, and whether trying again is no use."""
        causes = list(_causes(error))
        status = self._http.refused if self._http is not None else None
        hopeless = status in _HOPELESS or any(isinstance(cause, FileNotFoundError | PermissionError) for cause in causes)
        text = "; ".join(dict.fromkeys(map(_said, causes)))
        code = self._loop.process.get_returncode() if self._loop.process is not None else None
        text += f" (HTTP {status})" if status is not None else f" (exit code {code})" if code is not None else ""
        return self._server.scrub(text)[:1000], hopeless and self._since is None

    # its loop

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_START):
                    client = await stack.enter_async_context(self._make_client())
                    tools = await self._list(client)
            except TimeoutError:
                raise ToolError("timeout", f"it did not tell its tools within {_START:g} seconds") from None
            except MCPError as error:
                raise ToolError("unavailable", self._gone or error.message) from None
            # Whether a result fits the server's own schema is no concern of ours, and checking it could take for ever.
            client.session.validate_tool_result = _unchecked  # type: ignore[method-assign]
            self._client = client
            self._since = time.monotonic()
            self._tell(Listed(self, tools))
            listening = asyncio.ensure_future(self._listen(client))
            try:
                await self._serve(client)
            finally:
                listening.cancel()

    def _make_client(self) -> Client:
        if self._server.url:
            import httpx2

            # The time of a call is the tool's own; an answer may be as slow.
            self._http = HttpClient(headers=dict(self._server.headers), timeout=httpx2.Timeout(_START, read=None))
        transport = open_transport(self._server, self._http, self._ended)
        info = types.Implementation(name="allm", version=__version__)
        return Client(transport, message_handler=self._heard, client_info=info, cache=None)

    async def _serve(self, client: Client) -> None:
        """Until the connection is lost; lists the tools again when they have changed."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._gone is not None:
                raise ToolError("unavailable", self._gone)
            if self._stale:
                self._stale = False
                try:
                    self._tell(Listed(self, await asyncio.wait_for(self._list(client), _START)))
                except (MCPError, TimeoutError) as error:  # the old ones stay
                    log.warning("mcp_tools_not_listed", server=self._server.name, error=type(error).__name__)
                await asyncio.sleep(_RELIST)

    async def _list(self, client: Client) -> tuple[types.Tool, ...]:
        found: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or len(found) > limits().tools:
                break
        return usable(found, self._server)

    def _ended(self) -> None:
        self.lose("the server has ended, or closed the connection")

    def lose(self, message: str) -> None:
        """On the loop: there is no use in this session any more."""
        self._gone = self._gone or message
        self._changed.set()

    def _refresh(self) -> None:
        self._stale = True
        self._changed.set()

    async def _heard(self, message: Any) -> None:
        """A notification, or what could not be read: it is passed over, and told."""
        if isinstance(message, types.ToolListChangedNotification):
            self._refresh()
        elif isinstance(message, Exception):
            self._ignore(f"no message: {type(message).__name__}", b"")

    def _ignore(self, why: str, line: bytes) -> None:
        self._ignored += 1
        if self._ignored <= _TOLD:
            text = self._server.scrub(line[:200].decode("utf-8", "replace"))
            log.warning("mcp_line_ignored", server=self._server.name, why=why, line=ascii(text), last=self._ignored == _TOLD)

    # whether it is still of use

    async def _alive(self) -> bool:
        """Whether the server answers, and knows this session. Those who ask at the same time wait for one ping."""
        if self._ping is None or self._ping.done():
            self._ping = asyncio.ensure_future(self._answers())
        return await asyncio.shield(self._ping)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_PING):
                await self._client.session.send_ping()
        except TimeoutError:
            return False
        except MCPError as error:  # it has no such method, or what else it says: it has answered
            refused = status_of(error) not in (None, _TOO_MANY) or error.code == types.CONNECTION_CLOSED
            return not refused and _FORGOTTEN.search(error.message) is None
        except Exception as error:  # an answer that the SDK does not like is one, too
            log.info("mcp_ping_unreadable", server=self._server.name, error=type(error).__name__)
        return True

    async def _doubt(self) -> None:
        """A call was not answered in its time: perhaps nothing is, any more."""
        if not await self._alive():
            self.lose("it does not answer any more")

    async def _listen(self, client: Client) -> None:
        """Servers of the newer protocol tell of changes only those that ask to be told."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._refresh()
                return
            except ListenNotSupportedError:
                return
            except SubscriptionLost:
                self._refresh()
            except MCPError as error:
                if error.message == UNREACHABLE:
                    self.lose(error.message)
                return  # else it has no such thing
            await asyncio.sleep(_RELISTEN)

    # calls

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        if self._gone is not None:
            raise Undelivered
        try:
            return value_of(await self._client.call_tool(tool, arguments), tool)
        except ToolError as error:
            raise ToolError(error.reason, self._server.scrub(error.message)) from None
        except MCPError as error:
            raise await self._failure(tool, error) from None
        except asyncio.CancelledError:
            if self._closed or self._gone is not None:
                raise self._lost(tool) from None
            self._doubts.add(doubt := asyncio.ensure_future(self._doubt()))
            doubt.add_done_callback(self._doubts.discard)
            raise
        except Exception as error:  # the SDK's checks of a result raise what they like
            raise ToolError("bad_result", self._server.scrub(f"the server's result of {tool} cannot be used: {error}")) from None

    async def _failure(self, tool: str, error: MCPError) -> Exception:
        """What a JSON-RPC error means; the SDK's own for a broken connection is one, too."""
        text = error.message
        if self._server.url:
            if text == UNREACHABLE:
                self.lose(text)
                return Undelivered()
            if text == LOST or (error.code == types.CONNECTION_CLOSED and text.startswith("SSE stream ended")):
                return self._lost(tool)
            if await self._is_forgotten(error):
                self.lose(text)
                return Undelivered() if _not_run(error) else self._lost(tool)
        if error.code == types.CONNECTION_CLOSED and (self._closed or self._gone is not None or text == _CLOSED):
            return self._lost(tool)
        for name, need in _NEEDS.items():
            if text == f"{name} not supported":
                text = f"{tool} asks its client for {need}, which is not offered here"
        return ToolError("failed", self._server.scrub(text or f"{tool} has failed"), metadata={"code": error.code})

    async def _is_forgotten(self, error: MCPError) -> bool:
        """Whether the server does not know this session any more. 404 says so (the specification); in any other words or status it is
        asked: a session that is known answers a ping, and what the error said was about the call."""
        status = status_of(error)
        if status == 404:
            return error.code != types.METHOD_NOT_FOUND
        if status == _TOO_MANY or (status is None and _FORGOTTEN.search(error.message) is None):
            return False
        return not await self._alive()

    def _lost(self, tool: str) -> ToolError:
        return ToolError("connection_lost", f"the MCP server {self._server.name} was lost while {tool} ran; it may have done its work")


def _not_run(error: MCPError) -> bool:
    """Whether a call that met this error in a lost session was refused before it ran; behind a gateway's 500 it may have run."""
    status = status_of(error)
    return status is None or status < 500 or status == 503 or _FORGOTTEN.search(error.message) is not None


async def _unchecked(name: str, result: types.CallToolResult) -> None:
    """In place of the SDK's check of structured content."""


def _said(error: BaseException) -> str:
    return error.message if isinstance(error, AllmError) else str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        group: BaseExceptionGroup[BaseException] = error  # pyright: ignore[reportUnknownVariableType]
        for inner in group.exceptions:
            yield from _causes(inner)
    else:
        yield error
