"""Adapters by name: built in, registered by other packages, or by their own path."""

import importlib.metadata
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from allm import EngineError
from allm.engine import BUILT_IN as NAMES
from allm.providers.fake import Fake
from allm.providers.openai_chat import OpenAIChat
from allm.providers.registry import BUILT_IN, GROUP, adapter_for


class Mine(Fake):
    """A third party's."""


INSTANCE: Any = Mine()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an adapter that another package registers."""
    point = importlib.metadata.EntryPoint("mine", f"{__name__}:Mine", GROUP)

    def entry_points(group: str, name: str | None = None) -> list[importlib.metadata.EntryPoint]:
        return [point] if group == GROUP and name in (None, "mine") else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    yield "mine"
    vars(sys.modules[adapter_for.__module__])["_made"].pop("mine", None)


@pytest.mark.parametrize("name", sorted({*BUILT_IN, *NAMES}))
def test_every_built_in_adapter_can_be_made_and_is_made_once(name: str) -> None:
    made = adapter_for(name)
    assert made is adapter_for(name)
    assert made.provider


def test_the_chat_wire_has_its_name() -> None:
    assert isinstance(adapter_for("openai.chat"), OpenAIChat)


def test_an_adapter_may_be_named_by_its_path_as_a_class_or_an_object() -> None:
    assert isinstance(adapter_for(f"{__name__}:Mine"), Mine)
    assert adapter_for(f"{__name__}:INSTANCE") is INSTANCE


def test_another_package_may_register_an_adapter(registered: str) -> None:
    assert type(adapter_for(registered)).__name__ == "Mine"


def test_an_unknown_name_is_an_engine_error_that_tells_the_known_ones(registered: str) -> None:
    with pytest.raises(EngineError, match=r"no adapter 'nobody'; known are .*fake, .*mine, .*openai\.chat") as caught:
        adapter_for("nobody")
    assert caught.value.reason == "unknown_adapter"


def test_a_path_that_leads_nowhere_is_an_engine_error() -> None:
    with pytest.raises(EngineError) as caught:
        adapter_for("no.such.module:Adapter")
    assert caught.value.reason == "not_importable"
