"""The OpenAI Responses wire, as the simulator speaks it.

Shapes follow recorded exchanges: an answer is a list of items, a stream tells how each of them grows and ends with the whole answer
in `response.completed` (or `.incomplete`); item ids are not call ids; an error inside a stream comes twice, as `error` and as
`response.failed`. Reasoning is told as the summary of a reasoning item, with encrypted content when the request asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from allm.testing.wires.contract import Ask, BadRequest, Frames, sse
from allm.testing.wires.script import Failure, Reply

__all__ = ["ResponsesWire"]

CREATED = 1_767_225_600
ERROR_TYPES = {429: "requests"}
ERROR_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 500: "server_error"}


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    role: str | None = None
    content: str | list[_Part] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class _Body(msgspec.Struct):
    model: str | None = None
    input: str | list[_Item] | None = None
    stream: bool | None = None


class ResponsesWire:
    """`POST <anything>/responses`."""

    name = "responses"
    base_path = "/v1"
    malformed = sse(b'{"type": "response.output_text.delta", "del', event="response.output_text.delta")

    def serves(self, path: str) -> bool:
        return path.rstrip("/").endswith("/responses")

    def parse(self, target: str, body: Any) -> Ask:
        try:
            asked = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid request body: {error}") from None
        if not asked.model:
            raise BadRequest(400, "Missing required parameter: 'model'.", "missing_required_parameter")
        if not asked.input:
            raise BadRequest(400, "Missing required parameter: 'input'.", "missing_required_parameter")
        items = [_Item(role="user", content=asked.input)] if isinstance(asked.input, str) else asked.input
        return Ask(
            model=asked.model,
            stream=bool(asked.stream),
            user_text=next((item.text() for item in reversed(items) if item.role == "user"), ""),
            calls=sum(item.type == "function_call" for item in items),
        )

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        tell = _Teller()
        blank = {"response": _envelope(ask, number, "in_progress")}
        start = (tell("response.created", **blank), tell("response.in_progress", **blank))
        deltas: list[bytes] = []
        held = b""  # what begins and ends items goes with the delta after it, or with the end
        for index, item in enumerate(_output(ask, reply, number)):
            held += _added(tell, index, item)
            for delta in _deltas(tell, index, item, reply):
                deltas.append(held + delta)
                held = b""
            held += tell("response.output_item.done", output_index=index, item=item)
        answer = _answer(ask, reply, number)
        return Frames(start=start, deltas=tuple(deltas), end=(held, tell(f"response.{answer['status']}", response=answer)))

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        return msgspec.json.encode(_answer(ask, reply, number))

    def error(self, failure: Failure) -> bytes:
        return msgspec.json.encode({"error": _error(failure)})

    def stream_error(self, failure: Failure) -> bytes:
        tell = _Teller(99)
        told = _error(failure)
        failed: dict[str, Any] = {"id": "resp_sim", "object": "response", "status": "failed", "error": told, "output": [], "usage": None}
        return tell("error", error=told) + tell("response.failed", response=failed)

    def ping(self, ask: Ask, number: int) -> bytes:
        return b": keep-alive\n\n" + _Teller(98)("response.in_progress", response=_envelope(ask, number, "in_progress"))

    def headers(self, number: int, failure: Failure | None) -> tuple[tuple[str, str], ...]:
        told = (("x-request-id", f"req_sim_{number}"),)
        if failure is None or failure.retry_after is None:
            return told
        return (*told, ("retry-after", f"{failure.retry_after:g}"))


class _Teller:
    """Makes events, numbered."""

    def __init__(self, first: int = 0) -> None:
        self._numbers = itertools.count(first)

    def __call__(self, kind: str, **fields: Any) -> bytes:
        told = {"type": kind, "sequence_number": next(self._numbers), **fields}
        return sse(msgspec.json.encode(told), event=kind)


def _error(failure: Failure) -> dict[str, Any]:
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    return {
        "type": ERROR_TYPES.get(failure.status, kind),
        "code": failure.code or ERROR_CODES.get(failure.status),
        "message": failure.message,
        "param": None,
    }


def _envelope(ask: Ask, number: int, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_sim_{number}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": [],
        "service_tier": "default",
        "usage": None,
    }


def _answer(ask: Ask, reply: Reply, number: int) -> dict[str, Any]:
    status, _, reason = (reply.finish or "completed").partition(":")
    answer = _envelope(ask, number, status)
    answer["incomplete_details"] = {"reason": reason} if reason else None
    answer["output"] = _output(ask, reply, number)
    answer["usage"] = _usage(reply)
    return answer


def _output(ask: Ask, reply: Reply, number: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        items.append({"id": f"rs_sim_{number}", "type": "reasoning", "summary": summary, "encrypted_content": f"sealed-{number}"})
    content: list[dict[str, Any]] = []
    if reply.refusal:
        content.append({"type": "refusal", "refusal": reply.refusal})
    if reply.text:
        content.append({"type": "output_text", "annotations": [], "logprobs": [], "text": reply.text})
    if content or not reply.tool_calls:
        message = {"type": "message", "status": "completed", "role": "assistant", "content": content}
        items.append({"id": f"msg_sim_{number}", **message})
    return items + [_call(ask, number, i, *call) for i, call in enumerate(reply.tool_calls)]


def _call(ask: Ask, number: int, index: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"fc_sim_{number}_{index}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{ask.calls + index + 1}",
        "name": name,
        "arguments": msgspec.json.encode(arguments).decode(),
    }


def _deltas(tell: _Teller, index: int, item: dict[str, Any], reply: Reply) -> Iterator[bytes]:
    """What tells how the item grows. The first of a call's three entries is its name, which its beginning tells already."""
    at = {"item_id": item["id"], "output_index": index}
    if item["type"] == "function_call":
        arguments = item["arguments"]
        for piece in ("", arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
            yield tell("response.function_call_arguments.delta", **at, delta=piece) if piece else b""
        return
    for kind, place, pieces in _texts(item, reply):
        for piece in pieces:
            yield tell(f"response.{kind}.delta", **at, **place, delta=piece)


def _texts(item: dict[str, Any], reply: Reply) -> Iterator[tuple[str, dict[str, int], tuple[str, ...]]]:
    """(kind of delta, where in the item, pieces)."""
    if item["type"] == "reasoning":
        yield "reasoning_summary_text", {"summary_index": 0}, reply.reasoning_pieces()
        return
    for i, part in enumerate(item["content"]):
        refused = part["type"] == "refusal"
        yield "refusal" if refused else "output_text", {"content_index": i}, reply.refusal_pieces() if refused else reply.text_pieces()


def _added(tell: _Teller, index: int, item: dict[str, Any]) -> bytes:
    bare = {**item, "status": "in_progress"}
    bare.update({name: type(item[name])() for name in ("summary", "content", "arguments") if name in item})
    return tell("response.output_item.added", output_index=index, item=bare)


def _usage(reply: Reply) -> dict[str, Any]:
    output = reply.told_tokens()
    thought = min(len(reply.reasoning_pieces()), output)
    return {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": reply.input_tokens + output,
    }
