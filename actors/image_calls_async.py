"""The image calls as coroutines, for `allm.aio`: the same signatures, any event loop. Cancelling the task ends the HTTP request at once."""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from allm.actors.image_calls import asked, generation, image_call
from allm.actors.options import ImageOptions
from allm.engine import Engine
from allm.image_requests import ImageRequest, ImageResponse
from allm.images import Image

__all__ = ["edit_image", "generate_image", "image_variations"]


async def generate_image(
    engine: Engine,
    prompt_or_request: str | ImageRequest,
    size: str | None = None,
    quality: str | None = None,
    n: int = 1,
    background: str | None = None,
    style: str | None = None,
    response_format: str = "binary",
    **opts: Unpack[ImageOptions],
) -> ImageResponse:
    """Images made from a prompt. See `allm.generate_image`."""
    fields = {"size": size, "quality": quality, "n": n, "background": background, "style": style, "response_format": response_format}
    call = image_call(engine, partial(generation, prompt_or_request, fields), opts)
    del opts
    return await call.response_async()


async def edit_image(
    engine: Engine,
    image_or_images: Image | Sequence[Image],
    prompt: str,
    mask: Image | None = None,
    size: str | None = None,
    quality: str | None = None,
    n: int = 1,
    background: str | None = None,
    style: str | None = None,
    response_format: str = "binary",
    **opts: Unpack[ImageOptions],
) -> ImageResponse:
    """Images made from others as the prompt says. See `allm.edit_image`."""
    fields = {"size": size, "quality": quality, "n": n, "background": background, "style": style, "response_format": response_format}
    call = image_call(engine, partial(asked, "edit", fields, image_or_images, prompt, mask), opts)
    del opts
    return await call.response_async()


async def image_variations(
    engine: Engine,
    image: Image,
    size: str | None = None,
    n: int = 1,
    response_format: str = "binary",
    **opts: Unpack[ImageOptions],
) -> ImageResponse:
    """Images like this one. See `allm.image_variations`."""
    fields = {"size": size, "n": n, "response_format": response_format}
    call = image_call(engine, partial(asked, "variation", fields, image), opts)
    del opts
    return await call.response_async()
