"""Proxies: which one goes for an address, and what is wrong with one that somebody set. Pure; the variables are an argument.

As httpx reads them: `http_proxy`, `https_proxy` and `all_proxy` in either case (the lower one wins), an address without a scheme is an
HTTP proxy's. `no_proxy` is read as curl, requests and Go do, which understand more of it: names with or without a leading dot, `*`,
addresses with a port, networks (`10.0.0.0/8`), separated by commas or blanks.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final, NamedTuple

from allm.urls import problem_of

__all__ = ["SCHEMES", "Proxy", "bypassed", "is_socks", "proxy_for", "proxy_problem"]

SCHEMES: Final = ("http", "https", "socks5", "socks5h")


class Proxy(NamedTuple):
    """A proxy's address, and the setting that names it: a variable, or `http.proxy`."""

    url: str
    setting: str


def proxy_for(scheme: str, host: str, port: int, variables: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for this address; its `proxy_problem` is for the caller to ask."""
    found = _named(scheme, variables) or _named("all", variables)
    if found is None:
        return None
    passed = variables.get("no_proxy", variables.get("NO_PROXY", ""))
    return None if bypassed(scheme, host, port, passed) else found


def _named(scheme: str, variables: Mapping[str, str]) -> Proxy | None:
    lower = f"{scheme}_proxy"
    for name in (lower, lower.upper()):
        if name == "HTTP_PROXY" and "REQUEST_METHOD" in variables:
            continue  # a CGI script's: a header of the request, written by whoever made it
        if name in variables:
            value = variables[name]
            return Proxy(value if "://" in value else f"http://{value}", name) if value else None
    return None


def proxy_problem(url: str) -> str | None:
    """What is wrong with a proxy's address, without a word of it: it may hold a password. None if it can be used."""
    return problem_of(url, SCHEMES, user=True)


def is_socks(url: str) -> bool:
    """Whether it is a proxy of the SOCKS protocol, which takes a package more."""
    return url.lower().startswith("socks")


def bypassed(scheme: str, host: str, port: int, no_proxy: str) -> bool:
    """Whether an address is reached directly, as `no_proxy` says."""
    entries = no_proxy.replace(",", " ").split()
    host = host.lower().strip("[]").rstrip(".")
    return any(entry == "*" or _matches(entry.lower(), scheme, host, port) for entry in entries)


def _matches(entry: str, scheme: str, host: str, port: int) -> bool:
    of_scheme, found, rest = entry.partition("://")
    if found:
        if of_scheme not in (scheme, "all"):
            return False
        entry = rest.partition("/")[0]
    name, of_port = _split(entry)
    if of_port is not None and of_port != port:
        return False
    if (network := _network(name)) is not None:
        address = _address(host)
        return address is not None and address in network
    name = name.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, int | None]:
    """(name, port) of an entry; IPv6 addresses may stand in brackets, and must where a port follows."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isascii() and port.isdigit() else None


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
