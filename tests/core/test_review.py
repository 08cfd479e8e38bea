"""Values that cannot be changed behind anybody's back, engines that take no key by mistake, and bytes that are no UTF-8."""

import copy
import pickle
from typing import Any

import pytest

import allm
from allm.plain import FrozenDict
from allm.providers.openai_chat import OpenAIChat


def test_the_payload_of_a_value_cannot_be_changed() -> None:
    payload = allm.Message("user", "Hi", metadata={"a": {"b": [1]}}).metadata
    for change in (
        lambda: payload.__setitem__("x", 1), lambda: payload.pop("a"), lambda: payload.update(x=1), lambda: payload["a"].clear(),
        lambda: payload.setdefault("x", 1), lambda: payload.__delitem__("a"), payload.popitem,
    ):  # fmt: skip
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert payload == {"a": {"b": [1]}}
    assert {**payload, "x": 1} == {"a": {"b": [1]}, "x": 1}


def test_a_frozen_payload_copies_and_pickles() -> None:
    payload = allm.ToolCallPart("c1", "f", {"a": [1, {"b": None}]}).arguments
    assert isinstance(payload, FrozenDict)
    assert copy.copy(payload) is payload
    assert copy.deepcopy(payload) is payload
    assert pickle.loads(pickle.dumps(payload)) == payload


@pytest.mark.parametrize("name", ["api_key", "keys", "key"])
def test_the_adapters_options_are_no_place_for_a_key(name: str) -> None:
    with pytest.raises(allm.ValidationError, match="adapter_opts"):
        allm.Engine("fake:x").merge_opts(**{name: "sk-1"})


def test_a_parameter_that_nobody_knows_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="options"):
        allm.Engine("fake:x", params={"temprature": 1})
    with pytest.raises(TypeError, match="temprature"):
        allm.Engine("fake:x").put_param("temprature", 1)


@pytest.mark.parametrize("url", ["http://h/v1?v=1", "http://h/v1#f", "http://user:pw@h/v1"])
def test_nothing_may_follow_the_path_of_a_base_url(url: str) -> None:
    with pytest.raises(allm.ValidationError, match="base_url"):
        allm.stream_generate(allm.Engine(adapter="openai.chat", model="m", base_url=url), "Hi")


@pytest.mark.parametrize("on_event", [5, "x"])
def test_a_callback_must_be_callable(on_event: Any) -> None:
    with pytest.raises(allm.ValidationError, match="on_event"):
        allm.stream_generate(allm.Engine("fake:x"), "Hi", on_event=on_event)


def test_the_tools_of_a_call_have_different_names() -> None:
    tool = allm.ToolSpec("f")
    with pytest.raises(allm.ValidationError, match=r"tools\[1\].name"):
        allm.stream_generate(allm.Engine("fake:x"), "Hi", tools=[tool, tool])


@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_error_answer_that_is_no_utf_8_keeps_its_status(status: int) -> None:
    error = OpenAIChat().failure(status, {}, b'{"error": {"message": "caf\xe9 closed"}}')
    assert error.status == status
    assert error.reason in ("authentication", "rate_limited", "server_error")
    assert "closed" in error.message
