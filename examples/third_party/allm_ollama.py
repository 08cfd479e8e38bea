"""The wire of Ollama for allm: `allm.Engine("ollama:llama3.2")`. A whole adapter; pyproject.toml registers it as an entry point."""

from collections.abc import Mapping
from typing import Any

import allm
from allm.adapters import BaseDecoder, CallContext, HttpRequest, MalformedJson, decode, encode, error_of, failure
from allm.responses import FinishReason

FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


class Ollama:
    """`POST /api/chat`: JSON lines, the last of which says that it is done."""

    name = "ollama"
    provider = "ollama"

    def request(self, engine: allm.Engine, request: allm.Request, base_url: str, stream: bool) -> HttpRequest:
        return HttpRequest(
            url=f"{base_url or 'http://127.0.0.1:11434'}/api/chat",
            headers=(("content-type", "application/json"),),
            body=encode({"model": request.model or engine.model, "stream": stream} | body_of(request) | request.options),
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def decoder(self, engine: allm.Engine, context: CallContext) -> "OllamaDecoder":
        return OllamaDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> allm.ErrorInfo:
        return failure(self.provider, status, headers, body)


def body_of(request: allm.Request) -> dict[str, Any]:
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    body: dict[str, Any] = {"messages": [message_of(message, names) for message in request.messages]}
    limits = {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed, "num_predict": request.max_tokens}
    body["options"] = {name: value for name, value in limits.items() if value is not None} | {"stop": request.stop}
    if request.tool_choice not in (None, "auto", "none"):
        raise allm.ValidationError.at("tool_choice", "this wire leaves it to the model whether it calls a tool")
    if request.tools and request.tool_choice != "none":
        functions = ({"name": tool.name, "description": tool.description, "parameters": tool.schema} for tool in request.tools)
        body["tools"] = [{"type": "function", "function": function} for function in functions]
    if (form := request.response_format) and form != "text":
        body["format"] = form.schema if isinstance(form, allm.JsonSchema) else form
    if request.reasoning is not None:
        body["think"] = request.reasoning not in ("none", 0)
    return body


def message_of(message: allm.Message, names: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        told["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls]
    if message.tool_call_id:
        told["tool_name"] = names.get(message.tool_call_id, message.tool_call_id)  # this wire knows calls by their names
    if message.images:
        told["images"] = [part.image.to_base64() for part in message.images]  # a ValidationError for one that is only an address
    return told


class OllamaDecoder(BaseDecoder):
    rest = b""

    def feed(self, data: bytes) -> list[allm.Event]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.strip() and not self.ended:
                self.line(line)
        return self.build.take()

    def end(self) -> list[allm.Event]:
        return self.build.take()  # `done` is the end marker: without it there is no MessageCompleted

    def body(self, data: bytes) -> list[allm.Event]:
        return self.feed(data + b"\n")

    def line(self, line: bytes) -> None:
        try:
            told = decode(line)
        except MalformedJson:
            return self.fail(allm.ErrorInfo("adapter", "malformed_response", "a line of the answer is no JSON"))
        if "error" in told:
            return self.fail(error_of("ollama", told["error"]))
        if not self.build.started:
            self.build.start(None, told.get("model"))
        message: dict[str, Any] = told.get("message") or {}
        if message.get("thinking"):
            self.build.reasoning(message["thinking"])
        if message.get("content"):
            self.build.text(message["content"])
        for call in message.get("tool_calls") or ():  # each comes whole and without an id: it gets one of ours
            self.build.call(object(), None, call["function"]["name"], encode(call["function"]["arguments"]).decode())
        if told.get("done"):
            self.ended, why = True, told.get("done_reason")
            usage = allm.Usage(input_tokens=told.get("prompt_eval_count"), output_tokens=told.get("eval_count"))
            self.build.complete(FINISH.get(why, "other"), raw_finish=why, usage=usage)
        return None
