"""What the tests of the wires share."""

from collections.abc import Iterator

import pytest

from tests.wire.judging import Judge


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    with Judge() as asked:
        yield asked
