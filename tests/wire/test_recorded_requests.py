"""Every recorded request, read into a neutral one, is written back in the same meaning, and is a body that the other wires take, too.

What cannot be read, what the vendor's published types refuse though the vendor takes it, and what another wire cannot carry is listed by
exchange in `tests/wire/reading/exceptions.py`. A list that is longer or shorter than what is found fails.
"""

import functools
from collections.abc import Mapping
from typing import Any

import pytest

import allm
from tests import corpus
from tests.conftest import Say
from tests.corpus import requires_recordings
from tests.wire.judging import Judge, judged
from tests.wire.reading.common import Inexpressible, Json, Reading
from tests.wire.reading.exceptions import BEYOND_THE_TYPES, INEXPRESSIBLE, NOT_CARRIED
from tests.wire.reading.wires import WIRES, model_in

LEAST = 0.95

pytestmark = requires_recordings
by_wire = pytest.mark.parametrize("wire", WIRES)


@functools.cache
def recorded(wire: str) -> Mapping[str, tuple[Json, str | None]]:
    """Exchange id -> the body and the model that the path names, for all that have a body."""
    read = [corpus.load(name) for name in corpus.ids(*WIRES[wire].recorded)]
    return {each.id: (each.request["body"], model_in(each.request["path"])) for each in read if isinstance(each.request.get("body"), dict)}


@functools.cache
def readings(wire: str) -> tuple[dict[str, tuple[Reading, Json]], dict[str, str]]:
    """(exchange id -> the neutral request and the body that is written of it, exchange id -> what stops the others)."""
    found: dict[str, tuple[Reading, Json]] = {}
    stopped: dict[str, str] = {}
    for name, (body, model) in recorded(wire).items():
        try:
            reading = WIRES[wire].read(body, model)
            found[name] = reading, WIRES[wire].write(reading.request, reading.stream, **reading.opts)
        except (Inexpressible, allm.ValidationError) as stop:
            stopped[name] = str(stop).partition(": ")[0]
    return found, stopped


@by_wire
def test_nearly_all_requests_are_expressible_and_the_others_are_known(wire: str, say: Say) -> None:
    found, stopped = readings(wire)
    assert stopped == INEXPRESSIBLE[wire]
    assert len(found) >= LEAST * len(recorded(wire))
    assert len(recorded(wire)) > 300
    say(f"{wire}: {len(recorded(wire))} requests recorded, {len(found)} expressible and written back in the same meaning")


@by_wire
def test_what_is_written_back_means_the_same(wire: str) -> None:
    normal = WIRES[wire].normal
    for name, (_, body) in readings(wire)[0].items():
        given, model = recorded(wire)[name]
        said = normal(given)
        if wire != "gemini":  # which names it in the path
            said.setdefault("model", model)
        assert normal(body) == said, name


@by_wire
def test_a_body_that_says_something_else_is_told_from_it(wire: str) -> None:
    """The forms that hold for equal are few: a changed text, number or name is found in every body."""
    normal = WIRES[wire].normal
    for name, (_, body) in readings(wire)[0].items():
        thread = next(field for field in ("messages", "input", "contents") if field in body)
        words = {"role": "user", "content": "more"} if wire != "gemini" else {"role": "user", "parts": [{"text": "more"}]}
        changed: list[dict[str, Any]] = [{**body, thread: [*body[thread], words]}, {**body, "new": 1}]
        assert all(normal(each) != normal(body) for each in changed), name


@judged
@by_wire
def test_what_is_written_back_is_accepted(wire: str, judge: Judge, say: Say) -> None:
    found = readings(wire)[0]
    verdicts = judge.verdicts(WIRES[wire].judge, [body for _, body in found.values()])
    refused = {name: wrong for name, wrong in zip(found, verdicts, strict=True) if wrong}
    assert {name: known_field(wrong) for name, wrong in refused.items()} == BEYOND_THE_TYPES[wire]
    bodies = [recorded(wire)[name][0] for name in refused]
    assert all(judge.verdicts(WIRES[wire].judge, bodies)), "the recorded body is beyond the types, too"
    say(f"{wire}: {len(found) - len(refused)} of {len(found)} judged right on their own wire")


def known_field(wrong: list[str]) -> str:
    """The field of a complaint; some are about none."""
    last = wrong[0].partition(": ")[0]
    if last.startswith("an enum is sent"):
        return "safetySettings"
    return "reasoning without an id" if last.startswith("input.list[union") else last.partition(".Chat")[0]


@judged
@by_wire
def test_what_is_written_for_another_wire_is_accepted(wire: str, judge: Judge, say: Say) -> None:
    not_carried: dict[str, list[str]] = {}
    for other in WIRES.values():
        if other.name == wire:
            continue
        bodies: list[Json] = []
        for name, (reading, _) in readings(wire)[0].items():
            try:
                bodies.append(other.write_from_elsewhere(reading))
            except allm.ValidationError:
                not_carried.setdefault(name, []).append(other.name)
        assert judge.refused(other.judge, bodies) == []
        say(f"{wire}: {len(bodies)} judged right at {other.name}")
    assert {name: sorted(wires) for name, wires in not_carried.items()} == {
        name: sorted(wires) for name, (_, *wires) in NOT_CARRIED[wire].items()
    }
