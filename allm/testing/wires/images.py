"""The OpenAI Images wire, as the simulator speaks it: generations, edits and variations. Shapes follow recorded exchanges.

A reply's `images` are what the model makes; without any it makes as many of one pixel as are asked for. GPT Image models answer with
bytes and count tokens; DALL-E answers with an address unless `b64_json` is asked for, and rewrites the prompt (`Reply.text`).
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from allm.providers.fake_images import ONE_PIXEL
from allm.testing.wires.chat import ChatWire
from allm.testing.wires.contract import Ask, BadRequest, Frames
from allm.testing.wires.script import Reply
from allm.wire_json import is_object

__all__ = ["ImagesAsk", "ImagesWire", "made_images"]

CREATED = 1_700_000_000
VERBS = ("generations", "edits", "variations")


class ImagesAsk(Ask, frozen=True, kw_only=True):
    """How many images are asked for, and in which form."""

    count: int = 1
    as_url: bool = False
    size: str = "1024x1024"
    quality: str = "high"


class _Body(msgspec.Struct):
    prompt: str = ""
    model: str = "dall-e-2"
    n: int = 1
    size: str = "1024x1024"
    quality: str = "high"
    response_format: str | None = None


class ImagesWire(ChatWire):
    """`POST <anything>/images/generations`, `/edits` and `/variations`."""

    name = "images"

    def serves(self, path: str) -> bool:
        return any(path.rstrip("/").endswith(f"/images/{verb}") for verb in VERBS)

    def parse(self, target: str, body: Any) -> Ask:
        verb = target.partition("?")[0].rstrip("/").rpartition("/")[2]
        fields, files = _form(body)
        try:
            asked = msgspec.convert(fields, _Body, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(400, f"Invalid request body: {error}") from None
        if verb != "variations" and not asked.prompt:
            raise BadRequest(400, "Missing required parameter: 'prompt'.", "missing_required_parameter")
        if verb != "generations" and not any(name.startswith("image") for name in files):
            raise BadRequest(400, "Missing required parameter: 'image'.", "missing_required_parameter")
        dalle = asked.model.startswith("dall-e")
        if asked.response_format is not None and not dalle:
            raise BadRequest(400, "Unknown parameter: 'response_format'.", "unknown_parameter")
        return ImagesAsk(
            model=asked.model,
            user_text=asked.prompt,
            count=asked.n,
            as_url=dalle and asked.response_format != "b64_json",
            size=asked.size,
            quality=asked.quality,
        )

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        raise BadRequest(400, "the simulator does not stream images")

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        assert isinstance(ask, ImagesAsk)
        told: dict[str, Any] = {"created": CREATED}
        if ask.model.startswith("dall-e"):
            rewritten = {"revised_prompt": reply.text} if reply.text and ask.user_text not in reply.text else {}
        else:
            rewritten = {}
            told |= {"background": "opaque", "output_format": "png", "size": ask.size, "quality": ask.quality}
            told["usage"] = _usage(reply, ask.count)
        told["data"] = [{**rewritten, **_image(ask, data, number, i)} for i, data in enumerate(made_images(reply, ask.count))]
        return msgspec.json.encode(told)


def made_images(reply: Reply, count: int) -> tuple[bytes, ...]:
    """The images of this reply to a request for so many."""
    return reply.images or (ONE_PIXEL,) * count


def _form(body: Any) -> tuple[dict[str, Any], set[str]]:
    """(fields, names of files) of a form, or of JSON, which has no files."""
    if not is_object(body) or "multipart" not in body:
        return body, set()
    parts: list[dict[str, Any]] = body["multipart"]
    return {part["name"]: part["value"] for part in parts if "value" in part}, {part["name"] for part in parts if "filename" in part}


def _image(ask: ImagesAsk, data: bytes, number: int, index: int) -> dict[str, Any]:
    if ask.as_url:
        return {"url": f"https://images.example/{number}-{index + 1}.png?sig=simulated"}
    return {"b64_json": base64.b64encode(data).decode("ascii")}


def _usage(reply: Reply, count: int) -> dict[str, Any]:
    output = reply.output_tokens if reply.output_tokens is not None else 1056 * count
    details = {"text_tokens": reply.input_tokens, "image_tokens": 0}
    total = reply.input_tokens + output
    return {"input_tokens": reply.input_tokens, "output_tokens": output, "total_tokens": total, "input_tokens_details": details}
