"""Somebody else's adapter: installed like any package, found by its entry point, and held to our own suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "examples" / "third_party"
LINES = 100

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, as an installer left it."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    for path in PACKAGE.glob("*.*"):
        (source / path.name).write_bytes(path.read_bytes())
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(source))
    return target


def run(*command: str, path: Path | None = None) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, *command], capture_output=True, encoding="utf-8", timeout=55, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_is_short() -> None:
    assert len((PACKAGE / "allm_ollama.py").read_text().splitlines()) < LINES


def test_the_adapter_is_found_once_its_package_is_installed(installed: Path) -> None:
    ask = "from allm.providers.registry import adapter_for; print(adapter_for('ollama').__module__)"
    assert run("-c", ask, path=installed).strip() == "allm_ollama"


def test_an_adapter_that_is_not_installed_is_named_as_missing() -> None:
    ask = "import allm\ntry: allm.generate(allm.Engine('ollama:m'), 'Hi')\nexcept allm.EngineError as error: print(error.reason)"
    assert run("-c", ask).strip() == "unknown_adapter"


def test_it_passes_the_suite_that_our_own_adapters_pass(installed: Path) -> None:
    printed = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(PACKAGE), path=installed)
    assert "passed" in printed
    assert "skipped" not in printed
