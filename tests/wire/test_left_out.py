"""Parameters for which a wire has no place: the response tells of them."""

import json
from typing import Any

import pytest

import allm
from allm import Engine, Request
from allm.providers.adapter import HttpRequest
from allm.providers.openai import OpenAI
from allm.providers.registry import adapter_for
from allm.testing import Reply, Simulator

OWN = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("wire", "spoken", "left_out"),
    [
        ("openai.chat", "chat", None),
        ("openai.responses", "responses", ("stop", "seed")),
        ("anthropic", "messages", ("seed",)),
        ("gemini", "gemini", None),
    ],
)
def test_a_response_tells_what_was_not_sent(wire: str, spoken: str, left_out: Any) -> None:
    with Simulator(wires=(spoken,)) as sim, allm.Runtime() as runtime:
        sim.respond(lambda request: Reply(text="Hi."))
        engine = Engine(f"{wire}:m", base_url=sim.base_url(spoken), retry=allm.Retry.none())
        told = allm.generate(engine, "Hi", stop=["END"], seed=7, runtime=runtime)
        assert told.metadata.get("left_out") == left_out
        assert "left_out" not in allm.generate(engine, "Hi", runtime=runtime).metadata


@pytest.mark.parametrize(("model", "left_out"), [("gpt-5.2", ("seed",)), ("gpt-4o", ())])
def test_the_wire_of_the_model_decides(model: str, left_out: tuple[str, ...]) -> None:
    assert OpenAI().left_out(Engine(f"openai:{model}"), Request((allm.user("Hi"),), seed=7), OWN) == left_out


def test_a_choice_among_no_tools_is_not_sent() -> None:
    for wire in ("openai.chat", "openai.responses"):
        request = Request((allm.user("Hi"),), tool_choice="required")
        made = adapter_for(wire).request(Engine(f"{wire}:m"), request, OWN, False)
        assert isinstance(made, HttpRequest)
        assert "tool_choice" not in json.loads(made.body)
