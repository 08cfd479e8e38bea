"""The contract itself: every id has a test."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_behaviour_of_the_contract_has_a_test() -> None:
    ids = (HERE / "contract_ids.txt").read_text().split()
    assert len(ids) == len(set(ids)) == 158 + 13 + 6
    names = "\n".join(re.findall(r"def test_(\w+)", "".join(path.read_text() for path in HERE.glob("test_*.py"))))
    missing = [one for one in ids if not re.search(rf"^{one.replace('-', '_')}_\w+", names, re.MULTILINE)]
    assert not missing
