"""The connection to an MCP server, as its user holds it: a sequence of the tools that it offers now."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from typing import Any, Final, cast, overload

from pykka import ActorDeadError

from allm.actors.runtime import Runtime, default_runtime
from allm.errors import EngineError, ToolError
from allm.mcp.desk import Desk
from allm.mcp.names import legal_names
from allm.mcp.server import Server
from allm.supervisors import (
    ActorExited,
    CallTimeout,
    ChildSpec,
    Supervisor,
    SupervisorError,
    ThreadDispatcher,
    delete_child,
    start_child,
    terminate_child,
)
from allm.tools import Tool

__all__ = ["Connection"]

_PATIENCE: Final = 10.0
"""Seconds that a call waits for a server that is being restarted."""
_END: Final = 15.0
_EXTRA: Final = frozenset({"mcp", "mcp_types", "httpx2"})


class Connection(Sequence[Tool]):
    """Use it with `with` or `async with`; it is itself the sequence of the server's tools, as it told them last.

    The tools of an engine stay those it was given: `engine.put_tools(connection)` again takes up what has changed. A tool that was taken
    from the sequence reaches its server as long as the connection is open, through every restart. A tool that has the name of one that
    the engine has from elsewhere is refused by `put_tools` (ValidationError): a `prefix` tells them apart.
    """

    def __init__(self, server: Server, runtime: Runtime | None, timeout: float) -> None:
        self._server = server
        self._runtime = runtime
        self._timeout = timeout
        self._desk = Desk(server)
        self._source = server.source
        self._id: str | None = None
        self._pid = os.getpid()
        self._made: tuple[Any, tuple[Tool, ...]] = (None, ())

    # its tools

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that the server offers now; empty before the connection is open."""
        listed = self._desk.tools
        if self._made[0] is not listed:
            names = legal_names((tool.name for tool in listed), self._server.prefix)
            unique = {tool.name: tool for tool in listed}
            self._made = (listed, tuple(self._tool(tool, names[name]) for name, tool in unique.items()))
        return self._made[1]

    @overload
    def __getitem__(self, index: int) -> Tool: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Tool, ...]: ...
    def __getitem__(self, index: int | slice) -> Tool | tuple[Tool, ...]:
        return self.tools[index]

    def __len__(self) -> int:
        return len(self.tools)

    def __repr__(self) -> str:
        state = "not open" if self._id is None else f"{len(self)} tools"
        return f"<Connection to {self._server.name}: {state}>"

    def _tool(self, offered: Any, name: str) -> Tool:
        async def call(**arguments: Any) -> Any:
            return await self._call(offered.name, arguments)

        cast("Any", call).__allm_source__ = self._source
        schema: dict[str, Any] = offered.input_schema
        if schema.get("type") == "object":
            schema = {"properties": {}, **schema}  # a tool without arguments may leave them out, and some wires will not have it
        return Tool(
            name=name, description=offered.description or offered.title or "", schema=schema, handler=call,
            timeout=self._server.timeout, max_result=self._server.max_result,
        )  # fmt: skip

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """On any event loop: the session is asked on its own."""
        from allm.mcp.session import Undelivered

        if os.getpid() != self._pid:
            raise ToolError("unavailable", f"the connection to {self._server.name} belongs to the parent process")
        for _ in range(2):
            session = await self._serving(tool)
            try:
                return await asyncio.wrap_future(session.submit(tool, arguments))
            except Undelivered:
                self._desk.down(session)
        raise self._desk.unavailable(f"; {tool} was not called")

    async def _serving(self, tool: str) -> Any:
        if self._runtime is None or self._runtime.stopped:
            self._desk.close()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._desk.wait()), _PATIENCE)
        except TimeoutError:
            raise self._desk.unavailable(f"; {tool} was not called") from None

    # opening and closing

    def __enter__(self) -> "Connection":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Connection":
        waiting = await asyncio.to_thread(self._start)
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiting), self._timeout)
        except BaseException as error:
            late = self._late()
            await asyncio.shield(asyncio.to_thread(self.close))
            if isinstance(error, TimeoutError):
                raise late from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.to_thread(self.close))

    def open(self) -> "Connection":
        """What `with` does at its beginning: see `Server.connect`. A connection is opened once."""
        waiting = self._start()
        try:
            waiting.result(self._timeout)
        except BaseException as error:
            late = self._late()
            self.close()
            if isinstance(error, TookTooLong):
                raise late from None
            raise
        return self

    def close(self) -> None:
        """Ends the server and its actor; returns when its processes are gone. A second call does nothing."""
        id, self._id = self._id, None
        self._desk.close()
        if id is None or self._runtime is None or os.getpid() != self._pid:
            return
        with suppress(ActorDeadError, ActorExited, SupervisorError, CallTimeout):  # the runtime was stopped, and it with it
            root = self._runtime.find()
            terminate_child(root, id, _END)
            delete_child(root, id, _END)
        if self._desk.latest is not None:
            self._desk.latest.end()  # it has ended, unless its actor was killed

    def _late(self) -> ToolError:
        """The error of a start that takes too long: with the reason of the last attempt, as long as the desk has it."""
        return self._desk.unavailable(f"; waited for {self._timeout:g} seconds")

    def _start(self) -> "Future[Any]":
        if self._id is not None or self._desk.closed:
            raise EngineError("closed", "a connection is opened once; connect() makes another")
        actor = _load()
        self._runtime = self._runtime or default_runtime()
        root = self._runtime.find()
        if self._runtime.stopped:
            raise EngineError("stopped", "this runtime was stopped")
        spec = ChildSpec(
            "server", (actor.ServerActor, (self._desk,)), policy=actor.Patience(), dispatcher=ThreadDispatcher(), shutdown=10.0
        )
        for number in range(1, 1000):
            id = f"mcp {self._server.name}" + (f" {number}" if number > 1 else "")
            try:
                start_child(root, ChildSpec(id, (Supervisor, ([spec],))))
            except SupervisorError as refused:
                if refused.reason not in ("already_started", "already_present"):
                    raise
                continue
            self._id = id
            break
        return self._desk.wait()


def _load() -> Any:
    """The part that needs the SDK: loaded here, in the caller's thread, as it takes a second. Raises EngineError("missing_extra")."""
    try:
        from allm.mcp import actor
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise EngineError("missing_extra", "MCP is an extra: pip install 'allm-actors[mcp]'") from None
    return actor
