"""Tools of an MCP server: the server is a child of the supervision tree; when it dies, it is started again and its tools come back.

Needs the extra `mcp`. The server is this very file, started with `--serve`; a real one is named by its command or its URL.
"""

import os
import sys
from typing import Any

import allm
from allm.testing import Reply, Simulator


def serve() -> None:
    """The server's side."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("desk", log_level="CRITICAL")

    @server.tool()
    def order_status(number: int) -> dict[str, Any]:
        """Where an order is."""
        if number == 13:
            os._exit(1)  # as a bug would
        return {"number": number, "status": "on its way"}

    server.run()


def main() -> None:
    """The bot's side; the model is played by the Simulator."""
    server = allm.mcp.Server.stdio(sys.executable, [__file__, "--serve"], name="desk")
    with server.connect() as tools, Simulator() as sim:
        engine = allm.Engine("openai.chat:any", base_url=sim.base_url("chat")).put_tools(tools)
        sim.reply(Reply(tool_calls=(("order_status", {"number": 7}),)), "It is on its way.")
        result = allm.chat(engine, "Where is order 7?")
        print(result.steps[0].tool_results[0].result, result.text)
        for number in (13, 7):  # the first kills the server; the second finds it up again
            sim.reply(Reply(tool_calls=(("order_status", {"number": number}),)), "So it is.")
            (outcome,) = allm.chat(engine, f"Where is order {number}?").steps[0].tool_results
            print(outcome.error.reason if outcome.error is not None else outcome.result)


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()
