"""The Gemini generateContent wire, as the simulator speaks it.

Shapes follow recorded exchanges: CRLF between events, no opening and no end marker but the finish reason, tool
calls that come whole and end with STOP, the first of a turn signed; thoughts are texts that say so and are counted apart. A refusal is
the finish reason SAFETY with its message. Errors tell their wait in RetryInfo, not in a header. Streams need `alt=sse`.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from allm.providers.fake_images import ONE_PIXEL
from allm.testing.wires.contract import Ask, BadRequest, Frames, sse
from allm.testing.wires.script import Failure, Reply

__all__ = ["GeminiWire"]

STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
CRLF = b"\r\n"
SIGNATURE = base64.b64encode(b"a simulated thought").decode()
VERBS = ("generateContent", "streamGenerateContent")


class _Part(msgspec.Struct):
    text: str | None = None
    functionCall: dict[str, Any] | None = None


class _Content(msgspec.Struct):
    role: str = "user"
    parts: list[_Part] | None = None

    def text(self) -> str:
        return "\n".join(part.text for part in self.parts or () if part.text)

    def calls(self) -> int:
        return sum(part.functionCall is not None for part in self.parts or ())


class _Config(msgspec.Struct):
    responseModalities: list[str] = []


class _Body(msgspec.Struct):
    contents: list[_Content] | None = None
    generationConfig: _Config | None = None


class GeminiAsk(Ask, frozen=True, kw_only=True):
    """Whether images, and whether texts are asked for."""

    image: bool = False
    text: bool = True


class GeminiWire:
    """`POST <anything>/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`."""

    name = "gemini"
    base_path = ""
    malformed = sse(b'{"candidates": [{"content": {"par', eol=CRLF)

    def serves(self, path: str) -> bool:
        return path.rpartition(":")[2] in VERBS

    def parse(self, target: str, body: Any) -> Ask:
        path, _, query = target.partition("?")
        name, _, verb = path.rpartition(":")
        try:
            asked = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid JSON payload received. {error}") from None
        if not asked.contents:
            raise BadRequest(400, "* GenerateContentRequest.contents: contents is not specified\n")
        stream = verb == VERBS[1]
        if stream and parse_qs(query).get("alt") != ["sse"]:
            raise BadRequest(400, "the simulator streams with alt=sse only")
        said = [content.text() for content in asked.contents if content.role == "user"]
        modalities = [] if asked.generationConfig is None else [each.upper() for each in asked.generationConfig.responseModalities]
        return GeminiAsk(
            image="IMAGE" in modalities,
            text=not modalities or "TEXT" in modalities,
            model=unquote(name.rpartition("/")[2]),
            stream=stream,
            user_text=said[-1] if said else "",
            calls=sum(content.calls() for content in asked.contents),
        )

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        told = [_chunk(ask, number, [part]) for part in _pieces(ask, reply) + _images(ask, reply)]
        return Frames(
            start=(),
            deltas=tuple(sse(chunk, eol=CRLF) for chunk in told),
            end=(sse(_chunk(ask, number, [{"text": ""}], reply), eol=CRLF),),
        )

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        parts: list[dict[str, Any]] = []
        if reply.reasoning:
            parts.append({"text": reply.reasoning, "thought": True})
        if reply.text and not (isinstance(ask, GeminiAsk) and not ask.text):
            parts.append({"text": reply.text})
        return _chunk(ask, number, parts + _calls(ask, reply) + _images(ask, reply), reply)

    def error(self, failure: Failure) -> bytes:
        details: list[dict[str, Any]] = []
        if failure.code is not None:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": kind, "reason": failure.code, "domain": "googleapis.com"})
        if failure.retry_after is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{failure.retry_after:g}s"})
        status = STATUSES.get(failure.status, "INTERNAL" if failure.status >= 500 else "FAILED_PRECONDITION")
        told: dict[str, Any] = {"code": failure.status, "message": failure.message, "status": status}
        return msgspec.json.encode({"error": told | ({"details": details} if details else {})})

    def stream_error(self, failure: Failure) -> bytes:
        return sse(self.error(failure), eol=CRLF)

    def ping(self, ask: Ask, number: int) -> bytes:
        return b": keep-alive\r\n\r\n" + sse(_chunk(ask, number, []), eol=CRLF)

    def headers(self, number: int, failure: Failure | None) -> tuple[tuple[str, str], ...]:
        return ()


def _pieces(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
    pieces: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in reply.reasoning_pieces()]
    pieces += ({"text": piece} for piece in reply.text_pieces())
    return pieces + _calls(ask, reply)


def _calls(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for index, (name, arguments) in enumerate(reply.tool_calls):
        call = {"id": f"call_{ask.calls + index + 1}", "name": name, "args": arguments}
        parts.append({"functionCall": call, **({} if index else {"thoughtSignature": SIGNATURE})})
    return parts


def _images(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
    """What is made where images are asked for, unless it is refused."""
    if not (isinstance(ask, GeminiAsk) and ask.image) or reply.refusal is not None:
        return []
    made = [base64.b64encode(data).decode("ascii") for data in reply.images or (ONE_PIXEL,)]
    return [{"inlineData": {"mimeType": "image/png", "data": data}} for data in made]


def _chunk(ask: Ask, number: int, parts: list[dict[str, Any]], ended: Reply | None = None) -> bytes:
    """A chunk of a stream; with the reply that it ends, the last one, or a whole body."""
    content = {"role": "model", **({"parts": parts} if parts else {})}
    candidate: dict[str, Any] = {"content": content, "index": 0}
    chunk: dict[str, Any] = {"candidates": [candidate], "modelVersion": ask.model, "responseId": f"sim-{number}"}
    if ended is not None:
        candidate["finishReason"] = ended.finish or ("STOP" if ended.refusal is None else "SAFETY")
        if ended.refusal is not None:
            candidate["finishMessage"] = ended.refusal
        chunk["usageMetadata"] = _usage(ended)
    return msgspec.json.encode(chunk)


def _usage(reply: Reply) -> dict[str, Any]:
    output = reply.told_tokens()
    thoughts = min(len(reply.reasoning_pieces()), output)
    usage: dict[str, Any] = {"promptTokenCount": reply.input_tokens, "totalTokenCount": reply.input_tokens + output}
    if output - thoughts:
        usage["candidatesTokenCount"] = output - thoughts
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return usage
