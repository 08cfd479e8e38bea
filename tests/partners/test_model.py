"""Real tokens: llama.cpp's server with a small model, on three wires. It writes what it wants about as fast as one reads."""

import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import allm
from tests.partners.servers import ABSENT, free_port, model_weights, partners_python, serving

SERVERS = Path(__file__).resolve().parents[3] / "shared" / "servers"
KEY = "test-key"
PATHS = {"openai.chat": "/v1", "openai.responses": "/v1", "anthropic": ""}
NEXT = dict(zip(PATHS, [*list(PATHS)[1:], "openai.chat"], strict=True))
CAPITAL = "What is the capital of France?"
WEATHER = allm.ToolSpec(
    "get_weather", "The weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)

pytestmark = [pytest.mark.alone, pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(180)]


def script(name: str) -> Path:
    path = SERVERS / name
    if not path.exists():
        pytest.skip(f"{ABSENT} (no {name} in ../shared/servers)")
    return path


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A projector for images with random weights: the model is told of them, and understands nothing."""
    path = tmp_path_factory.mktemp("eyes") / "mmproj.gguf"
    subprocess.run([partners_python(), script("make_mmproj.py"), path], check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def server(eyes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = str(free_port())
    settings = {"MODEL": model_weights(), "MMPROJ": eyes, "TEMPLATE": script("chatml_tools.jinja"), "PORT": port, "API_KEY": KEY}
    environment = {name: str(value) for name, value in settings.items()} | {"SLOTS": "2", "CTX": "4096", "THREADS": "1"}
    command = [str(partners_python()), str(script("llama_server.py"))]
    with serving(command, f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("llama") / "log", environment) as url:
        yield url


@pytest.fixture
def runtime() -> Iterator[allm.Runtime]:
    with allm.Runtime() as runtime:
        yield runtime


@pytest.fixture(params=PATHS)
def engine(server: str, request: pytest.FixtureRequest) -> allm.Engine:
    return engine_of(server, request.param)


def engine_of(server: str, wire: str) -> allm.Engine:
    timeouts = allm.Timeouts(first_event=60, idle=60)
    params = {"temperature": 0.0, "max_tokens": 10}
    return allm.Engine(adapter=wire, model="smollm2", base_url=server + PATHS[wire], params=params, timeouts=timeouts)


def ask(engine: allm.Engine, request: Any, runtime: allm.Runtime, **opts: Any) -> allm.Response:
    given: dict[str, Any] = {"api_key": KEY, **opts}
    return allm.generate(engine, request, **given, runtime=runtime).raise_for_error()


def test_the_stream_its_fold_and_one_body_say_the_same(engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, CAPITAL, api_key=KEY, runtime=runtime)
    events = list(stream)
    assert sum(isinstance(event, allm.TextDelta) for event in events) > 3, "this is no stream of tokens"
    assert "Paris" in allm.text(events)
    streamed, whole = stream.response(), ask(engine, CAPITAL, runtime, wire="json")
    assert allm.fold(events) == streamed
    assert (whole.text, whole.finish_reason) == (streamed.text, streamed.finish_reason) == (allm.text(events), "stop")
    assert whole.usage.input_tokens == streamed.usage.input_tokens
    assert whole.usage.output_tokens == streamed.usage.output_tokens
    assert streamed.usage.output_tokens


def test_the_limit_of_tokens_ends_it(engine: allm.Engine, runtime: allm.Runtime) -> None:
    response = ask(engine, "Count to fifty.", runtime, max_tokens=4)
    # On the Responses wire this server says `completed` here, too.
    assert response.finish_reason == ("stop" if engine.adapter == "openai.responses" else "length")
    assert response.usage.output_tokens == 4


def test_a_cancelled_answer_keeps_its_words_and_gives_the_model_back(engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, "Tell me a long story of the sea.", api_key=KEY, max_tokens=900, runtime=runtime)
    pieces: list[str] = []
    for piece in stream.text_deltas():
        pieces.append(piece)
        if len(pieces) == 3:
            stream.cancel()
    response = stream.response()
    assert response.finish_reason == "cancelled"
    assert response.text == "".join(pieces)
    assert "Paris" in ask(engine, CAPITAL, runtime).text


def test_a_tool_is_called_and_its_result_is_read_on_the_next_wire(engine: allm.Engine, server: str, runtime: allm.Runtime) -> None:
    asked = allm.request([allm.user("Use the tool for Paris.")], tools=(WEATHER,), tool_choice="required")
    called = ask(engine, asked, runtime, max_tokens=40)
    assert called.finish_reason == "tool_calls"
    (call,) = called.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})
    thread = [*asked.messages, called.message, allm.tool_result(call.id, "Heavy rain, 7 degrees.")]
    answer = ask(engine_of(server, NEXT[engine.adapter]), allm.request(thread, tools=(WEATHER,), tool_choice="none"), runtime)
    assert answer.tool_calls == ()
    assert answer.text


@allm.tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Heavy rain in {city}, 7 degrees."


def test_a_loop_calls_a_tool_and_uses_its_result(engine: allm.Engine, runtime: allm.Runtime) -> None:
    asked = "Use the tool get_weather for Paris and tell me what the weather is."
    result = allm.chat(engine, asked, tools=[get_weather], max_tokens=40, api_key=KEY, runtime=runtime).raise_for_error()
    assert result.halted_reason == "completed"
    assert [one.result for step in result.steps for one in step.tool_results] == ["Heavy rain in Paris, 7 degrees."]
    assert "rain" in result.text


def test_images_are_taken(engine: allm.Engine, runtime: allm.Runtime) -> None:
    image = allm.Image.from_binary(png(64))
    without = ask(engine, "Describe this.", runtime, max_tokens=2)
    seen = ask(engine, [allm.user(["Describe this.", image])], runtime, max_tokens=2)
    assert seen.usage.input_tokens is not None
    assert without.usage.input_tokens is not None
    assert seen.usage.input_tokens > without.usage.input_tokens, "the image was not looked at"


def test_a_wrong_key_and_a_prompt_that_is_too_long_are_told_apart(engine: allm.Engine, runtime: allm.Runtime) -> None:
    for reason, prompt, key in (("authentication", "Hi", "wrong"), ("context_length_exceeded", "word " * 5000, KEY)):
        with pytest.raises(allm.AdapterError) as raised:
            ask(engine, prompt, runtime, api_key=key)
        assert raised.value.reason == reason, raised.value.info


def png(size: int) -> bytes:
    """A grey square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"".join(b"\x00" + b"\x80" * (3 * size) for _ in range(size)))
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
