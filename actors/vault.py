"""Keys: they stay here, and messages carry handles. A key is taken out at the moment of sending and forgotten with its call."""

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from allm.callables import resolve
from allm.engine import Engine
from allm.environment import Environment, environment
from allm.errors import EngineError
from allm.plain import Value

__all__ = ["KeyContext", "KeyHandle", "Vault"]


class KeyHandle(NamedTuple):
    """Stands for a key in messages: a number, and enough of a hash to tell two keys apart in a log."""

    id: int
    fingerprint: str


class KeyContext(Value, frozen=True, kw_only=True):
    """What a key resolver is told of the call."""

    session_id: str | None = None
    request_id: str
    metadata: dict[str, Any] = {}


class Vault:
    """The keys of calls that run now. One per runtime; never pickled, never shown."""

    def __init__(self, environment: Environment = environment) -> None:
        self._keys: dict[int, str] = {}
        self._count = itertools.count(1)
        self._environment = environment

    def __repr__(self) -> str:
        return f"<Vault of {len(self._keys)}>"

    def __reduce__(self) -> Any:
        raise TypeError("a vault does not travel")

    def put(self, key: str) -> KeyHandle:
        """Keeps the key until `drop`."""
        sound = _sound(key)
        key = ""  # no frame of the traceback holds it
        if sound is None:
            raise EngineError("bad_key", _BAD_KEY)
        handle = KeyHandle(next(self._count), hashlib.sha256(sound.encode()).hexdigest()[:8])
        self._keys[handle.id] = sound
        return handle

    def take(self, handle: KeyHandle) -> str | None:
        """The key itself, for the moment of sending."""
        return self._keys.get(handle.id)

    def drop(self, handle: KeyHandle) -> None:
        """Forgets the key."""
        self._keys.pop(handle.id, None)

    def find(self, engine: Engine, provider: str, base_url: str) -> str | None:
        """Levels 2 (a mapping) to 5; None where no key is needed: a host of one's own, for which none was set."""
        keys = _resolved(engine)
        found: Any = cast("Mapping[str, str]", keys).get(provider) if isinstance(keys, Mapping) else None
        if not found:
            found = self._environment.key(provider, base_url)
        if found:
            sound = _sound(found)
            found = ""  # no frame of the traceback holds it
            if sound is None:
                raise EngineError("bad_key", f"the key for {provider!r}: {_BAD_KEY}")
            return sound
        if keys is None and base_url != self._environment.base_url(provider):
            return None
        raise EngineError(
            "missing_key",
            f"no key for {provider!r}; looked at {self._environment.places(provider)}",
            metadata={"provider": provider},
        )


_BAD_KEY = "a key is a text of printable ASCII characters"


def _sound(key: Any) -> str | None:
    """The key as it can go into a header, without the blanks and line ends that files and shells leave round it."""
    if not isinstance(key, str):
        return None
    stripped = key.strip()
    return stripped if stripped and stripped.isascii() and stripped.isprintable() else None


def resolver_of(engine: Engine) -> Any:
    """The engine's key resolver, which is user code and must not run on the loop; None where `keys` is a mapping or nothing."""
    found = _resolved(engine)
    if found is None or isinstance(found, Mapping):
        return None
    if not callable(found):
        raise EngineError("not_importable", "engine.keys: what it names is neither a mapping nor callable")
    return found


def _resolved(engine: Engine) -> Any:
    """What stands in the engine's `keys`, or what its name means. The name is not quoted: a key may stand there by mistake."""
    try:
        return resolve(engine.keys, "engine.keys")
    except EngineError:
        pass
    raise EngineError("not_importable", "engine.keys: what it names cannot be imported; expected a mapping, a callable or 'module:object'")
