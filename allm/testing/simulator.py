"""A simulated provider: a real HTTP server on loopback, with scripted replies and faults.

    with Simulator() as sim:
        sim.reply("Hello!", Reply(tool_calls=(("weather", {"city": "Oslo"}),)))
        sim.fault(Fault(status=429, retry_after=1))
        ...  # a client whose base URL is sim.base_url("chat") and whose key is any text
        assert [request.outcome for request in sim.requests] == ["fault", "complete", "complete"]

Requests take faults and replies from two queues in the order they come. A request whose fault lets
no complete answer through leaves its reply to the next one, usually its own retry. With both queues
empty the default reply says back what the user said. Conversations that run at the same time are
best told apart with `respond`, which decides for each request.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self, assert_never

import msgspec

from allm.testing.http_server import HOST, Answer, HttpRequest, HttpServer
from allm.testing.wires import WIRES
from allm.testing.wires.arrival import Arrival, Outcome, SimRequest, read_arrival
from allm.testing.wires.contract import Ask, BadRequest, Wire
from allm.testing.wires.plan import Plan, plan_answer, plan_failure
from allm.testing.wires.script import Fault, Reply

__all__ = ["Fault", "Outcome", "Reply", "Responder", "SimRequest", "Simulator"]

ECHO_LIMIT = 500  # characters of the user's text that the default reply says back

Responder = Callable[[SimRequest], Reply | str | Fault | None]


class Simulator:
    """See the module. Listens from construction to `close()`; every method is for any thread.

    `default` is the reply when none is queued; without any content of its own it echoes, with its
    delay and token counts. `port=0` takes a free one. `wires` are names of known wires, or wires of your own.
    """

    def __init__(
        self,
        *,
        wires: Iterable[str | Wire] = ("chat",),
        replies: Iterable[Reply | str] = (),
        faults: Iterable[Fault] = (),
        default: Reply | str | None = None,
        port: int = 0,
    ) -> None:
        self._wires = tuple(_wire(name) for name in wires)
        if not self._wires:
            raise ValueError("a Simulator needs at least one wire")
        self._default = _as_reply(default or Reply())
        self._state = threading.Condition()
        self._responder: Responder | None = None
        self._forget()
        self.reply(*replies)
        self.fault(*faults)
        self._server = HttpServer(self._handle, self._changed, port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop every connection and stop. What it saw can still be read."""
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.port}"

    def base_url(self, wire: str) -> str:
        """The base URL that a client of this wire takes."""
        for each in self._wires:
            if each.name == wire:
                return self.url + each.base_path
        raise ValueError(f"this simulator does not speak {wire!r}, but {[each.name for each in self._wires]}")

    # What it will say

    def reply(self, *replies: Reply | str) -> None:
        """Queue replies: the next requests take them in order."""
        with self._state:
            self._replies.extend(_as_reply(reply) for reply in replies)

    def fault(self, *faults: Fault, times: int = 1) -> None:
        """Queue faults, the whole run of them `times` times: the next requests meet them in order."""
        with self._state:
            self._faults.extend(faults * times)

    def respond(self, responder: Responder | None) -> None:
        """Decide for each request, before the queues; None takes the decision back.

        A `Reply` is given without a fault; a `Fault` is met, its reply (if any) comes from the
        queue; None leaves both to the queues. Called on the simulator's thread: be quick, and
        never wait for the client in it. If it raises, the client gets status 400 with the error.
        """
        with self._state:
            self._responder = responder

    def reset(self) -> None:
        """Forget queues, responder and requests. Connections stay; requests under way run on unlisted."""
        with self._state:
            self._forget()

    def _forget(self) -> None:
        self._replies: deque[Reply] = deque()
        self._faults: deque[Fault] = deque()
        self._responder = None
        self._arrivals: list[Arrival] = []
        self._active: set[Arrival] = set()
        self._attempts: dict[tuple[str, int], int] = {}

    # What it saw

    @property
    def requests(self) -> tuple[SimRequest, ...]:
        """Every request since the start or `reset()`, in the order they came."""
        with self._state:
            return tuple(arrival.seen for arrival in self._arrivals)

    @property
    def active_requests(self) -> int:
        """Requests that are neither answered nor given up. A request leaves just before its last bytes do."""
        with self._state:
            return len(self._active)

    @property
    def open_connections(self) -> int:
        return self._server.open_connections

    def wait_requests(self, count: int, timeout: float = 5.0) -> bool:
        """Wait until so many requests have come; False after `timeout` seconds."""
        return self._wait(lambda: len(self._arrivals) >= count, timeout)

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Wait until no request is active: a cancelled one was closed by its client."""
        return self._wait(lambda: not self._active, timeout)

    def wait_closed(self, timeout: float = 5.0) -> bool:
        """Wait until no connection is open, idle ones of a client's pool included."""
        return self._wait(lambda: self._server.open_connections == 0, timeout)

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        with self._state:
            return self._state.wait_for(condition, timeout)

    def _changed(self) -> None:
        with self._state:
            self._state.notify_all()

    # One request, on the server's thread

    async def _handle(self, request: HttpRequest, answer: Answer) -> None:
        arrival = self._arrived(request)
        try:
            await self._answer(arrival, answer)
        except asyncio.CancelledError:
            self._settle(arrival, "server closed" if self._server.closing else "client closed")
            raise
        except Exception:
            self._settle(arrival, "server closed")
            raise

    def _arrived(self, request: HttpRequest) -> Arrival:
        arrival = read_arrival(self._wires, request)
        with self._state:
            attempt = self._attempts[arrival.key] = self._attempts.get(arrival.key, 0) + 1
            arrival.learn(number=len(self._arrivals) + 1, attempt=attempt)
            self._arrivals.append(arrival)
            self._active.add(arrival)
            self._state.notify_all()
        return arrival

    async def _answer(self, arrival: Arrival, answer: Answer) -> None:
        try:
            ask = arrival.ask()
            reply, fault = self._decide(arrival)
        except BadRequest as refusal:
            plan = plan_failure(arrival.wire, refusal.failure, arrival.seen.number)
            return await self._play(arrival, plan, answer, "rejected")
        if fault is not None and fault.slow_first_byte:
            await asyncio.sleep(fault.slow_first_byte)
        if fault is not None and fault.refuses:
            self._settle(arrival, "fault")
            return answer.cut(reset=fault.reset)
        plan = self._plan(arrival, ask, reply, fault)
        return await self._play(arrival, plan, answer, "complete" if plan.complete else "fault")

    def _decide(self, arrival: Arrival) -> tuple[Reply | None, Fault | None]:
        """The reply, where it is already decided, and the fault."""
        decision = self._ask_responder(arrival.seen)
        if isinstance(decision, Reply):
            return decision, None
        with self._state:
            fault = decision or (self._faults.popleft() if self._faults else None)
            arrival.learn(fault=fault)
        return None, fault

    def _ask_responder(self, seen: SimRequest) -> Reply | Fault | None:
        """Its mistakes become a status that clients do not retry, so that they are seen at once."""
        if (responder := self._responder) is None:
            return None
        try:
            decision = responder(seen)
        except Exception as error:
            raise BadRequest(400, f"the simulator's responder raised {error!r}") from error
        if isinstance(decision, str):
            return Reply(text=decision)
        if decision is None or type(decision) in (Reply, Fault):
            return decision
        raise BadRequest(400, f"the simulator's responder returned {decision!r}")

    def _plan(self, arrival: Arrival, ask: Ask, reply: Reply | None, fault: Fault | None) -> Plan:
        """Only a complete answer takes its reply off the queue."""
        number = arrival.seen.number
        if reply is not None:
            return plan_answer(arrival.wire, ask, reply, fault, number)
        with self._state:
            queued = bool(self._replies)
            reply = self._replies[0] if queued else _echo(self._default, ask)
            plan = plan_answer(arrival.wire, ask, reply, fault, number)
            if queued and plan.complete:
                self._replies.popleft()
        return plan

    async def _play(self, arrival: Arrival, plan: Plan, answer: Answer, outcome: Outcome) -> None:
        """Send it. The outcome is told before the last bytes, so a client that has read them can rely on it."""
        await asyncio.sleep(plan.wait)
        await answer.start(plan.status, plan.headers, plan.length)
        for left, piece in zip(range(len(plan.pieces), 0, -1), plan.pieces, strict=True):
            if piece.pause:
                await asyncio.sleep(piece.pause)
            if left == 1 and plan.ending != "stall":
                self._settle(arrival, outcome)
            await answer.write(piece.data)
        match plan.ending:
            case "end":
                await answer.end()
            case "cut" | "reset":
                self._settle(arrival, outcome)
                answer.cut(reset=plan.ending == "reset")
            case "stall":
                await _stall(answer, plan)
            case _:
                assert_never(plan.ending)

    def _settle(self, arrival: Arrival, outcome: Outcome) -> None:
        with self._state:
            arrival.learn(outcome=outcome)
            self._active.discard(arrival)
            if outcome == "complete":
                self._attempts.pop(arrival.key, None)
            self._state.notify_all()


async def _stall(answer: Answer, plan: Plan) -> None:
    """Until the client leaves, which cancels this."""
    while True:
        await asyncio.sleep(plan.ping_interval if plan.ping else 3600)
        await answer.write(plan.ping)


def _wire(name: str | Wire) -> Wire:
    if not isinstance(name, str):
        return name
    if name not in WIRES:
        raise ValueError(f"no wire {name!r}; there are {sorted(WIRES)}")
    return WIRES[name]


def _as_reply(reply: Reply | str) -> Reply:
    return Reply(text=reply) if isinstance(reply, str) else reply


def _echo(default: Reply, ask: Ask) -> Reply:
    if default.text or default.tool_calls or default.images or default.refusal is not None:
        return default
    said = ask.user_text.strip()
    if len(said) > ECHO_LIMIT:
        said = said[:ECHO_LIMIT] + "…"
    heard = f"You said: “{said}” I am only a simulator, but I heard you."
    return msgspec.structs.replace(default, text=heard if said else "Hello! I am a simulator: I say back what I hear.")
