"""A provider of moderation with no network: it flags what contains certain words.

`adapter_opts["moderation"]`: `flags` (word -> the categories that it belongs to), beside what all fakes know
(`allm.providers.fake_one_body`). Images are looked at and never flagged.
"""

from collections.abc import Mapping
from typing import Any, Final

from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.messages import TextPart
from allm.moderation import ModerationRequest, ModerationResult
from allm.providers.adapter import Script
from allm.providers.failures import failure
from allm.providers.fake_one_body import FakeSettings, opened, script, settings_of
from allm.providers.one_body import Answer
from allm.providers.openai_moderation import read_moderation
from allm.responses import Response

__all__ = ["CATEGORIES", "FakeModerationAdapter", "verdict"]

CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm", "self-harm/instructions",
    "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
"""The names that OpenAI uses."""

_LIKELY, _UNLIKELY = 0.99, 0.0001


class _Settings(FakeSettings, frozen=True, kw_only=True):
    flags: dict[str, tuple[str, ...]] = {}


def verdict(flagged: set[str], kinds: tuple[str, ...] = ("text",)) -> dict[str, Any]:
    """A result, as the wire has it, that flags these categories."""
    names = sorted({*CATEGORIES, *flagged})
    return {
        "flagged": bool(flagged),
        "categories": {name: name in flagged for name in names},
        "category_scores": {name: _LIKELY if name in flagged else _UNLIKELY for name in names},
        "category_applied_input_types": dict.fromkeys(names, kinds),
    }


class FakeModerationAdapter:
    """The adapter `fake.moderation`."""

    name = "fake.moderation"
    provider = "fake"
    default_model = "fake-moderation"

    def request(self, engine: Engine, ask: ModerationRequest, base_url: str) -> Script:
        """The script that answers."""
        settings = settings_of(engine, "moderation", _Settings)

        def judged(text: str) -> set[str]:
            return {name for word, names in settings.flags.items() if word.lower() in text.lower() for name in names}

        results = [verdict(judged(text)) for text in ask.texts]
        if ask.parts:
            kinds = tuple(sorted({"text" if isinstance(part, TextPart) else "image" for part in ask.parts}))
            results = [verdict(judged(" ".join(part.text for part in ask.parts if isinstance(part, TextPart))), kinds)]
        return script(engine, "moderation", ask, settings, {"id": "modr-fake", "model": ask.model, "results": results})

    def read(self, ask: ModerationRequest, answer: Answer) -> tuple[Response, tuple[ModerationResult, ...]] | ErrorInfo:
        """The verdicts."""
        inner = opened(answer)
        return inner if isinstance(inner, ErrorInfo) else read_moderation(self.provider, ask.verdicts, inner)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """A fake has no HTTP answers."""
        return failure(self.provider, status, headers, body)
