"""Images that are given by their address, on a wire that takes them by their bytes: which they are, and the bytes in their place.

Pure. What an adapter takes is told by its `fetches` (see `allm.providers.adapter.Adapter`); the exchange does the fetching.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from allm.image_requests import ImageRequest
from allm.images import Image
from allm.messages import ImagePart, Message
from allm.requests import Request

__all__ = ["PLACEHOLDER", "addresses_of", "with_images"]

PLACEHOLDER: Final = Image(
    data=base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
)
"""A PNG of one pixel: what a request is checked with before its images have come."""


def addresses_of(adapter: Any, request: Request | ImageRequest) -> tuple[str, ...]:
    """The addresses of what must be fetched, each once."""
    fetches: Callable[[str], bool] | None = getattr(adapter, "fetches", None)
    if fetches is None:
        return ()
    found = _images(request)
    return tuple({image.url: None for image in found if isinstance(image, Image) and image.url is not None and fetches(image.url)})


def with_images(request: Any, found: Mapping[str, Image]) -> Any:
    """The request with these images in the place of their addresses."""
    if not found:
        return request
    if isinstance(request, ImageRequest):
        mask = None if request.mask is None else _bytes(request.mask, found)
        return replace(request, images=tuple(_bytes(image, found) for image in request.images), mask=mask)
    return replace(request, messages=tuple(_message(message, found) for message in request.messages))


def _images(request: Request | ImageRequest) -> Iterator[Any]:
    if isinstance(request, ImageRequest):
        yield from request.images
        yield request.mask
        return
    for message in request.messages:
        if not isinstance(message.content, str):
            for part in message.content:
                if isinstance(part, ImagePart):
                    yield part.image


def _message(message: Message, found: Mapping[str, Image]) -> Message:
    if isinstance(message.content, str):
        return message
    parts = tuple(replace(part, image=_bytes(part.image, found)) if isinstance(part, ImagePart) else part for part in message.content)
    return replace(message, content=parts)


def _bytes(image: Image, found: Mapping[str, Image]) -> Image:
    return found.get(image.url, image) if image.url is not None else image
