"""The house: floors, doors, words and sizes. Reads the code as text; imports nothing of it."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for room in ("indexer", "mcp_server") for path in (ROOT / room).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

# Imports point to a lower floor or stay in the same room; files of one floor outside a room never meet.
FLOORS = [
    {"indexer.errors", "indexer.pulse", "indexer.one_error", "indexer.timing"},
    {"indexer.locator"},
    {"indexer.types"},
    {"indexer.answer"},
    {"indexer.settings"},
    {"indexer.config"},
    {"indexer.files", "indexer.text", "indexer.model", "indexer.store"},
    {
        "indexer.folder_rules",
        "indexer.status",
        "indexer.fusion",
        "indexer.snippet",
        "indexer.changes",
        "indexer.advice",
        "indexer.present_text",
    },
    {"indexer.known_folders", "indexer.folding", "indexer.reranking", "indexer.passages", "indexer.history"},
    {"indexer.manifest", "indexer.work_queue", "indexer.ledger", "indexer.folder"},
    {
        "indexer.models",
        "indexer.freshness",
        "indexer.semantic",
        "indexer.looking",
        "indexer.preparing",
        "indexer.scan",
        "indexer.parser_process",
    },
    {"indexer.vector_commits"},
    {
        "indexer.text_pass",
        "indexer.embedding_pass",
        "indexer.search",
        "indexer.reading",
        "indexer.watching",
    },
    {"indexer.parts", "indexer.maintenance", "indexer.mending", "indexer.stock", "indexer.recording"},
    {"indexer.condition"},
    {"indexer.survey", "indexer.running"},
    {"indexer.engine"},
    {"mcp_server"},
]
ROOMS = {"indexer.files", "indexer.text", "indexer.model", "indexer.store", "mcp_server"}

DOORS = {
    "mcp": r"mcp_server/",
    "pydantic": r"mcp_server/",
    "lancedb": r"indexer/store/",
    "pyarrow": r"indexer/store/",
    "lance": r"indexer/store/",
    "torch": r"indexer/model/",
    "transformers": r"indexer/model/",
    "sentence_transformers": r"indexer/model/",
    "onnxruntime": r"indexer/model/",
    "onnx": r"indexer/model/",
    "tokenizers": r"indexer/model/",
    "huggingface_hub": r"indexer/model/",
    "watchfiles": r"indexer/files/watch\.py",
    "pathspec": r"indexer/files/",
    "xberg": r"indexer/text/",
    "pypdfium2": r"indexer/text/",
    "charset_normalizer": r"indexer/text/",
    "semantic_text_splitter": r"indexer/text/",
    "Stemmer": r"indexer/text/",
    "tomllib": r"indexer/(config|model/catalogue)\.py|mcp_server/",
    "rich": r"mcp_server/",
    "tomlkit": r"mcp_server/clients/toml_tables\.py",
    "ruamel": r"mcp_server/clients/yaml_blocks\.py",
    "argparse": r"mcp_server/|indexer/text/worker\.py",
}
# May only be imported inside a function: the stdio process answers before any of them is there.
HEAVY = {
    "lancedb", "pyarrow", "lance", "numpy", "torch", "transformers", "sentence_transformers", "onnxruntime", "onnx",
    "tokenizers", "huggingface_hub", "xberg", "pypdfium2", "charset_normalizer", "semantic_text_splitter",
}  # fmt: skip
BANNED = re.compile(
    r"manager|handler|helper|utils?$|utils?_|service|orchestrator|coordinator|factory|processor|common|misc$|core$|base$",
    re.IGNORECASE,
)
MAX_LINES = 600
MAX_BODY = 60


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules a file imports, and whether at its top level (``TYPE_CHECKING`` blocks do not count)."""
    found = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                found.extend((name if name in MODULES else child.module or "", top) for name in names)
            visit(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(tree_of(path), True)
    return found


def room_of(module: str) -> str:
    return next((room for room in ROOMS if module == room or module.startswith(room + ".")), module)


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    pytest.fail(f"{room} stands on no floor: give it one in tests/test_house.py")


@pytest.mark.parametrize("module", [m for m in MODULES if m != "indexer"])
def test_imports_point_only_downstairs(module: str) -> None:
    here = room_of(module)
    for imported, _ in imports(MODULES[module]):
        if imported.split(".")[0] not in {"indexer", "mcp_server"} or imported == "indexer":
            continue
        there = room_of(imported)
        assert there == here or floor_of(there) < floor_of(here), f"{module} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_library_has_one_door(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for imported, top in imports(path):
        library = imported.split(".")[0]
        if library in DOORS:
            assert re.match(DOORS[library], name), f"{name} imports {library}, whose door is {DOORS[library]}"
        if library.startswith("tree_sitter"):
            assert name.startswith("indexer/text/")
        if library in HEAVY:
            assert not top, f"{name} imports {library} at its top: import it where it is first used"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_names_explain_something(path: Path) -> None:
    assert not BANNED.search(path.stem), path
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            assert not BANNED.search(node.name), f"{path}: class {node.name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES, f"{path} is over {MAX_LINES} lines: split it"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            if body:
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
                assert lines <= MAX_BODY, f"{path}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_but_the_command_line_prints(path: Path) -> None:
    if path.name in {"cli.py", "console.py"} or "commands" in path.parts:
        pytest.skip("the command line may print")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno}"


def test_the_environment_is_read_in_one_place() -> None:
    allowed = {"indexer/config.py", "mcp_server/__main__.py", "mcp_server/server.py"}  # the entry points
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree_of(path)):
            reads = isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
            if reads and ast.unparse(node).startswith("os.") and name not in allowed:
                said = "# house:" in lines[node.lineno - 1]
                assert said, f"{name}:{node.lineno} touches the environment without a reason"
