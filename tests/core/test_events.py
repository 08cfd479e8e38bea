"""Events: payloads are frozen, and each kind has a tag of its own."""

from functools import partial
from typing import Any

import pytest

from allm import ValidationError
from allm.events import AskUserRequested, RawChunk, ToolCallCompleted, ToolExecutionCompleted, ToolExecutionStarted, ToolHalt
from allm.messages import ToolCallPart


def test_a_completed_call_is_the_part_of_its_message() -> None:
    event = ToolCallCompleted("b1", "f", {"a": [1]}, '{"a":[1]}', "call_1", "sig")
    assert event.part == ToolCallPart("call_1", "f", {"a": (1,)}, '{"a":[1]}', "sig")
    assert ToolCallCompleted("b1", "f").part == ToolCallPart("b1", "f")


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (RawChunk, "chunk.a"),
        (partial(ToolCallCompleted, "b1", "f"), "arguments.a"),
        (partial(ToolExecutionStarted, "b1", "f"), "arguments.a"),
        (partial(ToolExecutionCompleted, "b1", "f"), "result.a"),
        (partial(AskUserRequested, "c1", "f", "Which?"), "options.a"),
        (partial(ToolHalt, "c1", "why"), "result.a"),
    ],
    ids=["RawChunk", "ToolCallCompleted", "ToolExecutionStarted", "ToolExecutionCompleted", "AskUserRequested", "ToolHalt"],
)
def test_what_is_no_json_may_not_hide_in_an_event(make: Any, path: str) -> None:
    make({"a": [1]})
    with pytest.raises(ValidationError) as caught:
        make({"a": object()})
    assert caught.value.metadata == {"path": path}
