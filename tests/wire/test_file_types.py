"""Files whose media type the caller did not tell."""

from typing import Any

import pytest

import allm
from allm import Engine, FilePart, Message, Request, TextPart
from allm.providers.adapter import HttpRequest
from allm.providers.registry import adapter_for

WIRES = ["openai.chat", "openai.responses", "anthropic", "gemini"]


def body(wire: str, part: Any) -> bytes:
    request = Request(messages=(Message("user", (TextPart("Read:"), part)),))
    made = adapter_for(wire).request(Engine(f"{wire}:m"), request, "https://a.example/v1", False)
    assert isinstance(made, HttpRequest)
    return made.body


@pytest.mark.parametrize("wire", WIRES)
def test_a_file_of_unknown_type_is_refused_and_not_sent_as_a_pdf(wire: str) -> None:
    for part in (FilePart(data=b"plain text"), FilePart(data=b"plain text", name="notes.log")):
        with pytest.raises(allm.ValidationError, match=r"messages\[0\]\.content\[1\].*give mime="):
            body(wire, part)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("part", "mime"),
    [
        (FilePart(data=b"%PDF-1.4"), b"application/pdf"),
        (FilePart(data=b"\xff\xd8\xff"), b"image/jpeg"),
        (FilePart(data=b"odd", name="a.PDF"), b"application/pdf"),
    ],
    ids=["PDF", "image", "by name"],
)
def test_a_type_is_known_by_the_name_or_the_first_bytes(wire: str, part: FilePart, mime: bytes) -> None:
    assert mime in body(wire, part)
