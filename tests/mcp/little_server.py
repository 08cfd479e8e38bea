"""A little MCP server for the tests, made with the SDK: it does what a test tells it to, its own death included.

    python little_server.py [--http PORT] [--junk] [--die-first N] [--stubborn] [--mute]

It appends a line to the file that LITTLE_LOG names for each of its starts, and for each call that was cancelled.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult, ImageContent, TextContent

server = MCPServer("little", log_level="CRITICAL")


def note(word: str) -> None:
    if path := os.environ.get("LITTLE_LOG"):
        with open(path, "a") as log:
            log.write(f"{word} {os.getpid()}\n")


@server.tool()
def echo(text: str) -> CallToolResult:
    """Give the text back."""
    return CallToolResult(content=[TextContent(type="text", text=text)])


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool()
def fail(message: str) -> CallToolResult:
    """Fail with this message."""
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)


@server.tool()
def picture() -> CallToolResult:
    """Give a text and a picture."""
    picture = ImageContent(type="image", data="aGVsbG8=", mime_type="image/png")
    return CallToolResult(content=[TextContent(type="text", text="look:"), picture])


@server.tool()
def big(size: int) -> CallToolResult:
    """Give so many characters."""
    return CallToolResult(content=[TextContent(type="text", text="x" * size)])


@server.tool(structured_output=False)
async def slow(seconds: float) -> str:
    """Take so many seconds."""
    note("slow")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    return "done"


@server.tool(structured_output=False)
def pid() -> str:
    """Tell the process id."""
    return str(os.getpid())


@server.tool(structured_output=False)
def child() -> str:
    """Start a process that stays, and tell its id."""
    return str(subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).pid)


@server.tool(structured_output=False)
def die() -> str:
    """Die in the middle of this call."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool(structured_output=False)
async def grow(name: str, context: Context[Any, Any]) -> str:
    """Offer one more tool, and say so."""
    server.add_tool(pid, name=name, description="one more", structured_output=False)
    await context.notify_tools_changed()  # to clients of the newer protocol
    await context.session.send_tool_list_changed()  # to those of the older
    return "grown"


@server.tool(name="odd.name/of a tool", structured_output=False)
def odd(self: str) -> str:
    """Has a name that no wire takes, and an argument that Python does not like."""
    return f"odd {self}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int)
    parser.add_argument("--junk", action="store_true")
    parser.add_argument("--die-first", type=int, default=0)
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--mute", action="store_true")
    options = parser.parse_args()
    note("start")
    if options.die_first and Path(os.environ["LITTLE_LOG"]).read_text().count("start") <= options.die_first:
        os.kill(os.getpid(), signal.SIGKILL)
    if options.stubborn or options.mute:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.mute:
        while True:
            signal.pause()
    if options.junk:
        sys.stdout.write("starting up...\n{not json}\n[1, 2]\n\n")
        sys.stdout.flush()
    if options.http is not None:
        server.run("streamable-http", port=options.http)
    else:
        server.run("stdio")
    if options.stubborn:
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
