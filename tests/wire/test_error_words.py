"""What hosts say in place of a code: that a prompt is too long, that a balance is spent; and error bodies in frames of events."""

import json
import time
from typing import Any

import pytest

import allm
from allm.providers.error_words import is_spent, is_too_long
from allm.providers.failures import error_of, failure, unframed
from allm.providers.gemini_failures import gemini_failure
from tests.runtime.support import RawServer, answers, http

TOO_LONG = [
    (400, "xAI", "This model's maximum prompt length is 8192 but the request contains 9000 tokens."),
    (400, "Moonshot", "Invalid request: Your request exceeded model token limit: 4096"),
    (400, "DashScope", "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]"),
    (400, "Bedrock", "Input is too long for requested model."),
    (413, "GitHub Models", "Request body too large for gpt-4.1 model. Max size: 4000 tokens."),
    (422, "TGI", "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000 `inputs` tokens"),
    (422, "TGI", "Input validation error: `inputs` must have less than 1024 tokens. Given: 1200"),
    (400, "Copilot", "prompt token count of 70000 exceeds the limit of 64000"),
    (400, "z.ai", "Prompt exceeds max length"),
    (500, "llama.cpp", "the request exceeds the available context size. try increasing the context size or enable context shift"),
    (400, "llama.cpp", "the request exceeds the available context size, try increasing it"),
    (400, "dasllama", "the rendered prompt is 700 tokens; the model context is 512: shorten the conversation"),
    (400, "MiniMax", "invalid params, context window exceeds limit (2013)"),
    (400, "Volcengine", "Input length 40000 exceeds the maximum length 32768"),
    (400, "watsonx", "the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model"),
    (400, "Yandex", "number of input tokens must be no more than 8192, got 9000"),
    (400, "Cohere", "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292"),
    (400, "Anthropic", "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"),
    (400, "OpenAI", "Your input exceeds the context window of this model."),
    (400, "Cerebras", "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192"),
    (400, "Amazon Nova", "Input Tokens Exceeded: Number of input tokens exceeds maximum length."),
    (400, "a host nobody knows", "Your conversation has 9000 tokens, that is more than the 8192 which we take"),
    (400, "DeepInfra", "Requested input length 38453 exceeds maximum input length 32768"),
    (400, "TensorRT-LLM", "The sum of prompt length (10.0), query length (0) should not exceed max_num_tokens (8192)"),
    (400, "TabbyAPI", "Prompt length 5000 is greater than max_seq_len 4096"),
    (400, "Volcengine", "Total tokens of image and text exceed max message tokens. Request id: 02"),
    (400, "LiteLLM", "litellm.ContextWindowExceededError: litellm.BadRequestError: it does not fit"),
    (400, "Zhipu", "Prompt 超长"),
    (429, "Gemini", "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."),
    (None, "in a stream", "Error: prompt is too long: 210000 tokens > 200000 maximum"),
]
SPENT = [
    (429, "z.ai", "Insufficient balance or no resource package. Please recharge."),
    (400, "Anthropic", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to purchase credits."),
    (429, "Moonshot", "Your account org-1 is suspended, please check your plan and billing details"),
    (403, "xAI", "Your team has either used all available credits or reached its monthly spending limit."),
    (403, "SiliconFlow", "Sorry, your account balance is insufficient"),
    (403, "Volcengine", "The request failed because your account has an overdue balance."),
    (400, "DashScope", "Access denied, please make sure your account is in good standing."),
    (412, "Fireworks", "Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices."),
    (403, "Novita", "not enough balance"),
    (429, "Hugging Face", "You have exceeded your monthly included credits for Inference Providers."),
    (None, "MiniMax", "insufficient balance (1008)"),
    (400, "LiteLLM", "Budget has been exceeded! Current cost: 10.5, Max budget: 10.0"),
    (429, "Zhipu", "余额不足或无可用资源包,请充值。"),
    (403, "one-api", "用户额度不足, 剩余额度: 0.0"),
    (403, "DashScope's free tier", "The free tier of the model has been exhausted. To go on, disable the free tier only mode."),
    (429, "Cloudflare", "you have used up your daily free allocation of 10,000 neurons"),
    (403, "OpenRouter", "Key limit exceeded (monthly limit)."),
    (400, "Anthropic's limits", "You have reached your specified API usage limits. You will regain access on 2026-01-01."),
    (429, "Chutes", "Quota exceeded and account balance is $0.0, please pay"),
]
NEITHER = [
    (400, "invalid_request", "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for this model"),
    (400, "invalid_request", "max_tokens is too large: 100000. This model supports at most 16384 completion tokens"),
    (400, "invalid_request", "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64"),
    (400, "invalid_request", "messages.0.content: too many images in the prompt"),
    (400, "invalid_request", "Invalid token in the input"),
    (413, "invalid_request", "Request body too large"),
    (413, "invalid_request", "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000 input tokens"),
    (
        429,
        "rate_limited",
        "Request too large for m on tokens per min (TPM): Limit 30000, Requested 40000. The input tokens must be reduced.",
    ),
    (429, "rate_limited", "This request would exceed your organization's rate limit of 40,000 input tokens per minute."),
    (429, "rate_limited", "You exceeded your current quota: 10 requests per minute"),
    (400, "invalid_request", "stop: sequence length exceeds 4"),
    (500, "server_error", "the context length service broke"),
    (500, "server_error", "prompt tokens exceed"),
    (401, "authentication", "your key is not valid"),
    (403, "permission", "insufficient permissions for this model"),
]


@pytest.mark.parametrize(("status", "host", "message"), TOO_LONG, ids=[f"{host} {status}" for status, host, _ in TOO_LONG])
def test_a_prompt_that_is_too_long_is_known_by_the_words_of_its_host(status: int | None, host: str, message: str) -> None:
    for error in told(status, {"message": message, "type": "invalid_request_error"}):
        assert (error.reason, error.message) == ("context_length_exceeded", message)


@pytest.mark.parametrize(("status", "host", "message"), SPENT, ids=[host for _, host, _ in SPENT])
def test_a_spent_balance_is_known_by_the_words_of_its_host_and_not_waited_for(status: int | None, host: str, message: str) -> None:
    for error in told(status, {"message": message}):
        assert (error.reason, error.retry_after) == ("quota_exceeded", None)


@pytest.mark.parametrize(("status", "reason", "message"), NEITHER)
def test_other_words_with_tokens_and_limits_in_them_are_neither(status: int, reason: str, message: str) -> None:
    assert {error.reason for error in told(status, {"message": message})} == {reason}


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("exceeded_current_quota_error", "quota_exceeded"),
        ("Arrearage", "quota_exceeded"),
        ("insufficient_user_quota", "quota_exceeded"),
        ("tokens_limit_reached", "context_length_exceeded"),
        ("exceed_context_size_error", "context_length_exceeded"),
        ("model_max_prompt_tokens_exceeded", "context_length_exceeded"),
        ("budget_exceeded", "quota_exceeded"),
        ("AllocationQuota.FreeTierOnly", "quota_exceeded"),
    ],
)
@pytest.mark.parametrize("field", ["type", "code"])
def test_the_codes_of_hosts_say_it_too(field: str, word: str, reason: str) -> None:
    for status in (400, 403, 413, 429):
        assert {error.reason for error in told(status, {"message": "no", field: word})} == {reason}


def test_what_a_router_relays_is_read() -> None:
    raw = json.dumps({"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}})
    (error, _) = told(400, {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw, "provider_name": "A"}})
    assert error.reason == "context_length_exceeded"


def told(status: int | None, error: dict[str, Any]) -> list[allm.ErrorInfo]:
    """The error as an answer of its own, and inside an answer that began well."""
    inside = error_of("openai", error, status)
    return [inside] if status is None else [failure("openai", status, {}, json.dumps({"error": error}).encode()), inside]


@pytest.mark.alone
def test_long_messages_are_read_in_little_time() -> None:
    began = time.process_time()
    for text in ("input prompt tokens " * 50_000, "account suspended " * 50_000, "exceeds the maximum " * 50_000, "input " * 100_000):
        is_too_long(400, text)
        is_spent(400, text)
    assert time.process_time() - began < 1


# Frames

ERROR = {"error": {"message": "Error processing stream start", "type": "internal_server_error", "param": None, "code": "500"}}
BODY = json.dumps(ERROR).encode()
FRAMED = {
    "LiteLLM": b"data: " + BODY + b"\n\ndata: [DONE]\n\n",
    "named": b"event: error\r\ndata: " + BODY + b"\r\n\r\n",
    "no blank": b"data:" + BODY,
    "comments and blank lines first": b"\xef\xbb\xbf\n: ping\n\nid: 7\ndata: " + BODY + b"\n\n",
    "in several lines": b"data: " + json.dumps(ERROR, indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",
    "two events": b"data: " + BODY + b"\n\ndata: " + BODY + b"\n\n",
}


@pytest.mark.parametrize("form", FRAMED)
@pytest.mark.parametrize("read", [failure, gemini_failure], ids=["shared", "gemini"])
def test_an_error_body_in_frames_is_read_like_a_bare_one(form: str, read: Any) -> None:
    error = read(500, {}, FRAMED[form]) if read is gemini_failure else read("openai", 500, {}, FRAMED[form])
    assert (error.reason, error.message) == ("server_error", "Error processing stream start")


@pytest.mark.parametrize("body", [b"", b"data: [DONE]\n\n", b"<html>data: x</html>", b'{"data": 1}', b"data", b": only a comment\n"])
def test_a_body_without_frames_stays_as_it_is(body: bytes) -> None:
    assert unframed(body) == body


def test_a_call_that_meets_a_framed_error_tells_its_message() -> None:
    server = RawServer(answers(http(FRAMED["LiteLLM"], "text/event-stream", "500 Internal Server Error")))
    engine = allm.Engine("openai.chat:m", base_url=f"{server.url}/v1", keys={"openai": "k"}, retry=allm.Retry.none())
    try:
        with allm.Runtime() as runtime, pytest.raises(allm.AdapterError) as caught:
            allm.generate(engine, "hi", runtime=runtime)
    finally:
        server.close()
    assert (caught.value.reason, caught.value.message) == ("server_error", "Error processing stream start")
