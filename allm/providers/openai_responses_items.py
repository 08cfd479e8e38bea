"""OpenAI Responses: what stands in an answer -> parts, usage, finish reason and errors. Pure functions of decoded JSON.

An item of the answer has more in it than a neutral part can hold: the phase and citations of a message, the namespace of a call, how an
image was made. What is left over becomes a `ProviderPart` of the item's type, right behind the neutral part, so that nothing is lost and
the request encoder can send it back to its maker.
"""

from typing import Any, Final

from msgspec.structs import replace

from allm.errors import ErrorInfo, ValidationError
from allm.images import Image
from allm.messages import ImagePart, ProviderPart
from allm.providers.decoding import noted
from allm.providers.failures import error_of
from allm.providers.finish_words import finish_of
from allm.providers.loose import bytes_of
from allm.providers.usage_counts import counted, settled, tokens
from allm.responses import FinishReason
from allm.usage import Usage
from allm.wire_json import encode, is_array, is_object

__all__ = [
    "CALLS", "MAKER", "arguments_of", "call_left_over", "content_of", "error_in", "finish_told", "image_left_over", "image_of",
    "message_left_over",
    "name_of", "objects", "provider_part", "reasoning_data", "reasoning_texts", "text_of", "usage_of",
]  # fmt: skip

MAKER: Final = "openai"
"""The provider that parts of this wire name as theirs."""

CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
"""The kinds of item that call a tool of ours -> the field that holds what it is called with."""

_REASONS: Final = {
    "invalid_prompt": "content_filter", "bio_policy": "content_filter", "cyber_policy": "content_filter",
    "misalignment_policy_violation": "content_filter", "image_content_policy_violation": "content_filter",
    "vector_store_timeout": "timeout", "data_residency_mismatch": "invalid_request", "invalid_image": "invalid_request",
    "invalid_image_format": "invalid_request", "invalid_base64_image": "invalid_request", "invalid_image_url": "invalid_request",
    "image_too_large": "invalid_request", "image_too_small": "invalid_request", "image_parse_error": "invalid_request",
    "invalid_image_mode": "invalid_request", "image_file_too_large": "invalid_request", "unsupported_image_media_type": "invalid_request",
    "empty_image_file": "invalid_request", "failed_to_download_image": "invalid_request", "image_file_not_found": "invalid_request",
}  # fmt: skip
"""The published codes of a response that failed, beside those that all wires share. They come without a status: taken for a fault of
the server, which is worth another try, they would be tried again in vain."""


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none if it is no list."""
    return [item for item in value if is_object(item)] if is_array(value) else []


def content_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a message; some hosts send texts in their place."""
    told = item.get("content")
    parts: list[Any] = told if is_array(told) else [told]
    return [{"type": "output_text", "text": part} if isinstance(part, str) else part for part in parts if isinstance(part, str | dict)]


def text_of(value: Any) -> str:
    """The value if it is text, else none."""
    return value if isinstance(value, str) else ""


def name_of(value: Any) -> str:
    """An id; careless hosts number theirs."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value)


def arguments_of(kind: str, item: dict[str, Any]) -> str:
    """What a call is made with, as text; some hosts send the object itself."""
    told = item.get(CALLS[kind])
    return encode(told).decode() if is_object(told) else text_of(told)


def finish_told(response: dict[str, Any]) -> tuple[FinishReason, str | None]:
    """(our word, the wire's word) for why it ended: its `status`, or `status:reason` where a reason is told."""
    status = text_of(response.get("status")) or None
    details = response.get("incomplete_details")
    reason = text_of(details.get("reason") if is_object(details) else details)
    if status == "incomplete":
        return finish_of(reason) if reason else "other", f"{status}:{reason}" if reason else status
    # Without a word of it an answer that came to its end is complete. `queued` and `in_progress` are what a background call answers.
    return finish_of(status), status


def reasoning_texts(item: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(what, index, text) of the pieces of a reasoning item, in order: its summary, then (open models) what was really thought."""
    pieces: list[tuple[str, int, str]] = []
    for what in ("summary", "content"):
        pieces += [(what, i, text_of(piece.get("text"))) for i, piece in enumerate(objects(item.get(what)))]
    return pieces


def reasoning_data(item: dict[str, Any]) -> str | None:
    """The item as it goes back to its maker: JSON. None where it is not encrypted, as nobody keeps it for us then."""
    if not text_of(item.get("encrypted_content")):
        return None
    kept = {name: item[name] for name in ("id", "summary", "content", "encrypted_content") if item.get(name)}
    return encode({"type": "reasoning", "summary": [], **kept}).decode()


def message_left_over(item: dict[str, Any]) -> ProviderPart | None:
    """What a message has beside its text: its phase, which goes back, and citations."""
    cited = [note for part in content_of(item) for note in objects(part.get("annotations"))]
    kept = {**_named(item, "phase"), **({"annotations": cited} if cited else {})}
    return provider_part("message", {**_named(item, "id"), **kept}) if kept else None


def call_left_over(kind: str, item: dict[str, Any]) -> ProviderPart | None:
    """What a call has beside its name and arguments: the namespace of its tool, or the program that calls; that it is a custom tool's."""
    kept = _named(item, "namespace", "caller")
    return provider_part(kind, {**_named(item, "call_id"), **kept}) if kept or kind != "function_call" else None


def image_of(item: dict[str, Any]) -> ImagePart | None:
    """The image that the model made, if it did."""
    try:
        data = bytes_of(text_of(item.get("result")))
        mime = text_of(item.get("output_format")).lower()
        return ImagePart(Image(data=data, mime=f"image/{mime}" if mime else None))
    except (ValueError, ValidationError):
        return None


def image_left_over(item: dict[str, Any]) -> ProviderPart:
    """How the image was made; the image itself stands before it."""
    return provider_part("image_generation_call", {name: value for name, value in item.items() if name != "result"})


def provider_part(kind: str, item: dict[str, Any]) -> ProviderPart:
    """The item as it is; empty if it is beyond the limits of a value."""
    try:
        return ProviderPart(MAKER, kind, item)
    except ValidationError:
        return ProviderPart(MAKER, kind)


def error_in(told: Any) -> ErrorInfo:
    """What an error inside an answer that began well means."""
    info = error_of(MAKER, told)
    code = told.get("code") if is_object(told) else None
    reason = _REASONS.get(code) if isinstance(code, str) else None
    return replace(info, reason=reason) if reason and info.reason == "server_error" else info


def usage_of(told: Any) -> Usage:
    """Usage in the library's terms, which are this wire's own; what has no place there goes to `extra`. Gateways may leave Chat's names."""
    if not is_object(told) or not told:
        return Usage()
    read, written = _details(told, "input_tokens_details", "prompt_tokens_details"), _details(told, *_WRITTEN)
    thought = tokens(written.pop("reasoning_tokens", None))
    given, output, total = settled(
        counted(told.get("input_tokens"), told.get("prompt_tokens")),
        counted(told.get("output_tokens"), told.get("completion_tokens")),
        tokens(told.get("total_tokens")),
        thought,
    )
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_input_tokens=tokens(read.pop("cached_tokens", None)),
        cache_write_input_tokens=tokens(read.pop("cache_write_tokens", None)),
        reasoning_tokens=thought,
        total_tokens=total,
        extra=noted({name: value for name, value in {**read, **written, **told}.items() if value and name not in _COUNTED}),
    )


_WRITTEN: Final = ("output_tokens_details", "completion_tokens_details")
_COUNTED = frozenset({
    "input_tokens", "output_tokens", "total_tokens", "prompt_tokens", "completion_tokens", "input_tokens_details", "prompt_tokens_details",
    *_WRITTEN,
})  # fmt: skip


def _named(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: item[name] for name in names if item.get(name)}


def _details(told: dict[str, Any], *names: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [details for name in names if is_object(details := told.get(name)) and details]
    return dict(found[0]) if found else {}
