"""Tools whose names a wire does not allow, and reasoning that goes back to the host that made it, and to it alone."""

import json
from typing import Any

import pytest

import allm
from allm import Engine, Message, ReasoningPart, Request, TextPart, ToolCallPart
from allm.providers.anthropic import Anthropic
from allm.testing import Reply, Simulator

HERE, VENDOR = "https://api.deepseek.com/anthropic", "https://api.anthropic.com"
MAKER = "anthropic@api.deepseek.com"
THOUGHT = ReasoningPart("I need the weather.", provider=MAKER)
CALL = ToolCallPart("c1", "weather", {}, "{}")


@pytest.mark.parametrize(
    ("wire", "spoken"),
    [("openai.chat", "chat"), ("openai.responses", "responses"), ("anthropic", "messages"), ("gemini", "gemini")],
)
def test_a_tool_whose_name_the_wire_does_not_allow_is_run_and_its_call_kept_under_that_name(wire: str, spoken: str) -> None:
    ran: list[str] = []

    def look(city: str) -> str:
        ran.append(city)
        return "rain"

    tool = allm.Tool(name="crm look", handler=look, schema={"type": "object", "properties": {"city": {"type": "string"}}})
    replies = iter([Reply(tool_calls=(("crm_look", {"city": "Oslo"}),)), Reply(text="Rain.")])
    with Simulator(wires=(spoken,)) as sim, allm.Runtime() as runtime:
        sim.respond(lambda request: next(replies))
        engine = Engine(f"{wire}:m", base_url=sim.base_url(spoken), retry=allm.Retry.none(), tools=[tool])
        result = allm.chat(engine, "Hi", runtime=runtime)
    assert (ran, result.text) == (["Oslo"], "Rain.")
    assert [call.name for step in result.steps for call in step.response.tool_calls] == ["crm look"]


def turns(*messages: Message, base_url: str) -> list[dict[str, Any]]:
    request = Request((allm.user("Hi"), *messages, allm.tool_result("c1", "rain"), allm.user("And now?")))
    made = Anthropic().request(Engine("anthropic:m"), request, base_url, True)
    sent: list[dict[str, Any]] = json.loads(made.body)["messages"]
    return sent


@pytest.mark.parametrize(
    ("part", "base_url", "goes_back"),
    [
        (THOUGHT, HERE, True),
        (THOUGHT, VENDOR, False),
        (THOUGHT, "https://api.minimax.io/anthropic", False),
        (ReasoningPart("I need the weather."), HERE, False),
        (ReasoningPart("I need the weather.", provider="openai.chat@api.deepseek.com"), HERE, False),
        (ReasoningPart("I need the weather.", provider="anthropic"), VENDOR, False),
    ],
    ids=["to its maker", "to the vendor", "to another host", "of nobody", "of another wire", "the vendor's, unsigned"],
)
def test_unsigned_thinking_goes_back_to_its_maker_alone(part: ReasoningPart, base_url: str, goes_back: bool) -> None:
    content = turns(Message("assistant", (part, CALL)), base_url=base_url)[1]["content"]
    thinking = {"type": "thinking", "thinking": "I need the weather.", "signature": ""}
    assert content[:-1] == ([thinking] if goes_back else [])
    assert content[-1]["type"] == "tool_use"


def test_unsigned_thinking_goes_back_only_where_tools_were_called() -> None:
    sent = turns(Message("assistant", (THOUGHT, TextPart("Rain."))), base_url=HERE)
    assert sent[1] == {"role": "assistant", "content": "Rain."}
