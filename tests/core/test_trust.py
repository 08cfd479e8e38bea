"""What a document may name: code, proxies and unchecked certificates only where its reader trusts it, or its module is listed."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import allm
from allm.callables import resolve
from allm.codec import from_json, register_decoder, to_json
from allm.plain import Value
from allm.tools import Tool
from tests.core.listed import brief, look

HERE = "tests.core.listed"
BASE = {"type": "engine", "adapter": "openai.chat", "model": "m"}


@pytest.fixture
def listed() -> Iterator[None]:
    allm.configure(importable=("tests.core.listed",))
    yield
    allm.configure(importable=())


def read(trusted: bool = False, **fields: Any) -> Any:
    return from_json(json.dumps({**BASE, **fields}), trusted=trusted)


CODE: dict[str, dict[str, Any]] = {
    "engine.adapter": {"adapter": "os:getcwd"},
    "engine.image_adapter": {"image_adapter": "os:abort"},
    "engine.embed_adapter": {"embed_adapter": "os:abort:model"},
    "engine.moderation_adapter": {"moderation_adapter": "os:abort"},
    "engine.history": {"history": "os:abort"},
    "engine.keys": {"keys": "os:abort"},
    "engine.tool_executor": {"tool_executor": "os:abort"},
    "engine.tool_result_encoder": {"tool_result_encoder": "os:abort"},
    "engine.params.halt_when": {"params": {"halt_when": "os:abort"}},
    "engine.params.on_tool_error": {"params": {"on_tool_error": "os:abort"}},
    "importable.path": {"instructions": {"type": "importable", "path": "os:getcwd"}},
    "http.transport": {"http": {"transport": "os:abort"}},
    "http.proxy": {"http": {"proxy": "http://127.0.0.1:1"}},
    "http.verify": {"http": {"verify": False}},
    "tools.t.handler": {"tools": [{"type": "tool", "name": "t", "schema": {"type": "object"}, "handler": "os:system"}]},
}


@pytest.mark.parametrize("field", CODE)
def test_an_engine_that_names_code_is_refused_unless_it_is_trusted(field: str) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        read(**CODE[field])
    assert caught.value.metadata == {"path": field}
    assert "trusted=True" in caught.value.message
    assert isinstance(read(trusted=True, **CODE[field]), allm.Engine)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "tool", "name": "t", "handler": "os:system"},
        {"type": "tool", "name": "t", "isolation": "process", "environment": ["AWS_*"]},
        {"type": "tool", "name": "t", "handler": {"type": "importable", "path": "os:system"}},
        {"type": "importable", "path": "os:system"},
        {"type": "http", "transport": "os:abort"},
        {"type": "http", "proxy": "http://127.0.0.1:1"},
        {"type": "http", "verify": False},
        {"type": "http", "verify": ""},
    ],
    ids=str,
)
def test_the_parts_of_an_engine_are_refused_by_themselves_too(document: dict[str, Any]) -> None:
    with pytest.raises(allm.ValidationError, match="trusted=True"):
        from_json(json.dumps(document))
    from_json(json.dumps(document), trusted=True)


class TestBox(Value, frozen=True):
    """A third party's value that holds tools."""

    __test__ = False
    tools: tuple[Tool, ...] = ()


class TestCrate:
    """A third party's value that reads itself, and an engine in it."""

    __test__ = False

    def __init__(self, engine: allm.Engine) -> None:
        self.engine = engine


def test_engines_and_tools_inside_values_of_others_are_refused_alike() -> None:
    register_decoder("test_crate", lambda data: TestCrate(allm.Engine.from_plain(data["engine"])))
    box = {"type": "test_box", "tools": [{"type": "tool", "name": "t", "handler": "os:system"}]}
    crate = {"type": "test_crate", "engine": {**BASE, "history": "os:abort"}}
    for document in (box, crate):
        with pytest.raises(allm.ValidationError, match="os:"):
            from_json(json.dumps(document))
        assert from_json(json.dumps(document), trusted=True)


def test_data_that_are_no_document_are_trusted_by_who_says_so_only() -> None:
    with pytest.raises(allm.ValidationError, match="os:abort"):
        allm.Engine.from_plain({**BASE, "history": "os:abort"})
    assert allm.Engine.from_plain({**BASE, "history": "os:abort"}, trusted=True).history == "os:abort"


def test_what_names_no_code_is_read_as_ever() -> None:
    engine = allm.Engine(
        "openai.chat:m",
        instructions="Answer: briefly",
        history=allm.keep_last(3),
        tools=[allm.ToolSpec("manual", manual=True), allm.Tool(name="also", manual=True)],
        params={"on_tool_error": "halt", "seed": 1},
        image_adapter="openai.images:gpt-image-1",
        http=allm.Http(headers={"x-team": "a"}, transport="httpx", verify="/etc/ssl/ca.pem"),
        base_url="http://127.0.0.1:1/v1",
    )
    assert from_json(to_json(engine), allm.Engine) == engine


def test_a_payload_that_looks_like_a_tool_is_a_payload() -> None:
    message = allm.Message("user", "hi", metadata={"type": "tool", "name": "t", "handler": "os:system"})
    assert from_json(to_json(allm.Thread((message,)))) == allm.Thread((message,))


def test_a_program_says_what_it_likes() -> None:
    engine = allm.Engine("openai.chat:m", history="os:abort", http=allm.Http(proxy="http://127.0.0.1:1", verify=False))
    assert engine.history == "os:abort"
    with pytest.raises(allm.ValidationError):
        from_json(to_json(engine))
    assert from_json(to_json(engine), trusted=True) == engine
    assert allm.Engine("fake:x", history="os:abort").history == "os:abort"  # reading left nothing behind


# Modules that are listed


def test_a_listed_module_may_be_named(listed: None) -> None:
    engine = read(
        tools=[{"type": "tool", "name": "t", "handler": f"{HERE}:look"}, {"type": "tool", "name": "d", "handler": f"{HERE}:Desk.look"}],
        instructions={"type": "importable", "path": f"{HERE}:brief"},
    )
    assert resolve(engine.tools[0].handler, "") is look
    assert resolve(engine.tools[1].handler, "")() == "snow in Oslo"
    assert engine.instructions == allm.importable(f"{HERE}:brief")
    for path in ("os:system", "tests.core.listed_not:look", "tests.core:listed.look"):
        with pytest.raises(allm.ValidationError):
            read(history=path)
    with pytest.raises(allm.ValidationError, match=r"http\.proxy"):
        read(http={"proxy": "http://127.0.0.1:1"})


def test_a_pattern_of_a_package_names_it_and_what_is_below() -> None:
    allm.configure(importable="mybot.*")
    try:
        for path in ("mybot:f", "mybot.tools:f", "mybot.a.b:C.f"):
            assert read(history=path).history == path
        for path in ("mybots:f", "evil.mybot.tools:f"):
            with pytest.raises(allm.ValidationError):
                read(history=path)
        allm.configure(keys={})
        assert read(history="mybot:f").history == "mybot:f"
    finally:
        allm.configure(importable=())
    wrong: Any = [7]
    with pytest.raises(allm.ValidationError, match="importable"):
        allm.configure(importable=wrong)


@pytest.mark.parametrize("name", ["os.system", "subprocess.run", "look.__globals__.clear", "look.__globals__", "__builtins__"])
def test_no_way_leads_out_of_a_listed_module(name: str, listed: None) -> None:
    try:
        engine = read(history=f"{HERE}:{name}")
    except allm.ValidationError:
        return
    with pytest.raises(allm.EngineError) as caught:
        resolve(engine.history, "engine.history")
    assert caught.value.reason == "not_importable"


@pytest.mark.parametrize("name", ["getcwd", "os", "subprocess", "desk.look"])
def test_a_listed_module_lends_what_it_defines_not_what_it_imported(name: str, listed: None) -> None:
    with pytest.raises(allm.EngineError):
        resolve(read(history=f"{HERE}:{name}").history, "engine.history")


def test_reading_imports_nothing(listed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "allm_test_never.py").write_text("raise SystemExit")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    allm.configure(importable=("allm_test_never",))
    read(history="allm_test_never:f")
    assert "allm_test_never" not in sys.modules


# Instructions


@pytest.mark.parametrize("text", ["builtins:repr", "this:d", "Answer:briefly", "os:getcwd"])
def test_instructions_are_text_whatever_they_look_like(text: str) -> None:
    fake = allm.testing.Fake([("text", "ok"), ("finish", "stop")], instructions=text, context={"db_password": "s3cret"})
    allm.generate(fake.engine, "hi")
    assert fake.requests[0].messages[0] == allm.system(text)
    again = from_json(to_json(fake.engine), allm.Engine)
    assert again.instructions == text


@pytest.mark.parametrize("given", [brief, allm.importable(f"{HERE}:brief")], ids=["function", "importable"])
def test_instructions_may_be_a_function_and_are_written_by_its_name(given: Any) -> None:
    fake = allm.testing.Fake([("text", "ok"), ("finish", "stop")], instructions=given)
    document = json.loads(to_json(fake.engine))
    assert document["instructions"] == {"type": "importable", "path": f"{HERE}:brief"}
    for engine in (fake.engine, from_json(to_json(fake.engine), allm.Engine, trusted=True)):
        allm.generate(engine, "hi")
    assert [request.messages[0] for request in fake.requests] == [allm.system("Be brief.")] * 2


def test_an_importable_is_a_value_and_stands_wherever_a_name_does() -> None:
    named = allm.importable(f"{HERE}:look")
    assert from_json(to_json(named), trusted=True) == named
    engine = allm.Engine(
        "fake:x", tools=[allm.Tool(name="t", handler=named)], history=named, keys=named, tool_executor=named, params={"halt_when": named}
    )
    path = f"{HERE}:look"
    assert (engine.tools[0].handler, engine.history, engine.keys, engine.tool_executor) == (path,) * 4
    assert engine.params["halt_when"] == path
    assert from_json(to_json(engine), trusted=True) == engine
    for wrong in ("look", "", "a b:c", 7):
        with pytest.raises(allm.ValidationError, match=r"importable\.path"):
            allm.importable(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_instructions_that_are_nothing_of_the_kind_are_refused_at_once() -> None:
    wrong: Any = 7
    with pytest.raises(allm.ValidationError, match=r"engine\.instructions"):
        allm.Engine("fake:x", instructions=wrong)


# What is no adapter


@pytest.mark.parametrize("name", ["os:getcwd", "os:environ", "builtins:object", "tests.core.listed:Desk", "subprocess:Popen"])
def test_an_object_that_is_no_adapter_is_an_engine_error(name: str) -> None:
    module, _, found = name.partition(":")
    engine = allm.Engine(adapter=f"{module}:{found}", model="m")
    for call in (allm.generate, allm.chat):
        with pytest.raises(allm.EngineError) as caught:
            call(engine, "hi")
        assert caught.value.reason == "unknown_adapter"
    assert os.getcwd()


class NeedsMore:
    """An adapter's class that cannot be made without arguments."""

    provider = "x"

    def __init__(self, must: int) -> None: ...

    def request(self) -> None: ...

    def decoder(self) -> None: ...

    def failure(self) -> None: ...


def test_an_adapter_that_cannot_be_made_is_an_engine_error() -> None:
    with pytest.raises(allm.EngineError, match="cannot be made") as caught:
        allm.generate(allm.Engine(adapter=f"{__name__}:NeedsMore", model="m"), "hi")
    assert caught.value.reason == "unknown_adapter"
