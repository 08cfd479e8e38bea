"""Conversations with language models as supervised actors.

    import allm
    engine = allm.Engine("openai.chat:gpt-4.1-mini")
    print(allm.generate(engine, "Hello").text)

Everything is imported when it is first used: `import allm` alone costs nearly nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from allm.version import __version__

if TYPE_CHECKING:
    from allm import aio, keys, testing
    from allm.actors import handoff
    from allm.actors.facade import Ask, TurnContext, generate, stream_generate
    from allm.actors.handle import Stream
    from allm.actors.runtime import Runtime, default_runtime
    from allm.actors.vault import KeyContext
    from allm.codec import from_json, to_json
    from allm.engine import Engine
    from allm.environment import configure
    from allm.errors import (
        AdapterError,
        AllmError,
        EmbeddingAdapterError,
        EngineError,
        ErrorInfo,
        ImageAdapterError,
        ModerationAdapterError,
        SessionError,
        StreamError,
        ToolError,
        ValidationError,
    )
    from allm.events import (
        AskUserRequested,
        ChatCompleted,
        Envelope,
        ErrorOccurred,
        Event,
        MessageCompleted,
        MessageStarted,
        PartCompleted,
        RawChunk,
        ReasoningCompleted,
        ReasoningDelta,
        ReasoningStarted,
        RequestStarted,
        RetryScheduled,
        StepCompleted,
        StreamRestarted,
        TextCompleted,
        TextDelta,
        TextStarted,
        ToolCallCompleted,
        ToolCallDelta,
        ToolCallStarted,
        ToolExecutionCompleted,
        ToolExecutionStarted,
        ToolHalt,
        ToolResultEncoded,
    )
    from allm.folding import fold, text
    from allm.images import Image
    from allm.messages import (
        FilePart,
        ImagePart,
        Message,
        Part,
        ProviderPart,
        ReasoningPart,
        TextPart,
        Thread,
        ToolCall,
        ToolCallPart,
        Unknown,
        assistant,
        system,
        tool_result,
        user,
    )
    from allm.requests import JsonSchema, Request, ToolSpec, json_schema, request
    from allm.responses import ChatResult, Response, StepResult, ToolResult
    from allm.retry import Retry
    from allm.settings import Http, Timeouts
    from allm.tools import Tool
    from allm.usage import Usage

_HOMES = {
    "allm.actors.facade": "Ask TurnContext generate stream_generate",
    "allm.actors.handle": "Stream",
    "allm.actors.runtime": "Runtime default_runtime",
    "allm.actors.vault": "KeyContext",
    "allm.codec": "from_json to_json",
    "allm.engine": "Engine",
    "allm.environment": "configure",
    "allm.errors": "AdapterError AllmError EmbeddingAdapterError EngineError ErrorInfo ImageAdapterError ModerationAdapterError "
    "SessionError StreamError ToolError ValidationError",
    "allm.events": "AskUserRequested ChatCompleted Envelope ErrorOccurred Event MessageCompleted MessageStarted PartCompleted RawChunk "
    "ReasoningCompleted ReasoningDelta ReasoningStarted RequestStarted RetryScheduled StepCompleted StreamRestarted TextCompleted "
    "TextDelta TextStarted ToolCallCompleted ToolCallDelta ToolCallStarted ToolExecutionCompleted ToolExecutionStarted ToolHalt "
    "ToolResultEncoded",
    "allm.folding": "fold text",
    "allm.images": "Image",
    "allm.messages": "FilePart ImagePart Message Part ProviderPart ReasoningPart TextPart Thread ToolCall ToolCallPart Unknown "
    "assistant system tool_result user",
    "allm.requests": "JsonSchema Request ToolSpec json_schema request",
    "allm.responses": "ChatResult Response StepResult ToolResult",
    "allm.retry": "Retry",
    "allm.settings": "Http Timeouts",
    "allm.tools": "Tool",
    "allm.usage": "Usage",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = {"aio": "allm.aio", "handoff": "allm.actors.handoff", "keys": "allm.keys", "testing": "allm.testing"}

__all__ = [
    "AdapterError",
    "AllmError",
    "Ask",
    "AskUserRequested",
    "ChatCompleted",
    "ChatResult",
    "EmbeddingAdapterError",
    "Engine",
    "EngineError",
    "Envelope",
    "ErrorInfo",
    "ErrorOccurred",
    "Event",
    "FilePart",
    "Http",
    "Image",
    "ImageAdapterError",
    "ImagePart",
    "JsonSchema",
    "KeyContext",
    "Message",
    "MessageCompleted",
    "MessageStarted",
    "ModerationAdapterError",
    "Part",
    "PartCompleted",
    "ProviderPart",
    "RawChunk",
    "ReasoningCompleted",
    "ReasoningDelta",
    "ReasoningPart",
    "ReasoningStarted",
    "Request",
    "RequestStarted",
    "Response",
    "Retry",
    "RetryScheduled",
    "Runtime",
    "SessionError",
    "StepCompleted",
    "StepResult",
    "Stream",
    "StreamError",
    "StreamRestarted",
    "TextCompleted",
    "TextDelta",
    "TextPart",
    "TextStarted",
    "Thread",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolCallCompleted",
    "ToolCallDelta",
    "ToolCallPart",
    "ToolCallStarted",
    "ToolError",
    "ToolExecutionCompleted",
    "ToolExecutionStarted",
    "ToolHalt",
    "ToolResult",
    "ToolResultEncoded",
    "ToolSpec",
    "TurnContext",
    "Unknown",
    "Usage",
    "ValidationError",
    "__version__",
    "aio",
    "assistant",
    "configure",
    "default_runtime",
    "fold",
    "from_json",
    "generate",
    "handoff",
    "json_schema",
    "keys",
    "request",
    "stream_generate",
    "system",
    "testing",
    "text",
    "to_json",
    "tool_result",
    "user",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'allm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
