"""What type checkers know of refs, and specs by class. The `assert_type` lines are checked by mypy and pyright."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, assert_type

import pykka
import pytest
from pykka import ActorRef

from allm.supervisors import (
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    LoopDispatcher,
    SpecError,
    Supervisor,
    SupervisorError,
    aio,
    call,
    check_specs,
    child,
    start_and_wait,
    start_child,
    stop,
)
from allm.supervisors.dispatch import Dispatcher
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Loop


class Upper(Actor):
    """Answers a text with a text."""

    def __init__(self, suffix: str = "", *, times: int = 1) -> None:
        super().__init__()
        self.suffix, self.times = suffix, times

    def on_receive(self, message: str) -> str:
        return message.upper() * self.times + self.suffix


class Length(Actor):
    """Answers a text with a number, after an await."""

    async def on_receive(self, message: str) -> int:
        await asyncio.sleep(0)
        return len(message)


class Kind(Actor):
    """Says itself how it is supervised."""

    @classmethod
    def spec(cls, id: Any, /, *args: Any, **options: Any) -> ChildSpec:
        options.setdefault("restart", "transient")
        return super().spec(id, *args, **options)


class Stranger(pykka.ThreadingActor):
    use_daemon_thread = True


def test_HINT_01_start_and_wait_and_call_keep_the_actors_type(dispatch: Dispatcher) -> None:
    ref = start_and_wait(Upper, "!", on=dispatch, timeout=WAIT)
    assert_type(ref, ActorRef[Upper])
    answer = call(ref, "hello", WAIT)
    assert_type(answer, str)
    assert answer == "HELLO!"
    untyped: ActorRef[Any] = ref
    assert_type(call(untyped, "hello", WAIT), Any)
    proxy = ref.proxy()
    assert proxy.suffix.get(timeout=WAIT) == "!"
    stop(ref, timeout=WAIT)


def test_HINT_01b_the_answer_of_a_handler_that_awaits_has_its_type_too(loop: Loop) -> None:
    ref = start_and_wait(Length, on=LoopDispatcher(loop.loop), timeout=WAIT)
    answer = call(ref, "hello", WAIT)
    assert_type(answer, int)
    assert answer == 5
    stop(ref, timeout=WAIT)

    async def main() -> None:
        length = await aio.start_and_wait(Length)
        assert_type(length, ActorRef[Length])
        size = await aio.call(length, "hello")
        assert_type(size, int)
        assert size == 5
        await aio.stop(length)

    asyncio.run(main())


def test_HINT_01c_child_has_the_type_it_is_asked_for(begin: Start, dispatch: Dispatcher) -> None:
    root = begin(Supervisor, [Upper.spec("a"), Supervisor.spec("inner", [Upper.spec("b")])], on=dispatch)
    ref = child(root, "inner", "b", kind=Upper)
    assert_type(ref, ActorRef[Upper] | None)
    assert ref is not None
    assert call(ref, "x", WAIT) == "X"
    assert_type(child(root, "a"), ActorRef[Any] | None)
    assert child(root, "nobody", kind=Upper) is None
    with pytest.raises(TypeError, match="is no Length"):
        child(root, "a", kind=Length)


def test_HINT_01d_a_class_makes_the_specs_of_its_children(begin: Start, dispatch: Dispatcher) -> None:
    backoff = Backoff()
    made = Upper.spec("a", "!", restart="transient", shutdown=1.0, backoff=backoff, times=2)
    assert made == ChildSpec("a", (Upper, ("!",), {"times": 2}), restart="transient", shutdown=1.0, backoff=backoff)
    assert Upper.spec("a") == ChildSpec("a", (Upper, ()))
    assert Supervisor.spec("s", [], strategy="one_for_all").shutdown == "infinity"
    root = begin(Supervisor, [made, Supervisor.spec("s", [Upper.spec("b")], strategy="one_for_all")], on=dispatch)
    ref = child(root, "a", kind=Upper)
    assert ref is not None
    assert call(ref, "x", WAIT) == "XX!"
    with pytest.raises(SpecError):
        Upper.spec("a", restart="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_HINT_01e_bare_classes_stand_in_lists_of_children(begin: Start, dispatch: Dispatcher) -> None:
    root = begin(Supervisor, [Upper, Kind, Stranger], on=dispatch)
    ref = child(root, "Upper", kind=Upper)
    assert ref is not None
    assert call(ref, "x", WAIT) == "X"
    assert [(spec.id, spec.restart) for spec in check_specs([Upper, Kind, Stranger])] == [
        ("Upper", "permanent"),
        ("Kind", "transient"),
        ("Stranger", "permanent"),
    ]
    with pytest.raises(SupervisorError) as error:
        start_child(root, Upper)
    assert (error.value.reason, error.value.ref) == ("already_started", ref)
    dynamic = begin(DynamicSupervisor, on=dispatch)
    assert call(start_child(dynamic, Upper), "y", WAIT) == "Y"
    for wrong in (int, 5, "Upper"):
        with pytest.raises(SpecError, match="invalid_child_spec"):
            check_specs([wrong])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


MISTAKES = """
from typing import assert_type
from pykka import ActorRef
from allm.supervisors import Supervisor, aio, call, child, start_and_wait
from tests.supervisors.test_hints import Length, Upper

number: int = call(start_and_wait(Upper), "x")
text: str = call(start_and_wait(Length), "x")
other: ActorRef[Length] = start_and_wait(Upper)
missing: ActorRef[Upper] = child(start_and_wait(Supervisor), "a", kind=Upper)
Supervisor([Upper, int])
Upper.spec("a", restart="sometimes")

async def main() -> None:
    ref = await aio.start_and_wait(Upper)
    answer = await aio.call(ref, "x")
    number: int = answer
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_HINT_01f_a_checker_finds_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "mistakes.py"
    program.write_text(MISTAKES)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", str(program), __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    found = [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line]
    assert all("mistakes.py" in line for line in done.stdout.splitlines() if ": error:" in line), done.stdout
    assert sorted(set(found)) == [7, 8, 9, 10, 11, 12, 17], done.stdout + done.stderr
