"""A provider of embeddings with no network: each text has a vector of its own, always the same.

`adapter_opts["embeddings"]`: `vectors` (text -> vector, for those that a test cares about) and `size` (floats of all others), beside
what all fakes know (`allm.providers.fake_one_body`).
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from allm.embeddings import LIMITS, EmbeddingRequest
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.providers.adapter import Script
from allm.providers.failures import failure
from allm.providers.fake_one_body import FakeSettings, opened, script, settings_of
from allm.providers.one_body import Answer
from allm.providers.openai_embeddings import read_embeddings
from allm.responses import Response

__all__ = ["SIZE", "FakeEmbeddingsAdapter", "vector_of"]

SIZE = 8
"""Floats of a vector where nothing says how many."""


class _Settings(FakeSettings, frozen=True, kw_only=True):
    vectors: dict[str, tuple[float, ...]] = {}
    size: Annotated[int, msgspec.Meta(ge=1)] = SIZE


def vector_of(text: str, size: int = SIZE) -> tuple[float, ...]:
    """A vector of length 1 that depends on the text only."""
    drawn = struct.unpack(f"<{size}i", hashlib.shake_256(text.encode()).digest(4 * size))
    length = math.hypot(*drawn) or 1.0
    return struct.unpack(f"<{size}f", struct.pack(f"<{size}f", *(number / length for number in drawn)))


class FakeEmbeddingsAdapter:
    """The adapter `fake.embeddings`."""

    name = "fake.embeddings"
    provider = "fake"
    default_model = "fake-embedding"
    limit = LIMITS[name]

    def request(self, engine: Engine, ask: EmbeddingRequest, base_url: str) -> Script:
        """The script that answers."""
        settings = settings_of(engine, "embeddings", _Settings)
        known, size = settings.vectors, ask.dimensions or settings.size
        tokens = sum(len(text.split()) for text in ask.texts)
        answer = {
            "model": ask.model,
            "data": [{"index": i, "embedding": known.get(text) or vector_of(text, size)} for i, text in enumerate(ask.texts)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return script(engine, "embeddings", ask, settings, answer)

    def read(self, ask: EmbeddingRequest, answer: Answer) -> tuple[Response, list[Any]] | ErrorInfo:
        """The vectors by their index."""
        inner = opened(answer)
        return inner if isinstance(inner, ErrorInfo) else read_embeddings(self.provider, len(ask.texts), inner)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """A fake has no HTTP answers."""
        return failure(self.provider, status, headers, body)
