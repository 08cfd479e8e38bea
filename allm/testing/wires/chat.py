"""The OpenAI Chat Completions wire, as the simulator speaks it.

Shapes follow recorded exchanges: usage comes in a last chunk without choices, and only when asked
for; ids and names come on a tool call's first delta only; a refusal is its own field beside a null
content; `[DONE]` ends a stream. Reasoning is `reasoning_content`, the field of the compatible hosts
that stream it (OpenAI itself keeps it to itself on this wire).
"""

from __future__ import annotations

from typing import Any

import msgspec

from allm.testing.wires.contract import Ask, BadRequest, Frames, sse
from allm.testing.wires.script import Failure, Reply

__all__ = ["ChatWire"]

CREATED = 1_767_225_600
ERROR_TYPES = {429: "requests"}
ERROR_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class ChatWire:
    """`POST <anything>/chat/completions`."""

    name = "chat"
    base_path = "/v1"
    malformed = sse(b'{"id": "chatcmpl-sim", "choices": [{"index": 0, "del')

    def serves(self, path: str) -> bool:
        return path.rstrip("/").endswith("/chat/completions")

    def parse(self, target: str, body: Any) -> Ask:
        try:
            asked = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid request body: {error}") from None
        if not asked.model:
            raise BadRequest(400, "you must provide a model parameter")
        if not asked.messages:
            raise BadRequest(400, "Missing required parameter: 'messages'.", "missing_required_parameter")
        return Ask(
            model=asked.model,
            stream=bool(asked.stream),
            usage=asked.stream_options is not None and bool(asked.stream_options.include_usage),
            user_text=next((m.text() for m in reversed(asked.messages) if m.role == "user"), ""),
            calls=sum(len(m.tool_calls or ()) for m in asked.messages),
        )

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            return _chunk(ask, number, [_choice("delta", delta, finish)])

        usage = (_chunk(ask, number, [], _usage(reply)),) if ask.usage else ()
        return Frames(
            start=(chunk({"role": "assistant", "content": "", "refusal": None}),),
            deltas=tuple(chunk(delta) for delta in _deltas(ask, reply)),
            end=(chunk({}, _finish(reply)), *usage, sse(b"[DONE]")),
        )

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if not (reply.text or reply.tool_calls or reply.refusal):
            message["content"] = ""
        message["refusal"] = reply.refusal
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [_call(ask, i, *call) for i, call in enumerate(reply.tool_calls)]
        answer = _envelope(ask, number, "chat.completion")
        answer["choices"] = [_choice("message", message, _finish(reply))]
        answer["usage"] = _usage(reply)
        return msgspec.json.encode(answer)

    def error(self, failure: Failure) -> bytes:
        kind = "server_error" if failure.status >= 500 else "invalid_request_error"
        told = {
            "message": failure.message,
            "type": ERROR_TYPES.get(failure.status, kind),
            "param": None,
            "code": failure.code or ERROR_CODES.get(failure.status),
        }
        return msgspec.json.encode({"error": told})

    def stream_error(self, failure: Failure) -> bytes:
        return sse(self.error(failure))

    def ping(self, ask: Ask, number: int) -> bytes:
        return b": keep-alive\n\n" + _chunk(ask, number, [_choice("delta", {"content": ""}, None)])

    def headers(self, number: int, failure: Failure | None) -> tuple[tuple[str, str], ...]:
        told = (("x-request-id", f"req_sim_{number}"),)
        if failure is None or failure.retry_after is None:
            return told
        return (*told, ("retry-after", f"{failure.retry_after:g}"))


def _envelope(ask: Ask, number: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim-{number}",
        "object": kind,
        "created": CREATED,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_sim",
    }


def _chunk(ask: Ask, number: int, choices: list[Any], usage: dict[str, Any] | None = None) -> bytes:
    chunk = _envelope(ask, number, "chat.completion.chunk")
    chunk["choices"] = choices
    if ask.usage:
        chunk["usage"] = usage
    return sse(msgspec.json.encode(chunk))


def _choice(field: str, value: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, field: value, "logprobs": None, "finish_reason": finish}


def _deltas(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    deltas += ({"reasoning_content": piece} for piece in reply.reasoning_pieces())
    deltas += ({"refusal": piece} for piece in reply.refusal_pieces())
    deltas += ({"content": piece} for piece in reply.text_pieces())
    for index, call in enumerate(reply.tool_calls):
        deltas += _call_deltas(index, _call(ask, index, *call))
    return deltas


def _call_deltas(index: int, call: dict[str, Any]) -> list[dict[str, Any]]:
    arguments = call["function"]["arguments"]
    opening = {"index": index, **call, "function": {**call["function"], "arguments": ""}}
    halves = (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :])
    rest = ({"index": index, "function": {"arguments": half}} for half in halves)
    return [{"tool_calls": [part]} for part in (opening, *rest)]


def _call(ask: Ask, index: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": msgspec.json.encode(arguments).decode()}
    return {"id": f"call_{ask.calls + index + 1}", "type": "function", "function": function}


def _finish(reply: Reply) -> str:
    return reply.finish or ("tool_calls" if reply.tool_calls else "stop")


def _usage(reply: Reply) -> dict[str, Any]:
    output = reply.told_tokens()
    thought = min(len(reply.reasoning_pieces()), output)
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": output,
        "total_tokens": reply.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0},
    }
