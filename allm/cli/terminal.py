"""What the commands print: text as it comes, and one line for people on stderr. Control characters do not reach a terminal."""

import io
import os
import sys
from collections.abc import Iterable

import allm
from allm.cli.controls import Shown, one_line

__all__ = ["forget_stdout", "never_refuse_a_character", "tell", "write_text"]


def tell(line: str) -> None:
    """One line on stderr."""
    print("allm:", one_line(line), file=sys.stderr, flush=True)


def write_text(events: Iterable[allm.Event]) -> None:
    """Prints the text of an answer as it comes, and a line's end after it; on a terminal without control characters."""
    last = ""
    shown = Shown() if sys.stdout.isatty() else None
    try:
        for event in events:
            match event:
                case allm.TextDelta(delta=delta) if delta:
                    last = delta
                    sys.stdout.write(delta if shown is None else shown.feed(delta))
                    sys.stdout.flush()
                case allm.RetryScheduled(delay=delay, error=error) if sys.stderr.isatty():
                    tell(f"{error.reason}; trying again in {delay:.1f} s")
                case allm.MessageCompleted(response=response) if not last and response.refusal:
                    last = response.refusal
                    sys.stdout.write(last if shown is None else shown.feed(last))
                case _:
                    pass
    finally:
        if shown is not None:
            sys.stdout.write(shown.end())
        if last and not last.endswith("\n"):
            print(flush=True)


def never_refuse_a_character() -> None:
    """A terminal that cannot show a character shows a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def forget_stdout() -> None:
    """Whoever read it is gone: what is still buffered must not be an error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
