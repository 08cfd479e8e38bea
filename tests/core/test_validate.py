"""A request is checked before anything is sent; each problem names its path."""

import math
from typing import Any

import pytest

import allm
from allm import (
    FilePart,
    Image,
    ImagePart,
    Message,
    ProviderPart,
    ReasoningPart,
    Request,
    TextPart,
    ToolCallPart,
    ToolSpec,
    ValidationError,
)
from allm.messages import Unknown
from allm.validate import validate

HI = allm.user("hi")
LONE = "a\ud83d"

# The same, for what their types would not let in.
message: Any = Message
text: Any = TextPart
image: Any = ImagePart
file: Any = FilePart
ask: Any = Request


def said(*parts: Any) -> dict[str, Any]:
    return {"messages": (Message("user", parts),)}


def tools(*given: Any) -> dict[str, Any]:
    return {"tools": given}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": ()}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": (HI, "hi")}, "messages[1]"),
    ({"messages": (message("developer", "hi"),)}, "messages[0].role"),
    ({"messages": (message([], "hi"),)}, "messages[0].role"),
    ({"messages": (HI, Message("tool", "22"))}, "messages[1].tool_call_id"),
    ({"messages": (Message("tool", "22", tool_call_id=LONE),)}, "messages[0].tool_call_id"),
    ({"messages": (Message("user", "hi", name=LONE),)}, "messages[0].name"),
    ({"messages": (Message("user", LONE),)}, "messages[0].content"),
    ({"messages": (message("user", None),)}, "messages[0].content"),
    (said(TextPart("a"), "b"), "messages[0].content[1]"),
    (said(text(5)), "messages[0].content[0].text"),
    (said(TextPart(LONE)), "messages[0].content[0].text"),
    (said(ReasoningPart(LONE)), "messages[0].content[0].text"),
    (said(image("a.png")), "messages[0].content[0].image"),
    (said(ImagePart(Image(url=LONE))), "messages[0].content[0].image.url"),
    (said(image(Image(url="https://a"), detail=1)), "messages[0].content[0].detail"),
    (said(ImagePart(Image(url="https://a"), detail="hgih")), "messages[0].content[0].detail"),
    (said(FilePart()), "messages[0].content[0]"),
    (said(FilePart(data=b"a", url="https://a")), "messages[0].content[0]"),
    (said(file(data="a")), "messages[0].content[0].data"),
    (said(FilePart(data=b"a", name=LONE)), "messages[0].content[0].name"),
    (said(ToolCallPart("", "f")), "messages[0].content[0]"),
    (said(ToolCallPart("c", "")), "messages[0].content[0]"),
    (said(ToolCallPart("c", LONE)), "messages[0].content[0].name"),
    (tools(ToolSpec("f"), "g"), "tools[1]"),
    (tools(ToolSpec("")), "tools[0].name"),
    (tools(ToolSpec("f"), ToolSpec("f")), "tools[1].name"),
    (tools(ToolSpec(LONE)), "tools[0].name"),
    (tools(ToolSpec("f", LONE)), "tools[0].description"),
    ({"tools": None}, "tools"),
    ({"tool_choice": "g"}, "tool_choice"),
    ({"tool_choice": ["f"]}, "tool_choice"),
    ({"model": 4}, "model"),
    ({"model": LONE}, "model"),
    *(({"temperature": value}, "temperature") for value in (-0.1, 2.1, math.nan, math.inf, "1", True, 10**400)),
    *(({"top_p": value}, "top_p") for value in (-0.1, 1.1, math.nan)),
    *(({"max_tokens": value}, "max_tokens") for value in (0, -1, 1.5, "5", True, 1 << 64)),
    *(({"seed": value}, "seed") for value in (1.5, "5", False, 1 << 64)),
    ({"stop": 5}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"stop": ("a", "")}, "stop[1]"),
    ({"stop": ("a", 5)}, "stop[1]"),
    *(({"reasoning": value}, "reasoning") for value in ("much", -1, 1.5, True)),
    ({"prompt_cache": {"key": 5}}, "prompt_cache.key"),
    *(({"prompt_cache": {"retention": value}}, "prompt_cache.retention") for value in ("24h", None, 5)),
    ({"prompt_cache": {"retension": "long"}}, "prompt_cache.retension"),
    ({"response_format": "xml"}, "response_format"),
    ({"response_format": {"type": "object"}}, "response_format"),
    ({"response_format": []}, "response_format"),
]


@pytest.mark.parametrize(("fields", "path"), BAD, ids=[f"{path}-{i}" for i, (_, path) in enumerate(BAD)])
def test_every_problem_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    request = ask(**{"messages": (HI,), **fields})
    with pytest.raises(ValidationError) as caught:
        validate(request)
    assert caught.value.metadata == {"path": path}
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": (allm.system("s"), HI, allm.assistant("é"), allm.tool_result("c", ""))},
        {"messages": (Message("user"), Message("assistant", ()))},
        said(TextPart("𝄞"), ReasoningPart(""), ImagePart(Image(url="https://a")), FilePart(data=b"a"), FilePart(url="https://a")),
        said(ToolCallPart("c", "f", {}, "{}"), ProviderPart("openai", "x"), Unknown("new", {"type": "new"})),
        {"temperature": 0, "top_p": 1, "max_tokens": 1, "seed": -5, "stop": ("a",), "reasoning": 0},
        {"temperature": 2.0, "top_p": 0.0, "reasoning": "high", "response_format": "json"},
        {"response_format": allm.json_schema("a", {})},
        {"response_format": "text", "tool_choice": "required"},
        {**tools(ToolSpec("f", "é"), ToolSpec("g")), "tool_choice": "g"},
        {"model": "gpt-é"},
        *({"prompt_cache": value} for value in ({}, {"key": None, "retention": "short"}, {"key": "é", "retention": "long"})),
    ],
    ids=str,
)
def test_what_makes_sense_passes(fields: dict[str, Any]) -> None:
    validate(ask(**{"messages": (HI,), **fields}))
