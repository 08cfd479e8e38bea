"""Gemini generateContent: neutral requests to bodies, also judged by the vendor's own published types."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Unknown
from allm.providers.adapter import EITHER
from allm.providers.answer_ways import ANSWER_TOOL
from allm.providers.gemini import Gemini
from allm.providers.gemini_contents import MAX_INLINE, NO_MESSAGE
from allm.providers.gemini_request import gemini_path, generation
from tests.wire.gemini import ORIGIN, OTHER, SIGNED, UNCHECKED, body_of
from tests.wire.judging import GEMINI, Judge, judged

PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = "https://example.org/a.png"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("weather", "Tells the weather.", SCHEMA)
HI = (allm.user("Hi"),)
OLD, NEW = "gemini-2.5-flash", "gemini-3-flash-preview"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: Any) -> dict[str, Any]:
    return {**user(*parts), "role": "model"}


def call(name: str, args: Any = None, signature: str | None = None, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"functionCall": {"name": name, "args": args or {}, **more}}
    return {**told, **({"thoughtSignature": signature} if signature else {})}


def result(name: str, response: Any, **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": response, **more}}


def inline(data: bytes, mime: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime, "data": b64(data)}}


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


def declared(*tools: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"functionDeclarations": list(tools)}]


@dataclass(frozen=True)
class Case:
    """A request, and what its body has beside the plain question."""

    name: str
    request: Request
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    contents: list[dict[str, Any]] = field(default_factory=lambda: [user("Hi")])
    model: str = OLD


def asked(**fields: Any) -> Request:
    return Request(HI, **fields)


def said(*messages: Message) -> Request:
    return Request(messages)


def parts(*given: Any) -> Request:
    return said(Message("user", given))


def turn(*given: Any) -> Message:
    return Message("assistant", given)


DECLARED = {"name": "weather", "description": "Tells the weather.", "parametersJsonSchema": SCHEMA}
NOW = {"name": "now"}
OSLO = {"city": "Oslo"}
ANSWER = {
    "name": ANSWER_TOOL,
    "description": "Gives the final answer (answer). Call it once, when no other tool is needed.",
    "parametersJsonSchema": SCHEMA,
}
FORM = allm.json_schema("answer", SCHEMA)


def choosing(word: str) -> Request:
    return asked(tools=(ToolSpec("now"),), tool_choice=word)


def answering(choice: str | None = None) -> Request:
    return asked(tools=(ToolSpec("now"),), tool_choice=choice, response_format=FORM)


def mode(name: str, *allowed: str) -> dict[str, Any]:
    told = {"mode": name, **({"allowedFunctionNames": list(allowed)} if allowed else {})}
    return {"toolConfig": {"functionCallingConfig": told}}


SHAPES = [
    Case("a bare question", said(*HI)),
    Case(
        "instructions, wherever they stand",
        said(allm.system("Be brief."), *HI, allm.assistant("Ho"), allm.system("Be kind."), *HI),
        {"systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}},
        [user("Hi"), model("Ho"), user("Hi")],
    ),
    Case("an instruction alone is a question", said(allm.system("Say hello.")), contents=[user("Say hello.")]),
    Case("a question of nothing", said(allm.user("")), contents=[user(NO_MESSAGE)]),
    Case("the model began", said(allm.assistant("Hello."), *HI), contents=[user(NO_MESSAGE), model("Hello."), user("Hi")]),
    Case("two questions in a row are one turn", said(*HI, allm.user("Well?")), contents=[user("Hi", "Well?")]),
    Case(
        "an empty answer is left out",
        said(*HI, allm.assistant(""), allm.user("Well?"), allm.assistant("a"), allm.assistant("b")),
        contents=[user("Hi", "Well?"), model("a", "b")],
    ),
    Case(
        "a thought that nobody signed, and a blank answer beside it, are no turn",
        said(*HI, Message("assistant", (ReasoningPart("Hm"), TextPart(""))), allm.user("Well?")),
        contents=[user("Hi", "Well?")],
    ),
    Case("names have no place", said(Message("user", "Hi", name="ann"))),
]

TOOLS = [
    Case("tools", asked(tools=(WEATHER, ToolSpec("now"))), {"tools": declared(DECLARED, NOW)}),
    Case("tool choice auto", choosing("auto"), {"tools": declared(NOW), **mode("AUTO")}),
    Case("tool choice none", choosing("none"), {"tools": declared(NOW), **mode("NONE")}),
    Case("tool choice required", choosing("required"), {"tools": declared(NOW), **mode("ANY")}),
    Case("one tool by its name", choosing("now"), {"tools": declared(NOW), **mode("ANY", "now")}),
    Case("a choice without tools has no place", asked(tool_choice="auto")),
    Case(
        "a call and its result",
        said(*HI, turn(TextPart("Let me see."), ToolCallPart("c1", "weather", OSLO)), allm.tool_result("c1", "rain")),
        contents=[user("Hi"), model("Let me see.", call("weather", OSLO)), user(result("weather", {"output": "rain"}))],
    ),
    Case(
        "a call that another model made goes to a model that checks signatures",
        said(*HI, turn(ToolCallPart("c1", "f"), ToolCallPart("c2", "g")), allm.tool_result("c2", "b"), allm.tool_result("c1", "a")),
        contents=[
            user("Hi"),
            model(call("f", signature=UNCHECKED), call("g")),
            user(result("f", {"output": "a"}), result("g", {"output": "b"})),
        ],
        model=NEW,
    ),
    Case(
        "signed calls go back with their signatures and the ids that came with them",
        said(
            *HI,
            turn(ToolCallPart("x8i00o1q", "f", signature=SIGNED), ToolCallPart("call_req_b1.2", "g")),
            allm.tool_result("x8i00o1q", "a"),
            allm.tool_result("call_req_b1.2", "b"),
        ),
        contents=[
            user("Hi"),
            model(call("f", signature=SIGNED, id="x8i00o1q"), call("g")),
            user(result("f", {"output": "a"}, id="x8i00o1q"), result("g", {"output": "b"})),
        ],
        model=NEW,
    ),
    Case(
        "what a tool said is an object, its numbers as it wrote them",
        said(
            turn(ToolCallPart("1", "f"), ToolCallPart("2", "f"), ToolCallPart("3", "f")),
            allm.tool_result("1", ' {"n": 12345678901234567890.10}'),
            allm.tool_result("2", "[1, 2]"),
            allm.tool_result("3", '{"n": NaN}'),
        ),
        contents=[
            user(NO_MESSAGE),
            model(call("f"), call("f"), call("f")),
            user(
                result("f", {"n": 12345678901234567890.10}),
                result("f", {"output": [1, 2]}),
                result("f", {"output": '{"n": NaN}'}),
            ),
        ],
    ),
    Case(
        "broken arguments are none",
        said(*HI, turn(ToolCallPart("c1", "f", {}, '{"a":')), allm.tool_result("c1", "no")),
        contents=[user("Hi"), model(call("f")), user(result("f", {"output": "no"}))],
    ),
    Case(
        "a result with an image, where the model takes it inside",
        said(
            *HI,
            turn(ToolCallPart("c1", "f", signature=SIGNED)),
            Message("tool", (TextPart("see"), ImagePart(Image.from_binary(PNG)), ImagePart(Image.from_url(PICTURE))), tool_call_id="c1"),
        ),
        contents=[
            user("Hi"),
            model(call("f", signature=SIGNED, id="c1")),
            user(
                result("f", {"output": "see"}, id="c1", parts=[inline(PNG, "image/png")]),
                {"fileData": {"mimeType": "image/png", "fileUri": PICTURE}},
            ),
        ],
        model=NEW,
    ),
    Case(
        "a result with an image, where the model takes it beside",
        said(
            *HI,
            turn(ToolCallPart("c1", "f"), ToolCallPart("c2", "g")),
            Message("tool", (ImagePart(Image.from_binary(PNG)), ReasoningPart("hm")), tool_call_id="c1"),
            allm.tool_result("c2", "b"),
        ),
        contents=[
            user("Hi"),
            model(call("f"), call("g")),
            user(result("f", {"output": ""}), result("g", {"output": "b"}), inline(PNG, "image/png")),
        ],
    ),
]

REPAIRS = [
    Case(
        "a result comes before what the user said in between",
        said(*HI, turn(ToolCallPart("c1", "f")), allm.user("Wait."), allm.assistant("Yes?"), allm.tool_result("c1", "a")),
        contents=[user("Hi"), model(call("f")), user(result("f", {"output": "a"}), "Wait."), model("Yes?")],
    ),
    Case(
        "a call that nobody answered",
        said(*HI, turn(ToolCallPart("c1", "f")), allm.user("Well?")),
        contents=[user("Hi"), model(call("f")), user(result("f", {"error": "no result"}), "Well?")],
    ),
    Case(
        "a result of no call is told as a text",
        said(*HI, allm.tool_result("c9", "rain"), turn(ToolCallPart("c1", "f")), allm.tool_result("c1", "a"), allm.tool_result("c1", "b")),
        contents=[user("Hi", "rain"), model(call("f")), user(result("f", {"output": "a"}), "b")],
    ),
    Case(
        "an id that was used twice",
        said(
            *HI, turn(ToolCallPart("0", "f")), allm.tool_result("0", "a"), turn(ToolCallPart("0", "g")), allm.tool_result("0", "b"),
        ),
        contents=[
            user("Hi"), model(call("f")), user(result("f", {"output": "a"})), model(call("g")), user(result("g", {"output": "b"})),
        ],
    ),
]  # fmt: skip

PARTS = [
    Case("one part of text", parts(TextPart("Hi"))),
    Case(
        "an image by its bytes, its detail has no place",
        parts(TextPart("Look:"), ImagePart(Image.from_binary(PNG), "high"), ImagePart(Image(data=b"x", mime="image/JPG"))),
        contents=[user("Look:", inline(PNG, "image/png"), inline(b"x", "image/jpeg"))],
    ),
    Case(
        "an image by its address",
        parts(ImagePart(Image.from_url(PICTURE + "?x=1.gif")), ImagePart(Image.from_url("https://example.org/b"))),
        contents=[
            user(
                {"fileData": {"mimeType": "image/png", "fileUri": PICTURE + "?x=1.gif"}},
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.org/b"}},
            )
        ],
    ),
    Case(
        "files",
        parts(
            FilePart(data=b"%PDF"),
            FilePart(data=b"a", name="notes.TXT"),
            FilePart(data=b"m", mime="audio/mpeg"),
            FilePart(url="https://example.org/a.mp4"),
            FilePart(url="https://www.youtube.com/watch?v=1"),
        ),
        contents=[
            user(
                inline(b"%PDF", "application/pdf"),
                inline(b"a", "text/plain"),
                inline(b"m", "audio/mpeg"),
                {"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.org/a.mp4"}},
                {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}},
            )
        ],
    ),
    Case(
        "reasoning goes back signed, and to its maker only",
        said(
            *HI,
            turn(
                ReasoningPart("own", SIGNED, provider="gemini"),
                ReasoningPart("foreign", SIGNED, provider="anthropic"),
                ReasoningPart("unsigned", provider="gemini"),
                TextPart("Hello.", OTHER),
            ),
        ),
        contents=[
            user("Hi"),
            model({"text": "own", "thought": True, "thoughtSignature": SIGNED}, {"text": "Hello.", "thoughtSignature": OTHER}),
        ],
    ),
    Case(
        "an empty text that is signed keeps its place",
        said(*HI, turn(TextPart("a"), TextPart("", SIGNED), TextPart(""), TextPart("b", "no signature"))),
        contents=[user("Hi"), model("a", {"text": "", "thoughtSignature": SIGNED}, "b")],
    ),
    Case(
        "the provider's own blocks go back to it, others' are left out",
        said(
            Message("user", (TextPart("a"), ProviderPart("gemini", "videoMetadata", {"text": "b"}), Unknown("new", {"type": "new"}))),
            turn(
                ProviderPart("gemini", "executableCode", {"executableCode": {"code": "1", "language": "PYTHON"}}),
                ProviderPart("gemini", "inlineData", {"inlineData": {"data": "QQ==", "mimeType": "image/png"}, "thought": True}),
                ProviderPart("openai", "x", {"x": 1}),
                ProviderPart("openai", "thoughtSignature", {"thoughtSignature": SIGNED}),
                Unknown("new", {"type": "new"}),
            ),
        ),
        contents=[user("a", "b"), model({"executableCode": {"code": "1", "language": "PYTHON"}})],
    ),
    Case(
        "the signature of an image goes back upon it",
        said(*HI, turn(ImagePart(Image.from_binary(PNG)), ProviderPart("gemini", "thoughtSignature", {"thoughtSignature": SIGNED}))),
        contents=[user("Hi"), model({**inline(PNG, "image/png"), "thoughtSignature": SIGNED})],
        model="gemini-3-pro-image-preview",
    ),
    Case(
        "an image that another model made goes to one that checks them",
        said(*HI, turn(ImagePart(Image.from_binary(PNG)), FilePart(data=b"w", mime="audio/wav"))),
        contents=[user("Hi"), model({**inline(PNG, "image/png"), "thoughtSignature": UNCHECKED}, inline(b"w", "audio/wav"))],
        model="gemini-3-pro-image-preview",
    ),
]


def thinking(level: str) -> dict[str, Any]:
    return config(thinkingConfig={"thinkingLevel": level, "includeThoughts": True})


def budget(tokens: int, shown: bool = True) -> dict[str, Any]:
    return config(thinkingConfig={"thinkingBudget": tokens, **({"includeThoughts": True} if shown else {})})


REASONING: list[tuple[str, Any, dict[str, Any]]] = [
    (OLD, "none", budget(0, False)),
    (OLD, "low", budget(1024)),
    (OLD, "medium", budget(8192)),
    (OLD, "high", budget(24576)),
    (OLD, 0, budget(0, False)),
    (OLD, 512, budget(512)),
    ("gemini-2.5-pro", "none", budget(128, False)),
    ("gemini-2.0-flash", "none", {}),
    ("gemini-2.0-flash", "low", budget(1024)),
    (NEW, "none", config(thinkingConfig={"thinkingLevel": "minimal"})),
    (NEW, "medium", thinking("medium")),
    (NEW, 100, budget(100)),
    ("gemini-3-pro-preview", "none", config(thinkingConfig={"thinkingLevel": "low"})),
    ("gemini-3-pro-preview", "medium", thinking("high")),
    ("gemini-3.1-pro-preview", "medium", thinking("medium")),
    ("gemini-flash-latest", "high", thinking("high")),
]

SETTINGS = [
    Case(
        "sampling",
        asked(temperature=0.0, top_p=0.5, seed=0, max_tokens=5, stop=("END", "STOP")),
        config(temperature=0.0, topP=0.5, maxOutputTokens=5, seed=0, stopSequences=["END", "STOP"]),
    ),
    *(Case(f"reasoning {word} of {name}", asked(reasoning=word), body, model=name) for name, word, body in REASONING),
    Case("a schema", asked(response_format=FORM), config(responseMimeType="application/json", responseJsonSchema=SCHEMA)),
    Case("any JSON", asked(response_format="json"), config(responseMimeType="application/json")),
    Case("plain text", asked(response_format="text")),
    Case(
        "a schema beside tools",
        answering(),
        {"tools": declared(NOW), **config(responseMimeType="application/json", responseJsonSchema=SCHEMA)},
        model=NEW,
    ),
    Case("an older model answers by a tool", answering(), {"tools": declared(NOW, ANSWER), **mode("ANY")}),
    Case("an older model that may not call", answering("none"), {"tools": declared(NOW, ANSWER), **mode("ANY", ANSWER_TOOL)}),
    Case("an older model that must call", answering("required"), {"tools": declared(NOW, ANSWER), **mode("ANY", "now")}),
    Case("an older model that must call one", answering("now"), {"tools": declared(NOW, ANSWER), **mode("ANY", "now")}),
    Case("caching needs nothing", asked(prompt_cache={"key": "user-1", "retention": "long"})),
    Case(
        "options go in unchanged",
        asked(options={"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]}),
        {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]},
    ),
    Case(
        "a result that is an error",
        said(
            *HI,
            turn(ToolCallPart("c1", "f"), ToolCallPart("c2", "f")),
            Message("tool", "no such city", tool_call_id="c1", metadata={"is_error": True}),
            Message("tool", '{"a": 1}', tool_call_id="c2", metadata={"is_error": True}),
        ),
        contents=[
            user("Hi"),
            model(call("f"), call("f")),
            user(result("f", {"error": "no such city"}), result("f", {"a": 1})),
        ],
    ),
    Case(
        "what another model made and this one does not take is told of",
        Request((*HI, turn(ImagePart(Image(data=b"GIF89a")), FilePart(data=bytes(MAX_INLINE + 1), mime="video/mp4")))),
        contents=[
            user("Hi"),
            model("(an image of type image/gif that cannot be shown here)", "(a file of type video/mp4 that cannot be shown here)"),
        ],
    ),
    Case(
        "options override, an object among them field by field",
        asked(temperature=1, top_p=0.5, options={"generationConfig": {"topK": 3, "topP": 1}}),
        config(temperature=1, topP=1, topK=3),
    ),
]

CASES = [*SHAPES, *TOOLS, *REPAIRS, *PARTS, *SETTINGS]


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 50
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_neutral_request_has_the_body_that_says_the_same(case: Case) -> None:
    assert body_of(case.request, case.model) == {"contents": case.contents, **case.body}


@judged
def test_the_vendors_own_types_accept_every_body(judge: Judge) -> None:
    assert judge.refused(GEMINI, [body_of(case.request, case.model) for case in CASES]) == []


@judged
def test_the_judge_refuses_a_body_that_is_wrong(judge: Judge) -> None:
    wrong = {"contents": [user("Hi")], "temprature": 1}
    assert [body for body, _ in judge.refused(GEMINI, [wrong, {"contents": [{**user("Hi"), "role": "tool"}]}])] == [
        wrong,
        {"contents": [{**user("Hi"), "role": "tool"}]},
    ]


def test_the_numbers_of_a_result_are_sent_as_the_tool_wrote_them() -> None:
    thread = (turn(ToolCallPart("1", "f")), allm.tool_result("1", '{"id": 12345678901234567890}'))
    sent = Gemini().request(Engine("gemini:m"), Request(thread), ORIGIN, False).body
    assert b'"response":{"id": 12345678901234567890}' in sent


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message("user", (ToolCallPart("c", "f"),)), r"messages\[1\]\.content\[0\]: a tool call belongs into an assistant's message"),
        (Message("user", (TextPart("a"), ImagePart(Image(data=b"GIF89a")))), r"messages\[1\]\.content\[1\]: this wire takes PNG.*gif"),
        (
            Message("user", (ImagePart(Image.from_url("https://example.org/a.gif")),)),
            r"messages\[1\]\.content\[0\]: this wire takes PNG.*gif",
        ),
        (Message("system", (ImagePart(Image.from_url(PICTURE)),)), r"messages\[1\]\.content\[0\]: this wire takes text only"),
        (
            Message("user", (FilePart(data=bytes(MAX_INLINE + 1), mime="video/mp4"),)),
            rf"messages\[1\]\.content\[0\]: {MAX_INLINE + 1} bytes are more than this wire takes",
        ),
    ],
    ids=["call of a user", "gif", "gif by address", "picture in an instruction", "too large"],
)
def test_what_the_wire_cannot_carry_is_refused_with_its_path(message: Message, problem: str) -> None:
    with pytest.raises(allm.ValidationError, match=problem):
        body_of(said(*HI, message))


def test_more_words_to_stop_at_than_the_wire_takes_are_refused() -> None:
    with pytest.raises(allm.ValidationError, match="stop: this wire takes at most 5, got 6"):
        body_of(asked(stop=tuple("abcdef")))


def test_the_request_names_its_address_and_the_place_of_the_key_but_no_key() -> None:
    engine = Engine("gemini:gemini-2.5-flash")
    for stream, accept, verb in (
        (True, EITHER, "streamGenerateContent?alt=sse"),
        (False, "application/json", "generateContent"),
    ):
        request = Gemini().request(engine, asked(), ORIGIN, stream)
        assert (request.method, request.url) == ("POST", f"{ORIGIN}/v1beta/models/gemini-2.5-flash:{verb}")
        assert dict(request.headers) == {"content-type": "application/json", "accept": accept}
        assert (request.key_header, request.key_prefix) == ("x-goog-api-key", "")
        assert "model" not in json.loads(request.body)


@pytest.mark.parametrize(
    ("name", "base_url", "path"),
    [
        ("m", ORIGIN, "/v1beta/models/m"),
        ("models/m", ORIGIN, "/v1beta/models/m"),
        ("tunedModels/my-1", ORIGIN, "/v1beta/tunedModels/my-1"),
        ("publishers/google/models/m@1", ORIGIN + "/v1beta1", "/publishers/google/models/m%401"),
        ("m", "https://example.org/v1", "/models/m"),
        ("m", "https://example.org/v1/proxy", "/v1beta/models/m"),
        ("a/b:c?d#e f", ORIGIN, "/v1beta/models/a%2Fb%3Ac%3Fd%23e%20f"),
    ],
)
def test_the_models_name_is_part_of_the_path(name: str, base_url: str, path: str) -> None:
    assert gemini_path(name, base_url, False) == f"{path}:generateContent"
    assert gemini_path(name, base_url, True) == f"{path}:streamGenerateContent?alt=sse"


@pytest.mark.parametrize("name", ["", "..", "models/..", "models//m", "models/../../x", "projects/./m"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(allm.ValidationError, match="model: expected the name of a model"):
        gemini_path(name, ORIGIN, False)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gemini-2.5-flash-lite", 2.5), ("models/gemini-1.5-pro-002", 1.5), ("gemini-3-pro-preview", 3.0), ("gemini-3.1-flash", 3.1),
        ("gemini-10-pro", 10.0), ("gemini-flash-latest", 99.0), ("gemini-20250101", 99.0), ("tunedModels/mine", 99.0),
    ],
)  # fmt: skip
def test_a_models_generation_is_read_from_its_name(name: str, told: float) -> None:
    assert generation(name) == told
