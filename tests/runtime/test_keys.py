"""Keys: where they come from, as it reaches the wire, and that they are found nowhere else."""

import asyncio
import gc
import io
import json
import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

import allm
from allm.actors.scrubbing import scrubbed
from allm.events import TERMINAL, Event
from allm.supervisors import log
from allm.testing import Fault, Reply, Simulator
from tests.runtime.conftest import Make, engines
from tests.runtime.support import FAST, WAIT, RawServer, Respond, answers, chat_stream, eventually, http

CANARY = "sk-canary-0123456789abcdef"
HELLO = http(chat_stream("Hello"))

Raw = Callable[..., tuple[RawServer, allm.Engine]]
Serve = Callable[[Respond], RawServer]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ALLM_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    yield
    allm.keys.put("openai", None)
    allm.configure(keys={})


@pytest.fixture
def own(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> tuple[RawServer, Make]:
    """A server at the address that the environment names as the provider's own, and engines that go there."""
    server = serve(answers(HELLO))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")

    def make(**more: Any) -> allm.Engine:
        return engines("", "auto")(base_url=None, **more)

    return server, make


def resolve_key(provider: str, context: allm.KeyContext) -> str | None:
    return f"{provider}-of-{context.metadata['tenant']}" if "tenant" in context.metadata else None


# where they come from


def test_the_first_level_that_has_a_key_wins(
    own: tuple[RawServer, Make], runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, make = own
    config = tmp_path / "allm.toml"
    config.write_text('[keys]\nopenai = "of-file"\n')
    levels: list[tuple[str, Callable[[], None]]] = [
        ("of-environment", lambda: monkeypatch.setenv("OPENAI_API_KEY", "of-environment")),
        ("of-file", lambda: monkeypatch.setenv("ALLM_CONFIG", str(config))),
        ("of-configure", lambda: allm.configure(keys={"openai": "of-configure"})),
        ("of-put", lambda: allm.keys.put("openai", "of-put")),
    ]
    for key, set_level in levels:
        set_level()
        allm.generate(make(), "Hi", runtime=runtime)
        assert server.header("authorization")[-1] == f"Bearer {key}"
    mapped = make(keys={"openai": "of-engine", "other": "no"})
    allm.generate(mapped, "Hi", runtime=runtime)
    allm.generate(mapped, "Hi", runtime=runtime, api_key="of-call")
    allm.generate(make(keys={"other": "no"}), "Hi", runtime=runtime)
    assert server.header("authorization")[-3:] == ["Bearer of-engine", "Bearer of-call", "Bearer of-put"]


@pytest.mark.parametrize("way", ["generate", "stream", "aio", "json"])
def test_the_key_of_the_call_goes_out_with_every_way_to_make_it(way: str, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(HELLO))
    opts: dict[str, Any] = {"runtime": runtime, "api_key": CANARY}
    if way == "generate":
        allm.generate(engine, "Hi", **opts)
    elif way == "stream":
        list(allm.stream_generate(engine, "Hi", **opts))
    elif way == "aio":
        asyncio.run(allm.aio.generate(engine, "Hi", **opts))
    else:
        allm.generate(engine, "Hi", wire="json", **opts)
    assert server.header("authorization") == [f"Bearer {CANARY}"]
    assert all(CANARY not in body.decode() for body in server.bodies)


def test_a_resolver_is_asked_at_each_attempt_off_the_loop_and_told_of_the_call(raw: Raw, runtime: allm.Runtime) -> None:
    asked: list[tuple[str, allm.KeyContext, threading.Thread]] = []

    def resolver(provider: str, context: allm.KeyContext) -> str:
        asked.append((provider, context, threading.current_thread()))
        return f"key-{len(asked)}"

    server, engine = raw(answers(http(b"", status="503 Busy"), http(b"", status="503 Busy"), HELLO), keys=resolver, metadata={"a": 1})
    allm.generate(engine, allm.request([allm.user("Hi")], metadata={"tenant": "x"}), runtime=runtime, request_id="req-1")
    assert server.header("authorization") == ["Bearer key-1", "Bearer key-2", "Bearer key-3"]
    for provider, context, thread in asked:
        assert (provider, context) == ("openai", allm.KeyContext(request_id="req-1", metadata={"a": 1, "tenant": "x"}))
        assert thread.name.startswith("allm-keys")
    assert repr(runtime.vault) == "<Vault of 0>"


def test_a_slow_resolver_holds_up_its_own_call_only(raw: Raw, runtime: allm.Runtime) -> None:
    go_on, asked = threading.Event(), threading.Event()

    def resolver(provider: str, context: allm.KeyContext) -> str:
        asked.set()
        go_on.wait(WAIT)
        return "late"

    server, engine = raw(answers(HELLO), keys=resolver)
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    thread = threading.Thread(target=stream.response)
    thread.start()
    assert asked.wait(WAIT)
    allm.generate(engine, "Hi", runtime=runtime, api_key="quick")
    assert server.header("authorization") == ["Bearer quick"]
    stream.cancel()
    thread.join(WAIT)
    assert stream.response().finish_reason == "cancelled"
    go_on.set()
    assert server.header("authorization") == ["Bearer quick"]


def test_a_resolver_may_be_named_by_its_path_and_none_goes_on_to_the_next_level(
    own: tuple[RawServer, Make], runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, make = own
    engine = make(keys=f"{__name__}:resolve_key")
    allm.generate(engine, allm.request([allm.user("Hi")], metadata={"tenant": "ann"}), runtime=runtime)
    monkeypatch.setenv("OPENAI_API_KEY", "of-environment")
    allm.generate(engine, "Hi", runtime=runtime)
    assert server.header("authorization") == ["Bearer openai-of-ann", "Bearer of-environment"]


def broken_resolver(provider: str, context: allm.KeyContext) -> str:
    raise LookupError("no such tenant")


def leaving_resolver(provider: str, context: allm.KeyContext) -> str:
    raise SystemExit


def odd_resolver(provider: str, context: allm.KeyContext) -> Any:
    return "two\nlines"


async def async_resolver(provider: str, context: allm.KeyContext) -> str:
    return CANARY


@pytest.mark.parametrize(
    ("resolver", "reason", "text"),
    [
        (broken_resolver, "resolver_failed", "LookupError: no such tenant"),
        (leaving_resolver, "resolver_failed", "SystemExit"),
        (odd_resolver, "bad_key", "printable"),
        (async_resolver, "bad_key", "async function"),
        ("nowhere.at_all:resolver", "not_importable", "expected a mapping, a callable or 'module:object'"),
    ],
)
@pytest.mark.parametrize("way", ["fold", "stream"])
def test_a_resolver_that_fails_stops_the_call(way: str, resolver: Any, reason: str, text: str, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(HELLO), keys=resolver)
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    with pytest.raises(allm.EngineError) as raised:
        stream.response() if way == "fold" else list(stream)
    assert raised.value.reason == reason
    assert text in raised.value.message
    assert not server.heads


def test_a_missing_key_names_the_provider_and_the_places_and_nothing_is_sent(own: tuple[RawServer, Make], runtime: allm.Runtime) -> None:
    server, make = own
    for engine in (make(), make(keys={"other": "key"}), make(keys=resolve_key)):
        with pytest.raises(allm.EngineError) as raised:
            allm.generate(engine, "Hi", runtime=runtime)
        assert raised.value.reason == "missing_key"
        for place in ("'openai'", "api_key=", "keys=", "allm.keys.put", "ALLM_CONFIG", "OPENAI_API_KEY"):
            assert place in raised.value.message
    assert not server.heads


def test_a_foreign_address_gets_no_key_but_its_own(raw: Raw, runtime: allm.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    allm.keys.put("openai", CANARY)
    allm.configure(keys={"openai": CANARY})
    server, engine = raw(answers(HELLO))
    allm.generate(engine, "Hi", runtime=runtime)
    allm.generate(engine, "Hi", runtime=runtime, api_key="sk-theirs")
    assert server.header("authorization") == [None, "Bearer sk-theirs"]


@pytest.mark.parametrize("key", ["", "   ", "two\r\nlines", 7])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(key: Any, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(HELLO))
    with pytest.raises(allm.EngineError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, api_key=key)
    assert raised.value.reason == "bad_key"
    assert not server.heads


# where they are not


def canary(provider: str, context: allm.KeyContext) -> str:
    return CANARY


def no_canary_in(thing: object, what: str) -> None:
    """Not in its texts, not in its pickle."""
    for shown in (repr(thing), str(thing), pickle.dumps(thing).decode("latin-1")):
        assert CANARY not in shown, f"{what}: {shown[:200]}"


def reachable(root: object, most: int = 20_000) -> Iterator[object]:
    """What can be reached from an exception: arguments, attributes, causes; not the frames, whose locals are looked at by themselves."""
    todo, known = [root], set[int]()
    while todo and len(known) < most:
        thing = todo.pop()
        if id(thing) in known or isinstance(thing, type):
            continue
        known.add(id(thing))
        yield thing
        if isinstance(thing, BaseException):
            todo += [thing.args, vars(thing), thing.__cause__, thing.__context__]
        elif not isinstance(thing, str | bytes | int | float) and type(thing).__name__ not in ("module", "function", "frame"):
            todo += gc.get_referents(thing)


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """All that is logged, at the finest level, by the standard library's loggers and by structlog."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(text))  # pyright: ignore[reportArgumentType]
    yield text
    structlog.reset_defaults()
    root.removeHandler(handler)
    root.setLevel(level)


FAULTS = {
    "server error": Fault(status=500),
    "bad key": Fault(status=401, message=f"Incorrect API key provided: {CANARY}. You can find it at..."),
    "quota": Fault(status=429, code="insufficient_quota"),
    "refused": Fault(refuse=True),
    "reset": Fault(cut_after=1_000, reset=True),
    "truncated": Fault(end_after=3),
    "error in the stream": Fault(error_after=3, message=f"bad key {CANARY}"),
    "malformed": Fault(malformed_after=3),
    "none": Fault(),
}


def called(way: str, engine: allm.Engine, watched: list[Event], runtime: allm.Runtime) -> list[Any]:
    """What a caller gets to see; a raised error included."""
    seen: list[Any] = []
    opts: dict[str, Any] = {"runtime": runtime, "on_event": watched.append}
    if engine.keys is None:
        opts["api_key"] = CANARY
    try:
        if way == "generate":
            seen.append(allm.generate(engine, "Hi", **opts))
        elif way == "aio":
            seen.append(asyncio.run(allm.aio.generate(engine, "Hi", **opts)))
        else:
            stream = allm.stream_generate(engine, "Hi", **opts)
            assert CANARY not in repr(stream)
            seen.extend(stream)
            seen.append(stream.response())
    except allm.AllmError as error:
        seen.append(error)
    return seen


@pytest.mark.parametrize("level", ["call", "engine", "resolver"])
@pytest.mark.parametrize("way", ["generate", "stream", "aio"])
def test_the_key_is_nowhere(way: str, level: str, sim: Simulator, make: Make, runtime: allm.Runtime, logs: io.StringIO) -> None:
    sources: dict[str, Any] = {"call": None, "engine": {"openai": CANARY}, "resolver": canary}
    keys = sources[level]
    engine = make(keys=keys, retry=allm.Retry(max_attempts=2, **FAST))
    assert CANARY not in repr(engine)
    for name, fault in FAULTS.items():
        sim.reset()
        sim.reply(*[Reply(text="Hello there, my friend.")] * 2)
        sim.fault(fault, times=2)
        watched: list[Event] = []
        seen = called(way, engine, watched, runtime)
        eventually(partial(ended, watched), "the end is told")
        assert sim.requests[0].headers["authorization"] == "***"  # it was sent
        for thing in [*seen, *watched]:
            no_canary_in(thing, name)
            if isinstance(thing, allm.AllmError):
                nowhere_in(thing, name)
            else:
                assert CANARY.encode() not in allm.to_json(thing), name
        for told in (runtime.tree(), runtime.stats(), repr(runtime)):
            assert CANARY not in json.dumps(told), name
        eventually(lambda: repr(runtime.vault) == "<Vault of 0>", f"{name}: the key is forgotten")
    assert log.flush(10)
    assert CANARY not in logs.getvalue()


def ended(watched: list[Event]) -> bool:
    return bool(watched) and isinstance(watched[-1], TERMINAL)


def nowhere_in(error: allm.AllmError, what: str) -> None:
    assert error.__cause__ is None, what
    for thing in reachable(error):
        if isinstance(thing, str | bytes):
            text = thing if isinstance(thing, str) else thing.decode("latin-1")
            assert CANARY not in text, f"{what}: reachable from the exception"
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in shown.stack:
        if frame.filename != __file__:
            assert CANARY not in str(frame.locals), f"{what}: in the locals of {frame.name}"


def test_an_engine_that_holds_keys_does_not_travel(fast: Make) -> None:
    engine = fast(keys={"openai": CANARY})
    for send in (allm.to_json, pickle.dumps, allm.handoff.dumps):
        with pytest.raises(allm.EngineError) as raised:
            send(engine)
        assert raised.value.reason == "holds_keys"
        assert CANARY not in str(raised.value)


def test_the_vault_does_not_travel_and_shows_nothing(runtime: allm.Runtime) -> None:
    handle = runtime.vault.put(CANARY)
    assert CANARY not in repr(handle)
    assert CANARY not in repr(runtime.vault)
    with pytest.raises(TypeError):
        pickle.dumps(runtime.vault)
    runtime.vault.drop(handle)
    assert runtime.vault.take(handle) is None


@pytest.mark.parametrize("where", ["message", "cut in its midst", "page", "type", "deep"])
def test_a_key_that_the_server_echoes_is_struck_out(where: str, raw: Raw, runtime: allm.Runtime) -> None:
    error: dict[str, Any] = {"message": "no", "type": "x"}
    if where == "page":
        body = f"<html>Who is {CANARY}?</html>".encode()
    elif where == "cut in its midst":  # an error page is shown by its first 500 bytes
        body = b"x" * 490 + CANARY.encode() + b" is no key"
    elif where == "deep":
        body = f'{"[" * 480}"{CANARY}"{"]" * 480}'.encode()
    else:
        error[where] = f"the key {CANARY} is not known"
        body = json.dumps({"error": error}).encode()
    _, engine = raw(answers(http(body, "application/json", "401 Unauthorized")))
    with pytest.raises(allm.AdapterError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, api_key=CANARY)
    assert raised.value.reason == "authentication"
    assert CANARY[:10] not in repr(raised.value.info)
    assert "***" in repr(raised.value.info)


@pytest.mark.parametrize(
    ("key", "message", "param"),
    [
        ("e", "The model 'llama' does not exist", "model"),
        ("llam", "The model 'llama' does not exist", "model"),
        ("llama", "The model '***' does not exist", "model"),
        ("error", "The model 'llama' does not exist", "model"),
        ("message", "The model 'llama' does not exist", "model"),
        ("model", "The *** 'llama' does not exist", "***"),
    ],
)
def test_a_key_that_is_an_ordinary_word_spoils_no_error(key: str, message: str, param: str, raw: Raw, runtime: allm.Runtime) -> None:
    error = {"message": "The model 'llama' does not exist", "type": "invalid_request_error", "param": "model"}
    _, engine = raw(answers(http(json.dumps({"error": error}).encode(), "application/json", "404 Not Found")))
    with pytest.raises(allm.AdapterError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, api_key=key)
    info = raised.value.info
    assert (info.reason, info.message) == ("not_found", message)
    assert info.metadata == {"type": "invalid_request_error", "param": param}


def test_an_encoding_that_is_the_key_is_not_quoted(raw: Raw, runtime: allm.Runtime) -> None:
    for status in ("200 OK", "500 Sorry"):
        _, engine = raw(answers(http(b"x", "application/json", status, f"content-encoding: {CANARY}")))
        with pytest.raises(allm.AdapterError) as raised:
            allm.generate(engine, "Hi", runtime=runtime, api_key=CANARY, retry=allm.Retry.none())
        assert CANARY not in repr(raised.value.info)
        assert "which was not asked for" in raised.value.message


def _image(engine: allm.Engine, *, request: Any = "a cat", **opts: Any) -> object:
    return allm.generate_image(engine, request, **opts)


call: Any = allm.generate
loop: Any = allm.chat
vectors: Any = partial(allm.embed, text_or_texts="Hi")
many: Any = partial(allm.map, requests=["Hi"])

WRONG_CALLS: dict[str, Callable[[allm.Engine, allm.Runtime], object]] = {
    "a runtime that is none": lambda engine, _: call(engine, runtime="mine", api_key=CANARY),
    "a runtime that is none, of a chat": lambda engine, _: loop(engine, runtime="mine", api_key=CANARY),
    "a runtime that is none, of an image": lambda engine, _: _image(engine, runtime="mine", api_key=CANARY),
    "a runtime that is none, of vectors": lambda engine, _: vectors(engine, runtime="mine", api_key=CANARY),
    "a runtime that is none, of many calls": lambda engine, _: many(engine, runtime="mine", api_key=CANARY),
    "a prompt that is none": lambda engine, runtime: _image(engine, request=7, runtime=runtime, api_key=CANARY),
    "a number of calls that is none": lambda engine, runtime: many(engine, concurrency="x", runtime=runtime, api_key=CANARY),
    "many calls with an option that is none": lambda engine, runtime: many(engine, nope=1, runtime=runtime, api_key=CANARY),
    "an option of another name": lambda engine, runtime: call(engine, runtime=runtime, apikey=CANARY),
    "an engine's option": lambda engine, runtime: loop(engine, runtime=runtime, keys={"openai": CANARY}),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_the_frames_of_a_call_that_is_refused_hold_no_key(case: str, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(HELLO))
    with pytest.raises((allm.ValidationError, TypeError)) as raised:
        WRONG_CALLS[case](engine, runtime)
    error: BaseException | None = raised.value
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                assert CANARY not in repr(frame.f_locals), frame.f_code
        error = error.__cause__ or error.__context__
    assert not server.heads
    assert repr(runtime.vault) == "<Vault of 0>"


def test_many_calls_that_nobody_makes_leave_no_key_behind(raw: Raw, runtime: allm.Runtime) -> None:
    _, engine = raw(answers(HELLO))
    flow = allm.map(engine, ["Hi"], runtime=runtime, api_key=CANARY)
    assert repr(runtime.vault) == "<Vault of 1>"
    del flow
    assert repr(runtime.vault) == "<Vault of 0>"


def test_a_text_of_our_own_is_shown_whole(raw: Raw, runtime: allm.Runtime) -> None:
    _, engine = raw(answers(http(b"", "text/event-stream")))
    with pytest.raises(allm.AdapterError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, api_key="stream", retry=allm.Retry.none())
    assert raised.value.message == "the stream ended without the provider's end marker"


def test_a_key_that_an_adapter_tells_deep_in_its_error_is_struck_out() -> None:
    told = {"answer": {"given": ["this:", CANARY, 7], CANARY: None}}
    error = scrubbed(allm.ErrorInfo("adapter", "authentication", f"{CANARY} is wrong", metadata=told), CANARY)
    assert error.message == "*** is wrong"
    assert error.metadata == {"answer": {"given": ("this:", "***", 7), "***": None}}


def test_keys_are_forgotten_whatever_becomes_of_the_stream(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Reply(text="word " * 200, delay=0.02))
    never_started = allm.stream_generate(fast(), "Hi", runtime=runtime, api_key=CANARY)
    assert repr(runtime.vault) == "<Vault of 1>"
    del never_started
    assert repr(runtime.vault) == "<Vault of 0>"
    left = iter(allm.stream_generate(fast(), "Hi", runtime=runtime, api_key=CANARY))
    next(left)
    del left
    eventually(lambda: repr(runtime.vault) == "<Vault of 0>", "forgotten")
    with pytest.raises(TypeError):
        allm.generate(fast(), "Hi", runtime=runtime, api_key=CANARY, nonsense=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert repr(runtime.vault) == "<Vault of 0>"


def test_a_call_whose_key_was_given_up_is_never_sent_without_one(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(HELLO))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime, api_key=CANARY)
    runtime.forget(stream._plan)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(allm.EngineError) as raised:
        stream.response()
    assert raised.value.reason == "missing_key"
    assert not server.heads
