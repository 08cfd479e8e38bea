"""A stdio server in few lines, without the SDK: it answers what a test tells it to, well or badly.

    python scripted_server.py SCRIPT

SCRIPT is Python; it may define `tools` (a list), and functions `called(id, arguments)` and `on(method, message)`, which return whether
they have dealt with it. `say(object)` writes a message, `put(bytes)` what is none.
"""

import json
import os
import sys
from typing import Any

script: dict[str, Any] = {}


def put(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def say(message: Any) -> None:
    put(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def text(id: Any, words: str) -> bool:
    say({"id": id, "result": {"content": [{"type": "text", "text": words}]}})
    return True


def main() -> None:
    script.update(put=put, say=say, text=text, os=os, json=json, tools=[{"name": "go", "inputSchema": {"type": "object"}}])
    exec(sys.argv[1], script)
    for line in sys.stdin:
        message = json.loads(line)
        id, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if "on" in script and script["on"](method, message):
            continue
        if method == "initialize":
            info = {"name": "scripted", "version": "1"}
            say({"id": id, "result": {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}})
        elif method == "tools/list":
            say({"id": id, "result": {"tools": script["tools"]}})
        elif method == "ping":
            say({"id": id, "result": {}})
        elif method == "tools/call":
            script["called"](id, params.get("arguments", {})) if "called" in script else text(id, "done")
        elif id is not None:
            say({"id": id, "error": {"code": -32601, "message": "Method not found"}})


if __name__ == "__main__":
    main()
