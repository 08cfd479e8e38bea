"""The acceptance checks that stand beside the recordings, run as a user would run them. Skipped where these are absent."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.corpus import folder, requires_recordings

pytestmark = [requires_recordings, pytest.mark.slow, pytest.mark.timeout(300)]

CHECKS = folder().parent / "checks"
WIRES = ("chat", "responses", "messages", "gemini")
BUSY = "3"
"""By how much the bounds on times are widened: they are meant for a machine that does nothing else."""


NOT_AS_EXPECTED = {
    # Its body is a Chat completion; and one whose keeper left out the middle of the text.
    "openai.responses": {"azure-deepseek-reasoning-1-29aa16-0", "openai-shell-container-1-chunks-739034-0"},
    # Arguments in pieces: they are listed there as calls without names, and are joined here, as the fields mean.
    "gemini.stream": {
        "google-vertex-stream-tool-call-arguments-nested-1-chunks-67684b-0", "google-stream-no-args-tool-call-chunks-d93159-0",
        "google-stream-tool-call-arguments-chunks-38ea44-0",
    },
}  # fmt: skip
ALL_TOKENS = {"compat.chat": ("usage output", 7), "gemini.generate": ("usage input", 16), "gemini.stream": ("usage input", 4)}
"""How many are read with more tokens than expected there, since API.md counts every one: xAI leaves reasoning out of its completion tokens,
Gemini what its own tools gave to read out of its prompt tokens; with them the sum is the provider's own total."""
PROVIDERS = ("openai.chat", "compat.chat", "anthropic.messages", "gemini.generate", *NOT_AS_EXPECTED)


def run(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=280, check=False)


def failing(provider: str) -> set[str]:
    """Ends of the ids of the exchanges that are not read as expected."""
    done = run(str(CHECKS / "replay.py"), "--provider", provider, "--show", "99")
    # An id in a line of its own, then a line for each thing that differs.
    blocks = re.findall(r"^  (\S+)\n((?: {6}.*\n)*)", done.stdout, re.MULTILINE)
    count = re.search(r"^(\d+) passed, (\d+) failed,", done.stdout, re.MULTILINE)
    assert count, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(count[1]) > 50, "hardly anything was replayed"
    assert int(count[2]) == len(blocks), done.stdout[-3000:]
    name, most = ALL_TOKENS.get(provider, ("-", 0))
    told = [line for line, differs in blocks if re.fullmatch(rf" {{6}}{name}: .*\n", differs) is None]
    assert len(blocks) - len(told) == most
    known = NOT_AS_EXPECTED.get(provider, set())
    return {next((end for end in known if line.endswith(end)), line) for line in told}


def test_every_scored_exchange_is_read_as_the_vendors_clients_read_it() -> None:
    with ThreadPoolExecutor(len(PROVIDERS)) as providers:  # most of it is waiting
        told = dict(zip(PROVIDERS, providers.map(failing, PROVIDERS), strict=True))
    assert told == {provider: NOT_AS_EXPECTED.get(provider, set()) for provider in PROVIDERS}


@pytest.mark.alone
def test_every_fault_on_every_wire_ends_as_promised() -> None:
    def faults(wire: str) -> str:
        done = run(str(CHECKS / "faults.py"), "--wire", wire, "--load-factor", BUSY)
        fine = re.search(r"^\d\d+ passed, 0 failed$", done.stdout, re.MULTILINE) and not done.returncode
        return "" if fine else done.stdout[-3000:] + done.stderr[-3000:]

    with ThreadPoolExecutor(len(WIRES)) as wires:
        assert list(wires.map(faults, WIRES)) == [""] * len(WIRES)
