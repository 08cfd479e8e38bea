"""The options of the calls, as people, editors and type checkers see them. What is left out, or None, is as the request says, or the
engine, or the library."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from allm.actors.runtime import Runtime
from allm.events import Event
from allm.messages import ToolCall
from allm.requests import Reasoning, ToolSpec
from allm.responses import StepResult
from allm.retry import Retry
from allm.settings import Timeouts
from allm.tools import Tool

__all__ = ["CallOptions", "ImageOptions", "LoopOptions", "ServiceOptions"]


class ServiceOptions(TypedDict, total=False):
    """Of every call; `embed` and `moderate` have no others."""

    options: Mapping[str, Any] | None
    """What only the provider knows: goes into its body unchanged."""
    api_key: str | None
    """The key of this call; it wins over all others, and is kept in no value."""
    retry: Retry | None
    """Which failures are tried again, and when."""
    timeouts: Timeouts | None
    """Seconds, or None for no limit."""
    request_id: str | None
    """Names the call in events and errors; made up if it is not given."""
    runtime: Runtime | None
    """Where it runs, if not on `allm.default_runtime()`."""
    on_event: Callable[[Event], object] | None
    """Hears every event in order, off the loop; what it raises is logged. Held up for longer than `timeouts.callback`, it hears no more."""
    metadata: Mapping[str, Any] | None
    """The caller's own, JSON: what key resolvers (`KeyContext`) and functions of a `TurnContext` see."""


class ImageOptions(ServiceOptions, total=False):
    """Of image calls."""

    model: str | None
    """In place of the engine's."""


class CallOptions(ServiceOptions, total=False):
    """Of one round trip: `generate`, `stream_generate`, `map`."""

    model: str | None
    """In place of the engine's."""
    tools: Sequence[Tool | ToolSpec | Callable[..., Any]] | None
    """Beside the engine's; one of the same name takes its place."""
    tool_choice: str | None
    """`auto`, `none`, `required`, or the name of a tool."""
    temperature: float | None
    """How much chance there is in the choice of tokens."""
    top_p: float | None
    """The share of the likeliest tokens that are chosen from."""
    max_tokens: int | None
    """Tokens that the model may write, reasoning included."""
    stop: str | Sequence[str] | None
    """Texts that end the answer."""
    seed: int | None
    """For answers that can be had again, where the provider tries."""
    reasoning: Reasoning | None
    """`none`, `low`, `medium`, `high`, or a number of tokens."""
    response_format: Any
    """`allm.json_schema(...)`, or a type that `.parsed` is to be of; `"json"`, `"text"`."""
    prompt_cache: Mapping[str, Any] | None
    """`{"key": text, "retention": "short" or "long"}`."""
    wire: Literal["sse", "json"] | None
    """`json` asks for the answer in one body."""
    emit_text_deltas: bool
    """False: texts come whole."""
    emit_tool_deltas: bool
    """False: the arguments of calls come whole."""
    include_raw_chunks: bool
    """True: the provider's own chunks come as `RawChunk`."""


class LoopOptions(CallOptions, total=False):
    """Of steps and loops: `step`, `chat`, `stream_step`, `stream`."""

    mode: Literal["auto", "manual"] | None
    """`manual` runs no tool, and gives every call to the caller."""
    max_turns: int | None
    """Steps, at most; 8 if it is not given."""
    halt_when: Callable[[StepResult], object] | str | None
    """Asked after each step; the loop ends when it says so. Perhaps by its name, `"module:function"`."""
    on_tool_error: Callable[[ToolCall, Any], Any] | str | None
    """`continue`, `halt`, or a function of the call and its error that gives one of these or a result in the error's place."""
    structured_finalize: bool | None
    """After the loop one more call, without tools, for the `response_format`."""
    structured_finalize_nudge: str | None
    """What that call is told."""
    max_reasks: int | None
    """How often an answer that does not fit the `response_format` is asked for again; 1 if it is not given."""
    context: Mapping[str, Any] | None
    """For the tools (`ToolContext.context`), JSON; the model never sees it."""
