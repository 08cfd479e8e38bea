"""TLS contexts: whom to trust and what to show, made once for each way of doing so and in the caller's thread.

On the loop a context would block every stream for a tenth of a second.
"""

import ssl
from pathlib import Path
from typing import Any

import httpx

from allm.environment import environment
from allm.errors import EngineError
from allm.settings import Http

__all__ = ["context_of", "has_context"]

_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}


def has_context(http: Http) -> bool:
    """Whether it was made before."""
    return (http.verify, http.cert) in _contexts


def context_of(http: Http) -> ssl.SSLContext:
    """The context for these settings. Raises EngineError("bad_http") that names the setting, or the variable, that cannot be used."""
    key = (http.verify, http.cert)
    context = _contexts.get(key)
    if context is None:
        context = _trusting(http)
        if http.cert is not None:
            _show(context, http.cert)
        _contexts[key] = context
    return context


def _trusting(http: Http) -> ssl.SSLContext:
    """httpx's own makes these too, and warns of a path."""
    setting, path = "http.verify", http.verify
    try:
        if isinstance(path, str):
            return ssl.create_default_context(capath=path) if Path(path).is_dir() else ssl.create_default_context(cafile=path)
        named = environment.trust_variable() if http.verify else None
        setting, path = named or (setting, path)
        return httpx.create_ssl_context(verify=http.verify, trust_env=True)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(setting, path, error) from None


def _show(context: ssl.SSLContext, cert: str | tuple[str, ...]) -> None:
    try:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else cert))
    except (OSError, ValueError, TypeError) as error:
        raise _unusable("http.cert", cert if isinstance(cert, str) else " and ".join(map(str, cert[:2])), error) from None


def _unusable(setting: str, path: Any, error: Exception) -> EngineError:
    """An SSLError is an OSError: one with an empty file has no text that says so."""
    why = "it holds no certificate" if "NO_CERTIFICATE" in str(error) else getattr(error, "strerror", None) or type(error).__name__
    return EngineError("bad_http", f"{setting} names {str(path)!r}, which cannot be used: {why}")
