"""The four wires: how a body of each is read, written, brought into one form, and what the judge and the recordings call it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec.structs import replace

from allm import Engine, Request
from allm.providers.adapter import HttpRequest, Script
from allm.providers.anthropic import Anthropic
from allm.providers.gemini import Gemini
from allm.providers.openai_chat import OpenAIChat
from allm.providers.openai_responses import OpenAIResponses
from tests.wire import judging
from tests.wire.reading import anthropic, chat, gemini, responses
from tests.wire.reading.common import Json, Reading

__all__ = ["WIRES", "Wire", "model_in"]


class Adapter(Protocol):
    """What of an adapter is asked here."""

    @property
    def provider(self) -> str: ...

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest | Script: ...


@dataclass(frozen=True)
class Wire:
    """One wire, with a model and a host to write for."""

    name: str
    judge: str
    recorded: tuple[str, ...]
    adapter: Adapter
    model: str
    base_url: str
    read: Callable[[Json, str | None], Reading]
    normal: Callable[[Json], Json]

    def write(self, request: Request, stream: bool = False, **opts: Any) -> Json:
        """The body of this request, for its own model or this wire's."""
        engine = Engine(adapter=self.name, model=request.model or self.model, adapter_opts=opts)
        sent = self.adapter.request(engine, request, self.base_url, stream)
        assert isinstance(sent, HttpRequest)
        body: Json = json.loads(sent.body)
        return body

    def write_from_elsewhere(self, reading: Reading) -> Json:
        """The body of a request that was made for another wire: neither its model nor its options are of any use here."""
        return self.write(replace(reading.request, model=None, options={}), reading.stream)


WIRES = {
    wire.name: wire
    for wire in (
        Wire(
            "openai.chat", judging.CHAT, ("openai.chat", "compat.chat"), OpenAIChat(), "gpt-4.1-mini", "https://api.openai.com/v1",
            chat.read, chat.normal,
        ),
        Wire(
            "openai.responses", judging.RESPONSES, ("openai.responses",), OpenAIResponses(), "gpt-5", "https://api.openai.com/v1",
            responses.read, responses.normal,
        ),
        Wire(
            "anthropic", judging.MESSAGES, ("anthropic.messages",), Anthropic(), "claude-sonnet-4-5", "https://api.anthropic.com",
            anthropic.read, anthropic.normal,
        ),
        Wire(
            "gemini", judging.GEMINI, ("gemini.generate", "gemini.stream"), Gemini(), "gemini-2.5-flash",
            "https://generativelanguage.googleapis.com", gemini.read, gemini.normal,
        ),
    )
}  # fmt: skip


def model_in(path: str) -> str | None:
    """The model that a recorded path names."""
    found = re.search(r"/(?:models|deployments)/([^/:?]+)", path)
    return found[1] if found else None
