"""Settings of an engine's calls: deadlines and the way HTTP is done."""

import sys
from collections.abc import Iterator
from typing import Any, Final, cast

from msgspec import NODEFAULT
from msgspec.structs import fields, force_setattr, replace

from allm.errors import EngineError, ValidationError
from allm.masking import MASK, Guarded, has_credentials, is_credential, masked_address, shown_fields, unseen
from allm.plain import Value
from allm.proxies import proxy_problem
from allm.trust import named_code, refuse_unless_trusted

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


_CERT: Final = 3
"""Parts of a client certificate: its path, that of its key, and the key's password."""
_TRANSPORTS: Final = ("auto", "aiohttp", "httpx")


class Http(Value, frozen=True, kw_only=True, metaclass=Guarded):
    """How HTTP is done. `transport`: `auto`, `aiohttp`, `httpx`, or `"module:factory"` of an httpx transport.

    `auto` is httpx over aiohttp, or stock httpx where a proxy or a client certificate is asked for. `verify` is True, False or the
    path of a CA bundle; `cert` the path of a client certificate, (certificate, key) or (certificate, key, password). `proxy` is an
    `http`, `https`, `socks5` or `socks5h` address (those of SOCKS need the extra `socks`); without one, those that the environment
    names are used. The values of `headers`, and the passwords of a proxy and of a key, are not shown; with such credentials it is
    neither written as JSON nor pickled.
    """

    proxy: str | None = None
    verify: bool | str = True
    cert: str | tuple[str, ...] | None = None
    headers: dict[str, str] = {}
    max_connections: int | None = None
    transport: str = "auto"

    @unseen
    def __post_init__(self) -> None:
        proxy: Any = self.proxy
        if proxy is not None:
            problem = proxy_problem(proxy) if isinstance(proxy, str) else f"expected text, got {type(proxy).__name__}"
            if problem is not None:
                raise ValidationError.at("http.proxy", problem)
        self._check_headers()
        self._check_cert()
        most: Any = self.max_connections
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ValidationError.at("http.max_connections", f"must be a whole number of at least 1, got {most!r}")
        if self.transport not in _TRANSPORTS:
            named_code(str(self.transport), "http.transport")
        if self.proxy:
            refuse_unless_trusted("http.proxy", "a proxy sees every request")
        if not self.verify:
            refuse_unless_trusted("http.verify", "certificates would not be checked")

    def _check_headers(self) -> None:
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

    def _check_cert(self) -> None:
        cert: Any = self.cert
        if cert is None or isinstance(cert, str):
            return
        if isinstance(cert, list | tuple):
            parts = cast("tuple[Any, ...]", tuple(cert))  # pyright: ignore[reportUnknownArgumentType]
            if 1 <= len(parts) <= _CERT and all(isinstance(part, str) for part in parts):
                force_setattr(self, "cert", parts)
                return
        raise ValidationError.at("http.cert", "expected a path, (certificate, key) or (certificate, key, password), each a text")

    def to_plain(self) -> dict[str, Any]:
        """The fields that are not their defaults. Raises EngineError("holds_keys") where one of them holds a credential."""
        self.refuse_credentials()
        return dict(self._set())

    def refuse_credentials(self) -> None:
        """Raises EngineError("holds_keys") where this cannot be sent away."""
        held = [f"headers[{name!r}]" for name, value in self.headers.items() if is_credential(name, value)]
        held += ["proxy"] if has_credentials(self.proxy) else []
        held += ["cert"] if self._has_password() else []
        if held:
            raise EngineError(
                "holds_keys",
                f"http.{held[0]} holds a credential, which does not travel; set it where the engine is used",
            )

    def without_credentials(self) -> "Http":
        """The same, without the headers that say who is calling, and without a proxy or a certificate that asks for a password."""
        headers = {name: value for name, value in self.headers.items() if not is_credential(name, value)}
        proxy = None if has_credentials(self.proxy) else self.proxy
        return replace(self, headers=headers, proxy=proxy, cert=None if self._has_password() else self.cert)

    def _has_password(self) -> bool:
        return isinstance(self.cert, tuple) and len(self.cert) == _CERT

    def __reduce__(self) -> Any:
        self.refuse_credentials()
        return _rebuilt, (dict(self._set()),)

    def __copy__(self) -> "Http":
        return self

    def __deepcopy__(self, memo: Any) -> "Http":
        return self

    def __repr__(self) -> str:
        return shown_fields("Http", self.__rich_repr__())

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = dict(self._set())
        if "headers" in shown:
            shown["headers"] = dict.fromkeys(shown["headers"], MASK)
        if "proxy" in shown:
            shown["proxy"] = masked_address(str(shown["proxy"]))
        if self._has_password():
            shown["cert"] = (*shown["cert"][:2], MASK)
        return list(shown.items())

    def _set(self) -> Iterator[tuple[str, Any]]:
        for field in fields(self):
            value = getattr(self, field.name)
            if value != (field.default if field.default_factory is NODEFAULT else {}):
                yield field.name, value

    @property
    def kind(self) -> str:
        """`aiohttp`, `httpx` or a factory's path: what `transport` comes down to."""
        if self.transport != "auto":
            return self.transport
        return "httpx" if self.proxy or self.cert else "aiohttp"


def _rebuilt(fields: dict[str, Any]) -> Http:
    return Http(**fields)
