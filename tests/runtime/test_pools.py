"""What a runtime's own threads do when it is stopped."""

import threading

import allm
from allm.events import Event
from allm.testing import Reply, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import eventually


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("allm-pool", "allm-keys"))]


def resolve(provider: str, context: allm.KeyContext) -> str:
    return "key"


def test_idle_workers_end_with_their_runtime(sim: Simulator, fast: Make) -> None:
    sim.reply(Reply(text="Hello"))
    before = len(workers())
    watched: list[Event] = []
    with allm.Runtime() as runtime:
        for pool in (runtime.pool, runtime._errands):  # pyright: ignore[reportPrivateUsage]
            pool._idle = 1000.0  # pyright: ignore[reportPrivateUsage]
        allm.generate(fast(keys=resolve), "Hi", runtime=runtime, on_event=watched.append)
        eventually(lambda: watched and isinstance(watched[-1], allm.MessageCompleted), "the end is told")
        assert len(workers()) >= before + 2
    eventually(lambda: len(workers()) <= before, "the workers are gone")
