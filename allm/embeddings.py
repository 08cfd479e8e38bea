"""Embeddings as plain data: what is asked for, what comes back, and how many texts one request may carry."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, cast

from msgspec.structs import force_setattr

from allm.errors import ValidationError
from allm.freezing import freeze, freeze_dict
from allm.plain import Value
from allm.usage import Usage

__all__ = ["LIMITS", "EmbeddingRequest", "EmbeddingResponse", "Limit", "chunks", "read_texts"]


class EmbeddingRequest(Value, frozen=True, kw_only=True):
    """What one request of an embedding call carries: `texts` in order, at least one, none empty."""

    texts: tuple[str, ...]
    model: str
    dimensions: int | None = None
    task_type: str | None = None
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.options:
            force_setattr(self, "options", freeze_dict(self.options, "embedding_request.options"))


class EmbeddingResponse(Value, frozen=True, kw_only=True):
    """A vector for each text, in the order of the texts: `vectors[i]` is a tuple of floats.

    `usage` is the sum over the requests that it took; `metadata` is what the provider told beside it, and for several requests
    `{"requests": (...)}` with an entry for each.
    """

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "embedding_response.metadata"))

    def __repr__(self) -> str:
        length = len(self.vectors[0]) if self.vectors else 0
        return f"EmbeddingResponse({len(self.vectors)} vectors of {length}, model={self.model!r}, usage={self.usage!r})"


class Limit(NamedTuple):
    """What one request may carry: texts, and tokens of all its texts together (None: no such limit)."""

    texts: int
    tokens: int | None = None


LIMITS: Final[dict[str, Limit]] = {
    "openai.embeddings": Limit(2048, 300_000),
    "gemini.embeddings": Limit(100),
    "fake.embeddings": Limit(100),
}
"""By adapter, as the providers document them (Gemini refuses the 101st text, OpenAI counts the tokens of all texts of a request)."""


_NO_LISTS: Final[Any] = (bytes, Mapping, Set)
"""What can be iterated and is no list of texts in an order."""


def read_texts(given: Any) -> tuple[str, ...]:
    """The texts that a caller means. Raises ValidationError that names what is no text, empty, or no JSON."""
    if isinstance(given, str):
        return (_text(given, "text"),)
    if isinstance(given, _NO_LISTS) or not isinstance(given, Iterable):
        raise ValidationError.at("texts", f"expected a text or texts in an order, got {type(given).__name__}")
    texts = tuple(_text(text, f"texts[{i}]") for i, text in enumerate(cast("Iterable[Any]", given)))
    if not texts:
        raise ValidationError.at("texts", "there are none")
    return texts


def _text(text: Any, path: str) -> str:
    if not isinstance(text, str):
        raise ValidationError.at(path, f"expected text, got {type(text).__name__}")
    if not text:
        raise ValidationError.at(path, "it is empty")
    return str(freeze(text, path))


def chunks(texts: Sequence[str], limit: Limit) -> Iterator[tuple[str, ...]]:
    """The texts in order, in as many requests as the limit takes. One text is never cut: too long a one goes alone.

    Tokens are not counted (a tokenizer belongs to its model) but bounded: no text has more of them than bytes.
    """
    first, tokens = 0, 0
    for i, text in enumerate(texts):
        size = _most_tokens(text)
        if i > first and (i - first >= limit.texts or (limit.tokens is not None and tokens + size > limit.tokens)):
            yield tuple(texts[first:i])
            first, tokens = i, 0
        tokens += size
    if texts:
        yield tuple(texts[first:])


def _most_tokens(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
