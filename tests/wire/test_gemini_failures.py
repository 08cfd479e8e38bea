"""What Gemini's errors mean: one name for rate and quota, a wrong key that is a bad request, waits that stand in the body."""

import json
from typing import Any

import pytest

from allm.errors import ErrorInfo
from allm.providers.gemini import Gemini
from allm.providers.gemini_failures import gemini_error_of

GOOGLE = "type.googleapis.com/google.rpc."


def told(status: int, name: str | None = None, message: str = "m", *details: dict[str, Any]) -> dict[str, Any]:
    return {"code": status, "message": message, **({"status": name} if name else {}), **({"details": list(details)} if details else {})}


def answered(status: int, error: Any, headers: dict[str, str] | None = None) -> ErrorInfo:
    """What an answer with this error means, which an array of it means too."""
    found = [Gemini().failure(status, headers or {}, json.dumps(body).encode()) for body in ({"error": error}, [{"error": error}])]
    assert found[0] == found[1]
    assert (found[0].status, found[0].provider) == (status, "gemini")
    return found[0]


def reason_of(status: int, name: str | None = None, message: str = "m", *details: dict[str, Any]) -> str:
    return answered(status, told(status, name, message, *details)).reason


def limit(quota: str, value: str = "10") -> dict[str, Any]:
    return {"@type": GOOGLE + "QuotaFailure", "violations": [{"quotaId": quota, "quotaValue": value}]}


WAIT = {"@type": GOOGLE + "RetryInfo", "retryDelay": "34.4s"}
PER_MINUTE = limit("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
PER_DAY = limit("GenerateRequestsPerDayPerProjectPerModel-FreeTier")


@pytest.mark.parametrize(
    ("status", "name", "reason"),
    [
        (400, "INVALID_ARGUMENT", "invalid_request"), (400, "FAILED_PRECONDITION", "invalid_request"),
        (401, "UNAUTHENTICATED", "authentication"), (403, "PERMISSION_DENIED", "permission"), (404, "NOT_FOUND", "not_found"),
        (429, "RESOURCE_EXHAUSTED", "rate_limited"), (499, "CANCELLED", "server_error"), (500, "INTERNAL", "server_error"),
        (503, "UNAVAILABLE", "service_unavailable"), (504, "DEADLINE_EXCEEDED", "timeout"), (418, "SOMETHING_NEW", "invalid_request"),
        (500, None, "server_error"), (529, "INTERNAL", "overloaded"),
        (413, "RESOURCE_EXHAUSTED", "invalid_request"),
    ],
)  # fmt: skip
def test_a_status_and_its_name_tell_the_reason(status: int, name: str | None, reason: str) -> None:
    assert reason_of(status, name) == reason


@pytest.mark.parametrize(
    ("status", "message", "details"),
    [
        (400, "API key not valid. Please pass a valid API key.", [{"@type": GOOGLE + "ErrorInfo", "reason": "API_KEY_INVALID"}]),
        (400, "API key expired. Please renew the API key.", []),
        (403, "Your API key was reported as leaked. Please use another API key.", []),
        (403, "Method doesn't allow unregistered callers (callers without established identity).", []),
    ],
)
def test_a_wrong_key_is_not_told_by_its_status(status: int, message: str, details: list[dict[str, Any]]) -> None:
    assert reason_of(status, "INVALID_ARGUMENT" if status == 400 else "PERMISSION_DENIED", message, *details) == "authentication"


def test_one_name_stands_for_rate_and_quota() -> None:
    spent = {"@type": GOOGLE + "ErrorInfo", "metadata": {"quota_limit": "RequestsPerDay", "quota_limit_value": "5"}}
    nothing = {"@type": GOOGLE + "ErrorInfo", "metadata": {"quota_limit": "RequestsPerMinute", "quota_limit_value": "0"}}
    harmless: list[list[Any]] = [[], [PER_MINUTE], [{"@type": GOOGLE + "Help", "links": []}], ["odd"], [{"violations": "odd"}]]
    for details in harmless:
        assert reason_of(429, "RESOURCE_EXHAUSTED", "Quota exceeded, check your plan and billing details.", *details) == "rate_limited"
    for detail in (PER_DAY, limit("PerMinute", "0"), spent, nothing):
        assert reason_of(429, "RESOURCE_EXHAUSTED", "m", detail) == "quota_exceeded"
    for message in (
        "Your prepayment credits are depleted.",
        "The project exceeded its spending cap.",
        "Quota exceeded, limit: 0, model: m",
    ):
        assert reason_of(429, "RESOURCE_EXHAUSTED", message) == "quota_exceeded"


def test_the_wait_stands_in_the_details_or_in_the_text() -> None:
    assert answered(429, told(429, "RESOURCE_EXHAUSTED", "m", PER_MINUTE, WAIT)).retry_after == 34.4
    assert answered(429, told(429, "RESOURCE_EXHAUSTED", "Please retry in 48.939935699s.")).retry_after == 48.939935699
    assert answered(503, told(503, "UNAVAILABLE"), {"retry-after": "7"}).retry_after == 7.0
    assert answered(429, told(429, "RESOURCE_EXHAUSTED", "m", PER_DAY, WAIT)).retry_after is None


@pytest.mark.parametrize("status", [400, 429])
def test_a_prompt_that_is_too_long_is_told_by_the_message_only(status: int) -> None:
    message = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."
    found = answered(status, told(status, "INVALID_ARGUMENT" if status == 400 else "RESOURCE_EXHAUSTED", message, WAIT))
    assert (found.reason, found.retry_after) == ("context_length_exceeded", None)


def test_a_busy_model_is_overloaded() -> None:
    assert reason_of(503, "UNAVAILABLE", "The model is overloaded. Please try again later.") == "overloaded"
    assert reason_of(503, None, "This model is currently experiencing high demand.") == "overloaded"


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b"5", b'{"error": "text"}', b'{"error": null}'])
def test_any_other_body_is_fine(body: bytes) -> None:
    found = Gemini().failure(502, {}, body)
    assert (found.reason, found.status) == ("server_error", 502)
    assert found.message


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        (told(499, "CANCELLED"), "server_error", 499),
        (told(429, "RESOURCE_EXHAUSTED"), "rate_limited", 429),
        ({"status": "UNAVAILABLE", "message": "m"}, "service_unavailable", None),
        ({"status": "RESOURCE_EXHAUSTED", "message": "m"}, "rate_limited", None),
        ({"status": "NEW", "message": "m"}, "server_error", None),
        ("boom", "server_error", None),
    ],
)
def test_an_error_inside_an_answer_means_the_same(error: Any, reason: str, status: int | None) -> None:
    found = gemini_error_of(error)
    assert (found.reason, found.status) == (reason, status)
