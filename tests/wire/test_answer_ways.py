"""The ways to ask for an answer by a schema: what each wire sends, how the answer comes, and what a refusal of a way looks like."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import allm
from allm.blocks import CallContext
from allm.errors import ErrorInfo
from allm.events import MessageCompleted
from allm.providers.adapter import HttpRequest
from allm.providers.answer_ways import recast, refuses, ways_at
from allm.providers.failures import failure
from allm.providers.openai_chat import ChatDecoder
from allm.providers.registry import adapter_for
from tests.wire.chat import checked
from tests.wire.judging import CHAT, GEMINI, MESSAGES, RESPONSES, Judge, judged

Way = Literal["schema", "json", "tool"]
WAYS: tuple[Way, ...] = ("schema", "json", "tool")
N: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
NOW = allm.ToolSpec("now", "Tells the time.")
WIRES = {"openai.chat:m": CHAT, "openai.responses:m": RESPONSES, "anthropic:claude-sonnet-4-5": MESSAGES, "gemini:gemini-3-pro": GEMINI}


def asked(*messages: allm.Message, **fields: Any) -> allm.Request:
    return allm.request(messages or [allm.system("Be brief."), allm.user("How many?")], response_format=allm.json_schema("N", N), **fields)


def sent(name: str, way: Way, request: allm.Request | None = None, stream: bool = False) -> dict[str, Any]:
    engine = allm.Engine(name, structured=way)
    made = adapter_for(engine.adapter).request(engine, request or asked(), "https://host.example", stream)
    assert isinstance(made, HttpRequest)
    body: dict[str, Any] = json.loads(made.body)
    return body


def test_an_engine_knows_four_words_for_it() -> None:
    words: tuple[Literal["auto", "schema", "json", "tool"], ...] = ("auto", *WAYS)
    for way in words:
        engine = allm.Engine("openai.chat:m", structured=way)
        assert allm.from_json(allm.to_json(engine), allm.Engine).structured == way
        assert ("structured" in repr(engine)) is (way != "auto")
        assert engine.merge_opts(a=1).structured == engine.with_model("n").structured == way
    for wrong in ("Schema", "", None, 1, ["tool"]):
        with pytest.raises(allm.ValidationError, match="auto, schema, tool or json") as raised:
            allm.Engine("openai.chat:m", structured=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert raised.value.metadata["path"] == "engine.structured"


def test_a_document_that_was_written_before_says_auto() -> None:
    document = json.loads(allm.to_json(allm.Engine("openai.chat:m", structured="tool")))
    del document["structured"]
    assert allm.from_json(json.dumps(document), allm.Engine).structured == "auto"


def test_chat_asks_in_each_way() -> None:
    native = sent("openai.chat:m", "schema")
    assert native["response_format"]["json_schema"]["schema"] == N
    mode = sent("openai.chat:m", "json")
    assert mode["response_format"] == {"type": "json_object"}
    assert mode["messages"][0]["content"].startswith("Be brief.")
    assert json.dumps(N, separators=(",", ":")) in mode["messages"][0]["content"]
    assert mode["messages"][1:] == native["messages"][1:]
    tool = sent("openai.chat:m", "tool")
    assert "response_format" not in tool
    assert [each["function"] for each in tool["tools"]] == [
        {"name": "allm_answer", "description": "Gives the final answer (N).", "parameters": N}
    ]
    assert tool["tool_choice"] == {"type": "function", "function": {"name": "allm_answer"}}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (None, "required"),
        ("auto", "required"),
        ("required", "required"),
        ("none", {"type": "function", "function": {"name": "allm_answer"}}),
        ("now", {"type": "function", "function": {"name": "now"}}),
    ],
)
def test_beside_tools_the_model_must_call_one_of_them_or_answer(choice: str | None, told: Any) -> None:
    body = sent("openai.chat:m", "tool", asked(tools=(NOW,), tool_choice=choice))
    assert [each["function"]["name"] for each in body["tools"]] == ["now", "allm_answer"]
    assert body["tool_choice"] == told


def test_responses_asks_in_each_way() -> None:
    assert sent("openai.responses:m", "schema")["text"]["format"]["schema"] == N
    mode = sent("openai.responses:m", "json")
    assert mode["text"] == {"format": {"type": "json_object"}}
    assert "JSON Schema" in json.dumps(mode["input"])
    tool = sent("openai.responses:m", "tool")
    assert "text" not in tool
    assert (tool["tools"][0]["name"], tool["tool_choice"]) == ("allm_answer", {"type": "function", "name": "allm_answer"})


def test_anthropic_asks_in_each_way() -> None:
    assert sent("anthropic:claude-sonnet-4-5", "schema")["output_config"]["format"]["schema"] == N
    tool = sent("anthropic:claude-sonnet-4-5", "tool")
    assert (tool["tools"][0]["input_schema"], tool["tool_choice"]) == (N, {"type": "tool", "name": "allm_answer"})
    mode = sent("anthropic:claude-sonnet-4-5", "json")  # it has no JSON mode: any object, and the schema told
    assert mode["tools"][0]["input_schema"] == {"type": "object"}
    assert "JSON Schema" in json.dumps(mode["system"])


def test_gemini_asks_in_each_way() -> None:
    assert sent("gemini:gemini-3-pro", "schema")["generationConfig"]["responseJsonSchema"] == N
    mode = sent("gemini:gemini-3-pro", "json")
    assert mode["generationConfig"] == {"responseMimeType": "application/json"}
    assert "JSON Schema" in json.dumps(mode["systemInstruction"])
    for choice in (None, "none", "required"):
        tool = sent("gemini:gemini-3-pro", "tool", asked(tool_choice=choice))
        assert "generationConfig" not in tool
        assert tool["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == N
        calling = tool["toolConfig"]["functionCallingConfig"]
        assert calling["mode"] == "ANY"
        assert calling.get("allowedFunctionNames", ["allm_answer"]) == ["allm_answer"]


@judged
@pytest.mark.parametrize("name", WIRES)
def test_the_vendors_own_types_accept_every_way(judge: Judge, name: str) -> None:
    requests = [asked(), asked(allm.user("Hi")), asked(tools=(NOW,)), asked(tools=(NOW,), tool_choice="none")]
    bodies = [sent(name, way, request, stream) for way in WAYS for request in requests for stream in (False, True)]
    assert judge.refused(WIRES[name], bodies) == []


def test_a_request_that_asks_for_no_schema_is_the_same_in_each_way() -> None:
    for request in (allm.request([allm.user("Hi")]), allm.request([allm.user("Hi")], response_format="json")):
        assert all(recast(request, way) is request for way in ("auto", *WAYS))
    assert all(recast(request := asked(), way) is request for way in ("auto", "schema"))


def test_the_schema_is_told_behind_the_instructions_whatever_follows() -> None:
    later = (allm.user("Hi"), allm.assistant("Hello"), allm.system("Now."), allm.user("How many?"))
    assert [message.role for message in recast(asked(*later), "json").messages] == ["system", *(message.role for message in later)]
    assert [message.role for message in recast(asked(allm.system("A."), allm.system("B.")), "json").messages] == ["system"] * 3


# the answer


def decoded(*deltas: dict[str, Any], finish: str = "tool_calls", cuts: tuple[int, ...] = ()) -> allm.Response:
    chunks: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    data = b"".join(b"data: " + json.dumps({"id": "c", "choices": [chunk]}).encode() + b"\n\n" for chunk in chunks)
    decoder = ChatDecoder(CallContext(request_id="r", answer_tool="allm_answer", base_url="http://host.example"))
    events: list[allm.Event] = []
    at = 0
    for cut in (*sorted(cut % len(data) for cut in cuts), len(data)):
        events += decoder.feed(data[at:cut])
        at = cut
    done = checked(events + decoder.end())[-1]
    assert isinstance(done, MessageCompleted)
    return done.response


def call(name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}]}


def more(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


@given(st.lists(st.integers(min_value=1), max_size=6))
def test_the_answers_tool_beside_text_and_a_call_is_text_that_is_marked(cuts: list[int]) -> None:
    response = decoded(
        {"content": "Let me see."}, call("allm_answer", '{"n":'), call("now", "{}", 1), more(" 7}"), {"reasoning_content": "Hm."},
        cuts=tuple(cuts),
    )  # fmt: skip
    assert (response.parsed, response.metadata["answer_part"], response.finish_reason) == ({"n": 7}, 1, "tool_calls")
    assert [each.name for each in response.tool_calls] == ["now"]


def test_the_answers_tool_alone_is_the_text_and_nothing_of_a_call_is_kept() -> None:
    for finish in ("tool_calls", "stop"):
        response = decoded({"reasoning_content": "Hm."}, call("allm_answer", '{"n": 7}'), finish=finish)
        assert (response.text, response.finish_reason) == ('{"n": 7}', "stop")
        assert [type(part).__name__ for part in response.message.parts] == ["ReasoningPart", "TextPart"]
    assert decoded(call("allm_answer", "")).text == "{}"
    assert decoded(call("allm_answer", ""), finish="length").text == ""
    assert decoded(call("allm_answer", '{"n": 1}'), call("allm_answer", '{"n": 2}', 1)).parsed == {"n": 2}


def test_without_a_word_of_the_call_such_a_tool_is_one_like_any_other() -> None:
    decoder = ChatDecoder(CallContext(request_id="r"))
    told = {"choices": [{"index": 0, "message": call("allm_answer", "{}"), "finish_reason": "tool_calls"}]}
    done = decoder.body(json.dumps(told).encode())[-1]
    assert isinstance(done, MessageCompleted)
    assert [each.name for each in done.response.tool_calls] == ["allm_answer"]


# refusals


def error(message: str, status: int | None = 400, reason: str = "invalid_request", **metadata: str) -> ErrorInfo:
    return ErrorInfo("adapter", reason, message, status, metadata=metadata)


@pytest.mark.parametrize(
    "message",
    [
        "This response_format type is unavailable now",
        "1 validation error: response_format.type: Input should be 'text' or 'json_object'",
        "1 validation error for Ask\nresponse_format.type\n  Input should be 'text' or 'json_object' [input_value='json_schema']",
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "This model does not support response format `json_schema`.",
        "'response_format.type' must be 'json_schema' or 'text'",
        "invalid response_format type: json_schema",
        "unknown variant `json_schema`, expected one of `json_object`, `regex`",
        'response_format type must be one of "text" or "json_object", but got: json_schema',
        "Structured outputs are not supported by this endpoint",
        "json mode cannot be combined with tool/function calling",
        "Unrecognized request argument supplied: response_format",
        "No endpoints found that can handle the requested parameters. To learn more about provider routing, visit a page",
        "Grammars are not supported",
        "schema-constrained decoding is not supported for this model",
    ],
)
def test_a_refusal_of_a_way_is_told_by_its_words(message: str) -> None:
    assert all(refuses(error(message), way) for way in WAYS)
    assert refuses(error(message, 500, "server_error"), "schema")
    assert refuses(error(message, None, "server_error"), "schema")
    assert not refuses(error(message, 429, "rate_limited"), "schema")
    assert not refuses(error(message, 400, "context_length_exceeded"), "schema")
    assert refuses(error("Provider returned error", relayed=message), "schema")


def test_a_parameter_that_is_named_is_enough_and_tools_are_refused_in_their_own_way_only() -> None:
    assert refuses(error("Unsupported value", param="response_format"), "schema")
    for told in (
        error("tools are not supported"),
        error("Bad value", param="tool_choice"),
        error("No endpoints that support tool use", 404),
    ):
        assert (refuses(told, "tool"), refuses(told, "schema")) == (True, False)


@pytest.mark.parametrize(
    "message",
    [
        "Unknown field 'seed'",
        "this model does not support images",
        "Invalid schema for response_format 'N': In context=(), 'additionalProperties' is required to be supplied and to be false.",
        "JSON schema conversion failed: Unrecognized schema: {}",
        "Input should be a valid list, 'input': {'response_format': {'type': 'json_schema'}}",
        "the prompt speaks of response_format",
    ],
)
def test_words_about_something_else_are_none(message: str) -> None:
    assert not any(refuses(error(message), way) for way in WAYS)


def test_what_a_router_relays_is_kept_beside_its_own_words() -> None:
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "response_format is unavailable" * 1000}}}
    info = failure("openai", 400, {}, json.dumps(body).encode())
    assert info.metadata["relayed"].startswith("response_format is unavailable")
    assert len(info.metadata["relayed"]) == 2000


def test_the_vendors_own_service_is_asked_in_its_own_way_only() -> None:
    for address in ("https://api.openai.com/v1", "https://eu.api.openai.com/v1"):
        assert ways_at(address) == ("schema",)
    for address in ("https://api.deepseek.com", "http://127.0.0.1:8000/v1", "https://a.openai.azure.com/openai/v1", ""):
        assert ways_at(address) == ("schema", "json", "tool")
