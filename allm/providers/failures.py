"""Error answers -> `ErrorInfo`. Eight body shapes, statuses that cannot be trusted alone, and waits told in five places.

The facts behind the table come from recorded answers: a spent quota is a 429 that no retry mends, an oversized prompt is told only in
the message by most hosts, an Azure 401 has its status as text in `code`, Mistral has no `error` object at all.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from allm.errors import ErrorInfo, ValidationError
from allm.freezing import freeze
from allm.providers.error_bodies import error_told
from allm.providers.error_words import is_spent, is_too_long, meant
from allm.wire_json import MalformedJson, decode, is_array, is_object

__all__ = ["error_of", "failure", "unframed"]

_BY_STATUS = {
    400: "invalid_request", 401: "authentication", 402: "quota_exceeded", 403: "permission", 404: "not_found", 405: "invalid_request",
    408: "timeout", 409: "server_error", 413: "invalid_request", 415: "invalid_request", 422: "invalid_request", 425: "server_error",
    429: "rate_limited", 500: "server_error", 502: "server_error", 503: "service_unavailable", 504: "timeout", 520: "server_error",
    522: "timeout", 524: "timeout", 529: "overloaded",
}  # fmt: skip

_BY_WORD = {
    "insufficient_quota": "quota_exceeded", "service_quota_exceeded": "quota_exceeded", "billing_hard_limit_reached": "quota_exceeded",
    "billing_error": "quota_exceeded",
    "exceeded_current_quota_error": "quota_exceeded", "insufficient_balance": "quota_exceeded", "insufficient_credits": "quota_exceeded",
    "insufficient_user_quota": "quota_exceeded", "not_enough_balance": "quota_exceeded", "payment_required": "quota_exceeded",
    "arrearage": "quota_exceeded", "accountoverdueerror": "quota_exceeded", "budget_exceeded": "quota_exceeded",
    "insufficient_funds": "quota_exceeded", "credits_exhausted": "quota_exceeded", "pre_consume_token_quota_failed": "quota_exceeded",
    "allocation_quota.free_tier_only": "quota_exceeded",
    "context_length_exceeded": "context_length_exceeded", "too_many_prompt_tokens": "context_length_exceeded",
    "string_above_max_length": "context_length_exceeded", "tokens_limit_reached": "context_length_exceeded",
    "model_max_prompt_tokens_exceeded": "context_length_exceeded", "prompt_too_long": "context_length_exceeded",
    "input_too_long": "context_length_exceeded", "context_overflow": "context_length_exceeded",
    "exceed_context_size_error": "context_length_exceeded", "context_window_exceeded": "context_length_exceeded",
    "rate_limit_exceeded": "rate_limited", "rate_limit": "rate_limited", "rate_limited": "rate_limited",
    "too_many_requests": "rate_limited", "throttling": "rate_limited", "throttled": "rate_limited", "resource_exhausted": "rate_limited",
    "tokens": "rate_limited", "requests": "rate_limited",
    "overloaded": "overloaded", "engine_overloaded": "overloaded", "server_overloaded": "overloaded", "model_overloaded": "overloaded",
    "invalid_api_key": "authentication", "api_key_invalid": "authentication", "authentication": "authentication",
    "unauthorized": "authentication", "unauthenticated": "authentication", "unrecognized_client": "authentication",
    "permission": "permission", "permission_denied": "permission", "access_denied": "permission", "forbidden": "permission",
    "model_not_found": "not_found", "not_found": "not_found", "resource_not_found": "not_found", "deployment_not_found": "not_found",
    "content_filter": "content_filter", "content_policy_violation": "content_filter", "moderation_blocked": "content_filter",
    "data_inspection_failed": "content_filter",
    "service_unavailable": "service_unavailable", "timeout": "timeout", "deadline_exceeded": "timeout",
    "server": "server_error", "api": "server_error", "internal": "server_error", "internal_server": "server_error",
    "invalid_request": "invalid_request", "bad_request": "invalid_request", "invalid_argument": "invalid_request",
    "invalid_parameter": "invalid_request", "validation": "invalid_request",
}  # fmt: skip
_SEPARATOR = re.compile(r"[^a-z0-9]+")
_SORT = re.compile(r"(?:error|exception)$")
"""How a class of errors is called beside its meaning: `rate_limit_error`, `RateLimitError`, `ThrottlingException`."""


def _bare(word: str) -> str:
    """A word as hosts have in common: they write it in one way each."""
    return _SORT.sub("", _SEPARATOR.sub("", word.lower()))


_MEANINGS = {_bare(word): reason for word, reason in _BY_WORD.items()}

_WAIT = re.compile(
    r"(?:try again|retry)[^.0-9]{0,20}?(?:([0-9]{1,4})h)?(?:([0-9]{1,4})m(?!s))?([0-9]{1,8}(?:\.[0-9]{1,9})?)"
    r"\s*(ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?)?\b",
    re.I,
)  # "in 20s", "in 120ms", "in 6m0s", "after 3 seconds"
_NUMBER = re.compile(r"\s*(?:[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+|\+?inf(?:inity)?)\s*", re.I)
_LONGEST = 1e9
"""Seconds that stand for any longer wait: a provider that says so is not waited for, and an infinite number is no JSON."""
_MOST_RELAYED = 2_000
"""Characters of what the host behind a router said that are kept."""
_CERTAIN = ("quota_exceeded", "context_length_exceeded")  # whatever else is said
_TRUSTED = frozenset({401, 403, 404})  # these mean what they say
_ANY_WORD = frozenset({200})  # an error inside an answer that began well
_CLASS_WORDS = {
    4: frozenset({"authentication", "permission", "not_found", "content_filter", "overloaded"}),
    5: frozenset({"overloaded", "service_unavailable", "timeout"}),
}  # which words make an answer more precise than its class of status does


def failure(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
    """What an answer with the error status `status` means. `headers` have lower-case names."""
    body = unframed(body)
    try:
        data = decode(body)
    except MalformedJson:
        data = None
    details = _details(data)
    message = _text(details.get("message")) or body[:500].decode("utf-8", "replace").strip()
    return _info(provider, status, details, message or f"HTTP {status} with an empty body", headers)


def unframed(body: bytes) -> bytes:
    """The data of the first event in an error body that is framed as server-sent events (LiteLLM); any other body as it is."""
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith((b"data:", b"event:", b"id:", b"retry:", b":", b"error: {", b"error:{")):
        return body
    event: list[bytes] = []
    for line in start.splitlines():
        name, _, value = line.partition(b":")
        if name in (b"data", b"error") and value.strip() != b"[DONE]":
            event.append(value.removeprefix(b" "))
        elif not line and event:
            break
    return b"\n".join(event) if event else body


def error_of(provider: str, error: Any, status: int | None = None) -> ErrorInfo:
    """What an error object inside an answer that began well means."""
    details = error if is_object(error) else {"message": _text(error)}
    told = details.get("status_code", details.get("code"))
    if status is None and isinstance(told, int) and 400 <= told < 600:
        status = told
    return _info(provider, status, details, _text(details.get("message")) or "the provider reported an error", {})


def _info(provider: str, status: int | None, details: dict[str, Any], message: str, headers: Mapping[str, str]) -> ErrorInfo:
    reason = _reason(status, details, message)
    kept = {name: details[name] for name in ("type", "code", "param", "status", "failed_generation") if details.get(name) is not None}
    if relayed := _relayed(details):
        kept["relayed"] = relayed[:_MOST_RELAYED]
    wait = _retry_after(headers, details, message) if reason not in ("quota_exceeded", "context_length_exceeded") else None
    request_id = headers.get("x-request-id") or headers.get("request-id")
    if request_id:
        kept["provider_request_id"] = request_id
    return ErrorInfo("adapter", reason, message, status, wait, provider=provider, metadata=_plain(kept))


def _details(data: Any) -> dict[str, Any]:
    """The object that describes the error, wherever it stands."""
    if is_array(data) and data:
        data = data[0]
    if isinstance(data, str):
        return {"message": data}
    told = error_told(data)
    return told if is_object(told) else data if is_object(data) else {}


def _reason(status: int | None, details: dict[str, Any], message: str) -> str:
    words = [details[name] for name in ("code", "type", "status") if isinstance(details.get(name), str)]
    words += [item["reason"] for item in _inner(details) if isinstance(item.get("reason"), str)]
    meanings = [_MEANINGS[bare] for word in words for bare in _parts(word) if bare in _MEANINGS]
    if (certain := next((meaning for meaning in meanings if meaning in _CERTAIN), None)) is not None:
        return certain
    # Many hosts call each bad request one, and say behind that in which way.
    by_word = next((meaning for meaning in meanings if meaning != "invalid_request"), meanings[0] if meanings else None)
    said = f"{message}\n{_relayed(details)}"
    if is_spent(status, said):
        return "quota_exceeded"
    if is_too_long(status, said):
        return "context_length_exceeded"
    if by_word is None and status is None:
        return meant(said) or "server_error"
    if by_word is None or status in _TRUSTED:
        return _by_status(status)
    if status is None or status in _ANY_WORD or by_word in _CLASS_WORDS.get(status // 100, ()):
        return by_word
    return _by_status(status)


def _parts(word: str) -> tuple[str, ...]:
    """A word, and where it has dots what stands before them: `Throttling.RateQuota`."""
    return _bare(word), _bare(word.partition(".")[0])


def _relayed(details: dict[str, Any]) -> str:
    """What the host behind a router said: OpenRouter's own message is "Provider returned error"."""
    metadata = details.get("metadata")
    raw = metadata.get("raw") if is_object(metadata) else None
    return raw if isinstance(raw, str) else ""


def _by_status(status: int | None) -> str:
    if status is None:
        return "server_error"
    return _BY_STATUS.get(status) or ("server_error" if status >= 500 else "invalid_request")


def _retry_after(headers: Mapping[str, str], details: dict[str, Any], message: str) -> float | None:
    """Seconds to wait: the header (seconds or a date), in milliseconds, a reset time in the body, or the text."""
    waits = [
        _number(headers.get("retry-after")),
        _number(headers.get("retry-after-ms"), 0.001),
        _date(headers.get("retry-after"), headers),
        _reset(headers, details),
        _delay(details),
    ]
    told = [wait for wait in waits if wait is not None]
    if told:
        # Azure sends seconds and milliseconds that disagree: the longer one is right.
        return min(_LONGEST, max(0.0, *told))
    match = _WAIT.search(message)
    if match is None:
        return None
    return min(_LONGEST, int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3]) * _unit(match[4] or ""))


def _unit(word: str) -> float:
    """Seconds in it."""
    word = word.lower()
    return 0.001 if word.startswith(("ms", "milli")) else {"m": 60.0, "h": 3600.0}.get(word[:1], 1.0)


def _number(text: str | None, unit: float = 1.0) -> float | None:
    """A number as a provider writes it, which is less than what Python reads. One without end is a very long wait."""
    return min(_LONGEST, float(text) * unit) if text is not None and _NUMBER.fullmatch(text) else None


def _date(text: str | None, headers: Mapping[str, str]) -> float | None:
    """Seconds from the answer's own Date to an HTTP date: no clock of ours is asked here. The runtime gives an answer without a
    Date one of its own."""
    try:
        return (_moment(text) - _moment(headers.get("date"))).total_seconds()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _moment(text: str | None) -> datetime:
    """An HTTP date in any of its three forms; the one of C's asctime does not say that it is UTC."""
    told = parsedate_to_datetime(text or "")
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def _inner(details: dict[str, Any]) -> list[dict[str, Any]]:
    """Google's `details`: what the error consists of, one object each."""
    inner = details.get("details")
    return [item for item in inner if is_object(item)] if is_array(inner) else []


def _delay(details: dict[str, Any]) -> float | None:
    """Google's RetryInfo: `"retryDelay": "34.4s"`."""
    told = [item["retryDelay"].removesuffix("s") for item in _inner(details) if isinstance(item.get("retryDelay"), str)]
    return _number(told[0]) if told else None


def _reset(headers: Mapping[str, str], details: dict[str, Any]) -> float | None:
    """OpenRouter's X-RateLimit-Reset: milliseconds since 1970, again in the body."""
    metadata = details.get("metadata")
    inner = metadata.get("headers") if is_object(metadata) else None
    told = headers.get("x-ratelimit-reset") or (inner.get("X-RateLimit-Reset") if is_object(inner) else None)
    try:
        at = float(told or "") / 1000
        now = _moment(headers.get("date")).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return at - now if 0 <= at - now < 86400 else None


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return str(value)


def _plain(kept: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in kept.items():
        if isinstance(value, str | int | float | bool):
            with suppress(ValidationError):  # a number or text that is no JSON: this is about another error
                plain[name] = freeze(value, name)
    return plain
