"""What is asked of a model that makes images, checked before anything is sent; and what came back."""

from typing import Any

import pytest
from msgspec.structs import replace

from allm import Image, ImageRequest, ImageResponse, ImageUsage, Response, Usage, ValidationError, from_json, to_json
from allm.image_requests import image_response, validate_images
from allm.messages import ImagePart, Message, TextPart

PNG = Image.from_binary(b"\x89PNG\r\n\x1a\nrest")
EDIT = ImageRequest(operation="edit", prompt="a hat", images=(PNG,))
FOX = ImageRequest(prompt="a fox")


@pytest.mark.parametrize(
    "request_", [FOX, EDIT, replace(EDIT, mask=PNG, n=3), ImageRequest(operation="variation", images=(PNG,), response_format="url")]
)
def test_a_sound_request_passes_and_is_json(request_: ImageRequest) -> None:
    validate_images(request_)
    assert from_json(to_json(request_)) == request_


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("operation", {"operation": "draw"}),
    ("prompt", {"prompt": ""}),
    ("prompt", {"prompt": "  "}),
    ("prompt", {"prompt": 3}),
    ("prompt", {"prompt": "\ud800"}),
    ("prompt", {"operation": "variation", "images": (PNG,)}),
    ("images", {"images": (PNG,)}),
    ("images", {"operation": "edit"}),
    ("images", {"operation": "variation", "prompt": "", "images": (PNG, PNG)}),
    ("images[1]", {"operation": "edit", "images": (PNG, b"bytes")}),
    ("mask", {"mask": PNG}),
    ("mask", {"operation": "edit", "images": (PNG,), "mask": "mask.png"}),
    ("n", {"n": 0}),
    ("n", {"n": True}),
    ("n", {"n": 1.5}),
    ("size", {"size": 1024}),
    ("quality", {"quality": 1}),
    ("style", {"style": b""}),
    ("background", {"background": []}),
    ("model", {"model": 1}),
    ("response_format", {"response_format": "b64_json"}),
]


@pytest.mark.parametrize(("path", "fields"), REFUSED)
def test_what_no_model_could_do_is_refused_by_its_field(path: str, fields: dict[str, Any]) -> None:
    given: dict[str, Any] = {"prompt": "a fox", **fields}
    with pytest.raises(ValidationError) as caught:
        validate_images(ImageRequest(**given))
    assert caught.value.metadata["path"] == path


def test_options_that_are_no_json_are_refused_when_the_request_is_made() -> None:
    with pytest.raises(ValidationError, match=r"options\.seed"):
        ImageRequest(prompt="a fox", options={"seed": object()})


def answer(raw: Any = None) -> Response:
    return Response(
        request_id="req",
        model=None,
        message=Message("assistant", (TextPart("Here."), ImagePart(PNG), ImagePart(PNG))),
        finish_reason="stop",
        usage=Usage(input_tokens=3, output_tokens=9),
        raw=raw,
        metadata={"a": 1},
    )


def test_a_response_has_the_images_and_what_was_reported_before_what_was_asked() -> None:
    asked = replace(FOX, model="m", size="auto", quality="high")
    got = image_response(asked, answer({"size": "1024x1024", "quality": None}))
    assert got.images == (PNG, PNG)
    assert got.usage == ImageUsage(images=2, size="1024x1024", quality="high", input_tokens=3, output_tokens=9)
    assert (got.model, got.request_id, got.metadata) == ("m", "req", {"a": 1, "text": "Here."})
    assert from_json(to_json(got)) == got


def test_what_is_not_reported_is_none() -> None:
    assert image_response(FOX, answer()).usage == ImageUsage(images=2, input_tokens=3, output_tokens=9)
    assert ImageResponse().usage == ImageUsage()
