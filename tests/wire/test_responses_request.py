"""OpenAI Responses: neutral requests to bodies, also judged by the vendor's own published types."""

import base64
import functools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Unknown
from allm.providers.adapter import EITHER
from allm.providers.ids import wire_id, wire_names
from allm.providers.openai_responses import OpenAIResponses
from allm.providers.openai_responses_input import MAX_BYTES, NO_RESULT
from allm.providers.openai_responses_request import reasons
from tests.wire.judging import RESPONSES, Judge, judged

OWN = "https://api.openai.com/v1"
PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = "https://example.org/a.png"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
WEATHER = ToolSpec("weather", "Tells the weather.", SCHEMA)
HI = (allm.user("Hi"),)
SAID: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
SEALED: dict[str, Any] = {
    "type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAA",
}  # fmt: skip
THOUGHT = ReasoningPart("Hm.", data=json.dumps(SEALED), provider="openai")
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Case:
    """A request, and what its body has beside `model`, `input`, `store` and `stream`."""

    name: str
    request: Request
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    input: list[dict[str, Any]] = field(default_factory=lambda: SAID)


def asked(**fields: Any) -> Request:
    return Request(HI, **fields)


def said(*messages: Message, **fields: Any) -> Request:
    return Request(messages, **fields)


def parts(*given: Any) -> Request:
    return said(Message("user", given))


def answered(*given: Any) -> Request:
    """What an assistant did, and a word of the user after it."""
    return said(Message("assistant", given), *HI)


def user(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def spoken(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": content, **more}


def call(arguments: str = "{}", name: str = "weather", id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments, **more}


def function(name: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": parameters, "strict": False, **more}


def own(kind: str, **data: Any) -> ProviderPart:
    return ProviderPart("openai", kind, data)


def unanswered(id: str = "c1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": NO_RESULT}


DOTTED = wire_names(["a_b", "a.b"])["a.b"]
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
CALLED = ToolCallPart("c1", "weather", {"city": "Oslo"})
AGAIN = wire_id("c1 again")
LONG_ID = "toolu_" + "x" * 70
PROGRAM = {"type": "program", "caller_id": "call_0"}
MADE = {"status": "completed", "output_format": "png", "revised_prompt": "a cat"}

CASES = [
    Case("a bare question", said(*HI)),
    Case(
        "system messages where they stand",
        said(allm.system("Be brief."), *HI, allm.assistant("Hello."), allm.system("Be kind."), *HI),
        input=[{"role": "system", "content": "Be brief."}, *SAID, spoken("Hello."), {"role": "system", "content": "Be kind."}, *SAID],
    ),
    Case("names of speakers are not told", said(Message("user", "Hi", name="ann"), Message("user", "Hi", name="bob")), input=SAID * 2),
    Case("a thread in which nothing was said", said(Message("assistant")), input=[{"role": "user", "content": ""}]),
    Case("nothing is something when a user says it", said(Message("user")), input=[{"role": "user", "content": ""}]),
    Case(
        "a call and its result",
        said(*HI, Message("assistant", (TextPart("Let me see."), CALLED)), allm.tool_result("c1", "rain")),
        input=[*SAID, spoken("Let me see."), call('{"city":"Oslo"}'), RESULT],
    ),
    Case(
        "parallel calls, their results in parts",
        said(
            Message("assistant", (CALLED, ToolCallPart("c2", "now"))),
            Message("tool", (TextPart("rain"), ImagePart(Image.from_binary(PNG)), FilePart(data=b"%PDF")), tool_call_id="c1"),
            Message("tool", (TextPart("noon"),), tool_call_id="c2"),
        ),
        input=[
            call('{"city":"Oslo"}'), call("{}", "now", "c2"),
            {"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_text", "text": "rain"},
                {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{b64(PNG)}"},
                {"type": "input_file", "filename": "file", "file_data": f"data:application/pdf;base64,{b64(b'%PDF')}"},
            ]},
            {"type": "function_call_output", "call_id": "c2", "output": "noon"},
        ],
    ),
    Case(
        "arguments go back as the model wrote them, and what is no object as an empty one",
        answered(ToolCallPart("c1", "weather", {"city": "Oslo"}, '{ "city" :\t"Oslo" }'), ToolCallPart("c2", "weather", {}, '{"a":')),
        input=[call('{ "city" :\t"Oslo" }'), call("{}", id="c2"), unanswered(), unanswered("c2"), *SAID],
    ),
    Case(
        "a custom tool's call and its result are of their own kind, wherever its left-over stands",
        said(
            Message(
                "assistant",
                (ToolCallPart("c1", "sql", {}, "SELECT 1"), ToolCallPart("c2", "weather"), own("custom_tool_call", call_id="c1")),
            ),
            allm.tool_result("c1", "1"),
        ),
        input=[
            {"type": "custom_tool_call", "call_id": "c1", "name": "sql", "input": "SELECT 1"}, call(id="c2"),
            unanswered("c2"),
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"},
        ],
    ),
    Case(
        "a shell's call that nobody answered is left out, and the reasoning before it",
        said(Message("assistant", (THOUGHT, own("shell_call", call_id="sh_1", id="sh_i", action={"commands": ["ls"]}))), *HI),
    ),
    Case(
        "a tool whose name the wire does not allow is declared, chosen and called by the same one",
        said(
            Message("assistant", (ToolCallPart("c1", "a.b"),)), allm.tool_result("c1", "r"), tools=(ToolSpec("a_b"), ToolSpec("a.b")),
            tool_choice="a.b",
        ),
        {
            "tools": [function("a_b", NO_PARAMETERS), function(DOTTED, NO_PARAMETERS)],
            "tool_choice": {"type": "function", "name": DOTTED},
        },
        input=[call(name=DOTTED), {**RESULT, "output": "r"}],
    ),
    Case(
        "a tool's schema has no alternatives at its top",
        asked(tools=(ToolSpec("f", schema={"type": "object", "oneOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}]}),)),
        {"tools": [function("f", {"type": "object", "properties": {"a": {"type": "string"}}})]},
    ),
    Case("an answer that says nothing is left out", said(*HI, Message("assistant", (ReasoningPart("Hm"), TextPart(""))), allm.user("?")),
         input=[{"role": "user", "content": "Hi"}, {"role": "user", "content": "?"}]),
    Case("no arguments are an empty object", answered(ToolCallPart("c1", "weather", {}, "")), input=[call(), unanswered(), *SAID]),
    Case(
        "an id of another maker is made fit, in the call and in its result",
        said(Message("assistant", (ToolCallPart(LONG_ID, "weather"),)), allm.tool_result(LONG_ID, "rain")),
        input=[call(id=wire_id(LONG_ID)), {**RESULT, "call_id": wire_id(LONG_ID)}],
    ),
    Case(
        "a result without content",
        said(Message("assistant", (ToolCallPart("c1", "weather"),)), Message("tool", (), tool_call_id="c1")),
        input=[call(), {**RESULT, "output": ""}],
    ),
    Case(
        "a result without its call is told by the user",
        said(allm.tool_result("c1", "rain"), Message("tool", (TextPart("a"), ImagePart(Image.from_url(PICTURE))), tool_call_id="c2")),
        input=[
            {"role": "user", "content": "rain"},
            *user({"type": "input_text", "text": "a"}, {"type": "input_image", "detail": "auto", "image_url": PICTURE}),
        ],
    ),
    Case(
        "a second result of one call, too",
        said(Message("assistant", (ToolCallPart("c1", "weather"),)), allm.tool_result("c1", "rain"), allm.tool_result("c1", "snow")),
        input=[call(), RESULT, {"role": "user", "content": "snow"}],
    ),
    *(
        Case(
            f"unless the call is with the provider: {name}",
            Request((allm.tool_result("c1", "rain"), Message("assistant", (ToolCallPart("c2", "weather"),))), options={name: "x_1"}),
            {name: "x_1"},
            input=[RESULT, call(id="c2")],
        )
        for name in ("previous_response_id", "conversation")
    ),
    Case(
        "a stored prompt needs no words",
        Request((), options={"prompt": {"id": "pmpt_1"}}),
        {"prompt": {"id": "pmpt_1"}},
        input=[],
    ),
    Case(
        "tools that were added in the thread stay in it",
        said(*HI, Message("system", (own("additional_tools", role="developer", tools=()),))),
        input=[*SAID, {"type": "additional_tools", "role": "developer", "tools": []}],
    ),
    Case(
        "calls of one id are told apart, and each has its own result",
        said(
            Message("assistant", (ToolCallPart("c1", "f"), ToolCallPart("c1", "g"))),
            allm.tool_result("c1", "1"), allm.tool_result("c1", "2"), Message("assistant", (ToolCallPart("c1", "h"),)),
        ),
        input=[
            call("{}", "f"), call("{}", "g", AGAIN), {**RESULT, "output": "1"}, {**RESULT, "call_id": AGAIN, "output": "2"},
            call("{}", "h", wire_id(f"{AGAIN} again")), unanswered(wire_id(f"{AGAIN} again")),
        ],
    ),
    Case("a name that the wire does not allow", answered(ToolCallPart("c1", "a.b:c")), input=[call(name="a_b_c"), unanswered(), *SAID]),
    Case("an assistant who said nothing is not heard", said(Message("assistant"), Message("assistant", (TextPart(""),)), *HI)),
    Case("texts of an assistant are joined", answered(TextPart("Hel"), TextPart("lo")), input=[spoken("Hello"), *SAID]),
    Case("its own reasoning goes back as it came", answered(THOUGHT, TextPart("Hello")), input=[SEALED, spoken("Hello"), *SAID]),
    Case("reasoning before a call", answered(THOUGHT, CALLED), input=[SEALED, call('{"city":"Oslo"}'), unanswered(), *SAID]),
    Case(
        "reasoning that is foreign, unsealed or broken stays in the thread",
        answered(
            ReasoningPart("a"), ReasoningPart("b", signature="s", provider="anthropic"), ReasoningPart("c", provider="openai"),
            ReasoningPart("d", data="{", provider="openai"), ReasoningPart("e", data='{"type":"reasoning"}', provider="openai"),
            ReasoningPart("f", data="[1]", provider="openai"), ReasoningPart("g", data=THOUGHT.data, provider="gemini"), TextPart("Hello"),
        ),
        input=[spoken("Hello"), *SAID],
    ),
    Case("reasoning that nothing follows stays in the thread", answered(TextPart("a"), THOUGHT, THOUGHT), input=[spoken("a"), *SAID]),
    Case(
        "phases of messages",
        answered(
            TextPart("I look."), own("message", id="msg_1", phase="commentary"), TextPart("Rain."),
            own("message", id="msg_2", phase="final_answer", annotations=[{"type": "url_citation"}]), TextPart("Bye."),
        ),
        input=[spoken("I look.", phase="commentary"), spoken("Rain.", phase="final_answer"), spoken("Bye."), *SAID],
    ),
    Case("a cited message without a phase", answered(TextPart("a"), own("message", annotations=[])), input=[spoken("a"), *SAID]),
    Case(
        "namespace and caller of a call",
        said(
            Message("assistant", (CALLED, own("function_call", call_id="c1", namespace="crm", caller=PROGRAM))),
            allm.tool_result("c1", "rain"),
        ),
        input=[call('{"city":"Oslo"}', namespace="crm", caller=PROGRAM), {**RESULT, "caller": PROGRAM}],
    ),
    Case(
        "items of its own go back in their places, those of others and unknown ones do not",
        answered(
            own("web_search_call", type="web_search_call", id="ws_1", status="completed",
                action={"type": "search", "query": "x", "sources": [{"type": "api", "name": "w"}]}),
            ProviderPart("anthropic", "web_search_call", {"id": "x"}), own("never_heard_of", id="x"), own("compaction"),
            Unknown("new", {"type": "new"}), TextPart("Hello"), own("compaction", id="cmp_1", encrypted_content="gAAA"),
        ),
        input=[
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
            spoken("Hello"), {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}, *SAID,
        ],
    ),
    Case(
        "an image of its own goes back without what is told of its making, which the wire does not take",
        answered(ImagePart(Image.from_binary(PNG)), own("image_generation_call", id="ig_1", **MADE), TextPart("A cat.")),
        input=[{"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": b64(PNG)}, spoken("A cat."), *SAID],
    ),
    Case(
        "an image of another maker is shown by the user",
        answered(TextPart("A cat:"), ImagePart(Image.from_binary(PNG)), TextPart("Nice?"), FilePart(url="https://example.org/a.pdf")),
        input=[
            spoken("A cat:"), spoken("Nice?"),
            *user({"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{b64(PNG)}"}),
            *user({"type": "input_file", "file_url": "https://example.org/a.pdf"}), *SAID,
        ],
    ),
    Case(
        "how an image was made is no use without it",
        answered(own("image_generation_call", id="ig_1"), ImagePart(Image.from_url(PICTURE)), own("image_generation_call", id="ig_2")),
        input=[*user({"type": "input_image", "detail": "auto", "image_url": PICTURE}), *SAID],
    ),
    Case(
        "images by address and by bytes, in detail",
        parts(TextPart("Look:"), ImagePart(Image.from_url(PICTURE)), ImagePart(Image.from_binary(PNG), "high")),
        input=user(
            {"type": "input_text", "text": "Look:"},
            {"type": "input_image", "detail": "auto", "image_url": PICTURE},
            {"type": "input_image", "detail": "high", "image_url": f"data:image/png;base64,{b64(PNG)}"},
        ),
    ),
    Case(
        "files by address and by bytes",
        parts(FilePart(data=b"%PDF", mime="application/pdf", name="a.pdf"), FilePart(url="https://example.org/b.pdf"),
              FilePart(data=b"a,b", mime="text/csv"), FilePart(data=PNG, mime="image/png")),
        input=user(
            {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{b64(b'%PDF')}"},
            {"type": "input_file", "file_url": "https://example.org/b.pdf"},
            {"type": "input_file", "filename": "file", "file_data": f"data:text/csv;base64,{b64(b'a,b')}"},
            {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{b64(PNG)}"},
        ),
    ),
    Case("one part of text is text", parts(TextPart("Hi"))),
    Case(
        "one part of text with more to it is a part",
        parts(own("input_text", text="Hi", prompt_cache_breakpoint={"mode": "explicit"})),
        input=user({"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}),
    ),
    Case(
        "parts of its own go back to it, others' are left out",
        parts(TextPart("a"), own("input_file", file_id="file-1"), ProviderPart("gemini", "x", {"x": 1}), ReasoningPart("hm"),
              own("text", text="b"), Unknown("new", {"type": "new"})),
        input=user({"type": "input_text", "text": "a"}, {"type": "input_file", "file_id": "file-1"}),
    ),
    Case(
        "what the user did for a tool of its own stands by itself",
        parts(TextPart("Here:"), own("mcp_approval_response", approval_request_id="mcpr_1", approve=True), TextPart("Hi"),),
        input=[
            {"role": "user", "content": "Here:"},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
            *SAID,
        ],
    ),
    Case(
        "and may stand alone",
        parts(own("mcp_approval_response", approval_request_id="mcpr_1", approve=False)),
        input=[{"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False}],
    ),
    Case(
        "tools",
        asked(tools=(WEATHER, ToolSpec("now"))),
        {"tools": [function("weather", SCHEMA, description="Tells the weather."), function("now", NO_PARAMETERS)]},
    ),
    *(
        Case(f"tool choice {word}", asked(tools=(ToolSpec("now"),), tool_choice=word),
             {"tools": [function("now", NO_PARAMETERS)], "tool_choice": word})
        for word in ("auto", "none", "required")
    ),
    Case(
        "one tool by its name",
        asked(tools=(ToolSpec("now"),), tool_choice="now"),
        {"tools": [function("now", NO_PARAMETERS)], "tool_choice": {"type": "function", "name": "now"}},
    ),
    Case("sampling", asked(temperature=0.0, top_p=0.5), {"temperature": 0.0, "top_p": 0.5}),
    Case("stop words and seeds have no place", asked(stop=("END",), seed=0)),
    Case("the most tokens", asked(max_tokens=16), {"max_output_tokens": 16}),
    *(
        Case(f"reasoning {given}", asked(reasoning=given), {"reasoning": {"effort": word}})
        for given, word in [
            ("none", "none"), ("low", "low"), ("medium", "medium"), ("high", "high"), (0, "none"), (1, "low"), (2048, "low"),
            (2049, "medium"), (8192, "medium"), (8193, "high"),
        ]
    ),
    *(
        Case(
            f"a schema for the answer, strict {strict}",
            asked(response_format=allm.json_schema("my answer", SCHEMA, strict=strict)),
            {"text": {"format": {"type": "json_schema", "name": "my_answer", "schema": SCHEMA, "strict": strict}}},
        )
        for strict in (True, False)
    ),
    Case("any JSON", asked(response_format="json"), {"text": {"format": {"type": "json_object"}}}),
    Case("plain text", asked(response_format="text"), {"text": {"format": {"type": "text"}}}),
    Case(
        "a cache to be kept for long",
        asked(prompt_cache={"key": "user-1", "retention": "long"}),
        {"prompt_cache_key": "user-1", "prompt_cache_retention": "24h"},
    ),
    Case("a cache to be kept for a while", asked(prompt_cache={"key": None, "retention": "short"})),
    Case("options go in unchanged", asked(options={"user": "u-1", "truncation": "auto"}), {"user": "u-1", "truncation": "auto"}),
    Case(
        "options override",
        asked(temperature=1, options={"temperature": 0.25, "model": "other", "store": True}),
        {"temperature": 0.25, "model": "other", "store": True},
    ),
    Case(
        "objects among the options are joined with what the request says",
        asked(reasoning="low", response_format="json", options={"reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}}),
        {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": {"type": "json_object"}, "verbosity": "low"}},
    ),
    Case("the request's model comes before the engine's", asked(model="mine"), {"model": "mine"}),
    Case(
        "a model that reasons is asked for its reasoning",
        asked(model="gpt-5"),
        {"model": "gpt-5", "include": ["reasoning.encrypted_content"]},
    ),
    Case(
        "unless something else is asked for",
        asked(model="gpt-5", options={"include": ["web_search_call.action.sources"]}),
        {"model": "gpt-5", "include": ["web_search_call.action.sources"]},
    ),
]  # fmt: skip
by_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@functools.cache
def engine() -> Engine:
    return Engine("openai.responses:gpt-4.1-mini")


def sent(request: Request, stream: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(OpenAIResponses().request(engine(), request, OWN, stream).body)
    return body


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 50
    assert len({case.name for case in CASES}) == len(CASES)


@by_case
def test_a_neutral_request_has_the_body_that_says_the_same(case: Case) -> None:
    expected = {"model": "gpt-4.1-mini", "input": case.input, "store": False, **case.body}
    assert sent(case.request) == expected
    assert sent(case.request, stream=True) == {"stream": True, **expected}


def test_the_request_names_its_address_and_the_place_of_the_key_but_no_key() -> None:
    for stream, accept in ((True, EITHER), (False, "application/json")):
        request = OpenAIResponses().request(engine(), asked(), "http://localhost:8080/v1", stream)
        assert (request.method, request.url) == ("POST", "http://localhost:8080/v1/responses")
        assert dict(request.headers) == {"content-type": "application/json", "accept": accept}
        assert (request.key_header, request.key_prefix) == ("authorization", "Bearer ")


def test_the_key_of_a_cache_is_made_fit() -> None:
    key = sent(asked(prompt_cache={"key": "k" * 65}))["prompt_cache_key"]
    assert len(key) <= 64
    assert (
        key
        == sent(asked(prompt_cache={"key": "k" * 65}))["prompt_cache_key"]
        != sent(asked(prompt_cache={"key": "k" * 66}))["prompt_cache_key"]
    )


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (ToolCallPart("c", "f"), r": a tool call belongs into an assistant's message"),
        (ImagePart(Image.from_binary(b"BM")), r"\.image\.mime: this wire reads .*, not image/bmp"),
        (ImagePart(Image.from_binary(b"x", "image/heic")), r"\.image\.mime: "),
        (ImagePart(Image(data=b"x" * (MAX_BYTES + 1), mime="image/png")), r"\.image\.data: 50000001 bytes are more"),
        (ImagePart(Image.from_url("gs://bucket/a.png")), r"\.image\.url: this wire fetches from http"),
        (ImagePart(Image.from_binary(PNG), "huge"), r"\.detail: expected one of auto, high, low, original, got 'huge'"),
        (FilePart(data=b"w", mime="audio/wav"), r"\.mime: this wire takes no audio"),
        (FilePart(url="https://example.org/a.mp4", mime="video/mp4"), r"\.mime: this wire takes no video"),
        (FilePart(data=b"x" * (MAX_BYTES + 1)), r"\.data: "),
        (FilePart(url="gs://bucket/a.pdf"), r"\.url: "),
    ],
    ids=["call of a user", "bitmap", "heic", "large image", "image elsewhere", "detail", "audio", "video", "large file", "file elsewhere"],
)
def test_what_the_wire_cannot_carry_is_refused_with_its_path(part: Any, problem: str) -> None:
    called = Message("assistant", (CALLED,))
    for message in (Message("user", (TextPart("a"), part)), Message("tool", (TextPart("a"), part), tool_call_id="c1")):
        with pytest.raises(allm.ValidationError, match=r"messages\[1\]\.content\[1\]" + problem):
            sent(said(called, message))
    if not isinstance(part, ToolCallPart):  # what another maker's model made is no fault of the user's: it is left out
        assert sent(answered(TextPart("Hello"), part))["input"] == [spoken("Hello"), *SAID]


@pytest.mark.parametrize(
    ("model", "does"),
    [
        ("gpt-5", True), ("GPT-5.6-sol", True), ("gpt-6-astra", True), ("o3", True), ("o4-mini-deep-research", True), ("o1-pro", True),
        ("codex-mini-latest", True), ("ft:o4-mini-2025-04-16:me::x", True), ("openai/gpt-5-mini", True), ("computer-use-preview", True),
        ("gpt-4o", False), ("gpt-4.1", False), ("gpt-5-chat-latest", False), ("gpt-5.1-chat-latest", False), ("o1-mini", False),
        ("gpt-4o-search-preview", False), ("gpt-audio", False), ("gpt-3.5-turbo", False), ("llama", False), ("", False),
    ],
)  # fmt: skip
def test_which_models_reason(model: str, does: bool) -> None:
    assert reasons(model) is does


@judged
@by_case
def test_the_vendors_own_types_accept_the_body(case: Case, judge: Judge) -> None:
    for stream in (False, True):
        assert judge.errors(RESPONSES, sent(case.request, stream)) == []


@judged
def test_the_judge_refuses_a_body_that_is_wrong(judge: Judge) -> None:
    assert judge.errors(RESPONSES, {"model": "m", "input": SAID, "temprature": 1})
    assert judge.errors(RESPONSES, {"model": "m", "input": [{"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]})
