"""Writes docs/reference.md from the code; `--check` says whether it is up to date."""

import ast
import inspect
import sys
from itertools import pairwise
from pathlib import Path
from typing import get_args

from allm import errors, events, order, turn
from allm.actors import options
from allm.providers import adapter, finish_words, openai_image_limits
from allm.retry import RETRIED
from allm.turn_table import TABLE

TARGET = Path(__file__).with_name("reference.md")


def first_line(thing: object) -> str:
    """The first sentence of a docstring."""
    return (thing.__doc__ or "").strip().splitlines()[0]


def event_table() -> list[str]:
    """One row an event."""
    rows = ["| event | `type` | fields | |", "|---|---|---|---|"]
    for cls in (*get_args(events.Event), events.Envelope):
        fields = ", ".join(getattr(cls, "__struct_fields__", ()))
        rows.append(f"| `{cls.__name__}` | `{cls.__struct_config__.tag}` | {fields} | {first_line(cls)} |")
    return rows


def order_table(states: dict[str, dict[type, str]]) -> list[str]:
    """state -> event -> next state."""
    rows = ["| in state | may come | then |", "|---|---|---|"]
    for state, table in states.items():
        for after in sorted(set(table.values())):
            names = ", ".join(f"`{kind.__name__}`" for kind, then in table.items() if then == after)
            rows.append(f"| {state} | {names} | {after} |")
    return [*rows, "| ended | nothing | |"]


def turn_diagram() -> list[str]:
    """The phases of a turn and the rules between them."""
    ways: dict[tuple[str, str, str], list[str]] = {}
    for row in TABLE:
        if row.phase != row.next:
            ways.setdefault((row.phase, row.input.__name__, row.next), []).append(row.rule)
    lines = [f"    {phase} --> {then}: {kind} ({', '.join(rules)})" for (phase, kind, then), rules in ways.items()]
    return ["```mermaid", "stateDiagram-v2", "    [*] --> ready", *lines, "    done --> [*]", "```"]


def turn_table() -> list[str]:
    """Every transition of the turn machine."""
    rows = ["| in phase | on | by the rule | to |", "|---|---|---|---|"]
    rows += [f"| {row.phase} | `{row.input.__name__}` | {row.rule} | {row.next} |" for row in TABLE if row.phase != "done"]
    return [*rows, "| done | anything | over | done |"]


def image_table() -> list[str]:
    """What each of OpenAI's image models takes."""
    rows = ["| model | operations | `size` | `quality` | `background` | `style` | `n` | prompt |", "|---|---|---|---|---|---|---|---|"]
    for model, limits in openai_image_limits.LIMITS.items():
        lists = (limits.operations, limits.sizes, limits.qualities, limits.backgrounds, limits.styles)
        cells = " | ".join(", ".join(each) or "-" for each in lists)
        rows.append(f"| `{model}` | {cells} | {limits.most} | {limits.prompt} characters |")
    return rows


def option_tables() -> list[str]:
    """The options of each kind of call, with the text that stands under each."""
    lines: list[str] = []
    for cls in ast.parse(Path(inspect.getfile(options)).read_text("utf-8")).body:
        if isinstance(cls, ast.ClassDef):
            rows = [
                f"| `{name}` | `{ast.unparse(of).replace('|', chr(92) + '|')}` | {text} |"
                for entry, meaning in pairwise(cls.body)
                if (name := getattr(getattr(entry, "target", None), "id", None)) and (of := getattr(entry, "annotation", None))
                for text in [ast.literal_eval(meaning.value) if isinstance(meaning, ast.Expr) else ""]
            ]
            lines += [first_line(getattr(options, cls.name)), "", "| option | | |", "|---|---|---|", *rows, ""]
    return lines


def document() -> str:
    """The whole page."""
    progress = ", ".join(sorted(f"`{kind.__name__}`" for kind in adapter.PROGRESS))
    tree = (errors.__doc__ or "").split("\n\n")[1]
    lines = [
        "# Reference", "", "Generated from the code by `python docs/generate.py`.", "",
        "## Options of the calls", "",
        "`TypedDict`s in `allm.actors.options`, for type checkers. They win over the fields of a request, these over the engine's.", "",
        *option_tables(),
        "## Events", "", first_line(events), "", *event_table(), "",
        "## Legal order", "", "Of one round trip; checked on every stream. A block goes `*Started`, its deltas, `*Completed`.", "",
        *order_table(order.ORDER), "", "Of a step (it ends in `stepped`) and of a loop:", "", *order_table(order.LOOP), "",
        "## The turn machine", "", "How a step or a loop goes, from `allm/turn.py`: " + first_line(turn), "",
        *turn_diagram(), "", *turn_table(), "",
        "## What feeds the watchdogs", "", f"{progress}. Pings, comments and empty chunks do not.", "",
        "## Errors", "", "```text", tree, "```", "",
        "Reasons of adapter and stream errors: " + ", ".join(f"`{reason}`" for reason in sorted(errors.ADAPTER_REASONS)) + ".", "",
        "Retried by default: " + ", ".join(f"`{reason}`" for reason in RETRIED) + ".", "",
        "## Finish reasons", "", "Whichever wire brings the word; upper and lower case are alike.", "",
        "| the provider's word | `finish_reason` |", "|---|---|",
        *(f"| `{word}` | `{ours}` |" for word, ours in finish_words.FINISH_WORDS.items()), "| any other | `other` |", "",
        "## Image models", "", "What `openai.images` checks before a request; a model that is not listed passes unchecked.", "",
        *image_table(), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Writes the page, or with `--check` compares it."""
    text = document()
    if "--check" in sys.argv:
        return 0 if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
