"""Adapters by name: the built-in ones, those registered by the entry-point group `allm.adapters`, and `"package.module:Class"`."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from allm.callables import resolve
from allm.errors import EngineError
from allm.providers.adapter import Adapter

__all__ = ["BUILT_IN", "GROUP", "ONE_BODY", "adapter_and_model", "adapter_for", "one_body_for"]

GROUP: Final = "allm.adapters"

BUILT_IN: Final[dict[str, str]] = {
    "openai": "allm.providers.openai:OpenAI",
    "openai.chat": "allm.providers.openai_chat:OpenAIChat",
    "openai.responses": "allm.providers.openai_responses:OpenAIResponses",
    "gemini": "allm.providers.gemini:Gemini",
    "anthropic": "allm.providers.anthropic:Anthropic",
    "fake": "allm.providers.fake:Fake",
    "sim": "allm.testing.sim:Sim",
    "openai.images": "allm.providers.openai_images:OpenAIImages",
    "gemini.images": "allm.providers.gemini_images:GeminiImages",
    "fake.images": "allm.providers.fake_images:FakeImages",
}

ONE_BODY: Final[dict[str, str]] = {
    "openai.embeddings": "allm.providers.openai_embeddings:OpenAIEmbeddings",
    "gemini.embeddings": "allm.providers.gemini_embeddings:GeminiEmbeddings",
    "fake.embeddings": "allm.providers.fake_embeddings:FakeEmbeddingsAdapter",
    "openai.moderation": "allm.providers.openai_moderation:OpenAIModeration",
    "fake.moderation": "allm.providers.fake_moderation:FakeModerationAdapter",
}
"""Those of calls that are no conversation: `allm.providers.one_body`."""

_METHODS: Final = ("request", "decoder", "failure")

_made: dict[str, Adapter] = {}
_one_bodies: dict[str, Any] = {}


def adapter_for(name: str) -> Adapter:
    """The adapter `name`; imported at its first use. Raises EngineError("unknown_adapter")."""
    made = _made.get(name)
    if made is None:
        found = _find(name, BUILT_IN, "engine.adapter")
        if found is None:
            known = sorted({*BUILT_IN, *(point.name for point in importlib.metadata.entry_points(group=GROUP))})
            raise EngineError("unknown_adapter", f"there is no adapter {name!r}; known are {', '.join(known)}, or 'package.module:Class'")
        if not _has(found, _METHODS) or not isinstance(getattr(found, "provider", None), str):
            raise EngineError("unknown_adapter", f"engine.adapter: {name!r} is no adapter; one has provider, {', '.join(_METHODS)}")
        made = _made[name] = _one_of(found, name)
    return made


def one_body_for(name: str, field: str) -> Any:
    """The same for calls that are no conversation; `field` is where the engine names it."""
    made = _one_bodies.get(name)
    if made is None:
        found = _find(name, ONE_BODY, field)
        if not _has(found, ("request", "read")):
            raise EngineError("unknown_adapter", f"{field}: {name!r} is no adapter for this; known are {', '.join(sorted(ONE_BODY))}")
        made = _one_bodies[name] = _one_of(found, name)
    return made


def adapter_and_model(text: str) -> tuple[str, str | None]:
    """(adapter, model) of `adapter`, `adapter:model`, `package.module:Class` or `package.module:Class:model`."""
    name, _, model = text.partition(":")
    if model and name not in BUILT_IN and name not in ONE_BODY and not _points(name):
        of_class, _, model = model.partition(":")
        name = f"{name}:{of_class}"
    return name, model or None


def _find(name: str, built_in: Mapping[str, str], field: str) -> Any:
    """The adapter or its class, None if there is none of that name."""
    if path := built_in.get(name) or (name if ":" in name else None):
        return resolve(path, field)
    return next((point.load() for point in _points(name)), None)


def _points(name: str) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=GROUP, name=name)


def _has(found: Any, methods: Sequence[str]) -> bool:
    """Whether this object, or what its class makes, can be called in these ways. A class is asked before it is called."""
    return all(callable(getattr(found, name, None)) for name in methods)


def _one_of(found: Any, name: str) -> Any:
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:
        raise EngineError("unknown_adapter", f"the adapter {name!r} cannot be made: {type(error).__name__}: {error}") from error
