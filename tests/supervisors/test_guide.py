"""The guide: its programs run, its diagrams are those of the code. `python -m tests.supervisors.test_guide` redraws."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from allm.supervisors import states
from allm.supervisors.states import diagram

GUIDE = Path(__file__).parents[2] / "supervisors" / "README.md"
MARK = re.compile(r"<!-- states: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def drawn(text: str) -> str:
    """The guide with its diagrams drawn from the tables."""

    def draw(found: re.Match[str]) -> str:
        table = getattr(states, found[1])
        return f"<!-- states: {found[1]} -->\n```mermaid\n{diagram(table)}\n```\n<!-- end -->"

    return MARK.sub(draw, text)


def programs() -> list[Any]:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return [pytest.param(block, id=block.strip().splitlines()[0][:60]) for block in blocks]


@pytest.mark.parametrize("program", programs())
def test_the_programs_of_the_guide_run(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exec(compile(program, str(GUIDE), "exec"), {"__name__": "guide"})


def test_the_diagrams_of_the_guide_are_those_of_the_code() -> None:
    text = GUIDE.read_text()
    assert len(MARK.findall(text)) == 2
    assert drawn(text) == text


if __name__ == "__main__":
    GUIDE.write_text(drawn(GUIDE.read_text()))
