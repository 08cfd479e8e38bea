"""OpenAI Responses: what of an item was not told yet -> events. The decoder's lower half: it knows items, not the events of the stream."""

from typing import Any

from allm.blocks import CallContext
from allm.messages import Part
from allm.providers.decoding import SseWireDecoder
from allm.providers.ids import real_names
from allm.providers.openai_responses_items import (
    CALLS,
    MAKER,
    arguments_of,
    call_left_over,
    content_of,
    image_left_over,
    image_of,
    message_left_over,
    name_of,
    provider_part,
    reasoning_data,
    reasoning_texts,
    text_of,
)
from allm.providers.openai_responses_matching import Item, Items

__all__ = ["ItemTeller"]


class ItemTeller(SseWireDecoder):
    """Tells each item once, however often and in whichever pieces it comes. `_place` and `_pieces` are where the newest text goes on."""

    PROVIDER = MAKER

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self.build.names = real_names(context.tools)
        self._items = Items()
        self._at: Any = None
        self._place: tuple[int | None, int | None, str | None] | None = None
        self._pieces: list[str] = []
        self._refusal: list[str] = []

    def _begin(self, response: dict[str, Any]) -> None:
        if not self.build.started:
            self.build.start(name_of(response.get("id")) or None, text_of(response.get("model")) or None)

    def _open(self, kind: str, index: int | None, name: str) -> Item:
        self._begin({})
        return self._items.begin(kind, index, name)

    def _added(self, index: int | None, data: dict[str, Any]) -> None:
        kind = text_of(data.get("type"))
        item = self._items.of_start(kind, index, data) or self._open(kind, index, name_of(data.get("id")))
        self.progress = True
        if item.done:
            return
        if kind in CALLS:
            self._name(item, data)
            self._head(item, CALLS[kind], 0, arguments_of(kind, data))
        elif kind == "message":
            for i, part in enumerate(content_of(data)):
                self._head(item, "text", i, text_of(part.get("text")))

    def _head(self, item: Item, what: str, index: int, text: str) -> None:
        """What the start of an item or a part says of it is told with what follows."""
        if text and text != "{}" and (what, index) not in item.told:
            item.heads[what, index] = text

    def _heads(self, item: Item) -> None:
        """Nothing followed: the start said all of it."""
        while item.heads:
            (what, index), text = item.heads.popitem()
            self._rest(item, what, index, text)

    def _done(self, index: int | None, data: dict[str, Any]) -> None:
        kind = text_of(data.get("type"))
        item = self._items.of_end(kind, index, data) or self._open(kind, index, name_of(data.get("id")))
        self._finish(item, data)
        self.progress = True

    def _finish(self, item: Item, data: dict[str, Any]) -> None:
        """The item is whole: tells of it what was not told yet."""
        if item.done:
            if item.kind == "message" and not item.told:
                self._finish_texts(item, data)  # its end was told without a word of it
            return
        self._turn_to(item.key)
        match item.kind:
            case "message":
                self._finish_texts(item, data)
                self._whole(message_left_over(data))
            case "reasoning":
                self._finish_reasoning(item, data)
            case "function_call" | "custom_tool_call":
                self._finish_call(item, data)
                return
            case "image_generation_call" if (image := image_of(data)) is not None:
                self._whole(image)
                self._whole(image_left_over(data))
            case _:
                self._whole(provider_part(item.kind, data))
        self._items.end(item)

    def _finish_texts(self, item: Item, data: dict[str, Any]) -> None:
        for i, part in enumerate(content_of(data)):
            self._rest(item, "text", i, text_of(part.get("text")))
            self._rest(item, "refusal", i, text_of(part.get("refusal")))
        self._heads(item)
        for what, i in item.told:
            if what == "text":
                self._turn_to((item.key, i))
                self.build.close_block()
        self._turn_to(item.key)

    def _finish_reasoning(self, item: Item, data: dict[str, Any]) -> None:
        for what, i, text in reasoning_texts(data):
            self._rest(item, what, i, text)
        self._release(item)
        self._turn_to(item.key)
        if (signed := reasoning_data(data)) is not None:
            self.build.sign(data=signed, provider=MAKER, reasoning=True)
        self.build.close_block()

    def _finish_call(self, item: Item, data: dict[str, Any]) -> None:
        """A call without a byte of arguments stays open: the terminal event may bring them, or say that the answer was cut before."""
        self._name(item, data)
        self._rest(item, CALLS[item.kind], 0, arguments_of(item.kind, data))
        item.whole, item.cut = data.get("status") == "completed", data.get("status") == "incomplete"
        if not item.told and "arguments" not in data:
            self._heads(item)
        if item.told:
            self._end_call(item)
        if not item.beside:
            item.beside = True
            self._whole(call_left_over(item.kind, data))

    def _end_call(self, item: Item) -> None:
        self.build.end_call(item.key)
        self._items.end(item)

    def _name(self, item: Item, data: dict[str, Any]) -> None:
        """The name and the id of a call, told once."""
        self._turn_to(item.key)
        known = item.call_id
        self._items.call(item, data)
        self.build.call(item.key, None if known else item.call_id or None, item.name or None, None)

    def _rest(self, item: Item, what: str, index: int, text: str) -> None:
        """`text` is all of it: tells what its deltas did not."""
        if more := item.untold(what, index, text):
            self._tell(item, what, index, more)

    def _tell(self, item: Item, what: str, index: int, piece: str) -> None:
        pieces = item.told.get((what, index))
        if pieces is None:
            pieces = item.told[what, index] = []
            if (head := item.heads.pop((what, index), "")) and not (head.startswith(piece) or piece.startswith(head)):
                piece = head + piece  # it goes on behind that
        pieces.append(piece)
        match what:
            case "text":
                self._turn_to((item.key, index))
                self.build.text(piece)
            case "refusal":
                self._refusal.append(piece)
                self.progress = True
            case "arguments" | "input":
                self._turn_to(item.key)
                self.build.call(item.key, None, None, piece)
            case _:
                self._reason(item, what, piece, begins=len(pieces) == 1)

    def _reason(self, item: Item, what: str, piece: str, begins: bool) -> None:
        """Reasoning may be told twice, as a summary and as what was really thought: what came first is told, the other one when the item
        is whole, and only if it says something else."""
        first = item.lead is None
        item.lead = item.lead or what
        if item.lead != what:
            self.progress = True
            return
        self._turn_to(item.key)
        self.build.reasoning(f"\n\n{piece}" if begins and not first else piece)

    def _release(self, item: Item) -> None:
        """What was kept back of an item's reasoning, unless it was told already."""
        if item.lead is None or item.done:
            return
        other = "content" if item.lead == "summary" else "summary"
        told, kept = item.texts((item.lead,)), item.texts((other,))
        if "".join(kept.split()) not in ("", "".join(told.split())):
            more = (
                kept[len(told) :]
                if kept.startswith(told)
                else "\n\n".join(["", *(item.text(*part) for part in item.told if part[0] == other)])
            )
            self._turn_to(item.key)
            self.build.reasoning(more)

    def _turn_to(self, block: Any) -> None:
        """Each text of the answer is a block, and so is the reasoning of an item: they stay apart where they interleave."""
        if self._at != block:
            self._at = block
            self._place = None
            self.build.turn_to(block)

    def _whole(self, part: Part | None) -> None:
        if part is not None:
            self.build.whole(part)
