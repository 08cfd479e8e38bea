"""OpenAI's moderation wire."""

from collections.abc import Mapping
from typing import Any

import msgspec

from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.messages import ImagePart, TextPart
from allm.moderation import ModerationRequest, ModerationResult
from allm.providers.adapter import HttpRequest, Script
from allm.providers.failures import error_of, failure
from allm.providers.one_body import Answer, malformed, told_by
from allm.responses import Response
from allm.wire_json import encode

__all__ = ["OpenAIModeration", "read_moderation"]


class OpenAIModeration:
    """The adapter `openai.moderation`."""

    name = "openai.moderation"
    provider = "openai"
    default_model = "omni-moderation-latest"

    def request(self, engine: Engine, ask: ModerationRequest, base_url: str) -> HttpRequest | Script:
        """`POST {base_url}/moderations`."""
        if ask.model.startswith("text-moderation"):
            for i, part in enumerate(ask.parts):
                if isinstance(part, ImagePart):
                    raise ValidationError.at(f"input[{i}]", f"{ask.model} judges text only; omni-moderation-latest takes images")
        given: Any = [_part(part, f"input[{i}]") for i, part in enumerate(ask.parts)] or ask.texts
        return HttpRequest(
            url=f"{base_url}/moderations",
            headers=(("content-type", "application/json"), ("accept", "application/json")),
            body=encode({"model": ask.model, "input": given, **ask.options}),
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def read(self, ask: ModerationRequest, answer: Answer) -> tuple[Response, tuple[ModerationResult, ...]] | ErrorInfo:
        """The verdicts."""
        return read_moderation(self.provider, ask.verdicts, answer)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return failure(self.provider, status, headers, body)


def _part(part: TextPart | ImagePart, path: str) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    url = part.image.url or part.image.to_data_uri()
    if not url.startswith(("https://", "http://", "data:")):
        raise ValidationError.at(f"{path}.image.url", "this wire takes http and https addresses, or the bytes")
    return {"type": "image_url", "image_url": {"url": url}}


class _Result(msgspec.Struct):
    flagged: bool
    categories: dict[str, bool | None] = {}
    category_scores: dict[str, float | None] = {}
    category_applied_input_types: dict[str, tuple[str, ...] | None] | None = None


class _Body(msgspec.Struct):
    results: tuple[_Result, ...] | None = None
    id: str | None = None
    model: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def read_moderation(provider: str, count: int, answer: Answer) -> tuple[Response, tuple[ModerationResult, ...]] | ErrorInfo:
    """(how it went, verdicts) of an answer that must have `count` of them."""
    try:
        body = _decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return malformed(provider, f"the answer is no moderation: {error}")
    if body.error is not None:
        return error_of(provider, body.error)
    if body.results is None or len(body.results) != count:
        return malformed(provider, f"{count} results were due, {len(body.results or ())} came")
    response = Response(id=body.id, model=body.model, finish_reason="stop", metadata=told_by(answer.headers))
    return response, tuple(map(_result, body.results))


def _result(result: _Result) -> ModerationResult:
    """Without what is null: an older model says so of categories that it does not know."""
    return ModerationResult(
        flagged=result.flagged,
        categories={name: value for name, value in result.categories.items() if value is not None},
        category_scores={name: value for name, value in result.category_scores.items() if value is not None},
        category_applied_input_types={
            name: value for name, value in (result.category_applied_input_types or {}).items() if value is not None
        },
    )
