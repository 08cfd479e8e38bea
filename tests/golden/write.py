"""Adds the documents of new types to the golden file of this version: `python -m tests.golden.write`.

Documents that are already there are never changed: they are what earlier versions of the library wrote.
"""

import json
from pathlib import Path
from typing import Any

from allm import codec
from tests.golden.examples import EXAMPLES

FOLDER = Path(__file__).parent


def golden(version: int) -> dict[str, dict[str, Any]]:
    """The documents of that version, by their tags."""
    path = FOLDER / f"v{version}.json"
    documents: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return documents


def main() -> None:
    documents = golden(codec.VERSION)
    for value in EXAMPLES:
        document = json.loads(codec.to_json(value))
        documents.setdefault(document["type"], document)
    lines = [f"{json.dumps(tag)}: {json.dumps(document)}" for tag, document in documents.items()]
    (FOLDER / f"v{codec.VERSION}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
