"""Embeddings and moderation as calls: many requests of one call, in order and a few at a time, supervised as every call is."""

import asyncio
import base64
import json
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allm
from allm.actors.fleet import WIDTH
from allm.embeddings import LIMITS
from allm.events import Event
from allm.providers.fake_embeddings import vector_of
from allm.testing import FakeEmbeddings, FakeModeration, Fault, Reply, SimRequest, Simulator
from tests.runtime.support import FAST, WAIT, RawServer, Respond, answers, eventually, http, kinds

CANARY = "sk-canary-0123456789abcdef"
BATCH = {"embed_batch": 2}
Make = Callable[..., allm.Engine]
Serve = Callable[[Respond], RawServer]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GEMINI_BASE_URL", "ALLM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def host() -> Iterator[Simulator]:
    with Simulator(wires=("embeddings", "moderations", "gemini_embeddings")) as simulator:
        yield simulator


@pytest.fixture
def make(host: Simulator) -> Make:
    """Engines of a family, whose services are the simulator's; retries come soon."""

    def make(family: str = "openai", **more: Any) -> allm.Engine:
        wire = {"openai": "embeddings", "gemini": "gemini_embeddings"}[family]
        fields: dict[str, Any] = {"retry": allm.Retry(**FAST), "base_url": host.base_url(wire), **more}
        return allm.Engine(adapter=family, model="m", **fields)

    return make


def body(*vectors: Any, **more: Any) -> bytes:
    """An answer of the OpenAI wire."""
    return json.dumps({"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)], **more}).encode()


def texts_of(request: SimRequest) -> list[str]:
    given: list[str] = request.body["input"]
    return given


def embedded(way: str, engine: allm.Engine, *args: Any, **opts: Any) -> Any:
    if way == "sync":
        return allm.embed(engine, *args, **opts)
    return asyncio.run(allm.aio.embed(engine, *args, **opts))


both_ways = pytest.mark.parametrize("way", ["sync", "aio"])


# the whole way, over HTTP


@both_ways
@pytest.mark.parametrize("family", ["openai", "gemini"])
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_texts_become_vectors_in_their_order(way: str, family: str, transport: str, make: Make, runtime: allm.Runtime) -> None:
    engine = make(family, http=allm.Http(transport=transport))
    watched: list[Event] = []
    response = embedded(
        way, engine, ["one", "two", "ünï"], dimensions=5, runtime=runtime, request_id="r", api_key="k", on_event=watched.append
    )
    assert response.vectors == tuple(vector_of(text, 5) for text in ("one", "two", "ünï"))
    assert response.usage.input_tokens == 16
    assert (response.request_id, response.model) == ("r", {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001"}[family])
    assert kinds(watched) == ["RequestStarted", "MessageCompleted"]
    assert allm.from_json(allm.to_json(response)) == response


@both_ways
def test_one_text_needs_no_list(way: str, make: Make, runtime: allm.Runtime) -> None:
    assert embedded(way, make(), "one", runtime=runtime).vectors == (vector_of("one", 16),)


def test_the_model_of_the_call_wins_over_the_engines_and_this_over_the_default(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    named = make(embed_adapter="openai.embeddings:e-engine", moderation_adapter="openai.moderation:m-engine")
    for engine, model in ((make(), None), (named, None), (named, "of-call")):
        allm.embed(engine, "a", model, runtime=runtime)
        allm.moderate(engine, "a", model, runtime=runtime)
    assert [request.model for request in host.requests] == [
        "text-embedding-3-small", "omni-moderation-latest", "e-engine", "m-engine", "of-call", "of-call",
    ]  # fmt: skip


def test_provider_options_go_into_the_body(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    response = allm.embed(make(), "a", options={"encoding_format": "float", "user": "u"}, runtime=runtime)
    assert (host.requests[0].body["user"], host.requests[0].body["encoding_format"]) == ("u", "float")
    assert response.vectors[0] == pytest.approx(vector_of("a", 16))


# chunks


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 201])
def test_a_list_of_any_length_is_cut_at_the_limit(count: int, runtime: allm.Runtime) -> None:
    fake = FakeEmbeddings()
    texts = [f"t{i}" for i in range(count)]
    assert allm.embed(fake.engine, texts, runtime=runtime).vectors == tuple(map(vector_of, texts))
    assert fake.calls == -(-count // LIMITS["fake.embeddings"].texts)
    assert [text for request in fake.requests for text in request.texts] == texts


@pytest.mark.parametrize(("family", "limit"), [("openai", 2048), ("gemini", 100)])
@pytest.mark.parametrize("more", [0, 1])
def test_a_provider_gets_no_more_than_it_takes(
    family: str, limit: int, more: int, host: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    texts = [f"t{i}" for i in range(limit + more)]
    response = allm.embed(make(family), texts, dimensions=1, runtime=runtime)
    assert response.vectors == tuple(vector_of(text, 1) for text in texts)
    assert len(host.requests) == 1 + more
    assert response.usage.input_tokens == 16 * (1 + more)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30), batch=st.integers(1, 7), way=st.sampled_from(["sync", "aio"])
)
def test_any_list_in_any_chunks_keeps_its_order(texts: list[str], batch: int, way: str, runtime: allm.Runtime) -> None:
    fake = FakeEmbeddings(adapter_opts={"embed_batch": batch})
    response = embedded(way, fake.engine, texts, runtime=runtime)
    assert response.vectors == tuple(map(vector_of, texts))
    assert response.usage.input_tokens == sum(len(text.split()) for text in texts)


@both_ways
def test_chunks_that_are_answered_out_of_order_come_in_order(way: str, host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    answered: list[str] = []

    def slow_first(request: SimRequest) -> Fault:
        return Fault(slow_first_byte={"t0": 0.5, "t2": 0.25}.get(texts_of(request)[0], 0.0))

    def told(event: Event) -> None:
        if isinstance(event, allm.MessageCompleted):
            answered.append(event.response.request_id or "")

    host.respond(slow_first)
    texts = [f"t{i}" for i in range(9)]
    response = embedded(way, make(adapter_opts=BATCH), texts, runtime=runtime, request_id="r", on_event=told)
    assert response.vectors == tuple(vector_of(text, 16) for text in texts)
    assert sorted(answered) == ["r/1", "r/2", "r/3", "r/4", "r/5"]
    assert answered[0] != "r/1"
    assert len({each["provider_request_id"] for each in response.metadata["requests"]}) == 5


@both_ways
def test_a_few_requests_are_under_way_at_a_time(way: str, host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    active: list[int] = []

    def count(request: SimRequest) -> Fault:
        active.append(host.active_requests)
        return Fault(slow_first_byte=0.2)

    host.respond(count)
    embedded(way, make(adapter_opts={"embed_batch": 1}), [f"t{i}" for i in range(12)], runtime=runtime)
    assert len(active) == 12
    assert max(active) == WIDTH


def test_usage_that_nobody_told_stays_unknown_and_what_was_told_is_summed(serve: Serve, runtime: allm.Runtime) -> None:
    told = body([1.0], [1.0], usage={"prompt_tokens": 3})
    for answered, tokens in (([told], 9), ([body([1.0], [1.0])], None)):
        server = serve(answers(*[http(each, "application/json") for each in answered]))
        engine = allm.Engine("openai:m", base_url=server.url, adapter_opts=BATCH)
        usage = allm.embed(engine, ["a"] * 6, runtime=runtime).usage
        assert usage == allm.Usage(input_tokens=tokens)


# what goes wrong


@both_ways
@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(malformed_after=0), Fault(refuse=True), Fault(cut_after=20)],
    ids=["status", "malformed", "refused", "cut"],
)
def test_a_request_that_fails_is_made_again(way: str, fault: Fault, host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    watched: list[Event] = []
    host.fault(fault, fault)
    response = embedded(way, make(), ["a", "b"], runtime=runtime, on_event=watched.append)
    assert response.vectors == (vector_of("a", 16), vector_of("b", 16))
    assert [request.outcome for request in host.requests] == ["fault", "fault", "complete"]
    assert kinds(watched).count("RetryScheduled") == 2


def test_one_chunk_is_made_again_and_the_others_are_not(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    host.fault(Fault(), Fault(status=429), Fault())
    texts = [f"t{i}" for i in range(6)]
    assert allm.embed(make(adapter_opts=BATCH), texts, runtime=runtime).vectors == tuple(vector_of(text, 16) for text in texts)
    assert sorted(request.outcome for request in host.requests) == ["complete"] * 3 + ["fault"]


@both_ways
def test_a_chunk_that_fails_for_good_ends_the_others_and_the_rest_is_not_sent(
    way: str, host: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    def fail_third(request: SimRequest) -> Fault:
        return Fault(status=400, slow_first_byte=0.4) if texts_of(request) == ["t2"] else Fault(stall_after=0)

    host.respond(fail_third)
    with pytest.raises(allm.EmbeddingAdapterError) as caught:
        embedded(way, make(adapter_opts={"embed_batch": 1}), [f"t{i}" for i in range(40)], runtime=runtime, request_id="r", api_key=CANARY)
    assert (caught.value.reason, caught.value.status, caught.value.request_id) == ("invalid_request", 400, "r/3")
    assert host.wait_idle()
    assert len(host.requests) == WIDTH
    assert [request.outcome for request in host.requests].count("client closed") == WIDTH - 1
    eventually(lambda: runtime.stats()["calls"] == 0, "the calls are gone")
    assert repr(runtime.vault) == "<Vault of 0>"


def test_a_cancelled_task_ends_every_request_at_once(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    host.respond(lambda request: Fault(stall_after=0))

    async def go() -> None:
        task = asyncio.create_task(allm.aio.embed(make(adapter_opts=BATCH), [f"t{i}" for i in range(40)], runtime=runtime, api_key=CANARY))
        assert await asyncio.to_thread(host.wait_requests, WIDTH)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert host.wait_idle()
    assert [request.outcome for request in host.requests] == ["client closed"] * WIDTH
    eventually(lambda: repr(runtime.vault) == "<Vault of 0>", "no key is left")


def test_the_total_timeout_ends_a_request(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    host.fault(Fault(stall_after=0))
    opts: dict[str, Any] = {"timeouts": allm.Timeouts(total=0.2), "retry": allm.Retry.none(), "runtime": runtime}
    with pytest.raises(allm.EmbeddingAdapterError) as caught:
        allm.embed(make(), "a", **opts)
    assert (caught.value.reason, caught.value.metadata["timeout"]) == ("timeout", "total")
    assert host.wait_idle()


def test_stopping_the_runtime_ends_a_call_that_waits(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    host.respond(lambda request: Fault(stall_after=0))
    raised: list[allm.AllmError] = []

    def call() -> None:
        try:
            allm.embed(make(adapter_opts=BATCH), ["a"] * 20, runtime=runtime)
        except allm.AllmError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert host.wait_requests(WIDTH)
    runtime.stop(0)
    thread.join(WAIT)
    assert [error.reason for error in raised] == ["cancelled"]


PACKED_NAN = base64.b64encode(struct.pack("<2f", 1.0, float("nan"))).decode()


@pytest.mark.parametrize(
    "vectors",
    [[[1.0]], [[1.0], [1.0], [1.0]], [[1.0], [1.0, 2.0]], [[], []], [[1.0, 2.0], PACKED_NAN], [[1.0], "AAA"]],
    ids=["missing", "extra", "uneven", "empty", "nan", "base64"],
)
def test_an_answer_that_is_none_is_malformed(vectors: list[Any], serve: Serve, runtime: allm.Runtime) -> None:
    server = serve(answers(http(body(*vectors), "application/json")))
    engine = allm.Engine("openai:m", base_url=server.url, retry=allm.Retry.none())
    with pytest.raises(allm.EmbeddingAdapterError) as caught:
        allm.embed(engine, ["a", "b"], runtime=runtime, request_id="r")
    assert (caught.value.reason, caught.value.request_id, caught.value.info.kind) == ("malformed_response", "r", "embedding_adapter")


BAD_INPUT: list[tuple[Any, dict[str, Any], str]] = [
        (([],), {}, "texts"), (("",), {}, "text"), ((["a", ""],), {}, "texts[1]"), (("a",), {"dimensions": 0}, "dimensions"),
        (("a",), {"dimensions": True}, "dimensions"), (("a",), {"task_type": ""}, "task_type"), (("a",), {"task_type": "q"}, "task_type"),
        (("a",), {"model": 3}, "model"), (("a",), {"retry": 3}, "retry"), (("a",), {"timeouts": 3}, "timeouts"),
        (("a",), {"request_id": 3}, "request_id"), (("a",), {"on_event": 3}, "on_event"), (("a",), {"options": 3}, "options"),
]  # fmt: skip


@both_ways
@pytest.mark.parametrize(("args", "opts", "path"), BAD_INPUT)
def test_bad_input_is_refused_before_anything_is_sent(
    way: str, args: Any, opts: dict[str, Any], path: str, host: Simulator, make: Make, runtime: allm.Runtime
) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        embedded(way, make(), *args, runtime=runtime, api_key=CANARY, **opts)
    assert caught.value.metadata["path"] == path
    assert not host.requests
    assert repr(runtime.vault) == "<Vault of 0>"


@pytest.mark.parametrize("batch", [0, True, "2"])
def test_a_batch_that_is_no_count_is_refused(batch: Any, make: Make) -> None:
    with pytest.raises(allm.ValidationError, match="embed_batch"):
        allm.embed(make(adapter_opts={"embed_batch": batch}), "a")


def test_an_unknown_option_is_a_type_error_that_says_where_it_belongs(make: Make) -> None:
    calls: list[Callable[..., Any]] = [allm.embed, allm.moderate]
    for call in calls:
        with pytest.raises(TypeError, match=r"temperature.*options="):
            call(make(), "a", temperature=1)


# which adapter


def test_an_engine_without_such_models_says_what_to_set() -> None:
    for call, field in ((allm.embed, "embed_adapter='openai.embeddings'"), (allm.moderate, "moderation_adapter='openai.moderation'")):
        with pytest.raises(allm.EngineError) as caught:
            call(allm.Engine("anthropic:claude"), "a")
        assert caught.value.reason == "no_adapter"
        assert field in caught.value.message
    with pytest.raises(allm.EngineError, match="moderation_adapter="):
        allm.moderate(allm.Engine("gemini:g"), "a")


@pytest.mark.parametrize("adapter", ["openai", "openai.chat", "openai.responses"])
def test_the_adapter_follows_from_the_engines_own(adapter: str, host: Simulator, runtime: allm.Runtime) -> None:
    engine = allm.Engine(adapter=adapter, model="m", base_url=host.base_url("embeddings"))
    allm.embed(engine, "a", runtime=runtime)
    allm.moderate(engine, "a", runtime=runtime)
    assert [request.path for request in host.requests] == ["/v1/embeddings", "/v1/moderations"]


def test_an_engine_may_be_one_of_embeddings_itself(host: Simulator, runtime: allm.Runtime) -> None:
    engine = allm.Engine("openai.embeddings:of-engine", base_url=host.base_url("embeddings"))
    assert allm.embed(engine, "a", runtime=runtime).model == "of-engine"


def test_the_address_of_another_provider_is_not_used(host: Simulator, monkeypatch: pytest.MonkeyPatch, runtime: allm.Runtime) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", host.base_url("embeddings"))
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    engine = allm.Engine("anthropic:claude", base_url="http://127.0.0.1:9", embed_adapter="openai.embeddings")
    assert allm.embed(engine, "a", runtime=runtime).vectors
    assert host.requests[0].headers["authorization"] == "***"


class OwnEmbeddings:
    """An adapter of somebody else: two floats for a text, and no network."""

    name = "own.embeddings"
    provider = "own"
    default_model = None
    limit = LIMITS["fake.embeddings"]

    def request(self, engine: allm.Engine, ask: Any, base_url: str) -> Any:
        from allm.providers.adapter import Script

        return Script(((0.0, json.dumps([len(text) for text in ask.texts]).encode()),))

    def read(self, ask: Any, answer: Any) -> Any:
        return allm.Response(model=ask.model, finish_reason="stop"), [(float(size), 1.0) for size in json.loads(answer.body)]

    def failure(self, status: int, headers: Any, body: bytes) -> Any: ...


def test_an_adapter_of_ones_own_is_named_by_its_path(runtime: allm.Runtime) -> None:
    path = f"{__name__}:OwnEmbeddings"
    engine = allm.Engine("anthropic:claude", embed_adapter=f"{path}:mine")
    response = allm.embed(engine, ["a", "bb"], runtime=runtime)
    assert (response.vectors, response.model) == (((1.0, 1.0), (2.0, 1.0)), "mine")
    nameless = allm.Engine("anthropic:claude", embed_adapter=path)
    assert allm.embed(nameless, "a", model="given", runtime=runtime).model == "given"
    with pytest.raises(allm.ValidationError, match="model"):
        allm.embed(nameless, "a", runtime=runtime)


# keys


@both_ways
def test_the_key_goes_out_with_every_chunk_and_is_found_nowhere_else(way: str, serve: Serve, runtime: allm.Runtime) -> None:
    server = serve(answers(http(body([1.0], [1.0]), "application/json")))
    engine = allm.Engine("openai:m", base_url=server.url, adapter_opts=BATCH)
    watched: list[Event] = []
    response = embedded(way, engine, ["a"] * 8, runtime=runtime, api_key=CANARY, on_event=watched.append)
    assert server.header("authorization") == [f"Bearer {CANARY}"] * 4
    for thing in (response, allm.to_json(response), *watched, *map(allm.to_json, watched), *server.bodies, runtime.tree(), engine):
        assert CANARY not in repr(thing)
    eventually(lambda: repr(runtime.vault) == "<Vault of 0>", "no key is left")


@both_ways
@pytest.mark.parametrize("wrong", ["status", "input", "option"])
def test_the_key_is_in_no_frame_of_an_error(way: str, wrong: str, serve: Serve, runtime: allm.Runtime) -> None:
    echo = json.dumps({"error": {"message": f"bad key {CANARY}", "code": "invalid_api_key"}}).encode()
    server = serve(answers(http(echo, "application/json", "401 Unauthorized")))
    engine = allm.Engine("openai:m", base_url=server.url, adapter_opts=BATCH)
    given: dict[str, dict[str, Any]] = {"status": {}, "input": {"dimensions": 0}, "option": {"nonsense": 1}}
    opts: dict[str, Any] = {"api_key": "-".join(["sk", "canary", "0123456789abcdef"]), **given[wrong]}
    with pytest.raises((allm.EmbeddingAdapterError, allm.ValidationError, TypeError)) as caught:
        embedded(way, engine, ["a"] * 8, runtime=runtime, **opts)
    assert CANARY not in str(caught.value) + repr(caught.value)
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if frame.f_globals["__name__"].startswith("allm."):
            assert CANARY not in repr(frame.f_locals), frame.f_code
    eventually(lambda: repr(runtime.vault) == "<Vault of 0>", "no key is left")


# moderation


@both_ways
def test_texts_are_judged_one_by_one_and_parts_together(way: str, make: Make, runtime: allm.Runtime) -> None:
    def moderate(given: Any) -> Any:
        if way == "sync":
            return allm.moderate(make(), given, runtime=runtime, request_id="r")
        return asyncio.run(allm.aio.moderate(make(), given, runtime=runtime, request_id="r"))

    response = moderate(["a quiet day", "violence and hate"])
    assert [result.flagged for result in response.results] == [False, True]
    assert {name for name, value in response.results[1].categories.items() if value} == {"violence", "hate"}
    assert (response.flagged, response.request_id, response.model) == (True, "r", "omni-moderation-latest")
    assert allm.from_json(allm.to_json(response)) == response
    image = allm.ImagePart(allm.Image.from_url("https://example.org/a.png"))
    (result,) = moderate([allm.TextPart("so much hate"), image]).results
    assert (result.flagged, result.category_applied_input_types["hate"]) == (True, ("image", "text"))
    assert moderate("a quiet day").flagged is False


def test_a_moderation_is_made_again_and_fails_under_its_own_name(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    host.fault(Fault(status=503))
    assert allm.moderate(make(), "a", runtime=runtime).results
    host.fault(Fault(status=401))
    with pytest.raises(allm.ModerationAdapterError) as caught:
        allm.moderate(make(), "a", runtime=runtime)
    assert (caught.value.reason, caught.value.info.kind) == ("authentication", "moderation_adapter")
    image = allm.ImagePart(allm.Image.from_url("https://example.org/a.png"))
    with pytest.raises(allm.ModerationAdapterError, match="maximum of 1"):
        allm.moderate(make(), [image, image], runtime=runtime)


def test_the_reply_of_a_simulator_names_categories(host: Simulator, make: Make, runtime: allm.Runtime) -> None:
    host.reply(Reply(text="violence"))
    assert [result.flagged for result in allm.moderate(make(), ["a", "b"], runtime=runtime).results] == [True, True]


# the fakes


def test_a_fake_gives_each_text_a_vector_of_its_own_and_those_that_it_was_given(runtime: allm.Runtime) -> None:
    fake = FakeEmbeddings({"north": [0.0, 1.0]}, size=2)
    response = allm.embed(fake.engine, ["north", "south", "south"], task_type="clustering", runtime=runtime)
    assert response.vectors[0] == (0.0, 1.0)
    assert response.vectors[1] == response.vectors[2] == vector_of("south", 2)
    assert sum(number * number for number in response.vectors[1]) == pytest.approx(1)
    assert (fake.calls, fake.requests[0].task_type, fake.requests[0].model) == (1, "clustering", "fake-embedding")
    assert len(allm.embed(fake.engine, "south", dimensions=5, runtime=runtime).vectors[0]) == 5


def test_a_fake_fails_as_it_is_told(runtime: allm.Runtime) -> None:
    fake = FakeEmbeddings(errors=[("rate_limited", {"status": 429}), None, "quota_exceeded"], retry=allm.Retry(**FAST))
    with pytest.raises(allm.EmbeddingAdapterError) as caught:
        allm.embed(fake.engine, "a", runtime=runtime)
    assert (caught.value.reason, caught.value.status, caught.value.provider) == ("rate_limited", 429, "fake")
    assert allm.embed(fake.engine, "a", runtime=runtime).vectors
    with pytest.raises(allm.EmbeddingAdapterError, match="quota_exceeded"):
        allm.embed(fake.engine, "a", runtime=runtime)
    assert fake.calls == 3


def test_a_fake_counts_requests_and_not_attempts(runtime: allm.Runtime) -> None:
    watched: list[Event] = []
    fake = FakeModeration({"kill": ["violence"]}, retry_until_call=3, retry=allm.Retry(**FAST))
    response = allm.moderate(fake.engine, ["I could kill for tea", "tea"], runtime=runtime, on_event=watched.append)
    assert [result.flagged for result in response.results] == [True, False]
    assert (fake.calls, kinds(watched).count("RetryScheduled")) == (1, 2)
    assert fake.requests[0].texts == ("I could kill for tea", "tea")


def test_a_fake_engine_needs_no_settings_and_refuses_those_that_it_does_not_know(runtime: allm.Runtime) -> None:
    engine = allm.Engine("fake:any")
    assert allm.embed(engine, "a", runtime=runtime).vectors == (vector_of("a"),)
    assert not allm.moderate(engine, "a", runtime=runtime).flagged
    wrongs: list[Any] = [
        {"vectorz": {}}, 3, {"errors": ["nonsense"]}, {"errors": [["timeout", {"status": "x"}]]}, {"delay": -1}, {"size": 0},
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(allm.ValidationError, match=r"adapter_opts\.embeddings"):
            allm.embed(engine.merge_opts(embeddings=wrong), "a", runtime=runtime)


def test_many_calls_at_once_from_tasks_of_one_loop(runtime: allm.Runtime) -> None:
    fake = FakeEmbeddings(adapter_opts=BATCH, delay=0.01)

    async def go() -> list[Any]:
        return await asyncio.gather(*(allm.aio.embed(fake.engine, [f"{n}.{i}" for i in range(5)], runtime=runtime) for n in range(20)))

    for n, response in enumerate(asyncio.run(go())):
        assert response.vectors == tuple(vector_of(f"{n}.{i}") for i in range(5))
    eventually(lambda: runtime.stats()["calls"] == 0, "the calls are gone")
