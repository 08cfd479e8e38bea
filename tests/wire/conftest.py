"""What the tests of the wires share."""

from collections.abc import Iterator

import pytest

from tests.wire.judging import Judge
from tests.wire.reading.figures import FIGURES


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    with Judge() as asked:
        yield asked


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.write_sep("=", "recorded requests, read and written")
        for line in FIGURES.values():
            terminalreporter.write_line(line)
