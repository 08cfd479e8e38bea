"""The message being built: adapters tell it what came, it gives the events and, at any moment, the response so far.

Every wire's decoder works through one of these, so block ids, their order and the partial result are alike on all wires.
"""

from typing import Any

import msgspec

from allm.arguments import read_arguments
from allm.block_parts import CallBlock, TextBlock, WholeBlock, message_of
from allm.errors import AdapterError, ErrorInfo
from allm.events import (
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    ReasoningDelta,
    ReasoningStarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallStarted,
)  # fmt: skip
from allm.limits import limits
from allm.messages import Message, Part, TextPart, ToolCallPart
from allm.responses import FinishReason, Response
from allm.usage import Usage

__all__ = ["CallContext", "MessageBuilder"]


class CallContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoder must know of its call. `generation` counts the starts of the call, so that block ids are never reused in a
    stream; `block_prefix` tells the calls of one stream apart; `used_ids` are the tool call ids that the thread already has;
    `response_type` names the type that the answer is read as, `left_out` the parameters for which the wire has no place; `base_url` is
    where the request goes: some of what a host says goes back to that host alone; `tools` are the names of the tools that it declares;
    `answer_tool` is the tool, none of these, whose arguments are the answer."""

    request_id: str
    generation: int = 1
    used_ids: frozenset[str] = frozenset()
    include_raw_chunks: bool = False
    block_prefix: str = "b"
    response_type: str | None = None
    left_out: tuple[str, ...] = ()
    base_url: str = ""
    tools: tuple[str, ...] = ()
    answer_tool: str | None = None


class MessageBuilder:
    """Builds one message of one attempt. `events` is what happened since `take()`; not thread-safe.

    Text and reasoning go to the current block. A wire whose blocks interleave names the one that it goes on with (`turn_to`); the others
    stay open. On a wire that never does, a block ends where one of the other kind, a call or a whole part begins.
    """

    __slots__ = (
        "_answer",
        "_answer_tool",
        "_blocks",
        "_called",
        "_calls",
        "_context",
        "_count",
        "_current",
        "_ids",
        "_key",
        "_most_calls",
        "_open_blocks",
        "events",
        "id",
        "model",
        "names",
        "progress",
        "started",
    )

    def __init__(self, context: CallContext) -> None:
        self.events: list[Event] = []
        self.id: str | None = None
        self.model: str | None = None
        self.started = False
        self.progress = False
        self.names: dict[str, str] = {}  # on the wire -> the tool's own, where they differ
        self._context = context
        self._blocks: list[TextBlock | CallBlock | WholeBlock] = []
        self._calls: dict[Any, CallBlock] = {}
        self._current: TextBlock | None = None
        self._key: Any = None
        self._open_blocks: dict[Any, TextBlock] = {}
        self._answer: TextBlock | CallBlock | None = None
        self._answer_tool = context.answer_tool
        self._count = 0
        self._called = 0
        self._most_calls = limits().calls
        self._ids = set(context.used_ids)

    def take(self) -> list[Event]:
        """The events since the last time."""
        events, self.events = self.events, []
        return events

    def start(self, message_id: str | None, model: str | None) -> None:
        """The provider began to answer."""
        self.started = True
        self.id, self.model = message_id, model
        self.events.append(MessageStarted(message_id, model))

    def text(self, delta: str) -> None:
        """More text."""
        block = self._current
        if block is None or block.reasoning:
            block = self._open(False)
        block.pieces.append(delta)
        self.events.append(TextDelta(block.id, delta))

    def answer(self) -> None:
        """What follows as text, up to the end of its block, is the structured answer: text beside it is none of it."""
        self._answer = self._open(False)

    def reasoning(self, delta: str) -> None:
        """More reasoning."""
        block = self._current
        if block is None or not block.reasoning:
            block = self._open(True)
        block.pieces.append(delta)
        self.events.append(ReasoningDelta(block.id, delta))

    def whole(self, part: Part) -> None:
        """A part that comes in one piece."""
        self.close_block()
        self._blocks.append(WholeBlock(part))
        self.events.append(PartCompleted(self._next_id(), part))

    def turn_to(self, key: Any) -> None:
        """What follows belongs to the block `key`, which is begun if it is not open; the others stay open."""
        if key != self._key:
            self._key = key
            self._current = self._open_blocks.get(key)

    def text_before_others(self) -> str | None:
        """What the current block says, if another part began behind it; else None."""
        block = self._current
        return "".join(block.pieces) if block is not None and self._blocks[-1] is not block else None

    def close_block(self) -> None:
        """Ends the current block of text or reasoning, if it is open."""
        block = self._current
        if block is not None:
            self._current = None
            del self._open_blocks[self._key]
            self.events.append(block.completed())

    def close_blocks(self) -> None:
        """Ends all open blocks of text and reasoning, in the order in which they began."""
        self.events += [block.completed() for block in self._open_blocks.values()]
        self._open_blocks.clear()
        self._current = None

    def call(self, key: Any, call_id: str | None, name: str | None, arguments: str | None) -> None:
        """More of the tool call `key`. A new id and name under a known key is a new call: some hosts number all of them 0. Raises
        AdapterError for more calls than `Limits.calls`."""
        call = self._calls.get(key)
        if call is None or (call_id and name and call.call_id and call.call_id != call_id):
            call = self._open_call(key)
        if call_id and not call.call_id:
            call.call_id = call_id
        if name and not call.started:
            call.name = self.names.get(name, name)
            self._start_call(call)
        if arguments:
            call.pieces.append(arguments)
            if call.started:
                self.events.append(call.delta(call.id, arguments))

    def sign(self, signature: str | None = None, *, data: str | None = None, provider: str | None = None, reasoning: bool = False) -> None:
        """The current block (one of `reasoning`, or of text, is begun if it is not open) has this proof of origin, or is opaque data."""
        block = self._current
        if block is None or block.reasoning is not reasoning:
            block = self._open(reasoning)
        block.signature = signature if signature is not None else block.signature
        block.data = data if data is not None else block.data
        block.provider = provider if provider is not None else block.provider

    def made_by(self, provider: str) -> None:
        """The current block, if it is reasoning that nobody signed, was made by `provider`: it goes back there alone."""
        block = self._current
        if block is not None and block.reasoning and block.provider is None:
            block.provider = provider

    def sign_call(self, key: Any, signature: str) -> None:
        """The tool call `key` has this proof of origin."""
        self._calls[key].signature = signature

    def end_call(self, key: Any, *, whole: bool = False) -> str | None:
        """The tool call `key` is complete; without a word of it, it is when the message is. `whole`: the provider says that nothing was
        cut from it, so that no arguments at all are `{}`. Gives the id that the call has, None if it never got a name or is the answer."""
        call = self._calls.pop(key, None)
        if call is not None:
            self._end_call(call, whole)
        return call.call_id if call is not None and isinstance(call.part_, ToolCallPart) else None

    def last_call(self) -> Any:
        """The key of the newest call, None if there is none: where a host's deltas name no call, they belong to it."""
        return next(reversed(self._calls), None)

    def complete(
        self,
        finish: FinishReason,
        *,
        raw_finish: str | None = None,
        usage: Usage | None = None,
        refusal: str | None = None,
        metadata: dict[str, Any] | None = None,
        raw: Any = None,
    ) -> None:
        """The answer is complete: closes what is open and appends the terminal event."""
        if not self.started:
            self.start(self.id, self.model)
        self.close_blocks()
        for call in self._calls_in_order():
            self._end_call(call)
        if finish == "tool_calls" and self._answer is not None:
            finish = "stop"  # the call was the answer, if there is no other
        if finish == "stop" and any(isinstance(call.part_, ToolCallPart) for call in self._calls_in_order()):
            finish = "tool_calls"
        self.events.append(
            MessageCompleted(
                Response(
                    id=self.id,
                    request_id=self._context.request_id,
                    model=self.model,
                    message=self.message(),
                    finish_reason=finish,
                    raw_finish_reason=raw_finish,
                    usage=usage or Usage(),
                    refusal=refusal,
                    raw=raw,
                    metadata=self._with_what_is_known(metadata or {}),
                )
            )
        )

    def _with_what_is_known(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """The metadata with what the call knows of its request."""
        context = self._context
        if self._answer is not None:
            metadata = self._with_place(self._answer, metadata)
        if context.response_type is not None:
            metadata = {**metadata, "response_type": context.response_type}
        return {**metadata, "left_out": context.left_out} if context.left_out else metadata

    def _with_place(self, answer: TextBlock | CallBlock, metadata: dict[str, Any]) -> dict[str, Any]:
        """The metadata with the place of the answer among the parts, where there is other text."""
        parts = [block for block in self._blocks if block.part() is not None]
        texts = [block for block in parts if isinstance(block.part(), TextPart)]
        return {**metadata, "answer_part": parts.index(answer)} if answer in texts and len(texts) > 1 else metadata

    def partial(self, finish: FinishReason, error: ErrorInfo | None, usage: Usage | None = None) -> Response:
        """The response so far, for an attempt that ends here; closes the open blocks. Half a tool call is no tool call."""
        self.close_blocks()
        for call in self._calls.values():
            if call.answers:
                self._end_call(call)
        return Response(
            id=self.id,
            request_id=self._context.request_id,
            model=self.model,
            message=self.message(),
            finish_reason=finish,
            usage=usage or Usage(),
            error=error,
        )

    def message(self) -> Message:
        """The message so far."""
        return message_of([part for block in self._blocks if (part := block.part()) is not None])

    @property
    def has_content(self) -> bool:
        """Whether anything was produced that a caller would have to forget."""
        return bool(self._blocks)

    def block_ids(self) -> tuple[str, ...]:
        """The ids of all blocks so far."""
        return tuple(f"{self._context.block_prefix}{self._context.generation}.{n}" for n in range(1, self._count + 1))

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._context.block_prefix}{self._context.generation}.{self._count}"

    def _open(self, reasoning: bool) -> TextBlock:
        self.close_block()
        block = self._current = self._open_blocks[self._key] = TextBlock(self._next_id(), reasoning)
        self._blocks.append(block)
        self.events.append(ReasoningStarted(block.id) if reasoning else TextStarted(block.id))
        return block

    def _open_call(self, key: Any) -> CallBlock:
        self.close_block()
        if self._called >= self._most_calls:
            raise AdapterError("malformed_response", f"more than {self._most_calls} tool calls in one answer")
        self._called += 1
        call = CallBlock(self._next_id())
        replaced = self._calls.pop(key, None)
        if replaced is not None:
            self._end_call(replaced)
        self._calls[key] = call
        return call

    def _start_call(self, call: CallBlock) -> None:
        call.started = True
        self._blocks.append(call)  # the message has its parts in the order in which their starts were told
        if call.name == self._answer_tool:
            call.answers, call.delta, self._answer = True, TextDelta, call
            self.events.append(TextStarted(call.id))
        else:
            self.events.append(ToolCallStarted(call.id, call.name))
        if call.pieces:
            self.events.append(call.delta(call.id, "".join(call.pieces)))

    def _calls_in_order(self) -> list[CallBlock]:
        return [block for block in self._blocks if isinstance(block, CallBlock)]

    def _end_call(self, call: CallBlock, whole: bool = False) -> None:
        if call.part_ is not None or not call.name:
            return  # what never got a name can be neither run nor sent back
        if call.answers:
            self._end_answer(call, whole)
            return
        if not call.call_id or call.call_id in self._ids:
            call.call_id = self._new_call_id(call)
        self._ids.add(call.call_id)
        raw, arguments = read_arguments("".join(call.pieces) or ("{}" if whole else ""))
        part = call.part_ = ToolCallPart(call.call_id, call.name, arguments, raw or None, call.signature)
        self.events.append(ToolCallCompleted(call.id, part.name, part.arguments, part.raw_arguments, part.id, part.signature))

    def _end_answer(self, call: CallBlock, whole: bool) -> None:
        """The answer is complete, or cut: its text is what came of the arguments."""
        if whole and not call.pieces:
            call.pieces.append("{}")
            self.events.append(TextDelta(call.id, "{}"))
        part = call.part_ = TextPart("".join(call.pieces))
        self.events.append(TextCompleted(call.id, part.text))

    def _new_call_id(self, call: CallBlock) -> str:
        """An id that the thread does not have: several calls may have been made under one request id."""
        made = wanted = f"call_{self._context.request_id}_{call.id}"
        again = 1
        while made in self._ids:
            again += 1
            made = f"{wanted}.{again}"
        return made
