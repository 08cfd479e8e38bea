"""Error answers: eight shapes of body, statuses that cannot be trusted alone, and waits told in many places."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.codec import from_json, to_json
from allm.errors import ADAPTER_REASONS, ErrorInfo
from allm.providers.failures import error_of, failure

STATUSES = {
    400: "invalid_request", 401: "authentication", 402: "quota_exceeded", 403: "permission", 404: "not_found", 405: "invalid_request",
    408: "timeout", 409: "server_error", 413: "invalid_request", 415: "invalid_request", 418: "invalid_request", 422: "invalid_request",
    425: "server_error", 429: "rate_limited", 500: "server_error", 502: "server_error", 503: "service_unavailable", 504: "timeout",
    520: "server_error", 522: "timeout", 524: "timeout", 529: "overloaded", 599: "server_error",
}  # fmt: skip
SHAPES: dict[str, Any] = {
    "OpenAI": {"error": {"message": "no", "type": None, "param": None, "code": None}},
    "Azure": {"error": {"message": "no", "code": "499"}},
    "Azure's others": {"error": {"message": "no", "code": "Other", "details": "text"}},
    "Anthropic": {"type": "error", "error": {"type": "some_error", "message": "no"}, "request_id": "r1"},
    "Gemini": {"error": {"code": 499, "message": "no", "status": "OTHER", "details": [{"@type": "x"}, "odd"]}},
    "Gemini in a list": [{"error": {"code": 499, "message": "no", "status": "OTHER"}}],
    "OpenRouter": {"error": {"message": "no", "code": 499, "metadata": {"headers": {}}}, "user_id": "u1"},
    "Mistral": {"detail": "no"},
    "Groq": {"error": {"message": "no", "type": "other", "failed_generation": "<f>"}},
    "a text for an error": {"error": "no"},
    "a bare message": {"message": "no", "object": "error"},
    "a bare text": "no",
}


def told(status: int, body: Any, headers: dict[str, str] | None = None, provider: str = "openai") -> ErrorInfo:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return failure(provider, status, headers or {}, data)


def said(answered: int, headers: dict[str, str] | None = None, /, **error: Any) -> ErrorInfo:
    return told(answered, {"error": {"message": "no", **error}}, headers)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_body_tells_its_message_and_the_status_its_reason(shape: str) -> None:
    errors = {status: told(status, SHAPES[shape]) for status in STATUSES}
    assert {status: error.reason for status, error in errors.items()} == STATUSES
    for status, error in errors.items():
        assert (error.kind, error.message, error.status, error.provider) == ("adapter", "no", status, "openai")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "HTTP 500 with an empty body"),
        (b" \n", "HTTP 500 with an empty body"),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        (b"\xff oops", "\ufffd oops"),
        (b"x" * 900, "x" * 500),
        (b'{"errors": ["a"]}', "a"),
        (b'{"error": {"message": {"a": 1}}}', '{"a":1}'),
        (b'{"detail": [{"loc": ["body"], "msg": "bad"}]}', '[{"loc":["body"],"msg":"bad"}]'),
        (b'{"error": {"message": "cut \\ud83d"}}', "cut \ufffd"),
        (b"[" * 5000, "[" * 500),
        (b"null", "null"),
    ],
)  # fmt: skip
def test_there_is_always_a_message(body: bytes, message: str) -> None:
    assert told(500, body).message == message


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, "quota_exceeded"),
        (429, {"code": "rate_limit_exceeded"}, "rate_limited"),
        (403, {"code": "billing_hard_limit_reached"}, "quota_exceeded"),
        (400, {"code": "context_length_exceeded"}, "context_length_exceeded"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "context_length_exceeded"),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, "context_length_exceeded"),
        (400, {"message": "The input token count (1) exceeds the maximum", "status": "INVALID_ARGUMENT"}, "context_length_exceeded"),
        (400, {"message": "request (9010 tokens) exceeds the available context size (2048 tokens)"}, "context_length_exceeded"),
        (500, {"message": "the context length service broke"}, "server_error"),
        (401, {"code": "401"}, "authentication"),
        (401, {"code": "rate_limit_exceeded"}, "authentication"),
        (400, {"code": "invalid_api_key"}, "authentication"),
        (400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, "authentication"),
        (400, {"code": "model_not_found"}, "not_found"),
        (404, {"code": "DeploymentNotFound"}, "not_found"),
        (400, {"code": "content_filter"}, "content_filter"),
        (400, {"code": "moderation_blocked"}, "content_filter"),
        (400, {"type": "invalid_request_error"}, "invalid_request"),
        (400, {"type": "api_error"}, "invalid_request"),
        (400, {"type": "overloaded_error"}, "overloaded"),
        (500, {"type": "overloaded_error"}, "overloaded"),
        (503, {"code": "overloaded"}, "overloaded"),
        (500, {"type": "invalid_request_error"}, "server_error"),
        (500, {"type": "timeout_error"}, "timeout"),
        (529, {"type": "overloaded_error"}, "overloaded"),
        (200, {"type": "rate_limit_error"}, "rate_limited"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_words_make_the_reason_more_precise_than_the_status_does(status: int, error: dict[str, Any], reason: str) -> None:
    assert said(status, **error).reason == reason


def test_what_describes_the_error_is_kept_with_the_providers_id_of_the_request() -> None:
    error = said(400, {"x-request-id": "p1"}, type="t", code=7, param="tools[0]", status="S", failed_generation="<f>", other="x")
    assert error.metadata == {
        "type": "t", "code": 7, "param": "tools[0]", "status": "S", "failed_generation": "<f>", "provider_request_id": "p1",
    }  # fmt: skip
    assert told(500, b"", {"request-id": "a1"}).metadata == {"provider_request_id": "a1"}
    assert said(400, code=10**30, param={"a": 1}).metadata == {}


# Waits

NOW = "Wed, 21 Oct 2026 07:28:00 GMT"
EPOCH = 1792567680  # the same moment


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "1", "retry-after-ms": "0"}, 1.0),
        ({"retry-after": "1", "retry-after-ms": "2500"}, 2.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:30 GMT", "date": NOW}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30", "date": NOW}, 30.0),
        ({"retry-after": "Wed Oct 21 07:28:30 2026", "date": NOW}, 30.0),
        ({"retry-after": "Wednesday, 21-Oct-26 07:28:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Wed, 21 Oct 9999 07:28:30 GMT", "date": NOW}, 1e9),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 +99999999999", "date": NOW}, None),
        ({"x-ratelimit-reset": str((EPOCH + 12) * 1000), "date": NOW}, 12.0),
        ({"x-ratelimit-reset": str((EPOCH - 12) * 1000), "date": NOW}, None),
        ({"x-ratelimit-reset": str((EPOCH + 90_000) * 1000), "date": NOW}, None),
        ({"x-ratelimit-reset": str((EPOCH + 12) * 1000)}, None),
        *(({"retry-after": word}, None) for word in ("", "soon", "-3", "nan", "1_0", "\u0663")),
        *(({"retry-after": word}, 1e9) for word in ("inf", "1e12", "1e400", "1000000000", "9" * 400)),
    ],
    ids=str,
)
def test_the_wait_is_read_from_the_headers(headers: dict[str, str], wait: float | None) -> None:
    assert said(429, headers).retry_after == wait


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        ({"metadata": {"headers": {"X-RateLimit-Reset": str((EPOCH + 5) * 1000)}}}, 5.0),
        ({"metadata": {"headers": {"X-RateLimit-Reset": (EPOCH + 5) * 1000}}}, 5.0),
        ({"metadata": {"headers": {"X-RateLimit-Reset": 10**400}}}, None),
        ({"metadata": {"headers": {"X-RateLimit-Reset": [1]}}}, None),
        ({"metadata": {"headers": []}}, None),
        ({"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]}, 34.4),
        ({"details": [{"retryDelay": 5}]}, None),
        ({"message": "Rate limit reached. Please try again in 20s."}, 20.0),
        ({"message": "Please try again in 7.66s. Visit https://example.org/limits"}, 7.66),
        ({"message": "Please try again in 120ms."}, 0.12),
        ({"message": "Please try again in 6m0s."}, 360.0),
        ({"message": "Please try again in 1h2m3.5s."}, 3723.5),
        ({"message": "Please retry in 34.4s."}, 34.4),
        ({"message": "Please retry after 1 second."}, 1.0),
        ({"message": "Please retry after 2 minutes."}, 120.0),
        ({"message": "Try again in 3 hours"}, 10800.0),
        ({"message": "Retry after 5 please"}, 5.0),
        ({"message": "try again in 250 milliseconds"}, 0.25),
        ({"message": "try again in 1.2.3"}, 1.2),
        ({"message": "try again in " + "9" * 400 + "s"}, None),
        ({"message": "try again in ..."}, None),
        ({"message": "try again later"}, None),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_the_wait_is_read_from_the_body(error: dict[str, Any], wait: float | None) -> None:
    assert said(429, {"date": NOW}, **error).retry_after == wait


def test_a_header_comes_before_the_text() -> None:
    assert said(429, {"retry-after": "3"}, message="try again in 20s").retry_after == 3


@pytest.mark.parametrize("code", ["insufficient_quota", "context_length_exceeded"])
def test_what_no_waiting_mends_tells_no_wait(code: str) -> None:
    assert said(429, {"retry-after": "3"}, code=code).retry_after is None


# Errors inside an answer that began well


@pytest.mark.parametrize(
    ("error", "reason", "message", "status"),
    [
        ({"message": "no", "status_code": 429}, "rate_limited", "no", 429),
        ({"message": "no", "code": 503}, "service_unavailable", "no", 503),
        ({"message": "no", "code": 200}, "server_error", "no", None),
        ({"message": "no", "code": "429"}, "server_error", "no", None),
        ({"message": "no", "code": "invalid_api_key"}, "authentication", "no", None),
        ({"message": "prompt is too long"}, "context_length_exceeded", "prompt is too long", None),
        ({}, "server_error", "the provider reported an error", None),
        (None, "server_error", "the provider reported an error", None),
        ("no", "server_error", "no", None),
        (["no"], "server_error", '["no"]', None),
        (object, "server_error", str(object), None),
    ],
    ids=str,
)
def test_an_error_object_tells_its_own_status(error: Any, reason: str, message: str, status: int | None) -> None:
    info = error_of("openai", error)
    assert (info.reason, info.message, info.status) == (reason, message, status)
    assert error_of("openai", error, 529).status == 529


# Whatever comes

_words = st.sampled_from(["error", "message", "code", "type", "status", "details", "detail", "metadata", "headers", "param", "status_code",
                          "retryDelay", "reason", "X-RateLimit-Reset"])  # fmt: skip
_texts = st.text(max_size=12) | st.sampled_from(["try again in ", "retry ", "1.", "..5", "6m0s", "insufficient_quota", "9" * 400])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.lists(_texts, max_size=3).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
_bodies = st.binary(max_size=60) | _values.map(lambda value: json.dumps(value).encode())
_headers = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset", "x-request-id"]),
    st.text(st.characters(max_codepoint=255), max_size=30)
    | st.sampled_from([NOW, "1e400", "Wed, 21 Oct 0001 07:28:00 +2359"])
    | st.floats().map(str),
)


def check(error: ErrorInfo) -> None:
    assert error.reason in ADAPTER_REASONS
    assert error.message
    assert error.retry_after is None or 0 <= error.retry_after <= 1e9
    assert from_json(to_json(error), ErrorInfo) == error


@settings(deadline=None, max_examples=500)
@given(st.integers(100, 999), _headers, _bodies)
def test_no_answer_whatsoever_raises_and_each_has_a_reason_of_the_list(status: int, headers: dict[str, str], body: bytes) -> None:
    check(failure("openai", status, headers, body))


@settings(deadline=None, max_examples=200)
@given(_values)
def test_no_error_object_whatsoever_raises(error: Any) -> None:
    check(error_of("openai", error))
