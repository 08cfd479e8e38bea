"""The documents say what the code does: blocks are run, tables are generated."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENAI_BASE_URL")


def run(code: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in KEYS}
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=50, env=env, cwd=ROOT)


def test_the_readme_has_blocks() -> None:
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_readme_runs_as_it_stands(number: int) -> None:
    done = run(BLOCKS[number])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, timeout=50, check=False)
    assert done.returncode == 0, "run python docs/generate.py"
