"""The media type of an image is what its bytes say, on every wire and wherever the image comes from."""

import base64
import json
from typing import Any

import pytest

import allm
from allm import FilePart, Image, ImagePart, Message, TextPart, ToolCallPart
from allm.codec import from_json, to_json
from allm.magic import mime_by_bytes
from allm.providers.registry import adapter_for

PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(20), b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(20)
FILES = {
    "image/png": PNG,
    "image/jpeg": JPEG,
    "image/gif": b"GIF89a" + bytes(20),
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(20),
    "image/bmp": b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0" + bytes(20),
    "image/tiff": b"II*\0" + bytes(20),
    "image/avif": b"\0\0\0\x1cftypavif" + bytes(20),
    "image/heic": b"\0\0\0\x1cftypheic" + bytes(20),
    "image/svg+xml": b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "application/pdf": b"%PDF-1.7\n" + bytes(20),
}
WIRES = ("anthropic", "openai.chat", "openai.responses", "gemini")
WRONG = Image.from_binary(JPEG, "image/png")


def sent(wire: str, *messages: Message) -> str:
    """The body of a request."""
    adapter: Any = adapter_for(wire)
    engine = allm.Engine(adapter=wire, model="claude-sonnet-4-5" if wire == "anthropic" else "m")
    return str(adapter.request(engine, allm.Request(messages), "http://127.0.0.1/v1", True).body.decode())


@pytest.mark.parametrize("mime", FILES)
def test_the_bytes_tell_the_type(mime: str) -> None:
    assert mime_by_bytes(FILES[mime]) == mime
    assert FilePart(data=FILES[mime]).mime == mime
    for told in ("image/png", "image/x", "IMAGE/WEBP"):
        assert FilePart(data=FILES[mime], mime=told).mime == mime
        if mime.startswith("image/"):
            assert Image(data=FILES[mime], mime=told).mime == mime


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "image",
    [
        WRONG,
        Image.from_base64(base64.b64encode(JPEG).decode(), "image/png"),
        Image.from_data_uri(f"data:image/png;base64,{base64.b64encode(JPEG).decode()}"),
        Image.from_url(f"data:image/png;base64,{base64.b64encode(JPEG).decode()}"),
        from_json(to_json(WRONG).replace(b"image/jpeg", b"image/png"), Image),
    ],
    ids=["bytes", "base64", "data URI", "data URL", "document"],
)
def test_an_image_goes_out_under_its_own_type(wire: str, image: Image) -> None:
    text = sent(wire, allm.user((TextPart("x"), ImagePart(image))))
    assert "image/jpeg" in text
    assert "image/png" not in text


@pytest.mark.parametrize("wire", ["anthropic", "gemini"])
def test_a_file_and_a_tools_result_go_out_under_their_own_type(wire: str) -> None:
    call = Message("assistant", (ToolCallPart("t1", "f", {}),))
    for messages in (
        [allm.user((FilePart(data=JPEG, mime="image/png", name="a.png"),))],
        [allm.user((FilePart(data=JPEG, name="a.png"),))],
        [allm.user("hi"), call, Message("tool", (ImagePart(WRONG),), tool_call_id="t1")],
    ):
        text = sent(wire, *messages)
        assert "image/jpeg" in text
        assert "image/png" not in text


def test_what_the_bytes_do_not_tell_is_believed() -> None:
    assert Image(data=b"???", mime="image/x-new").mime == "image/x-new"
    assert Image(data=FILES["image/heic"], mime="image/heif").mime == "image/heif"
    assert FilePart(data=b"BMW is a maker of cars", mime="text/plain").mime == "text/plain"
    assert FilePart(data=FILES["image/svg+xml"], mime="application/xml").mime == "application/xml"
    assert FilePart(data=b"a,b", name="a.csv").mime is None
    assert Image(data=FILES["application/pdf"], mime="image/png").mime == "image/png"


def test_a_thread_with_a_wrong_label_is_read_with_the_right_one() -> None:
    document = json.loads(to_json(allm.Thread((allm.user((ImagePart(WRONG),)),))))
    document["messages"][0]["content"][0]["image"]["mime"] = "image/png"
    thread = from_json(json.dumps(document), allm.Thread)
    assert thread.messages[0].images[0].image.mime == "image/jpeg"
