"""The states of an actor and of a child's slot, as tables; the diagrams in the guide are drawn from them."""

from __future__ import annotations

from typing import Final, NamedTuple

from allm.supervisors.children import DOWN, RESTARTING, RUNNING, STARTING, STOPPING

__all__ = ["ACTOR", "CHILD", "Step", "diagram"]


class Step(NamedTuple):
    """The way from a state to another, and what takes it there."""

    before: str
    what: str
    after: str


CHILD: Final = (
    Step(DOWN, "start", STARTING),
    Step(STARTING, "started", RUNNING),
    Step(STARTING, "start failed", DOWN),
    Step(STARTING, "told to stop", STOPPING),
    Step(RUNNING, "told to stop", STOPPING),
    Step(RUNNING, "ended", DOWN),
    Step(STOPPING, "ended, or killed at the deadline", DOWN),
    Step(DOWN, "to be restarted", RESTARTING),
    Step(RESTARTING, "delay over", STARTING),
    Step(RESTARTING, "told to stop, or restarted with its group", DOWN),
)
"""A child in its supervisor. A child that will not come back leaves the table from ``down``."""

ACTOR: Final = (
    Step("constructed", "first turn", "on_start"),
    Step("constructed", "__init__ raised, under a supervisor", "ended"),
    Step("on_start", "acknowledged", "handling"),
    Step("on_start", "raised", "on_exit"),
    Step("on_start", "ignored", "ended"),
    Step("handling", "message", "handling"),
    Step("handling", "exit, shutdown or an exception", "on_exit"),
    Step("on_exit", "report", "ended"),
    Step("constructed", "killed", "ended"),
    Step("on_start", "killed", "ended"),
    Step("handling", "killed", "ended"),
    Step("on_exit", "killed", "ended"),
)
"""An actor. Ended is told exactly once, whichever way leads there."""


def diagram(table: tuple[Step, ...]) -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {table[0].before}"]
    lines += [f"    {step.before} --> {step.after}: {step.what}" for step in table]
    ends = {step.after for step in table} - {step.before for step in table}
    lines += [f"    {end} --> [*]" for end in sorted(ends)]
    return "\n".join(lines)
