"""The engine: model strings, changes that keep its id, and how it travels without a key."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import allm
from allm import Engine, EngineError, Http, Retry, Timeouts, Tool, ToolSpec, ValidationError
from allm.codec import from_json, to_json
from allm.engine import merge_tools, split_model
from allm.requests import JsonSchema
from allm.tools import spec_of

make: Any = Engine  # for what its types would not let in


def weather(city: str) -> str:
    return f"Rain in {city}"


def resolver(provider: str, context: object) -> str | None:
    return None


def brief(context: object) -> str:
    return "Be brief."


SECRETIVE: Callable[..., str] = lambda *_: "sk-very-secret"  # noqa: E731
WEATHER = Tool(name="weather", description="Tells it.", schema={"type": "object"}, handler=weather)


# Model strings


@pytest.mark.parametrize(
    ("text", "adapter", "model"),
    [
        ("openai:gpt-4.1-mini", "openai", "gpt-4.1-mini"),
        ("openai.chat:gpt-4.1-mini", "openai.chat", "gpt-4.1-mini"),
        ("openai.chat:ft:gpt-4o:org", "openai.chat", "ft:gpt-4o:org"),
        ("openai.chat:model@v2", "openai.chat", "model@v2"),
        ("gpt-4.1-mini@openai", "openai", "gpt-4.1-mini"),
        ("ft:gpt-4o:org@openai.chat", "openai.chat", "ft:gpt-4o:org"),
        ("fake:any", "fake", "any"),
        ("mine:", "mine", ""),
    ],
)
def test_a_model_string_names_adapter_and_model_in_either_order(text: str, adapter: str, model: str) -> None:
    assert split_model(text) == (adapter, model)
    engine = Engine(text)
    assert (engine.adapter, engine.model) == (adapter, model)


def test_adapter_and_model_may_be_given_apart() -> None:
    engine = Engine(adapter="openai.chat", model="a:b@c")
    assert (engine.adapter, engine.model) == ("openai.chat", "a:b@c")
    assert Engine(adapter="mine").model == ""
    with pytest.raises(TypeError, match="not both"):
        Engine("openai:gpt-4.1", adapter="openai")


@pytest.mark.parametrize("text", ["gpt-4.1-mini", "", ":x", "@openai", "x@", "x@UPPER"])
def test_a_model_string_without_an_adapter_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="engine: expected 'adapter:model' or 'model@adapter'"):
        Engine(text)


def test_an_engine_without_an_adapter_is_refused() -> None:
    for fields in ({}, {"model": "gpt-4.1"}, {"adapter": "", "model": "x"}):
        with pytest.raises(ValidationError, match=r"^engine: which adapter"):
            make(**fields)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="temprature"):
        make("fake:any", temprature=1)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"retry": 3}, "engine.retry"),
        ({"timeouts": 10}, "engine.timeouts"),
        ({"http": {}}, "engine.http"),
        ({"params": {"temperature": float("nan")}}, "engine.params.temperature"),
        ({"params": [1]}, "engine.params"),
        ({"adapter_opts": {"x": object()}}, "engine.adapter_opts.x"),
        ({"metadata": {1: 2}}, "engine.metadata"),
        ({"tools": [WEATHER, WEATHER]}, "engine.tools"),
        ({"keys": "sk-secret"}, "engine.keys"),
    ],
    ids=lambda one: one if isinstance(one, str) else "-".join(one),
)
def test_an_engine_that_makes_no_sense_is_refused_with_the_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make("fake:any", **fields)
    assert caught.value.metadata == {"path": path}
    assert "sk-secret" not in str(caught.value)


# Changes


def test_engines_have_ids_of_their_own() -> None:
    assert Engine("fake:any").id != Engine("fake:any").id
    assert Engine("fake:any", id="mine").id == "mine"


def test_a_changed_engine_is_a_new_one_with_the_same_id() -> None:
    engine = Engine("fake:a", params={"seed": 1}, context={"user": 1}, adapter_opts={"x": 1})
    before = repr(engine)
    changed = [
        engine.with_model("b"),
        engine.put_tool(WEATHER),
        engine.put_tools([WEATHER]),
        engine.put_param("top_p", 0.5),
        engine.put_context("team", 2),
        engine.merge_opts(y=2),
    ]
    assert {each.id for each in changed} == {engine.id}
    assert repr(engine) == before
    assert changed[0].model == "b"
    assert changed[1].tools == changed[2].tools == (WEATHER,)
    assert changed[3].params == {"seed": 1, "top_p": 0.5}
    assert changed[4].context == {"user": 1, "team": 2}
    assert changed[5].adapter_opts == {"x": 1, "y": 2}


def test_an_engine_is_frozen() -> None:
    engine: Any = Engine("fake:any")
    with pytest.raises(AttributeError):
        engine.model = "other"


def test_a_tool_replaces_its_namesake_in_its_place() -> None:
    manual = ToolSpec("weather", manual=True)
    other = Tool(name="time")
    assert merge_tools([WEATHER, other], [manual]) == (manual, other)
    assert Engine("fake:any", tools=[WEATHER, other]).put_tool(manual).tools == (manual, other)


def test_the_spec_of_a_tool_is_what_the_model_sees() -> None:
    spec = ToolSpec("weather", "Tells it.", {"type": "object"})
    assert WEATHER.spec == spec_of(WEATHER) == spec_of(spec) == spec


# As data


def test_an_engine_of_importable_callables_is_json_with_their_names() -> None:
    engine = Engine(
        "openai.chat:m",
        instructions=brief,
        tools=[WEATHER, ToolSpec("manual", manual=True)],
        keys=resolver,
        tool_executor="some.module:run",
        context={"user": [1]},
        retry=Retry(max_attempts=2),
        timeouts=Timeouts(total=5),
        http=Http(headers={"x-a": "b"}),
    )
    document = json.loads(to_json(engine))
    here = __name__
    assert document["instructions"] == {"type": "importable", "path": f"{here}:brief"}
    assert (document["type"], document["keys"]) == ("engine", f"{here}:resolver")
    assert document["tool_executor"] == "some.module:run"
    assert document["tools"][0]["handler"] == f"{here}:weather"
    plain = engine.to_plain()
    assert plain["context"] == {"user": [1]}
    again = from_json(to_json(engine), Engine, trusted=True)
    assert (again.id, again.retry, again.timeouts, again.http) == (engine.id, engine.retry, engine.timeouts, engine.http)
    assert json.loads(to_json(again)) == document


def test_keys_that_are_none_or_a_name_travel() -> None:
    assert Engine("fake:any").to_plain()["keys"] is None
    assert Engine("fake:any", keys=f"{__name__}:resolver").to_plain()["keys"] == f"{__name__}:resolver"


@pytest.mark.parametrize("field", ["instructions", "history", "keys", "tool_executor", "tool_result_encoder"])
def test_a_lambda_cannot_be_named_and_the_error_says_which_field(field: str) -> None:
    engine = make("fake:any", **{field: SECRETIVE})
    with pytest.raises(EngineError, match=rf"engine\.{field} holds") as caught:
        to_json(engine)
    assert caught.value.reason == "not_portable"


def test_a_handler_that_is_a_lambda_is_named_in_the_error() -> None:
    with pytest.raises(EngineError, match=r"engine\.tools\.t\.handler holds"):
        Engine("fake:any", tools=[Tool(name="t", handler=lambda: 1)]).to_plain()


def test_the_context_is_plain_data_of_the_engines_own() -> None:
    given: dict[str, Any] = {"ids": [1]}
    engine = Engine("fake:any", context=given)
    given["ids"].append(2)
    given["more"] = 1
    assert engine.context == {"ids": (1,)}
    given["db"] = object()
    with pytest.raises(ValidationError, match=r"^engine\.context\.db: object is not JSON"):
        Engine("fake:any", context=given)
    with pytest.raises(ValidationError, match=r"^engine\.context\.rate: nan"):
        engine.put_context("rate", float("nan"))
    with pytest.raises(ValidationError, match=r"^engine\.context: expected an object"):
        make("fake:any", context="x")


def test_pickle_keeps_the_whole_engine() -> None:
    engine = Engine("openai.chat:m", tools=[WEATHER], keys=resolver, params={"stop": ["a"]}, context={"o": (1,)})
    again = pickle.loads(pickle.dumps(engine))
    assert again == engine
    assert again.id == engine.id
    assert again.tools[0].handler is weather


@pytest.mark.parametrize("send", [to_json, pickle.dumps, allm.handoff.dumps], ids=["to_json", "pickle", "handoff"])
def test_an_engine_with_a_key_does_not_travel_and_the_refusal_does_not_show_it(send: Any) -> None:
    engine = Engine("openai.chat:m", keys={"openai": "sk-very-secret"})
    with pytest.raises(EngineError) as caught:
        send(engine)
    assert caught.value.reason == "holds_keys"
    assert "secret" not in str(caught.value)


def test_repr_shows_stars_for_keys_and_nothing_for_defaults() -> None:
    engine = Engine("openai.chat:m", keys={"openai": "sk-very-secret"}, id="e1")
    assert repr(engine) == "Engine(adapter='openai.chat', model='m', keys='***', id='e1')"
    assert "resolver" not in repr(engine.put_param("seed", 1))
    assert "keys='***'" in repr(Engine("fake:any", keys=SECRETIVE))
    assert "keys='***'" in repr(Engine("fake:any", keys="vault:lookup"))
    assert "params={'response_format'" in repr(Engine("fake:any", params={"response_format": "json"}))


# To another process


def test_a_lambda_and_a_closure_travel_by_handoff() -> None:
    greeting = "Hello"
    greet: Callable[[object], str] = lambda _: greeting + "!"  # noqa: E731
    add: Callable[[int, int], int] = lambda a, b: a + b  # noqa: E731
    engine = Engine(
        "fake:any", instructions=greet, tools=[Tool(name="add", handler=add)]
    )  # fmt: skip
    again = allm.handoff.loads(allm.handoff.dumps(engine))
    assert again.id == engine.id
    assert again.instructions(None) == "Hello!"
    assert again.tools[0].handler(2, 3) == 5


def test_handoff_takes_and_gives_engines_only() -> None:
    wrong: Any = "engine"
    with pytest.raises(ValidationError, match=r"expected an allm\.Engine"):
        allm.handoff.dumps(wrong)
    with pytest.raises(ValidationError, match="expected an engine"):
        allm.handoff.loads(pickle.dumps("engine"))


def test_a_response_format_may_be_a_default_parameter() -> None:
    form = JsonSchema("a", {"type": "object"})
    engine = Engine("fake:any", params={"response_format": form})
    assert from_json(to_json(engine)) == engine
    assert allm.Engine("fake:any", params={"response_format": "json"}).params["response_format"] == "json"
    with pytest.raises(ValidationError, match="response_format"):
        Engine("fake:any", params={"response_format": {"type": "object"}})


@pytest.mark.parametrize("address", [5, "", " ", b"https://a.example"])
def test_a_base_url_that_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        make("openai.chat:m", base_url=address)
    assert caught.value.metadata == {"path": "engine.base_url"}


@pytest.mark.parametrize("field", ["adapter", "model", "image_adapter", "embed_adapter", "moderation_adapter"])
def test_names_of_adapters_and_models_are_text(field: str) -> None:
    given: dict[str, Any] = {"adapter": "openai.chat", "model": "m", field: {"type": "importable", "path": "os:abort"}}
    with pytest.raises(allm.ValidationError, match="expected text, got dict"):
        Engine(**given)
