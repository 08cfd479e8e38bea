"""OpenAI's embeddings wire, and that of the many hosts that speak it.

Vectors are asked for as base64 of 4-byte floats: a quarter of the bytes of JSON numbers, and a fifteenth of the time to read them
(2,048 vectors of 1,536: 22 ms against 330). A host that does not know the option answers with numbers, which is understood too;
`options={"encoding_format": "float"}` is for one that refuses it.
"""

from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

import msgspec

from allm.embeddings import LIMITS, EmbeddingRequest
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.providers.adapter import HttpRequest, Script
from allm.providers.failures import error_of, failure
from allm.providers.one_body import Answer, malformed, told_by
from allm.responses import Response
from allm.usage import Usage
from allm.wire_json import encode

__all__ = ["OpenAIEmbeddings", "read_embeddings"]

_FLOAT = 4  # bytes


class OpenAIEmbeddings:
    """The adapter `openai.embeddings`."""

    name = "openai.embeddings"
    provider = "openai"
    default_model = "text-embedding-3-small"
    limit = LIMITS[name]

    def request(self, engine: Engine, ask: EmbeddingRequest, base_url: str) -> HttpRequest | Script:
        """`POST {base_url}/embeddings`."""
        if ask.task_type is not None:
            raise ValidationError.at("task_type", "this wire has none; leave it out, or name an adapter that has (gemini.embeddings)")
        if ask.dimensions is not None and ask.model == "text-embedding-ada-002":
            raise ValidationError.at("dimensions", f"{ask.model} has one size only")
        body: dict[str, Any] = {"model": ask.model, "input": ask.texts, "encoding_format": "base64"}
        if ask.dimensions is not None:
            body["dimensions"] = ask.dimensions
        return HttpRequest(
            url=f"{base_url}/embeddings",
            headers=(("content-type", "application/json"), ("accept", "application/json")),
            body=encode({**body, **ask.options}),
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def read(self, ask: EmbeddingRequest, answer: Answer) -> tuple[Response, list[Any]] | ErrorInfo:
        """The vectors by their index."""
        return read_embeddings(self.provider, len(ask.texts), answer)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return failure(self.provider, status, headers, body)


class _Vector(msgspec.Struct):
    embedding: str | tuple[float, ...]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Body(msgspec.Struct):
    data: list[_Vector] | None = None
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def read_embeddings(provider: str, count: int, answer: Answer) -> tuple[Response, list[Any]] | ErrorInfo:
    """(how it went, vectors in order) of an answer to `count` texts."""
    try:
        body = _decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return malformed(provider, f"the answer is no list of embeddings: {error}")
    if body.error is not None:
        return error_of(provider, body.error)
    if body.data is None:
        return malformed(provider, "the answer has no data")
    vectors = _in_order(body.data, count)
    if isinstance(vectors, str):
        return malformed(provider, vectors)
    usage = body.usage or _Usage()
    response = Response(
        id=body.id,
        model=body.model,
        finish_reason="stop",
        usage=Usage(input_tokens=usage.prompt_tokens, total_tokens=usage.total_tokens),
        metadata=told_by(answer.headers),
    )
    return response, vectors


def _in_order(data: list[_Vector], count: int) -> list[Any] | str:
    """The vectors by their index; what is wrong, if there is not exactly one for each text."""
    if len(data) != count:
        return f"{count} texts were sent, {len(data)} vectors came"
    if all(item.index is None for item in data):
        ordered = data  # a host that numbers none keeps their order
    else:
        by_index = {item.index: item for item in data}
        if by_index.keys() != set(range(count)):
            return "the vectors are not numbered as the texts are"
        ordered = [by_index[i] for i in range(count)]
    try:
        return [_packed(item.embedding) for item in ordered]
    except NotBase64:
        return "a vector is no base64 of floats"


def _packed(vector: Any) -> Any:
    if not isinstance(vector, str):
        return vector
    packed = a2b_base64(vector, strict_mode=True) if vector.isascii() else b"?"
    if len(packed) % _FLOAT:
        raise NotBase64
    return packed
