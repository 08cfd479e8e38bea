"""Errors: exceptions with a closed `reason`, and `ErrorInfo`, the plain data that events, state and messages carry.

    AllmError
    ├── ValidationError        bad input, found before any request; names the field's path
    ├── EngineError            an engine that cannot serve (missing_key, unknown_adapter, ...)
    ├── SessionError           a wrong call on a session
    ├── ToolError              a tool that failed
    ├── StreamError            a stream that was misused or ended (consumed, cancelled)
    └── AdapterError           what the provider or the way to it did
        ├── ImageAdapterError
        ├── EmbeddingAdapterError
        └── ModerationAdapterError

An exception is made from an `ErrorInfo` and back without loss, pickles, and is never chained to an exception of the HTTP stack:
those reference the request and its headers.
"""

from typing import Any, ClassVar, Final

from msgspec.structs import force_setattr

from allm.plain import NotJson, Value, frozen

__all__ = [
    "ADAPTER_REASONS",
    "AdapterError",
    "AllmError",
    "EmbeddingAdapterError",
    "EngineError",
    "ErrorInfo",
    "ImageAdapterError",
    "ModerationAdapterError",
    "SessionError",
    "StreamError",
    "ToolError",
    "ValidationError",
    "error_from",
]

ADAPTER_REASONS: Final = frozenset({
    "rate_limited", "overloaded", "server_error", "service_unavailable", "timeout", "connection_closed", "truncated",
    "malformed_response", "invalid_request", "context_length_exceeded", "authentication", "permission", "not_found",
    "content_filter", "quota_exceeded", "cancelled", "consumed", "no_scripted_response", "unknown",
})  # fmt: skip
"""Every reason that an AdapterError or a StreamError can have (a retry policy may name only these)."""


class ErrorInfo(Value, frozen=True):
    """What went wrong, as data. `kind` is the exception's short name (`adapter`, `stream`, ...), `retry_after` is in seconds."""

    kind: str
    reason: str
    message: str
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None
    provider: str | None = None
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            try:
                force_setattr(self, "metadata", frozen(self.metadata))
            except NotJson as refused:
                raise ValidationError.at("error.metadata" + "".join(reversed(refused.path)), refused.problem) from None

    def exception(self) -> "AllmError":
        """The exception that this describes."""
        return error_from(self)


class AllmError(Exception):
    """Base of all errors of this library. Everything it tells is plain data: `.info`."""

    kind: ClassVar[str] = "allm"

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        provider: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.info = ErrorInfo(
            self.kind,
            reason,
            message or reason,
            status,
            retry_after,
            request_id,
            provider,
            metadata if metadata is not None else {},
        )
        super().__init__(self.info.message)

    @property
    def reason(self) -> str:
        """One word of a closed list."""
        return self.info.reason

    @property
    def message(self) -> str:
        """For people."""
        return self.info.message

    @property
    def status(self) -> int | None:
        """The HTTP status, if there was one."""
        return self.info.status

    @property
    def retry_after(self) -> float | None:
        """Seconds that the provider asks to wait."""
        return self.info.retry_after

    @property
    def request_id(self) -> str | None:
        """The call's id."""
        return self.info.request_id

    @property
    def provider(self) -> str | None:
        """Which provider."""
        return self.info.provider

    @property
    def metadata(self) -> dict[str, Any]:
        """Plain data beside it."""
        return self.info.metadata

    def __str__(self) -> str:
        status = f", HTTP {self.info.status}" if self.info.status is not None else ""
        return f"{self.info.message} ({self.info.reason}{status})"

    def __reduce__(self) -> tuple[Any, tuple[ErrorInfo]]:
        return error_from, (self.info,)


class ValidationError(AllmError):
    """Bad input, found before any request was made. `metadata["path"]` names the field."""

    kind = "validation"

    @classmethod
    def at(cls, path: str, problem: str) -> "ValidationError":
        """The error for the field at `path`, for example `messages[2].content`."""
        return cls("invalid", f"{path}: {problem}", metadata={"path": path})


class EngineError(AllmError):
    """An engine that cannot serve the call: missing_key, unknown_adapter, resolver_failed, not_portable, closed."""

    kind = "engine"


class SessionError(AllmError):
    """A call that the session's state does not allow."""

    kind = "session"


class ToolError(AllmError):
    """A tool that failed."""

    kind = "tool"


class StreamError(AllmError):
    """A stream that was misused or that ended for a cause of our own."""

    kind = "stream"


class AdapterError(AllmError):
    """What the provider, or the way to it, did. `reason` is one of ADAPTER_REASONS."""

    kind = "adapter"


class ImageAdapterError(AdapterError):
    """The same, on an image call."""

    kind = "image_adapter"


class EmbeddingAdapterError(AdapterError):
    """The same, on an embedding call."""

    kind = "embedding_adapter"


class ModerationAdapterError(AdapterError):
    """The same, on a moderation call."""

    kind = "moderation_adapter"


_CLASSES: dict[str, type[AllmError]] = {
    cls.kind: cls
    for cls in (
        AllmError, ValidationError, EngineError, SessionError, ToolError, StreamError, AdapterError, ImageAdapterError,
        EmbeddingAdapterError, ModerationAdapterError,
    )
}  # fmt: skip


def error_from(info: ErrorInfo) -> AllmError:
    """The exception for `info`; an unknown kind (from a newer writer) is an AllmError."""
    cls = _CLASSES.get(info.kind, AllmError)
    error = cls.__new__(cls)
    error.info = info
    Exception.__init__(error, info.message)
    return error
