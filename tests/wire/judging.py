"""The judge of requests: the vendors' own published types, in an interpreter that has them, named by `ALLM_JUDGE_PYTHON`.

It takes seconds to start, so one process serves a whole run of tests: take it as the fixture `judge`, with the mark `judged`. It lives
beside the recordings and is absent where they are.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import pytest

from tests import corpus

__all__ = ["CHAT", "GEMINI", "MESSAGES", "RESPONSES", "Judge", "judged"]

CHAT, RESPONSES, MESSAGES, GEMINI = "openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"

JUDGE = corpus.folder().parent / "judge"
PYTHON = os.environ.get("ALLM_JUDGE_PYTHON", "")
_ANSWER = """
import json, sys, warnings
warnings.filterwarnings("ignore")
sys.path.insert(0, sys.argv[1])
from judge_requests import judge
for line in sys.stdin:
    wire, bodies = json.loads(line)
    print(json.dumps([judge(wire, body) for body in bodies]), flush=True)
"""

judged = pytest.mark.skipif(
    not PYTHON or not (JUDGE / "judge_requests.py").is_file(),
    reason="no judge of requests: ALLM_JUDGE_PYTHON names no interpreter, or the judge is absent",
)


class Judge:
    """Ask it bodies of any wire, within a `with`. The process starts with the first question."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.communicate(timeout=20)

    def verdicts(self, wire: str, bodies: Sequence[Any]) -> list[list[str]]:
        """What is wrong with each body, in order; a note (keys in a spelling that is not the wire's own) counts as wrong at Gemini."""
        if self._process is None:
            command = [PYTHON, "-c", _ANSWER, str(JUDGE)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([wire, list(bodies)]) + "\n")
        self._process.stdin.flush()
        told: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        assert len(told) == len(bodies)
        return [_problems(wire, verdict) for verdict in told]

    def errors(self, wire: str, body: Any) -> list[str]:
        """What is wrong with a body."""
        return self.verdicts(wire, [body])[0]

    def refused(self, wire: str, bodies: Sequence[Any]) -> list[tuple[Any, list[str]]]:
        """The bodies that are not accepted, with what is wrong."""
        return [(body, wrong) for body, wrong in zip(bodies, self.verdicts(wire, bodies), strict=True) if wrong]


def _problems(wire: str, verdict: dict[str, Any]) -> list[str]:
    notes: list[str] = verdict["notes"] if wire == GEMINI else []
    errors: list[str] = [] if verdict["ok"] else verdict["errors"] or ["refused"]
    return errors + notes
