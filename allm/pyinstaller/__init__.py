"""What PyInstaller has to be told: the modules of this library that are imported by name, which its analysis does not see.

It finds `hook_dirs` by the entry point `pyinstaller40`, and `hook-allm.py` there.
"""

import os
import pkgutil
from collections.abc import Iterable, Iterator

__all__ = ["hidden_imports", "hook_dirs"]

_LEFT_OUT = ("allm.cli", "allm.pyinstaller", "allm.testing.conformance", "allm.__main__")
"""What a frozen program does not import: the command line, this, and test classes for adapters (which would bring pytest along)."""


def hook_dirs() -> list[str]:
    """The folder of `hook-allm.py`."""
    return [os.path.dirname(__file__)]


def hidden_imports() -> list[str]:
    """Every module of this library that a program may come to import. None of them is imported here."""
    import allm

    return sorted(name for name in _modules(allm.__path__, "allm") if not name.startswith(_LEFT_OUT))


def _modules(paths: Iterable[str], package: str) -> Iterator[str]:
    for found in pkgutil.iter_modules(list(paths), f"{package}."):
        yield found.name
        if found.ispkg:
            inner = found.name.rpartition(".")[2]
            yield from _modules([os.path.join(path, inner) for path in paths], found.name)
