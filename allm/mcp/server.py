"""What there is to know of an MCP server before it runs: how to reach it, and how its tools are to look here."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from allm.errors import EngineError, ValidationError
from allm.masking import unseen
from allm.tools import Source

if TYPE_CHECKING:
    from allm.actors.runtime import Runtime
    from allm.mcp.connection import Connection

__all__ = ["Server"]

_SHORT: Final = 4
"""Characters: what is shorter is no secret, and would be found in every other text."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Server:
    """An MCP server: make it with `Server.stdio(...)` or `Server.http(...)`, then `connect()`. Immutable; nothing runs yet.

    `name` is what it is called in the tree and in errors. `prefix` goes before the name of each of its tools. `timeout` (seconds) and
    `max_result` (characters) are those of its tools, see `allm.Tool`. Values of `env` and `headers` are in no repr, event or error.
    """

    name: str
    prefix: str = ""
    timeout: float | None = None
    max_result: int = 1_000_000
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    cwd: str | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @classmethod
    @unseen
    def stdio(
        cls,
        command: str,
        args: Iterable[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        name: str | None = None,
        prefix: str = "",
        timeout: float | None = None,
        max_result: int = 1_000_000,
    ) -> "Server":
        """One that runs as a process of ours and is spoken to over its standard input and output.

        Of this process's environment it gets PATH, HOME and their like, no keys; what else it needs is given in `env`. What it writes to
        its standard error appears on ours.
        """
        if not isinstance(command, str) or not command:
            raise ValidationError.at("command", f"expected the name of a program, got {command!r}")
        if isinstance(args, str):
            raise ValidationError.at("args", "expected a list of arguments, got one text")
        return cls(
            name=_text(name if name is not None else os.path.basename(command), "name"), prefix=_text(prefix, "prefix", True),
            timeout=timeout, max_result=max_result,
            command=command, args=tuple(_text(arg, f"args[{i}]", True) for i, arg in enumerate(args)),
            env=_texts(env, "env"), cwd=None if cwd is None else os.fspath(cwd),
        )  # fmt: skip

    @classmethod
    @unseen
    def http(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        prefix: str = "",
        timeout: float | None = None,
        max_result: int = 1_000_000,
    ) -> "Server":
        """One that runs elsewhere and speaks streamable HTTP at this URL. `headers` go with every request: `Authorization`, for example."""
        parts = urlsplit(_text(url, "url"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValidationError.at("url", "expected the http or https URL of a server")
        return cls(
            name=_text(name if name is not None else parts.hostname, "name"), prefix=_text(prefix, "prefix", True),
            timeout=timeout, max_result=max_result, url=url, headers=_texts(headers, "headers"),
        )  # fmt: skip

    def connect(self, runtime: "Runtime | None" = None, *, timeout: float = 30.0) -> "Connection":
        """A connection, for a `with` or an `async with`, which gives the server's tools. Nothing runs before that.

        In the tree of `runtime` (None: the default one). Entering it waits, for `timeout` seconds at most, until the server has told its
        tools; a server that dies on the way is started again. Raises ToolError("unavailable") when the time is over, or at once where
        waiting is no use: there is no such program, or the server wants other credentials.
        """
        from allm.mcp.connection import Connection

        return Connection(self, runtime, timeout)

    @property
    def source(self) -> Source:
        """What its tools are known by: the same for each connection to this server, however often it is described anew."""
        given = (
            self.name,
            self.prefix,
            self.command,
            self.args,
            self.cwd,
            self.url,
            sorted(self.env.items()),
            sorted(self.headers.items()),
        )
        return Source(f"the MCP server {self.name}", hashlib.sha256(repr(given).encode("utf-8", "surrogatepass")).hexdigest())

    def scrub(self, text: str) -> str:
        """The text without what was given in `env`, `headers`, and the URL's credentials and query."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> set[str]:
        parts = urlsplit(self.url)
        found = {*self.env.values(), *self.headers.values(), parts.query, parts.username or "", parts.password or ""}
        found.update(word for value in self.headers.values() for word in value.split())  # of "Bearer ..."
        return {secret for secret in found if len(secret) >= _SHORT}

    def __getstate__(self) -> dict[str, Any]:
        if self._secrets():
            raise EngineError("not_portable", f"the MCP server {self.name} was given secrets, which do not travel")
        return {**self.__dict__, "env": dict(self.env), "headers": dict(self.headers)}

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if self.url else self.command
        return f"<Server {self.name}: {where}>"


def _text(value: Any, path: str, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise ValidationError.at(path, f"expected text, got {type(value).__name__ if value != '' else 'none'}")
    return value


def _texts(value: Any, path: str) -> Mapping[str, str]:
    """A copy of a mapping of texts. Raises ValidationError, which does not show them."""
    if value is None:
        return _NOTHING
    if not isinstance(value, Mapping):
        raise ValidationError.at(path, f"expected names and texts, got {type(value).__name__}")
    found: dict[Any, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    for key, text in found.items():
        _text(text, f"{path}[{_text(key, path)!r}]", True)
    return MappingProxyType(found)
