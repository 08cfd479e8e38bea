"""One execution of a tool's handler, wherever it takes place: from its arguments to the outcome that the model reads.

The processes of tools load this module too, so that it imports the core only.
"""

import inspect
import os
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Final, NoReturn

import msgspec
from msgspec.structs import replace

from allm.callables import resolve_callable
from allm.errors import ErrorInfo, ToolError, ValidationError
from allm.freezing import freeze
from allm.images import Image
from allm.messages import ToolCallPart
from allm.plain import Json
from allm.results import plain
from allm.supervisors.clock import clock
from allm.tools import AskUser, Halt, Illustrated, Tool, ToolContext, ToolOutcome, bind
from allm.turn_tools import AWAITING, error_content

__all__ = ["NoResources", "Work", "awaitable", "conclude", "encode", "failed", "finished", "said"]

_TEXT: Final = 10_000
"""Characters of an error's message that are kept."""


class Work:
    """What is to be done. Made of parts that cloudpickle takes along, if the handler and the context are such."""

    __slots__ = ("call", "checked", "context", "encoder", "executor", "tool")

    def __init__(
        self,
        tool: Tool,
        call: ToolCallPart,
        context: ToolContext,
        executor: Callable[..., Any] | None,
        encoder: Callable[[Any], str] | None,
        checked: bool = False,
    ) -> None:
        self.tool = tool
        self.checked = checked
        self.call = call
        self.context = context
        self.executor = executor
        self.encoder = encoder

    @property
    def asynchronous(self) -> bool:
        """Whether what is called is a coroutine function, and so to be called on an event loop."""
        called: Any = self.executor if self.executor is not None else self._handler()
        return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None))  # noqa: B004

    def begin(self) -> Any:
        """Calls the handler, by the executor if there is one: its value, or something to await. Raises whatever they raise.

        A handler that forks comes back twice; the child ends here.
        """
        pid = os.getpid()
        try:
            args, kwargs = bind(self.tool, self.call.arguments, self.context, checked=self.checked)
            handler = self._handler()
            call = partial(handler, *args, **kwargs)
            value = call() if self.executor is None else self.executor(call, self.context)
        except BaseException as error:
            _end_of_child(pid, error)
            raise
        _end_of_child(pid)
        return value

    def _handler(self) -> Callable[..., Any]:
        return resolve_callable(self.tool.handler, f"tools.{self.tool.name}.handler")


class NoResources(dict[str, Any]):
    """The `resources` of a tool in a process: none, and who asks for one is told why."""

    def __missing__(self, key: str) -> Any:
        raise ToolError("not_portable", f"resources are live things and do not travel: a tool in a process has no {key!r}")

    def get(self, key: str, default: Any = None) -> Any:
        """Raises, too: a default in place of a connection would only fail later."""
        return self[key]


async def finished(work: Callable[[], Any]) -> Any:
    """The value of `work`, awaited if it is to be awaited. A child that the handler forks ends before it gets to the event loop."""
    value = work()
    return await _Steps(value) if awaitable(value) else value


def awaitable(value: Any) -> bool:
    """Whether the value is to be awaited. An object whose very class cannot be asked for is not: it is for `conclude` to say so."""
    try:
        return inspect.isawaitable(value)
    except BaseException:
        return False


class _Steps:
    """An awaitable, step by step: between two of them is the event loop, where a forked child would go on as a second copy."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        pid = os.getpid()
        steps: Any = self._awaitable.__await__()
        resume = partial(_send, steps, None)
        while True:
            try:
                wanted = resume()
            except StopIteration as end:
                _end_of_child(pid)
                return end.value
            except BaseException as error:
                _end_of_child(pid, error)
                raise
            _end_of_child(pid)
            try:
                resume = partial(_send, steps, (yield wanted))
            except BaseException as error:
                resume = partial(_throw, steps, error)


def _send(steps: Any, value: Any) -> Any:
    return next(steps) if value is None else steps.send(value)


def _throw(steps: Any, error: BaseException) -> Any:
    if not hasattr(steps, "throw"):
        raise error
    return steps.throw(error)


def _end_of_child(pid: int, error: BaseException | None = None) -> None:
    """In a process that the handler forked, and that fell out of the handler: it must not report, nor be a second copy of the bot."""
    if os.getpid() != pid:
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        os._exit(code if isinstance(code, int) else int(code is not None))


def conclude(work: Work, began: float, value: Any = None, error: BaseException | None = None) -> ToolOutcome:
    """The outcome of a handler that gave `value` or raised `error`. Raises nothing, whatever these objects do when they are looked at.
    `began` is by the monotonic clock."""
    duration = clock.now() - began
    if error is None:
        try:
            return _given(work, value, duration)
        except BaseException as raised:
            error = raised
    try:
        return failed(work.call, _info(error), duration)
    except BaseException:  # an error that raises when it is asked what it is
        unreadable = ErrorInfo("tool", "failed", f"{work.call.name} has failed with an error that cannot be read")
        return failed(work.call, unreadable, duration)


def failed(call: ToolCallPart, error: ErrorInfo, duration: float = 0.0) -> ToolOutcome:
    """The outcome of a handler that failed, was cut off, or never ran."""
    return ToolOutcome(id=call.id, name=call.name, error=error, content=error_content(error.message), duration=duration)


def _given(work: Work, value: Any, duration: float) -> ToolOutcome:
    call = work.call
    if isinstance(value, AskUser):
        return ToolOutcome(id=call.id, name=call.name, ask=value, content=AWAITING, duration=duration)
    if isinstance(value, Halt):
        content = _bounded(work, encode(value.result, work.encoder))
        return ToolOutcome(id=call.id, name=call.name, halt=value, result=value.result, content=content, duration=duration)
    images: tuple[Image, ...] = ()
    if isinstance(value, Illustrated):
        value, images = value.result, value.images
    if type(value) is str and len(value) > work.tool.max_result and work.encoder is None:
        _refuse_size(work, len(value))
    try:
        result = _as_json(value)
    except ValidationError as error:
        raise ToolError("bad_result", f"the result of {call.name} is not JSON: {error.message}") from None
    content = _bounded(work, encode(result, work.encoder))
    return ToolOutcome(id=call.id, name=call.name, result=result, content=content, duration=duration, images=images)


def encode(result: Json, encoder: Callable[[Any], str] | None = None) -> str:
    """What the model reads of a result of JSON types: by the engine's encoder, else text as it is, nothing for None, JSON for the rest.

    Raises ToolError("bad_result") for an encoder that gives no text, and whatever an encoder raises.
    """
    if encoder is None:
        return result if isinstance(result, str) else "" if result is None else msgspec.json.encode(result).decode()
    text: Any = encoder(result)
    if not isinstance(text, str):
        raise ToolError("bad_result", f"the result encoder gave {type(text).__name__}, not text")
    try:
        return str(freeze(text, "content"))
    except ValidationError as error:
        raise ToolError("bad_result", error.message) from None


def _bounded(work: Work, content: str) -> str:
    if len(content) > work.tool.max_result:
        _refuse_size(work, len(content))
    return content


def _refuse_size(work: Work, size: int) -> NoReturn:
    most = work.tool.max_result
    message = f"the result of {work.call.name} is too large: {size} characters, at most {most} are allowed; ask for less"
    raise ToolError("result_too_large", message, metadata={"size": size, "max_result": most})


def _as_json(value: Any) -> Json:
    """The value as JSON types. Raises ValidationError naming the path of what cannot be such."""
    try:
        return freeze(value, "result")
    except ValidationError:
        return freeze(plain(value), "result")


def _info(error: BaseException) -> ErrorInfo:
    if isinstance(error, ToolError):
        return replace(error.info, message=_clean(error.message))
    return ErrorInfo("tool", "failed", said(error))


def said(error: BaseException) -> str:
    """The type of an error and its text, for the model. Raises only where the type has no readable name."""
    name = type(error).__name__
    try:
        text = _clean(str(error))
    except BaseException:  # SystemExit too: it would end the actor, or the process
        text = "(its message cannot be read)"
    return f"{name}: {text}" if text else name


def _clean(text: str) -> str:
    text = text if len(text) <= _TEXT else text[:_TEXT] + f"... ({len(text)} characters)"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
