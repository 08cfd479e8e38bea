"""The OpenAI moderations wire, as the simulator speaks it. Shapes follow recorded exchanges.

A text is flagged for the categories that it names ("this is violence"); a reply's text names more, for every input.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from allm.providers.fake_moderation import CATEGORIES, verdict
from allm.testing.wires.chat import ChatWire
from allm.testing.wires.contract import Ask, BadRequest, Frames
from allm.testing.wires.script import Reply

__all__ = ["ModerationsWire"]


class ModerationAsk(Ask, frozen=True, kw_only=True):
    """What is judged one by one, and the kinds of input in it."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...] = ("text",)


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    image_url: _Url | None = None


class _Body(msgspec.Struct):
    input: str | list[str | _Part]
    model: str = "omni-moderation-latest"


class ModerationsWire(ChatWire):
    """`POST <anything>/moderations`."""

    name = "moderations"

    def serves(self, path: str) -> bool:
        return path.rstrip("/").endswith("/moderations")

    def parse(self, target: str, body: Any) -> Ask:
        try:
            asked = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid request body: {error}") from None
        given = [asked.input] if isinstance(asked.input, str) else asked.input
        if not given:
            raise BadRequest(400, "'$.input' is invalid. Please check the API reference.")
        parts = [item for item in given if isinstance(item, _Part)]
        if not parts:
            texts = tuple(item for item in given if isinstance(item, str))
            return ModerationAsk(model=asked.model, user_text=texts[-1], texts=texts)
        if sum(part.type == "image_url" for part in parts) > 1:
            raise BadRequest(400, "Number of images exceeds maximum of 1", "too_many_images")
        kinds = tuple(sorted({"text" if part.type == "text" else "image" for part in parts}))
        text = " ".join(part.text for part in parts)
        return ModerationAsk(model=asked.model, user_text=text, texts=(text,), kinds=kinds)

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        raise BadRequest(400, "moderations are not streamed")

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        assert isinstance(ask, ModerationAsk)
        said = set[str]() if ask.user_text and ask.user_text in reply.text else _named(reply.text)  # an echo names nothing new
        results = [verdict(said | _named(text), ask.kinds) for text in ask.texts]
        return msgspec.json.encode({"id": f"modr-sim-{number}", "model": ask.model, "results": results})


def _named(text: str) -> set[str]:
    return set(re.findall(r"[a-z/-]+", text.lower())) & {*CATEGORIES}
