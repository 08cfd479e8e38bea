"""One execution of a tool, as the runtime follows it: what is to be done, how far it is, and the one report of its end."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

from allm.actors.toolwork import Work
from allm.errors import ErrorInfo
from allm.messages import ToolCallPart
from allm.supervisors import log
from allm.supervisors.here import here
from allm.tools import Tool, ToolContext, ToolOutcome

__all__ = ["Flag", "ToolJob"]


class Flag(threading.Event):
    """An event that is true once it is set."""

    def __bool__(self) -> bool:
        return self.is_set()


@dataclasses.dataclass(slots=True, eq=False, kw_only=True)
class ToolJob:
    """A call of a tool. `id` is unique in its runtime; `timeout` is in seconds from the handler's start, None for no limit.

    `executor(handler_call, context)` is called in place of the handler, `encoder(result)` gives the text for the model. Asynchronous
    handlers run on `loop` if it runs. A synchronous one runs in a copy of `contextvars`, an asynchronous one too, one in a process
    does not. `checked`: that the arguments fit the tool's schema is known.
    `report` is called exactly once, on any thread, and must neither block nor raise.
    """

    id: str
    tool: Tool
    call: ToolCallPart
    context: ToolContext
    report: Callable[[ToolOutcome], None]
    timeout: float | None = None
    executor: Callable[..., Any] | None = None
    encoder: Callable[[Any], str] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    contextvars: Context | None = None
    checked: bool = False

    asked: float | None = dataclasses.field(default=None, init=False)
    """When a process was asked for, by the monotonic clock; before that the job waits for one of the others to end."""
    began: float | None = dataclasses.field(default=None, init=False)
    """When the handler was called, by the monotonic clock."""
    over: bool = dataclasses.field(default=False, init=False)
    """Whether the handler has come back, or its process has ended."""
    settled: bool = dataclasses.field(default=False, init=False)
    """Whether the outcome is known: whatever comes after it is void."""
    cancelled: Flag = dataclasses.field(default_factory=Flag, init=False)
    """`context.cancelled`, as the handler sees it."""
    _once: list[bool] = dataclasses.field(default_factory=lambda: [True], init=False)  # popped by who settles it: list.pop is atomic

    @property
    def work(self) -> Work:
        """The work itself; its context tells when the call is cancelled."""
        context = dataclasses.replace(self.context, cancelled=self.cancelled)
        return Work(self.tool, self.call, context, self.executor, self.encoder, self.checked)

    def fresh_context(self) -> Context:
        """The context variables of the caller: a copy for each run, as one context cannot be entered twice."""
        return self.contextvars.copy() if self.contextvars is not None else Context()

    def settle(self, outcome: ToolOutcome) -> bool:
        """Reports the outcome; False if there was one. Any thread."""
        try:
            self._once.pop()
        except IndexError:
            return False
        self.settled = True
        # The report is the runtime's: that the actor on this thread was killed meanwhile must not stop it.
        before, here.cell = here.cell, None
        try:
            self.report(outcome)
        except BaseException as error:
            log.error("tool_report_failed", tool=self.tool.name, error=type(error).__name__)
        finally:
            here.cell = before
        return True

    def info(self, reason: str, message: str, **metadata: Any) -> ErrorInfo:
        """An error of this call."""
        return ErrorInfo("tool", reason, message, request_id=self.context.request_id or None, metadata=metadata)
