"""Where keys and base URLs come from: the one place of the core that reads the environment and configuration files.

Levels, first hit wins: 1 the call's `api_key`, 2 the engine's `keys`, 3 `allm.keys.put`, 4 `allm.configure(keys=...)` or the file named
by ALLM_CONFIG, 5 the environment (and a `.env` file once `allm.configure(load_dotenv=True)` was called). Levels 3 to 5 go only to the
provider's own host or the one that its environment variable names: a base URL from elsewhere never gets a key it was not given.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from allm.errors import EngineError, ValidationError
from allm.limits import Limits, set_limits
from allm.masking import unseen
from allm.proxies import Proxy, proxy_for
from allm.trust import set_importable
from allm.urls import host_of, problem_of

__all__ = ["PROVIDERS", "Environment", "Origin", "configure", "environment"]


class Origin(NamedTuple):
    """A provider's own address, and the variables that override it and give its key."""

    base_url: str
    base_variable: str
    key_variable: str


PROVIDERS: dict[str, Origin] = {
    "openai": Origin("https://api.openai.com/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "anthropic": Origin("https://api.anthropic.com", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    "gemini": Origin("https://generativelanguage.googleapis.com", "GEMINI_BASE_URL", "GEMINI_API_KEY"),
}


_QUOTED = re.compile(r"""(['"])(.*?)\1\s*(?:#.*)?$""")
_KEY_VARIABLES = frozenset(origin.key_variable for origin in PROVIDERS.values())
_PLACES = frozenset({"PWD", "SSH_AUTH_SOCK"})
"""Names that only sound like secrets."""
_SECRET = re.compile(
    r"(?:^|_)(?:KEYS?|PWD|PASS|AUTH|CREDS?|PAT|DSN)(?:_|$)|API_?KEY|TOKENS?(?:_|$)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTHORIZATION",
    re.IGNORECASE,
)


_WITH_PASSWORD = re.compile(r"[\w.+-]+://[^/?#\s]*:[^/?#\s]+@")

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Environment:
    """Levels 3 to 5, and base URLs. One per process (`environment`); tests make their own."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self._put: dict[str, str] = {}
        self._configured: dict[str, str] = {}
        self._dotenv: dict[str, str] = {}
        self._file: tuple[str, dict[str, str]] | None = None
        self.private_urls = False
        """Whether an image may be fetched from a private address."""

    def __repr__(self) -> str:
        return "Environment(***)"

    def put(self, provider: str, key: str | None) -> None:
        """Level 3. None forgets the key."""
        if key is None:
            self._put.pop(provider, None)
        else:
            self._put[provider] = key

    def configure(
        self,
        keys: Mapping[str, str] | None = None,
        load_dotenv: bool | str | Path = False,
        allow_private_urls: bool | None = None,
    ) -> None:
        """Level 4; and `.env` for level 5 (True: in the working directory, else the path of the file)."""
        read = _read_dotenv(Path(".env" if load_dotenv is True else load_dotenv)) if load_dotenv else None  # raises before a change
        if allow_private_urls is not None:
            self.private_urls = bool(allow_private_urls)
        if keys is not None:
            self._configured = dict(keys)
        if read is not None:
            self._dotenv = read

    def base_url(self, provider: str, given: str | None = None) -> str:
        """The address that calls go to: what was given, else the provider's variable, else its own.

        Raises EngineError("bad_base_url") for a variable that holds none.
        """
        origin = PROVIDERS.get(provider)
        if given is not None or origin is None:
            return (given or "").rstrip("/")
        named = self._variable(origin.base_variable)
        if named and (problem := problem_of(named)) is not None:
            raise EngineError("bad_base_url", f"the variable {origin.base_variable} is no base URL: {problem}", provider=provider)
        return (named or origin.base_url).rstrip("/")

    def key(self, provider: str, base_url: str) -> str | None:
        """The key of levels 3 to 5 for a call to `base_url`, None if there is none or that host must not have it."""
        found = self.locate(provider)
        return found[1] if found is not None and self._trusted(provider, base_url) else None

    def locate(self, provider: str) -> tuple[str, str] | None:
        """(where, key) of levels 3 to 5."""
        origin = PROVIDERS.get(provider)
        if key := self._put.get(provider):
            return "allm.keys", key
        if key := self._configured.get(provider):
            return "allm.configure", key
        if key := self._config_file().get(provider):
            return "ALLM_CONFIG", key
        if origin is not None:
            if key := self._variables.get(origin.key_variable):
                return origin.key_variable, key
            if key := self._dotenv.get(origin.key_variable):
                return f".env ({origin.key_variable})", key
        return None

    def names_proxy(self) -> bool:
        """Whether the environment names a proxy for anything at all; which one goes for an address, `proxy_for` finds out."""
        return any(name in self._variables for name in _PROXY_VARIABLES)

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy that the environment names for this address, and the variable that does."""
        return proxy_for(scheme, host, port, self._variables)

    def trust_variable(self) -> tuple[str, str] | None:
        """(name, value) of the variable that replaces the certificates to be trusted, as httpx and OpenSSL know it."""
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if value := self._variables.get(name):
                return name, value
        return None

    def for_children(self) -> dict[str, str]:
        """The variables that the process of a tool starts with: all but those whose names say that they hold a secret, and addresses
        with a password (`DATABASE_URL`). Those of proxies stay: without them a tool may reach nothing."""
        return {name: value for name, value in self._variables.items() if not _is_secret(name, value)}

    def named(self, patterns: Iterable[str]) -> dict[str, str]:
        """The variables whose names fit one of these patterns (`AWS_*`), secrets too."""
        wanted = tuple(patterns)
        return {name: value for name, value in self._variables.items() if any(fnmatchcase(name, pattern) for pattern in wanted)}

    def adopt(self, variables: Mapping[str, str]) -> None:
        """Set these variables in this process and those that it starts."""
        os.environ.update(variables)

    def places(self, provider: str) -> str:
        """Where a key was looked for, for people."""
        origin = PROVIDERS.get(provider)
        variable = f", {origin.key_variable}" if origin else ""
        put = f"allm.keys.put({provider!r}, ...)"
        return f"api_key=, the engine's keys=, {put}, allm.configure(keys=...), the file that ALLM_CONFIG names{variable}"

    def _trusted(self, provider: str, base_url: str) -> bool:
        origin = PROVIDERS.get(provider)
        if origin is None:
            return False
        named, host = self._variable(origin.base_variable), host_of(base_url)
        return host is not None and host in (host_of(origin.base_url), host_of(named) if named else None)

    def _variable(self, name: str) -> str | None:
        return self._variables.get(name) or self._dotenv.get(name) or None

    def _config_file(self) -> dict[str, str]:
        path = self._variables.get("ALLM_CONFIG")
        if not path:
            return {}
        if self._file is None or self._file[0] != path:
            self._file = (path, _read_config(Path(path)))
        return self._file[1]


def _is_secret(name: str, value: str) -> bool:
    """By the words of its name (`OPENAI_API_KEY`, `GITHUB_TOKEN`, `PGPASSWORD`), or by its value: an address with a password."""
    if name in _KEY_VARIABLES or (name not in _PLACES and _SECRET.search(name) is not None):
        return True
    return _WITH_PASSWORD.match(value) is not None and name not in _PROXY_VARIABLES


def _read_config(path: Path) -> dict[str, str]:
    """The `keys` table of a TOML or JSON file."""
    try:
        text = path.read_bytes()
        data: Any = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text.decode())
        keys = data.get("keys", {})
        return {str(name): str(key) for name, key in keys.items()}
    except (OSError, ValueError, AttributeError):
        raise EngineError("bad_config", f"ALLM_CONFIG names {str(path)!r}, which is no readable TOML or JSON file with [keys]") from None


def _read_dotenv(path: Path) -> dict[str, str]:
    """NAME=value lines; `export`, quotes and comments are understood, nothing is expanded. A missing file is empty."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.lstrip().startswith("#"):
            continue
        value = value.strip()
        quoted = _QUOTED.match(value)
        found[name.strip()] = quoted[2] if quoted else value.partition(" #")[0].rstrip()
    return found


environment = Environment()
"""The process's own."""


@unseen
def configure(
    keys: Mapping[str, str] | None = None,
    load_dotenv: bool | str | Path = False,
    allow_private_urls: bool | None = None,
    limits: Limits | None = None,
    importable: Iterable[str] | None = None,
) -> None:
    """Sets keys for all engines of this process (by provider), and reads a `.env` file for those that the environment lacks.

    The keys replace what an earlier call set; `load_dotenv` is True for `.env` in the working directory, or the path of the file.
    `allow_private_urls=True` lets images be fetched from private addresses too (loopback, a local network), for this whole process:
    whoever writes the thread can then have this host ask for what only this host can reach. `limits` replaces the process's `Limits`.
    `importable` lists the modules whose functions a document may name without being trusted: `("mybot.tools", "mybot.bots.*")`.
    """
    given: Any = keys
    if given is not None and not isinstance(given, Mapping):
        raise ValidationError.at("keys", "expected a mapping of providers to keys")
    if importable is not None:
        set_importable(importable)
    if limits is not None:
        set_limits(limits)
    environment.configure(keys, load_dotenv, allow_private_urls)
