"""Error answers: what the adapter reads in one, what only its head tells, and no key in either.

Pure.
"""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

from msgspec.structs import replace

from allm.actors.scrubbing import struck_body
from allm.errors import ErrorInfo
from allm.framing import unframed
from allm.providers.adapter import Adapter
from allm.urls import shown

__all__ = ["refusal_of"]

_VERDICTS: Final = {"true": True, "false": False}


def refusal_of(
    adapter: Adapter, status: int, headers: Mapping[str, str], body: bytes, problem: str | None, url: str, key: str | None
) -> ErrorInfo:
    """What an answer with this status means. `problem`: why its body could not be read. `url`: where the request went.

    `x-should-retry: true` or `false`, which OpenAI's and Anthropic's SDKs obey, becomes `should_retry` in the metadata.
    """
    dated = {"date": formatdate(usegmt=True), **headers}
    error = _failure(adapter, status, dated, unframed(body), key)
    if problem is not None and not body:
        error = replace(error, message=f"HTTP {status}; {problem}")
    verdict = _VERDICTS.get(headers.get("x-should-retry", "").strip().lower())
    if verdict is not None:
        error = replace(error, metadata={**error.metadata, "should_retry": verdict})
    if (told := _of_head(status, headers, url)) is not None:
        error = replace(error, message=f"{told} ({error.message})" if body.strip() else told)
    return error


def _failure(adapter: Adapter, status: int, headers: Mapping[str, str], body: bytes, key: str | None) -> ErrorInfo:
    """Its texts are read without the key: where a long one is shortened, half a key would be left."""
    error = adapter.failure(status, headers, body)
    if key and key.encode() in body:
        without = adapter.failure(status, headers, struck_body(body, key))
        error = replace(error, message=without.message, metadata=without.metadata)
    return error


def _of_head(status: int, headers: Mapping[str, str], url: str) -> str | None:
    """What the head alone tells: where a redirect leads, whom a proxy wants to know."""
    if status == 407:
        return "HTTP 407: the proxy asks for a user name and a password"
    location = headers.get("location")
    if not 300 <= status < 400 or location is None:
        return None
    target = shown(location, url)
    told = f"to {target}" if target is not None else "to what is no HTTP address"
    return f"HTTP {status}: the answer is a redirect {told}, which is not followed, as the key would go along; set the base URL to it"
