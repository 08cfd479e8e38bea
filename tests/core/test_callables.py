"""Callables by name."""

import functools
from typing import Any

import pytest

from allm import EngineError
from allm.callables import path_of, resolve, resolve_callable

NUMBER = 5


class Holder:
    @staticmethod
    def inner() -> int:
        return 1

    def method(self) -> int:
        return 2


@pytest.mark.parametrize("target", [Holder, Holder.inner, functools.reduce, len, path_of], ids=lambda one: one.__qualname__)
def test_a_name_leads_back_to_what_was_named(target: Any) -> None:
    assert resolve(path_of(target, "f"), "f") is target


def test_a_name_is_its_own_path_and_an_object_resolves_to_itself() -> None:
    assert path_of("a.b:c", "f") == "a.b:c"
    assert resolve(NUMBER, "f") == NUMBER
    assert resolve(f"{__name__}:NUMBER", "f") == 5


@pytest.mark.parametrize(
    "target", [lambda: 1, Holder().method, functools.partial(len), Holder()], ids=["lambda", "method", "partial", "object"]
)
def test_what_cannot_be_imported_by_name_has_none(target: Any) -> None:
    with pytest.raises(EngineError, match=r"engine\.x holds") as caught:
        path_of(target, "engine.x")
    assert caught.value.reason == "not_portable"


@pytest.mark.parametrize("path", ["no.such.module:f", "json:nothing", "json", "json:", ":f", ".json:f", "json:loads.nothing", ""])
def test_a_name_that_leads_nowhere_is_an_engine_error(path: str) -> None:
    with pytest.raises(EngineError, match=r"engine\.x: ") as caught:
        resolve(path, "engine.x")
    assert caught.value.reason == "not_importable"


def test_what_must_be_callable_is_checked() -> None:
    assert resolve_callable("json:loads", "f")("1") == 1
    with pytest.raises(EngineError, match="is not callable"):
        resolve_callable(f"{__name__}:NUMBER", "f")
