"""Keys for all engines of this process: `allm.keys.put("openai", "sk-...")`. Level 3 of the places where a key is looked for."""

from allm.environment import environment

__all__ = ["put", "source"]


def put(provider: str, key: str | None) -> None:
    """Use `key` for calls to the provider's own host; None forgets it."""
    environment.put(provider, key)


def source(provider: str) -> str | None:
    """Where the key would come from (`allm.keys`, `allm.configure`, a variable's name...), never the key itself."""
    found = environment.locate(provider)
    return found[0] if found is not None else None
