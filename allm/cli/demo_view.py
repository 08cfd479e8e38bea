"""What the demo shows while it runs: a board that events are written on, and two ways to look at it."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import allm
from allm.cli.scenario import Conversation

__all__ = ["Board", "Row", "view_of"]

REFRESH = 0.1  # seconds


@dataclass
class Row:
    """What one conversation is doing."""

    turn: int = 0
    attempt: int = 0
    state: str = "waiting"
    style: str = "dim"
    text: str = ""


class Board:
    """The state of the demo, for people. Written and read on the demo's event loop."""

    def __init__(self, script: tuple[Conversation, ...], runtime: allm.Runtime, injected: Counter[str], supervised: bool) -> None:
        self.rows = {conversation.name: Row() for conversation in script}
        self.turns = sum(len(conversation.turns) for conversation in script)
        self.asked = 0
        self.finished = 0
        self.restarts: Counter[str] = Counter()
        self.crashes: list[str] = []
        self.injected = injected
        self.supervised = supervised
        self.tree = runtime.tree
        self.tell: Callable[[str], object] = lambda line: None

    @property
    def share_done(self) -> float:
        """Of all turns, the share that is over."""
        return self.finished / self.turns

    @property
    def streaming(self) -> int:
        """How many conversations are in the middle of an answer."""
        return sum(row.state == "streaming" for row in self.rows.values())

    def ask(self, name: str, turn: int) -> None:
        """A turn begins."""
        self.asked += 1
        self.rows[name] = Row(turn=turn)

    def end(self, name: str) -> None:
        """A conversation is over."""
        self._set(name, "done", "green")
        self.tell(f"{name} done")

    def fail(self, name: str, error: str) -> None:
        """A turn's call gave up."""
        self.finished += 1
        self._set(name, f"lost: {error}", "bold red")
        self.tell(f"{self._place(name)}: lost, {error}")

    def crashed(self, path: str, streaming: int) -> None:
        """An actor is crashed on purpose."""
        self.crashes.append(path)
        self.tell(f"crashed {path} with {streaming} answers under way")

    def see(self, name: str, event: allm.Event) -> None:
        """An event of the conversation's call."""
        row = self.rows[name]
        match event:
            case allm.RequestStarted(attempt=attempt):
                row.attempt = attempt
                self._set(name, "asking", "cyan")
            case allm.TextDelta(delta=delta) if delta:
                row.text += delta
                self._set(name, "streaming", "green")
            case allm.RetryScheduled(delay=delay, error=error):
                self._restarts(name, error, f"again in {delay:.2f} s")
            case allm.StreamRestarted(error=error):
                row.text = ""
                self._restarts(name, error, "broke off, starting anew")
            case allm.MessageCompleted():
                self.finished += 1
            case allm.ErrorOccurred(error=error):
                self.fail(name, f"{error.message} ({error.reason}) after {len(row.text)} characters")
            case _:
                pass

    def _restarts(self, name: str, error: allm.ErrorInfo, what: str) -> None:
        self.restarts[error.reason] += 1
        status = f" {error.status}" if error.status is not None else ""
        self._set(name, f"{error.reason}{status}: {what}", "yellow")
        self.tell(f"{self._place(name)}: {error.reason}{status}, {what}")

    def _set(self, name: str, state: str, style: str) -> None:
        self.rows[name].state, self.rows[name].style = state, style

    def _place(self, name: str) -> str:
        row = self.rows[name]
        return f"{name} turn {row.turn} attempt {row.attempt}"


@asynccontextmanager
async def view_of(board: Board) -> AsyncGenerator[None, None]:
    """Shows the board while it is open: live on a terminal, else a line for each thing worth telling."""
    console = Console()
    if not (console.is_terminal and sys.stdout.isatty()):
        board.tell = lambda line: print(line, flush=True)
        yield
        return
    with Live(render(board), console=console, auto_refresh=False, transient=True) as live:
        refreshing = asyncio.create_task(_refresh(live, board))
        try:
            yield
        finally:
            refreshing.cancel()


async def _refresh(live: Live, board: Board) -> None:
    while True:
        live.update(render(board), refresh=True)
        await asyncio.sleep(REFRESH)


def render(board: Board) -> Table:
    """The board as it stands: conversations to the left; the tree of actors and the counts to the right."""
    page = Table.grid(padding=(0, 3))
    page.add_row(_conversations(board), Group(_tree(board), Text(), _counts(board)))
    return page


def _conversations(board: Board) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading, width in (("", 4), ("turn", 4), ("try", 3), ("what it is doing", 44), ("the answer so far", 34)):
        table.add_column(heading, no_wrap=True, width=width)
    for name, row in board.rows.items():
        table.add_row(name, str(row.turn), str(row.attempt), Text(row.state, row.style), Text(row.text[-34:], "dim"))
    return table


def _tree(board: Board) -> Tree:
    return _node(board.tree())


def _node(actor: dict[str, Any]) -> Tree:
    """An actor and those below it. The streams of a call supervisor are only counted: there is one for each call."""
    node = Tree(Text.assemble(actor["id"], (f"  {actor['kind']}", "dim"), *_restarted(actor["restarts"])))
    children = actor.get("children", ())
    if actor["kind"] == "CallSupervisor":
        restarts = sum(child["restarts"] for child in children)
        node.add(Text.assemble(f"{len(children)} streams", ("  StreamActor", "dim"), *_restarted(restarts)))
    else:
        node.children.extend(_node(child) for child in children)
    return node


def _restarted(times: int) -> list[tuple[str, str]]:
    return [(f"  restarted {times}x", "yellow")] if times else []


def _counts(board: Board) -> Text:
    supervision = "" if board.supervised else "supervision of calls is off\n"
    return Text.assemble(
        (supervision, "bold red"),
        f"turns done      {board.finished} of {board.turns}\n",
        f"faults injected {board.injected.total()}\n",
        f"calls restarted {board.restarts.total()}\n",
        *((f"crashed {path}\n", "magenta") for path in board.crashes),
    )
