"""Control characters of a model, a tool or a provider: replaced where stdout is a terminal, and nowhere else."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm.cli.controls import REPLACEMENT, Shown, escaped, one_line
from allm.testing import Fault, Reply, Simulator

Env = Callable[[Mapping[str, str]], dict[str, str]]

TITLE = "\x1b]0;owned\x07"
CLIPBOARD = "\x1b]52;c;aGk=\x1b\\"
C1 = "\x9b2J\x9d0;owned\x9c"
HOSTILE = f"a{TITLE}b{CLIPBOARD}c{C1}d\x7f\x08\x00e\tf\r\ng\rh\n"
CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), REPLACEMENT)
SHOWN = HOSTILE.replace("\r\n", "\n").translate(CONTROLS)


@pytest.fixture
def provider() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def on_terminal(provider: Simulator, env: Env, *arguments: str, typed: bytes = b"") -> tuple[str, str]:
    """What a command writes on a terminal, and on stderr, which is one, too."""
    extra = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.base_url("chat"), "TERM": "dumb"}
    texts: list[str] = []
    out, out_end = pty.openpty()
    error, error_end = pty.openpty()
    for end in (out_end, error_end):
        os.set_blocking(end, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "allm", *arguments], stdin=subprocess.PIPE, stdout=out_end, stderr=error_end, env=env(extra)
    )
    os.close(out_end)
    os.close(error_end)
    assert process.stdin is not None
    process.stdin.write(typed)
    process.stdin.close()
    for end in (out, error):
        data = b""
        while True:
            try:
                more = os.read(end, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            data += more
        os.close(end)
        texts.append(data.decode().replace("\r\n", "\n"))  # as a terminal's driver writes a line's end
    process.wait(50)
    return texts[0], texts[1]


def control_free(text: str) -> bool:
    return not any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in text)


@pytest.mark.parametrize("command", ["run", "chat"])
def test_an_answer_on_a_terminal_has_no_control_characters(command: str, provider: Simulator, allm_env: Env) -> None:
    provider.respond(lambda request: Reply(pieces=tuple(HOSTILE)))
    arguments = ("run", "-e", "openai.chat:m", "hi") if command == "run" else ("chat", "-e", "openai.chat:m")
    out, error = on_terminal(provider, allm_env, *arguments, typed=b"" if command == "run" else b"hi\n")
    assert SHOWN in out
    assert control_free(out)
    assert control_free(error)


def test_an_error_on_a_terminal_has_no_control_characters(provider: Simulator, allm_env: Env) -> None:
    provider.fault(Fault(status=400, message=f"no{TITLE}{C1}"))
    out, error = on_terminal(provider, allm_env, "run", "-e", "openai.chat:m", "hi")
    assert f"no{REPLACEMENT}]0;owned" in error
    assert control_free(out + error)


def test_a_pipe_gets_what_the_model_wrote(provider: Simulator, allm_env: Env) -> None:
    provider.respond(lambda request: Reply(text=HOSTILE))
    env = allm_env({"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.base_url("chat")})
    command = [sys.executable, "-m", "allm", "run", "-e", "openai.chat:m"]
    assert subprocess.run([*command, "hi"], env=env, capture_output=True, timeout=50).stdout.decode() == HOSTILE
    events = subprocess.run([*command, "--json", "hi"], env=env, capture_output=True, timeout=50).stdout.decode()
    assert control_free(events)
    assert json.loads(events.splitlines()[-1])["response"]["message"]["content"] == HOSTILE


@given(st.lists(st.text(alphabet=st.sampled_from("a\r\n\t\x1b\x9b\x07]é"), max_size=4), max_size=6))
def test_the_pieces_of_a_text_are_shown_like_the_whole(pieces: list[str]) -> None:
    shown, whole = Shown(), Shown()
    text = "".join([*map(shown.feed, pieces), shown.end()])
    assert text == whole.feed("".join(pieces)) + whole.end()
    assert control_free(text)


def test_lines_and_documents_are_made_safe() -> None:
    assert one_line(f"a\n b\x1b[2Jc{C1}\x85") == f"a b{REPLACEMENT}[2Jc{REPLACEMENT}2J{REPLACEMENT}0;owned{REPLACEMENT}"
    document = json.dumps({"text": f"é{C1}\x7f"}, ensure_ascii=False)
    assert control_free(escaped(document))
    assert json.loads(escaped(document)) == json.loads(document)
