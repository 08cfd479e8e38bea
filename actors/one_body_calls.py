"""What calls that are no conversation have in common: which adapter and model serve them, their options, and how they are made."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from msgspec.structs import replace

from allm.actors.call import Options, Plan
from allm.actors.fleet import Fleet
from allm.actors.runtime import Runtime, default_runtime
from allm.actors.vault import KeyHandle
from allm.engine import Engine
from allm.environment import environment
from allm.errors import AdapterError, AllmError, EngineError, ValidationError, error_from
from allm.freezing import freeze_dict
from allm.providers.one_body import Bound, OneBody, one_body_for, registered
from allm.providers.registry import adapter_for
from allm.requests import Request
from allm.responses import Response
from allm.retry import Retry
from allm.settings import Timeouts

__all__ = ["EMBEDDINGS", "MODERATION", "Job", "Kind", "Service", "plan_job", "service_of"]

ResultT = TypeVar("ResultT")


class Kind(NamedTuple):
    """A kind of call: the part after the dot of its adapters' names, the engine's field for it, the kind of its errors."""

    suffix: str
    field: str
    error: str
    families: tuple[str, ...]
    """The providers that have it, as an engine's adapter names them before its dot."""


EMBEDDINGS: Final = Kind("embeddings", "embed_adapter", "embedding_adapter", ("openai", "gemini", "fake"))
MODERATION: Final = Kind("moderation", "moderation_adapter", "moderation_adapter", ("openai", "fake"))

_KNOWN: Final = frozenset({"options", "api_key", "retry", "timeouts", "request_id", "runtime", "on_event", "metadata"})


class Service(NamedTuple):
    """What serves an engine's calls of a kind. `engine` is the caller's, under this adapter's name and model."""

    engine: Engine
    adapter: Any
    model: str
    base_url: str


def service_of(engine: Engine, kind: Kind, model: str | None) -> Service:
    """Raises EngineError for an engine that has nothing for this, naming what to set."""
    if not isinstance(engine, Engine):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError.at("engine", f"expected an allm.Engine, got {type(engine).__name__}")
    name, named = _split(engine, kind)
    adapter: OneBody[Any, Any] = one_body_for(name, f"engine.{kind.field}")
    chosen = model or named or adapter.default_model
    if not isinstance(chosen, str) or not chosen:
        raise ValidationError.at("model", f"expected the name of a model, got {chosen!r}")
    own = engine.adapter == name or adapter_for(engine.adapter).provider == adapter.provider
    base_url = environment.base_url(adapter.provider, engine.base_url if own else None)
    if any(mark in base_url for mark in "?#@ "):
        raise ValidationError.at("engine.base_url", "an address without user name, query or fragment is expected")
    return Service(replace(engine, adapter=name, model=chosen), adapter, chosen, base_url)


def _split(engine: Engine, kind: Kind) -> tuple[str, str | None]:
    """(adapter, model) that the engine names for this kind, or that follow from its own adapter."""
    given: str | None = getattr(engine, kind.field)
    if given is None:
        if engine.adapter.endswith(f".{kind.suffix}"):
            return engine.adapter, engine.model or None
        family = engine.adapter.partition(".")[0]
        if family in kind.families:
            return f"{family}.{kind.suffix}", None
        likely = f"openai.{kind.suffix}"
        raise EngineError(
            "no_adapter",
            f"the adapter {engine.adapter!r} has no {kind.suffix}: name one that has, Engine(..., {kind.field}={likely!r})",
        )
    name, _, model = given.partition(":")
    if model and not registered(name):  # package.module:Class, perhaps with a model
        module, _, rest = given.partition(":")
        name, model = f"{module}:{rest.partition(':')[0]}", rest.partition(":")[2]
    return name, model or None


class Job(Generic[ResultT]):
    """Calls that are planned, and then run once: `run` or `await run_async`. Gives how each went and what it gave, in their order."""

    def __init__(self, kind: Kind, bounds: Sequence[Bound[Any, ResultT]], fleet: Fleet, request_id: str) -> None:
        self._kind = kind
        self._bounds = bounds
        self._fleet = fleet
        self.request_id = request_id

    def run(self) -> list[tuple[Response, ResultT]]:
        """Blocks."""
        try:
            self._fleet.run()
        except AdapterError as error:
            raise self._named(error) from None
        return self._outcomes()

    async def run_async(self) -> list[tuple[Response, ResultT]]:
        """The same for asyncio."""
        try:
            await self._fleet.run_async()
        except AdapterError as error:
            raise self._named(error) from None
        return self._outcomes()

    def _named(self, error: AdapterError) -> AllmError:
        """What the adapter, or the way to it, did is told under the name of this kind of call."""
        return error_from(replace(error.info, kind=self._kind.error))

    def _outcomes(self) -> list[tuple[Response, ResultT]]:
        outcomes = [bound.outcome for bound in self._bounds]
        return cast("list[tuple[Response, ResultT]]", outcomes)  # a call that ended well has one


def plan_job(kind: Kind, opts: dict[str, Any], prepare: Callable[[], tuple[Service, Sequence[Any]]]) -> Job[Any]:
    """The calls for the asks that `prepare` gives. Takes the key out of `opts` before anything else, so that no frame of a traceback
    holds it. Raises TypeError for an option that these calls do not have."""
    runtime: Runtime | None = opts.get("runtime")
    handles: list[KeyHandle] = []
    if opts.get("api_key") is not None:
        runtime = runtime or default_runtime()
        handles.append(runtime.vault.put(opts.pop("api_key")))
    try:
        if unknown := opts.keys() - _KNOWN:
            raise TypeError(f"unknown options {sorted(unknown)}; what only the provider knows goes into options={{...}}")
        plans, request_id = _plans(*prepare(), opts)
        runtime = runtime or default_runtime()
        if handles:
            for _ in plans[1:]:  # each call drops its own
                handles.append(runtime.vault.put(cast("str", runtime.vault.take(handles[0]))))
            for plan, handle in zip(plans, handles, strict=True):
                plan.key = handle
    except BaseException:
        for handle in handles:
            cast("Runtime", runtime).vault.drop(handle)
        raise
    return Job(kind, [cast("Bound[Any, Any]", plan.adapter) for plan in plans], Fleet(plans, runtime), request_id)


def _plans(service: Service, asks: Sequence[Any], opts: Mapping[str, Any]) -> tuple[list[Plan], str]:
    request_id: Any = opts.get("request_id") or f"req-{os.urandom(8).hex()}"
    if not isinstance(request_id, str):
        raise ValidationError.at("request_id", f"expected text, got {type(request_id).__name__}")
    on_event: Any = opts.get("on_event")
    if on_event is not None and (not callable(on_event) or inspect.iscoroutinefunction(on_event)):
        raise ValidationError.at("on_event", "expected a function that takes an event (no coroutine function)")
    engine = service.engine
    metadata = {**engine.metadata, **freeze_dict(opts.get("metadata") or {}, "metadata")}
    retry = _typed(opts.get("retry"), Retry, "retry") or engine.retry
    timeouts = _typed(opts.get("timeouts"), Timeouts, "timeouts") or engine.timeouts
    plans: list[Plan] = []
    for i, ask in enumerate(asks):
        options = Options(
            request_id=request_id if len(asks) == 1 else f"{request_id}/{i + 1}",
            retry=retry,
            timeouts=timeouts,
            folding=True,
            one_body=True,
            metadata=metadata,
        )
        adapter = Bound(service.adapter, ask).as_adapter()
        plans.append(Plan(engine, adapter, service.base_url, Request((), model=service.model, metadata=metadata), options, on_event))
    return plans, request_id


def _typed(value: Any, kind: type[Any], path: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ValidationError.at(path, f"expected allm.{kind.__name__}(...), got {type(value).__name__}")
    return value
