"""`import allm` is cheap: it loads neither an HTTP client nor an actor library nor an event loop."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEAR = ("httpx", "aiohttp", "asyncio", "pykka", "structlog", "cloudpickle", "ssl")


def import_times(module: str) -> dict[str, int]:
    """What `import module` loads in a new interpreter: module -> microseconds, those of its own imports included."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    times: dict[str, int] = {}
    for line in done.stderr.splitlines():
        if not line.startswith("import time:") or "imported package" in line:
            continue
        _, cumulative, name = line.removeprefix("import time:").split("|")
        if name.strip() == "site":  # all before it is the interpreter's own start
            times.clear()
        else:
            times[name.strip()] = int(cumulative)
    return times


@pytest.fixture(scope="module")
def loaded() -> dict[str, int]:
    return import_times("allm")


def test_the_measurement_sees_what_is_loaded(loaded: dict[str, int]) -> None:
    assert "allm" in loaded


def test_the_measurement_would_see_an_http_client() -> None:
    assert "ssl" in import_times("httpx")


@pytest.mark.parametrize("dear", DEAR)
def test_importing_allm_does_not_load(dear: str, loaded: dict[str, int]) -> None:
    assert [name for name in loaded if name == dear or name.startswith(f"{dear}.")] == []


def test_importing_allm_loads_no_provider(loaded: dict[str, int]) -> None:
    assert [name for name in loaded if name.startswith("allm.providers")] == []


@pytest.mark.slow
def test_importing_allm_is_no_dearer_than_importing_httpx() -> None:
    ours = min(import_times("allm")["allm"] for _ in range(3))
    theirs = min(import_times("httpx")["httpx"] for _ in range(3))
    assert ours <= theirs
