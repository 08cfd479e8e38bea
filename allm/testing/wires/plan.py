"""Reply and fault to the bytes that will be sent, before any is sent. Pure.

Knowing the whole answer beforehand is what tells whether it will be complete, and so whether the
request uses up a reply or leaves it to the retry.
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from allm.testing.wires.contract import Ask, Wire
from allm.testing.wires.script import Failure, Fault, Reply

__all__ = ["Ending", "Piece", "Plan", "plan_answer", "plan_failure"]

Ending = Literal["end", "cut", "reset", "stall"]

JSON = ("content-type", "application/json")
NO_FAULT = Fault()


class Piece(msgspec.Struct, frozen=True):
    data: bytes
    pause: float = 0.0
    """Seconds before it is sent."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One response: head, body, and how it ends."""

    status: int = 200
    headers: tuple[tuple[str, str], ...]
    pieces: tuple[Piece, ...]
    length: int | None = None
    """The content-length told; None: chunked."""
    wait: float = 0.0
    ending: Ending = "end"
    ping: bytes = b""
    ping_interval: float = 0.0
    complete: bool = False
    """Whether the client gets a whole answer that is no error."""


def plan_answer(wire: Wire, ask: Ask, reply: Reply, fault: Fault | None, number: int) -> Plan:
    fault = fault or NO_FAULT
    if fault.status is not None:
        plan = plan_failure(wire, fault.failure(), number)
    elif ask.stream:
        plan = _plan_stream(wire, ask, reply, fault, number)
    else:
        plan = _plan_body(wire, ask, reply, fault, number)
    return plan if fault.cut_after is None else _cut(plan, fault.cut_after, fault.reset)


def plan_failure(wire: Wire, failure: Failure, number: int) -> Plan:
    headers = (JSON, *wire.headers(number, failure))
    body = wire.error(failure)
    return Plan(status=failure.status, headers=headers, pieces=(Piece(body),), length=len(body))


def _plan_stream(wire: Wire, ask: Ask, reply: Reply, fault: Fault, number: int) -> Plan:
    frames = wire.stream(ask, reply, number)
    deltas = tuple(Piece(data, reply.delay if i else 0.0) for i, data in enumerate(frames.deltas))
    kind, count = fault.interruption or (None, 0)
    before, after = deltas[:count], deltas[count:]
    end = _pieces(frames.end)
    match kind:
        case None:
            rest = (*after, *end)
        case "malformed":
            rest = (Piece(wire.malformed), *after, *end)
        case "error":
            rest = (Piece(wire.stream_error(fault.failure())),)
        case "end" | "stall":
            rest = ()
        case _:
            assert_never(kind)
    return Plan(
        headers=(("content-type", frames.content_type), ("cache-control", "no-cache"), *wire.headers(number, None)),
        pieces=(*_pieces(frames.start), *before, *rest),
        ending="stall" if kind == "stall" else "end",
        ping=wire.ping(ask, number) if fault.pings else b"",
        ping_interval=fault.ping_interval,
        complete=kind is None,
    )


def _plan_body(wire: Wire, ask: Ask, reply: Reply, fault: Fault, number: int) -> Plan:
    body = wire.body(ask, reply, number)
    deltas = reply.delta_count()
    kind, count = fault.interruption or (None, 0)
    share = body[: len(body) * min(count, deltas) // (deltas + 1)]
    match kind:
        case None | "stall":
            sent = share if kind else body
        case "end":
            sent = share
        case "malformed":
            sent = share + b"<malformed>"
        case "error":
            sent = wire.error(fault.failure())
        case _:
            assert_never(kind)
    told = len(body) if kind == "stall" else len(sent)
    return Plan(
        headers=(JSON, *wire.headers(number, None)),
        pieces=(Piece(sent),),
        length=None if fault.pings else told,
        wait=reply.delay * max(deltas - 1, 0),
        ending="stall" if kind == "stall" else "end",
        ping=b"\n" if fault.pings else b"",
        ping_interval=fault.ping_interval,
        complete=kind is None,
    )


def _pieces(frames: tuple[bytes, ...]) -> tuple[Piece, ...]:
    return tuple(Piece(data) for data in frames)


def _cut(plan: Plan, limit: int, reset: bool) -> Plan:
    """The same up to `limit` bytes of body. A body that is shorter is left as it is."""
    whole = sum(len(piece.data) for piece in plan.pieces)
    if limit > whole:
        return plan
    kept: list[Piece] = []
    left = limit
    for piece in plan.pieces:
        if left <= 0:
            break
        kept.append(msgspec.structs.replace(piece, data=piece.data[:left]))
        left -= len(piece.data)
    return msgspec.structs.replace(
        plan,
        pieces=tuple(kept),
        ending="reset" if reset else "cut",
        complete=plan.complete and limit == whole,
    )
