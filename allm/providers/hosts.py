"""The host at a base URL: some of what one says goes back to it, and to it alone."""

from urllib.parse import urlsplit

__all__ = ["host_of"]


def host_of(base_url: str) -> str:
    """The name of the host at this address, in small letters; empty where there is none."""
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""
