"""Image calls go the way of every call: supervised, retried, bounded in time, cancelled, their key in the vault."""

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import allm
from allm import AdapterError, Engine, EngineError, Image, ImageAdapterError, ImageRequest, ValidationError
from allm.events import Event
from allm.providers.fake_images import ONE_PIXEL
from allm.testing import FakeImages, Fault, Reply, Simulator
from tests.runtime.support import FAST, WAIT, RawServer, Respond, answers, engine_name, eventually, http, kinds

Serve = Callable[[Respond], RawServer]

PNG = Image.from_binary(ONE_PIXEL)
OTHER = b"\x89PNG\r\n\x1a\nother"
KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(wires=("images", "gemini", "messages", "chat")) as simulator:
        yield simulator


@pytest.fixture
def engine(sim: Simulator) -> Engine:
    return make(sim)


@pytest.fixture
def allowed() -> Iterator[None]:
    allm.configure(allow_private_urls=True)
    yield
    allm.configure(allow_private_urls=False)


def make(sim: Simulator, name: str = "openai:gpt-4.1-mini", wire: str = "images", **more: Any) -> Engine:
    keys = {"openai": KEY, "gemini": KEY, "anthropic": KEY}
    return Engine(name, base_url=sim.base_url(wire), **{"retry": allm.Retry(**FAST), "keys": keys, **more})


def form(sim: Simulator) -> dict[str, Any]:
    """The parts of the last form that was sent, by their names."""
    return {part["name"]: part.get("value", part.get("b64")) for part in sim.requests[-1].body["multipart"]}


# What goes out and comes back


def test_an_engine_for_texts_makes_images_with_the_models_of_its_provider(sim: Simulator, engine: Engine, runtime: allm.Runtime) -> None:
    sim.reply(Reply(images=(ONE_PIXEL, OTHER), input_tokens=7, output_tokens=30))
    got = allm.generate_image(engine, "a fox", size="1536x1024", n=2, runtime=runtime, request_id="mine")
    assert [image.data for image in got.images] == [ONE_PIXEL, OTHER]
    assert (got.usage.images, got.usage.size, got.usage.input_tokens, got.usage.output_tokens) == (2, "1536x1024", 7, 30)
    assert (got.request_id, got.model) == ("mine", "gpt-image-1")
    (request,) = sim.requests
    assert request.path == "/v1/images/generations"
    assert request.body == {"model": "gpt-image-1", "prompt": "a fox", "n": 2, "size": "1536x1024"}
    assert engine_name(runtime).startswith("openai.images ")


def test_an_edit_sends_its_images_and_mask_in_a_form(sim: Simulator, engine: Engine) -> None:
    got = allm.edit_image(engine, [PNG, Image.from_binary(OTHER)], "a hat", mask=PNG, quality="high")
    assert got.images == (PNG,)
    parts = [(part["name"], part.get("value")) for part in sim.requests[0].body["multipart"]]
    assert parts == [
        ("model", "gpt-image-1"), ("prompt", "a hat"), ("quality", "high"), ("image[]", None), ("image[]", None), ("mask", None),
    ]  # fmt: skip


def test_a_variation_and_an_address_as_the_answer(sim: Simulator, engine: Engine) -> None:
    got = allm.image_variations(engine, PNG, n=2, response_format="url", model="dall-e-2")
    assert [str(image.url).startswith("https://images.example/") for image in got.images] == [True, True]
    assert form(sim)["response_format"] == "url"


def test_the_prompt_as_the_model_rewrote_it_is_in_the_metadata(sim: Simulator, engine: Engine) -> None:
    sim.reply(Reply(text="A red fox"))
    assert allm.generate_image(engine, "a fox", model="dall-e-3").metadata["revised_prompts"] == ("A red fox",)


def test_a_gemini_model_draws_and_edits(sim: Simulator) -> None:
    gemini = make(sim, "gemini:gemini-2.5-flash", "gemini")
    assert allm.generate_image(gemini, "a fox", size="16:9").images == (PNG,)
    assert allm.edit_image(gemini, PNG, "a hat").images == (PNG,)
    assert sim.requests[0].path == "/v1beta/models/gemini-2.5-flash-image:generateContent"
    sim.reply(Reply(refusal="I will not."))
    with pytest.raises(ImageAdapterError, match="the model made no image") as caught:
        allm.generate_image(gemini, "a fox")
    assert caught.value.reason == "content_filter"


def test_every_call_is_also_a_coroutine(sim: Simulator, engine: Engine) -> None:
    async def go() -> Any:
        return await asyncio.gather(
            allm.aio.generate_image(engine, "a fox"),
            allm.aio.edit_image(engine, PNG, "a hat"),
            allm.aio.image_variations(engine, PNG, model="dall-e-2"),
        )

    assert [got.images for got in asyncio.run(go())] == [(PNG,)] * 3
    assert sorted(request.path for request in sim.requests) == ["/v1/images/edits", "/v1/images/generations", "/v1/images/variations"]


# Which adapter and model, which options


@pytest.mark.parametrize(
    ("named", "model", "sent"),
    [
        (Engine("openai:gpt-4.1-mini"), None, ("openai.images", "gpt-image-1")),
        (Engine("openai:dall-e-3"), None, ("openai.images", "dall-e-3")),
        (Engine("openai.responses:gpt-5", image_adapter="openai.images:dall-e-2"), None, ("openai.images", "dall-e-2")),
        (Engine("openai.chat:gpt-5"), "gpt-image-2", ("openai.images", "gpt-image-2")),
        (Engine("openai.images:dall-e-3"), None, ("openai.images", "dall-e-3")),
        (Engine("anthropic:claude", image_adapter="openai.images"), None, ("openai.images", "gpt-image-1")),
        (Engine("gemini:gemini-3-flash"), None, ("gemini.images", "gemini-2.5-flash-image")),
        (Engine("gemini:gemini-3-pro-image"), None, ("gemini.images", "gemini-3-pro-image")),
        (Engine("fake:any"), None, ("fake.images", "any")),
        (
            Engine("fake:any", image_adapter="allm.providers.fake_images:FakeImages:mine"),
            None,
            ("allm.providers.fake_images:FakeImages", "mine"),
        ),
    ],
)
def test_the_adapter_and_the_model_follow_from_the_engine_or_are_named(named: Engine, model: str | None, sent: tuple[str, str]) -> None:
    events: list[Event] = []
    unreachable = allm.Http(transport="tests.runtime.test_image_calls:no_transport")
    engine = Engine(adapter=named.adapter, model=named.model, image_adapter=named.image_adapter, http=unreachable, retry=allm.Retry.none())
    with suppress(ImageAdapterError, EngineError):  # it sends nothing
        allm.generate_image(engine, "a fox", model=model, api_key="k", on_event=events.append)
    (started,) = [event for event in events if isinstance(event, allm.RequestStarted)]
    assert (started.adapter, started.model) == sent


def no_transport() -> Any:
    raise EngineError("bad_http", "this test sends nothing")


@pytest.mark.parametrize("engine", [Engine("anthropic:claude"), Engine("sim:"), Engine("fake:any", image_adapter="openai.chat")])
def test_an_engine_that_makes_no_images_says_what_to_name(engine: Engine) -> None:
    with pytest.raises(EngineError, match="image_adapter=") as caught:
        allm.generate_image(engine, "a fox")
    assert caught.value.reason == "no_adapter"


def test_an_address_of_another_provider_is_not_the_images(monkeypatch: pytest.MonkeyPatch, sim: Simulator) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("images"))
    engine = Engine("anthropic:claude", base_url="http://127.0.0.1:9", image_adapter="openai.images", keys={"openai": KEY})
    assert allm.generate_image(engine, "a fox").images == (PNG,)


def test_options_win_over_the_requests_fields_and_these_over_the_engines(sim: Simulator) -> None:
    engine = make(sim, metadata={"a": 1, "b": 1})
    request = ImageRequest(
        prompt="a fox", model="dall-e-3", size="1024x1024", quality="hd", options={"user": "u"}, metadata={"b": 2, "c": 2}
    )
    got = allm.generate_image(engine, request, size="1792x1024", options={"user": "v", "x": 1}, metadata={"c": 3})
    assert got.model == "dall-e-3"
    assert sim.requests[0].body == {
        "model": "dall-e-3", "prompt": "a fox", "size": "1792x1024", "quality": "hd", "response_format": "b64_json", "user": "v", "x": 1,
    }  # fmt: skip
    allm.generate_image(engine, request, model="gpt-image-2", response_format="binary", n=1)
    assert sim.requests[1].body["model"] == "gpt-image-2"


@pytest.mark.parametrize("name", ["temperature", "tools", "seed", "wire"])
def test_an_option_that_images_have_not_is_a_type_error_that_names_options(engine: Engine, name: str) -> None:
    more: dict[str, Any] = {name: 1}
    calls: list[Callable[[], Any]] = [
        lambda: allm.generate_image(engine, "a fox", **more),
        lambda: allm.edit_image(engine, PNG, "a hat", **more),
        lambda: allm.image_variations(engine, PNG, **more),
        lambda: asyncio.run(allm.aio.generate_image(engine, "a fox", **more)),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=rf"{name}.*options="):
            call()


WRONG: list[tuple[str, Callable[[Engine], Any]]] = [
    ("prompt", lambda engine: allm.generate_image(engine, 3)),  # type: ignore[arg-type]
    ("prompt", lambda engine: allm.generate_image(engine, "")),
    ("images[0]", lambda engine: allm.edit_image(engine, "a.png", "a hat")),  # type: ignore[arg-type]
    ("images", lambda engine: allm.edit_image(engine, [], "a hat")),
    ("operation", lambda engine: allm.image_variations(engine, PNG)),
    ("size", lambda engine: allm.generate_image(engine, "a fox", size="1x1")),
    ("retry", lambda engine: allm.generate_image(engine, "a fox", retry=3)),  # type: ignore[arg-type]
    ("timeouts", lambda engine: allm.generate_image(engine, "a fox", timeouts=3)),  # type: ignore[arg-type]
    ("request_id", lambda engine: allm.generate_image(engine, "a fox", request_id=3)),  # type: ignore[arg-type]
    ("on_event", lambda engine: allm.generate_image(engine, "a fox", on_event=3)),  # type: ignore[arg-type]
    ("model", lambda engine: allm.generate_image(engine, "a fox", model=3)),  # type: ignore[arg-type]
    ("options", lambda engine: allm.generate_image(engine, "a fox", options=[3])),  # type: ignore[arg-type]
    ("engine", lambda engine: allm.generate_image("openai:m", "a fox")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("path", "call"), WRONG, ids=[f"{i}-{path}" for i, (path, _) in enumerate(WRONG)])
def test_bad_input_is_refused_before_anything_is_sent(sim: Simulator, engine: Engine, path: str, call: Callable[[Engine], Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        call(engine)
    assert caught.value.metadata["path"] == path
    assert sim.requests == ()


# Supervision


FAULTS = [
    Fault(status=503),
    Fault(status=429, retry_after=0.01),
    Fault(refuse=True),
    Fault(cut_after=30, reset=True),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_attempt_is_made_again(sim: Simulator, engine: Engine, fault: Fault) -> None:
    sim.fault(fault)
    events: list[Event] = []
    assert allm.edit_image(engine, PNG, "a hat", on_event=events.append).images == (PNG,)
    assert [request.outcome for request in sim.requests] == ["fault", "complete"]
    assert kinds(events).count("RetryScheduled") == 1
    assert kinds(events)[-2:] == ["PartCompleted", "MessageCompleted"]


def test_an_answer_that_cannot_be_read_was_paid_for_and_is_not_asked_for_again(sim: Simulator, engine: Engine) -> None:
    sim.fault(Fault(malformed_after=0))
    with pytest.raises(ImageAdapterError) as caught:
        allm.edit_image(engine, PNG, "a hat")
    assert caught.value.reason == "malformed_response"
    assert len(sim.requests) == 1


def test_when_the_attempts_are_spent_it_is_an_image_error(sim: Simulator, engine: Engine) -> None:
    sim.fault(Fault(status=503, message="busy"), times=3)
    with pytest.raises(ImageAdapterError) as caught:
        allm.generate_image(engine, "a fox", request_id="mine")
    error = caught.value
    assert isinstance(error, AdapterError)
    assert (error.reason, error.status, error.request_id, error.provider) == ("service_unavailable", 503, "mine", "openai")
    assert pickle.loads(pickle.dumps(error)).info == error.info
    assert error.__cause__ is None
    assert len(sim.requests) == 3


def test_what_no_retry_mends_is_told_at_once(sim: Simulator, engine: Engine) -> None:
    sim.fault(Fault(status=400, code="moderation_blocked"))
    with pytest.raises(ImageAdapterError) as caught:
        allm.generate_image(engine, "a fox")
    assert caught.value.reason == "content_filter"
    assert len(sim.requests) == 1


def test_the_total_time_is_bounded_and_the_first_byte_is_not(sim: Simulator, engine: Engine) -> None:
    patient = allm.Timeouts(first_event=0.05, idle=0.05, total=5)
    sim.fault(Fault(slow_first_byte=0.3))
    assert allm.generate_image(engine, "a fox", timeouts=patient).images == (PNG,)
    sim.fault(Fault(stall_after=0))
    with pytest.raises(ImageAdapterError) as caught:
        allm.generate_image(engine, "a fox", timeouts=allm.Timeouts(total=0.2), retry=allm.Retry.none())
    assert (caught.value.reason, caught.value.metadata["timeout"]) == ("timeout", "total")
    assert sim.wait_idle()
    assert sim.requests[-1].outcome == "client closed"


def test_cancelling_the_task_ends_the_request(sim: Simulator, engine: Engine) -> None:
    sim.fault(Fault(stall_after=0))

    async def go() -> None:
        task = asyncio.create_task(allm.aio.edit_image(engine, PNG, "a hat"))
        assert await asyncio.to_thread(sim.wait_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert sim.wait_idle()
    assert sim.requests[0].outcome == "client closed"


def test_stopping_the_runtime_ends_the_call(sim: Simulator, engine: Engine) -> None:
    sim.fault(Fault(stall_after=0))
    runtime = allm.Runtime()

    async def go() -> None:
        task = asyncio.create_task(allm.aio.generate_image(engine, "a fox", runtime=runtime))
        assert await asyncio.to_thread(sim.wait_requests, 1)
        await asyncio.to_thread(runtime.stop, 0)
        with pytest.raises(allm.StreamError):
            await task

    asyncio.run(go())


def test_the_key_is_in_its_header_and_nowhere_else(sim: Simulator, engine: Engine, runtime: allm.Runtime) -> None:
    events: list[Event] = []
    sim.fault(Fault(status=401, message="wrong key sk-of-this-call"))
    with pytest.raises(ImageAdapterError) as caught:
        allm.edit_image(engine, PNG, "a hat", api_key="sk-of-this-call", on_event=events.append, runtime=runtime)
    assert caught.value.message == "wrong key ***"
    shown = "".join(map(repr, events)) + repr(caught.value.info) + json.dumps(sim.requests[0].body)
    assert "sk-of-this-call" not in shown
    assert sim.requests[0].headers["authorization"] == "***"
    eventually(lambda: repr(runtime.vault) == "<Vault of 0>", "the key was dropped")


def test_a_call_that_is_refused_leaves_no_key_behind(engine: Engine, runtime: allm.Runtime) -> None:
    with pytest.raises(ValidationError):
        allm.generate_image(engine, "a fox", n=99, api_key="sk-of-this-call", runtime=runtime)
    assert repr(runtime.vault) == "<Vault of 0>"


def test_a_missing_key_is_told_before_anything_is_sent(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("images"))
    with pytest.raises(EngineError, match="no key for 'openai'"):
        allm.generate_image(Engine("openai:m"), "a fox")
    assert sim.requests == ()


def test_calls_at_the_same_time_do_not_mix(sim: Simulator, engine: Engine) -> None:
    sim.respond(lambda request: Reply(images=(OTHER + request.text.encode(),)))

    async def go() -> list[bytes]:
        got = await asyncio.gather(*(allm.aio.generate_image(engine, f"fox {i}") for i in range(20)))
        return [each.images[0].data or b"" for each in got]

    assert asyncio.run(go()) == [OTHER + f"fox {i}".encode() for i in range(20)]


def test_a_callback_may_make_calls_of_its_own() -> None:
    fake, inner = FakeImages(), list[int]()

    def call(_: Event) -> None:
        inner.append(len(allm.generate_image(fake.engine, "a cub").images))

    allm.generate_image(fake.engine, "a fox", on_event=call)
    assert set(inner) == {1}


# Images by their address


def test_an_image_by_its_address_is_fetched_once_and_sent_by_its_bytes(sim: Simulator, engine: Engine, serve: Serve, allowed: None) -> None:
    server = serve(answers(http(ONE_PIXEL, "image/png")))
    sim.fault(Fault(status=503))
    url = Image.from_url(server.url + "/a.png")
    assert allm.edit_image(engine, [url, PNG, url], "a hat", mask=url).images == (PNG,)
    assert len(server.heads) == 1
    parts = [part for part in sim.requests[-1].body["multipart"] if "b64" in part]
    assert [(part["name"], part["content_type"], part["bytes"]) for part in parts] == [("image[]", "image/png", len(ONE_PIXEL))] * 3 + [
        ("mask", "image/png", len(ONE_PIXEL))
    ]


def test_a_private_address_is_refused_and_nothing_is_sent(sim: Simulator, engine: Engine, serve: Serve) -> None:
    server = serve(answers(http(ONE_PIXEL, "image/png")))
    events: list[Event] = []
    with pytest.raises(ValidationError, match="is a private address"):
        allm.edit_image(engine, Image.from_url(server.url + "/a.png"), "a hat", on_event=events.append)
    assert (server.connections, sim.requests) == (0, ())
    assert "RetryScheduled" not in kinds(events)


def test_what_else_is_wrong_is_found_before_anything_is_fetched(engine: Engine, serve: Serve, allowed: None) -> None:
    server = serve(answers(http(ONE_PIXEL, "image/png")))
    with pytest.raises(ValidationError, match=r"^quality"):
        allm.edit_image(engine, Image.from_url(server.url), "a hat", quality="hd")
    assert server.connections == 0


def test_what_was_fetched_is_checked_against_the_model_too(sim: Simulator, engine: Engine, serve: Serve, allowed: None) -> None:
    server = serve(answers(http(b"GIF89a..", "image/gif")))
    with pytest.raises(ValidationError, match=r"images\[0\]: this model takes image/png"):
        allm.edit_image(engine, Image.from_url(server.url), "a hat")
    assert sim.requests == ()


def test_a_fetch_counts_into_the_total_time_and_is_cancelled(engine: Engine, serve: Serve, allowed: None) -> None:
    gone: list[int] = []

    def stalls(visit: Any) -> None:
        visit.read()
        visit.wait_gone()
        gone.append(visit.number)

    url = Image.from_url(serve(stalls).url)
    with pytest.raises(ImageAdapterError) as caught:
        allm.edit_image(engine, url, "a hat", timeouts=allm.Timeouts(total=0.2), retry=allm.Retry.none())
    assert caught.value.reason == "timeout"
    eventually(lambda: gone, "the connection closed")

    async def go() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await allm.aio.edit_image(engine, url, "a hat")

    asyncio.run(go())
    eventually(lambda: len(gone) == 2, "the connection closed", WAIT)


@pytest.mark.parametrize(("name", "wire"), [("anthropic:claude", "messages"), ("gemini:gemini-3-flash", "gemini")])
def test_a_text_wire_that_takes_no_such_address_gets_the_bytes(sim: Simulator, serve: Serve, allowed: None, name: str, wire: str) -> None:
    server = serve(answers(http(ONE_PIXEL, "image/png")))
    seen = allm.user(("What is it?", allm.ImagePart(Image.from_url(server.url + "/a.png"))))
    result = allm.Message("tool", (allm.ImagePart(Image.from_url(server.url + "/a.png")),), tool_call_id="c")
    asked = allm.Message("assistant", (allm.ToolCallPart("c", "look"),))
    assert allm.generate(make(sim, name, wire), [seen, asked, result]).finish_reason == "stop"
    body = json.dumps(sim.requests[0].body)
    assert body.count(PNG.to_base64()) == 2
    assert server.url not in body
    assert len(server.heads) == 1


def test_a_text_wire_that_takes_the_address_gets_it(sim: Simulator) -> None:
    url = "https://images.example/a.png"
    for name, wire in (("anthropic:claude", "messages"), ("gemini:gemini-3-flash", "gemini"), ("openai.chat:m", "chat")):
        allm.generate(make(sim, name, wire), allm.user((allm.ImagePart(Image.from_url(url)),)))
        assert url in json.dumps(sim.requests[-1].body)
