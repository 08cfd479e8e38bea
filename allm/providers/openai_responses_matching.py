"""OpenAI Responses: which item of the answer an event is about.

An item is told of up to four times: its start, its deltas, its end, and again in the terminal event. What these have in common differs
from host to host: ids that change on the way (proxies), indexes that are shared, shifted by an item which was never announced, or not
sent at all (llama.cpp, whose deltas name the call's id in place of the item's). So the surest mark decides first:

    1. a call's id       2. the item's id       3. the index, for an item of the same kind
    4. what was told of it: an item whose text or arguments go on as these do (ends and the terminal event), or the newest open one (deltas)

What fits none of them is a new item. Each look-up takes the same time however many items there are.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from allm.providers.openai_responses_items import CALLS, arguments_of, content_of, name_of, reasoning_texts, text_of

__all__ = ["Item", "Items"]

_TEXTS: Final = {"message": ("text",), "reasoning": ("summary", "content"), "function_call": ("arguments",), "custom_tool_call": ("input",)}
"""Kind of item -> what its text is called, in `Item.told`."""


_MOST_PARTS: Final = 64
"""Parts of an item that are compared."""


class Item:
    """One item of the answer. `told`: (what, index of the part) -> the pieces that were told of it.

    `lead` is what is told of reasoning (its summary or its content, whichever came first); `beside` whether its left-over was told;
    `whole` whether the provider called it complete, `cut` whether it called it incomplete. `heads`: what its start said already; hosts
    go on behind that, or begin again.
    """

    __slots__ = ("_measured", "beside", "call_id", "cut", "done", "heads", "id", "index", "key", "kind", "lead", "name", "told", "whole")

    def __init__(self, kind: str, key: int, index: int | None, name: str) -> None:
        self.kind = kind
        self.key = key
        self.index = index
        self.id = name
        self.call_id = ""
        self.name = ""
        self.told: dict[tuple[str, int], list[str]] = {}
        self._measured: dict[tuple[str, int], tuple[int, int]] = {}  # how many of the pieces were measured, and what they add up to
        self.lead: str | None = None
        self.done = False
        self.beside = False
        self.whole = False
        self.cut = False
        self.heads: dict[tuple[str, int], str] = {}

    def text(self, what: str, index: int) -> str:
        """All that was told of one part."""
        return "".join(self.told.get((what, index), ()))

    def untold(self, what: str, index: int, text: str) -> str:
        """What was not told yet of a part that is all of `text`; nothing where this contradicts what was told. However often a part is
        repeated, this takes no more than its repetition."""
        part = what, index
        pieces = self.told.get(part)
        if pieces is None:
            return text
        count, size = self._measured.get(part, (0, 0))
        size += sum(map(len, pieces[count:]))
        self._measured[part] = len(pieces), size
        return text[size:] if len(text) > size and _alike(pieces, text) else ""

    def texts(self, whats: Iterable[str]) -> str:
        """All that was told of these."""
        return "".join(self.text(what, index) for what, index in self.told if what in whats)


class Items:
    """The items of one answer, as far as they are known."""

    def __init__(self) -> None:
        self.all: list[Item] = []
        self._by_index: dict[int, Item] = {}
        self._by_id: dict[str, Item] = {}
        self._by_call: dict[str, Item] = {}
        self._open: dict[str, dict[int, Item]] = {}

    def begin(self, kind: str, index: int | None, name: str) -> Item:
        """A new item."""
        item = Item(kind, len(self.all), index, name)
        self.all.append(item)
        self._open.setdefault(kind, {})[item.key] = item
        if index is not None:
            self._by_index[index] = item
        if name:
            self._by_id[name] = item
        return item

    def call(self, item: Item, data: dict[str, Any]) -> None:
        """Notes the name and the id of a call, the first that are told of it."""
        item.name = item.name or text_of(data.get("name"))
        if not item.call_id and (call_id := name_of(data.get("call_id"))):
            item.call_id = call_id
            self._by_call.setdefault(call_id, item)

    def end(self, item: Item) -> None:
        """The item is complete."""
        item.done = True
        self._open[item.kind].pop(item.key, None)

    def open(self, kind: str) -> list[Item]:
        """The items of a kind that did not end."""
        return list(self._open.get(kind, {}).values())

    def of_delta(self, kind: str, index: int | None, name: str | None) -> Item | None:
        """The item that a delta is about, None for a new one. One that is done has been told of already."""
        named = (self._by_id.get(name) or self._by_call.get(name)) if name else None
        if named is not None and named.kind == kind and (not named.done or index is None or index == named.index):
            return named
        placed = self._by_index.get(index) if index is not None else None
        if placed is not None and placed.kind == kind and not placed.done:
            return placed
        return None if index is not None and placed is None else self._newest(kind)

    def of_start(self, kind: str, index: int | None, data: dict[str, Any]) -> Item | None:
        """The item that was announced before, or whose deltas came first; None for a new one."""
        name, called = name_of(data.get("id")), self._called(kind, data)
        if called is not None:
            return called
        told = self._by_id.get(name)
        if told is not None and told.done and told.kind == kind and told.index == index is not None and not _conflict(told, data):
            return told  # its end came first
        for item in (self._by_id.get(name), self._by_index.get(index) if index is not None else None):
            if item is not None and item.kind == kind and not item.done and not (name and item.id and name != item.id):
                return None if _conflict(item, data) else item
        return None

    def of_end(self, kind: str, index: int | None, data: dict[str, Any]) -> Item | None:
        """The item that ended, maybe for the second time; None for one that was not told of before."""
        if (called := self._called(kind, data)) is not None:
            return called
        named = self._by_id.get(name_of(data.get("id")))
        if named is not None and (named.kind != kind or _conflict(named, data)):
            named = None
        if named is not None and (not named.done or index is None or index == named.index or _agrees(named, data)):
            return named
        placed = self._by_index.get(index) if index is not None else None
        if placed is not None and placed.kind == kind and not _conflict(placed, data) and (not placed.done or _agrees(placed, data)):
            return placed
        newest = self._newest(kind)
        if newest is None or (index is None and not _conflict(newest, data)):
            return newest
        oldest = next(iter(self._open[kind].values()))
        return next((item for item in (oldest, newest) if item.told and _agrees(item, data)), None)

    def of_output(self, output: list[dict[str, Any]]) -> list[Item | None]:
        """For each item of the whole list the one that was told of, None where there is none. No item is given twice."""
        found: list[Item | None] = []
        claimed: set[int] = set()
        for data in output:
            item = self._marked(data)
            if item is not None and (item.key in claimed or not _agrees(item, data, loose=True)):
                item = None
            found.append(item)
            if item is not None:
                claimed.add(item.key)
        if None in found:
            alike = self._by_content(claimed)
            for i, data in enumerate(output):
                if found[i] is None:
                    found[i] = item = next((item for item in self._candidates(i, data, alike) if item.key not in claimed), None)
                    if item is not None:
                        claimed.add(item.key)
        return found

    def _by_content(self, claimed: set[int]) -> dict[tuple[str, str, str], Iterator[Item]]:
        """(kind, name, text) -> the items that are so, but for those that were found by their marks."""
        alike: dict[tuple[str, str, str], list[Item]] = {}
        for item in self.all:
            if item.key not in claimed:
                alike.setdefault((item.kind, item.name, item.texts(_TEXTS.get(item.kind, ()))), []).append(item)
        return {content: iter(items) for content, items in alike.items()}

    def _candidates(self, i: int, data: dict[str, Any], alike: dict[tuple[str, str, str], Iterator[Item]]) -> Iterator[Item]:
        """What may be item `i` of the whole list, the likeliest first. A call is never one of which something else was told."""
        kind = text_of(data.get("type"))
        placed = self._by_index.get(i)
        if placed is not None and placed.kind == kind and _agrees(placed, data, loose=True):
            yield placed
        yield from alike.get((kind, text_of(data.get("name")) if kind in CALLS else "", _text_in(kind, data)), ())
        begun = next(iter(self._open.get(kind, {}).values()), None)
        if begun is not None and _agrees(begun, data):
            yield begun
        if (marked := self._marked(data)) is not None:
            yield marked
        if placed is not None and placed.kind == kind and kind not in CALLS:
            yield placed

    def _marked(self, data: dict[str, Any]) -> Item | None:
        kind = text_of(data.get("type"))
        if (called := self._called(kind, data)) is not None:
            return called
        named = self._by_id.get(name_of(data.get("id")))
        return named if named is not None and named.kind == kind and not _conflict(named, data) else None

    def _called(self, kind: str, data: dict[str, Any]) -> Item | None:
        item = self._by_call.get(name_of(data.get("call_id"))) if kind in CALLS else None
        return item if item is not None and item.kind == kind else None

    def _newest(self, kind: str) -> Item | None:
        return next(reversed(self._open.get(kind, {}).values()), None)


def _conflict(item: Item, data: dict[str, Any]) -> bool:
    """Whether these are two calls: ids that differ, and no arguments which say that one id was replaced on the way."""
    call_id = name_of(data.get("call_id")) if item.kind in CALLS else ""
    return bool(call_id and item.call_id and call_id != item.call_id) and (
        item.done or not item.told or not _agrees(item, data, loose=True)
    )


def _agrees(item: Item, data: dict[str, Any], *, loose: bool = False) -> bool:
    """Whether what was told of the item is how this begins, or the reverse. `loose`: whatever the ids of calls say."""
    if item.kind in CALLS:
        name = text_of(data.get("name"))
        if (name and item.name and name != item.name) or (not loose and _conflict(item, data)):
            return False
    whats = _TEXTS.get(item.kind, ())
    parts = islice(item.told.items(), _MOST_PARTS)
    return _alike((piece for part, pieces in parts if part[0] in whats for piece in pieces), _text_in(item.kind, data))


def _alike(pieces: Iterable[str], text: str) -> bool:
    """Whether the pieces together are how the text begins, or the reverse. No more of them is looked at than the text is long."""
    at = 0
    for piece in pieces:
        if at >= len(text):
            break
        if not text.startswith(piece[: len(text) - at], at):
            return False
        at += len(piece)
    return True


def _text_in(kind: str, data: dict[str, Any]) -> str:
    """The text that `Item.texts` is compared with."""
    if kind == "message":
        return "".join(text_of(part.get("text")) for part in content_of(data))
    if kind == "reasoning":
        return "".join(text for _, _, text in reasoning_texts(data))
    return arguments_of(kind, data) if kind in CALLS else ""
