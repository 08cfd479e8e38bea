"""The wires of embeddings and moderation: what goes out is what the vendors' types allow, what was recorded is read as their clients do."""

import base64
import functools
import json
import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import allm
from allm.embeddings import LIMITS, EmbeddingRequest, EmbeddingResponse, Limit, chunks, read_texts
from allm.errors import ErrorInfo
from allm.moderation import ModerationRequest, ModerationResult, read_input
from allm.providers.gemini_embeddings import GeminiEmbeddings
from allm.providers.one_body import Answer
from allm.providers.openai_embeddings import OpenAIEmbeddings
from allm.providers.openai_moderation import OpenAIModeration
from allm.providers.registry import ONE_BODY, one_body_for
from allm.responses import Response
from tests import corpus
from tests.corpus import Exchange, requires_recordings
from tests.wire.judging import Judge, judged

ENGINE = allm.Engine("openai:m")
ORIGIN = "https://generativelanguage.googleapis.com"
PNG = b"\x89PNG\r\n\x1a\n\x00"

Texts = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=60)


def ask(*texts: str, **fields: Any) -> EmbeddingRequest:
    given: dict[str, Any] = {"model": "text-embedding-3-small", **fields}
    return EmbeddingRequest(texts=texts or ("a",), **given)


def sent(adapter: Any, asked: Any, base_url: str = "https://h/v1") -> tuple[str, Any]:
    """(url, body) of the request."""
    request = adapter.request(ENGINE, asked, base_url)
    return request.url, json.loads(request.body)


def read(adapter: Any, asked: Any, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return adapter.read(asked, Answer(data, headers, 1))


def packed(*floats: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()


def item(index: int | None, embedding: Any) -> dict[str, Any]:
    return {"object": "embedding", "embedding": embedding, **({} if index is None else {"index": index})}


# chunks


@given(Texts, st.integers(1, 20), st.none() | st.integers(1, 100))
def test_chunks_keep_every_text_in_order_and_stay_within_the_limit(texts: list[str], most: int, tokens: int | None) -> None:
    made = list(chunks(texts, Limit(most, tokens)))
    assert [text for chunk in made for text in chunk] == texts
    assert all(1 <= len(chunk) <= most for chunk in made)
    sizes = [sum(len(text.encode()) for text in chunk) for chunk in made]
    if tokens is None:
        assert len(made) == -(-len(texts) // most)
    else:
        assert all(size <= tokens or len(chunk) == 1 for size, chunk in zip(sizes, made, strict=True))


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_a_chunk_is_full_before_the_next_one_begins(count: int, sizes: list[int]) -> None:
    assert [len(chunk) for chunk in chunks(["a"] * count, LIMITS["gemini.embeddings"])] == sizes


def test_the_tokens_of_a_request_are_bounded_by_bytes_and_a_long_text_goes_alone() -> None:
    texts = ["é" * 100, "a" * 100, "a" * 400, "a", "b"]
    assert [len(chunk) for chunk in chunks(texts, Limit(10, 300))] == [2, 1, 2]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("", "text"),
        ([], "texts"),
        (["a", ""], "texts[1]"),
        (["a", 1], "texts[1]"),
        (3, "texts"),
        (b"a", "texts"),
        ({"a"}, "texts"),
        ({"a": 1}, "texts"),
        (["a", "\ud800"], "texts[1]"),
    ],
)
def test_what_is_no_text_is_refused_by_its_path(given: Any, path: str) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        read_texts(given)
    assert caught.value.metadata["path"] == path


def test_texts_may_come_from_any_iterable() -> None:
    assert read_texts(text for text in ("a", "b")) == ("a", "b")
    assert read_texts("a") == ("a",)


# what goes out


def test_openai_gets_all_texts_and_is_asked_for_packed_vectors() -> None:
    url, body = sent(OpenAIEmbeddings(), ask("a", "b", dimensions=4, options={"user": "u"}))
    assert url == "https://h/v1/embeddings"
    assert body == {
        "model": "text-embedding-3-small", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4, "user": "u",
    }  # fmt: skip
    assert sent(OpenAIEmbeddings(), ask(options={"encoding_format": "float"}))[1]["encoding_format"] == "float"


def test_gemini_gets_a_batch_that_names_the_model_and_what_it_is_for_in_each_entry() -> None:
    asked = ask("a", "b", model="gemini-embedding-001", dimensions=4, task_type="retrieval_query", options={"title": "t"})
    url, body = sent(GeminiEmbeddings(), asked, ORIGIN)
    assert url == f"{ORIGIN}/v1beta/models/gemini-embedding-001:batchEmbedContents"
    more = {"model": "models/gemini-embedding-001", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 4, "title": "t"}
    assert body == {"requests": [{"content": {"parts": [{"text": text}]}, **more} for text in "ab"]}
    assert sent(GeminiEmbeddings(), ask(model="models/m"), ORIGIN + "/v1")[0] == f"{ORIGIN}/v1/models/m:batchEmbedContents"


@pytest.mark.parametrize(
    ("adapter", "asked", "path"),
    [
        (OpenAIEmbeddings(), ask(task_type="retrieval_query"), "task_type"),
        (OpenAIEmbeddings(), ask(model="text-embedding-ada-002", dimensions=4), "dimensions"),
        (GeminiEmbeddings(), ask(model="embedding-001", dimensions=4), "dimensions"),
        (GeminiEmbeddings(), ask(model=".."), "model"),
        (OpenAIModeration(), read_input([allm.ImagePart(allm.Image.from_url("gs://b/a.png"))], "m"), "input[0].image.url"),
        (OpenAIModeration(), read_input([allm.ImagePart(allm.Image(data=PNG))], "text-moderation-latest"), "input[0]"),
    ],
)
def test_what_a_wire_or_a_model_does_not_have_is_refused_by_its_path(adapter: Any, asked: Any, path: str) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        adapter.request(ENGINE, asked, ORIGIN)
    assert caught.value.metadata["path"] == path


def test_moderation_gets_texts_as_a_list_and_parts_as_one_input() -> None:
    adapter = OpenAIModeration()
    url, body = sent(adapter, read_input("Hi", "m"))
    assert (url, body) == ("https://h/v1/moderations", {"model": "m", "input": ["Hi"]})
    assert sent(adapter, read_input(["a", "b"], "m"))[1]["input"] == ["a", "b"]
    url_part, data_part = allm.ImagePart(allm.Image.from_url("https://h/a.png")), allm.ImagePart(allm.Image(data=PNG))
    message = allm.user([allm.TextPart("Hi"), url_part])
    as_text, as_url = {"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "https://h/a.png"}}
    for together in (message, ["Hi", url_part], (allm.TextPart("Hi"), url_part)):
        assert sent(adapter, read_input(together, "m"))[1]["input"] == [as_text, as_url]
    assert sent(adapter, read_input(data_part, "m"))[1]["input"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
    ]


@pytest.mark.parametrize(
    ("given", "path"),
    [("", "input"), ([], "input"), (["a", ""], "input[1]"), (3, "input"), ([allm.TextPart("")], "input[0].text"),
     ([allm.FilePart(data=b"x")], "input[0]"), (allm.user(""), "input")],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_by_its_path(given: Any, path: str) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        read_input(given, "m")
    assert caught.value.metadata["path"] == path


@judged
def test_the_vendors_own_types_accept_what_goes_out(judge: Judge) -> None:
    image = allm.ImagePart(allm.Image(data=PNG))
    bodies: dict[str, list[Any]] = {
        "openai.embeddings": [
            sent(OpenAIEmbeddings(), asked)[1] for asked in (ask(), ask("a", "é", dimensions=8), ask(options={"user": "u"}))
        ],
        "openai.moderations": [
            sent(OpenAIModeration(), read_input(given, "omni-moderation-latest"))[1] for given in ("a", ["a", "b"], ["a", image], [image])
        ],
        "gemini.embeddings": [
            sent(GeminiEmbeddings(), asked, ORIGIN)[1]
            for asked in (ask(), ask("a", "é", dimensions=8, task_type="clustering"), ask(options={"title": "t"}))
        ],
    }
    for wire, made in bodies.items():
        assert judge.refused(wire, made) == []


# what comes back


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [2, 1, 0]])
def test_vectors_are_ordered_by_their_index_and_read_from_numbers_and_base64(order: list[int]) -> None:
    vectors = [(0.5, -0.25), (1.0, 0.0), (0.125, 8.0)]
    body = {
        "data": [item(i, packed(*vectors[i]) if i % 2 else vectors[i]) for i in order],
        "model": "m1", "id": "e1", "usage": {"prompt_tokens": 3, "total_tokens": 4},
    }  # fmt: skip
    headers = {"x-request-id": "r1", "x-ratelimit-limit-requests": "9"}
    response, found = read(OpenAIEmbeddings(), ask("a", "b", "c"), body, **headers)
    assert [struct.unpack("<2f", vector) if isinstance(vector, bytes) else vector for vector in found] == vectors
    assert (response.id, response.model, response.usage) == ("e1", "m1", allm.Usage(input_tokens=3, total_tokens=4))
    assert response.metadata == {"provider_request_id": "r1", "rate_limits": {"x-ratelimit-limit-requests": "9"}}


def test_a_host_that_numbers_nothing_and_tells_no_usage_is_understood() -> None:
    response, found = read(OpenAIEmbeddings(), ask("a", "b"), {"data": [item(None, [1, 2]), item(None, [3, 4])]})
    assert (found, response.usage) == ([(1.0, 2.0), (3.0, 4.0)], allm.Usage())


GOOD = item(0, [1.0])
WRONG: list[tuple[Any, str]] = [
    ({"data": [GOOD]}, "2 texts were sent, 1 vectors came"),
    ({"data": [GOOD, item(1, [1.0]), item(2, [1.0])]}, "2 texts were sent, 3 vectors came"),
    ({"data": [GOOD, GOOD]}, "not numbered"),
    ({"data": [GOOD, item(2, [1.0])]}, "not numbered"),
    ({"data": [GOOD, item(None, [1.0])]}, "not numbered"),
    ({"data": [GOOD, item(1, "AAA=")]}, "base64"),
    ({"data": [GOOD, item(1, "no base64")]}, "base64"),
    ({"data": [GOOD, item(1, "é")]}, "base64"),
    ({"data": [GOOD, item(1, [None])]}, "list of embeddings"),
    ({"data": [GOOD, item(1, ["1"])]}, "list of embeddings"),
    (b'{"data": [{"index": 0, "embedding": [NaN]}', "list of embeddings"),
    (b'{"data": [{"index": 0, "embedding": [1e999]}', "list of embeddings"),
    (b'{"data": [{"index": 0, "emb', "list of embeddings"),
    (b'{"data": "\xff"}', "list of embeddings"),
    ([], "list of embeddings"),
    ({}, "no data"),
]


@pytest.mark.parametrize(("body", "problem"), WRONG)
def test_an_answer_without_exactly_one_vector_for_each_text_is_malformed(body: Any, problem: str) -> None:
    error = read(OpenAIEmbeddings(), ask("a", "b"), body)
    assert isinstance(error, ErrorInfo)
    assert (error.reason, problem in error.message) == ("malformed_response", True), error


WRONG_BATCHES: list[Any] = [{}, {"embeddings": []}, {"embeddings": [{"values": [1]}]}, {"embeddings": [{}, {}]}, b"[", {"embeddings": None}]


@pytest.mark.parametrize("body", WRONG_BATCHES)
def test_a_gemini_answer_without_exactly_one_vector_for_each_text_is_malformed(body: Any) -> None:
    error = read(GeminiEmbeddings(), ask("a", "b"), body)
    assert isinstance(error, ErrorInfo)
    assert error.reason == "malformed_response"


WRONG_VERDICTS: list[Any] = [
    {},
    {"results": []},
    {"results": [{}]},
    {"results": [{"flagged": 1}]},
    b"{",
    {"results": [{"flagged": True}] * 2},
]


@pytest.mark.parametrize("body", WRONG_VERDICTS)
def test_a_moderation_without_exactly_one_result_for_each_input_is_malformed(body: Any) -> None:
    error = read(OpenAIModeration(), read_input("a", "m"), body)
    assert isinstance(error, ErrorInfo)
    assert error.reason == "malformed_response"


def test_an_error_in_an_answer_that_began_well_is_that_error() -> None:
    told = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
    for adapter, asked in ((OpenAIEmbeddings(), ask()), (OpenAIModeration(), read_input("a", "m"))):
        assert read(adapter, asked, told).reason == "rate_limited"
    assert read(GeminiEmbeddings(), ask(), {"error": {"code": 503, "status": "UNAVAILABLE"}}).reason == "service_unavailable"


def test_what_a_moderation_leaves_open_is_left_out() -> None:
    result = {
        "flagged": True, "categories": {"hate": True, "illicit": None}, "category_scores": {"hate": 1, "illicit": None},
        "category_applied_input_types": {"hate": ["text", "image"], "illicit": None},
    }  # fmt: skip
    response, (found,) = read(OpenAIModeration(), read_input("a", "m"), {"id": "i", "model": "m1", "results": [result]})
    assert (response.id, response.model) == ("i", "m1")
    types: dict[str, tuple[str, ...]] = {"hate": ("text", "image")}
    assert found == ModerationResult(
        flagged=True, categories={"hate": True}, category_scores={"hate": 1.0}, category_applied_input_types=types
    )


# plain data


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), max_size=5))
def test_vectors_round_trip_bit_by_bit(vectors: list[list[float]]) -> None:
    value = EmbeddingResponse(vectors=tuple(map(tuple, vectors)))
    again = allm.from_json(allm.to_json(value), EmbeddingResponse)
    assert again == value
    assert [[number.hex() for number in vector] for vector in again.vectors] == [[number.hex() for number in vector] for vector in vectors]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1 << 70])
def test_a_component_that_json_cannot_carry_is_refused_by_its_path(bad: Any) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        allm.to_json(EmbeddingResponse(vectors=((1.0,), (0.5, bad))))
    assert caught.value.metadata["path"] == "embedding_response.vectors[1][1]"


@pytest.mark.parametrize("bad", ["true", '"1"', "null", "[1]", "1e400", "9999999999999999999999"])
def test_a_document_with_something_else_in_a_vector_is_refused(bad: str) -> None:
    document = f'{{"v":1,"type":"embedding_response","vectors":[[0.5,{bad}]]}}'
    with pytest.raises(allm.ValidationError):
        allm.from_json(document)


def test_many_vectors_are_cheap_to_read_to_write_and_to_unpack() -> None:
    """1,000 of 1,536 take 0.15 s of the processor, 0.25 s to write and 0.4 s to read back; looked at one by one, 3 s."""
    vector = packed(*[0.123456 + i / 7 for i in range(1536)])
    body = json.dumps({"data": [item(i, vector) for i in range(1000)]}).encode()
    began = time.process_time()
    _, found = read(OpenAIEmbeddings(), ask(*["a"] * 1000), body)
    value = EmbeddingResponse(vectors=tuple(struct.unpack("<1536f", each) for each in found))
    assert allm.from_json(allm.to_json(value)) == value
    assert time.process_time() - began < 2


def test_the_repr_of_a_response_does_not_show_a_million_numbers() -> None:
    assert len(repr(EmbeddingResponse(vectors=((0.5,) * 1536,) * 100))) < 200


# recordings


@functools.cache
def recordings(provider: str) -> list[Exchange]:
    return [corpus.load(name) for name in corpus.ids(provider)]


def given_by(read: tuple[Response, Any] | ErrorInfo) -> tuple[Response, Any]:
    assert not isinstance(read, ErrorInfo), read
    return read


def answer(exchange: Exchange) -> Answer:
    headers = {name.lower(): str(value) for name, value in exchange.response["headers"].items()}
    return Answer(exchange.body, headers, 1)


@requires_recordings
@pytest.mark.parametrize(("provider", "adapter"), [("openai.embeddings", OpenAIEmbeddings()), ("gemini.embeddings", GeminiEmbeddings())])
def test_recorded_vectors_are_what_the_vendors_client_makes_of_them(provider: str, adapter: Any) -> None:
    compared = 0
    for exchange in recordings(provider):
        expected = exchange.expected
        body: dict[str, Any] = exchange.response.get("body") or {}
        if not expected["ok"] or "embedding" in body:  # embedContent, which is never sent: the batch of one is the same
            continue
        response, found = adapter.read(ask(*["a"] * expected["vectors"]), answer(exchange))
        vectors = [struct.unpack(f"<{len(each) // 4}f", each) if isinstance(each, bytes) else each for each in found]
        assert [len(vector) for vector in vectors] == expected["dims"], exchange.id
        for vector, head in zip(vectors, expected["head"], strict=True):
            assert vector[: len(head)] == pytest.approx(tuple(head), rel=1e-6), exchange.id
        if usage := expected.get("usage"):
            assert (response.usage.input_tokens, response.usage.total_tokens) == (usage["input"], usage["total"]), exchange.id
        compared += 1
    assert compared >= {"openai.embeddings": 40, "gemini.embeddings": 15}[provider]


@requires_recordings
def test_recorded_verdicts_are_what_the_vendors_client_makes_of_them() -> None:
    compared = 0
    for exchange in recordings("openai.moderations"):
        asked = ModerationRequest(texts=("a",) * len(exchange.expected["flagged"]), model="m")
        response, results = given_by(OpenAIModeration().read(asked, answer(exchange)))
        assert response.finish_reason == "stop"
        assert [result.flagged for result in results] == exchange.expected["flagged"], exchange.id
        named = [sorted(name for name, value in result.categories.items() if value) for result in results]
        assert named == exchange.expected["true"], exchange.id
        assert all(result.category_scores.keys() == result.categories.keys() for result in results), exchange.id
        compared += 1
    assert compared == 10


@requires_recordings
def test_recorded_errors_have_the_reason_that_fits() -> None:
    reasons: dict[str, str] = {}
    for exchange in recordings("openai.embeddings"):
        if not exchange.expected["ok"]:
            told = answer(exchange)
            reasons[exchange.id] = OpenAIEmbeddings().failure(exchange.response["status"], told.headers, told.body).reason
    assert sorted(reasons.values()) == ["authentication", "not_found", "not_found"]


def plain_texts(exchange: Exchange) -> tuple[str, ...] | None:
    """The texts of a recorded request; None if it has something else, or an empty one."""
    body: Any = exchange.request["body"]
    if not body:
        return None
    given: Any = body.get("input")
    if "requests" in body:
        parts = [each["content"]["parts"] for each in body["requests"]]
        given = [each[0].get("text") if len(each) == 1 else None for each in parts]
    try:
        return read_texts(given)
    except allm.ValidationError:
        return None


@requires_recordings
def test_recorded_requests_are_written_again_equal_in_meaning() -> None:
    written = 0
    for exchange in [*recordings("openai.embeddings"), *recordings("gemini.embeddings")]:
        texts = plain_texts(exchange)
        if texts is None:
            continue
        body: dict[str, Any] = exchange.request["body"]
        if exchange.provider == "openai.embeddings":
            more = {name: value for name, value in body.items() if name not in ("model", "input", "dimensions") and value is not None}
            asked = ask(*texts, model=body["model"], dimensions=body.get("dimensions"), options=more)
            made = sent(OpenAIEmbeddings(), asked)[1]
            assert {"encoding_format": "base64", **body, "input": list(texts)} == made | {
                name: None for name, value in body.items() if value is None
            }, exchange.id
        else:
            first = body["requests"][0]
            asked = ask(*texts, model=first["model"], dimensions=first.get("outputDimensionality"), task_type=first.get("taskType"))
            made = sent(GeminiEmbeddings(), asked, ORIGIN)[1]
            for each in body["requests"]:
                each["content"].pop("role", None)
            assert made["requests"] == body["requests"], exchange.id
        written += 1
    assert written > 45


# names


@pytest.mark.parametrize("name", ONE_BODY)
def test_every_built_in_adapter_has_its_name_and_a_default_model(name: str) -> None:
    adapter = one_body_for(name, "engine.embed_adapter")
    assert adapter.name == name
    assert adapter.provider == name.partition(".")[0]
    assert adapter.default_model
    assert one_body_for(name, "engine.embed_adapter") is adapter


def test_the_default_models_are_those_that_are_told() -> None:
    defaults = {name: one_body_for(name, "f").default_model for name in ONE_BODY if not name.startswith("fake")}
    assert defaults == {
        "openai.embeddings": "text-embedding-3-small", "gemini.embeddings": "gemini-embedding-001",
        "openai.moderation": "omni-moderation-latest",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["nobody.embeddings", "allm.providers.openai_chat:OpenAIChat"])
def test_what_is_no_such_adapter_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(allm.EngineError, match=r"engine\.embed_adapter.*openai\.embeddings") as caught:
        one_body_for(name, "engine.embed_adapter")
    assert caught.value.reason == "unknown_adapter"
