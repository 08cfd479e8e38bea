"""Images of Google's models: what goes out, what each family takes, and what comes back."""

import base64
import json
from typing import Any

import pytest

from allm import Engine, EngineError, Image, ImageRequest, Request, ValidationError, user
from allm.blocks import CallContext
from allm.events import ErrorOccurred, Event, MessageCompleted, PartCompleted, TextDelta, TextStarted
from allm.image_requests import ImageResponse, image_response, validate_images
from allm.providers.adapter import HttpRequest
from allm.providers.fake_images import ONE_PIXEL
from allm.providers.gemini_images import GeminiImages
from tests import corpus
from tests.wire.chat import checked
from tests.wire.judging import GEMINI, Judge, judged

PNG = Image.from_binary(ONE_PIXEL)
TEXT = base64.b64encode(ONE_PIXEL).decode()
ENGINE = Engine("gemini.images:")
BASE = "https://generativelanguage.googleapis.com"
IMAGEN = "imagen-4.0-generate-001"


def generate(**fields: Any) -> ImageRequest:
    given: dict[str, Any] = {"prompt": "a fox", "model": "gemini-2.5-flash-image", **fields}
    return ImageRequest(**given)


def imagen(**fields: Any) -> ImageRequest:
    return generate(model=IMAGEN, **fields)


def sent(request: ImageRequest) -> HttpRequest:
    validate_images(request)
    return GeminiImages().image_request(ENGINE, request, BASE)


def body(request: ImageRequest) -> Any:
    return json.loads(sent(request).body)


# What goes out


def test_a_generation_asks_for_an_image_alone() -> None:
    made = sent(generate())
    assert made.url == f"{BASE}/v1beta/models/gemini-2.5-flash-image:generateContent"
    assert made.key_header == "x-goog-api-key"
    assert json.loads(made.body) == {
        "contents": [{"role": "user", "parts": [{"text": "a fox"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]},
    }


def test_the_first_model_that_drew_is_asked_for_text_too() -> None:
    assert body(generate(model="gemini-2.0-flash-preview-image-generation"))["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"]
    }


def test_an_edit_is_the_prompt_and_the_images() -> None:
    parts = body(generate(operation="edit", images=(PNG, Image.from_url("gs://bucket/a.png"))))["contents"][0]["parts"]
    assert parts == [
        {"text": "a fox"},
        {"inlineData": {"mimeType": "image/png", "data": TEXT}},
        {"fileData": {"fileUri": "gs://bucket/a.png"}},
    ]


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("16:9", {"aspectRatio": "16:9"}), ("1024x1024", {"aspectRatio": "1:1"}), ("1536x1024", {"aspectRatio": "3:2"}),
        ("1024x1536", {"aspectRatio": "2:3"}), ("1792x1024", {"aspectRatio": "16:9"}), ("1024x1792", {"aspectRatio": "9:16"}),
        ("2K", {"imageSize": "2K"}), ("4k", {"imageSize": "4K"}), ("auto", None), (None, None),
    ],
)  # fmt: skip
def test_a_size_is_a_ratio_or_a_resolution(size: str | None, told: dict[str, str] | None) -> None:
    assert body(generate(size=size))["generationConfig"].get("imageConfig") == told


def test_imagen_has_a_wire_of_its_own() -> None:
    assert sent(imagen()).url.endswith("/v1beta/models/imagen-4.0-generate-001:predict")
    assert body(imagen(n=4, size="16:9", options={"personGeneration": "dont_allow"})) == {
        "instances": [{"prompt": "a fox"}],
        "parameters": {"sampleCount": 4, "aspectRatio": "16:9", "personGeneration": "dont_allow"},
    }
    assert body(imagen(size="2K"))["parameters"] == {"sampleCount": 1, "sampleImageSize": "2K"}


def test_options_go_into_the_body_and_into_its_config() -> None:
    config = {"imageConfig": {"imageOutputOptions": {"mimeType": "image/jpeg"}}, "temperature": 0.5}
    made = body(generate(options={"generationConfig": config, "safetySettings": []}))
    assert made["generationConfig"] == {"responseModalities": ["IMAGE"], **config}
    assert made["safetySettings"] == []


@judged
def test_the_judge_takes_every_body(judge: Judge) -> None:
    asked = [
        generate(), generate(size="16:9"), generate(size="2K"), generate(model="gemini-2.0-flash-preview-image-generation"),
        generate(operation="edit", images=(PNG, PNG)), generate(quality="auto", options={"generationConfig": {"seed": 3}}),
    ]  # fmt: skip
    assert judge.refused(GEMINI, [body(request) for request in asked]) == []


# What each family takes

GIF = Image.from_binary(b"GIF89a..")
BEYOND: list[tuple[str, ImageRequest]] = [
    ("operation", ImageRequest(operation="variation", images=(PNG,))),
    ("operation", imagen(operation="edit", images=(PNG,))),
    ("mask", generate(operation="edit", images=(PNG,), mask=PNG)),
    ("images[0]", generate(operation="edit", images=(GIF,))),
    ("n", generate(n=2)),
    ("n", imagen(n=5)),
    ("quality", generate(quality="high")),
    ("background", generate(background="transparent")),
    ("style", generate(style="vivid")),
    ("response_format", generate(response_format="url")),
    *(("size", generate(size=size)) for size in ("9:1", "large", "0x0", "1024x", "x", "", "8K", "-1x-1")),
    ("size", imagen(size="4K")),
    ("size", imagen(size="21:9")),
]


@pytest.mark.parametrize(("path", "request_"), BEYOND, ids=[f"{i}-{path}" for i, (path, _) in enumerate(BEYOND)])
def test_what_a_model_does_not_take_is_refused_by_its_field(path: str, request_: ImageRequest) -> None:
    with pytest.raises(ValidationError) as caught:
        sent(request_)
    assert caught.value.metadata["path"] == path


def test_it_refuses_a_text_call_and_says_what_to_call() -> None:
    with pytest.raises(EngineError, match=r"makes images: allm\.generate_image"):
        GeminiImages().request(ENGINE, Request((user("hi"),)), "", True)


# What comes back


def events(answer: Any, model: str = "") -> list[Event]:
    decoder = GeminiImages().decoder(Engine(adapter="gemini.images", model=model), CallContext(request_id="req"))
    decoder.headers({"x-request-id": "abc"})
    told = checked(decoder.body(answer if isinstance(answer, bytes) else json.dumps(answer).encode()))
    assert decoder.has_content == any(isinstance(event, PartCompleted | TextDelta) for event in told)
    assert list(decoder.block_ids()) == [event.id for event in told if isinstance(event, PartCompleted | TextStarted)]
    return told


def read(answer: Any, model: str = "") -> ImageResponse:
    last = events(answer, model)[-1]
    assert isinstance(last, MessageCompleted), last
    return image_response(generate(size="1:1"), last.response)


def failed(answer: Any, model: str = "") -> tuple[str, str]:
    last = events(answer, model)[-1]
    assert isinstance(last, ErrorOccurred)
    return last.error.reason, last.error.message


def answer(*parts: Any, finish: str = "STOP") -> Any:
    return {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1290, "totalTokenCount": 1295},
        "modelVersion": "gemini-2.5-flash-image", "responseId": "r",
    }  # fmt: skip


IMAGE = {"inlineData": {"mimeType": "image/png", "data": TEXT}}


def test_an_answer_has_its_image_its_usage_and_what_was_said_beside_it() -> None:
    got = read(answer({"text": "Here it is."}, IMAGE))
    assert got.images == (PNG,)
    assert (got.usage.images, got.usage.size, got.usage.input_tokens, got.usage.output_tokens) == (1, "1:1", 5, 1290)
    assert (got.id, got.model) == ("r", "gemini-2.5-flash-image")
    assert got.metadata == {"provider_request_id": "abc", "text": "Here it is."}


@pytest.mark.parametrize(
    ("told", "reason", "message"),
    [
        (answer({"text": "I would rather not."}), "unknown", "the model made no image (STOP): I would rather not."),
        (answer(finish="IMAGE_SAFETY"), "content_filter", "the model made no image (IMAGE_SAFETY)"),
        (answer(finish="NO_IMAGE"), "unknown", "the model made no image (NO_IMAGE)"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter", "the model made no image (SAFETY)"),
        (
            {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}},
            "overloaded",
            "The model is overloaded.",
        ),
        ({}, "malformed_response", "the body holds no candidate"),
        (b"<html>", "malformed_response", "a chunk of the answer is no JSON"),
    ],
)
def test_an_answer_without_an_image_is_an_error_that_says_why(told: Any, reason: str, message: str) -> None:
    assert failed(told) == (reason, message)


def test_imagens_predictions_are_images_and_say_what_was_withheld() -> None:
    one = {"mimeType": "image/png", "bytesBase64Encoded": TEXT, "prompt": "A red fox"}
    got = read({"predictions": [one, {"raiFilteredReason": "Blocked."}]}, IMAGEN)
    assert got.images == (PNG,)
    assert (got.metadata["revised_prompts"], got.metadata["filtered"]) == (("A red fox",), ("Blocked.",))
    assert TEXT not in json.dumps(got.raw)


def test_imagens_answer_without_an_image_is_filtered_or_malformed() -> None:
    assert failed({"predictions": [{"raiFilteredReason": "Blocked."}]}, IMAGEN) == ("content_filter", "no image was let through: Blocked.")
    assert failed({"predictions": []}, IMAGEN)[0] == "malformed_response"
    assert failed({"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}, IMAGEN)[0] == "rate_limited"


def test_a_stream_is_understood_too() -> None:
    decoder = GeminiImages().decoder(ENGINE, CallContext(request_id="req"))
    told = decoder.feed(b"data: " + json.dumps(answer({"text": "No."})).encode() + b"\r\n\r\n") + decoder.end()
    last = checked(told)[-1]
    assert isinstance(last, ErrorOccurred)
    assert last.error.message == "the model made no image (STOP): No."


def test_an_error_answer_is_read_as_on_the_text_wire() -> None:
    body = json.dumps({"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}).encode()
    assert GeminiImages().failure(400, {}, body).reason == "authentication"


def drawn() -> list[str]:
    return [name for name in corpus.ids("gemini.generate") if "-image" in str(corpus.load(name).request.get("path"))]


@corpus.requires_recordings
def test_recorded_answers_of_models_that_draw_are_what_the_vendors_client_reads() -> None:
    names = drawn()
    assert names
    for name in names:
        exchange = corpus.load(name)
        images: list[dict[str, Any]] = exchange.expected.get("images") or []
        if exchange.response["status"] == 200 and images:
            got = read(exchange.body)
            assert [(image.mime, len(image.data or b"")) for image in got.images] == [(told["mime"], told["bytes"]) for told in images]
            assert got.usage.input_tokens == exchange.expected["usage"]["input"]
