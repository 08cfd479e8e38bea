"""`allm chat`: a conversation at the terminal, or over a pipe with a line for each turn."""

import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import allm
from allm.cli import terminal

__all__ = ["chat"]

HELP: Final = "Ctrl-C cancels an answer; Ctrl-D or /quit leaves. What was said so far is sent along with each message."


def chat(engine: allm.Engine, thread: allm.Thread) -> None:
    """Goes on with the thread until the input ends."""
    for line in _lines():
        match line.strip():
            case "":
                pass
            case "/quit" | "/exit":
                return
            case "/help":
                print(HELP, flush=True)
            case command if command.startswith("/") and command[1:].isalpha():
                print(f"There is no {command}; there are /help and /quit.", flush=True)
            case _:
                thread = take_turn(engine, thread, line)


def take_turn(engine: allm.Engine, thread: allm.Thread, text: str) -> allm.Thread:
    """The thread with question and answer; with what came of it, if it was cancelled. One that failed leaves no trace."""
    asked = thread.add_user(text)
    stream = allm.stream_generate(engine, asked)
    try:
        terminal.write_text(cancellable(stream))
        response = stream.response().raise_for_error()
    except allm.AllmError as error:
        terminal.tell(f"{error}; this message was not kept")
        return thread
    if response.finish_reason == "cancelled":
        print("(cancelled)", flush=True)
    return asked.add_message(response.message) if response.message.content else thread


def cancellable(stream: allm.Stream) -> Iterator[allm.Event]:
    """The events of a stream. Ctrl-C meanwhile cancels it: no exception, the events come to their ordinary end."""
    started = asked = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if started:
            stream.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for event in stream:
            if not started:
                started = True
                if asked:
                    stream.cancel()
            yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _lines() -> Iterator[str]:
    """What is typed, or comes down the pipe."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    read: Callable[[], str] = _prompt() if on_terminal else input
    if on_terminal:
        print(HELP)
    while True:
        try:
            line = read()
        except EOFError:
            return
        except KeyboardInterrupt:
            if not on_terminal:
                raise
            continue
        yield line


def _prompt() -> Callable[[], str]:
    """A line editor with a history."""
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession()
    return lambda: session.prompt("you> ")
