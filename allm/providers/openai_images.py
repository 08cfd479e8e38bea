"""OpenAI's Images API: generations as JSON, edits and variations as forms; answers by their bytes or by addresses."""

from collections.abc import Mapping
from typing import Any, Final

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.events import ErrorOccurred
from allm.image_requests import ImageRequest
from allm.images import Image
from allm.messages import ImagePart
from allm.providers.adapter import HttpRequest
from allm.providers.error_bodies import error_told
from allm.providers.failures import error_of, failure
from allm.providers.image_adapter import ImageDecoder, ImagesOnly
from allm.providers.loose import bytes_of
from allm.providers.multipart import Field, multipart
from allm.providers.openai_image_limits import check_limits
from allm.usage import Usage
from allm.wire_json import encode, is_array, is_object

__all__ = ["OpenAIImages", "OpenAIImagesDecoder"]

_PATHS: Final = {"generate": "/images/generations", "edit": "/images/edits", "variation": "/images/variations"}
_MIMES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class OpenAIImages(ImagesOnly):
    """The adapter `openai.images`."""

    name = "openai.images"
    provider = "openai"
    default_model = "gpt-image-1"

    def fetches(self, url: str) -> bool:
        """A form has files, no addresses."""
        return url.startswith(("https://", "http://"))

    def image_request(self, engine: Engine, request: ImageRequest, base_url: str) -> HttpRequest:
        """`POST {base_url}/images/generations`, `/edits` or `/variations`."""
        model = request.model or engine.model or self.default_model
        check_limits(request, model)
        if request.options.get("stream"):
            raise ValidationError.at("options.stream", "image calls are not streamed")
        fields = _fields(request, model)
        if request.operation == "generate":
            kind, body = "application/json", encode(fields)
        else:
            kind, body = multipart([*_texts(fields), *_files(request)])
        return HttpRequest(
            url=base_url + _PATHS[request.operation],
            headers=(("content-type", kind), ("accept", "application/json")),
            body=body,
            key_header="authorization",
            key_prefix="Bearer ",
        )

    def decoder(self, engine: Engine, context: CallContext) -> "OpenAIImagesDecoder":
        """A decoder for one attempt."""
        return OpenAIImagesDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return failure(self.provider, status, headers, body)


def _fields(request: ImageRequest, model: str) -> dict[str, Any]:
    """What is asked, without the images. DALL-E alone is told whether bytes or an address is wanted; the newer models refuse the word."""
    fields: dict[str, Any] = {"model": model}
    if request.operation != "variation":
        fields["prompt"] = request.prompt
    if request.n != 1:
        fields["n"] = request.n
    for name in ("size", "quality", "background", "style"):
        if (value := getattr(request, name)) is not None:
            fields[name] = value
    if request.response_format == "url" or model.startswith("dall-e"):
        fields["response_format"] = "url" if request.response_format == "url" else "b64_json"
    return {**fields, **request.options}


def _texts(fields: dict[str, Any]) -> list[Field]:
    """Fields of a form are texts; what is more than a text is JSON."""
    return [Field(name, value.encode() if isinstance(value, str) else encode(value)) for name, value in fields.items() if value is not None]


def _files(request: ImageRequest) -> list[Field]:
    name = "image" if len(request.images) == 1 else "image[]"
    files = [_file(name, f"image{i + 1}", image) for i, image in enumerate(request.images)]
    return files if request.mask is None else [*files, _file("mask", "mask", request.mask)]


def _file(field: str, stem: str, image: Image) -> Field:
    mime = image.mime or "image/png"
    return Field(field, image.to_binary(), f"{stem}.{_SUFFIXES.get(mime, 'png')}", mime)


class OpenAIImagesDecoder(ImageDecoder):
    """One attempt's answer -> events."""

    provider = "openai"

    def read(self, body: dict[str, Any]) -> None:
        """An image, or the address of one, for each entry of `data`."""
        if (error := error_told(body)) is not None:
            self.build.events.append(ErrorOccurred(error_of(self.provider, error)))
            return
        data, form = body.get("data"), body.get("output_format")
        mime = _MIMES.get(form) if isinstance(form, str) else None
        self.build.start(None, None)
        told_items = data if is_array(data) else []
        items = [item for item in told_items if is_object(item)]
        images = [_image(item, mime) for item in items]
        if len(items) < len(told_items) or not all(images):
            # The others are not worth having: whoever asked for n images would not learn that one is lost.
            self.failed("malformed_response", "an image of the answer cannot be read")
            return
        for image in images:
            if image is not None:
                self.build.whole(ImagePart(image))
        revised = [item.get("revised_prompt") for item in items]
        told = {"revised_prompts": revised} if any(isinstance(text, str) for text in revised) else {}
        rest = [{name: value for name, value in item.items() if name != "b64_json"} for item in items]
        self.done(_usage(body.get("usage")), {**body, "data": rest}, **told)


def _image(item: dict[str, Any], mime: str | None) -> Image | None:
    """An image of the answer; None for what is none."""
    url, text = item.get("url"), item.get("b64_json")
    try:
        if isinstance(url, str) and url:
            return Image.from_url(url)
        # The bytes must be an image's, whatever is told of them.
        image = Image(data=bytes_of(text)) if isinstance(text, str) else None
    except (ValidationError, ValueError):
        return None
    return image if image is None or mime is None else Image(data=image.data, mime=mime)


def _usage(told: Any) -> Usage:
    """Tokens, which the models before gpt-image-1 do not count."""
    if not is_object(told):
        return Usage()
    counts = {name: told.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")}
    known: dict[str, Any] = {name: value for name, value in counts.items() if type(value) is int and 0 <= value < 1 << 63}
    return Usage(**known)
