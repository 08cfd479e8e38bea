"""Images of Google's models: `generateContent` of the Gemini models that draw, `:predict` of Imagen.

A Gemini model edits what it is given beside the prompt; neither takes a mask, makes variations or answers with an address.
A size is an aspect ratio (`16:9`), a resolution (`2K`) where the model has several, or `WxH`, of which the ratio counts.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.image_requests import ImageRequest
from allm.images import Image
from allm.providers.adapter import HttpRequest
from allm.providers.gemini import GeminiDecoder
from allm.providers.gemini_failures import gemini_error_of, gemini_failure
from allm.providers.gemini_request import gemini_path
from allm.providers.image_adapter import ImageDecoder, ImagesOnly, media_type, refused
from allm.usage import Usage
from allm.wire_json import encode, is_array, is_object

__all__ = ["GeminiImages", "GeminiImagesDecoder", "ImagenDecoder"]


class _Family(NamedTuple):
    """What the models of one kind take."""

    operations: tuple[str, ...]
    ratios: tuple[str, ...]
    resolutions: tuple[str, ...]
    most: int


_INPUTS: Final = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_GEMINI: Final = _Family(("generate", "edit"), _RATIOS, ("1K", "2K", "4K"), 1)
_IMAGEN: Final = _Family(("generate",), ("1:1", "3:4", "4:3", "9:16", "16:9"), ("1K", "2K"), 4)
_NEAR: Final = 0.03  # how far the ratio of a size in pixels may be off: 1792x1024 is meant as 16:9


class GeminiImages(ImagesOnly):
    """The adapter `gemini.images`."""

    name = "gemini.images"
    provider = "gemini"
    default_model = "gemini-2.5-flash-image"

    def fetches(self, url: str) -> bool:
        """All but what is stored with Google already."""
        return url.startswith(("https://", "http://")) and not url.startswith("https://generativelanguage.googleapis.com/")

    def image_request(self, engine: Engine, request: ImageRequest, base_url: str) -> HttpRequest:
        """`POST {base_url}/v1beta/models/{model}:generateContent`, or `:predict` for Imagen."""
        model = request.model or engine.model or self.default_model
        imagen = is_imagen(model)
        _check(request, model, _IMAGEN if imagen else _GEMINI)
        path = gemini_path(model, base_url, False)
        if imagen:
            path = path.removesuffix(":generateContent") + ":predict"
        return HttpRequest(
            url=base_url + path,
            headers=(("content-type", "application/json"), ("accept", "application/json")),
            body=encode(_predict(request) if imagen else _generate(request, model)),
            key_header="x-goog-api-key",
        )

    def decoder(self, engine: Engine, context: CallContext) -> "GeminiImagesDecoder | ImagenDecoder":
        """A decoder for one attempt; the engine's model tells of which wire."""
        return ImagenDecoder(context) if is_imagen(engine.model) else GeminiImagesDecoder(context)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means."""
        return gemini_failure(status, headers, body)


def is_imagen(model: str) -> bool:
    """Whether this is one of the Imagen models, which have a wire of their own."""
    return model.rpartition("/")[2].lower().startswith("imagen")


def _check(request: ImageRequest, model: str, family: _Family) -> None:
    if request.operation not in family.operations:
        raise refused(request.operation, model, family.operations)
    if request.mask is not None:
        raise ValidationError.at("mask", f"{model} takes none; say in the prompt what is to change")
    for name in ("quality", "background", "style"):
        if getattr(request, name) not in (None, "auto"):
            raise ValidationError.at(name, f"{model} takes none")
    if request.response_format != "binary":
        raise ValidationError.at("response_format", f"{model} takes binary, not {request.response_format!r}")
    if request.n > family.most:
        raise ValidationError.at("n", f"{model} makes at most {family.most} at once, not {request.n}")
    _size(request.size, model, family)


def _size(size: str | None, model: str, family: _Family) -> dict[str, str]:
    """The size in this wire's words: its ratio, or its resolution."""
    if size in (None, "auto"):
        return {}
    if size.upper() in family.resolutions:
        return {"imageSize": size.upper()}
    wanted = _ratio(size, "x") if "x" in size else _ratio(size, ":")
    nearest = min(family.ratios, key=lambda known: abs(_ratio(known, ":") - wanted))
    if abs(_ratio(nearest, ":") / wanted - 1) > _NEAR if wanted else True:
        known = ", ".join((*family.ratios, *family.resolutions))
        raise ValidationError.at("size", f"{model} takes {known}, or pixels in one of these ratios, not {size!r}")
    return {"aspectRatio": nearest}


def _ratio(text: str, mark: str) -> float:
    """Width by height; 0 for what is no ratio."""
    width, _, height = text.partition(mark)
    sound = width.isascii() and width.isdigit() and height.isascii() and height.isdigit() and len(text) < 16
    return int(width) / int(height) if sound and int(height) else 0.0


def _generate(request: ImageRequest, model: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": request.prompt}]
    parts += [_part(image, f"images[{i}]") for i, image in enumerate(request.images)]
    # The first of these models refuses to answer without text; the later ones are asked for images alone.
    modalities = ["TEXT", "IMAGE"] if "gemini-2.0" in model else ["IMAGE"]
    config: dict[str, Any] = {"responseModalities": modalities}
    if size := _size(request.size, model, _GEMINI):
        config["imageConfig"] = size
    options = dict(request.options)
    given = options.pop("generationConfig", None)
    return {
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": {**config, **(given if is_object(given) else {})},
        **options,
    }


def _part(image: Image, path: str) -> dict[str, Any]:
    if image.data is None:
        return {"fileData": {"fileUri": image.url, **({"mimeType": image.mime} if image.mime else {})}}
    mime = media_type(image, path, _INPUTS)
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(image.data).decode("ascii")}}


def _predict(request: ImageRequest) -> dict[str, Any]:
    size = _size(request.size, "", _IMAGEN)
    if "imageSize" in size:
        size = {"sampleImageSize": size["imageSize"]}
    return {"instances": [{"prompt": request.prompt}], "parameters": {"sampleCount": request.n, **size, **request.options}}


class GeminiImagesDecoder(GeminiDecoder):
    """One attempt's answer of `generateContent` -> events, as on the text wire; but one without an image is a failure."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        return _with_images(super().feed(data))

    def end(self) -> list[Event]:
        """The stream ended."""
        return _with_images(super().end())

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        return _with_images(super().body(data))


def _with_images(events: list[Event]) -> list[Event]:
    """The events; in the place of the end of an answer without an image an error with the reason that the model told, if it did."""
    last = events[-1] if events else None
    if not isinstance(last, MessageCompleted) or last.response.images:
        return events
    response = last.response
    said = response.refusal or response.text[:200]
    told = f"the model made no image ({response.raw_finish_reason})" + (f": {said}" if said else "")
    reason = "content_filter" if response.finish_reason == "content_filter" else "unknown"
    return [*events[:-1], ErrorOccurred(ErrorInfo("adapter", reason, told, provider="gemini"))]


class ImagenDecoder(ImageDecoder):
    """One attempt's answer of `:predict` -> events. What its filter withheld says so in the place of the image."""

    provider = "gemini"

    def read(self, body: dict[str, Any]) -> None:
        """The predictions."""
        if body.get("error"):
            self.build.events.append(ErrorOccurred(gemini_error_of(body["error"])))
            return
        told = body.get("predictions")
        predictions = [item for item in told if is_object(item)] if is_array(told) else []
        self.build.start(None, None)
        filtered: list[str] = []
        for item in predictions:
            mime = item.get("mimeType")
            if not self.base64(item.get("bytesBase64Encoded"), mime if isinstance(mime, str) else None):
                filtered.append(str(item.get("raiFilteredReason") or "no reason is told"))
        if filtered and not self.build.has_content:
            self.failed("content_filter", f"no image was let through: {filtered[0]}")
            return
        rest = [{name: value for name, value in item.items() if name != "bytesBase64Encoded"} for item in predictions]
        revised = [item["prompt"] for item in predictions if isinstance(item.get("prompt"), str)]
        more = {"filtered": filtered} if filtered else {}
        self.done(Usage(), {**body, "predictions": rest}, **({"revised_prompts": revised} if revised else {}), **more)
