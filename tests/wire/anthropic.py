"""Small answers of the Messages wire, written by hand, and what the decoder makes of them."""

import json
from collections.abc import Iterable
from typing import Any

from allm.blocks import CallContext
from allm.events import Event
from allm.providers.anthropic_decoder import AnthropicDecoder
from tests.wire.chat import checked

STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def decoder(*used_ids: str, raw_chunks: bool = False) -> AnthropicDecoder:
    return AnthropicDecoder(CallContext(request_id="req", used_ids=frozenset(used_ids), include_raw_chunks=raw_chunks))


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def begin(**message: Any) -> bytes:
    usage = {"input_tokens": 5, "output_tokens": 1}
    told: dict[str, Any] = {"id": "m1", "model": "claude-x", "role": "assistant", "content": [], "usage": usage}
    return event("message_start", message={**told, **message})


def start(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def block(index: int, kind: str, *deltas: tuple[str, dict[str, Any]], **fields: Any) -> bytes:
    """A whole block."""
    return start(index, kind, **fields) + b"".join(delta(index, name, **told) for name, told in deltas) + stop(index)


def text(index: int, *pieces: str) -> bytes:
    return block(index, "text", *(("text_delta", {"text": piece}) for piece in pieces), text="")


def finish(reason: str | None = "end_turn", usage: dict[str, Any] | None = None, **more: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason, "stop_sequence": None, **more}, usage=usage or {"output_tokens": 7})


def streamed(*pieces: bytes, raw_chunks: bool = False, used: Iterable[str] = ()) -> list[Event]:
    """The events of a stream in these pieces, checked for their order."""
    told = decoder(*used, raw_chunks=raw_chunks)
    return checked([event for piece in pieces for event in told.feed(piece)] + told.end())


def answered(*blocks: bytes, reason: str | None = "end_turn") -> list[Event]:
    """The events of a whole answer of these blocks."""
    return streamed(begin(), *blocks, finish(reason), STOP)


def whole(data: Any, raw_chunks: bool = False) -> list[Event]:
    """The events of one JSON body, checked for their order."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return checked(decoder(raw_chunks=raw_chunks).body(body))


def message(*blocks: dict[str, Any], reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    """A whole body."""
    told = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-x", "content": list(blocks), "stop_reason": reason}
    return {**told, "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 7}, **more}
