"""What calls that are no conversation have in common: which adapter and model serve them, their options, and how they are made."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from msgspec.structs import replace

from allm.actors.call import Plan
from allm.actors.fleet import Fleet
from allm.actors.options import ServiceOptions
from allm.actors.request_plan import call_options, callback_of, checked_base_url, checked_engine, kept_key, refuse_unknown
from allm.actors.runtime import Runtime, default_runtime
from allm.actors.vault import KeyHandle
from allm.engine import Engine
from allm.errors import AdapterError, AllmError, EngineError, ValidationError, error_from
from allm.freezing import freeze_dict
from allm.providers.one_body import Bound, OneBody
from allm.providers.registry import adapter_and_model, adapter_for, one_body_for
from allm.requests import Request
from allm.responses import Response

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


class Service(NamedTuple):
    """What serves an engine's calls of a kind. `engine` is the caller's, under this adapter's name and model."""

    engine: Engine
    adapter: Any
    model: str
    base_url: str


def service_of(engine: Engine, kind: Kind, model: str | None) -> Service:
    """Raises EngineError for an engine that has nothing for this, naming what to set."""
    name, named = _split(checked_engine(engine), kind)
    adapter: OneBody[Any, Any] = one_body_for(name, f"engine.{kind.field}")
    chosen = model or named or adapter.default_model
    if not isinstance(chosen, str) or not chosen:
        raise ValidationError.at("model", f"expected the name of a model, got {chosen!r}")
    own = engine.adapter == name or adapter_for(engine.adapter).provider == adapter.provider
    base_url = checked_base_url(adapter.provider, engine.base_url if own else None)
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
    return adapter_and_model(given)


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


def plan_job(kind: Kind, opts: ServiceOptions, prepare: Callable[[], tuple[Service, Sequence[Any]]]) -> Job[Any]:
    """The calls for the asks that `prepare` gives. Takes the key out of `opts` before anything else, so that no frame of a traceback
    holds it. Raises TypeError for an option that these calls do not have."""
    runtime, handle = kept_key(opts)
    handles: list[KeyHandle] = [] if handle is None else [handle]
    try:
        refuse_unknown(opts, ServiceOptions.__optional_keys__)
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
    engine = service.engine
    metadata = {**engine.metadata, **freeze_dict(opts.get("metadata") or {}, "metadata")}
    request = Request((), model=service.model, metadata=metadata)
    options = call_options(engine, request, {**opts, "wire": "json"}, folding=True)
    on_event = callback_of(opts.get("on_event"))
    plans: list[Plan] = []
    for i, ask in enumerate(asks):
        own = options if len(asks) == 1 else replace(options, request_id=f"{options.request_id}/{i + 1}")
        plan = Plan(engine, Bound(service.adapter, ask).as_adapter(), service.base_url, request, own, on_event)
        plan.service = True
        plans.append(plan)
    return plans, options.request_id
