"""The simulator's Images wire over HTTP: what it takes, what it refuses as the provider does, and how forms are read."""

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from allm.providers.fake_images import ONE_PIXEL
from allm.providers.multipart import Field, multipart
from allm.testing import Fault, Reply, Simulator
from allm.testing.wires.forms import read_form

PNG = Field("image", ONE_PIXEL, "a.png", "image/png")
PROMPT = Field("prompt", b"a hat")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(wires=("images",)) as simulator:
        yield simulator


def post(sim: Simulator, path: str, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
    client = http.client.HTTPConnection("127.0.0.1", int(sim.url.rpartition(":")[2]), timeout=10)
    try:
        client.request("POST", path, body, {"content-type": kind, "authorization": "Bearer secret"})
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


def generate(sim: Simulator, **fields: Any) -> tuple[int, Any]:
    return post(sim, "/v1/images/generations", json.dumps({"prompt": "a fox", **fields}).encode())


def submit(sim: Simulator, verb: str, *fields: Field) -> tuple[int, Any]:
    kind, body = multipart(fields)
    return post(sim, f"/v1/images/{verb}", body, kind)


def test_it_makes_as_many_images_as_are_asked_for_or_those_it_was_told(sim: Simulator) -> None:
    assert sim.base_url("images") == sim.url + "/v1"
    _, answer = generate(sim, model="gpt-image-1", n=2)
    assert [base64.b64decode(item["b64_json"]) for item in answer["data"]] == [ONE_PIXEL] * 2
    sim.reply(Reply(images=(b"told",), input_tokens=3, output_tokens=4))
    _, answer = generate(sim, model="gpt-image-1", n=2)
    assert [base64.b64decode(item["b64_json"]) for item in answer["data"]] == [b"told"]
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"], answer["usage"]["total_tokens"]) == (3, 4, 7)


def test_dalle_answers_with_addresses_unless_bytes_are_asked_for(sim: Simulator) -> None:
    assert "url" in generate(sim, model="dall-e-3")[1]["data"][0]
    assert "b64_json" in generate(sim, model="dall-e-3", response_format="b64_json")[1]["data"][0]


def test_a_form_is_seen_as_plain_data(sim: Simulator) -> None:
    status, _ = submit(sim, "edits", PROMPT, PNG, Field("n", b"2"))
    assert status == 200
    (request,) = sim.requests
    assert (request.text, request.model) == ("a hat", "dall-e-2")
    assert request.body["multipart"][0] == {"name": "prompt", "value": "a hat"}
    assert (request.body["multipart"][1]["filename"], request.body["multipart"][1]["bytes"]) == ("a.png", len(ONE_PIXEL))
    assert request.headers["authorization"] == "***"


def test_what_the_provider_would_refuse_is_refused(sim: Simulator) -> None:
    refused = [
        generate(sim, prompt=""),
        generate(sim, n="many"),
        generate(sim, model="gpt-image-1", response_format="url"),
        submit(sim, "edits", PROMPT),
        submit(sim, "edits", PNG),
        submit(sim, "variations", Field("n", b"1")),
        post(sim, "/v1/images/edits", b"--x\r\n", "multipart/form-data; boundary=x"),
    ]
    assert [status for status, _ in refused] == [400] * 7
    assert refused[2][1]["error"]["message"] == "Unknown parameter: 'response_format'."
    assert {request.outcome for request in sim.requests} == {"rejected"}


def test_its_faults_are_those_of_every_wire(sim: Simulator) -> None:
    sim.fault(Fault(status=429, retry_after=3))
    status, body = generate(sim)
    assert (status, body["error"]["type"]) == (429, "requests")
    sim.fault(Fault(malformed_after=0))
    with pytest.raises(json.JSONDecodeError):
        generate(sim)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"),
        ("multipart/form-data; boundary=x", b"before\r\n--x--"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_none(kind: str, body: bytes) -> None:
    assert read_form(kind, body) is None
