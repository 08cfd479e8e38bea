"""`allm demo`: conversations at the same time with a provider that fails all the time, over real HTTP, while actors crash.

Each call is supervised: the scripted faults end attempts, `allm.testing.crash` ends actors of the library itself, and supervisors
start both again. At the end each conversation is compared with its script.
"""

import asyncio
import time
from collections import Counter
from typing import Any, Final

import allm
from allm.cli import demo_report
from allm.cli.demo_view import Board, view_of
from allm.cli.scenario import DRAFT, Conversation, Pace, Provider, draw, losses
from allm.testing import Reply, Simulator, crash

__all__ = ["actor_restarts", "demo"]

ATTEMPTS: Final = 40
"""Many: on a busy machine the short deadlines end attempts that nobody broke."""
TURN_LIMIT: Final = 60.0
"""Seconds after which a turn counts as lost: the demo ends whatever happens."""
CRASHES: Final = ((0.15, "io"), (0.45, "engine"), (0.7, "io"))
"""Which actor is crashed once this share of all turns is done."""


def demo(conversations: int, turns: int, seed: int, *, fast: bool = False, supervised: bool = True) -> bool:
    """Plays it and prints what came of it. True if every conversation is its script, message for message."""
    script = draw(conversations, turns, seed)
    pace = Pace().faster() if fast else Pace()
    provider = Provider(script, pace)
    began = time.monotonic()
    demo_report.announce(script, seed, supervised)
    with Simulator() as simulator, allm.Runtime() as runtime:
        simulator.reply(Reply(text=DRAFT, delay=pace.delta))
        simulator.respond(provider)
        engine = engine_for(simulator, pace, supervised)
        board = Board(script, runtime, provider.injected, supervised)
        threads = asyncio.run(play(script, engine, runtime, board))
        actors = actor_restarts(runtime.tree())
    lost = [loss for conversation, thread in zip(script, threads, strict=True) for loss in losses(conversation, thread)]
    demo_report.show(script, provider.injected, board, actors, lost, time.monotonic() - began)
    return not lost


def engine_for(simulator: Simulator, pace: Pace, supervised: bool) -> allm.Engine:
    """An engine that speaks to this simulator; unsupervised, its calls have one attempt."""
    retry = allm.Retry(max_attempts=ATTEMPTS, base_delay=pace.base_delay, max_delay=0.5, mid_stream="restart")
    return allm.Engine(
        "sim:",
        base_url=simulator.base_url("chat"),
        retry=retry if supervised else allm.Retry.none(),
        timeouts=allm.Timeouts(first_event=pace.first_event, idle=pace.idle, total=30),
    )


async def play(script: tuple[Conversation, ...], engine: allm.Engine, runtime: allm.Runtime, board: Board) -> list[allm.Thread]:
    """All conversations at the same time, and the crashes between them: what each came to."""
    async with view_of(board), asyncio.TaskGroup() as group:
        crashing = group.create_task(crash_actors(runtime, board))
        talking = [group.create_task(converse(each, engine, runtime, board)) for each in script]
        threads = [await each for each in talking]
        crashing.cancel()
    return threads


async def converse(conversation: Conversation, engine: allm.Engine, runtime: allm.Runtime, board: Board) -> allm.Thread:
    """One conversation: each turn sends the whole thread so far."""
    thread = allm.Thread()
    for number, turn in enumerate(conversation.turns, 1):
        thread = thread.add_user(turn.question)
        board.ask(conversation.name, number)
        answer = await ask(allm.stream_generate(engine, thread, runtime=runtime), conversation.name, board)
        if answer is not None and answer.content:
            thread = thread.add_message(answer)
    board.end(conversation.name)
    return thread


async def ask(stream: allm.Stream, name: str, board: Board) -> allm.Message | None:
    """One supervised call, watched as it goes: the answer, or what there is of it, or None."""
    try:
        async with asyncio.timeout(TURN_LIMIT):
            async for event in stream:
                board.see(name, event)
            return (await stream).message
    except allm.AllmError as error:
        board.fail(name, str(error))
    except TimeoutError:
        board.fail(name, f"nothing for {TURN_LIMIT:.0f} s")
    return None


async def crash_actors(runtime: allm.Runtime, board: Board) -> None:
    """Crashes actors of the library in the middle of calls, as a bug in them would."""
    for share, actor in CRASHES:
        while board.share_done < share or not board.streaming:
            await asyncio.sleep(0.02)
        path = ("core", "io") if actor == "io" else ("engines", _engine_id(runtime), "engine")
        board.crashed(" > ".join(path), board.streaming)
        crash(*path, runtime=runtime)


def _engine_id(runtime: allm.Runtime) -> str:
    (engines,) = (child for child in runtime.tree()["children"] if child["id"] == "engines")
    return str(engines["children"][0]["id"])


def actor_restarts(tree: dict[str, Any]) -> Counter[str]:
    """Restarts by kind of actor, streams left out: those are counted while they run."""
    counted: Counter[str] = Counter()
    for child in tree.get("children", ()):
        counted[child["kind"]] += child["restarts"]
        if child["kind"] != "CallSupervisor":
            counted += actor_restarts(child)
    return +counted
