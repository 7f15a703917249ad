"""The layout: layers, boundaries of libraries, cycles, names. Reads the code as text; imports nothing of it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for top in ("indexer", "mcp_server") for path in (ROOT / top).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

# Lowest first. An import, also one inside a function or for types only, points to a lower layer or stays in its
# package; packages and modules of one layer do not import each other.
LAYERS = [
    {"indexer", "mcp_server"},  # the packages themselves: a docstring
    {"indexer.errors", "indexer.broadcast", "indexer.waits", "mcp_server.version", "mcp_server.state_files"},
    {"indexer.types"},
    {"indexer.config"},
    {"indexer.files", "indexer.text", "indexer.store", "indexer.slot"},
    {"indexer.models", "mcp_server.logs"},
    {"indexer.documents"},
    {"indexer.status_types"},
    {"indexer.history", "indexer.folders"},
    {"indexer.indexing"},
    {"indexer.search"},
    {"indexer.lifetime"},
    {"indexer.status_report"},
    {"indexer.engine"},
    {"mcp_server.record"},
    {"mcp_server.engine_port"},
    {"mcp_server.access"},
    {"mcp_server.protocol", "mcp_server.clients"},
    {"mcp_server.page"},
    {"mcp_server.processes"},
    {"mcp_server.doctor"},
    {"mcp_server.cli"},
    {"mcp_server.__main__"},
    {"mcp_server.server"},
]
LOOSE = {"indexer": 10, "mcp_server": 6}
"""Most modules that may lie beside the packages."""

# Where a library may be imported: one package, or one file, each.
BOUNDARIES = {
    "lancedb": r"indexer/store/",
    "pyarrow": r"indexer/store/",
    "lance": r"indexer/store/",
    "torch": r"indexer/models/",
    "transformers": r"indexer/models/",
    "sentence_transformers": r"indexer/models/",
    "onnxruntime": r"indexer/models/",
    "onnx": r"indexer/models/",
    "onnxscript": r"indexer/models/",
    "safetensors": r"indexer/models/",
    "tokenizers": r"indexer/models/",
    "huggingface_hub": r"indexer/models/",
    "xberg": r"indexer/documents/",
    "pypdfium2": r"indexer/documents/",
    "charset_normalizer": r"indexer/documents/",
    "semantic_text_splitter": r"indexer/text/",
    "Stemmer": r"indexer/text/",
    "tree_sitter": r"indexer/text/",
    "watchfiles": r"indexer/files/watch\.py",
    "re2": r"indexer/(config|files/patterns|text/secrets)\.py",
    "jwt": r"mcp_server/access/oidc\.py",
    "httpx2": r"mcp_server/access/oidc\.py",
    "tomllib": r"indexer/(config|models/catalogue)\.py|mcp_server/",
    "tomlkit": r"mcp_server/clients/edit_toml\.py",
    "ruamel": r"mcp_server/clients/edit_yaml\.py",
    "mcp": r"mcp_server/",
    "pydantic": r"mcp_server/",
    "starlette": r"mcp_server/(page/|processes/http(_access)?\.py)",
    "uvicorn": r"mcp_server/(page/(port|web_server)|processes/(http|http_connection))\.py",
    "rich": r"mcp_server/cli/",
    "argparse": r"mcp_server/|indexer/documents/worker\.py|indexer/models/",
}

# What may be loaded besides the standard library when each of these has been imported: the relay answers and the
# command line explains itself at once; an owner says that it is ready before anything else is there.
STARTS = {
    "mcp_server.processes.launch": set(),
    "mcp_server.processes.relay": set(),
    "mcp_server.cli.main": set(),
    "mcp_server.processes.owner_process": {"anyio"},
    "indexer.engine": {"anyio"},
    "indexer.documents.worker": set(),
}

# Words that explain nothing, and words of our own for which the field has a term; as a part of a name.
BANNED = {
    "manager", "handler", "helper", "util", "utils", "service", "orchestrator", "coordinator", "factory", "processor",
    "common", "misc", "core", "base",
    "pulse", "stock", "turns", "transit", "lent", "occupation", "trouble", "ledger", "wear", "aside", "litter", "sums",
    "hello", "door", "room", "floor", "resting", "complaints", "mending", "looking", "broken",
}  # fmt: skip
MAX_BODY = 60
"""Lines of a function."""


def _imports(node: ast.AST, top: bool, typing: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, top, typing
        checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, top and not inner, typing or checking)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[tuple[str, bool, bool], ...]:
    """Modules a file imports, whether at its top level, and whether for types only."""
    found = []
    for node, top, typing in _imports(tree_of(path), True, False):
        if isinstance(node, ast.Import):
            found += [(alias.name, top, typing) for alias in node.names]
        elif node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if name in MODULES else node.module, top, typing) for name in names]
    return tuple(found)


def package_of(module: str) -> str:
    """``indexer.store`` for ``indexer.store.store``; a loose module is its own."""
    parts = module.split(".")
    return ".".join(parts[:2])


def layer_of(package: str) -> int:
    for number, packages in enumerate(LAYERS):
        if package in packages:
            return number
    pytest.fail(f"{package} has no layer: give it one in LAYERS, and a line in docs/architecture.md")


def ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in {"indexer", "mcp_server"}


@pytest.mark.parametrize("module", MODULES)
def test_an_import_points_to_a_lower_layer_or_stays_in_its_package(module: str) -> None:
    here = package_of(module)
    for imported, _, _ in imports(MODULES[module]):
        if ours(imported):
            there = package_of(imported)
            assert there == here or layer_of(there) < layer_of(here), f"{module} imports {imported}"


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            part = stack[at:]
            del stack[at:]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_files_do_not_import_each_other_in_a_circle() -> None:
    graph = {
        module: {name for name, _, _ in imports(path) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    assert cycles(graph) == []


def test_the_search_for_cycles_finds_one() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_library_is_imported_in_one_place(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for imported, _, _ in imports(path):
        library = imported.split(".")[0]
        place = BOUNDARIES.get("tree_sitter" if library.startswith("tree_sitter") else library)
        assert place is None or re.match(place, name), f"{name} imports {library}, which belongs to {place}"


def loaded_with(entry: str) -> set[str]:
    """Every module that importing ``entry`` imports, from imports at the top of files; packages come with modules."""
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if module in MODULES:
            waiting += [name for name, top, typing in imports(MODULES[module]) if top and not typing]
            waiting += [parent for parent in _parents(module) if parent in MODULES]
    return seen


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


@pytest.mark.parametrize("entry", STARTS)
def test_a_start_loads_no_more_than_it_needs(entry: str) -> None:
    libraries = {name.split(".")[0] for name in loaded_with(entry) if not ours(name)} - set(sys.stdlib_module_names)
    assert libraries <= STARTS[entry], f"{entry} loads {sorted(libraries - STARTS[entry])} at its start"


def test_the_protocol_is_loaded_before_and_without_the_engine() -> None:
    engine = {
        "indexer.engine",
        "indexer.lifetime",
        "indexer.search.search",
        "indexer.store.store",
        "indexer.slot.slot",
    }
    assert engine & loaded_with("mcp_server.processes.session") == set()


@pytest.mark.parametrize("top", LOOSE)
def test_few_modules_lie_beside_the_packages(top: str) -> None:
    loose = [path.name for path in (ROOT / top).glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= LOOSE[top], f"{loose}: put them into the package of their subject"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_names_explain_something(path: Path) -> None:
    assert not BANNED & words_in(path.stem), path
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            assert not BANNED & words_in(node.name), f"{path}: class {node.name}"


def words_in(name: str) -> set[str]:
    """``{"page", "port"}`` of ``PagePort`` and of ``page_port``."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_functions_stay_short(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            if body:
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
                assert lines <= MAX_BODY, f"{path}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_the_command_line_prints(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() == "mcp_server/cli/console.py":
        pytest.skip("the one place that prints")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno}"


def test_only_the_decision_on_a_request_gives_an_engine_to_the_protocol() -> None:
    """Tools have the engine of their request; that of a connection, which shows everything, is touched in one file."""
    touched = set()
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("mcp_server/protocol/", "mcp_server/access/")):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.Attribute) and node.attr == "engine" and ast.unparse(node) != "view.engine":
                    touched.add(name)
    assert touched == {"mcp_server/access/request.py"}


def test_the_environment_is_read_in_one_place() -> None:
    allowed = {"indexer/config.py", "mcp_server/__main__.py", "mcp_server/server.py"}  # the entry points
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree_of(path)):
            reads = isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
            if reads and ast.unparse(node).startswith("os.") and name not in allowed:
                said = "# environment:" in lines[node.lineno - 1]
                assert said, f"{name}:{node.lineno} touches the environment without a reason"


PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_map_names_every_package_and_every_loose_module() -> None:
    known = {package_of(module) for module in MODULES} - {"indexer", "mcp_server"}
    missing = [
        name
        for name in sorted(known)
        if f"`{name.split('.')[1]}/`" not in PAGE and f"`{name.split('.')[1]}.py`" not in PAGE
    ]
    assert missing == []


def test_every_file_that_the_map_names_exists() -> None:
    named = re.findall(r"`((?:indexer|mcp_server|tests|docs|benchmarks|\.ci)/[\w./*-]*)`", PAGE)
    assert named
    assert [name for name in named if not any(ROOT.glob(name.rstrip("/")))] == []


def test_the_map_fits_on_two_screens() -> None:
    assert len(PAGE.splitlines()) <= 120
