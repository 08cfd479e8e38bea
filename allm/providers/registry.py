"""Adapters by name: the built-in ones, those registered by the entry-point group `allm.adapters`, and `"package.module:Class"`."""

import importlib.metadata
from typing import Any, Final

from allm.callables import resolve
from allm.errors import EngineError
from allm.providers.adapter import Adapter

__all__ = ["BUILT_IN", "GROUP", "adapter_for"]

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

_made: dict[str, Adapter] = {}


def adapter_for(name: str) -> Adapter:
    """The adapter `name`; imported at its first use. Raises EngineError("unknown_adapter")."""
    made = _made.get(name)
    if made is None:
        made = _made[name] = _make(name)
    return made


def _make(name: str) -> Adapter:
    path = BUILT_IN.get(name) or (name if ":" in name else None)
    found: Any = resolve(path, "engine.adapter") if path else _registered(name)
    adapter: Adapter = found() if isinstance(found, type) else found
    return adapter


def _registered(name: str) -> Any:
    for point in importlib.metadata.entry_points(group=GROUP, name=name):
        return point.load()
    known = sorted({*BUILT_IN, *(point.name for point in importlib.metadata.entry_points(group=GROUP))})
    raise EngineError("unknown_adapter", f"there is no adapter {name!r}; known are {', '.join(known)}, or 'package.module:Class'")
