"""What each of OpenAI's image models takes, as a table, and the check of a request against it, before anything is sent.

The source is the provider's reference of the Images API. A model that is not in the table passes unchecked: it is newer than this.
"""

import re
from typing import Any, Final, NamedTuple

from allm.errors import ValidationError
from allm.image_requests import ImageRequest
from allm.images import Image
from allm.providers.image_adapter import media_type, refused

__all__ = ["LIMITS", "Limits", "check_limits", "limits_of"]

_MB: Final = 1 << 20


class Limits(NamedTuple):
    """What a model takes. An empty tuple: the field is none of this model's. `inputs` are media types, `input_bytes` is for each image."""

    operations: tuple[str, ...]
    sizes: tuple[str, ...]
    qualities: tuple[str, ...]
    backgrounds: tuple[str, ...]
    styles: tuple[str, ...]
    most: int
    prompt: int
    formats: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    most_inputs: int = 0
    input_bytes: int = 0
    mask_bytes: int = 4 * _MB


_GPT_IMAGE = Limits(
    operations=("generate", "edit"),
    sizes=("1024x1024", "1536x1024", "1024x1536", "auto"),
    qualities=("low", "medium", "high", "auto"),
    backgrounds=("transparent", "opaque", "auto"),
    styles=(),
    most=10,
    prompt=32_000,
    formats=("binary",),
    inputs=("image/png", "image/webp", "image/jpeg"),
    most_inputs=16,
    input_bytes=50 * _MB,
)

LIMITS: Final[dict[str, Limits]] = {
    "gpt-image-1": _GPT_IMAGE,
    "gpt-image-1-mini": _GPT_IMAGE,
    "dall-e-3": Limits(
        operations=("generate",),
        sizes=("1024x1024", "1792x1024", "1024x1792"),
        qualities=("standard", "hd"),
        backgrounds=(),
        styles=("vivid", "natural"),
        most=1,
        prompt=4_000,
        formats=("binary", "url"),
    ),
    "dall-e-2": Limits(
        operations=("generate", "edit", "variation"),
        sizes=("256x256", "512x512", "1024x1024"),
        qualities=("standard",),
        backgrounds=(),
        styles=(),
        most=10,
        prompt=1_000,
        formats=("binary", "url"),
        inputs=("image/png",),
        most_inputs=1,
        input_bytes=4 * _MB,
    ),
}
"""model -> what it takes."""

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def limits_of(model: str) -> Limits | None:
    """The limits of a model or of a dated snapshot of it; None for a model that is not known here."""
    return LIMITS.get(_SNAPSHOT.sub("", model.lower()))


def check_limits(request: ImageRequest, model: str) -> None:
    """Raises ValidationError that names the first field of the request which the model does not take."""
    limits = limits_of(model)
    if limits is None:
        return
    if request.operation not in limits.operations:
        raise refused(request.operation, model, limits.operations)
    _one_of("size", request.size, limits.sizes, model)
    _one_of("quality", request.quality, limits.qualities, model)
    _one_of("background", request.background, limits.backgrounds, model)
    _one_of("style", request.style, limits.styles, model)
    _one_of("response_format", request.response_format, limits.formats, model)
    if request.n > limits.most:
        raise ValidationError.at("n", f"{model} makes at most {limits.most} at once, not {request.n}")
    if len(request.prompt) > limits.prompt:
        raise ValidationError.at("prompt", f"{model} reads at most {limits.prompt} characters, not {len(request.prompt)}")
    _inputs(request, limits, model)


def _one_of(name: str, value: Any, allowed: tuple[str, ...], model: str) -> None:
    if value is not None and value not in allowed:
        raise ValidationError.at(name, f"{model} takes {', '.join(allowed) if allowed else 'none'}, not {value!r}")


def _inputs(request: ImageRequest, limits: Limits, model: str) -> None:
    if len(request.images) > limits.most_inputs:
        raise ValidationError.at("images", f"{model} takes at most {limits.most_inputs}, not {len(request.images)}")
    for i, image in enumerate(request.images):
        media_type(image, f"images[{i}]", limits.inputs)
        _size(image, f"images[{i}]", limits.input_bytes)
    if request.mask is not None:
        media_type(request.mask, "mask", ("image/png",))
        _size(request.mask, "mask", limits.mask_bytes)


def _size(image: Image, path: str, most: int) -> None:
    size = len(image.data or b"")
    if size > most:
        raise ValidationError.at(path, f"{size} bytes are more than this model takes ({most})")
