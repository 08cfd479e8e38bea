"""Looking into live actors: their state, their age and last exit, their counters."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    ActorExited,
    AskCycle,
    CallTimeout,
    ChildSpec,
    Crash,
    Exit,
    LoopDispatcher,
    Registry,
    Supervisor,
    aio,
    child,
    counting,
    get_state,
    kill,
    tree,
)
from allm.supervisors.clock import clock
from allm.supervisors.dispatch import Dispatcher
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Loop, Probe, ask, hold, raised, running, spec, tell


@dataclass
class Point:
    x: int
    tags: set[str] = field(default_factory=lambda: {"a"})


class Box(Actor):
    """Holds this and that."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 3
        self.names = ["a", "b"]
        self.point = Point(1)
        self.table = {1: (2, None), "exit": Exit("tired")}
        self.lock = threading.Lock()
        self.raw = b"bytes"
        self.nested: list[Any] = []
        self.nested.append(self.nested)
        self._secret = "key"

    def on_receive(self, message: Any) -> Any:
        return message(self) if callable(message) else message


class Told(Box):
    def on_get_state(self) -> Any:
        if self.count < 0:
            raise ValueError("not now")
        return {"sum": self.count + 1}


def test_LOOK_01_the_state_of_a_live_actor_is_plain_data(begin: Start, dispatch: Dispatcher) -> None:
    ref = begin(Box, on=dispatch)
    state = get_state(ref, timeout=WAIT)
    nested = state.pop("nested")
    assert state == {
        "count": 3,
        "names": ["a", "b"],
        "point": {"x": 1, "tags": ["a"]},
        "table": {"1": [2, None], "exit": {"kind": "tired", "detail": None}},
        "lock": "<lock>",
        "raw": "<bytes>",
    }
    json.dumps(nested, allow_nan=False)


def test_LOOK_01b_an_actor_may_say_itself_what_its_state_is(begin: Start, dispatch: Dispatcher) -> None:
    ref = begin(Told, on=dispatch)
    names = Registry()
    names.register("box", ref=ref)
    assert get_state(names.via("box"), timeout=WAIT) == {"sum": 4}

    def negative(box: Box) -> None:
        box.count = -1

    ask(ref, negative)
    with pytest.raises(ValueError, match="not now"):
        get_state(ref, timeout=WAIT)
    assert ask(ref, "lives") == "lives"


def test_LOOK_01c_it_overtakes_the_mailbox_and_gives_up_on_an_actor_that_does_not_come_to_answer(
    begin: Start, threads: Dispatcher, journal: Journal
) -> None:
    entered, release = threading.Event(), threading.Event()
    ref = begin(Probe, journal, on=threads)
    tell(ref, partial(hold, entered, release))
    assert entered.wait(WAIT)
    tell(ref, "later")
    with pytest.raises(CallTimeout, match=r"did not answer get_state within 0\.01 seconds"):
        get_state(ref, timeout=0.01)
    order: list[Any] = []
    answered = threading.Event()

    def look() -> None:
        order.append(get_state(ref, timeout=WAIT)["name"])
        answered.set()

    threading.Thread(target=look).start()
    while not ref.actor_inbox.signals:  # type: ignore[attr-defined]  # pyright: ignore
        pass
    release.set()
    assert answered.wait(WAIT)
    assert order == ["probe"]


def test_LOOK_01d_the_dead_and_oneself_are_refused(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    ref = begin(Box, on=dispatch)

    def look_at_self(box: Box) -> str:
        try:
            get_state(box.actor_ref)
        except Exception as error:
            return type(error).__name__
        raise AssertionError

    assert ask(ref, look_at_self) == ("WouldBlock" if isinstance(dispatch, LoopDispatcher) else AskCycle.__name__)
    kill(ref)
    with pytest.raises(ActorExited):
        get_state(ref)


def test_LOOK_01e_who_asks_hears_of_the_end_meanwhile(begin: Start, threads: Dispatcher, journal: Journal) -> None:
    entered, release = threading.Event(), threading.Event()
    ref = begin(Probe, journal, on=threads)
    tell(ref, partial(hold, entered, release))
    assert entered.wait(WAIT)
    seen: list[Any] = []

    def look() -> None:
        try:
            get_state(ref, timeout=WAIT)
        except ActorExited as error:
            seen.append(error.exit.kind)

    thread = threading.Thread(target=look)
    thread.start()
    while not ref.actor_inbox.signals:  # type: ignore[attr-defined]  # pyright: ignore
        pass
    kill(ref)
    thread.join(WAIT)
    assert seen == ["killed"]
    release.set()


class Awaits(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.phase = "new"
        self.gate = asyncio.Event()

    async def on_receive(self, message: Any) -> str:
        self.phase = "waiting"
        await self.gate.wait()
        return "done"


def test_LOOK_01f_an_actor_that_awaits_answers_meanwhile() -> None:
    async def main() -> None:
        ref: ActorRef[Awaits] = await aio.start_and_wait(Awaits)
        hanging: Any = ref.ask("x", block=False)
        while (await aio.get_state(ref))["phase"] != "waiting":
            await asyncio.sleep(0)
        assert not hanging.done
        with counting() as counters:
            assert counters.of(ref) == {"messages": 0, "seconds": 0.0, "restarts": 0}
        await aio.stop(ref)

    asyncio.run(main())


def test_LOOK_01g_the_full_tree_tells_age_and_last_exit(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    root = begin(Supervisor, [spec(journal, "a"), spec(journal, "b", ["ignore"])], on=dispatch)
    before, began = tree(root, full=True), clock.now()
    assert [node["last_exit"] for node in before["children"]] == [None, {"kind": "ignore", "detail": None}]
    assert before["age"] >= before["children"][0]["age"] >= 0
    assert before["children"][1]["age"] is None
    raised(running(root, "a"), Crash("x"))
    journal.wait_for(("start", "a"), times=2)
    running(root, "a")
    after = tree(root, full=True)
    assert after["children"][0]["last_exit"]["detail"]["message"] == "x"
    assert after["children"][0]["age"] <= clock.now() - began
    assert after["age"] > before["age"]
    json.dumps(after, allow_nan=False)
    assert "age" not in tree(root)


def calls_made(function: Callable[[], Any]) -> int:
    """How many functions are called, on this thread."""
    calls = 0

    def seen(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def test_LOOK_01h_counters_count_messages_restarts_and_time_and_cost_nothing_while_nobody_looks(loop: Loop) -> None:
    class Meek(Actor):
        def on_receive(self, message: Any) -> Any:
            return message

    def calls(ref: ActorRef[Any]) -> int:
        def tell_all() -> None:
            for number in range(20):
                ref.tell(number)

        return calls_made(tell_all)

    def measure() -> tuple[int, int, int, dict[str, Any]]:
        ref = Meek.start_on(dispatcher)  # on the loop's own thread: a tell is handled before it returns
        calls(ref)
        before = calls(ref)
        with counting() as counters:
            during = calls(ref)
            seen = counters.of(ref)
        after = calls(ref)
        kill(ref)
        return before, during, after, seen

    dispatcher = LoopDispatcher(loop.loop)
    before, during, after, seen = loop.run(measure)
    assert before == after < during
    assert seen["messages"] == 20
    assert seen["seconds"] > 0


def test_LOOK_01i_those_that_start_while_somebody_counts_are_counted(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    root = begin(Supervisor, [spec(journal, "a")], on=dispatch)
    with counting() as counters:
        for _ in range(3):
            ask(running(root, "a"), "x")
        assert counters.of(running(root, "a"))["messages"] == 3
        raised(running(root, "a"), Crash())
        journal.wait_for(("start", "a"), times=2)
        again = running(root, "a")
        ask(again, "y")
        with counting() as others:
            assert others.of(again) == counters.of(again)
        found = counters.of(again)
        assert (found["messages"], found["restarts"]) == (1, 1)
        assert counters.read()[again.actor_inbox.name] == found  # type: ignore[attr-defined]  # pyright: ignore
        kill(again)
        assert counters.of(again)["messages"] == 0
    a = child(root, "a")
    if a is not None:
        assert counters.of(a)["messages"] == 0


def test_LOOK_01j_time_in_a_handler_that_awaits_is_counted_to_its_end(begin: Start, loop: Loop) -> None:
    ref = begin(Awaits, on=LoopDispatcher(loop.loop))
    with counting() as counters:
        hanging: Any = ref.ask("x", block=False)
        while get_state(ref, timeout=WAIT)["phase"] != "waiting":
            pass
        assert counters.of(ref)["messages"] == 1
        threading.Event().wait(0.01)
        body: Any = ref._actor_weakref()  # pyright: ignore[reportPrivateUsage]
        loop.run(body.gate.set)
        assert hanging.get(timeout=WAIT) == "done"
        assert counters.of(ref)["seconds"] >= 0.01


def test_LOOK_01k_specs_with_other_dispatchers_are_counted_too(begin: Start, threads: Dispatcher, loop: Loop) -> None:
    root = begin(Supervisor, [ChildSpec("box", (Box, ()), dispatcher=LoopDispatcher(loop.loop))], on=threads)
    box = child(root, "box", kind=Box)
    assert box is not None
    with counting() as counters:
        ask(box, 1)
        assert counters.of(box)["messages"] == 1
