"""The command line: `allm run`, `allm chat`, `allm demo`. It needs the extra `cli`; without it, one line says how to get it."""

import sys
from typing import Final

__all__ = ["main"]

EXTRA: Final = frozenset({"typer", "rich", "prompt_toolkit"})


def main() -> int:
    """Runs the command that `sys.argv` names and gives its exit code."""
    try:
        from allm.cli.commands import run_app

        return run_app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        print("allm: the command line is an extra: pip install 'allm-actors[cli]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
