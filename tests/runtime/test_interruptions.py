"""An exception from outside (a signal's handler, the recursion limit) cuts off the call that it meets, and no other."""

import json
import subprocess
import sys
from typing import Any

import pytest


def interrupted(*how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.interrupting", *how], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.stdout, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("mode", ["generate", "on_event", "chat", "stream"])
def test_an_exception_at_any_line_of_a_call_leaves_a_runtime_that_works(mode: str) -> None:
    told = interrupted("lines", mode)
    assert told["works"]
    assert told["clean"]
    assert told["ends"]["cut"] > 200


@pytest.mark.parametrize("mode", ["generate", "on_event", "stream"])
def test_a_call_at_any_depth_near_the_recursion_limit_leaves_a_runtime_that_works(mode: str) -> None:
    told = interrupted("depths", mode)
    assert told["works"]
    assert told["clean"]
    assert told["ends"]["cut"] > 5
    assert told["ends"]["whole"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["generate", "on_event", "chat", "stream"])
def test_signals_that_raise_anywhere_in_a_call_leave_a_runtime_that_works(mode: str) -> None:
    told = interrupted("signals", "7", "2000", mode)
    assert told["works"]
    assert told["clean"]
    assert told["ends"]["cut"] > 300
