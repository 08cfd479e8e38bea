"""`FakeImages`: an engine whose image calls play scripts, and what it was asked. Items are told in `allm.providers.fake_images`."""

from collections.abc import Sequence
from typing import Any, cast

from allm.engine import Engine
from allm.image_requests import ImageRequest
from allm.images import Image
from allm.providers.fake_log import keep_requests, log_of

__all__ = ["FakeImages"]


class FakeImages:
    """`FakeImages([("image", png)]).engine` plays one script for every call; `FakeImages(scripts=[...])` one for each in turn; without
    either each call gets as many images of one pixel as it asks for. An image is an `allm.Image`, bytes or an address.

    `calls` counts calls (not attempts), `requests` are the requests as the engine sent them, merged and checked.
    """

    def __init__(
        self,
        script: Sequence[Sequence[Any]] | None = None,
        *,
        scripts: Sequence[Sequence[Sequence[Any]]] | None = None,
        retry_until_call: int = 1,
        **engine: Any,
    ) -> None:
        opts: dict[str, Any] = {"record": True, "retry_until_call": retry_until_call}
        if script is not None:
            opts["image_script"] = _plain(script)
        if scripts is not None:
            opts["image_scripts"] = [_plain(each) for each in scripts]
        self.engine = Engine(engine.pop("name", "fake.images:any"), adapter_opts=opts, **engine)
        self._requests = keep_requests(self.engine, "images")

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return log_of(self.engine, "images").calls

    @property
    def requests(self) -> tuple[ImageRequest, ...]:
        """What was asked, in order."""
        return tuple(self._requests)


def _plain(script: Sequence[Any]) -> list[Any]:
    """The script as plain data: images by their data URI or address. What is no script is left to the adapter, which says so."""
    return [[_address(value) for value in cast("Sequence[Any]", item)] if isinstance(item, list | tuple) else item for item in script]


def _address(value: Any) -> Any:
    image = Image.from_binary(value) if isinstance(value, bytes) else value
    return (image.url or image.to_data_uri()) if isinstance(image, Image) else image
