"""What an answer costs grows with its length, not with its square: a host that repeats or cuts up what it says must not stop the loop.

Each answer is read in a process of its own, which the system ends after ten seconds of work: read in a way that joins or searches all
that came before at each event, any of them takes longer.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from allm.blocks import CallContext
from allm.providers.anthropic_decoder import AnthropicDecoder
from allm.providers.gemini import GeminiDecoder
from allm.providers.openai_responses_decoder import ResponsesDecoder

SECONDS, BYTES = 10, 1 << 30
Pieces = Iterator[bytes]


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def an_unknown_block() -> Pieces:
    yield event({"type": "content_block_start", "index": 0, "content_block": {"type": "new", "text": "", "list": []}})
    more = event({"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "text": "x" * 200, "list": [1]}})
    yield from [more] * 40_000
    yield event({"type": "message_stop"})


def gemini(*parts: Any, **more: Any) -> bytes:
    return event({"candidates": [{"content": {"parts": parts}, **more}]})


def called(*pieces: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"functionCall": {"willContinue": True, "partialArgs": list(pieces), **more}}


def text_in_strokes() -> Pieces:
    yield gemini(called(name="f"))
    stroke = {"jsonPath": "$.a", "willContinue": True}
    yield from [gemini(called({**stroke, "stringValue": "x" * 200}, stroke))] * 40_000
    yield gemini(finishReason="STOP")


def holes_in_an_array() -> Pieces:
    yield gemini(called(*[{"jsonPath": "$.a[999999999]", "numberValue": 1}] * 100_000, name="f"))
    yield gemini(finishReason="STOP")


def steps_of_a_path() -> Pieces:
    yield gemini(called({"jsonPath": "$" + ".a" * 200_000, "numberValue": 1}, name="f"))
    yield gemini(finishReason="STOP")


def bare_lines() -> Pieces:
    yield b"[{\n"
    yield from [b"{ }\n"] * 80_000
    yield gemini(finishReason="STOP")


def items(kind: str, count: int) -> Pieces:
    for number in range(count):
        yield event({"type": "response.output_item.done", "item": {"type": kind, "id": f"m{number}", "content": []}})


def deltas_behind_finished_items() -> Pieces:
    yield from items("message", 60_000)
    yield from [event({"type": "response.function_call_arguments.delta", "delta": "{"})] * 60_000
    yield event({"type": "response.completed", "response": {"output": []}})


def parts_repeated() -> Pieces:
    place = {"output_index": 0, "item_id": "m"}
    yield event({"type": "response.output_text.delta", **place, "delta": "a" * 8_000_000})
    more = event({"type": "response.output_text.delta", **place, "delta": "a"})
    again = event({"type": "response.output_text.done", **place, "text": "b"})
    other = event({"type": "response.output_item.done", "output_index": 9, "item": {"type": "message", "content": [{"text": "b"}]}})
    yield from [more + again + other] * 15_000
    yield event({"type": "response.completed", "response": {"output": []}})


def a_list_that_fits_nothing() -> Pieces:
    for number in range(15_000):
        yield event({"type": "response.output_text.delta", "output_index": number, "item_id": f"m{number}", "delta": "a"})
    output = [{"type": "message", "id": f"x{number}", "content": [{"text": "bcd"}]} for number in range(15_000)]
    yield event({"type": "response.completed", "response": {"output": [*output, *output]}})


ANSWERS: dict[Callable[[], Pieces], type[AnthropicDecoder | GeminiDecoder | ResponsesDecoder]] = {
    an_unknown_block: AnthropicDecoder, text_in_strokes: GeminiDecoder, holes_in_an_array: GeminiDecoder, steps_of_a_path: GeminiDecoder,
    bare_lines: GeminiDecoder, deltas_behind_finished_items: ResponsesDecoder, parts_repeated: ResponsesDecoder,
    a_list_that_fits_nothing: ResponsesDecoder,
}  # fmt: skip


def read(name: str) -> None:
    """In the child: reads one of them."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    answer, kind = next((answer, kind) for answer, kind in ANSWERS.items() if answer.__name__ == name)
    decoder = kind(CallContext(request_id="req"))
    last = [each for piece in answer() for each in decoder.feed(piece)[-1:]] + decoder.end()[-1:]
    sys.stdout.write(type(last[-1]).__name__)


@pytest.mark.slow
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_an_answer_takes_no_more_than_its_length(answer: Callable[[], Pieces]) -> None:
    code = f"from tests.wire.test_growth import read; read({answer.__name__!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "MessageCompleted"), done.stderr[-500:]
