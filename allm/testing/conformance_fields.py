"""Conformance of what each field of a request does to what is sent. Part of `AdapterConformance`.

How a wire words a field is its own affair; that it words it at all can be told from outside: requests that differ in it are sent
differently.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from allm.actors.facade import generate
from allm.engine import Engine
from allm.images import Image
from allm.messages import ImagePart, Message, Role, TextPart, ToolCallPart, assistant, system, tool_result, user
from allm.providers.adapter import HttpRequest
from allm.requests import Request, json_schema
from allm.testing.conformance_base import TEXT, TOOLS
from allm.testing.conformance_requests import BASE, PIXEL, RequestTests

__all__ = ["FieldTests"]

_ASKED: Final = user("What is the weather in Zürich?")
_PLAIN: Final = Request((_ASKED,))
_OFFERED: Final = Request((_ASKED,), tools=TOOLS)
_OSLO: Final = {"city": "Oslo"}
_OBJECT: Final = {"type": "object", "properties": {"t": {"type": "number"}}}
_OTHER_OBJECT: Final = {**_OBJECT, "required": ["t"]}


def _with(plain: Request, field: str, *values: Any) -> tuple[Request, ...]:
    """It without the field, and with each of these values."""
    return (plain, *(replace(plain, **{field: value}) for value in values))


def _shown(*pictures: bytes) -> Request:
    return Request((user(["What is this?", *(ImagePart(Image.from_binary(data, "image/png")) for data in pictures)]),))


def _called(name: str, arguments: dict[str, Any], answers: Sequence[str] = ("c1", "c2")) -> Request:
    """A thread with two calls, the first one so, and the calls that the two results answer."""
    calls = (ToolCallPart("c1", name, arguments), ToolCallPart("c2", "get_time", {}))
    results = (tool_result(call_id, told) for call_id, told in zip(answers, ("rain", "noon"), strict=True))
    return Request((_ASKED, Message("assistant", (TextPart("I look."), *calls)), *results), tools=TOOLS)


def _said_by(*roles: Role) -> Request:
    made = {"user": user, "assistant": assistant, "system": system}
    return Request(tuple(made[role](said) for role, said in zip(roles, ("Be brief.", "Why?", "Go on."), strict=True)))


FIELDS: Final[Mapping[str, tuple[Request, ...]]] = {
    "temperature": _with(_PLAIN, "temperature", 0.0, 0.5),
    "top_p": _with(_PLAIN, "top_p", 0.25, 0.75),
    "max_tokens": _with(_PLAIN, "max_tokens", 100, 200),
    "stop": _with(_PLAIN, "stop", ("END",), ("END", "STOP")),
    "seed": _with(_PLAIN, "seed", 0, 7),
    "reasoning": _with(_PLAIN, "reasoning", "low"),
    "response_format": _with(_PLAIN, "response_format", "json", *(json_schema("w", schema) for schema in (_OBJECT, _OTHER_OBJECT))),
    "tools": _with(_PLAIN, "tools", TOOLS[:1], TOOLS),
    "tool_choice": _with(_OFFERED, "tool_choice", "none", "required", "get_weather"),
    "images": (_shown(), _shown(PIXEL), _shown(PIXEL, PIXEL)),
    "messages.tool_calls": (_called("get_weather", {"city": "Bern"}), _called("get_weather", _OSLO), _called("get_time", _OSLO)),
    "messages.tool_call_id": (_called("get_weather", {}), _called("get_weather", {}, ("c2", "c1"))),
    "messages.role": (_said_by("user", "user", "user"), _said_by("user", "assistant", "user"), _said_by("system", "user", "user")),
}
"""A field, and requests that differ in nothing else: no two of them may be sent alike."""

_OF_TOOLS: Final = frozenset({"tool_choice", "messages.tool_calls", "messages.tool_call_id"})
_PARAMETERS: Final = frozenset(Request.__struct_fields__)


class FieldTests(RequestTests):
    """What must be told of each field, and of the answer's shape."""

    def test_every_field_of_a_request_is_sent_refused_or_told_to_be_left_out(self) -> None:
        faults = [
            f"{field} {fault}"
            for field, requests in FIELDS.items()
            if (self.tools or field not in _OF_TOOLS) and (self.reasoning or field != "reasoning")
            for fault in {self._fault(field, requests, stream): None for stream in (True, False)}
            if fault
        ]
        assert not faults, "\n".join(faults)

    def _fault(self, field: str, requests: Sequence[Request], stream: bool) -> str:
        """What is wrong with how these are sent, or nothing."""
        sent: list[tuple[Request, HttpRequest]] = []
        for request in requests:
            made = self._sent_or_refused(request, stream)
            if isinstance(made, HttpRequest):
                sent.append((request, made))
            elif not (path := str(made.metadata.get("path") or "")).startswith(field.replace("images", "messages").partition(".")[0]):
                return f"is refused by the path {path!r}: {made!r}"
        for (one, its), (other, others) in itertools.combinations(sent, 2):
            left_out = field in _PARAMETERS and field in self._left_out(other)
            if its == others and not left_out:
                return f"is neither sent nor refused nor told by `left_out`: {one} and {other} are sent alike"
            if left_out and one is requests[0] and its != others:
                return f"is sent, and `left_out` says that it is not: {other}"
        return ""

    def test_the_model_of_a_request_wins_over_that_of_the_engine(self) -> None:
        adapter, plain = self._adapter(), self._plain_engine()
        other = f"{self.model}-b"
        told = self._http(replace(_PLAIN, model=other))
        assert told != self._http(_PLAIN), "the model of the request is not sent"
        named = adapter.request(replace(plain, model=other), _PLAIN, BASE, True)
        assert named == told, f"an engine's model and a request's are told differently: {named} and {told}"

    def test_a_stream_is_asked_for_only_where_one_is_wanted(self) -> None:
        with self._served(TEXT, TEXT) as (engine, runtime, sim):
            call = partial(generate, engine, "Hi", runtime=runtime)
            call()
            call(wire="json")
            streams = [request.stream for request in sim.requests]
            assert streams == [True, False], f'for wire="sse" and wire="json" the provider was asked for a stream: {streams}'

    def _left_out(self, request: Request) -> Sequence[str]:
        """What the adapter says that it does not send of this request."""
        told: Callable[[Engine, Request, str], Sequence[str]] | None = getattr(self._adapter(), "left_out", None)
        return () if told is None else told(self._plain_engine(), request, BASE)
