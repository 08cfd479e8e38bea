"""Threads of any kind, of parts made by any provider, at any wire: a body that the vendor takes, and nothing said is lost on the way back.

So the provider can be changed in mid-thread. What may be dropped: reasoning and blocks of another maker, reasoning that is unsigned or that
nothing follows, blank text, names of speakers, arguments as the model wrote them (the object stays), and images that a model made of a type
which the wire does not take (these are told of). What may move: instructions to the front, results to their calls, what is shown behind
them. What may be added: words that say so.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allm import FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart
from allm.messages import Part, Unknown
from tests.wire.judging import Judge, judged
from tests.wire.reading.common import Json
from tests.wire.reading.wires import WIRES, Wire

EXAMPLES = 100
IDS = ["call_1", "toolu_01A", "0", "functions.f:0", "\u00e4 id", "x" * 99]
NAMES = ["weather", "a.b:c", "f" * 200, "now-2"]
MODELS = {
    "openai.chat": ["gpt-4.1", "gpt-5"],
    "openai.responses": ["gpt-4.1", "o3"],
    "anthropic": ["claude-opus-4-8", "claude-sonnet-4-5", "claude-3-haiku-20240307"],
    "gemini": ["gemini-2.5-flash", "gemini-3-pro-preview"],
}
SIGNED = "cHJvb2Y="
MARK = re.compile(r"<<(\d+)>>")

odd = st.sampled_from(["", "{", "[1]", "\u00e4\u20ac \U0001d11e", "\u2028\x00", "\n\n a"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
blank = st.sampled_from(["", " ", "\n\t"])


@dataclass
class Maker:
    """Draws parts. Each has a number of its own, by which it is found again."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    count: int = 0
    ids: list[str] = field(default_factory=list[str])

    def number(self) -> int:
        self.count += 1
        return self.count

    def text(self) -> str:
        return f"{self.draw(odd)}<<{self.number()}>>{self.draw(odd)}"

    def part(self, kind: str) -> Part:
        n = self.number()
        maker = self.draw(st.sampled_from(["anthropic", "openai", "gemini"]))
        match kind:
            case "text":
                return TextPart(self.text(), self.draw(st.none() | st.just(SIGNED)))
            case "blank":
                return TextPart(self.draw(blank))
            case "image":
                mime = self.draw(st.sampled_from(["image/png", "image/jpeg", "image/webp"]))
                return ImagePart(Image(data=b"image %d" % n, mime=mime))
            case "address":
                return ImagePart(Image(url=f"https://example.org/{n}.png"))
            case "odd image":
                return ImagePart(Image(data=b"odd %d" % n, mime="image/bmp"))
            case "file":
                return FilePart(data=b"%%PDF %d" % n, mime="application/pdf", name="a.pdf")
            case "thought":
                sealed = json.dumps({"type": "reasoning", "id": f"rs_{n}", "summary": [], "encrypted_content": f"made by {maker}"})
                signature, data = self.draw(st.sampled_from([(None, None), (SIGNED, None), (None, sealed), (SIGNED, sealed)]))
                return ReasoningPart(f"thought of {maker}", signature, data, maker)
            case "call":
                self.ids.append(self.draw(st.sampled_from(IDS)))
                raw = self.draw(st.none() | st.just("{}"))
                arguments = {"n": n, "a": self.draw(odd)}
                return ToolCallPart(self.ids[-1], self.draw(st.sampled_from(NAMES)), arguments, raw and json.dumps(arguments))
            case _:
                index: int = self.draw(st.integers(0, len(FOREIGN) - 1))
                return FOREIGN[index]

    def content(self, *kinds: str) -> str | tuple[Part, ...]:
        kinds = tuple(self.draw(st.lists(st.sampled_from(("whole", *kinds)), max_size=5)))
        return self.text() if kinds[:1] == ("whole",) else tuple(self.part(kind) for kind in kinds if kind != "whole")

    def message(self) -> Message:
        match self.draw(st.sampled_from(["user", "user", "assistant", "assistant", "assistant", "tool", "tool", "system"])):
            case "user":
                name = self.draw(st.none() | st.just("ann"))
                return Message("user", self.content("text", "blank", "image", "address", "file", "foreign"), name)
            case "assistant":
                kinds = ("text", "blank", "call", "call", "thought", "foreign", "image", "odd image", "file")
                return Message("assistant", self.content(*kinds))
            case "tool":
                call_id = self.draw(st.sampled_from([*self.ids[-3:], *self.ids[-2:], IDS[0]]))
                failed = self.draw(st.sampled_from([{}, {"is_error": True}]))
                return Message("tool", self.content("text", "blank", "image", "file"), tool_call_id=call_id, metadata=failed)
            case _:
                return Message("system", self.content("text", "blank"))


FOREIGN: list[Part] = [
    Unknown("new", {"type": "new"}),
    ProviderPart("openai", "never_heard_of", {"said": "made by openai"}),
    ProviderPart("anthropic", "server_tool_use", {"id": "srvtoolu_1", "name": "web_search", "input": {"query": "made by anthropic"}}),
    ProviderPart(
        "openai", "web_search_call", {"id": "ws_1", "status": "completed", "action": {"type": "search", "query": "made by openai"}}
    ),
    ProviderPart("gemini", "executableCode", {"executableCode": {"code": "made by gemini", "language": "PYTHON"}}),
]


@st.composite
def threads(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[Message, ...]:
    """At least one word of a user is among it: a thread of nothing but instructions is the user's on some wires."""
    maker = Maker(draw)
    messages = [maker.message() for _ in range(draw(st.integers(1, 9)))]
    messages.insert(draw(st.integers(0, len(messages))), Message("user", maker.text()))
    return tuple(messages)


def marks(text: str) -> list[str]:
    return MARK.findall(text)


def media(messages: tuple[Message, ...]) -> Counter[Any]:
    """What is shown, but for what a model made of a type that not every wire takes."""
    parts = [part for message in messages for part in message.parts]
    shown = [part.image.data or part.image.url for part in parts if isinstance(part, ImagePart) and part.image.mime != "image/bmp"]
    return Counter([*shown, *(part.data for part in parts if isinstance(part, FilePart))])


def flow(messages: tuple[Message, ...], results: set[str]) -> Iterator[str]:
    """The marks of what users and models said, and the calls, in order."""
    for message in messages:
        if message.role in ("user", "assistant"):
            for part in message.parts:
                if isinstance(part, TextPart):
                    yield from (mark for mark in marks(part.text) if mark not in results)
                elif isinstance(part, ToolCallPart):
                    yield f"call {json.dumps(part.arguments, sort_keys=True)} of {re.sub('[^a-zA-Z0-9_-]', '_', part.name)[:64]}"


def calls_last(messages: tuple[Message, ...], wire: str) -> tuple[Message, ...]:
    """With the text of a message before its calls, as the Chat wire has it: content, then calls."""
    if wire != "openai.chat":
        return messages
    ordered = [tuple(sorted(message.parts, key=lambda part: isinstance(part, ToolCallPart))) for message in messages]
    return tuple(Message(message.role, parts) for message, parts in zip(messages, ordered, strict=True))


def answers(messages: tuple[Message, ...], turns: bool) -> Iterator[tuple[str, list[str]]]:
    """(the arguments of a call, the marks of its result) for results of the only call of their id, with `turns` in that call's turn."""
    used = Counter(call.id for message in messages for call in message.tool_calls)
    turn: dict[str, ToolCallPart] = {}
    for message in messages:
        if message.role == "assistant" and (message.tool_calls or message.text):  # not an item of a wire's own between others
            turn = {**({} if turns else turn), **{call.id: call for call in message.tool_calls}}
        elif message.role == "tool" and used[message.tool_call_id or ""] == 1 and (call := turn.pop(message.tool_call_id or "", None)):
            yield json.dumps(call.arguments, sort_keys=True), marks(message.text)


def check_nothing_is_lost(thread: tuple[Message, ...], back: tuple[Message, ...], wire: Wire) -> None:
    results = {mark for message in thread if message.role == "tool" for mark in marks(message.text)}
    thread = calls_last(thread, wire.name)
    assert list(flow(thread, results)) == list(flow(back, results))
    assert media(thread) == media(back)
    for role, places in {"system": {"system"}, "user": {"user"}, "assistant": {"assistant"}, "tool": {"tool", "user"}}.items():
        told = "\n".join(message.text for message in back if message.role in places)
        texts = [part.text for message in thread if message.role == role for part in message.parts if isinstance(part, TextPart)]
        assert all(text.strip() in told for text in texts), (role, told)
    instructions = [[mark for message in each if message.role == "system" for mark in marks(message.text)] for each in (thread, back)]
    assert instructions[0] == instructions[1]
    given, found = dict(answers(thread, turns=True)), dict(answers(back, turns=False))  # a wire may tell one message as several
    assert {call: found[call] for call in given} == given


def of_others(thread: tuple[Message, ...], body: Json, wire: Wire) -> list[str]:
    """What is in the body that only another maker may see."""
    told = json.dumps(body)
    makers = {"anthropic", "openai", "gemini"} - {wire.adapter.provider}
    return [name for name in makers if f"thought of {name}" in told or f"made by {name}" in told]


written: dict[str, list[Json]] = {name: [] for name in WIRES}


@pytest.mark.timeout(240)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(threads(), st.data())
def test_nothing_is_lost_on_the_way_back_at_any_wire(thread: tuple[Message, ...], data: st.DataObject) -> None:
    for name, wire in WIRES.items():
        body = wire.write(Request(thread, model=data.draw(st.sampled_from(MODELS[name]))))
        written[name].append(body)
        check_nothing_is_lost(thread, wire.read(body, None).request.messages, wire)
        assert of_others(thread, body, wire) == []


NOTHING = Message("user", ())
CALLED = ToolCallPart("call_1", "weather", {"n": 1})


@pytest.mark.parametrize(
    "between",
    [
        (NOTHING,),
        (NOTHING, Message("assistant", (FOREIGN[2], TextPart("")))),  # a server tool's call that was never answered
        (Message("assistant", (FOREIGN[2],)), NOTHING, Message("assistant", (TextPart(" "),))),
    ],
)
@pytest.mark.parametrize("said", [(), (TextPart(" "), ReasoningPart("Hm.", provider="other"), TextPart("<<2>>"))])
def test_what_says_nothing_parts_no_call_from_its_result(said: tuple[Part, ...], between: tuple[Message, ...]) -> None:
    result = Message("tool", "<<5>>", tool_call_id="call_1")
    thread = (Message("user", "<<1>>"), NOTHING, Message("assistant", (CALLED, *said)), *between, result)
    for wire in WIRES.values():
        body = wire.write(Request(thread, model=MODELS[wire.name][0]))
        check_nothing_is_lost(thread, wire.read(body, None).request.messages, wire)


@judged
def test_the_vendors_own_types_accept_all_of_them(judge: Judge) -> None:
    if not written["gemini"]:
        test_nothing_is_lost_on_the_way_back_at_any_wire()
    for name, wire in WIRES.items():
        assert len(written[name]) > EXAMPLES / 2
        assert judge.refused(wire.judge, written[name]) == []
