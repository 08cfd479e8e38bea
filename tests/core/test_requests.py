"""Requests and responses as values."""

from typing import Any

import pytest

import allm
from allm import ChatResult, ErrorInfo, Message, Request, Response, StepResult, TextPart, Thread, ToolSpec, ValidationError
from allm.errors import AdapterError
from allm.messages import ImagePart, ReasoningPart, ToolCallPart
from allm.responses import HALTED_REASONS, ToolResult

FAILED = ErrorInfo("adapter", "overloaded", "too much", 529)


def test_lists_and_single_words_become_tuples() -> None:
    messages: Any = [allm.user("a")]
    tools: Any = [ToolSpec("f")]
    request = Request(messages, tools=tools, stop="END")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (request.messages, request.tools, request.stop) == ((allm.user("a"),), (ToolSpec("f"),), ("END",))
    assert allm.request([allm.user("a")], stop=["a", "b"]).stop == ("a", "b")


def test_request_makes_a_request_and_names_options_for_what_it_does_not_know() -> None:
    request = allm.request([allm.user("a")], temperature=0.5, response_format=allm.json_schema("x", {"type": "object"}, strict=False))
    assert request.response_format == allm.JsonSchema("x", {"type": "object"}, False)
    with pytest.raises(TypeError, match=r"temprature.*options="):
        allm.request([allm.user("a")], temprature=1)


@pytest.mark.parametrize("field", ["options", "metadata", "prompt_cache"])
def test_payloads_of_a_request_are_frozen_or_refused_with_their_path(field: str) -> None:
    request = allm.request([allm.user("a")], **{field: {"a": [1]}})
    assert isinstance(getattr(request, field)["a"], tuple)
    with pytest.raises(ValidationError, match=rf"^{field}\.a: object is not JSON"):
        allm.request([], **{field: {"a": object()}})


def test_schemas_are_frozen_or_refused_with_their_path() -> None:
    with pytest.raises(ValidationError, match=r"tools\.f\.schema\.x"):
        ToolSpec("f", schema={"x": object()})
    with pytest.raises(ValidationError, match=r"response_format\.schema\.x"):
        allm.json_schema("n", {"x": object()})


def response(*parts: Any, **fields: Any) -> Response:
    return Response(message=Message("assistant", parts), finish_reason="stop", **fields)


def test_what_a_response_holds_is_derived_from_its_message() -> None:
    image = ImagePart(allm.Image.from_url("https://example.org/a.png"))
    call = ToolCallPart("c", "f")
    answer = response(ReasoningPart("hm"), TextPart("Hel"), image, call, TextPart("lo"))
    assert (answer.output_text, answer.text, answer.reasoning_text) == ("Hello", "Hello", "hm")
    assert (answer.tool_calls, answer.images) == ((call,), (image,))


def test_an_answer_is_parsed_as_json() -> None:
    assert response(TextPart('{"a": [1, '), TextPart("2]}")).parsed == {"a": [1, 2]}


@pytest.mark.parametrize("text", ["", "Sorry.", '{"a":', '{"a": NaN}', "[" * 100_000, '{"a": %s}' % ("9" * 30), "\ud800"])
def test_an_answer_that_is_no_json_is_a_validation_error(text: str) -> None:
    with pytest.raises(ValidationError, match=r"^parsed"):
        _ = response(TextPart(text)).parsed


def test_raise_for_error_raises_what_happened_or_gives_the_value() -> None:
    fine = response(TextPart("a"))
    assert fine.raise_for_error() is fine
    with pytest.raises(AdapterError) as caught:
        response(error=FAILED).raise_for_error()
    assert caught.value.info == FAILED
    result = ChatResult(Thread(), (), None, "completed")
    assert result.raise_for_error() is result
    with pytest.raises(AdapterError):
        ChatResult(Thread(), (), None, "error", error=FAILED).raise_for_error()


def test_a_chat_result_speaks_for_its_final_response() -> None:
    final = response(TextPart("[1]"))
    result = ChatResult(Thread(), (StepResult(final),), final, "completed")
    assert (result.text, result.parsed) == ("[1]", (1,))
    empty = ChatResult(Thread(), (), None, "cancelled")
    assert (empty.text, empty.parsed) == ("", None)


def test_the_reserved_words_for_a_halt_are_the_contracts() -> None:
    words = "completed max_turns halt_when ask_user manual_tool_calls tool_error cancelled error"
    assert set(words.split()) == HALTED_REASONS


def test_payloads_of_results_are_frozen_or_refused_with_their_path() -> None:
    assert isinstance(ToolResult("c", "f", [1]).result, tuple)
    assert response(raw={"a": [1]}, metadata={"b": [2]}).raw == {"a": (1,)}
    with pytest.raises(ValidationError, match=r"^step\.metadata\.a"):
        StepResult(response(), metadata={"a": object()})
    with pytest.raises(ValidationError, match=r"^result\.metadata\.a"):
        ChatResult(Thread(), (), None, "completed", metadata={"a": object()})
    with pytest.raises(ValidationError, match=r"^result\.a"):
        ToolResult("c", "f", {"a": object()})
    with pytest.raises(ValidationError, match=r"^response\.raw\.a"):
        response(raw={"a": object()})
    with pytest.raises(ValidationError, match=r"^response\.metadata\.a"):
        response(metadata={"a": object()})
    with pytest.raises(ValidationError, match=r"^usage\.extra\.a"):
        allm.Usage(extra={"a": object()})
