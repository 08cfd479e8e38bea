"""Small answers of the Responses wire, written by hand, and what the decoder makes of them."""

import json
from collections.abc import Iterable
from typing import Any

from allm.blocks import CallContext
from allm.events import Event
from allm.providers.openai_responses_decoder import ResponsesDecoder
from tests.wire.chat import checked, frame, response

PNG = "iVBORw0KGgo="
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def decoder(*used_ids: str, raw_chunks: bool = False) -> ResponsesDecoder:
    return ResponsesDecoder(CallContext(request_id="req", used_ids=frozenset(used_ids), include_raw_chunks=raw_chunks))


def told(kind: str, **fields: Any) -> bytes:
    """An event, its name before it as the provider has it."""
    return frame({"type": kind, "sequence_number": 1, **fields}, kind)


def bare(kind: str, **fields: Any) -> bytes:
    """An event as llama.cpp sends it: neither numbers nor places."""
    return frame({"type": kind, **fields}, kind)


CREATED = told("response.created", response={"id": "resp_1", "model": "m1", "status": "in_progress", "output": []})


def added(item: dict[str, Any], index: int = 0) -> bytes:
    return told("response.output_item.added", output_index=index, item=item)


def done(item: dict[str, Any], index: int = 0) -> bytes:
    return told("response.output_item.done", output_index=index, item=item)


def text(delta: str, index: int = 0, part: int = 0, item: str = "msg_1") -> bytes:
    return told("response.output_text.delta", output_index=index, content_index=part, item_id=item, delta=delta, obfuscation="x7")


def summary(delta: str, index: int = 0) -> bytes:
    return told("response.reasoning_summary_text.delta", output_index=0, item_id="rs_1", summary_index=index, delta=delta)


def more_of_call(delta: str, index: int = 0, item: str = "fc_1") -> bytes:
    return told("response.function_call_arguments.delta", output_index=index, item_id=item, delta=delta)


def completed(*output: dict[str, Any], **more: Any) -> bytes:
    return told("response.completed", response=body(*output, **more))


def message(*texts: str, id: str = "msg_1", **more: Any) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "output_text", "text": each, "annotations": []} for each in texts]
    return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": content, **more}


def call(arguments: str = "", id: str = "fc_1", call_id: str = "call_1", name: str = "f", **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def thought(*texts: str, sealed: str | None = "gAAA", id: str = "rs_1", **more: Any) -> dict[str, Any]:
    pieces = [{"type": "summary_text", "text": each} for each in texts]
    return {"id": id, "type": "reasoning", "summary": pieces, "encrypted_content": sealed, **more}


def picture(result: str | None = PNG, **more: Any) -> dict[str, Any]:
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", "output_format": "png", "result": result, **more}


def body(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "m1", "status": "completed", "output": list(output), **more}


def streamed(*pieces: bytes, raw_chunks: bool = False, used: Iterable[str] = ()) -> list[Event]:
    """The events of a stream in these pieces, checked for their order."""
    made = decoder(*used, raw_chunks=raw_chunks)
    return checked([event for piece in pieces for event in made.feed(piece)] + made.end())


def whole(data: Any, raw_chunks: bool = False) -> list[Event]:
    """The events of one JSON body, checked for their order."""
    return checked(decoder(raw_chunks=raw_chunks).body(data if isinstance(data, bytes) else json.dumps(data).encode()))


def parts(events: list[Event]) -> tuple[Any, ...]:
    return response(events).message.parts
