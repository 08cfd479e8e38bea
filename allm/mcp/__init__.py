"""The tools of MCP servers as tools of this library, supervised. Needs the extra `mcp` (the official SDK).

    import allm
    server = allm.mcp.Server.stdio("npx", ["-y", "@modelcontextprotocol/server-everything"], name="everything")
    with server.connect() as tools:
        print(allm.chat(engine.put_tools(tools), "What is 2 + 3?").text)

A server is a child of the runtime's tree. When it dies, or its connection breaks, the calls that it had under way become tool errors;
it is started again with a backoff, and its tools come back. A call that comes meanwhile waits for it, ten seconds at most, and then is a
tool error, too. Nothing of it outlives the connection, the runtime, or the process.

What a server may do here is offer tools: it is told that there is no sampling, no elicitation and no roots.
"""

from allm.mcp.connection import Connection
from allm.mcp.server import Server

__all__ = ["Connection", "Server"]
