"""Calls that are answered by one body and are no conversation: embeddings, moderation. What their adapters are, and how they go the
way of every other call.

`Bound` makes an ordinary adapter of a `OneBody` and one ask: it is sent, watched, retried and cancelled as a text call is. The events
tell how the call went (`MessageCompleted` with its usage); what it was made for, which may be thousands of vectors, is kept aside in
`Bound.outcome` and is in no event.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import msgspec
from msgspec.structs import replace

from allm.blocks import CallContext
from allm.embeddings import Limit
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.providers.adapter import Adapter, Decoder, HttpRequest, Script
from allm.requests import Request
from allm.responses import FinishReason, Response

__all__ = ["Answer", "Bound", "EmbeddingAdapter", "OneBody", "malformed", "told_by"]

AskT = TypeVar("AskT")
AskT_contra = TypeVar("AskT_contra", contravariant=True)
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Answer(msgspec.Struct, frozen=True):
    """A whole answer that began well. `headers` have lower-case names; `attempt` counts from 1."""

    body: bytes
    headers: Mapping[str, str]
    attempt: int


class OneBody(Protocol[AskT_contra, ResultT_co]):
    """One wire. Stateless; one instance serves all calls."""

    name: ClassVar[str]
    provider: ClassVar[str]
    default_model: ClassVar[str | None]

    def request(self, engine: Engine, ask: AskT_contra, base_url: str) -> HttpRequest | Script:
        """The request to send. Raises ValidationError for what the wire cannot carry."""
        ...

    def read(self, ask: AskT_contra, answer: Answer) -> "tuple[Response, ResultT_co] | ErrorInfo":
        """What came: how the call went (finish reason, model, usage, no message), and the result; or why it is none."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an answer with an error status means."""
        ...


class EmbeddingAdapter(OneBody[AskT_contra, ResultT_co], Protocol[AskT_contra, ResultT_co]):
    """A `OneBody` for embeddings: its result is a list with a vector for each text, a tuple of floats, or the bytes of such
    (little-endian, of 4 bytes each), which are unpacked where nobody waits for the loop."""

    limit: ClassVar[Limit]


class Bound(Generic[AskT, ResultT]):
    """The adapter of one call. `outcome`, how it went and what it gave, is set on the loop before the call ends well."""

    def __init__(self, inner: OneBody[AskT, ResultT], ask: AskT) -> None:
        self.name = inner.name
        self.provider = inner.provider
        self.inner = inner
        self.ask = ask
        self.outcome: tuple[Response, ResultT] | None = None

    def as_adapter(self) -> Adapter:
        """Itself, as what calls are made with."""
        return cast("Adapter", self)

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest | Script:
        """The request to send."""
        return self.inner.request(engine, self.ask, base_url)

    def decoder(self, engine: Engine, context: CallContext) -> Decoder:
        """A decoder for one attempt."""
        return _OneBodyDecoder(self, context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return self.inner.failure(status, headers, body)


class _OneBodyDecoder:
    """One attempt: a body, whole or in pieces, -> one event."""

    has_content = False

    def __init__(self, bound: Bound[Any, Any], context: CallContext) -> None:
        self._bound = bound
        self._context = context
        self._headers: Mapping[str, str] = {}
        self._pieces: list[bytes] = []
        self.progress = False

    def headers(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def feed(self, data: bytes) -> list[Event]:
        self._pieces.append(data)
        return []

    def end(self) -> list[Event]:
        pieces, self._pieces = self._pieces, []
        return self.body(b"".join(pieces)) if pieces else []

    def body(self, data: bytes) -> list[Event]:
        bound, context = self._bound, self._context
        read = bound.inner.read(bound.ask, Answer(data, self._headers, context.generation))
        if isinstance(read, ErrorInfo):
            return [ErrorOccurred(read)]
        response = replace(read[0], request_id=context.request_id)
        bound.outcome = response, read[1]
        return [MessageCompleted(response)]

    def block_ids(self) -> tuple[str, ...]:
        return ()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        return [], Response(request_id=self._context.request_id, finish_reason=finish, error=error)


def told_by(headers: Mapping[str, str]) -> dict[str, Any]:
    """What an answer's headers tell: the request's id at the provider, and its limits."""
    told: dict[str, Any] = {}
    if limits := {name: value for name, value in headers.items() if name.startswith("x-ratelimit-")}:
        told["rate_limits"] = limits
    if request_id := headers.get("x-request-id") or headers.get("x-goog-request-id"):
        told["provider_request_id"] = request_id
    return told


def malformed(provider: str, problem: str) -> ErrorInfo:
    """The error for an answer that is not what was asked for."""
    return ErrorInfo("adapter", "malformed_response", problem, provider=provider)
