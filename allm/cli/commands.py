"""The commands and their options. What goes wrong in one ends it with an exit code and one line, never with a traceback."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import typer

import allm
from allm.cli import terminal
from allm.cli.chat import chat
from allm.cli.demo import demo
from allm.cli.engines import choose
from allm.cli.run import read_prompt, run

__all__ = ["app", "run_app"]

FAILED, INTERRUPTED, BROKEN_PIPE = 1, 130, 141

app = typer.Typer(
    help="Conversations with language models as supervised actors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EngineName = Annotated[
    str | None,
    typer.Option("--engine", "-e", envvar="ALLM_ENGINE", metavar="ADAPTER:MODEL", help="Which model; `sim:` needs no key."),
]
System = Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system prompt.")]


def run_app() -> int:
    """Runs the command that `sys.argv` names."""
    terminal.never_refuse_a_character()
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    return 0


@contextmanager
def guarded() -> Generator[None, None, None]:
    """Errors become one line and an exit code."""
    try:
        yield
    except allm.AllmError as error:
        terminal.tell(str(error))
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        terminal.forget_stdout()
        raise typer.Exit(BROKEN_PIPE) from None


def opening(system: str | None) -> allm.Thread:
    """What a conversation begins with."""
    return allm.Thread().add_system(system) if system else allm.Thread()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"allm {allm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Conversations with language models as supervised actors."""


@app.command("run")
def run_command(
    prompt: Annotated[str | None, typer.Argument(help="What to ask; `-`, or nothing with a pipe, reads it from stdin.")] = None,
    engine: EngineName = None,
    system: System = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events, one a line, as JSON.")] = False,
) -> None:
    """Ask once; the answer is printed as it comes."""
    with guarded():
        asked = read_prompt(prompt)
        if not asked.strip():
            raise typer.BadParameter("there is no prompt: name one, or pipe it in", param_hint="PROMPT")
        run(choose(engine), opening(system).add_user(asked), as_json)


@app.command("chat")
def chat_command(engine: EngineName = None, system: System = None) -> None:
    """Talk. Ctrl-C cancels an answer, Ctrl-D leaves."""
    with guarded():
        chat(choose(engine), opening(system))


@app.command("demo")
def demo_command(
    conversations: Annotated[int, typer.Option(min=1, max=500, help="How many at the same time.")] = 20,
    turns: Annotated[int, typer.Option(min=1, max=50, help="Of each conversation.")] = 4,
    seed: Annotated[int, typer.Option(help="Draws scripts and faults.")] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Shorter waits.")] = False,
    unsupervised: Annotated[bool, typer.Option("--break", help="Switch the supervision of the calls off, and see what is lost.")] = False,
) -> None:
    """Conversations with a provider that fails all the time, and what supervision makes of it. Needs no key and no network."""
    with guarded():
        kept = demo(conversations, turns, seed, fast=fast, supervised=not unsupervised)
    raise typer.Exit(0 if kept else FAILED)
