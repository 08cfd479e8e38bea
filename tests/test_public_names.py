"""The names that `allm` exports are a promise: one that comes or goes shows here, and in the change log."""

import allm

PUBLIC_NAMES: list[str] = [
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


def test_the_exported_names_are_these() -> None:
    exported = sorted(allm.__all__)
    added, removed = sorted(set(exported) - set(PUBLIC_NAMES)), sorted(set(PUBLIC_NAMES) - set(exported))
    assert exported == PUBLIC_NAMES, f"added {added}, removed {removed}"


def test_the_list_is_sorted_and_names_nothing_twice() -> None:
    assert sorted(set(PUBLIC_NAMES)) == PUBLIC_NAMES


def test_every_exported_name_can_be_had() -> None:
    missing = [name for name in allm.__all__ if not hasattr(allm, name)]
    assert missing == []


def test_every_exported_name_is_seen_by_dir() -> None:
    assert set(allm.__all__) <= set(dir(allm))


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    assert not hasattr(allm, "no_such_name")
