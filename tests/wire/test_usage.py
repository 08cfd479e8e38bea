"""Usage in the library's terms, however a host counts: each prompt token is in the input, each generated one in the output."""

from typing import Any

import pytest

from allm.providers.usage_counts import counted, settled, tokens
from allm.usage import Usage
from tests.wire import anthropic, gemini, responses
from tests.wire.chat import DONE, chunk, frame, response, streamed

PLAIN = {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32}


def on_chat(*told: Any) -> Usage:
    later = [frame({"id": "x", "choices": [], "usage": each}) for each in told[1:]]
    return response(streamed(chunk({"content": "hi"}), chunk(finish="stop", usage=told[0]), *later, DONE)).usage


def on_anthropic(begun: Any, ended: Any) -> Usage:
    return response(anthropic.streamed(anthropic.begin(usage=begun), anthropic.text(0, "hi"), anthropic.finish(usage=ended))).usage


def on_gemini(*told: dict[str, Any]) -> Usage:
    chunks = [gemini.frame({**gemini.said("hi", finish="STOP" if each is told[-1] else None), "usageMetadata": each}) for each in told]
    return response(gemini.streamed(*chunks)).usage


@pytest.mark.parametrize(
    ("host", "told", "usage"),
    [
        ("Gemini's OpenAI endpoint", {"prompt_tokens": 9, "completion_tokens": 28, "total_tokens": 600}, (9, 591, None, None, None, 600)),
        (
            "CLIProxyAPI",
            {"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81, "completion_tokens_details": {"reasoning_tokens": 60}},
            (21, 60, None, None, 60, 81),
        ),
        (
            "Perplexity",
            {"prompt_tokens": 33, "completion_tokens": 7, "total_tokens": 40, "reasoning_tokens": 70, "completion_tokens_details": None},
            (33, 77, None, None, 70, 110),
        ),
        ("LiteLLM", {**PLAIN, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 5}, (19, 13, 5, 7, None, 32)),
        (
            "Anthropic's counts under a total",
            {
                "prompt_tokens": 3, "completion_tokens": 13, "total_tokens": 28, "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 7,
            },
            (15, 13, 5, 7, None, 28),
        ),
        (
            "Anthropic's names",
            {"input_tokens": 19, "output_tokens": 13, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2},
            (26, 13, 5, 2, None, None),
        ),
        (
            "Responses' names",
            {
                "input_tokens": 19, "output_tokens": 13, "total_tokens": 32, "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            (19, 13, 4, None, 2, 32),
        ),
        (
            "DashScope",
            {**PLAIN, "prompt_tokens_details": {"cached_tokens": 5, "cache_creation_input_tokens": 7}},
            (19, 13, 5, 7, None, 32),
        ),
        ("null beside the count", {**PLAIN, "cached_tokens": None, "prompt_cache_hit_tokens": 4}, (19, 13, 4, None, None, 32)),
        (
            "zero beside the count",
            {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 0}, "reasoning_tokens": 4},
            (19, 13, None, None, 4, 32),
        ),
        ("new-api", {**PLAIN, "input_tokens": 0, "output_tokens": 0}, (19, 13, None, None, None, 32)),
        ("as OpenAI has it", {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 13}}, (19, 13, None, None, 13, 32)),
    ],
)  # fmt: skip
def test_a_total_and_other_names_tell_what_a_count_leaves_out(host: str, told: dict[str, Any], usage: tuple[int | None, ...]) -> None:
    got = on_chat(told)
    counts = got.input_tokens, got.output_tokens, got.cached_input_tokens, got.cache_write_input_tokens, got.reasoning_tokens
    assert (*counts, got.total_tokens) == usage, host
    assert not got.extra


def test_usage_that_comes_in_parts_or_again_with_less_is_put_together() -> None:
    whole = Usage(input_tokens=19, output_tokens=13, total_tokens=32)
    first, last = {"prompt_tokens": 19, "completion_tokens": 0, "total_tokens": 19}, {"prompt_tokens": 0, "completion_tokens": 13}
    again: list[dict[str, Any]] = [dict.fromkeys(PLAIN), {"prompt_tokens": 19}, {}]
    for told in ((first, {**last, "total_tokens": 13}), (first, last), *((PLAIN, each) for each in again)):
        assert on_chat(*told) == whole
    assert on_chat(PLAIN, {"cost": 0.5}).total_cost == 0.5


def test_the_same_is_so_on_the_responses_wire() -> None:
    def read(told: dict[str, Any]) -> Usage:
        return response(responses.whole({**responses.body(responses.message("hi")), "usage": told})).usage

    beside = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 17, "output_tokens_details": {"reasoning_tokens": 10}}
    assert read(beside) == Usage(input_tokens=3, output_tokens=14, reasoning_tokens=10, total_tokens=17)
    chats = {**PLAIN, "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 1}}
    assert read(chats) == Usage(input_tokens=19, output_tokens=13, cached_input_tokens=2, reasoning_tokens=1, total_tokens=32)


def test_zeros_at_the_end_take_nothing_back_on_anthropics_wire() -> None:
    begun = {"input_tokens": 19, "output_tokens": 1, "cache_read_input_tokens": 5}
    got = on_anthropic(begun, {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 13})
    assert (got.input_tokens, got.output_tokens, got.cached_input_tokens) == (24, 13, 5)
    assert on_anthropic(begun, {"input_tokens": 0, "output_tokens": 0}).output_tokens == 1
    again = on_anthropic(begun, {"input_tokens": 16, "cache_read_input_tokens": 0, "output_tokens": 0})
    assert (again.input_tokens, again.output_tokens, again.cached_input_tokens) == (16, 0, 0)
    assert on_anthropic({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 19, "output_tokens": 13}).total_tokens == 32
    assert on_anthropic(None, PLAIN) == Usage(input_tokens=19, output_tokens=13, total_tokens=32)


def test_geminis_total_tells_whether_thoughts_are_counted() -> None:
    told = {"promptTokenCount": 9, "candidatesTokenCount": 28, "thoughtsTokenCount": 20}
    assert on_gemini({**told, "totalTokenCount": 57}).output_tokens == 48
    assert on_gemini({**told, "totalTokenCount": 37}).output_tokens == 28
    assert on_gemini({"promptTokenCount": 9, "candidatesTokenCount": 28, "totalTokenCount": 600}).output_tokens == 591
    assert on_gemini({"promptTokenCount": 9, "totalTokenCount": 60}).output_tokens == 51


@pytest.mark.parametrize("last", [{}, {"promptTokenCount": 0, "totalTokenCount": 0}], ids=str)
def test_the_last_count_of_nothing_takes_nothing_back_on_geminis_wire(last: dict[str, Any]) -> None:
    got = on_gemini({"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}, last)
    assert (got.input_tokens, got.output_tokens, got.total_tokens) == (9, 5, 14)


def test_counts_that_are_none_settle_nothing() -> None:
    assert [tokens(each) for each in (True, "12", -1, 1e300, None, 2.0)] == [None, None, None, None, None, 2]
    assert (counted(None, 0, 4), counted(None, 0), counted(None, "x")) == (4, 0, None)
    assert settled(None, 3, 9, 2) == (None, 3, 9)
    assert settled(3, 4, None, 2) == (3, 4, None)
    assert settled(3, 10, 20, 5) == (3, 10, 20)  # what the other seven are nobody knows
