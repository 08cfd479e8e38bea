"""`allm run`: one prompt, one answer."""

import sys

import allm
from allm.cli import terminal
from allm.cli.controls import escaped

__all__ = ["read_prompt", "run"]


def read_prompt(given: str | None) -> str:
    """The prompt of the command line, or all of stdin: for `-`, and for a pipe where no prompt was given."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def run(engine: allm.Engine, thread: allm.Thread, as_json: bool) -> None:
    """Prints the answer, or the events as JSON. Raises the error of a call that failed, also one that failed midway."""
    with allm.stream_generate(engine, thread) as stream:
        if as_json:
            write_events(stream)
        else:
            terminal.write_text(stream)
        stream.response().raise_for_error()


def write_events(stream: allm.Stream) -> None:
    """One event a line. The last one is terminal also where iterating raises."""
    try:
        for event in stream:
            _write_event(event)
    except allm.AllmError as error:
        _write_event(allm.ErrorOccurred(error.info))
        raise


def _write_event(event: allm.Event) -> None:
    sys.stdout.write(escaped(allm.to_json(event).decode()) + "\n")
    sys.stdout.flush()
