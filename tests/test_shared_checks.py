"""The acceptance checks that stand beside the recordings, run as a user would run them. Skipped where these are absent."""

import subprocess
import sys

import pytest

from tests.corpus import folder, requires_recordings

pytestmark = pytest.mark.alone

CHECKS = folder().parent / "checks"


def run(*argv: str) -> str:
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@requires_recordings
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", ["openai.chat", "compat.chat"])
def test_every_scored_exchange_of_the_chat_wire_is_read_as_the_vendors_clients_read_it(provider: str) -> None:
    assert ", 0 failed," in run(str(CHECKS / "replay.py"), "--provider", provider)


@requires_recordings
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_fault_on_the_chat_wire_ends_as_promised() -> None:
    # The machine that runs the suite is busy: the bounds on times are widened.
    assert ", 0 failed" in run(str(CHECKS / "faults.py"), "--wire", "chat", "--load-factor", "3")
