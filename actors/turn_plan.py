"""A turn that is ready to begin, and the plan of each model call in it."""

import contextvars
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from allm.actors.asking import KnownWays
from allm.actors.call import Options, Plan
from allm.actors.outgoing import outgoing
from allm.actors.vault import KeyHandle
from allm.engine import Engine
from allm.events import Event
from allm.providers.adapter import Adapter
from allm.tools import Tool
from allm.turn_data import CallModel, TurnState

if TYPE_CHECKING:
    import asyncio

__all__ = ["Functions", "TurnPlan"]


class Functions(msgspec.Struct, frozen=True):
    """What of a turn is code of the caller's: never on the loop, never in a state."""

    halt_when: Callable[..., Any] | None
    on_tool_error: Callable[..., Any] | None
    executor: Callable[..., Any] | None
    encoder: Callable[..., Any] | None


class TurnPlan:
    """A turn that is ready to begin: everything is checked, nothing is sent."""

    __slots__ = (
        "adapter", "base_url", "checked", "context", "contextvars", "engine", "functions", "key", "loop", "model", "on_event", "options",
        "state", "tools", "ways",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        adapter: Adapter,
        base_url: str,
        state: TurnState,
        options: Options,
        tools: dict[str, Tool],
        functions: Functions,
        context: dict[str, Any],
        on_event: Callable[[Event], object] | None,
    ) -> None:
        self.engine = engine
        self.adapter = adapter
        self.base_url = base_url
        self.state = state
        self.options = options
        self.tools = tools
        self.functions = functions
        self.context = context
        self.on_event = on_event
        self.model = state.request.model or engine.model
        self.checked = frozenset(spec.name for spec in state.request.tools if spec.name in tools and spec.schema is tools[spec.name].schema)
        """Tools whose arguments the machine has checked by the tool's own schema."""
        self.key: KeyHandle | None = None
        self.contextvars = contextvars.copy_context()
        self.ways: KnownWays | None = None
        """What the runtime knows of the ways to ask for an answer by a schema."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where asynchronous handlers run; None for a loop of the tools' own."""

    def prepare(self, runtime: Any) -> Any:
        """The slot of the turn, with its first call made ready in the caller's thread."""
        return runtime.prepare_turn(self)

    def call(self, effect: CallModel) -> Plan:
        """The plan of a model call, encoded. Runs functions of the user, so never on the loop. Raises AllmError."""
        number, engine = effect.number, self.engine
        options = replace(self.options, text_deltas=True, tool_deltas=True)  # what is not wanted is left out further up
        if number > 1:
            options = replace(options, request_id=f"{options.request_id}-{number}", block_prefix=f"s{number}b")
        plan = Plan(engine, self.adapter, self.base_url, effect.request, options, None)
        plan.contextvars = self.contextvars
        plan.outgoing = partial(outgoing, engine, effect.request, options.request_id, self.context)
        plan.request = self.contextvars.copy().run(plan.outgoing, False)
        plan.key, plan.lends_key = self.key, True
        if self.ways is not None:
            plan.ask(self.ways)
        plan.encode()
        return plan
