"""What the demo says at its end."""

from collections import Counter
from typing import Final

from rich.console import Console

from allm.cli.demo_view import Board
from allm.cli.scenario import Conversation, Loss

__all__ = ["announce", "report", "show"]

SHOWN_LOSSES: Final = 8


def announce(script: tuple[Conversation, ...], seed: int, supervised: bool) -> None:
    """Says what is about to be seen."""
    turns = len(script[0].turns)
    print(f"{count(len(script), 'conversation')} of {count(turns, 'turn')} with a simulated provider that fails; seed {seed}")
    print("supervision of the calls: " + ("on" if supervised else "off, each has one attempt"), flush=True)


def count(number: int, noun: str) -> str:
    """The number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def show(
    script: tuple[Conversation, ...], injected: Counter[str], board: Board, actors: Counter[str], lost: list[Loss], seconds: float
) -> None:
    """Prints the report."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print()
    for line in report(script, injected, board, actors, lost):
        console.print(line, style=("red" if lost else "green") if line.startswith("lost") else None)
    console.print(f"time: {seconds:.1f} s")


def report(script: tuple[Conversation, ...], injected: Counter[str], board: Board, actors: Counter[str], lost: list[Loss]) -> list[str]:
    """Its lines."""
    turns = sum(len(conversation.turns) for conversation in script)
    restarted = "; ".join((f"{board.restarts.total()} of calls", *(f"{n} of {kind}" for kind, n in actors.items())))
    lines = [f"faults injected: {injected.total()}", *_counts(injected)]
    lines += [f"actors crashed: {len(board.crashes)}", *(f"      {path}" for path in board.crashes)]
    lines += [f"restarts by supervision: {board.restarts.total() + actors.total()} ({restarted})", *_counts(board.restarts)]
    lines += [f"compared with the script: {count(len(script), 'conversation')}, {2 * turns} messages"]
    if not lost:
        return [*lines, "lost: nothing"]
    broken = len({loss.conversation for loss in lost})
    lines += [f"lost: {count(len(lost), 'answer')} of {turns}, in {count(broken, 'conversation')} of {len(script)}"]
    lines += [_told(loss) for loss in lost[:SHOWN_LOSSES]]
    if len(lost) > SHOWN_LOSSES:
        lines += [f"  and {len(lost) - SHOWN_LOSSES} more"]
    return lines


def _counts(counted: Counter[str]) -> list[str]:
    return [f"{count:5} {kind}" for kind, count in sorted(counted.items())]


def _told(loss: Loss) -> str:
    got = "nothing" if loss.got is None else f"“{_short(loss.got)}”"
    return f"  {loss.conversation} turn {loss.turn}: {got} instead of “{_short(loss.expected)}”"


def _short(text: str) -> str:
    return text if len(text) <= 48 else text[:47] + "…"
