"""Only one module of the indexer opens the user's files; reads the code as text."""

from __future__ import annotations

import ast
from pathlib import Path

from indexer.files import open_inside

PACKAGES = ("files", "documents", "search", "indexing", "folders", "text")
OTHERS = {
    # whether there is a root; the user's git configuration; under which name a file is listed
    "files/walk.py": {"_check_root", "_configured_excludes", "_has_listed_name"},
    "indexing/changes.py": {"_check_mounted"},  # whether a root is empty
    "documents/confinement.py": None,  # what the parsers' process may use of the system
    "documents/landlock.py": None,
    "documents/extract.py": {"read_part"},  # parts of a document
    "documents/office.py": None,  # parts of a document
    "documents/opendocument.py": None,
    "documents/worker.py": None,  # /dev/null, /proc
    "documents/worker_process.py": {"_cpu_seconds"},  # /proc
    "folders/registry.py": None,  # the program's own list of folders
}
"""Functions that open something else; None for a whole file."""


def openings(function: ast.AST) -> list[int]:
    """Lines that open, list or read something by its path."""
    named = {"open", "scandir", "listdir", "read_bytes", "read_text", "fdopen"}
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (isinstance(call.func, ast.Name) and call.func.id == "open")
        or (isinstance(call.func, ast.Attribute) and call.func.attr in named)
    ]


def test_no_other_code_of_the_indexer_opens_files_by_their_path() -> None:
    top, found = Path(open_inside.__file__).parents[1], []
    for package in PACKAGES:
        for path in (top / package).glob("*.py"):
            allowed = OTHERS.get(f"{package}/{path.name}", set())
            if path.name == "open_inside.py" or allowed is None:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in allowed:
                    found += [f"{package}/{path.name}:{line} {node.name}" for line in openings(node)]
    assert found == []
