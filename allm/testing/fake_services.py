"""`FakeEmbeddings` and `FakeModeration`: engines that answer without a network, and what they were asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from allm.embeddings import EmbeddingRequest
from allm.engine import Engine
from allm.moderation import ModerationRequest
from allm.providers.fake_embeddings import SIZE
from allm.providers.fake_log import keep_requests, log_of

__all__ = ["FakeEmbeddings", "FakeModeration"]

Failures = Sequence[str | tuple[str, Mapping[str, Any]] | None]
"""What the first requests end with, one entry each: None (an answer), a reason, or (reason, details as `allm.ErrorInfo` has them)."""


class _FakeService:
    """`calls` counts requests (not attempts): a long list of texts makes several. `requests` are these, in the order they were made."""

    _service = ""

    def __init__(self, own: Mapping[str, Any], errors: Failures, retry_until_call: int, delay: float, engine: dict[str, Any]) -> None:
        settings = {**own, "errors": errors, "retry_until_call": retry_until_call, "delay": delay, "record": True}
        opts = {**engine.pop("adapter_opts", {}), self._service: settings}
        self.engine = Engine(engine.pop("name", "fake:any"), adapter_opts=opts, **engine)
        self._requests = keep_requests(self.engine, self._service)

    @property
    def calls(self) -> int:
        """How many requests there were."""
        return log_of(self.engine, self._service).calls


class FakeEmbeddings(_FakeService):
    """`allm.embed(FakeEmbeddings().engine, texts)`: a text has a vector of its own, always the same, `size` floats long.

    `vectors` gives those that a test cares about. `errors` are what the first requests end with; with `retry_until_call=n` the first
    n-1 attempts of each fail; `delay` is in seconds. Other keywords go to `allm.Engine`.
    """

    _service = "embeddings"

    def __init__(
        self,
        vectors: Mapping[str, Sequence[float]] | None = None,
        *,
        size: int = SIZE,
        errors: Failures = (),
        retry_until_call: int = 1,
        delay: float = 0.0,
        **engine: Any,
    ) -> None:
        super().__init__({"vectors": vectors or {}, "size": size}, errors, retry_until_call, delay, engine)

    @property
    def requests(self) -> tuple[EmbeddingRequest, ...]:
        """What each request carried."""
        return tuple(self._requests)


class FakeModeration(_FakeService):
    """`allm.moderate(FakeModeration({"kill": ["violence"]}).engine, texts)`: flags what contains certain words, for these categories.

    `errors`, `retry_until_call`, `delay` and other keywords as `FakeEmbeddings` has them.
    """

    _service = "moderation"

    def __init__(
        self,
        flags: Mapping[str, Sequence[str]] | None = None,
        *,
        errors: Failures = (),
        retry_until_call: int = 1,
        delay: float = 0.0,
        **engine: Any,
    ) -> None:
        super().__init__({"flags": flags or {}}, errors, retry_until_call, delay, engine)

    @property
    def requests(self) -> tuple[ModerationRequest, ...]:
        """What each request carried."""
        return tuple(self._requests)
