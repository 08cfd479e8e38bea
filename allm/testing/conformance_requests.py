"""Conformance of what an adapter sends, and of what it makes of refusals. Part of `AdapterConformance`."""

import json
import unittest
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from allm.engine import Engine
from allm.errors import ADAPTER_REASONS, ErrorInfo, ValidationError
from allm.images import Image
from allm.messages import (
    ImagePart,
    Message,
    ProviderPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    assistant,
    system,
    tool_result,
    user,
)
from allm.providers.adapter import HttpRequest
from allm.requests import Request, json_schema
from allm.testing.conformance_base import TEXT, TOOLS, Conformance
from allm.testing.wires.script import Failure
from allm.wire_json import is_array, is_object

__all__ = ["BASE", "KEY", "PIXEL", "STATUSES", "RequestTests"]

KEY: Final = "sk-conformance-0123456789abcdef"
BASE: Final = "http://127.0.0.1:9"
PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
_ODD_ID: Final = "call|" + "x" * 80 + "/ü:"
_SIGNED: Final = "signed-by-nobody"
_OPAQUE: Final = "understood-by-nobody"

_ASKED: Final = user("What is the weather in Zürich?")
_THREAD: Final = (
    _ASKED,
    Message("assistant", (TextPart("I look."), ToolCallPart(_ODD_ID, "get_weather", {"city": "Zürich"}), ToolCallPart("c2", "get_time"))),
    tool_result(_ODD_ID, "rain and 7 degrees"),
    tool_result("c2", "half past nine"),
    assistant("It rains."),
    user("Thank you. And tomorrow?"),
)
_FOREIGN: Final = (
    _ASKED,
    Message(
        "assistant",
        (
            ReasoningPart("hm", signature=_SIGNED, provider="nobody"),
            ProviderPart("nobody", "search", {"result": _OPAQUE}),
            TextPart("It rains."),
        ),
    ),
    user("And tomorrow?"),
)

NEUTRAL: Final[Mapping[str, Request]] = {
    "a text": Request((_ASKED,)),
    "a system message": Request((system("Be brief."), _ASKED)),
    "a system message in the midst": Request((_ASKED, assistant("Rain."), system("Be brief."), user("Why?"))),
    "two messages of the user in a row": Request((_ASKED, user("Please."))),
    "an empty answer": Request((_ASKED, Message("assistant"), user("Say something."))),
    "an answer that was cut off": Request((_ASKED, assistant("It"), user("Go on."))),
    "a thread with tools": Request(_THREAD, tools=TOOLS),
    "a thread with tools that are no longer offered": Request(_THREAD),
    "reasoning and parts of another provider": Request(_FOREIGN),
    "an image": Request((user(["What is this?", ImagePart(Image.from_binary(PIXEL, "image/png"))]),)),
    "parameters": Request((_ASKED,), temperature=0.5, top_p=0.9, max_tokens=100, stop=("END",), seed=7),
    "a tool that must be called": Request((_ASKED,), tools=TOOLS, tool_choice="get_weather"),
    "tools that must not be called": Request((_ASKED,), tools=TOOLS, tool_choice="none"),
    "an answer in JSON": Request((_ASKED,), response_format=json_schema("w", {"type": "object", "properties": {"t": {"type": "number"}}})),
    "reasoning": Request((_ASKED,), reasoning="low"),
}
"""Requests that any caller may make of any provider."""

STATUSES: Final[Mapping[int, frozenset[str]]] = {
    400: frozenset({"invalid_request"}),
    401: frozenset({"authentication"}),
    403: frozenset({"permission"}),
    404: frozenset({"not_found"}),
    429: frozenset({"rate_limited"}),
    500: frozenset({"server_error"}),
    503: frozenset({"service_unavailable", "overloaded"}),
    529: frozenset({"overloaded"}),
}
_HOSTILE: Final = (
    b"", b" ", b"null", b"[]", b"{}", b"7", b'"gone"', b"<html>Bad gateway</html>", b"\xff\xfe\x00", b'{"error": null}', b'{"error": 7}',
    b'{"error": "gone"}', b'{"error": {"message": 7, "code": {"a": []}}}', b'[{"error": {"message": "gone", "details": "none"}}]',
    b'{"message": ["gone"]}', b"[" * 3000, b'{"error": {"message": "' + b"x" * 100_000 + b'"}}',
)  # fmt: skip


class RequestTests(Conformance):
    """What every adapter must send, and what it must make of error answers."""

    def test_the_adapter_has_a_name_and_a_provider(self) -> None:
        made = self._adapter()
        assert made.name, "an adapter has a name"
        assert made.provider, "an adapter tells the provider, for whom keys are looked up"

    def test_every_neutral_request_is_sent_or_refused_with_its_path(self) -> None:
        for name, request in NEUTRAL.items():
            for stream in (True, False):
                made = self._sent_or_refused(request, stream)
                if isinstance(made, ValidationError):
                    assert made.metadata.get("path"), f"{name}: refused without the path of the field: {made!r}"
                    continue
                sent = _strings(made)
                for text in _texts(request):
                    assert any(text in each for each in sent), f"{name}: {text!r} is not in what is sent"

    def test_tool_results_are_sent(self) -> None:
        if not self.tools:
            return
        sent = _strings(self._http(NEUTRAL["a thread with tools"]))
        for text in ("rain and 7 degrees", "half past nine", "get_weather", "get_time"):
            assert any(text in each for each in sent), f"{text!r} is not in what is sent"

    def test_the_same_request_is_sent_alike_each_time(self) -> None:
        for name in ("a text", *(("a thread with tools",) if self.tools else ())):
            first, again = self._http(NEUTRAL[name]), self._http(NEUTRAL[name])
            assert first == again, f"{name}: what is sent differs from one time to the next, which spoils the provider's cache"

    def test_options_go_into_the_body_unchanged(self) -> None:
        options = {"x_conformance": {"deep": [1, "ü"]}}
        sent = _body(self._http(replace(NEUTRAL["a text"], options=options)))
        assert sent.get("x_conformance") == options["x_conformance"], f"the option is not in {sent}"

    def test_what_another_provider_signed_is_not_sent(self) -> None:
        sent = self._http(NEUTRAL["reasoning and parts of another provider"]).body.decode()
        assert _SIGNED not in sent, "a signature went to a provider that did not make it"
        assert _OPAQUE not in sent, "a provider part went to a provider that did not make it"

    def test_the_key_is_in_nothing_that_the_adapter_makes(self) -> None:
        engine = replace(self._plain_engine(), keys={self._adapter().provider: KEY})
        made = self._adapter().request(engine, NEUTRAL["a text"], BASE, True)
        assert KEY not in repr(made), "the adapter took the key; it tells key_header and key_prefix instead"

    def test_error_statuses_become_the_closed_reasons(self) -> None:
        for status, reasons in STATUSES.items():
            info = self._failure(status, self._wire().error(Failure(status, "no, thank you")))
            assert info.reason in reasons, f"{status} became {info.reason!r}"
            assert info.status == status, f"the status {status} became {info.status}"
            assert "no, thank you" in info.message, f"what the provider says is not in {info.message!r}"

    def test_any_error_body_is_understood(self) -> None:
        for body in _HOSTILE:
            for status in (302, 400, 429, 500, 599):
                info = self._failure(status, body)
                assert info.kind == "adapter", f"{status} with {body[:50]!r}: {info}"
                assert info.reason in ADAPTER_REASONS, f"{status} with {body[:50]!r}: {info}"
                assert info.message, f"{status} with {body[:50]!r}: no message"

    def _failure(self, status: int, body: bytes) -> ErrorInfo:
        return self._adapter().failure(status, {"content-type": "application/json"}, body)

    def _sent_or_refused(self, request: Request, stream: bool) -> HttpRequest | ValidationError:
        try:
            return self._http(request, stream)
        except ValidationError as refused:
            return refused

    def _plain_engine(self) -> Engine:
        return self.engine(BASE, [TEXT])

    def _http(self, request: Request, stream: bool = True) -> HttpRequest:
        made = self._adapter().request(self._plain_engine(), request, BASE, stream)
        if not isinstance(made, HttpRequest):
            raise unittest.SkipTest("this adapter sends nothing")
        assert made.url.startswith(BASE), f"{made.url} is not under the base URL"
        return made


def _texts(request: Request) -> list[str]:
    """What people and models said in it."""
    return [part.text for message in request.messages for part in message.parts if isinstance(part, TextPart) and part.text]


def _body(made: HttpRequest) -> Any:
    return json.loads(made.body)


def _strings(made: HttpRequest) -> list[str]:
    """Every text in the body, names and values, and the body as it is where it is no JSON."""
    try:
        return list(_walk(_body(made)))
    except ValueError:
        return [made.body.decode("utf-8", "replace")]


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_object(value):
        for name, inner in value.items():
            yield name
            yield from _walk(inner)
    elif is_array(value):
        for inner in value:
            yield from _walk(inner)
