"""A pytest plugin for Pykka's own test-suite: its thread actors and futures are ours, and each test's outcome is written down.

`test_pykka_suite` copies it beside the suite: as a module of `tests` it would stand in the way of the suite's own `tests`.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pykka
import pytest

from allm.supervisors import Actor, LoopDispatcher, PoolDispatcher, ThreadDispatcher
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.futures import Reply


def _dispatcher(kind: str) -> Dispatcher:
    if kind == "loop":
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="the suite's loop", daemon=True).start()
        return LoopDispatcher(loop)
    return PoolDispatcher(8) if kind == "pool" else ThreadDispatcher()


class Ours(Actor):
    """The actor class in the place of `pykka.ThreadingActor`."""

    dispatcher = _dispatcher(os.environ["PYKKA_SUITE_DISPATCHER"])


pykka.ThreadingActor = Ours  # type: ignore[assignment,misc]  # pyright: ignore[reportAttributeAccessIssue]
pykka.ThreadingFuture = Reply  # type: ignore[assignment,misc]  # pyright: ignore[reportAttributeAccessIssue]

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst of setup, call and teardown."""
    if _outcomes.get(report.nodeid, "passed") == "passed":
        _outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the outcomes, from the process that has all of them."""
    workers: Any = getattr(session.config, "workerinput", None)
    if workers is None:
        Path(os.environ["PYKKA_SUITE_OUTCOMES"]).write_text(json.dumps(_outcomes))
