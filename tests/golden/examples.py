"""Values of every type, every field set: what the golden documents say. They are never changed, only added."""

from typing import Any

from allm import events as e
from allm.callables import Importable
from allm.embeddings import EmbeddingRequest, EmbeddingResponse
from allm.errors import ErrorInfo
from allm.history import KeepLast, TokenBudget
from allm.image_requests import ImageRequest, ImageResponse, ImageUsage
from allm.images import Image
from allm.messages import (
    FilePart,
    ImagePart,
    Message,
    ProviderPart,
    ReasoningPart,
    TextPart,
    Thread,
    ToolCallPart,
    Unknown,
)
from allm.moderation import ModerationRequest, ModerationResponse, ModerationResult
from allm.requests import JsonSchema, Request, ToolSpec
from allm.responses import ChatResult, Response, StepResult, ToolResult
from allm.retry import Retry
from allm.settings import Http, Timeouts
from allm.tools import AskUser, Halt, ToolOutcome
from allm.usage import Usage

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
JSON: dict[str, Any] = {"type": "text_part", "n": (1, 2.5, None, True), "o": {"é": "\u2028𝄞"}}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ("city",)}

image = Image(data=PNG, mime="image/png")
error = ErrorInfo("adapter", "rate_limited", "slow down", 429, 1.5, "req_1", "openai", {"limit": 60})
usage = Usage(
    input_tokens=10,
    output_tokens=20,
    cached_input_tokens=4,
    cache_write_input_tokens=2,
    reasoning_tokens=5,
    total_tokens=30,
    input_cost=0.25,
    output_cost=0.5,
    total_cost=0.75,
    extra={"service_tier": "default"},
)
call = ToolCallPart("call_1", "weather", {"city": "Paris"}, '{"city":"Paris"}', "sig")
parts = (
    TextPart("Hello", "sig"),
    ImagePart(image, "high"),
    FilePart(data=b"%PDF", url=None, mime="application/pdf", name="a.pdf"),
    FilePart(url="https://example.org/a.pdf"),
    ReasoningPart("hm", "sig", "opaque", "anthropic"),
    call,
    ProviderPart("openai", "web_search_call", JSON),
    Unknown("hologram_part", {"type": "hologram_part", "depth": 3, "inner": {"type": "text_part"}}),
)
message = Message("assistant", parts, "bot", "call_0", JSON)
thread = Thread((Message("system", "Be brief."), Message("user", "Hi"), message), {"topic": "weather"})
spec = ToolSpec("weather", "Tells the weather.", SCHEMA, True)
schema = JsonSchema("answer", SCHEMA, False)
verdict = ModerationResult(
    flagged=True,
    categories={"hate": False, "violence": True},
    category_scores={"hate": 0.125, "violence": 0.75},
    category_applied_input_types={"hate": ("text",), "violence": ("image", "text")},
)
image_usage = ImageUsage(images=1, size="1024x1024", quality="high", input_tokens=5, output_tokens=272, total_cost=0.25)
response = Response(
    id="resp_1",
    request_id="req_1",
    model="gpt-4.1-mini",
    message=message,
    finish_reason="tool_calls",
    raw_finish_reason="completed",
    usage=usage,
    refusal="no",
    error=error,
    raw=JSON,
    metadata={"a": 1},
)
result = ToolResult("call_1", "weather", JSON, error, "sunny")
step = StepResult(response, (message,), (result,), False, {"b": 2})
chat = ChatResult(thread, (step,), response, "ask_user", usage, "Which?", "call_1", error, {"c": 3})

EXAMPLES: tuple[Any, ...] = (
    error,
    usage,
    image,
    Image(url="https://example.org/a.png"),
    ImageRequest(
        operation="edit",
        prompt="a hat",
        images=(image, Image(url="https://example.org/a.png")),
        mask=image,
        model="gpt-image-1",
        size="1024x1024",
        quality="high",
        n=2,
        background="opaque",
        style="vivid",
        response_format="url",
        options=JSON,
        metadata={"e": 5},
    ),
    image_usage,
    ImageResponse(id="i_1", request_id="req_1", model="gpt-image-1", images=(image,), usage=image_usage, raw=JSON, metadata={"f": 6}),
    *parts[:7],
    message,
    thread,
    spec,
    schema,
    Request(
        messages=thread.messages,
        model="gpt-4.1-mini",
        tools=(spec,),
        tool_choice="required",
        temperature=0.5,
        top_p=0.9,
        max_tokens=100,
        stop=("END",),
        seed=7,
        reasoning="low",
        response_format=schema,
        structured_finalize=True,
        prompt_cache={"key": "k", "retention": "long"},
        options={"user": "u"},
        metadata={"d": 4},
    ),
    response,
    result,
    step,
    chat,
    e.RequestStarted("req_1", "gpt-4.1-mini", "openai.chat", 2),
    e.MessageStarted("msg_1", "gpt-4.1-mini"),
    e.TextStarted("b1"),
    e.TextDelta("b1", "Hel"),
    e.TextCompleted("b1", "Hello", "sig"),
    e.ReasoningStarted("b2"),
    e.ReasoningDelta("b2", "h"),
    e.ReasoningCompleted("b2", "hm", "sig", "opaque", "anthropic"),
    e.ToolCallStarted("b3", "weather"),
    e.ToolCallDelta("b3", '{"ci'),
    e.ToolCallCompleted("b3", "weather", {"city": "Paris"}, '{"city":"Paris"}', "call_1", "sig"),
    e.PartCompleted("b4", ImagePart(image)),
    e.MessageCompleted(response),
    e.ToolExecutionStarted("call_1", "weather", {"city": "Paris"}),
    e.ToolExecutionCompleted("call_1", "weather", JSON, error, 0.25),
    e.ToolResultEncoded("call_1", "sunny"),
    e.AskUserRequested("call_1", "ask", "Which?", {"choices": ("a", "b")}),
    e.ToolHalt("call_1", "handed_over", JSON),
    e.StepCompleted(step, (call,)),
    e.ChatCompleted(chat),
    e.RetryScheduled("req_1", 1, 0.5, error),
    e.StreamRestarted("req_1", 2, error, ("b1", "b2")),
    e.RawChunk(JSON),
    e.ErrorOccurred(error),
    e.ErrorOccurred(error, chat),
    e.Envelope("user-42", "turn-1", 1, 17, 3, 1700000000.25, e.TextDelta("b1", "Hel")),
    Retry(
        max_attempts=5,
        base_delay=0.1,
        max_delay=9.0,
        jitter=0.0,
        retry_on=("timeout",),
        respect_retry_after=False,
        max_retry_after=5.0,
        mid_stream="restart",
    ),
    Timeouts(connect=1.0, first_event=2.0, idle=3.0, total=None, tool=5.0),
    Http(
        proxy="http://127.0.0.1:8080",
        verify="ca.pem",
        cert=("cert.pem", "key.pem"),
        headers={"x-team": "a"},
        max_connections=9,
        transport="httpx",
    ),
    EmbeddingRequest(texts=("Hi", "Hé"), model="e1", dimensions=2, task_type="retrieval_query", options=JSON),
    EmbeddingResponse(id="e_1", request_id="req_1", model="e1", vectors=((0.5, -0.25), (1.0, 0.0)), usage=usage, metadata=JSON),
    ModerationRequest(texts=("Hi",), parts=(TextPart("Hi"), ImagePart(image)), model="m1", options=JSON),
    verdict,
    ModerationResponse(id="modr_1", request_id="req_1", model="m1", results=(verdict,), metadata=JSON),
    Importable("mybot.prompts:brief"),
    KeepLast(7),
    TokenBudget(1000),
    AskUser("Which?", {"choices": ("a", "b")}),
    Halt("handed_over", JSON),
    ToolOutcome(
        id="call_1",
        name="weather",
        content="sunny",
        result=JSON,
        error=error,
        ask=AskUser("Which?"),
        halt=Halt("handed_over"),
        duration=0.25,
    ),
    Timeouts(callback=6.0),
)
