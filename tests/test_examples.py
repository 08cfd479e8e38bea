"""The examples run as they stand, and print what their reader expects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

PRINTED = {
    "hello": ["“Hello! Who are you?”", "(stop, ", "“And what can you do?”"],
    "stream": ["“Tell me something.”", "attempt 1", "“And once more.”", "stop"],
    "async_stream": ["“Greet guest 1.”", "100 answers", "“Say goodbye.”"],
    "retries_and_faults": [
        "attempt 1: service_unavailable; again in",
        "attempt 2: rate_limited; again in 0.20 s",
        "attempt 3: connection_closed in mid-answer; starting anew",
        "The first answer, whole.",
        "gave up: service_unavailable, HTTP 503",
        "error: 'These words came through,'",
        "truncated",
    ],
    "cancel": [
        "['one', ' two', ' three']",
        "cancelled 'one two'",
        "no longer waiting",
        "['client closed', 'client closed', 'client closed']",
    ],
    "images": ["image/png by gpt-image-1, 1024x1024, 1056 tokens", "size: dall-e-3 takes 1024x1024,", "“What does it wear?”"],
    "mcp_tools": ["{'number': 7, 'status': 'on its way'} It is on its way.", "connection_lost\n{'number': 7,"],
    "tools": ["get_weather {'city': 'Oslo',", "count_forever timeout", "Sunny. completed", "ask_user Which city?", "Rome it is."],
    "json_events": ['"type":"request_started"', "Response True", "“Hello?”", "3 messages"],
}


def environment() -> dict[str, str]:
    """This process's, with no key in it."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")} | {"PYTHONIOENCODING": "utf-8"}


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, encoding="utf-8", timeout=50, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_example_is_tried_here() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {*PRINTED, "test_my_bot"}


@pytest.mark.parametrize("name", PRINTED)
def test_the_example_prints_what_it_shows(name: str) -> None:
    printed = run("-W", "error", str(EXAMPLES / f"{name}.py"))
    at = 0
    for expected in PRINTED[name]:
        at = printed.find(expected, at)
        assert at >= 0, f"{expected!r} is missing, or not in its place, in:\n{printed}"


def test_the_tests_of_the_example_bot_pass() -> None:
    assert "5 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_my_bot.py"))
