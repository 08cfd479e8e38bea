"""Settings of an engine's calls: deadlines and the way HTTP is done."""

import sys
from typing import Any

from allm.errors import ValidationError
from allm.plain import Value

__all__ = ["Http", "Timeouts"]


class Timeouts(Value, frozen=True, kw_only=True):
    """Seconds, or None for no limit.

    `connect`: until the connection stands. `first_event`: from the request to the first content or progress. `idle`: between
    events that show progress (pings, comments and empty chunks do not). `total`: one attempt. `tool`: one handler. `callback`: one call
    of any other function of yours (`on_event`, `halt_when`, `on_tool_error`, `instructions`, `history`, a key resolver).
    """

    connect: float | None = 10
    first_event: float | None = 120
    idle: float | None = 60
    total: float | None = 600
    tool: float | None = 30
    callback: float | None = 30

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
                raise ValidationError.at(f"timeouts.{name}", f"must be a positive number of seconds or None, got {value!r}")


class Http(Value, frozen=True, kw_only=True):
    """How HTTP is done. `transport`: `auto`, `aiohttp`, `httpx`, or `"module:factory"` of an httpx transport.

    `auto` is httpx over aiohttp, or stock httpx where a proxy or a client certificate is asked for. `verify` is True, False or the
    path of a CA bundle; `cert` the path of a client certificate, or (certificate, key).
    """

    proxy: str | None = None
    verify: bool | str = True
    cert: str | tuple[str, ...] | None = None
    headers: dict[str, str] = {}
    max_connections: int | None = None
    transport: str = "auto"

    def __post_init__(self) -> None:
        headers: Any = self.headers
        if not hasattr(headers, "items"):
            raise ValidationError.at("http.headers", f"expected an object, got {type(headers).__name__}")
        for name, value in headers.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValidationError.at(f"http.headers.{name}", "names and values are text")
            if any(c in name + value for c in "\r\n\0"):
                raise ValidationError.at(f"http.headers.{name}", "line breaks are not allowed")
            if not name or not (name + value).isascii():
                raise ValidationError.at(f"http.headers.{name}", "a name and a value of ASCII characters are expected")
        most: Any = self.max_connections
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ValidationError.at("http.max_connections", f"must be a whole number of at least 1, got {most!r}")

    @property
    def kind(self) -> str:
        """`aiohttp`, `httpx` or a factory's path: what `transport` comes down to."""
        if self.transport != "auto":
            return self.transport
        return "httpx" if self.proxy or self.cert else "aiohttp"
