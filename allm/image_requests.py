"""Images asked for and got: the request, the response and its usage, in no provider's words."""

from typing import Any, Literal, TypeAlias

from msgspec.structs import force_setattr

from allm.errors import ValidationError
from allm.freezing import freeze, freeze_dict
from allm.images import Image
from allm.plain import Json, Value
from allm.responses import Response
from allm.wire_json import is_object

__all__ = ["ImageOperation", "ImageRequest", "ImageResponse", "ImageUsage", "image_response", "validate_images"]

ImageOperation: TypeAlias = Literal["generate", "edit", "variation"]

_TEXTS = ("model", "size", "quality", "background", "style")
_OPERATIONS = ("generate", "edit", "variation")
_FORMATS = ("binary", "url")


class ImageRequest(Value, frozen=True, kw_only=True):
    """What is asked of a model that makes images.

    `edit` takes `images` and, on some models, a `mask` (transparent where the image is to change); `variation` one image and no prompt.
    `size` is `"1024x1024"` or what else the model knows, `n` how many images; None leaves the choice to the model.
    `response_format`: `binary` for bytes, `url` for addresses where the model gives any. `options` go into the provider's body unchanged.
    """

    operation: ImageOperation = "generate"
    prompt: str = ""
    images: tuple[Image, ...] = ()
    mask: Image | None = None
    model: str | None = None
    size: str | None = None
    quality: str | None = None
    n: int = 1
    background: str | None = None
    style: str | None = None
    response_format: str = "binary"
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if isinstance(self.images, list):
            force_setattr(self, "images", tuple(self.images))
        for name in ("options", "metadata"):
            if value := getattr(self, name):
                force_setattr(self, name, freeze_dict(value, name))


class ImageUsage(Value, frozen=True, kw_only=True):
    """What an image call consumed: how many images, of which size and quality, and tokens where the model counts any.

    `None` means "not reported". The cost is in US dollars.
    """

    images: int | None = None
    size: str | None = None
    quality: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_cost: float | None = None


class ImageResponse(Value, frozen=True, kw_only=True):
    """The images that a model made. `raw` is the provider's body without the bytes of the images.

    `metadata` has, where there are any, the prompts as the model rewrote them (`revised_prompts`, one an image) and its `text`.
    """

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    images: tuple[Image, ...] = ()
    usage: ImageUsage = ImageUsage()
    raw: Json = None
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "response.metadata"))
        if self.raw is not None:
            force_setattr(self, "raw", freeze(self.raw, "response.raw"))


def image_response(request: ImageRequest, response: Response) -> ImageResponse:
    """The images of a complete answer. Size and quality are the ones reported, else the ones asked for."""
    raw: dict[str, Any] = response.raw if is_object(response.raw) else {}
    images = tuple(part.image for part in response.images)
    told = {name: raw[name] if isinstance(raw.get(name), str) else getattr(request, name) for name in ("size", "quality")}
    text = {"text": response.text} if response.text else {}
    return ImageResponse(
        id=response.id,
        request_id=response.request_id,
        model=response.model or request.model,
        images=images,
        usage=ImageUsage(
            images=len(images),
            input_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
            total_cost=response.usage.total_cost,
            **told,
        ),
        raw=response.raw,
        metadata={**response.metadata, **text},
    )


def validate_images(request: ImageRequest) -> None:
    """Raises ValidationError for what no model could do. The limits of each model are its adapter's."""
    if request.operation not in _OPERATIONS:
        raise ValidationError.at("operation", f"expected generate, edit or variation, got {request.operation!r}")
    if not isinstance(request.prompt, str):
        raise ValidationError.at("prompt", f"expected text, got {type(request.prompt).__name__}")
    freeze(request.prompt, "prompt")
    for name in _TEXTS:
        if (value := getattr(request, name)) is not None and not isinstance(value, str):
            raise ValidationError.at(name, f"expected text, got {type(value).__name__}")
    number: Any = request.n
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValidationError.at("n", f"expected a whole number of at least 1, got {number!r}")
    if request.response_format not in _FORMATS:
        raise ValidationError.at("response_format", f"expected 'binary' or 'url', got {request.response_format!r}")
    _inputs(request)


def _inputs(request: ImageRequest) -> None:
    for i, image in enumerate(request.images):
        _is_image(image, f"images[{i}]")
    if request.mask is not None:
        _is_image(request.mask, "mask")
        if request.operation != "edit":
            raise ValidationError.at("mask", "it goes with an edit only")
    if request.operation != "variation" and not request.prompt.strip():
        raise ValidationError.at("prompt", "it is empty")
    if request.operation == "variation" and request.prompt:
        raise ValidationError.at("prompt", "a variation takes none; an edit does")
    if request.operation == "generate" and request.images:
        raise ValidationError.at("images", "they belong to an edit or a variation: allm.edit_image, allm.image_variations")
    if request.operation == "edit" and not request.images:
        raise ValidationError.at("images", "there are none to edit")
    if request.operation == "variation" and len(request.images) != 1:
        raise ValidationError.at("images", f"a variation is made of one image, not of {len(request.images)}")


def _is_image(value: Any, path: str) -> None:
    if not isinstance(value, Image):
        raise ValidationError.at(path, f"expected an allm.Image, got {type(value).__name__}")
