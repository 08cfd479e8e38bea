"""The embeddings wires of OpenAI and Gemini, as the simulator speaks them.

Shapes follow recorded exchanges. A text has the vector that the fake has for it; of a reply only its input tokens and its delay are
told. Limits are the providers' own: a request with too many texts, or an empty one, is refused.
"""

from __future__ import annotations

import base64
import struct
from typing import Any
from urllib.parse import unquote

import msgspec

from allm.embeddings import LIMITS
from allm.providers.fake_embeddings import vector_of
from allm.testing.wires.chat import ChatWire
from allm.testing.wires.contract import Ask, BadRequest, Frames
from allm.testing.wires.gemini import GeminiWire
from allm.testing.wires.script import Reply

__all__ = ["EmbeddingsWire", "GeminiEmbeddingsWire"]

SIZE = 16
"""Floats of a vector where the request does not say."""
VERB = "batchEmbedContents"


class EmbeddingAsk(Ask, frozen=True, kw_only=True):
    """The texts of a request, and how their vectors are told."""

    texts: tuple[str, ...]
    size: int = SIZE
    packed: bool = False


class _Body(msgspec.Struct):
    model: str | None = None
    input: str | list[str] | None = None
    dimensions: int | None = None
    encoding_format: str = "float"


class EmbeddingsWire(ChatWire):
    """`POST <anything>/embeddings`."""

    name = "embeddings"

    def serves(self, path: str) -> bool:
        return path.rstrip("/").endswith("/embeddings")

    def parse(self, target: str, body: Any) -> Ask:
        try:
            asked = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid request body: {error}") from None
        if not asked.model:
            raise BadRequest(400, "you must provide a model parameter")
        texts = (asked.input,) if isinstance(asked.input, str) else tuple(asked.input or ())
        if not texts or not all(texts) or len(texts) > LIMITS["openai.embeddings"].texts:
            raise BadRequest(400, "'$.input' is invalid. Please check the API reference.")
        packed = asked.encoding_format == "base64"
        return EmbeddingAsk(model=asked.model, user_text=texts[-1], texts=texts, size=asked.dimensions or SIZE, packed=packed)

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        raise BadRequest(400, "embeddings are not streamed")

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        assert isinstance(ask, EmbeddingAsk)
        data = [
            {"object": "embedding", "index": i, "embedding": _told(vector_of(text, ask.size), ask.packed)}
            for i, text in enumerate(ask.texts)
        ]
        usage = {"prompt_tokens": reply.input_tokens, "total_tokens": reply.input_tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": ask.model, "usage": usage})


def _told(vector: tuple[float, ...], packed: bool) -> Any:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else vector


class _Part(msgspec.Struct):
    text: str = ""


class _Content(msgspec.Struct):
    parts: list[_Part]


class _Item(msgspec.Struct):
    model: str
    content: _Content
    outputDimensionality: int | None = None


class _Batch(msgspec.Struct):
    requests: list[_Item]


class GeminiEmbeddingsWire(GeminiWire):
    """`POST <anything>/models/{model}:batchEmbedContents`."""

    name = "gemini_embeddings"

    def serves(self, path: str) -> bool:
        return path.rpartition(":")[2] == VERB

    def parse(self, target: str, body: Any) -> Ask:
        named = unquote(target.partition("?")[0].rpartition(":")[0])
        model = "models/" + named.rpartition("/")[2]
        try:
            items = msgspec.convert(body, _Batch).requests
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid JSON payload received. {error}") from None
        texts = tuple("".join(part.text for part in item.content.parts) for item in items)
        if len(items) > LIMITS["gemini.embeddings"].texts:
            raise BadRequest(400, "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n")
        if not items or not all(texts) or any(item.model != model for item in items):
            raise BadRequest(400, "* BatchEmbedContentsRequest.requests: empty content, or another model than that of the path\n")
        size = items[0].outputDimensionality or SIZE
        return EmbeddingAsk(model=model, user_text=texts[-1], texts=texts, size=size)

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        raise BadRequest(400, "embeddings are not streamed")

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        assert isinstance(ask, EmbeddingAsk)
        vectors = [{"values": vector_of(text, ask.size)} for text in ask.texts]
        return msgspec.json.encode({"embeddings": vectors, "usageMetadata": {"promptTokenCount": reply.input_tokens}})
