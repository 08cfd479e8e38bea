"""The hook for PyInstaller: a frozen program has every module that the library imports by name."""

import importlib.util
import re
import runpy
import tomllib
from pathlib import Path

import allm
from allm.providers import registry
from allm.pyinstaller import hidden_imports, hook_dirs

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"""["'](allm(?:\.[a-z_]\w*)+)(?::\w+)?["']""")


def named_modules() -> set[str]:
    """Every text in the library's sources that names one of its modules, by itself or before a colon."""
    found: set[str] = set()
    for folder in ("allm", "actors"):
        for path in (ROOT / folder).rglob("*.py"):
            if "pyinstaller" not in path.parts and path.parent.name != "cli":
                found |= set(NAMED.findall(path.read_text()))
    return {name for name in found if importlib.util.find_spec(name) is not None}


def test_every_module_that_is_named_in_a_text_is_listed() -> None:
    named = named_modules()
    assert {"allm.providers.openai_chat", "allm.testing.sim", "allm.engine", "allm.mcp", "allm.actors.facade"} <= named
    assert named - set(hidden_imports()) == {"allm.testing.conformance"}


def test_every_adapter_and_every_public_name_is_listed() -> None:
    listed = set(hidden_imports())
    assert {path.partition(":")[0] for path in (*registry.BUILT_IN.values(), *registry.ONE_BODY.values())} <= listed
    homes = {getattr(getattr(allm, name), "__module__", "allm") for name in allm.__all__}
    assert {home for home in homes if home.startswith("allm.")} <= listed


def test_what_is_listed_are_modules_and_neither_the_command_line_nor_test_classes() -> None:
    listed = hidden_imports()
    assert len(set(listed)) == len(listed)
    assert not [name for name in listed if re.match(r"allm\.(cli|pyinstaller|testing\.conformance)", name)]
    assert not [name for name in listed if not name.startswith("allm.mcp") and importlib.util.find_spec(name) is None]


def test_the_hook_is_found_by_the_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pyinstaller40"] == {"hook-dirs": "allm.pyinstaller:hook_dirs"}
    (folder,) = hook_dirs()
    hook = runpy.run_path(str(Path(folder) / "hook-allm.py"))
    assert hook["hiddenimports"] == hidden_imports()
