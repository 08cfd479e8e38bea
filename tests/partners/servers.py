"""Servers that nobody here wrote, as processes of their own. What is not installed skips the tests that need it, and says so.

`ALLM_PARTNERS_PYTHON` names the Python of an environment with `llmock` and `xllamacpp` in it, `ALLM_PARTNERS_MODEL` a small model as a
GGUF file. `.ci/run` makes both.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ABSENT = "the independent servers are not installed"

START = 40.0
"""Seconds that a server may take to start on a busy machine."""


def partners_python() -> Path:
    """The Python of the partners' environment."""
    return _named("ALLM_PARTNERS_PYTHON")


def model_weights() -> Path:
    """The small model."""
    return _named("ALLM_PARTNERS_MODEL")


def _named(variable: str) -> Path:
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{ABSENT} ({variable} is not set)")
    path = Path(given)
    assert path.exists(), f"{variable} names {path}, which is not there"
    return path


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ask(url: str, body: Any = None, method: str | None = None) -> Any:
    """What a server on loopback answers, decoded; an error status raises."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.loads(answer.read())


@contextmanager
def serving(command: list[str], url: str, log: Path, environment: Mapping[str, str] | None = None) -> Generator[str, None, None]:
    """The server, from the moment when its `/health` answers until the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})
        try:
            _wait_ready(process, url, log)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _wait_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended: {log.read_text(errors='replace')[-2000:]}"
        try:
            ask(f"{url}/health")
        except OSError:  # not yet, or not yet loaded
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"the server did not start within {START} s: {log.read_text(errors='replace')[-2000:]}")
