"""What a Gemini error means, where the shared table does not know: gRPC names, per-minute limits and spent quotas.

One name, RESOURCE_EXHAUSTED, stands for both a rate and a quota: the violated limit's id tells them apart.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from allm.errors import ErrorInfo
from allm.providers.failures import error_of, failure, unframed
from allm.wire_json import MalformedJson, decode, is_array, is_object

__all__ = ["gemini_error_of", "gemini_failure"]

_BY_STATUS = {
    "UNAUTHENTICATED": "authentication", "PERMISSION_DENIED": "permission", "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limited", "UNAVAILABLE": "service_unavailable", "DEADLINE_EXCEEDED": "timeout",
    "INTERNAL": "server_error", "UNKNOWN": "server_error", "ABORTED": "server_error", "DATA_LOSS": "server_error",
    "CANCELLED": "server_error", "INVALID_ARGUMENT": "invalid_request", "FAILED_PRECONDITION": "invalid_request",
    "OUT_OF_RANGE": "invalid_request", "UNIMPLEMENTED": "invalid_request", "ALREADY_EXISTS": "invalid_request",
}  # fmt: skip
_CANCELLED = 499  # by the service itself, in the midst of an answer
_TOO_LARGE = 413  # no wait makes a request smaller, whatever the name beside it says
_NO_KEY = re.compile(r"API key (?:not valid|not found|expired|was reported as leaked)|unregistered callers|valid API key", re.I)
_SPENT = re.compile(r"\bbilling account\b|credits? (?:are|is) depleted|spending cap|\blimit: 0\b", re.I)
_BUSY = re.compile(r"overloaded|experiencing high demand", re.I)


def gemini_failure(status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
    """What an answer with the error status `status` means."""
    try:
        data = decode(unframed(body))
    except MalformedJson:
        data = None
    if is_array(data) and data:  # streamGenerateContent without alt=sse answers in an array, its errors too
        data = data[0]
    error = data.get("error") if is_object(data) else None
    return _refined(failure("gemini", status, headers, body), error if is_object(error) else {})


def gemini_error_of(error: Any) -> ErrorInfo:
    """What an error inside an answer that began well means."""
    return _refined(error_of("gemini", error), error if is_object(error) else {})


def _refined(info: ErrorInfo, error: dict[str, Any]) -> ErrorInfo:
    reason = _reason(info, error)
    wait = None if reason == "quota_exceeded" else info.retry_after
    return replace(info, reason=reason, retry_after=wait)


def _reason(info: ErrorInfo, error: dict[str, Any]) -> str:
    status = error.get("status")
    if info.reason in ("authentication", "context_length_exceeded", "quota_exceeded"):
        return info.reason
    if info.reason in ("invalid_request", "permission") and _NO_KEY.search(info.message):
        return "authentication"
    if info.reason == "rate_limited" or (status == "RESOURCE_EXHAUSTED" and info.status != _TOO_LARGE):
        return "quota_exceeded" if _SPENT.search(info.message) or _is_spent(error) else "rate_limited"
    if (info.reason == "service_unavailable" or status == "UNAVAILABLE") and _BUSY.search(info.message):
        return "overloaded"
    if info.status is None or info.status == _CANCELLED:
        return _BY_STATUS.get(status, info.reason) if isinstance(status, str) else info.reason
    return info.reason


def _is_spent(error: dict[str, Any]) -> bool:
    """Whether a limit for a day, or one of nothing at all, is among those that were hit: no wait of minutes mends it."""
    for violation in _violations(error):
        name = violation.get("quotaId") or violation.get("quota_limit")
        value = violation.get("quotaValue") if "quotaValue" in violation else violation.get("quota_limit_value")
        if (isinstance(name, str) and "PerDay" in name) or value in ("0", 0):
            return True
    return False


def _violations(error: dict[str, Any]) -> list[dict[str, Any]]:
    """The limits that were hit: of a QuotaFailure, or in the metadata of an ErrorInfo."""
    found: list[Any] = []
    details = error.get("details")
    for item in details if is_array(details) else []:
        if is_object(item):
            told = item.get("violations")
            found += told if is_array(told) else [item.get("metadata")]
    return [each for each in found if is_object(each)]
