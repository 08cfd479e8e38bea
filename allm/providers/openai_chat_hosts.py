"""The hosts that speak OpenAI Chat Completions, and what is different about the requests that they take.

The vendor's own refuses fields that it does not know and takes system messages anywhere. The templates of many open models refuse a
system message that is not the first (Qwen, Mistral, Gemma); Mistral's models want call ids of nine letters and digits.
"""

import hashlib
import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

__all__ = ["NINE", "has_vendors_models", "host_of", "is_google", "is_vendor", "nine_letters", "tells_back", "wants_nine"]

NINE: Final = re.compile(r"[a-zA-Z0-9]{9}")
"""What Mistral takes for a call id."""

_MISTRAL: Final = re.compile(r"(?:^|[/:.-])(?:\w*mistral|mixtral|ministral|magistral|codestral|devstral|pixtral|voxtral)", re.I)


@lru_cache(256)
def host_of(base_url: str) -> str:
    """The name of the host at this address, in small letters; empty where there is none."""
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""


def is_vendor(host: str) -> bool:
    """Whether this is the vendor's own service."""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def has_vendors_models(host: str) -> bool:
    """Whether the vendor's models answer here, at the vendor or at Azure."""
    return is_vendor(host) or host.endswith(".azure.com")


def is_google(host: str) -> bool:
    """Whether this is one of Google's own services."""
    return host.endswith(".googleapis.com")


def tells_back(host: str) -> str | None:
    """The name under which a part holds what this host alone needs back; None for a host that is unknown or needs nothing."""
    return None if not host or is_vendor(host) else f"openai.chat@{host}"


@lru_cache(256)
def wants_nine(host: str, model: str) -> bool:
    """Whether call ids must be as Mistral has them."""
    return host.endswith("mistral.ai") or _MISTRAL.search(model) is not None


def nine_letters(given: str) -> str:
    """An id as Mistral has them, made of any other: the same for the same, in each request."""
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:9]
