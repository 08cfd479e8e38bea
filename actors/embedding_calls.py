"""Embeddings and moderation: `embed` and `moderate`, and their coroutine twins (`allm.aio`).

They go the way of every call. An embedding call makes as many requests as the provider's limit asks for, a few at a time; one that
fails for good ends the others. The vectors are unpacked here, in the caller's thread or task, and not on the loop.
"""

import math
from collections.abc import Iterable
from functools import reduce
from itertools import chain
from operator import add
from struct import unpack
from typing import Any, Unpack

from allm.actors.one_body_calls import EMBEDDINGS, MODERATION, Job, Service, plan_job, service_of
from allm.actors.options import ServiceOptions
from allm.embeddings import EmbeddingRequest, EmbeddingResponse, Limit, chunks, read_texts
from allm.engine import Engine
from allm.errors import EmbeddingAdapterError, ValidationError
from allm.freezing import freeze_dict
from allm.moderation import ModerationInput, ModerationRequest, ModerationResponse, ModerationResult, read_input
from allm.responses import Response

__all__ = ["embed", "embed_async", "moderate", "moderate_async"]


def embed(
    engine: Engine,
    text_or_texts: str | Iterable[str],
    model: str | None = None,
    dimensions: int | None = None,
    task_type: str | None = None,
    **opts: Unpack[ServiceOptions],
) -> EmbeddingResponse:
    """A vector for each text, in their order. Blocks; see `allm.aio.embed` for asyncio.

    The adapter is the engine's `embed_adapter`, or follows from its own; `dimensions` shortens the vectors and `task_type` says what
    they are for (`retrieval_query`, ...), where the wire has such. `opts`: `options` (into the provider's body), `api_key`, `retry`,
    `timeouts` (`total` is for each request), `request_id`, `runtime`, `on_event`, `metadata`. A long list makes several requests, of
    which `on_event` may hear at once; an engine whose host takes few texts says so by `adapter_opts={"embed_batch": n}`.

    Raises ValidationError, before anything is sent, for bad input; EngineError for an engine that has no embeddings;
    EmbeddingAdapterError for what the provider or the way to it did, once the retries are spent.
    """
    job = _plan_embedding(engine, text_or_texts, model, dimensions, task_type, opts)
    return _embedded(job.run(), job.request_id)


async def embed_async(
    engine: Engine,
    text_or_texts: str | Iterable[str],
    model: str | None = None,
    dimensions: int | None = None,
    task_type: str | None = None,
    **opts: Unpack[ServiceOptions],
) -> EmbeddingResponse:
    """A vector for each text, in their order. Cancelling the task ends its HTTP requests at once. See `allm.embed`."""
    job = _plan_embedding(engine, text_or_texts, model, dimensions, task_type, opts)
    del opts
    return _embedded(await job.run_async(), job.request_id)


def moderate(engine: Engine, input: ModerationInput, model: str | None = None, **opts: Unpack[ServiceOptions]) -> ModerationResponse:
    """Verdicts: one for each text, or one for parts (texts and images) together. Blocks; see `allm.aio.moderate` for asyncio.

    The adapter is the engine's `moderation_adapter`, or follows from its own. `opts` as `allm.embed` has them. Raises ValidationError,
    EngineError, and ModerationAdapterError for what the provider or the way to it did.
    """
    job = _plan_moderation(engine, input, model, opts)
    return _moderated(job.run(), job.request_id)


async def moderate_async(
    engine: Engine, input: ModerationInput, model: str | None = None, **opts: Unpack[ServiceOptions]
) -> ModerationResponse:
    """Verdicts. Cancelling the task ends the HTTP request at once. See `allm.moderate`."""
    job = _plan_moderation(engine, input, model, opts)
    del opts
    return _moderated(await job.run_async(), job.request_id)


def _plan_embedding(
    engine: Engine, given: Any, model: str | None, dimensions: int | None, task_type: str | None, opts: ServiceOptions
) -> Job[list[Any]]:
    def prepare() -> tuple[Service, list[EmbeddingRequest]]:
        texts = read_texts(given)
        service = service_of(engine, EMBEDDINGS, model)
        if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
            raise ValidationError.at("dimensions", f"must be a whole number of at least 1, got {dimensions!r}")
        if task_type is not None and (not isinstance(task_type, str) or not task_type):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError.at("task_type", f"expected text, got {task_type!r}")
        options = freeze_dict(opts.get("options") or {}, "options")
        batches = chunks(texts, _limit(service.adapter, engine))
        fields: dict[str, Any] = {"model": service.model, "dimensions": dimensions, "task_type": task_type, "options": options}
        return service, [EmbeddingRequest(texts=batch, **fields) for batch in batches]

    return plan_job(EMBEDDINGS, opts, prepare)


def _limit(adapter: Any, engine: Engine) -> Limit:
    """The adapter's, or less where the engine says that its host takes less."""
    limit: Limit = adapter.limit
    most: Any = engine.adapter_opts.get("embed_batch")
    if most is None:
        return limit
    if type(most) is not int or most < 1:
        raise ValidationError.at("engine.adapter_opts.embed_batch", f"must be a whole number of at least 1, got {most!r}")
    return limit._replace(texts=min(most, limit.texts))


def _plan_moderation(engine: Engine, given: Any, model: str | None, opts: ServiceOptions) -> Job[tuple[ModerationResult, ...]]:
    def prepare() -> tuple[Service, list[ModerationRequest]]:
        service = service_of(engine, MODERATION, model)
        return service, [read_input(given, service.model, freeze_dict(opts.get("options") or {}, "options"))]

    return plan_job(MODERATION, opts, prepare)


def _embedded(outcomes: list[tuple[Response, list[Any]]], request_id: str) -> EmbeddingResponse:
    responses = [response for response, _ in outcomes]
    first = responses[0]
    vectors = tuple(map(_unpacked, chain.from_iterable(vectors for _, vectors in outcomes)))
    _check(vectors, request_id)
    return EmbeddingResponse(
        id=first.id if len(responses) == 1 else None,
        request_id=request_id,
        model=first.model,
        vectors=vectors,
        usage=reduce(add, (response.usage for response in responses)),
        metadata=first.metadata if len(responses) == 1 else {"requests": tuple(response.metadata for response in responses)},
    )


def _unpacked(vector: bytes | tuple[float, ...]) -> tuple[float, ...]:
    return unpack(f"<{len(vector) // 4}f", vector) if isinstance(vector, bytes) else vector


def _check(vectors: tuple[tuple[float, ...], ...], request_id: str) -> None:
    """Vectors that cannot be compared are no answer. (A sum is finite only if its terms are: 20 us for 1,536 of them.)"""
    length = len(vectors[0])
    if not length or any(len(vector) != length for vector in vectors):
        problem = "the vectors are not all of one length"
    elif not all(math.isfinite(sum(vector)) or all(map(math.isfinite, vector)) for vector in vectors):
        problem = "a vector has a component that is no finite number"
    else:
        return
    raise EmbeddingAdapterError("malformed_response", problem, request_id=request_id)


def _moderated(outcomes: list[tuple[Response, tuple[ModerationResult, ...]]], request_id: str) -> ModerationResponse:
    ((response, results),) = outcomes
    return ModerationResponse(id=response.id, request_id=request_id, model=response.model, results=results, metadata=response.metadata)
