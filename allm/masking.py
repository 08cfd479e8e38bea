"""Secrets that are not shown: the keys of an engine, the credentials in headers and addresses, and the frames of a constructor."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from msgspec import StructMeta

from allm.errors import EngineError

__all__ = ["MASK", "Guarded", "KeyRing", "has_credentials", "is_credential", "masked_address", "shown_fields", "unseen"]

P = ParamSpec("P")
T = TypeVar("T")

MASK: Final = "***"

_CREDENTIAL: Final = re.compile(r"auth|key|token|secret|cookie|passw|credential|signature|session", re.I)
_SCHEME: Final = re.compile(r"\s*(?:bearer|basic|digest|apikey|token)\s+\S", re.I)
_ADDRESS: Final = re.compile(r"(?P<scheme>[\w.+-]+://)?(?P<user>[^/?#]*@)?(?P<host>[^/?#@]*)(?P<path>[^?#]*)(?P<rest>.*)", re.S)
_ORDINARY: Final = re.compile(
    r"v\d{1,2}(?:\.\d{1,2})?(?:(?:alpha|beta)\d{0,2})?|api|openai|anthropic|gemini|google|inference|compatible-mode|paas|coding|models|"
    r"deployments|serving-endpoints|endpoints|chat|proxy|gateway|llm|ai|",
    re.I,
)
"""Segments of a path that say which API is meant. Any other may be a token, an account or a tenant, and is not shown."""


class KeyRing(Mapping[str, Any]):
    """The mapping in an engine's `keys`: read like a dict, but neither shown, pickled nor encoded (msgspec takes no such mapping)."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = dict(keys)

    def __getitem__(self, provider: str) -> Any:
        return self._keys[provider]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __hash__(self) -> int:
        return hash(frozenset(self._keys))

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise EngineError("holds_keys", "keys do not travel")


def unseen(function: Callable[P, T]) -> Callable[P, T]:
    """A function that is given secrets, and of which no frame is left when it raises: error reporters show the locals of each frame."""

    @wraps(function)
    def called(*args: P.args, **fields: P.kwargs) -> T:
        try:
            return function(*args, **fields)
        except Exception as error:
            failed = error
        del args
        fields.clear()
        failed.__cause__ = failed.__context__ = None  # whose frames are those of the same call
        raise failed.with_traceback(None)

    return called


class Guarded(StructMeta):
    """Leaves nothing of the arguments in the frames of a constructor that raises: error reporters show the locals of each frame."""

    def __call__(cls, *args: Any, **fields: Any) -> Any:
        try:
            return cls._made(args, fields)
        except Exception as error:
            failed = error
        args = ()
        fields.clear()
        failed.__cause__ = failed.__context__ = None
        raise failed.with_traceback(None)

    def _made(cls, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        return super().__call__(*args, **fields)


def is_credential(header: str, value: str = "") -> bool:
    """Whether the header of this name, or with this value, says who is calling."""
    return _CREDENTIAL.search(header) is not None or _SCHEME.match(value) is not None


def has_credentials(address: str | None) -> bool:
    """Whether an address has a user's name or password in it."""
    found = _ADDRESS.fullmatch(address or "")
    return found is not None and bool(found["user"])


def masked_address(address: str) -> str:
    """The address as it may be shown: without user and password, query, and the parts of its path that may be a secret."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return MASK
    path = "/".join(part if _ORDINARY.fullmatch(part) else MASK for part in found["path"].split("/"))
    user, rest = f"{MASK}@" if found["user"] else "", f"{found['rest'][:1]}{MASK}" if found["rest"] else ""
    return f"{found['scheme'] or ''}{user}{found['host']}{path}{rest}"


def shown_fields(name: str, pairs: list[tuple[str, Any]]) -> str:
    """`Name(field=value, ...)`."""
    return f"{name}({', '.join(f'{field}={value!r}' for field, value in pairs)})"
