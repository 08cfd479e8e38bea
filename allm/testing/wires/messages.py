"""The Anthropic Messages wire, as the simulator speaks it.

Shapes follow recorded exchanges: each block has a start and a stop of its own; `message_start` tells a placeholder of the output tokens,
`message_delta` the real count; a call's first delta is an empty text; thinking is signed; a refusal is a stop reason whose explanation
stands in `stop_details`, so that its pieces are pings; `message_stop` ends a stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec

from allm.testing.wires.contract import Ask, BadRequest, Frames, sse
from allm.testing.wires.script import Failure, Reply

__all__ = ["MessagesWire"]

ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
SIGNATURE = "c2lt"


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(block.text for block in self.content if block.type == "text" and block.text)

    def calls(self) -> int:
        return 0 if isinstance(self.content, str) else sum(block.type == "tool_use" for block in self.content)


class _Body(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    max_tokens: int | None = None
    stream: bool | None = None


class MessagesWire:
    """`POST <anything>/messages`."""

    name = "messages"
    base_path = ""
    malformed = sse(b'{"type": "content_block_delta", "index": 0, "del', event="content_block_delta")

    def serves(self, path: str) -> bool:
        return path.rstrip("/").endswith("/messages")

    def parse(self, target: str, body: Any) -> Ask:
        try:
            asked = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid request body: {error}") from None
        for field in ("model", "messages", "max_tokens"):
            if not getattr(asked, field):
                raise BadRequest(400, f"{field}: Field required")
        messages = asked.messages or []
        texts = (message.text() for message in reversed(messages) if message.role == "user")
        return Ask(
            model=asked.model or "",
            stream=bool(asked.stream),
            user_text=next((text for text in texts if text), ""),  # a turn of nothing but results says nothing
            calls=sum(message.calls() for message in messages),
        )

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        message: dict[str, Any] = {**_envelope(ask, number), "content": [], "usage": {**_usage(reply), "output_tokens": 1}}
        stopped = {"stop_reason": _finish(reply), "stop_sequence": None, "stop_details": _details(reply)}
        return Frames(
            start=(_event("message_start", message=message),),
            deltas=tuple(_deltas(ask, reply)),
            end=(_event("message_delta", delta=stopped, usage=_usage(reply)), _event("message_stop")),
        )

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        content: list[dict[str, Any]] = []
        if reply.reasoning:
            content.append({"type": "thinking", "thinking": reply.reasoning, "signature": SIGNATURE})
        if reply.text:
            content.append({"type": "text", "text": reply.text})
        content += (_call(ask, index, *call) for index, call in enumerate(reply.tool_calls))
        answer = {**_envelope(ask, number), "content": content, "stop_reason": _finish(reply), "stop_details": _details(reply)}
        return msgspec.json.encode({**answer, "usage": _usage(reply)})

    def error(self, failure: Failure) -> bytes:
        kind = failure.code or ERROR_TYPES.get(failure.status, "api_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": failure.message}})

    def stream_error(self, failure: Failure) -> bytes:
        return sse(self.error(failure), event="error")

    def ping(self, ask: Ask, number: int) -> bytes:
        return _event("ping")

    def headers(self, number: int, failure: Failure | None) -> tuple[tuple[str, str], ...]:
        told = (("request-id", f"req_sim_{number}"),)
        if failure is None or failure.retry_after is None:
            return told
        return (*told, ("retry-after", f"{failure.retry_after:g}"))


def _event(kind: str, **fields: Any) -> bytes:
    return sse(msgspec.json.encode({"type": kind, **fields}), event=kind)


def _envelope(ask: Ask, number: int) -> dict[str, Any]:
    named = {"id": f"msg_sim_{number}", "type": "message", "role": "assistant", "model": ask.model}
    return {**named, "stop_reason": None, "stop_sequence": None}


def _deltas(ask: Ask, reply: Reply) -> Iterable[bytes]:
    """One entry a delta; a block's start comes with its first, its stop with its last."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if pieces := reply.reasoning_pieces():
        thought: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, thought))
    if pieces := reply.text_pieces():
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]))
    for index, given in enumerate(reply.tool_calls):
        call = _call(ask, index, *given)
        written = msgspec.json.encode(call["input"]).decode() if call["input"] else ""  # of no arguments nothing is written
        halves = ("", *(written[a:b] for a, b in pairwise((0, len(written) // 2, len(written)))))
        blocks.append(({**call, "input": {}}, [{"type": "input_json_delta", "partial_json": half} for half in halves]))
    yield from (_event("ping") for _ in reply.refusal_pieces())
    for index, (start, deltas) in enumerate(blocks):
        yield from _block(index, start, deltas)


def _block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterable[bytes]:
    signed = [{"type": "signature_delta", "signature": SIGNATURE}] if start["type"] == "thinking" else []
    last = len(deltas) - 1
    for n, delta in enumerate(deltas):
        entry = _event("content_block_start", index=index, content_block=start) if n == 0 else b""
        for told in (delta, *(signed if n == last else ())):
            entry += _event("content_block_delta", index=index, delta=told)
        yield entry + (_event("content_block_stop", index=index) if n == last else b"")


def _call(ask: Ask, index: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{ask.calls + index + 1}", "name": name, "input": arguments}


def _finish(reply: Reply) -> str:
    return reply.finish or ("refusal" if reply.refusal else "tool_use" if reply.tool_calls else "end_turn")


def _details(reply: Reply) -> dict[str, Any] | None:
    return {"type": "refusal", "category": None, "explanation": reply.refusal} if reply.refusal else None


def _usage(reply: Reply) -> dict[str, Any]:
    output = reply.told_tokens()
    return {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": min(len(reply.reasoning_pieces()), output)},
    }
