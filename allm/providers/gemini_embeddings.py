"""Gemini's embeddings wire: `batchEmbedContents`, one text or many.

The order of the vectors is that of the requests in the batch. Newer models tell their usage, older ones tell nothing.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from allm.embeddings import LIMITS, EmbeddingRequest
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.providers.adapter import HttpRequest, Script
from allm.providers.gemini_failures import gemini_error_of, gemini_failure
from allm.providers.gemini_request import gemini_path
from allm.providers.one_body import Answer, malformed, told_by
from allm.responses import Response
from allm.usage import Usage
from allm.wire_json import encode

__all__ = ["GeminiEmbeddings"]

_VERB = "generateContent"


class GeminiEmbeddings:
    """The adapter `gemini.embeddings`."""

    name = "gemini.embeddings"
    provider = "gemini"
    default_model = "gemini-embedding-001"
    limit = LIMITS[name]

    def request(self, engine: Engine, ask: EmbeddingRequest, base_url: str) -> HttpRequest | Script:
        """`POST {base_url}/v1beta/models/{model}:batchEmbedContents`."""
        model = ask.model if "/" in ask.model else f"models/{ask.model}"
        if ask.dimensions is not None and model == "models/embedding-001":
            raise ValidationError.at("dimensions", f"{ask.model} has one size only")
        more: dict[str, Any] = {"model": model}
        if ask.task_type is not None:
            more["taskType"] = ask.task_type.upper()
        if ask.dimensions is not None:
            more["outputDimensionality"] = ask.dimensions
        more |= ask.options
        return HttpRequest(
            url=base_url + gemini_path(ask.model, base_url, stream=False).removesuffix(_VERB) + "batchEmbedContents",
            headers=(("content-type", "application/json"), ("accept", "application/json")),
            body=encode({"requests": [{"content": {"parts": [{"text": text}]}, **more} for text in ask.texts]}),
            key_header="x-goog-api-key",
        )

    def read(self, ask: EmbeddingRequest, answer: Answer) -> tuple[Response, list[Any]] | ErrorInfo:
        """The vectors, in the order of the texts."""
        try:
            body = _decode(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return malformed(self.provider, f"the answer is no list of embeddings: {error}")
        if body.error is not None:
            return gemini_error_of(body.error)
        came = len(body.embeddings or ())
        if body.embeddings is None or came != len(ask.texts):
            return malformed(self.provider, f"{len(ask.texts)} texts were sent, {came} vectors came")
        told = body.usageMetadata or _Usage()
        usage = Usage(input_tokens=told.promptTokenCount, total_tokens=told.totalTokenCount)
        response = Response(model=ask.model, finish_reason="stop", usage=usage, metadata=told_by(answer.headers))
        return response, [item.values for item in body.embeddings]

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return gemini_failure(status, headers, body)


class _Vector(msgspec.Struct):
    values: tuple[float, ...]


class _Usage(msgspec.Struct):
    promptTokenCount: int | None = None
    totalTokenCount: int | None = None


class _Body(msgspec.Struct):
    embeddings: list[_Vector] | None = None
    usageMetadata: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Body).decode
