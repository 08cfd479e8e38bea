"""The command in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

Done: TypeAlias = "subprocess.CompletedProcess[str]"
Allm: TypeAlias = Callable[..., Done]

LIMIT = 50.0  # seconds a command may take


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's without anything that an engine or a key comes from."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("_API_KEY", "_BASE_URL", "_proxy", "_PROXY")) and not name.startswith("ALLM_")
    }
    return {**kept, "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "COLUMNS": "200", **extra}


@pytest.fixture
def allm_env() -> Callable[[Mapping[str, str]], dict[str, str]]:
    """The environment for a process that a test starts itself."""
    return environment


@pytest.fixture
def allm_command(tmp_path: Path) -> Allm:
    """`allm_command("run", "Hi", stdin="", env={})`: runs it to its end, in an empty folder."""

    def run(*arguments: str, stdin: str = "", **env: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "allm", *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT,
            env=environment(env),
            cwd=tmp_path,
        )

    return run
