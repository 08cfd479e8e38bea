"""Anthropic Messages: the adapter. The request is in `anthropic_request`, the answer in `anthropic_decoder`."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.providers.adapter import EITHER, HttpRequest
from allm.providers.anthropic_decoder import AnthropicDecoder
from allm.providers.anthropic_request import messages_body
from allm.providers.anthropic_terms import obj
from allm.providers.decoding import storable
from allm.providers.failures import failure
from allm.requests import Request
from allm.wire_json import encode

__all__ = ["Anthropic"]

VERSION: Final = "2023-06-01"

_CREDIT = re.compile(r"credit balance is too low", re.I)
_CONTEXT = re.compile(r"exceeds? (?:the )?(?:model's )?context limit", re.I)


class Anthropic:
    """The wire `anthropic`."""

    name = "anthropic"
    provider = "anthropic"

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """`POST {base_url}/v1/messages`. `adapter_opts["beta"]` names features in beta: a name or a list of them."""
        headers = [
            ("content-type", "application/json"),
            ("accept", EITHER if stream else "application/json"),
            ("anthropic-version", VERSION),
        ]
        if beta := engine.adapter_opts.get("beta"):
            headers.append(("anthropic-beta", beta if isinstance(beta, str) else ",".join(map(str, beta))))
        return HttpRequest(
            url=f"{base_url}/v1/messages",
            headers=tuple(headers),
            body=encode(messages_body(engine, request, base_url, stream)),
            key_header="x-api-key",
        )

    def fetches(self, url: str) -> bool:
        """Whether an image at this address goes out by its bytes: this wire takes https addresses."""
        return url.startswith("http://")

    def left_out(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        """This wire has no seed."""
        return ("seed",) if request.seed is not None else ()

    def decoder(self, engine: Engine, context: CallContext) -> AnthropicDecoder:
        """A decoder for one attempt."""
        return AnthropicDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means. A spent credit and an overflow are told by the message alone; the body has the request's id too."""
        info = failure(self.provider, status, headers, body)
        if status == 400 and info.reason == "invalid_request":
            if _CREDIT.search(info.message):
                info = msgspec.structs.replace(info, reason="quota_exceeded", retry_after=None)
            elif _CONTEXT.search(info.message):
                info = msgspec.structs.replace(info, reason="context_length_exceeded", retry_after=None)
        request_id = obj(storable(body)).get("request_id")
        if isinstance(request_id, str) and "provider_request_id" not in info.metadata:
            info = msgspec.structs.replace(info, metadata={**info.metadata, "provider_request_id": request_id})
        return info
