"""The names that `allm` exports are a promise: one that comes or goes shows here, and in the change log."""

import allm

PUBLIC_NAMES: list[str] = [
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
