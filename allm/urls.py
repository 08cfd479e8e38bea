"""Addresses that people set: what is wrong with one, which host it means, and what of it may be shown."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urljoin, urlsplit

__all__ = ["HTTP", "host_of", "problem_of", "shown", "target_of"]

HTTP: Final = ("http", "https")

_PORTS: Final = {"http": 80, "https": 443}
_UNPRINTED: Final = re.compile(r"[\x00-\x20\x7f]")


def problem_of(url: str, schemes: Iterable[str] | None = HTTP, user: bool = False) -> str | None:
    """What is wrong with an address to which paths are appended, as a sentence that quotes nothing of it; None if it can be used.

    `schemes` are those allowed (None: any, and none). `user`: a user name and password may stand before the host.
    """
    if not url.strip():
        return "it is empty"
    if url != url.strip():
        return "a line end or a blank stands before or after it"
    if url[0] in "'\"" or url[-1] in "'\"":
        return "quotes stand round it"
    if "\\" in url:
        return "a backslash stands in it"
    if _UNPRINTED.search(url):
        return "a blank or a control character stands in it"
    if "?" in url or "#" in url or ("@" in url and not user):
        return "an address without user name, query or fragment is expected"
    return None if schemes is None else _problem_of_parts(url, tuple(schemes))


def _problem_of_parts(url: str, schemes: tuple[str, ...]) -> str | None:
    scheme, found, _ = url.partition("://")
    if not found:
        return f"it has no scheme ({schemes[-1]}://...)"
    if scheme.lower() not in schemes:
        return f"its scheme is none of {', '.join(schemes)}"
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return "it names no host"
        if parts.port == 0:
            return "its port is none"
    except ValueError:
        return "its host or its port is none"
    return None


@lru_cache(256)
def host_of(url: str) -> str | None:
    """`scheme://host:port` in lower case, as an HTTP client reads it; None for what no client should be given."""
    if problem_of(url, user=True) is not None:
        return None
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return f"{scheme}://{parts.hostname}:{parts.port or _PORTS[scheme]}"


def target_of(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address without a `problem_of`."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or _PORTS.get(scheme, 0)


def shown(location: str, base: str) -> str | None:
    """Where a redirect leads, without user name, query and fragment, which may hold secrets; None if it leads nowhere."""
    try:
        parts = urlsplit(urljoin(base, location.strip()))
        host = parts.hostname
        if not host or parts.scheme.lower() not in HTTP:
            return None
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return None
    text = f"{parts.scheme.lower()}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"
    return text[:300] if text.isprintable() else None
