"""OpenAI's Images API: what goes out, what each model takes, and what comes back."""

import base64
import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from allm import Engine, EngineError, Image, ImageRequest, Request, ValidationError, user
from allm.blocks import CallContext
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.image_requests import ImageResponse, image_response, validate_images
from allm.providers.adapter import HttpRequest
from allm.providers.fake_images import ONE_PIXEL
from allm.providers.multipart import Field, multipart
from allm.providers.openai_image_limits import LIMITS, limits_of
from allm.providers.openai_images import OpenAIImages
from allm.testing.wires.forms import read_form
from tests import corpus
from tests.wire.chat import checked
from tests.wire.judging import Judge, judged

PNG = Image.from_binary(ONE_PIXEL)
JPEG = Image.from_binary(b"\xff\xd8\xff\xe0rest")
WEBP = Image.from_binary(b"RIFF\0\0\0\0WEBPVP8 ")
GIF = Image.from_binary(b"GIF89a..")
ENGINE = Engine("openai.images:")
WIRE = "openai.images"


def generate(**fields: Any) -> ImageRequest:
    given: dict[str, Any] = {"prompt": "a fox", "model": "gpt-image-1", **fields}
    return ImageRequest(**given)


def edit(*images: Image, **fields: Any) -> ImageRequest:
    return generate(operation="edit", images=images or (PNG,), **fields)


def variation(**fields: Any) -> ImageRequest:
    return generate(operation="variation", prompt="", model="dall-e-2", images=(PNG,), **fields)


def sent(request: ImageRequest) -> HttpRequest:
    validate_images(request)
    return OpenAIImages().image_request(ENGINE, request, "https://api.openai.com/v1")


def body(request: ImageRequest) -> Any:
    """The body as the recordings have it: JSON, or the fields of a form."""
    made = sent(request)
    kind = dict(made.headers)["content-type"]
    return json.loads(made.body) if kind == "application/json" else read_form(kind, made.body)


def fields(request: ImageRequest) -> dict[str, Any]:
    """The texts of a form."""
    return {part["name"]: part["value"] for part in body(request)["multipart"] if "value" in part}


def files(request: ImageRequest) -> list[tuple[str, str, str, bytes]]:
    """The files of a form: name, file name, media type, bytes."""
    parts = [part for part in body(request)["multipart"] if "value" not in part]
    return [(part["name"], part["filename"], part["content_type"], base64.b64decode(part["b64"])) for part in parts]


# What goes out


def test_a_generation_is_json() -> None:
    made = sent(generate(n=2, size="1536x1024", quality="high", background="transparent", options={"output_format": "webp"}))
    assert made.url == "https://api.openai.com/v1/images/generations"
    assert (made.key_header, made.key_prefix) == ("authorization", "Bearer ")
    assert json.loads(made.body) == {
        "model": "gpt-image-1", "prompt": "a fox", "n": 2, "size": "1536x1024", "quality": "high", "background": "transparent",
        "output_format": "webp",
    }  # fmt: skip


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert body(generate()) == {"model": "gpt-image-1", "prompt": "a fox"}


@pytest.mark.parametrize(
    ("model", "form", "told"),
    [("dall-e-2", "binary", "b64_json"), ("dall-e-3", "binary", "b64_json"), ("dall-e-3", "url", "url"), ("gpt-image-9", "binary", None)],
)
def test_only_models_that_know_the_word_are_told_the_form_of_the_answer(model: str, form: str, told: str | None) -> None:
    assert body(generate(model=model, response_format=form)).get("response_format") == told


def test_the_model_is_the_requests_or_the_engines_or_the_newest_known() -> None:
    def model(request: ImageRequest, engine: Engine) -> Any:
        return json.loads(OpenAIImages().image_request(engine, request, "").body)["model"]

    assert model(generate(), Engine("openai.images:dall-e-3")) == "gpt-image-1"
    assert model(generate(model=None), Engine("openai.images:dall-e-3")) == "dall-e-3"
    assert model(generate(model=None), ENGINE) == "gpt-image-1"


def test_an_edit_is_a_form_with_its_image_and_mask() -> None:
    request = edit(PNG, mask=PNG, n=2, size="auto", options={"output_compression": 50, "input_fidelity": "high"})
    assert sent(request).url.endswith("/images/edits")
    assert fields(request) == {
        "model": "gpt-image-1", "prompt": "a fox", "n": "2", "size": "auto", "output_compression": "50", "input_fidelity": "high",
    }  # fmt: skip
    assert files(request) == [("image", "image1.png", "image/png", ONE_PIXEL), ("mask", "mask.png", "image/png", ONE_PIXEL)]


def test_several_inputs_go_under_one_name_each_with_its_type() -> None:
    assert [file[:3] for file in files(edit(PNG, JPEG, WEBP))] == [
        ("image[]", "image1.png", "image/png"),
        ("image[]", "image2.jpg", "image/jpeg"),
        ("image[]", "image3.webp", "image/webp"),
    ]


def test_a_variation_is_a_form_without_a_prompt() -> None:
    assert sent(variation()).url.endswith("/images/variations")
    assert fields(variation(n=2, size="256x256")) == {"model": "dall-e-2", "n": "2", "size": "256x256", "response_format": "b64_json"}
    assert [file[0] for file in files(variation())] == ["image"]


ASKED = [
    generate(),
    generate(n=10, size="auto", quality="low", background="auto"),
    generate(model="dall-e-3", size="1792x1024", quality="hd", style="natural", response_format="url"),
    generate(model="dall-e-2", n=3, size="256x256"),
    generate(options={"output_format": "jpeg", "output_compression": 30, "moderation": "low", "user": "u"}),
    edit(),
    edit(PNG, JPEG, mask=PNG, quality="medium", background="opaque", n=2),
    edit(model="dall-e-2", size="512x512", response_format="url"),
    variation(),
    variation(n=4, size="1024x1024", response_format="url"),
]


@judged
def test_the_judge_takes_every_body(judge: Judge) -> None:
    assert judge.refused(WIRE, [body(request) for request in ASKED]) == []


# What each model takes


def test_each_model_takes_all_that_its_limits_list() -> None:
    for model, limits in LIMITS.items():
        for name, values in (("size", limits.sizes), ("quality", limits.qualities), ("style", limits.styles)):
            for value in values:
                sent(generate(model=model, **{name: value}))
        sent(generate(model=model, n=limits.most, prompt="x" * limits.prompt))
        for form in limits.formats:
            sent(generate(model=model, response_format=form))


BIG = Image(data=bytes(4 << 20) + b"x", mime="image/png")
BEYOND: list[tuple[str, ImageRequest]] = [
    ("size", generate(size="512x512")),
    ("size", generate(model="dall-e-3", size="auto")),
    ("size", variation(size="1792x1024")),
    ("quality", generate(quality="hd")),
    ("quality", generate(model="dall-e-3", quality="high")),
    ("quality", generate(model="dall-e-2", quality="hd")),
    ("style", generate(style="vivid")),
    ("style", generate(model="dall-e-3", style="bold")),
    ("style", generate(model="dall-e-2", style="vivid")),
    ("background", generate(background="red")),
    ("background", generate(model="dall-e-3", background="opaque")),
    ("response_format", generate(response_format="url")),
    ("n", generate(n=11)),
    ("n", generate(model="dall-e-3", n=2)),
    ("prompt", generate(prompt="x" * 32_001)),
    ("prompt", generate(model="dall-e-3", prompt="x" * 4_001)),
    ("prompt", generate(model="dall-e-2", prompt="x" * 1_001)),
    ("operation", edit(model="dall-e-3")),
    ("operation", variation().__class__(operation="variation", model="gpt-image-1", images=(PNG,))),
    ("operation", variation().__class__(operation="variation", model="dall-e-3", images=(PNG,))),
    ("images", edit(*[PNG] * 17)),
    ("images", edit(PNG, PNG, model="dall-e-2")),
    ("images[1]", edit(PNG, GIF)),
    ("images[0]", edit(JPEG, model="dall-e-2")),
    ("images[0]", edit(BIG, model="dall-e-2")),
    ("images[0]", edit(Image.from_url("gs://bucket/a.png"))),
    ("mask", edit(mask=JPEG)),
    ("mask", edit(mask=BIG)),
    ("options.stream", generate(options={"stream": True})),
]


@pytest.mark.parametrize(("path", "request_"), BEYOND, ids=[f"{i}-{path}" for i, (path, _) in enumerate(BEYOND)])
def test_what_a_model_does_not_take_is_refused_by_its_field(path: str, request_: ImageRequest) -> None:
    with pytest.raises(ValidationError) as caught:
        sent(request_)
    assert caught.value.metadata["path"] == path


def test_a_refusal_says_what_the_model_does_take() -> None:
    with pytest.raises(ValidationError, match="dall-e-3 takes 1024x1024, 1792x1024, 1024x1792, not '256x256'"):
        sent(generate(model="dall-e-3", size="256x256"))
    with pytest.raises(ValidationError, match="dall-e-3 has no 'edit', but generate"):
        sent(edit(model="dall-e-3"))


def test_a_snapshot_has_the_limits_of_its_model_and_a_newer_model_has_none() -> None:
    assert limits_of("gpt-image-1-2025-04-23") is LIMITS["gpt-image-1"]
    assert limits_of("gpt-image-2") is None
    sent(edit(GIF, model="gpt-image-2", n=99, size="1x1", style="bold", prompt="x" * 99_999))


def test_it_refuses_a_text_call_and_says_what_to_call() -> None:
    with pytest.raises(EngineError, match=r"makes images: allm\.generate_image"):
        OpenAIImages().request(ENGINE, Request((user("hi"),)), "", True)


# Forms


@given(st.lists(st.tuples(st.text(min_size=1), st.binary(), st.none() | st.text(min_size=1)), max_size=5))
def test_another_reader_of_forms_reads_what_was_written(given_: list[tuple[str, bytes, str | None]]) -> None:
    kind, data = multipart([Field(name, value, filename, filename and "image/png") for name, value, filename in given_])
    read: Any = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data)
    parts = list(read.iter_parts()) if given_ else []
    assert len(parts) == len(given_)
    ours = read_form(kind, data)
    assert ours is not None
    for part, (_, value, filename) in zip(ours["multipart"], given_, strict=True):
        assert ("filename" in part) == (filename is not None)
        if filename is not None:
            assert base64.b64decode(part["b64"]) == value


def test_nothing_that_is_sent_can_end_a_field() -> None:
    kind, first = multipart([Field("a", b"x")])
    boundary = kind.partition("boundary=")[2].encode()
    forged = b"x\r\n--" + boundary + b'--\r\nContent-Disposition: form-data; name="n"\r\n\r\n9'
    kind, data = multipart([Field("a", forged), Field('q"\r\nx', b"1")])
    assert kind.partition("boundary=")[2].encode() != boundary
    read = read_form(kind, data)
    assert read == {"multipart": [{"name": "a", "value": forged.decode()}, {"name": "q%22%0D%0Ax", "value": "1"}]}
    assert multipart([Field("a", b"x")]) == (f"multipart/form-data; boundary={boundary.decode()}", first)


# What comes back


def read(answer: Any, request: ImageRequest | None = None, headers: dict[str, str] | None = None) -> ImageResponse:
    last = events(answer, headers)[-1]
    assert isinstance(last, MessageCompleted), last
    return image_response(request or generate(), last.response)


def events(answer: Any, headers: dict[str, str] | None = None) -> list[Event]:
    decoder = OpenAIImages().decoder(ENGINE, CallContext(request_id="req"))
    decoder.headers(headers or {})
    return checked(decoder.body(answer if isinstance(answer, bytes) else json.dumps(answer).encode()))


def failed(answer: Any) -> tuple[str, str]:
    last = events(answer)[-1]
    assert isinstance(last, ErrorOccurred)
    return last.error.reason, last.error.message


TEXT = base64.b64encode(ONE_PIXEL).decode()


def test_images_come_by_their_bytes_with_their_usage_and_what_was_made() -> None:
    got = read(
        {
            "created": 7, "background": "opaque", "output_format": "png", "size": "1024x1024", "quality": "low",
            "data": [{"b64_json": TEXT}, {"b64_json": TEXT}],
            "usage": {"input_tokens": 5, "output_tokens": 272, "total_tokens": 277, "input_tokens_details": {"text_tokens": 5}},
        },
        headers={"x-request-id": "abc", "x-ratelimit-remaining-requests": "4"},
    )  # fmt: skip
    assert got.images == (PNG, PNG)
    assert (got.usage.images, got.usage.size, got.usage.quality) == (2, "1024x1024", "low")
    assert (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_cost) == (5, 272, None)
    assert got.metadata == {"provider_request_id": "abc", "rate_limits": {"x-ratelimit-remaining-requests": "4"}}
    assert got.raw["data"] == ({}, {})
    assert got.raw["created"] == 7


def test_images_come_by_their_address_with_the_prompts_as_they_were_rewritten() -> None:
    got = read({"data": [{"url": "https://images.example/1.png", "revised_prompt": "A red fox"}, {"url": "https://images.example/2.png"}]})
    assert [image.url for image in got.images] == ["https://images.example/1.png", "https://images.example/2.png"]
    assert got.metadata["revised_prompts"] == ("A red fox", None)


@pytest.mark.parametrize("form", ["webp", "jpeg", None, "new"])
def test_the_media_type_is_what_the_bytes_say_whatever_is_told(form: str | None) -> None:
    assert read({"data": [{"b64_json": TEXT}], **({"output_format": form} if form else {})}).images[0].mime == "image/png"


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b"3", {}, {"data": []}, {"data": "no"}, {"data": [3]}, {"data": [{"b64_json": "***"}]}, {"data": [{"url": "ftp://a"}]}],
)  # fmt: skip
def test_an_answer_without_an_image_is_malformed(answer: Any) -> None:
    assert failed(answer)[0] == "malformed_response"


def test_an_error_in_an_answer_that_began_well_is_told() -> None:
    assert failed({"error": {"message": "busy", "code": "rate_limit_exceeded"}}) == ("rate_limited", "busy")


@pytest.mark.parametrize(
    "lost", [{"b64_json": TEXT[:-3]}, {"b64_json": base64.b64encode(b"<html>").decode()}, {"url": "ftp://a"}, {}, 3], ids=str
)
def test_an_image_that_cannot_be_read_is_not_left_out_unsaid(lost: Any) -> None:
    for data in ([{"b64_json": TEXT}, lost], [lost]):
        assert failed({"data": data, "output_format": "png"})[0] == "malformed_response"


def test_a_stream_is_not_what_was_asked_for() -> None:
    decoder = OpenAIImages().decoder(ENGINE, CallContext(request_id="req"))
    for last in (decoder.feed(b"data: {}\n\n")[-1], decoder.end()[-1]):
        assert isinstance(last, ErrorOccurred)


# Recordings


@pytest.mark.parametrize("name", corpus.exchanges(WIRE))
def test_a_recorded_answer_is_what_the_vendors_client_reads(name: str) -> None:
    exchange = corpus.load(name)
    expected = exchange.expected
    if not expected["ok"]:
        info = OpenAIImages().failure(exchange.response["status"], exchange.response["headers"], exchange.body)
        assert (info.status, info.message) == (expected["error"]["status"], expected["error"]["message"])
        assert info.reason == "invalid_request"
        return
    got = read(exchange.body)
    revised = got.metadata.get("revised_prompts", (None,) * len(got.images))
    for image, prompt, told in zip(got.images, revised, expected["images"], strict=True):
        assert image.url == told.get("url")
        assert prompt == told.get("revised_prompt")
        if image.data is not None:
            assert (len(image.data), image.mime) == (told["bytes"], told["mime"])


def recorded(name: str) -> ImageRequest | None:
    """A recorded request as one of ours; None where there is none, or it is of a form that is not sent here."""
    request = corpus.load(name).request
    told: dict[str, Any] = dict(request.get("body") or {})
    verb = str(request["path"]).rpartition("/")[2]
    made: dict[str, Any] = {"operation": {"generations": "generate", "edits": "edit", "variations": "variation"}[verb]}
    if "multipart" in request:
        parts = request["multipart"]
        told = {part["name"]: part["value"] for part in parts if "value" in part}
        found = {part["name"]: Image.from_base64(part["b64"], "image/png") for part in parts if "b64" in part}
        made |= {"images": (found["image"],), "mask": found.get("mask")}
    if not told or "images" in told:
        return None
    for field in ("prompt", "size", "quality", "style"):
        if field in told:
            made[field] = told.pop(field)
    form = told.pop("response_format", "url")
    return ImageRequest(
        model=told.pop("model", "dall-e-2"), n=int(told.pop("n", 1)), response_format="url" if form == "url" else "binary", options=told,
        **made,
    )  # fmt: skip


@pytest.mark.parametrize("name", corpus.exchanges(WIRE))
def test_a_recorded_request_is_written_as_it_was(name: str) -> None:
    request = recorded(name)
    if request is None:
        pytest.skip("only an answer was recorded, or a form that takes addresses")
    whole, written = corpus.load(name).request, body(request)
    defaults = {"model": "dall-e-2", "n": 1, "response_format": "url"}  # what the wire takes for granted is left out there, or here
    if "multipart" in whole:
        texts = {part["name"]: part["value"] for part in whole["multipart"] if "value" in part}
        assert {**defaults, "n": "1", **fields(request)} == {**defaults, "n": "1", **texts}
        was = {(part["name"], part["sha256"]) for part in whole["multipart"] if "sha256" in part}
        assert {(part["name"], part["sha256"]) for part in written["multipart"] if "sha256" in part} == was
    else:
        assert {**defaults, **written} == {**defaults, **whole["body"]}


@judged
def test_the_judge_takes_every_recorded_request_as_it_is_written_here(judge: Judge) -> None:
    known = [request for request in map(recorded, corpus.ids(WIRE)) if request is not None]
    assert len(known) >= 10
    assert judge.refused(WIRE, [body(replace(request)) for request in known]) == []


@pytest.mark.parametrize(
    "told",
    [
        {"b64_json": "data:image/png;base64," + TEXT}, {"url": "data:image/png;base64," + TEXT},
        {"b64_json": TEXT[:20] + "\n" + TEXT[20:] + "\n"}, {"b64_json": TEXT.replace("+", "-").replace("/", "_")},
    ],
    ids=str,
)  # fmt: skip
def test_an_image_that_was_paid_for_is_read_in_each_form_of_base64(told: dict[str, str]) -> None:
    assert [image.to_binary() for image in read({"data": [told]}).images] == [ONE_PIXEL]


def test_an_error_in_an_answer_of_images_is_found_where_it_stands() -> None:
    last = events({"data": {"image_urls": []}, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}})[-1]
    assert isinstance(last, ErrorOccurred)
    assert last.error.reason == "quota_exceeded"
