"""OpenAI Chat Completions, and the many hosts that speak it: the adapter.

What is sent is in `openai_chat_request` and `openai_chat_messages`, what comes back in `openai_chat_decoder`.
"""

from collections.abc import Mapping

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.providers.adapter import EITHER, HttpRequest
from allm.providers.answer_ways import ways_at
from allm.providers.failures import failure
from allm.providers.openai_chat_decoder import ChatDecoder
from allm.providers.openai_chat_request import chat_body
from allm.requests import Request
from allm.wire_json import encode

__all__ = ["ChatDecoder", "OpenAIChat"]


class OpenAIChat:
    """The wire `openai.chat`."""

    name = "openai.chat"
    provider = "openai"

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """`POST {base_url}/chat/completions`."""
        return HttpRequest(
            url=f"{base_url}/chat/completions",
            headers=(
                ("content-type", "application/json"),
                ("accept", EITHER if stream else "application/json"),
            ),
            body=encode(chat_body(engine, request, base_url, stream)),
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def ways(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        """The ways to ask for an answer by a schema that are tried at this address, one after another."""
        return ways_at(base_url)

    def decoder(self, engine: Engine, context: CallContext) -> ChatDecoder:
        """A decoder for one attempt."""
        return ChatDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return failure(self.provider, status, headers, body)
