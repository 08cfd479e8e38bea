"""OpenAI Responses: the adapter. What is sent is in `openai_responses_request`, what comes back in `openai_responses_decoder`."""

from collections.abc import Mapping

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.providers.adapter import EITHER, HttpRequest
from allm.providers.answer_ways import ways_at
from allm.providers.failures import failure
from allm.providers.openai_responses_decoder import ResponsesDecoder
from allm.providers.openai_responses_items import MAKER
from allm.providers.openai_responses_request import responses_body
from allm.requests import Request
from allm.wire_json import encode

__all__ = ["OpenAIResponses"]


class OpenAIResponses:
    """The wire `openai.responses`."""

    name = "openai.responses"
    provider = MAKER

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """`POST {base_url}/responses`."""
        return HttpRequest(
            url=f"{base_url}/responses",
            headers=(
                ("content-type", "application/json"),
                ("accept", EITHER if stream else "application/json"),
            ),
            body=encode(responses_body(engine, request, stream)),
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def left_out(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        """This wire has no stop words and no seed."""
        return (*(("stop",) if request.stop else ()), *(("seed",) if request.seed is not None else ()))

    def ways(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        """The ways to ask for an answer by a schema that are tried at this address, one after another."""
        return ways_at(base_url)

    def decoder(self, engine: Engine, context: CallContext) -> ResponsesDecoder:
        """A decoder for one attempt."""
        return ResponsesDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return failure(self.provider, status, headers, body)
