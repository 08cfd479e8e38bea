"""Docstrings of tools: the description, and what is said of each parameter, in Google's, numpy's and Sphinx's style."""

import inspect
import re
from typing import Final

__all__ = ["parse_docstring"]

_ENTRY: Final = r"\*{0,2}(\w+)[ \t]*(?:\([^)\n]*\))?[ \t]*:[ \t]*(.*)"
_GOOGLE: Final = re.compile(r"(Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments)[ \t]*:")
_NUMPY: Final = re.compile(r"(Parameters|Other Parameters)")
_SPHINX: Final = re.compile(r":(?:param|parameter|arg|argument|key|keyword)[ \t]+(?:[^:\n]*[ \t])?\*{0,2}(\w+)[ \t]*:[ \t]*(.*)")
_SECTION: Final = re.compile(
    r"(Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Returns?|Yields?|Raises|Examples?|Notes?|Warns|Warnings?"
    r"|Attributes|References|See Also|Todo)[ \t]*:"
)
_FIELD: Final = re.compile(r":\w+[^:\n]*:")
_RULE: Final = re.compile(r"-{3,}[ \t]*")


def parse_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """(description, parameter -> what is said of it). The description is all that stands before the first section."""
    lines = inspect.cleandoc(text or "").splitlines()
    end = next((i for i in range(len(lines)) if _starts_section(lines, i)), len(lines))
    return "\n".join(lines[:end]).strip(), {**_google(lines), **_numpy(lines), **_sphinx(lines)}


def _starts_section(lines: list[str], i: int) -> bool:
    line = lines[i]
    ruled = i + 1 < len(lines) and bool(line.strip()) and _RULE.fullmatch(lines[i + 1]) is not None
    return ruled or _SECTION.fullmatch(line.rstrip()) is not None or _FIELD.match(line) is not None


def _google(lines: list[str]) -> dict[str, str]:
    """`Args:`, then one indented `name (type): text` a parameter; what is indented further belongs to it."""
    found: dict[str, str] = {}
    for start, line in enumerate(lines):
        if not _GOOGLE.fullmatch(line.rstrip()):
            continue
        body = _indented(lines, start + 1)
        margin = min((_indent(line) for line in body if line.strip()), default=0)
        name = None
        for text in body:
            entry = re.match(_ENTRY, text.strip()) if _indent(text) == margin else None
            name = entry[1] if entry else name
            if name is not None:
                found[name] = _join(found.get(name, ""), entry[2] if entry else text)
    return found


def _numpy(lines: list[str]) -> dict[str, str]:
    """`Parameters` over a rule, then `name : type` with its text indented below."""
    found: dict[str, str] = {}
    for start in range(len(lines) - 1):
        if not (_NUMPY.fullmatch(lines[start].rstrip()) and _RULE.fullmatch(lines[start + 1])):
            continue
        names: list[str] = []
        for i in range(start + 2, len(lines)):
            if _starts_section(lines, i):
                break
            if lines[i].strip() and not _indent(lines[i]):
                names = [name.strip().lstrip("*") for name in lines[i].split(":")[0].split(",")]
            else:
                found.update({name: _join(found.get(name, ""), lines[i]) for name in names})
    return found


def _sphinx(lines: list[str]) -> dict[str, str]:
    """`:param type name: text`, and the indented lines below it."""
    found: dict[str, str] = {}
    for i, line in enumerate(lines):
        if entry := _SPHINX.match(line):
            text = entry[2]
            for further in _indented(lines, i + 1):
                text = _join(text, further)
            found[entry[1]] = text.strip()
    return found


def _indented(lines: list[str], start: int) -> list[str]:
    """The lines from `start` on that are indented or empty."""
    end = next((i for i in range(start, len(lines)) if lines[i].strip() and not _indent(lines[i])), len(lines))
    return lines[start:end]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _join(text: str, more: str) -> str:
    return f"{text} {more.strip()}".strip()
