"""A loop with tools: one in a thread, one in a process of its own that never ends, one that asks the user."""

from typing import Any

import allm
from allm.testing import Reply, Simulator


@allm.tool
def get_weather(city: str, days: int = 1) -> dict[str, Any]:
    """Return the forecast for a city.

    Args:
        city: its name
        days: how many days ahead
    """
    return {"city": city, "forecast": ["sunny"] * days}


@allm.tool(timeout=0.3, isolation="process")
def count_forever() -> None:
    """Never comes back, and burns a core; killed at its timeout."""
    while True:
        pass


@allm.tool
def choose() -> allm.AskUser:
    """Let the user choose."""
    return allm.ask_user("Which city?", options=["Oslo", "Rome"])


def main() -> None:
    """The model is played by the Simulator."""
    with Simulator() as sim:
        engine = allm.Engine("openai.chat:any", base_url=sim.base_url("chat"), tools=[get_weather, count_forever, choose])
        sim.reply(Reply(tool_calls=(("get_weather", {"city": "Oslo", "days": 2}), ("count_forever", {}))), "Sunny.")
        for event in allm.stream(engine, "How is Oslo?"):
            if isinstance(event, allm.ToolExecutionCompleted):
                print(event.name, event.result or (event.error and event.error.reason))
            elif isinstance(event, allm.ChatCompleted):
                print(event.result.text, event.result.halted_reason)
        sim.reply(Reply(tool_calls=(("choose", {}),)), "Rome it is.")
        asked = allm.chat(engine, "Book a trip.")
        print(asked.halted_reason, asked.pending_question)
        print(allm.chat(engine, asked.thread.add_user("Rome")).text)


if __name__ == "__main__":
    main()
