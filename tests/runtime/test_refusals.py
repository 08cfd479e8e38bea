"""Error answers: what only their head tells, how they are framed, and what the provider says about another attempt."""

from collections.abc import Callable
from typing import Any

import pytest

import allm
from allm.framing import form_of, unframed
from allm.images import mime_of
from tests.runtime.support import FAST, RawServer, answers, chat_stream, http

Raw = Callable[..., tuple[RawServer, allm.Engine]]

HELLO = http(chat_stream("Hello"))


def failed(engine: allm.Engine, runtime: allm.Runtime, **opts: Any) -> allm.AllmError:
    with pytest.raises(allm.AllmError) as raised:
        allm.generate(engine, "Hi", runtime=runtime, **opts)
    return raised.value


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_where_a_redirect_leads_is_told_without_what_may_be_secret(status: int, raw: Raw, runtime: allm.Runtime) -> None:
    location = "https://user:pw@elsewhere.example/v1/chat/completions?sig=secret"
    server, engine = raw(answers(http(b"", "text/html", f"{status} Moved", f"location: {location}")))
    error = failed(engine, runtime)
    assert (error.reason, error.status, len(server.heads)) == ("invalid_request", status, 1)
    assert "a redirect to https://elsewhere.example/v1/chat/completions, which is not followed" in error.message
    assert not any(secret in str(error) for secret in ("user", "pw", "sig=", "secret"))


def test_a_relative_redirect_is_told_as_the_address_that_it_means(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(b"moved", "text/html", "308 Moved", "location: /v1/chat/completions/")))
    assert f"to {server.url}/v1/chat/completions/, which" in failed(engine, runtime).message


@pytest.mark.parametrize("location", ["javascript:x", "https://[", "ftp://a.b/"])
def test_a_redirect_to_nowhere_says_so(location: str, raw: Raw, runtime: allm.Runtime) -> None:
    _, engine = raw(answers(http(b"", "text/html", "307 Moved", f"location: {location}")))
    assert "HTTP 307: the answer is a redirect to what is no HTTP address" in failed(engine, runtime).message


def test_a_proxy_that_wants_to_know_who_asks_is_told_as_one(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(b"", "text/html", "407 Proxy Authentication Required", "proxy-authenticate: Basic realm=x")))
    error = failed(engine, runtime)
    assert (error.status, error.message, len(server.heads)) == (407, "HTTP 407: the proxy asks for a user name and a password", 1)


# what the provider says about another attempt


def test_false_ends_a_call_that_would_be_tried_again(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(b"{}", "application/json", "500 Oops", "x-should-retry: false")))
    error = failed(engine, runtime)
    assert (error.reason, error.metadata["should_retry"], len(server.heads)) == ("server_error", False, 1)


def test_true_has_a_call_tried_again_that_would_not_be(raw: Raw, runtime: allm.Runtime) -> None:
    refusal = http(b'{"error": {"message": "wait"}}', "application/json", "400 Bad Request", "x-should-retry: true")
    server, engine = raw(answers(refusal, HELLO))
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert len(server.heads) == 2
    server, engine = raw(answers(refusal), retry=allm.Retry(max_attempts=2, **FAST))
    assert failed(engine, runtime).reason == "invalid_request"
    assert len(server.heads) == 2


def test_any_other_word_changes_nothing(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(b"{}", "application/json", "500 Oops", "x-should-retry: perhaps"), HELLO))
    assert allm.generate(engine, "Hi", runtime=runtime).text == "Hello"
    assert len(server.heads) == 2


def test_the_policy_hears_of_it_before_its_list_of_reasons() -> None:
    def decided(reason: str, told: Any) -> bool:
        error = allm.ErrorInfo("adapter", reason, "x", metadata={} if told is None else {"should_retry": told})
        return type(allm.Retry().decide(error, 1, False, True, 0.5)).__name__ == "RestartAfter"

    assert [decided("server_error", told) for told in (None, True, False, "false")] == [True, True, False, True]
    assert [decided("invalid_request", told) for told in (None, True, False, "true")] == [False, True, False, False]


# errors that are framed as events


FRAMED = [
    'data: {"error": {"message": "no stream today", "type": "server_error"}}\n\ndata: [DONE]\n\n',
    'event: error\ndata: {"error": {"message": "no stream today"}}\n\n',
    '\n: hello\ndata: {"error":\ndata: {"message": "no stream today"}}',
    'data: {"error": {"message": "no stream today"}}',
]


@pytest.mark.parametrize("body", FRAMED)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_an_error_framed_as_an_event_is_read(body: str, kind: str, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(http(body.encode(), kind, "500 Oops")), retry=allm.Retry(max_attempts=2, **FAST))
    error = failed(engine, runtime)
    assert (error.reason, error.status, error.message) == ("server_error", 500, "no stream today")
    assert len(server.heads) == 2


@pytest.mark.parametrize("body", [b"", b"data", b"plain", b'{"error": 1}', b"data: [DONE]\n\n", b"data: [1]\n\n", b"database is down"])
def test_what_is_no_event_with_an_object_is_left_as_it_is(body: bytes) -> None:
    assert unframed(body) == body


@pytest.mark.parametrize(
    ("beginning", "form"),
    [
        (b"", None), (b" \r\n", None), (b"d", None), (b"data", None), (b"\xef", None), (b"\xef\xbb\xbf", None), (b"\xef\xbb\xbfda", None),
        (b"data:", "events"), (b"data\n", "events"), (b"\nevent: x", "events"), (b":", "events"), (b"id:1", "events"),
        (b"retry: 1", "events"),
        (b" {", "json"), (b"[", "json"), (b"\xef\xbb\xbf{", "json"),
        (b"<", "other"), (b"database", "other"), (b"identity", "other"), (b"dx", "other"), (b"\xef\xbb<", "other"),
    ],
)  # fmt: skip
def test_the_first_bytes_say_which_form_an_answer_has(beginning: bytes, form: str | None) -> None:
    assert form_of(beginning) == form


# images that were made, and paid for


def image_answer(text: str) -> bytes:
    return http(b'{"created": 1, "data": [{"b64_json": "%b"}]}' % text.encode(), "application/json")


@pytest.mark.parametrize(
    "answer",
    [image_answer("bm8gaW1hZ2U="), image_answer("no base64!"), http(b"no JSON", "application/json"), http(b"{}", "application/json"),
     http(b"[]", "text/plain")],
)  # fmt: skip
def test_an_image_that_cannot_be_read_is_not_paid_for_again(answer: bytes, raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(answer), image_adapter="openai.images:m")
    with pytest.raises(allm.ImageAdapterError) as raised:
        allm.generate_image(engine, "a cat", runtime=runtime)
    assert (raised.value.reason, raised.value.metadata["should_retry"], len(server.heads)) == ("malformed_response", False, 1)


def test_an_image_call_that_was_refused_is_made_again(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(
        answers(http(b"nonsense", "application/json", "500 Oops"), image_answer("iVBORw0KGgo=")), image_adapter="openai.images:m"
    )
    assert allm.generate_image(engine, "a cat", runtime=runtime).images[0].mime == "image/png"
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    "text",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>', b"<svg>", b"\xef\xbb\xbf <SVG/>", b'<?xml version="1.0"?>\n<svg a="b">',
        b'<?xml version="1.0"?><!-- made by - me --><!DOCTYPE svg PUBLIC "x" "y">\n<svg>',
    ],
)  # fmt: skip
def test_a_drawing_is_an_image(text: bytes) -> None:
    assert mime_of(text) == "image/svg+xml"


@pytest.mark.parametrize("text", [b"<svgx>", b"<html><svg>", b"svg", b"<!--", b"<!-- <svg> -->" * 9000])
def test_what_is_no_drawing_is_none(text: bytes) -> None:
    with pytest.raises(allm.ValidationError):
        mime_of(text)


def test_a_drawing_in_an_answer_is_given(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(image_answer("PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4=")), image_adapter="openai.images:m")
    (image,) = allm.generate_image(engine, "a cat", runtime=runtime).images
    assert (image.mime, image.to_binary()) == ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    assert len(server.heads) == 1


def test_a_stream_is_asked_for_with_both_types(raw: Raw, runtime: allm.Runtime) -> None:
    server, engine = raw(answers(HELLO))
    allm.generate(engine, "Hi", runtime=runtime)
    allm.generate(engine, "Hi", runtime=runtime, wire="json")
    assert server.header("accept") == ["application/json, text/event-stream", "application/json"]
