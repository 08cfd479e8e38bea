"""Events: payloads are frozen, and each kind has a tag of its own."""

from typing import Any

import pytest

from allm import ValidationError
from allm.events import RawChunk, ToolCallCompleted, ToolExecutionCompleted, ToolHalt
from allm.messages import ToolCallPart


def test_a_completed_call_is_the_part_of_its_message() -> None:
    event = ToolCallCompleted("b1", "f", {"a": [1]}, '{"a":[1]}', "call_1", "sig")
    assert event.part == ToolCallPart("call_1", "f", {"a": (1,)}, '{"a":[1]}', "sig")
    assert ToolCallCompleted("b1", "f").part == ToolCallPart("b1", "f")


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda bad: RawChunk(bad), "chunk.a"),
        (lambda bad: ToolCallCompleted("b1", "f", bad), "arguments.a"),
        (lambda bad: ToolExecutionCompleted("b1", "f", bad), "result.a"),
        (lambda bad: ToolHalt("c1", "why", bad), "result.a"),
    ],
    ids=["RawChunk", "ToolCallCompleted", "ToolExecutionCompleted", "ToolHalt"],
)
def test_what_is_no_json_may_not_hide_in_an_event(make: Any, path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make({"a": object()})
    assert caught.value.metadata == {"path": path}
