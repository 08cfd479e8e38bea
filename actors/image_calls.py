"""Image calls: made, edited and varied images, on the way that every call goes: supervised, retried, cancelled, its key in the vault.

What an `Engine` serves them with: its `image_adapter` (`"openai.images:gpt-image-1"`), else its own adapter if that makes images, else
the one of the same provider.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, Unpack, cast

from msgspec.structs import replace

from allm.actors.addresses import addresses_of, with_images
from allm.actors.call import Options, Plan
from allm.actors.handle import Stream
from allm.actors.options import ImageOptions
from allm.actors.request_plan import base_url_of, call_options, callback_of, checked_engine, refuse_unknown, with_key
from allm.engine import Engine
from allm.errors import AdapterError, EngineError, StreamError, ValidationError, error_from
from allm.freezing import freeze_dict
from allm.image_requests import ImageOperation, ImageRequest, ImageResponse, image_response, validate_images
from allm.images import Image
from allm.providers.adapter import HttpRequest, Script
from allm.providers.image_adapter import ImageAdapter
from allm.providers.registry import BUILT_IN, adapter_and_model, adapter_for
from allm.requests import Request
from allm.responses import Response

__all__ = ["ImageCall", "asked", "edit_image", "generate_image", "generation", "image_call", "image_variations"]

_DEFAULTS: Final = ImageRequest()
_FAMILIES: Final = ("openai", "gemini", "fake")


def generate_image(
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
    """Images made from a prompt. Blocks; see `allm.aio.generate_image` for asyncio.

    `size` is `"1024x1024"` or what else the model knows; `response_format="url"` gives addresses where the model can. Further options:
    `model`, `options` (for the provider's body), `api_key`, `retry`, `timeouts` (without `first_event` and `idle`: the answer comes in
    one piece), `request_id`, `runtime`, `on_event`, `metadata`. They win over the fields of a request; an
    argument that is left as it is leaves the request's field.

    Raises ValidationError, before anything is sent, for what the model does not take; ImageAdapterError when the call failed.
    """
    fields = {"size": size, "quality": quality, "n": n, "background": background, "style": style, "response_format": response_format}
    return image_call(engine, partial(generation, prompt_or_request, fields), opts).response()


def edit_image(
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
    """Images made from others as the prompt says. A `mask` is transparent where the first one is to change. See `generate_image`.

    An image by its URL is fetched where the provider takes none: at most 20 MiB, and from no private address.
    """
    fields = {"size": size, "quality": quality, "n": n, "background": background, "style": style, "response_format": response_format}
    return image_call(engine, partial(asked, "edit", fields, image_or_images, prompt, mask), opts).response()


def image_variations(
    engine: Engine,
    image: Image,
    size: str | None = None,
    n: int = 1,
    response_format: str = "binary",
    **opts: Unpack[ImageOptions],
) -> ImageResponse:
    """Images like this one. See `generate_image`."""
    fields = {"size": size, "n": n, "response_format": response_format}
    return image_call(engine, partial(asked, "variation", fields, image), opts).response()


def generation(prompt_or_request: Any, fields: Mapping[str, Any]) -> ImageRequest:
    """The request that the caller means; of a request the fields that an option names are replaced."""
    if isinstance(prompt_or_request, ImageRequest):
        return replace(prompt_or_request, **{name: value for name, value in fields.items() if value != getattr(_DEFAULTS, name)})
    if isinstance(prompt_or_request, str):
        return ImageRequest(prompt=prompt_or_request, **fields)
    raise ValidationError.at("prompt", f"expected text or an allm.ImageRequest, got {type(prompt_or_request).__name__}")


def asked(operation: ImageOperation, fields: Mapping[str, Any], images: Any, prompt: str = "", mask: Image | None = None) -> ImageRequest:
    """The request of an edit or a variation."""
    given = tuple(cast("Sequence[Image]", images)) if isinstance(images, list | tuple) else (images,)
    return ImageRequest(operation=operation, prompt=prompt, images=given, mask=mask, **fields)


class ImageCall:
    """A call that is planned. `response()` blocks; `await call.response_async()` is the same for asyncio."""

    def __init__(self, request: ImageRequest, stream: Stream[Response]) -> None:
        self._request = request
        self._stream = stream

    def response(self) -> ImageResponse:
        """Makes the call, and gives its images."""
        try:
            return self._images(self._stream.response())
        except AdapterError as error:
            _fail(error)

    async def response_async(self) -> ImageResponse:
        """The same. Cancelling the task ends the HTTP request at once."""
        try:
            return self._images(await self._stream)
        except AdapterError as error:
            _fail(error)

    def _images(self, response: Response) -> ImageResponse:
        response.raise_for_error()
        if response.finish_reason == "cancelled":
            raise StreamError("cancelled", "the call was cancelled", request_id=response.request_id)
        return image_response(self._request, response)


def _fail(error: AdapterError) -> NoReturn:
    """What the adapter, or the way to it, did is told as what it was done to."""
    raise error_from(replace(error.info, kind="image_adapter")) from None


def image_call(engine: Engine, request: Callable[[], ImageRequest], opts: ImageOptions) -> ImageCall:
    """The call, checked and planned. Takes the key out of `opts` before anything else, so that no frame of a traceback holds it."""
    made, runtime = with_key(opts, lambda: _plan(engine, request(), opts))
    plan = cast("_ImagePlan", made)
    return ImageCall(plan.asked, Stream(plan, runtime))


class _ImagePlan(Plan):
    """The plan of an image call."""

    __slots__ = ("asked", "images")

    def __init__(self, asked: ImageRequest, service: "_Service", options: Options, on_event: Any) -> None:
        request = Request((), model=asked.model, metadata=asked.metadata)
        super().__init__(service.engine, service.adapter, service.base_url, request, options, on_event)
        self.asked = asked
        self.service = self.paid_once = True
        self.images = service.adapter

    def missing(self) -> tuple[str, ...]:
        return addresses_of(self.images, self.asked)

    def made(self, found: Mapping[str, Image]) -> HttpRequest | Script:
        return self.images.image_request(self.engine, with_images(self.asked, found), self.base_url)


def _plan(engine: Engine, request: ImageRequest, opts: Mapping[str, Any]) -> Plan:
    refuse_unknown(opts, ImageOptions.__optional_keys__)
    service = _service_of(checked_engine(engine), opts.get("model") or request.model)
    asked = replace(
        request,
        model=service.engine.model,
        options={**request.options, **freeze_dict(opts.get("options") or {}, "options")},
        metadata={**engine.metadata, **request.metadata, **freeze_dict(opts.get("metadata") or {}, "metadata")},
    )
    validate_images(asked)
    options = call_options(service.engine, Request((), metadata=asked.metadata), {**opts, "wire": "json"}, folding=True)
    plan = _ImagePlan(asked, service, options, callback_of(opts.get("on_event")))
    plan.encode()
    return plan


class _Service(NamedTuple):
    """What serves an engine's image calls. `engine` is the caller's, under this adapter's name and model."""

    engine: Engine
    adapter: ImageAdapter
    base_url: str


def _service_of(engine: Engine, model: Any) -> _Service:
    """Raises EngineError for an engine that makes no images, naming what to set."""
    name, named = _named(engine)
    adapter: Any = adapter_for(name)
    if not hasattr(adapter, "image_request"):
        raise EngineError("no_adapter", f"the adapter {name!r} makes no images: name one that does in image_adapter=")
    chosen = model or named or adapter.default_model
    if not isinstance(chosen, str):
        raise ValidationError.at("model", f"expected text, got {type(chosen).__name__}")
    own = engine.adapter == name or adapter_for(engine.adapter).provider == adapter.provider
    serving = replace(engine, adapter=name, model=chosen, base_url=engine.base_url if own else None)
    return _Service(serving, adapter, base_url_of(serving))


def _named(engine: Engine) -> tuple[str, str | None]:
    """(adapter, model) that the engine names for images, or that follow from its own adapter."""
    if engine.image_adapter is not None:
        return adapter_and_model(engine.image_adapter)
    family = engine.adapter.partition(".")[0]
    if engine.adapter not in BUILT_IN or engine.adapter.endswith(".images"):
        return engine.adapter, engine.model or None  # one that makes images itself, or a third party's, which may
    if family in _FAMILIES:
        return f"{family}.images", engine.model if _draws(engine.model) else None
    raise EngineError(
        "no_adapter", f"{engine.adapter!r} makes no images: name an adapter that does, Engine(..., image_adapter='openai.images')"
    )


def _draws(model: str) -> bool:
    """Whether a model of that name makes images."""
    return "image" in model or model.startswith(("dall-e", "imagen"))
