"""Every neutral request of the table is a body that the vendor takes, on every wire, and says what it should."""

import functools
import json
from typing import Any

import pytest
from msgspec.structs import replace

import allm
from tests.wire.judging import Judge, judged
from tests.wire.reading.wires import WIRES
from tests.wire.requests_table import OPTIONS, ROWS, Row

OWN_MODELS = {"claude": "anthropic", "gemini": "gemini", "gpt-5": "openai.responses"}
by_wire = pytest.mark.parametrize("wire", WIRES)
by_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def body_of(row: Row, wire: str, stream: bool = True) -> dict[str, Any]:
    """A row for a model of one wire is a row for the usual models of the others."""
    request = row.request
    theirs = request.model is not None and not any(request.model.startswith(name) and wire == own for name, own in OWN_MODELS.items())
    return WIRES[wire].write(replace(request, model=None) if theirs else request, stream)


@functools.cache
def verdicts(judge: Judge) -> dict[tuple[str, str], list[str]]:
    """(row, wire) -> what is wrong with the body; the judge is asked once a wire."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, wire in WIRES.items():
        rows = [row for row in ROWS if name not in row.refused]
        for stream in (False, True):
            wrong = judge.verdicts(wire.judge, [body_of(row, name, stream) for row in rows])
            for row, errors in zip(rows, wrong, strict=True):
                found[row.name, name] = [*found.get((row.name, name), ()), *errors]
    return found


def test_the_table_is_large_and_its_names_differ() -> None:
    assert len(ROWS) >= 60
    assert len({row.name for row in ROWS}) == len(ROWS)


@judged
@by_wire
@by_row
def test_the_vendors_own_types_accept_the_body(row: Row, wire: str, judge: Judge) -> None:
    if wire not in row.refused:
        assert verdicts(judge)[row.name, wire] == []


@by_wire
@by_row
def test_the_body_says_what_it_should_and_no_more(row: Row, wire: str) -> None:
    if wire in row.refused:
        with pytest.raises(allm.ValidationError, match=row.refused[wire]):
            body_of(row, wire)
        return
    body = json.dumps(body_of(row, wire), ensure_ascii=False)
    for text in row.told:
        assert json.dumps(text, ensure_ascii=False)[1:-1] in body
    for text, only in row.only.items():
        assert (text in body) == (wire == only), text


SAMPLING = {"temperature", "top_p", "seed", "stop", "stop_sequences", "max_completion_tokens", "max_output_tokens", "max_tokens"}
OTHERS = {"reasoning", "reasoning_effort", "thinking", "generationConfig", "tools", "tool_choice", "response_format", "text"}


@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-5", "o3", "claude-opus-4-8", "claude-3-haiku-20240307", "gemini-3-pro-preview", "new"])
@by_wire
def test_what_nobody_set_is_not_sent(wire: str, model: str) -> None:
    body = WIRES[wire].write(allm.Request((allm.user("Hi"),), model=model))
    needed = {"max_tokens"} if wire == "anthropic" else set[str]()
    assert body.keys() & SAMPLING == needed
    assert not body.keys() & OTHERS


@by_wire
def test_what_the_user_set_is_sent_to_any_model(wire: str) -> None:
    for model in ("gpt-5", "o3", "claude-opus-4-8", "gemini-3-pro-preview"):
        body = json.dumps(WIRES[wire].write(allm.Request((allm.user("Hi"),), model=model, temperature=0.25, top_p=0.75, max_tokens=4321)))
        assert all(value in body for value in ("0.25", "0.75", "4321"))


@judged
@by_wire
def test_options_go_through_unchanged(wire: str, judge: Judge) -> None:
    request = allm.Request((allm.user("Hi"),), temperature=0.5, reasoning="low", options=OPTIONS[wire])
    body = WIRES[wire].write(request)
    assert judge.errors(WIRES[wire].judge, body) == []
    for name, value in OPTIONS[wire].items():
        assert body[name] == ({**body[name], **value} if isinstance(value, dict) else value)
