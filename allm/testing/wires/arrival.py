"""What came: a request as a test sees it (`SimRequest`), and as its wire reads it. Secrets are struck out here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from allm.testing.http_server import HttpRequest
from allm.testing.wires.contract import Ask, BadRequest, Wire
from allm.testing.wires.forms import read_form
from allm.testing.wires.script import Fault

__all__ = ["Arrival", "Outcome", "SimRequest", "read_arrival"]

Outcome = Literal["active", "complete", "fault", "rejected", "client closed", "server closed"]
"""`rejected`: refused as the provider would (400, 404, 405). `client closed`: left before the end."""

SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|api-?key", re.IGNORECASE)
SECRET_QUERY = re.compile(r"(?<=[?&])((?:api[-_]?)?key|access_token)=[^&]*", re.IGNORECASE)


class SimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one request carried, and what became of it so far. Secrets read `***`."""

    number: int = 0
    """Its place among all requests since the start or `reset()`, from 1."""
    wire: str | None
    """None: no wire serves this path."""
    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Names are lower-case."""
    body: Any = None
    """Decoded; a form is `{"multipart": [...]}`; None when it is neither that nor JSON."""
    at: float
    """Seconds since the epoch, when it had come in whole."""
    attempt: int = 1
    """Counts requests of the same path and body up to one that was answered completely."""
    model: str = ""
    stream: bool = False
    text: str = ""
    """The text of the last user message."""
    fault: Fault | None = None
    """The fault it met."""
    outcome: Outcome = "active"


class Arrival:
    """One request from its arrival on. `seen` is replaced as things become known, never changed."""

    def __init__(self, wire: Wire, parsed: Ask | BadRequest, seen: SimRequest, key: tuple[str, int]) -> None:
        self.wire = wire
        """The wire to answer in; for a path that none serves, the nearest."""
        self.seen = seen
        self.key = key
        """The same for a retry."""
        self._parsed = parsed

    def ask(self) -> Ask:
        """Raises `BadRequest` for a request that the provider would refuse."""
        if isinstance(self._parsed, BadRequest):
            raise self._parsed
        return self._parsed

    def learn(self, **known: Any) -> None:
        self.seen = msgspec.structs.replace(self.seen, **known)


def read_arrival(wires: tuple[Wire, ...], request: HttpRequest) -> Arrival:
    path = request.target.partition("?")[0]
    wire = next((each for each in wires if each.serves(path)), None)
    form = read_form(request.headers.get("content-type", ""), request.body)
    body = _decode(request.body) if form is None else form
    parsed = _parse(wire, request, body)
    seen = _see(wire, request, body, parsed)
    return Arrival(wire or _nearest(wires, path), parsed, seen, (path, hash(request.body)))


def _nearest(wires: tuple[Wire, ...], path: str) -> Wire:
    beside = (each for each in wires if each.base_path and path.startswith(each.base_path))
    return next(beside, wires[0])


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _parse(wire: Wire | None, request: HttpRequest, body: Any) -> Ask | BadRequest:
    asked = f"{request.method} {_redact(request.target)}"
    if wire is None:
        return BadRequest(404, f"Invalid URL ({asked})", "unknown_url")
    if request.method != "POST":
        return BadRequest(405, f"Method not allowed ({asked})", "method_not_supported")
    if body is None:
        return BadRequest(400, "We could not parse the JSON body of your request.")
    try:
        return wire.parse(request.target, body)
    except BadRequest as refusal:
        return refusal


def _see(wire: Wire | None, request: HttpRequest, body: Any, parsed: Ask | BadRequest) -> SimRequest:
    ask = parsed if isinstance(parsed, Ask) else Ask(model="")
    return SimRequest(
        wire=None if wire is None else wire.name,
        method=request.method,
        path=_redact(request.target),
        headers=dict(_redact_headers(request.headers.items())),
        body=body,
        at=time.time(),
        model=ask.model,
        stream=ask.stream,
        text=ask.user_text,
    )


def _redact(target: str) -> str:
    return SECRET_QUERY.sub(r"\1=***", target)


def _redact_headers(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return ((name, "***" if SECRET_HEADER.search(name) else value) for name, value in headers)
