"""Which engine a command uses."""

from typing import Final

import allm

__all__ = ["DEFAULT", "choose"]

DEFAULT: Final = "openai.chat:gpt-4.1-mini"
"""With a key for OpenAI and no engine named."""


def choose(name: str | None) -> allm.Engine:
    """The engine called `name`, or the default one. Raises EngineError("no_engine") where there is none, saying what to do."""
    if name is None:
        if allm.keys.source("openai") is None:
            raise allm.EngineError(
                "no_engine",
                f"which model? Say --engine adapter:model (or set ALLM_ENGINE), or set OPENAI_API_KEY for {DEFAULT}; "
                "--engine sim: works at once, without a key",
            )
        name = DEFAULT
    return allm.Engine(name)
