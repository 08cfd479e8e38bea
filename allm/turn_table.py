"""Every transition of the turn machine, as data: which rule leads where on what input. The machine refuses a way that is not in it."""

from typing import Final, NamedTuple, get_args

from allm.turn_data import (
    AnswerChecked,
    ArgumentsChecked,
    Begin,
    Cancel,
    Checked,
    Failed,
    Input,
    Judged,
    ModelEnded,
    Phase,
    Steer,
    ToolFinished,
)  # fmt: skip

__all__ = ["ROWS", "TABLE", "Row"]


class Row(NamedTuple):
    """A transition: in this phase, on this input, by this rule, to that phase."""

    phase: Phase
    input: type
    rule: str
    next: Phase


def _rows(phase: Phase, kind: type, **rules: str) -> list[Row]:
    return [Row(phase, kind, rule, to) for rule, phases in rules.items() for to in phases.split()]  # type: ignore[arg-type]


_SETTLED: Final = {
    "tool_error": "done", "tool_halt": "done", "ask_user": "done", "manual_tool_calls": "done", "stepped": "done", "check": "checking",
    "next": "model", "max_turns": "done", "finalize": "model",
}  # fmt: skip
"""What may follow when every tool of a step is over."""

_UNSTARTED: Final = {rule: to for rule, to in _SETTLED.items() if rule not in ("tool_halt", "ask_user")}
"""The same, where no tool ran: nobody halted or asked."""

TABLE: Final[tuple[Row, ...]] = (
    *_rows("ready", Begin, call="model"),
    *_rows("ready", Cancel, cancelled="done"),
    *_rows("ready", Steer, steered="ready"),
    *_rows("model", ModelEnded, answer="answer", arguments="arguments", unrun="done", broken="done", completed="done", finalized="done",
           tools="tools", cancelled="done", **_UNSTARTED),
    *_rows("model", Failed, failed="done", broken="done", cancelled="done"),
    *_rows("model", Cancel, cancelling="model"),
    *_rows("model", Steer, steered="model"),
    *_rows("answer", AnswerChecked, reask="model", completed="done", finalized="done", stepped="done", next="model", max_turns="done"),
    *_rows("answer", Failed, broken="done"),
    *_rows("answer", Cancel, cancelled="done"),
    *_rows("answer", Steer, steered="answer"),
    *_rows("arguments", ArgumentsChecked, tools="tools", **_UNSTARTED),
    *_rows("arguments", Failed, broken="done"),
    *_rows("arguments", Cancel, cancelled="done"),
    *_rows("arguments", Steer, steered="arguments"),
    *_rows("tools", ToolFinished, waiting="tools", judge="tools", late="tools", **_SETTLED),
    *_rows("tools", Judged, waiting="tools", late="tools", **_SETTLED),
    *_rows("tools", Cancel, cancelled="done"),
    *_rows("tools", Steer, steered="tools"),
    *_rows("checking", Failed, broken="done"),
    *_rows("checking", Checked, next="model", max_turns="done", halt_when="done", finalize="model"),
    *_rows("checking", Cancel, cancelled="done"),
    *_rows("checking", Steer, steered="checking"),
    *(Row("done", kind, "over", "done") for kind in get_args(Input)),
)  # fmt: skip
"""Every transition. After the end nothing changes any more."""

ROWS: Final = frozenset(TABLE)
