"""Dispatchers, supervisors that are stopped after the test, and a test that leaves actors behind fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import Actor, Supervisor, stop
from allm.supervisors.cell import alive, cell_of
from allm.supervisors.dispatch import Dispatcher
from allm.supervisors.lifetime import kill, start_and_wait
from tests.supervisors.support import WAIT, Journal, Loop, make_dispatcher

Start = Callable[..., ActorRef[Any]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: takes an hour or so; runs only when asked for, with -m soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the soak out unless the marks that were asked for name it."""
    if "soak" not in str(config.option.markexpr):
        soaking = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soaking)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(params=["loop", "pool", "thread"])
def dispatch(request: pytest.FixtureRequest, loop: Loop) -> Dispatcher:
    """Each of the dispatchers: what a test says holds on all."""
    return make_dispatcher(request.param, loop)


@pytest.fixture(params=["pool", "thread"])
def threads(request: pytest.FixtureRequest, loop: Loop) -> Dispatcher:
    """The dispatchers whose handlers may block."""
    return make_dispatcher(request.param, loop)


@pytest.fixture(autouse=True)
def no_actor_is_left(loop: Loop) -> Iterator[None]:
    before = set(alive)
    yield
    left = {name: cell for name, cell in alive.items() if name not in before}
    for cell in list(left.values()):
        cell.cancel()
    assert not left, f"left behind: {sorted(left)}"


@pytest.fixture
def begin(no_actor_is_left: None) -> Iterator[Start]:
    """Start an actor, wait until it runs, stop it after the test."""
    started: list[ActorRef[Any]] = []

    def begin(actor_class: type[Actor], *args: Any, on: Dispatcher, **options: Any) -> ActorRef[Any]:
        ref = start_and_wait(actor_class, *args, on=on, timeout=WAIT, **options)
        started.append(ref)
        return ref

    yield begin
    for ref in reversed(started):
        cell = cell_of(ref)
        if cell is not None and cell.exit is None:
            try:
                stop(ref, timeout=WAIT)
            except Exception:
                kill(ref)
                raise


@pytest.fixture
def supervise(begin: Start, dispatch: Dispatcher) -> Start:
    """Start a static supervisor on the dispatcher of the test."""

    def supervise(children: Any = (), **options: Any) -> ActorRef[Any]:
        options.setdefault("on", dispatch)
        return begin(Supervisor, children, **options)

    return supervise
