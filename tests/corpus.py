"""The recorded exchanges with real providers, which live beside the checkout and are not part of it.

They are data of others and are read from `../shared/corpus` (seen from the checkout), or from the folder that
`ALLM_RECORDINGS` names: a folder `dev/` with one JSON file an exchange, and `expected_dev.jsonl` with what the vendors'
own clients make of each. A test that needs them says so with `@requires_recordings`, or takes its parameters from
`exchanges(...)`; where they are absent it is skipped with `ABSENT` as the reason, and the summary counts such tests.
"""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

ROOT = Path(__file__).resolve().parents[1]
ABSENT = "the recordings are absent"
MADE_UP = frozenset({"suspected_synthetic", "official_mock"})


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its response, and what the vendor's own client makes of the response."""

    id: str
    provider: str
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    tags: frozenset[str]
    expected: Mapping[str, Any]

    @property
    def is_recorded_truth(self) -> bool:
        """False for exchanges that somebody wrote by hand: good for parsing, no proof of what a provider sends."""
        return not self.tags & MADE_UP

    @property
    def is_stream(self) -> bool:
        return self.body.lstrip().startswith((b"data:", b"event:", b":"))

    @property
    def body(self) -> bytes:
        """The response's body as it went over the wire (byte for byte where `response["framing"]` is `verbatim`)."""
        text: str | None = self.response.get("body_text")
        if text is None:
            return json.dumps(self.response["body"]).encode()
        return text.encode("utf-8", "surrogatepass")


def folder() -> Path:
    """Where the recordings are, if they are anywhere."""
    named = os.environ.get("ALLM_RECORDINGS")
    return Path(named) if named else ROOT / ".." / "shared" / "corpus"


def present() -> bool:
    return (folder() / "expected_dev.jsonl").is_file()


requires_recordings = pytest.mark.skipif(not present(), reason=ABSENT)


@functools.cache
def expectations() -> dict[str, tuple[str, dict[str, Any]]]:
    """Exchange id -> (provider, what is expected of it); empty where the recordings are absent."""
    if not present():
        return {}
    with (folder() / "expected_dev.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["id"]: (row["provider"], row["expected"]) for row in rows}


def load(exchange_id: str) -> Exchange:
    """Read one exchange; KeyError for an id that is not in the recordings."""
    provider, expected = expectations()[exchange_id]
    read = json.loads((folder() / "dev" / f"{exchange_id}.json").read_text(encoding="utf-8"))
    return Exchange(exchange_id, provider, read["request"], read["response"], frozenset(read["tags"]), expected)


def ids(*providers: str) -> list[str]:
    """Ids of all exchanges with these providers (`openai.chat`, `anthropic.messages`...; none given: with all)."""
    return [name for name, (provider, _) in expectations().items() if not providers or provider in providers]


def exchanges(*providers: str) -> list[ParameterSet]:
    """Exchange ids as parameters of a test, which loads its own; one skipped parameter where there are none."""
    if not present():
        return [pytest.param("absent", marks=pytest.mark.skip(reason=ABSENT))]
    return [pytest.param(name, id=name) for name in ids(*providers)]
