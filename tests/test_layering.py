"""The floors of the house: stairs go one way.

Each rule reads sources (import name -> text) and returns what breaks it, a line a breach. A rule is tested on the
library, where it must find nothing, and on a bad sample, where it must find something.
"""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"allm": "allm", "actors": "allm.actors", "supervisors": "allm.supervisors"}

Sources: TypeAlias = Mapping[str, str]

TOP_FLOOR = ("allm.aio", "allm.testing", "allm.cli", "allm.mcp", "allm.pyinstaller", "allm.__main__")
# A core value with a method that runs something (`Session.reply`) goes through a door: an import in that method, or one
# for the type checker. Module -> the modules it may reach so.
DOORS: dict[str, frozenset[str]] = {"allm.images": frozenset({"allm.actors.io"})}
CLOCKS_THREADS_AND_SOCKETS = (
    *(
        "_thread",
        "asyncio",
        "concurrent",
        "multiprocessing",
        "queue",
        "sched",
        "signal",
        "subprocess",
        "threading",
        "time",
    ),
    *("ftplib", "http", "select", "selectors", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "urllib.request"),
)
HTTP = frozenset({"httpx", "aiohttp", "httpcore", "h11"})
DOES_HTTP = tuple(
    f"allm.actors.{name}" for name in ("aiohttp_sending", "explain", "httpx_sending", "io", "lookups", "sending", "tls", "transports")
)
"""The I/O actor and what it owns: transports, their contexts and look-ups, and what they raise."""
DEPENDENCIES = frozenset({"aiohttp", "cloudpickle", "httpx", "jsonschema_rs", "msgspec", "pykka", "structlog"})
FOR_CHECKERS = frozenset({"typing_extensions"})
"""What type checkers know by themselves; never imported when the library runs."""
OPTIONAL = {
    "allm.cli": frozenset({"typer", "click", "rich", "prompt_toolkit"}),
    "allm.mcp": frozenset({"mcp", "mcp_types", "httpx2"}),
    "allm.testing": frozenset({"pytest", "hypothesis"}),
}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    runs_on_load: bool  # neither inside a function nor for the type checker only


def is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def floor_of(module: str) -> str:
    if is_in(module, "allm.supervisors"):
        return "supervisors"
    if is_in(module, "allm.actors"):
        return "actors"
    return "top" if module == "allm" or is_in(module, *TOP_FLOOR) else "core"


def is_standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def imports(source: str, known: frozenset[str] = frozenset()) -> tuple[Import, ...]:
    """Every import of a source. `from package import name` is an import of `package.name` where that is `known`."""

    def walk(node: ast.AST, runs: bool) -> Iterator[Import]:
        match node:
            case ast.Import():
                yield from (Import(alias.name, node.lineno, runs) for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    yield Import(inner if inner in known else module, node.lineno, runs)
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for statement in node.body:
                    yield from walk(statement, False)
                for statement in node.orelse:
                    yield from walk(statement, runs)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                for child in ast.iter_child_nodes(node):
                    yield from walk(child, False)
            case _:
                for child in ast.iter_child_nodes(node):
                    yield from walk(child, runs)

    return tuple(walk(parsed(source), True))


def every_import(sources: Sources) -> Iterator[tuple[str, Import]]:
    known = frozenset(sources)
    for module, source in sources.items():
        for found in imports(source, known):
            yield module, found


def breach(module: str, found: Import) -> str:
    return f"{module}:{found.line} imports {found.module}"


def core_imports_more_than_it_may(sources: Sources) -> list[str]:
    """The standard library without threads, sockets and clocks; msgspec; jsonschema_rs, not on load; the core itself."""

    def is_fine(module: str, found: Import) -> bool:
        if is_in(found.module, "allm"):
            through_a_door = found.module in DOORS.get(module, ()) and not found.runs_on_load
            return floor_of(found.module) == "core" or through_a_door
        if is_in(found.module, *CLOCKS_THREADS_AND_SOCKETS):
            return False
        lazily = is_in(found.module, "jsonschema_rs") and not found.runs_on_load
        return is_standard(found.module) or is_in(found.module, "msgspec") or lazily

    return [breach(at, found) for at, found in every_import(sources) if floor_of(at) == "core" and not is_fine(at, found)]


def core_asks_a_clock(sources: Sources) -> list[str]:
    """`datetime` is there for its arithmetic; what time it is comes in as an argument."""
    asked = {"now", "utcnow", "today"}
    return [
        f"{module}:{node.lineno} asks {ast.unparse(node)}"
        for module, source in sources.items()
        if floor_of(module) == "core"
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Attribute) and node.attr in asked and ast.unparse(node.value).endswith(("datetime", "date"))
    ]


def environment_is_read_elsewhere(sources: Sources) -> list[str]:
    names = {"environ", "environb", "getenv", "getenvb"}

    def touched(node: ast.AST) -> bool:
        match node:
            case ast.Attribute(value=ast.Name("os"), attr=attr):
                return attr in names
            case ast.ImportFrom(module="os"):
                return any(alias.name in names for alias in node.names)
            case _:
                return False

    return [
        f"{module}:{getattr(node, 'lineno', 0)} reads the environment"
        for module, source in sources.items()
        if module != "allm.environment"
        for node in ast.walk(parsed(source))
        if touched(node)
    ]


def supervisors_import_more_than_they_may(sources: Sources) -> list[str]:
    return [
        breach(module, found)
        for module, found in every_import(sources)
        if floor_of(module) == "supervisors"
        and not (is_standard(found.module) or is_in(found.module, "pykka", "structlog", "allm.supervisors"))
    ]


def actors_import_the_top_floor(sources: Sources) -> list[str]:
    return [
        breach(module, found)
        for module, found in every_import(sources)
        if floor_of(module) == "actors" and is_in(found.module, "allm") and floor_of(found.module) == "top"
    ]


def http_is_imported_elsewhere(sources: Sources) -> list[str]:
    return [breach(module, found) for module, found in every_import(sources) if module not in DOES_HTTP and is_in(found.module, *HTTP)]


def undeclared_library_is_imported(sources: Sources) -> list[str]:
    def allowed(module: str) -> frozenset[str]:
        return DEPENDENCIES.union(*(names for package, names in OPTIONAL.items() if is_in(module, package)))

    return [
        breach(module, found)
        for module, found in every_import(sources)
        if not is_standard(found.module) and not is_in(found.module, "allm", *allowed(module))
        if found.runs_on_load or found.module not in FOR_CHECKERS
    ]


def imports_are_relative(sources: Sources) -> list[str]:
    return [
        f"{module}:{node.lineno} imports relatively"
        for module, source in sources.items()
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def modules_import_in_a_circle(sources: Sources) -> list[str]:
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for module, found in every_import(sources):
        if found.runs_on_load and found.module in sources and found.module != module:
            graph[module].add(found.module)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


def folders_are_imported_by_their_own_names(sources: Sources) -> list[str]:
    """A user's own `actors.py` would win, and each module would be loaded twice."""
    return [breach(module, found) for module, found in every_import(sources) if is_in(found.module, "actors", "supervisors")]


Rule: TypeAlias = Callable[[Sources], list[str]]


def sources_of_the_library() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if (ROOT / folder / inside.parts[0]).is_symlink():
                continue
            parts = inside.with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path.read_text("utf-8")
    return found


LIBRARY = sources_of_the_library()


def test_all_three_folders_are_read() -> None:
    assert {floor_of(module) for module in LIBRARY} == {"core", "supervisors", "actors", "top"}


def test_the_core_imports_only_the_pure_standard_library_and_msgspec() -> None:
    assert core_imports_more_than_it_may(LIBRARY) == []


def test_the_core_never_asks_what_time_it_is() -> None:
    assert core_asks_a_clock(LIBRARY) == []


def test_only_the_environment_module_reads_the_environment() -> None:
    assert environment_is_read_elsewhere(LIBRARY) == []


def test_supervisors_know_nothing_of_the_rest_of_the_house() -> None:
    assert supervisors_import_more_than_they_may(LIBRARY) == []


def test_actors_do_not_import_what_people_touch() -> None:
    assert actors_import_the_top_floor(LIBRARY) == []


def test_only_the_io_actor_and_what_it_owns_import_an_http_library() -> None:
    assert http_is_imported_elsewhere(LIBRARY) == []


def test_only_declared_libraries_are_imported() -> None:
    assert undeclared_library_is_imported(LIBRARY) == []


def test_no_import_is_relative() -> None:
    assert imports_are_relative(LIBRARY) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert modules_import_in_a_circle(LIBRARY) == []


def test_nothing_imports_the_linked_folders_by_their_own_names() -> None:
    others = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for folder in ("tests", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert folders_are_imported_by_their_own_names({**LIBRARY, **others}) == []


BAD_SAMPLES: list[tuple[Rule, Sources]] = [
    (core_imports_more_than_it_may, {"allm.turn": "import jsonschema_rs"}),
    (core_imports_more_than_it_may, {"allm.turn": "import threading"}),
    (core_imports_more_than_it_may, {"allm.turn": "from time import monotonic"}),
    (core_imports_more_than_it_may, {"allm.turn": "import urllib.request"}),
    (core_imports_more_than_it_may, {"allm.turn": "def f():\n    import httpx"}),
    (core_imports_more_than_it_may, {"allm.providers.openai": "import asyncio.streams"}),
    (core_imports_more_than_it_may, {"allm.turn": "import allm.actors.io"}),
    (core_imports_more_than_it_may, {"allm.turn": "from allm import aio", "allm.aio": ""}),
    (core_asks_a_clock, {"allm.turn": "import datetime\nat = datetime.datetime.now()"}),
    (core_asks_a_clock, {"allm.turn": "from datetime import date\nat = date.today"}),
    (environment_is_read_elsewhere, {"allm.engine": "import os\nkey = os.environ['KEY']"}),
    (environment_is_read_elsewhere, {"allm.actors.io": "from os import getenv"}),
    (supervisors_import_more_than_they_may, {"allm.supervisors.spec": "import msgspec"}),
    (supervisors_import_more_than_they_may, {"allm.supervisors.spec": "from allm.retry import Retry"}),
    (actors_import_the_top_floor, {"allm.actors.runtime": "import allm.aio"}),
    (actors_import_the_top_floor, {"allm.actors.runtime": "from allm import Engine"}),
    (http_is_imported_elsewhere, {"allm.actors.engine": "from httpx import Response"}),
    (http_is_imported_elsewhere, {"allm.actors.exchange": "import aiohttp.abc"}),
    (http_is_imported_elsewhere, {"allm.testing.simulator": "def f():\n    import aiohttp.web"}),
    (undeclared_library_is_imported, {"allm.actors.io": "import requests"}),
    (undeclared_library_is_imported, {"allm.codec": "import typer"}),
    (imports_are_relative, {"allm.turn": "from .events import TextDelta"}),
    (imports_are_relative, {"allm.turn": "from . import events"}),
    (modules_import_in_a_circle, {"allm.a": "import allm.b", "allm.b": "if True:\n    from allm import a"}),
    (folders_are_imported_by_their_own_names, {"allm.aio": "from actors.io import IoActor"}),
    (folders_are_imported_by_their_own_names, {"allm.aio": "import supervisors"}),
]


@pytest.mark.parametrize(("rule", "sources"), BAD_SAMPLES)
def test_each_rule_can_fail(rule: Rule, sources: Sources) -> None:
    assert rule(sources) != []


GOOD_SAMPLES: list[tuple[Rule, Sources]] = [
    (
        core_imports_more_than_it_may,
        {"allm.turn": "import math\nfrom msgspec import Struct\nfrom allm.events import Event"},
    ),
    (core_imports_more_than_it_may, {"allm.turn": "from urllib.parse import urlsplit"}),
    (core_imports_more_than_it_may, {"allm.turn": "def check():\n    import jsonschema_rs"}),
    (core_asks_a_clock, {"allm.turn": "from datetime import datetime\nat = datetime.fromisoformat"}),
    (environment_is_read_elsewhere, {"allm.environment": "import os\nkey = os.environ['KEY']"}),
    (
        supervisors_import_more_than_they_may,
        {"allm.supervisors.spec": "import time, pykka\nimport allm.supervisors.exits"},
    ),
    (http_is_imported_elsewhere, {"allm.actors.io": "import httpx"}),
    (undeclared_library_is_imported, {"allm.cli.main": "import typer", "allm.testing": "import pytest"}),
    (modules_import_in_a_circle, {"allm.a": "import allm.b", "allm.b": "def f():\n    import allm.a"}),
    (
        modules_import_in_a_circle,
        {"allm.a": "import allm.b", "allm.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import allm.a"},
    ),
]


@pytest.mark.parametrize(("rule", "sources"), GOOD_SAMPLES)
def test_each_rule_lets_pass_what_it_should(rule: Rule, sources: Sources) -> None:
    assert rule(sources) == []


# What only a running interpreter can tell. Each question is put to a new one, where nothing is loaded yet.


def ask(source: str, folder: Path = ROOT) -> Any:
    """What a new interpreter, started in this folder, prints as JSON."""
    done = subprocess.run([sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def turns_into_a_module(package: str, name: str, folder: Path = ROOT) -> bool:
    """Whether the package's public name means something else once the submodule of that name is loaded."""
    source = f"""
import importlib, json
before = getattr(importlib.import_module({package!r}), {name!r})
after = importlib.import_module("{package}.{name}")
print(json.dumps(before is not after))
"""
    return bool(ask(source, folder))


def test_no_public_name_turns_into_a_module() -> None:
    """`allm.fold` beside `allm/fold.py` would, as soon as somebody loads the latter."""
    exported = ask("import allm, json; print(json.dumps(allm.__all__))")
    submodules = {module.split(".")[1] for module in LIBRARY if "." in module}
    assert [name for name in sorted(submodules.intersection(exported)) if turns_into_a_module("allm", name)] == []


def test_a_public_name_that_turns_into_a_module_is_found(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "__init__.py").write_text("def fold(): ...\ndef __getattr__(name):\n    import house.aio as m\n    return m\n")
    (tmp_path / "house" / "fold.py").touch()
    (tmp_path / "house" / "aio.py").touch()
    assert turns_into_a_module("house", "fold", tmp_path)
    assert not turns_into_a_module("house", "aio", tmp_path)


def test_every_module_loads_under_its_import_name_only() -> None:
    names = sorted(module for module in LIBRARY if not module.endswith("__main__"))
    loaded = ask(
        f"import importlib, json, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(json.dumps(sorted(sys.modules)))"
    )
    assert set(names) <= set(loaded)
    assert [name for name in loaded if is_in(name, "actors", "supervisors")] == []


def test_the_tests_themselves_load_no_module_by_the_folders_own_names() -> None:
    assert [name for name in sys.modules if is_in(name, "actors", "supervisors")] == []
