"""Legal streams, generated: what adapters may tell a `MessageBuilder`, and walks over the table of legal order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

from allm.blocks import CallContext, MessageBuilder
from allm.errors import ErrorInfo
from allm.events import (
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    RawChunk,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RequestStarted,
    RetryScheduled,
    StreamRestarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm.images import Image
from allm.messages import ImagePart, ProviderPart, Unknown
from allm.order import BLOCKS, ORDER
from allm.responses import Response

OPENING = (TextStarted, ReasoningStarted, ToolCallStarted, PartCompleted)
FAILED = ErrorInfo("adapter", "server_error", "it broke")

Op: TypeAlias = tuple[str, tuple[Any, ...]]

_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
_wholes = st.sampled_from([ImagePart(Image.from_url("https://example.org/a.png")), ProviderPart("openai", "search", {"n": 1})])
_calls = st.tuples(
    st.integers(0, 3),
    st.none() | st.sampled_from(["c1", "c2", "used"]),
    st.none() | st.sampled_from(["weather", "time"]),
    st.none() | st.sampled_from(['{"a":', "1}", "{}", "nonsense"]),
)
_ops: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("text"), st.tuples(_texts)),
    st.tuples(st.just("reasoning"), st.tuples(_texts)),
    st.tuples(st.just("whole"), st.tuples(_wholes)),
    st.tuples(st.just("close_block"), st.just(())),
    st.tuples(st.just("turn_to"), st.tuples(st.integers(0, 2))),
    st.tuples(st.just("call"), _calls),
    st.tuples(st.just("sign"), st.tuples(st.sampled_from(["sig", None]))),
    st.tuples(st.just("end_call"), st.tuples(st.integers(0, 3))),
)


@dataclass(frozen=True)
class Attempt:
    """One attempt: what was told, the events that came of it, and the response."""

    events: tuple[Event, ...]
    response: Response
    has_content: bool


def scripts() -> st.SearchStrategy[list[Op]]:
    """What an adapter tells the builder of one attempt."""
    return st.lists(_ops, max_size=12)


def build(script: list[Op], generation: int = 1) -> MessageBuilder:
    """A builder that was told this."""
    builder = MessageBuilder(CallContext(request_id="req", generation=generation, used_ids=frozenset({"used"})))
    builder.start("msg", "model")
    for name, args in script:
        getattr(builder, name)(*args)
    return builder


def complete(script: list[Op], generation: int = 1) -> Attempt:
    """An attempt that came to its end."""
    builder = build(script, generation)
    builder.complete("stop", raw_finish="stop")
    events = builder.take()
    last = events[-1]
    assert isinstance(last, MessageCompleted)
    return Attempt((started(generation), *events), last.response, builder.has_content)


def broken(script: list[Op], generation: int = 1) -> Attempt:
    """An attempt that failed; its events end before the terminal one."""
    builder = build(script, generation)
    response = builder.partial("error", FAILED)
    return Attempt((started(generation), *builder.take()), response, builder.has_content)


def started(attempt: int) -> RequestStarted:
    """The first event of an attempt."""
    return RequestStarted("req", "model", "test", attempt)


_SAMPLES: dict[type, Callable[[str], Event]] = {
    RequestStarted: lambda _: RequestStarted("req", "model", "test"),
    RetryScheduled: lambda _: RetryScheduled("req", 1, 0.5, FAILED),
    StreamRestarted: lambda _: StreamRestarted("req", 1, FAILED),
    RawChunk: lambda _: RawChunk({"n": 1}),
    Unknown: lambda _: Unknown("new", {"type": "new"}),
    MessageStarted: lambda _: MessageStarted("msg", "model"),
    MessageCompleted: lambda _: MessageCompleted(Response(finish_reason="stop")),
    ErrorOccurred: lambda _: ErrorOccurred(FAILED),
    TextStarted: TextStarted,
    TextDelta: lambda name: TextDelta(name, "t"),
    TextCompleted: lambda name: TextCompleted(name, "t"),
    ReasoningStarted: ReasoningStarted,
    ReasoningDelta: lambda name: ReasoningDelta(name, "r"),
    ReasoningCompleted: lambda name: ReasoningCompleted(name, "r"),
    ToolCallStarted: lambda name: ToolCallStarted(name, "f"),
    ToolCallDelta: lambda name: ToolCallDelta(name, "{}"),
    ToolCallCompleted: lambda name: ToolCallCompleted(name, "f"),
    PartCompleted: lambda name: PartCompleted(name, ProviderPart("openai", "search")),
}


def sample(kind: type, name: str = "b1") -> Event:
    """An event of this class; `name` is the id of its block."""
    return _SAMPLES[kind](name)


@st.composite
def walks(draw: st.DrawFn) -> list[Event]:
    """A legal stream, or the beginning of one, found by walking the table."""
    events: list[Event] = []
    state, opened, count = "ready", dict[str, str](), 0
    for _ in range(draw(st.integers(0, 25))):
        choices: list[tuple[type, str]] = []
        for kind in ORDER[state]:
            block, what = BLOCKS.get(kind, (None, None))
            if what in ("more", "close"):
                choices += [(kind, name) for name, open_block in opened.items() if open_block == block]
            elif kind is not MessageCompleted or not opened:
                choices.append((kind, f"b{count}"))
        if not choices:
            break
        kind, name = draw(st.sampled_from(choices))
        block, what = BLOCKS.get(kind, (None, None))
        if what == "open":
            assert block is not None
            opened[name] = block
        elif what == "close":
            del opened[name]
        count += what == "open" or kind is PartCompleted
        state = ORDER[state][kind]
        if state == "ready":
            opened.clear()
        events.append(sample(kind, name))
    return events
