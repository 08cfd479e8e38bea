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
    from allm import aio, keys, mcp, testing
    from allm.actors import handoff
    from allm.actors.embedding_calls import embed, moderate
    from allm.actors.facade import chat, generate, step, stream, stream_generate, stream_step
    from allm.actors.handle import Stream
    from allm.actors.image_calls import edit_image, generate_image, image_variations
    from allm.actors.mapping import map
    from allm.actors.outgoing import TurnContext
    from allm.actors.request_plan import Ask
    from allm.actors.runtime import Runtime, default_runtime
    from allm.actors.vault import KeyContext
    from allm.callables import Importable, importable
    from allm.codec import from_json, to_json
    from allm.embeddings import EmbeddingResponse
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
    from allm.history import KeepLast, TokenBudget, keep_last, token_budget
    from allm.image_requests import ImageRequest, ImageResponse, ImageUsage
    from allm.images import Image
    from allm.limits import Limits
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
    from allm.moderation import ModerationResponse, ModerationResult
    from allm.requests import JsonSchema, Request, ToolSpec, json_schema, request
    from allm.responses import ChatResult, Response, StepResult, ToolResult
    from allm.retry import Retry
    from allm.settings import Http, Timeouts
    from allm.tools import AskUser, Halt, Tool, ToolContext, ToolOutcome, ask_user, halt, tool
    from allm.usage import Usage

_HOMES = {
    "allm.actors.embedding_calls": "embed moderate",
    "allm.actors.facade": "chat generate step stream stream_generate stream_step",
    "allm.actors.mapping": "map",
    "allm.actors.outgoing": "TurnContext",
    "allm.actors.request_plan": "Ask",
    "allm.actors.handle": "Stream",
    "allm.actors.image_calls": "edit_image generate_image image_variations",
    "allm.actors.runtime": "Runtime default_runtime",
    "allm.actors.vault": "KeyContext",
    "allm.callables": "Importable importable",
    "allm.codec": "from_json to_json",
    "allm.embeddings": "EmbeddingResponse",
    "allm.engine": "Engine",
    "allm.environment": "configure",
    "allm.errors": "AdapterError AllmError EmbeddingAdapterError EngineError ErrorInfo ImageAdapterError ModerationAdapterError "
    "SessionError StreamError ToolError ValidationError",
    "allm.events": "AskUserRequested ChatCompleted Envelope ErrorOccurred Event MessageCompleted MessageStarted PartCompleted RawChunk "
    "ReasoningCompleted ReasoningDelta ReasoningStarted RequestStarted RetryScheduled StepCompleted StreamRestarted TextCompleted "
    "TextDelta TextStarted ToolCallCompleted ToolCallDelta ToolCallStarted ToolExecutionCompleted ToolExecutionStarted ToolHalt "
    "ToolResultEncoded",
    "allm.folding": "fold text",
    "allm.history": "KeepLast TokenBudget keep_last token_budget",
    "allm.image_requests": "ImageRequest ImageResponse ImageUsage",
    "allm.images": "Image",
    "allm.limits": "Limits",
    "allm.messages": "FilePart ImagePart Message Part ProviderPart ReasoningPart TextPart Thread ToolCall ToolCallPart Unknown "
    "assistant system tool_result user",
    "allm.moderation": "ModerationResponse ModerationResult",
    "allm.requests": "JsonSchema Request ToolSpec json_schema request",
    "allm.responses": "ChatResult Response StepResult ToolResult",
    "allm.retry": "Retry",
    "allm.settings": "Http Timeouts",
    "allm.tools": "AskUser Halt Tool ToolContext ToolOutcome ask_user halt tool",
    "allm.usage": "Usage",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = {"aio": "allm.aio", "handoff": "allm.actors.handoff", "keys": "allm.keys", "mcp": "allm.mcp", "testing": "allm.testing"}

__all__ = [
    "AdapterError",
    "AllmError",
    "Ask",
    "AskUser",
    "AskUserRequested",
    "ChatCompleted",
    "ChatResult",
    "EmbeddingAdapterError",
    "EmbeddingResponse",
    "Engine",
    "EngineError",
    "Envelope",
    "ErrorInfo",
    "ErrorOccurred",
    "Event",
    "FilePart",
    "Halt",
    "Http",
    "Image",
    "ImageAdapterError",
    "ImagePart",
    "ImageRequest",
    "ImageResponse",
    "ImageUsage",
    "Importable",
    "JsonSchema",
    "KeepLast",
    "KeyContext",
    "Limits",
    "Message",
    "MessageCompleted",
    "MessageStarted",
    "ModerationAdapterError",
    "ModerationResponse",
    "ModerationResult",
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
    "TokenBudget",
    "Tool",
    "ToolCall",
    "ToolCallCompleted",
    "ToolCallDelta",
    "ToolCallPart",
    "ToolCallStarted",
    "ToolContext",
    "ToolError",
    "ToolExecutionCompleted",
    "ToolExecutionStarted",
    "ToolHalt",
    "ToolOutcome",
    "ToolResult",
    "ToolResultEncoded",
    "ToolSpec",
    "TurnContext",
    "Unknown",
    "Usage",
    "ValidationError",
    "__version__",
    "aio",
    "ask_user",
    "assistant",
    "chat",
    "configure",
    "default_runtime",
    "edit_image",
    "embed",
    "fold",
    "from_json",
    "generate",
    "generate_image",
    "halt",
    "handoff",
    "image_variations",
    "importable",
    "json_schema",
    "keep_last",
    "keys",
    "map",
    "mcp",
    "moderate",
    "request",
    "step",
    "stream",
    "stream_generate",
    "stream_step",
    "system",
    "testing",
    "text",
    "to_json",
    "token_budget",
    "tool",
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
