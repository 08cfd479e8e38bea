"""An image provider that plays a script: for tests of bots, with no network in them.

An item of a script is a tuple of its kind and what belongs to it:

    ("image", "data:image/png;base64,...")   an image; an address (`https://...`) is one that came by its URL
    ("text", "Here it is.")                  what the model says beside it
    ("usage", {"input_tokens": 3})           fields of `allm.Usage`
    ("error", "rate_limited")                the attempt fails here; details as a third value: {"retry_after": 1, "status": 429, ...}
    ("delay", 0.5)                           seconds to wait

`adapter_opts`: `image_script` for every call, or `image_scripts` with one for each call in turn (past the end: `no_scripted_response`);
without either, each call gets as many images of one pixel as it asks for. `retry_until_call=n`: the first n-1 attempts of each call
fail. `record=True` keeps the requests. See `allm.testing.FakeImages`.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ADAPTER_REASONS, ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event
from allm.image_requests import ImageRequest
from allm.images import Image
from allm.messages import ImagePart
from allm.providers.adapter import Script
from allm.providers.failures import failure
from allm.providers.fake_log import log_of
from allm.providers.image_adapter import ImageDecoder, ImagesOnly
from allm.usage import Usage
from allm.wire_json import decode, encode

__all__ = ["ONE_PIXEL", "FakeImages", "FakeImagesDecoder"]

ONE_PIXEL: Final = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
"""A PNG of one pixel."""

_NONE: Final = (("error", "no_scripted_response"),)
_KINDS: Final[dict[str, Any]] = {
    "image": str, "text": str, "usage": dict, "error": str, "delay": (int, float),
}  # fmt: skip


class FakeImages(ImagesOnly):
    """The adapter `fake.images`."""

    name = "fake.images"
    provider = "fake"
    default_model = "any"

    def image_request(self, engine: Engine, request: ImageRequest, base_url: str) -> Script:
        """The script for the engine's next call."""
        opts = engine.adapter_opts
        number = log_of(engine, "images").next(request, bool(opts.get("record")))
        if "image_scripts" in opts:
            scripts = opts["image_scripts"]
            script = scripts[number] if number < len(scripts) else _NONE
        else:
            script = opts.get("image_script") or (("image", Image(data=ONE_PIXEL).to_data_uri()),) * request.n
        return Script(tuple(_steps(script)))

    def decoder(self, engine: Engine, context: CallContext) -> "FakeImagesDecoder":
        """A decoder for one attempt."""
        return FakeImagesDecoder(context, int(engine.adapter_opts.get("retry_until_call", 1)))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """A fake has no HTTP answers; third-party subclasses may."""
        return failure(self.provider, status, headers, body)


def _steps(script: Any) -> list[tuple[float, bytes]]:
    steps: list[tuple[float, bytes]] = []
    wait = 0.0
    for i, item in enumerate(script):
        _check(item, f"adapter_opts.image_script[{i}]")
        if item[0] == "delay":
            wait += float(item[1])
            continue
        steps.append((wait, encode(item)))
        wait = 0.0
    return [*steps, (wait, b"")] if wait else steps


def _check(item: Any, path: str) -> None:
    if not _is_tuple(item) or len(item) not in (2, 3) or not isinstance(item[0], str) or item[0] not in _KINDS:
        raise ValidationError.at(path, f"expected (kind, value) with a kind of {sorted(_KINDS)}, got {item!r}")
    kind, value, *details = item
    if isinstance(value, bool) or not isinstance(value, _KINDS[kind]):
        raise ValidationError.at(path, f"{kind!r} takes another value, got {value!r}")
    if details and (kind != "error" or not isinstance(details[0], dict)):
        raise ValidationError.at(path, f"{kind!r} takes one value, an error its details too")
    if kind == "error" and value not in ADAPTER_REASONS:
        raise ValidationError.at(path, f"unknown reason {value!r}")
    if kind == "image":
        Image.from_url(value)


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


class FakeImagesDecoder(ImageDecoder):
    """One attempt: items of a script -> events. The end of the script is the end of the answer."""

    provider = "fake"

    def __init__(self, context: CallContext, retry_until: int) -> None:
        super().__init__(context)
        self._early = context.generation < retry_until
        self._usage = Usage()
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        """The events of one item."""
        if self._early:
            return self._error("service_unavailable", {"message": "this attempt fails, as retry_until_call says"})
        if not data or self._ended:
            return []
        kind, value, *more = decode(data)
        if kind == "error":
            return self._error(value, *more)
        if not self.build.started:
            self.build.start(None, None)
        match kind:
            case "image":
                self.build.whole(ImagePart(Image.from_url(value)))
            case "text":
                self.build.text(value)
            case _:
                self._usage = Usage(**value)
        return self.build.take()

    def end(self) -> list[Event]:
        """The script ended."""
        if not self._ended:
            self._ended = True
            self.done(self._usage, {})
        return self.build.take()

    def _error(self, reason: str, details: Mapping[str, Any] | None = None) -> list[Event]:
        self._ended = True
        told = {"kind": "adapter", "message": f"the script says {reason}", "provider": "fake", **(details or {}), "reason": reason}
        return [*self.build.take(), ErrorOccurred(msgspec.convert(told, ErrorInfo))]
