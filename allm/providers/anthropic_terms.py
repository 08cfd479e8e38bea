"""Anthropic Messages: the words of the wire, and what they are called here."""

from typing import Any, Final

import msgspec

from allm.providers.decoding import noted
from allm.providers.openai_chat_hosts import host_of
from allm.providers.usage_counts import counted, tokens
from allm.usage import Usage
from allm.wire_json import is_object

__all__ = ["Delta", "WireEvent", "decode_event", "joined", "kind_of", "maker_at", "obj", "usage_of"]

_VENDOR: Final = "api.anthropic.com"


def maker_at(base_url: str) -> str | None:
    """The name under which reasoning is kept that the host there did not sign; None for the vendor, who signs all and refuses any other."""
    host = host_of(base_url)
    return None if not host or host == _VENDOR else f"anthropic@{host}"


class Delta(msgspec.Struct):
    """What a `content_block_delta` or a `message_delta` adds, with a place for the fields of every kind."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: Any = None
    stop_details: Any = None
    container: Any = None
    error: Any = None


def kind_of(delta: Delta) -> str | None:
    """The type of a delta that does not tell it."""
    if delta.text is not None:
        return "text_delta"
    if delta.partial_json is not None:
        return "input_json_delta"
    if delta.thinking is not None:
        return "thinking_delta"
    return "signature_delta" if delta.signature is not None else None


class WireEvent(msgspec.Struct):
    """One event of a stream; `index` is -1 where it is not told."""

    type: str = ""
    index: int = -1
    delta: Delta | None = None
    content_block: Any = None
    message: Any = None
    usage: dict[str, Any] | None = None
    error: Any = None
    context_management: Any = None


decode_event = msgspec.json.Decoder(WireEvent).decode


def obj(value: Any) -> dict[str, Any]:
    """The object, or an empty one for anything else."""
    return value if is_object(value) else {}


_GIVEN: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "prompt_tokens")


def joined(before: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Usage as it stands after more of it was told: a later count replaces an earlier one, but for zeros of what was not counted again."""
    again = any(told.get(name) for name in _GIVEN)
    known = {name: count for name, count in told.items() if count is not None}
    return {**before, **{name: count for name, count in known.items() if count or again or not before.get(name)}}


_COUNTED = frozenset({
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens_details", "prompt_tokens",
    "completion_tokens", "total_tokens",
})  # fmt: skip


def usage_of(told: dict[str, Any]) -> Usage:
    """Usage in the library's terms: the wire counts cached tokens beside `input_tokens`, not in it."""
    read, written = tokens(told.get("cache_read_input_tokens")), tokens(told.get("cache_creation_input_tokens"))
    given = counted(told.get("input_tokens"), told.get("prompt_tokens"))
    output = counted(told.get("output_tokens"), told.get("completion_tokens"))
    whole = None if given is None else given + (read or 0) + (written or 0)
    details = obj(told.get("output_tokens_details"))
    extra = {name: value for name, value in told.items() if value and name not in _COUNTED}
    extra |= {name: value for name, value in details.items() if value and name != "thinking_tokens"}
    return Usage(
        input_tokens=whole,
        output_tokens=output,
        cached_input_tokens=read,
        cache_write_input_tokens=written,
        reasoning_tokens=tokens(details.get("thinking_tokens")),
        total_tokens=None if whole is None or output is None else whole + output,
        extra=noted(extra),
    )
