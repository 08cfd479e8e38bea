"""The adapter passes the suite that allm's own adapters pass. Run with pytest where the package is installed."""

import json
from typing import Any

import allm
from allm.testing import AdapterConformance, OwnWire, Reply, Simulator
from allm.testing.wires.contract import Ask, Frames
from allm.testing.wires.script import Failure


class OllamaWire(OwnWire):
    """What Ollama would say."""

    name = "ollama"
    malformed = b'{"model": "llama", "mess\n'

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        messages: list[dict[str, Any]] = [{"thinking": piece} for piece in reply.reasoning_pieces()]
        messages += ({"content": piece} for piece in reply.text_pieces())
        messages += ({"tool_calls": [call]} for call in calls(reply))
        return Frames((), tuple(line(ask, message) for message in messages), (line(ask, {}, done(reply)),), "application/x-ndjson")

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        return line(ask, {"content": reply.text, "thinking": reply.reasoning, "tool_calls": calls(reply)}, done(reply))

    def error(self, failure: Failure) -> bytes:
        return json.dumps({"error": failure.message}).encode()

    def stream_error(self, failure: Failure) -> bytes:
        return self.error(failure) + b"\n"


def line(ask: Ask, message: dict[str, Any], more: dict[str, Any] | None = None) -> bytes:
    told = {"model": ask.model, "message": {"role": "assistant", "content": "", **message}, "done": False, **(more or {})}
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def calls(reply: Reply) -> list[dict[str, Any]]:
    return [{"function": {"name": name, "arguments": arguments}} for name, arguments in reply.tool_calls]


def done(reply: Reply) -> dict[str, Any]:
    return {"done": True, "done_reason": reply.finish or "stop", "prompt_eval_count": reply.input_tokens, "eval_count": reply.told_tokens()}


class TestOllama(AdapterConformance):
    adapter = "ollama"
    wire = OllamaWire()
    unknown = (b'{"model": "llama", "weather": {"rain": true}, "done": false}\n', b"\n")


def test_an_engine_is_named_like_any_other() -> None:
    with Simulator(wires=[OllamaWire()], replies=["Hello from far away."]) as sim, allm.Runtime() as runtime:
        engine = allm.Engine("ollama:llama3.2", base_url=sim.url)
        pieces = list(allm.stream_generate(engine, "Hi", runtime=runtime).text_deltas())
        assert pieces == ["Hello", " from", " far", " away."]
        assert sim.requests[0].path == "/api/chat"
