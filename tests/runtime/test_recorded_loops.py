"""Loops with tools as providers really had them: the recorded answers, served in their order over HTTP; the loop makes the same calls
and ends in the same text.

A loop is a run of exchanges of one conversation in which each answer calls tools, up to one that calls none; the next request must give
the results. What the tools answered does not change what was recorded, so they all say "ok" here.
"""

import functools
import itertools
import json
from typing import Any

import pytest

import allm
from tests.corpus import Exchange, expectations, folder, load, present, requires_recordings
from tests.runtime.support import RawServer, Visit

ADAPTERS = {
    "openai.chat": "openai.chat", "compat.chat": "openai.chat", "openai.responses": "openai.responses", "anthropic.messages": "anthropic",
    "gemini.generate": "gemini", "gemini.stream": "gemini",
}  # fmt: skip
"""The recordings' word for a wire -> ours."""


@functools.cache
def groups() -> dict[str, list[str]]:
    """Group -> its exchanges in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name, (provider, _) in expectations().items():
        if provider in ADAPTERS:
            read = json.loads((folder() / "dev" / f"{name}.json").read_text(encoding="utf-8"))
            found.setdefault(read["group"], []).append((read["seq"], name))
    return {group: [name for _, name in sorted(members)] for group, members in found.items() if len(members) > 1}


def loops() -> list[list[str]]:
    """Every recorded loop, as the ids of its exchanges."""
    return [run for members in groups().values() for run in runs(members)] if present() else []


def runs(members: list[str]) -> list[list[str]]:
    """The loops in one conversation."""
    found: list[list[str]] = []
    run: list[str] = []
    for name in members:
        provider, expected = expectations()[name]
        if not expected["ok"] or (run and (provider != expectations()[run[-1]][0] or not gives_results(run[-1], name))):
            run = []
        if not expected["ok"]:
            continue
        run.append(name)
        if not expected["tool_calls"]:
            if len(run) > 1:
                found.append(run)
            run = []
    return found


def gives_results(before: str, name: str) -> bool:
    """Whether the request has a result for each call of the answer before it."""
    body = json.dumps(load(name).request["body"])
    for call in expectations()[before][1]["tool_calls"]:
        id = call.get("id")
        answered = "unctionResponse" in body or "unction_response" in body
        if (id not in body) if id else (json.dumps(call["name"]) not in body or not answered):
            return False
    return True


class Recorded:
    """Serves these answers, one a request."""

    def __init__(self, answers: list[Exchange]) -> None:
        self._answers = iter(answers)
        self.server = RawServer(self._respond)

    def _respond(self, visit: Visit) -> None:
        if visit.read() is None or (answer := next(self._answers, None)) is None:
            return
        kind = "text/event-stream" if answer.is_stream else "application/json"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        visit.send(head.encode() + answer.body)


@requires_recordings
@pytest.mark.parametrize("run", [pytest.param(run, id=run[0]) for run in loops()] or [[]])
def test_a_recorded_loop_goes_as_it_went(run: list[str]) -> None:
    answers = [load(name) for name in run]
    expected = [[(call["name"], call["arguments"]) for call in answer.expected["tool_calls"]] for answer in answers]
    made: list[tuple[str, Any]] = []
    tools = [allm.Tool(name=name, handler=functools.partial(_ok, made, name)) for name in {name for calls in expected for name, _ in calls}]
    recorded = Recorded(answers)
    try:
        base = recorded.server.url + ("/v1" if answers[0].provider in ("openai.chat", "compat.chat", "openai.responses") else "")
        engine = allm.Engine(adapter=ADAPTERS[answers[0].provider], model="m", base_url=base, tools=tools, retry=allm.Retry.none())
        result = allm.chat(engine, "Go.", max_turns=len(run), api_key="sk-test")
    finally:
        recorded.server.close()
    assert result.halted_reason == "completed"
    asked = [[(call.name, _plain(call.arguments)) for call in step.response.tool_calls] for step in result.steps]
    assert asked == [[(name, _plain(arguments)) for name, arguments in calls] for calls in expected]
    assert sorted(name for name, _ in made) == sorted(name for calls in expected for name, _ in calls)
    assert result.text == answers[-1].expected["text"]


def _ok(made: list[tuple[str, Any]], tool: str, /, **arguments: Any) -> str:
    made.append((tool, arguments))
    return "ok"


def _plain(arguments: Any) -> Any:
    """Arguments as JSON; the recordings' expectations say None where there are none."""
    return (json.loads(arguments) if isinstance(arguments, str) else json.loads(json.dumps(arguments))) or {}


@requires_recordings
def test_all_wires_have_loops_among_the_recordings() -> None:
    counted = {wire: len(list(found)) for wire, found in itertools.groupby(sorted(expectations()[run[0]][0] for run in loops()))}
    assert set(counted) == set(ADAPTERS) - {"compat.chat"} | (set(counted) & {"compat.chat"})
    assert sum(counted.values()) > 100, counted
