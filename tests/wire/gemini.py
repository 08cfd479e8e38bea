"""Small answers of the Gemini wire, written by hand, and what the decoder makes of them."""

import base64
import json
from typing import Any

from allm.blocks import CallContext
from allm.engine import Engine
from allm.events import Event
from allm.providers.gemini import Gemini, GeminiDecoder
from allm.requests import Request
from tests.wire.chat import checked

ORIGIN = "https://generativelanguage.googleapis.com"
SIGNED = base64.b64encode(b"a thought").decode()
OTHER = base64.b64encode(b"another thought").decode()
UNCHECKED = base64.b64encode(b"skip_thought_signature_validator").decode()


def decoder(*used_ids: str, raw_chunks: bool = False) -> GeminiDecoder:
    return GeminiDecoder(CallContext(request_id="req", used_ids=frozenset(used_ids), include_raw_chunks=raw_chunks))


def frame(data: Any) -> bytes:
    """One event of a stream; `data` is JSON, or bytes as they are."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\r\n\r\n"


def said(*parts: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk with one candidate of these parts; a string is a text."""
    content: dict[str, Any] = {"role": "model", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}
    candidate = {"content": content, "index": 0, **({"finishReason": finish} if finish is not None else {}), **more}
    return {"candidates": [candidate], "modelVersion": "m1", "responseId": "r1"}


def chunk(*parts: Any, finish: Any = None, **more: Any) -> bytes:
    return frame(said(*parts, finish=finish, **more))


def call(name: str | None = None, args: Any = None, signature: str | None = None, **more: Any) -> dict[str, Any]:
    """A part with a function call, with nothing in it that is not given."""
    told = {**({"name": name} if name else {}), **({"args": args} if args is not None else {}), **more}
    return {"functionCall": told, **({"thoughtSignature": signature} if signature else {})}


def streamed(*pieces: bytes, raw_chunks: bool = False, used: tuple[str, ...] = ()) -> list[Event]:
    """The events of a stream in these pieces, checked for their order."""
    told = decoder(*used, raw_chunks=raw_chunks)
    return checked([event for piece in pieces for event in told.feed(piece)] + told.end())


def whole(data: Any, raw_chunks: bool = False) -> list[Event]:
    """The events of one body, checked for their order, as the runtime asks for them."""
    told = decoder(raw_chunks=raw_chunks)
    events = told.body(data if isinstance(data, bytes) else json.dumps(data).encode())
    return checked(events + told.end())


def body_of(request: Request, model: str = "gemini-2.5-flash") -> dict[str, Any]:
    body: dict[str, Any] = json.loads(Gemini().request(Engine(f"gemini:{model}"), request, ORIGIN, True).body)
    return body
