"""A simulated model, a runtime for each test, and one little server for the tests that leave it alive."""

from collections.abc import Iterator

import pytest

import allm
from allm.testing import Simulator
from tests.mcp.support import Model, Tooled, little


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def runtime() -> Iterator[allm.Runtime]:
    with allm.Runtime() as runtime:
        yield runtime


@pytest.fixture
def model(sim: Simulator, runtime: allm.Runtime) -> Tooled:
    """A model that is given these tools."""
    return lambda tools: Model(sim, runtime, tools)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[allm.mcp.Connection]:
    """The tools of one little server, in the default runtime."""
    log = tmp_path_factory.mktemp("little") / "log"
    with little(log=log, env={"LITTLE_SECRET": "sesame-4711"}).connect() as tools:
        yield tools


@pytest.fixture
def asks(sim: Simulator, shared: allm.mcp.Connection) -> Model:
    """A model with the tools of the shared server."""
    return Model(sim, None, shared)
