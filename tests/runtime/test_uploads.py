"""Large requests: `first_event` measures the provider, not the line that the request goes out by."""

import threading
from collections.abc import Callable

import pytest

import allm
from tests.runtime.support import RawServer, Respond, Visit, chat_stream, http

pytestmark = [pytest.mark.slow, pytest.mark.alone]

LARGE = "word " * (12 << 20 >> 2)
"""More than the buffers of both ends hold: the client cannot send all of it before the server reads."""
FIRST_EVENT = 1.0


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_the_time_that_a_large_request_takes_to_go_out_is_not_the_providers(
    transport: str, serve: Callable[[Respond], RawServer], runtime: allm.Runtime
) -> None:
    def respond(visit: Visit) -> None:
        threading.Event().wait(1.5 * FIRST_EVENT)  # a slow line
        assert visit.read()
        visit.send(http(chat_stream("Hello")))

    server = serve(respond)
    engine = allm.Engine(
        adapter="openai.chat", model="m", base_url=server.url, http=allm.Http(transport=transport), retry=allm.Retry.none(),
        timeouts=allm.Timeouts(first_event=FIRST_EVENT),
    )  # fmt: skip
    assert allm.generate(engine, LARGE, runtime=runtime).text == "Hello"
    assert LARGE.encode() in server.bodies[0]
    assert server.header("content-length") == [str(len(server.bodies[0]))]
    assert server.header("transfer-encoding") == [None]


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_once_a_large_request_is_out_the_provider_has_its_time_and_no_more(
    transport: str, serve: Callable[[Respond], RawServer], runtime: allm.Runtime
) -> None:
    def respond(visit: Visit) -> None:
        assert visit.read()
        visit.wait_gone()

    engine = allm.Engine(
        adapter="openai.chat", model="m", base_url=serve(respond).url, http=allm.Http(transport=transport), retry=allm.Retry.none(),
        timeouts=allm.Timeouts(first_event=FIRST_EVENT, total=30),
    )  # fmt: skip
    with pytest.raises(allm.AdapterError, match="no content within") as caught:
        allm.generate(engine, LARGE, runtime=runtime)
    assert caught.value.reason == "timeout"
