"""What an image adapter is, and what all of them share: refusing text calls, decoding answers that come in one body."""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Protocol, runtime_checkable

from allm.blocks import CallContext, MessageBuilder
from allm.engine import Engine
from allm.errors import EngineError, ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event
from allm.freezing import freeze
from allm.image_requests import ImageRequest
from allm.images import Image
from allm.messages import ImagePart
from allm.providers.adapter import Adapter, HttpRequest, Script
from allm.providers.loose import bytes_of
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.usage import Usage
from allm.wire_json import MalformedJson, decode, is_object

__all__ = ["ImageAdapter", "ImageDecoder", "ImagesOnly", "media_type", "refused"]


@runtime_checkable
class ImageAdapter(Adapter, Protocol):
    """An adapter whose models make images. Its decoder gives a `PartCompleted` with an `ImagePart` for each image, and at the end
    `MessageCompleted`; from its response an `ImageResponse` is made."""

    default_model: ClassVar[str]

    def image_request(self, engine: Engine, request: ImageRequest, base_url: str) -> HttpRequest | Script:
        """The request to send. All input images have their bytes. Raises ValidationError for what the model does not take."""
        ...


class ImagesOnly:
    """For an adapter that makes images and nothing else."""

    name: ClassVar[str]

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> NoReturn:
        """Refuses: EngineError("images_only")."""
        raise EngineError("images_only", f"{self.name!r} makes images: allm.generate_image, allm.edit_image, allm.image_variations")


def refused(operation: str, model: str, can: tuple[str, ...]) -> ValidationError:
    """The error for an operation that a model does not have."""
    return ValidationError.at("operation", f"{model} has no {operation!r}, but {', '.join(can)}")


def media_type(image: Image, path: str, allowed: tuple[str, ...]) -> str:
    """The image's type, in lower case. Raises ValidationError for one that is not allowed."""
    mime = (image.mime or "").lower()
    mime = "image/jpeg" if mime == "image/jpg" else mime
    if mime not in allowed:
        raise ValidationError.at(path, f"this model takes {', '.join(allowed)}, not {mime or 'what has no media type'}")
    return mime


class ImageDecoder:
    """One attempt's answer, which is one JSON body, -> events. A subclass reads it (`read`)."""

    provider: ClassVar[str]

    def __init__(self, context: CallContext) -> None:
        self.build = MessageBuilder(context)
        self.metadata: dict[str, Any] = {}
        self.progress = False

    @property
    def has_content(self) -> bool:
        """Whether a caller would have to forget something."""
        return self.build.has_content

    def block_ids(self) -> tuple[str, ...]:
        """The ids of all blocks so far."""
        return self.build.block_ids()

    def headers(self, headers: Mapping[str, str]) -> None:
        """Keeps the request's id and its limits."""
        limits = {name: value for name, value in headers.items() if name.startswith("x-ratelimit-")}
        if limits:
            self.metadata["rate_limits"] = limits
        if request_id := headers.get("x-request-id"):
            self.metadata["provider_request_id"] = request_id

    def feed(self, data: bytes) -> list[Event]:
        """No stream was asked for."""
        return self.fail("malformed_response", "a stream of events came where one body was expected")

    def end(self) -> list[Event]:
        """As `feed`."""
        return self.fail("truncated", "the answer ended before its body")

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        try:
            body = decode(data)
        except MalformedJson:
            return self.fail("malformed_response", "the answer is no JSON")
        if not is_object(body):
            return self.fail("malformed_response", "the answer is no object")
        self.read(body)
        return self.build.take()

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self.build.partial(finish, error)
        return self.build.take(), response

    def read(self, body: dict[str, Any]) -> None:
        """Tells `build` what came; ends with `done` or an error."""
        raise NotImplementedError

    def base64(self, text: Any, mime: str | None) -> bool:
        """Adds an image by its bytes; False for what is none."""
        try:
            image = Image(data=bytes_of(text), mime=mime) if isinstance(text, str) else None
        except (ValueError, ValidationError):
            return False
        if image is None:
            return False
        self.build.whole(ImagePart(image))
        return True

    def done(self, usage: Usage, raw: dict[str, Any], **metadata: Any) -> None:
        """The answer is complete, unless it has no image."""
        if not self.build.has_content:
            self.failed("malformed_response", "the answer has no image")
            return
        try:
            kept = freeze(raw, "raw")
        except ValidationError:  # beyond the limits of a value of ours
            kept = None
        self.build.complete("stop", usage=usage, metadata={**self.metadata, **metadata}, raw=kept)

    def failed(self, reason: str, message: str) -> None:
        """The answer is of no use."""
        self.build.events.append(ErrorOccurred(ErrorInfo("adapter", reason, message, provider=self.provider)))

    def fail(self, reason: str, message: str) -> list[Event]:
        """The answer is of no use, and nothing more of it is read."""
        self.failed(reason, message)
        return self.build.take()
