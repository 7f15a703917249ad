"""A repository of hostile ignore files beside the same tree with plain ones: what reading both takes, in turns.

    python benchmarks/hostile_repository.py [--ignore-files 500] [--rounds 3] [--model]

Both trees have the same directories and files and leave out the same files, by as many ignore files; the hostile ones
hold besides those rules what costs a matcher most (``KINDS``). The whole program indexes each tree from nothing in a
process of its own (``tests/support/indexing_child.py``: real walk, parsers, chunks, store; fake weights, so that
embedding hides nothing); with ``--model`` the command ``folder-mcp index --no-daemon`` with the default model does.
The walk alone is timed apart. Ends with 1 when the hostile tree takes more than three times the plain one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import report

from indexer.files.ignore import MAX_IGNORE_FILE, Ignore
from indexer.files.walk import Skipped, walk

CHILD = ROOT / "tests" / "support" / "indexing_child.py"
PLAIN = "# plain\n*.tmp\n*.log\n/generated/\n!keep.log\n"
ONE_LINE = "import json, subprocess, sys; print(json.dumps(json.loads(subprocess.check_output(sys.argv[1:]))))"
"""Runs a command and prints its JSON document in one line."""
LIMIT = 3.0
"""Times the plain tree that the hostile one may take."""
DEPTH = 60
"""Directories within each other, in one chain of each tree; each has an ignore file."""


def _lines(count: int, line: Callable[[int], str]) -> str:
    return "".join(f"{line(number)}\n" for number in range(count))


KINDS: dict[str, Callable[[random.Random], str]] = {
    "directories in any depth": lambda dice: "**/a/" * 8 + "**/c/*.txt\n" + "**/a/" * 100 + "**/c/*.txt\n",
    "stars": lambda dice: _lines(50, lambda n: "*".join(dice.choices("aeiot", k=40)) + "*q"),
    "one star too many": lambda dice: "*a" * 120 + "*b\n" + "*?" * 1000 + "*b\n",
    "classes": lambda dice: _lines(50, lambda n: "*[[:alpha:]][!a-f]" * 12 + f"[{n}]"),
    "alternatives by lines": lambda dice: _lines(1500, lambda n: f"*{dice.choice('aeiou')}word{n}*.t?p"),
    "paths by lines": lambda dice: _lines(1000, lambda n: f"**/d{n}*/**/x{n}?/*.y"),
    "negations": lambda dice: _lines(1000, lambda n: f"*n*{n}?x\n!*n*{n}?x"),
    "directories taken back": lambda dice: _lines(500, lambda n: f"gen?{n}/*\n!gen?{n}/keep"),
    "as many as may be": lambda dice: _lines(4000, lambda n: f"*{dice.choice('aeiou')}*{n}x"),
    "malformed": lambda dice: "[\n[!\n[[:foo:]]\n" + "[" * 4000 + "\n\\\n" + "!" * 4000 + "\n" + "/" * 4000 + "\n",
    "too long": lambda dice: "?" * 100_000 + "\n" + "*a" * 50_000 + "\n",
    "a mebibyte": lambda dice: _lines((MAX_IGNORE_FILE - 200) // 8, lambda n: f"f{n:06}"),
}
RARE = {"a mebibyte": 20, "as many as may be": 10}
"""Of so many ignore files one is of this kind; all others are drawn alike."""

SHORT = ("directories in any depth", "stars", "one star too many", "classes", "malformed")
"""Kinds of few patterns."""


def plant(root: Path, ignore_files: int, *, hostile: bool) -> None:
    """Write a tree: directories of three notes and four files that their ignore file leaves out."""
    (root / ".git").mkdir(parents=True)
    chain = root / "chain"
    places = [Path(chain, *["a"] * number) for number in range(DEPTH)]
    places += [root / f"part{number % 20}" / f"d{number}" for number in range(ignore_files - DEPTH)]
    dice = random.Random(1)
    usual = [kind for kind in KINDS if kind not in RARE]
    for number, place in enumerate(places):
        (place / "generated").mkdir(parents=True, exist_ok=True)
        long_name = "anote" * 40
        for name in ("first.md", "second note.txt", f"{long_name}.md"):
            (place / name).write_text(f"note {number} of {name[:10]} about a zebrafish\n", encoding="utf-8")
        for name in ("x.tmp", f"{long_name}.tmp", "y.log", "generated/z.md"):
            (place / name).write_text("left out\n", encoding="utf-8")
        kind = next((rare for rare, each in RARE.items() if number % each == each - 1), dice.choice(usual))
        if place.is_relative_to(chain):  # more would exceed what may apply together, and close the rest of the chain
            kind = dice.choice(SHORT)
        (place / ".gitignore").write_text((KINDS[kind](dice) if hostile else "") + PLAIN, encoding="utf-8")


def walked(root: Path) -> dict[str, Any]:
    """A walk of the tree alone, with rules read anew."""
    began = time.process_time()
    found = list(walk(str(root), Ignore(str(root))))
    skipped = [each for each in found if isinstance(each, Skipped)]
    return {
        "cpu_s": time.process_time() - began,
        "files": len(found) - len(skipped),
        "closed": sum(each.kind == "unreadable" for each in skipped),
        "refused": sum(each.kind == "pattern" for each in skipped),
    }


def indexed(root: Path, *, model: bool) -> dict[str, Any]:
    """The tree indexed from nothing by the whole program in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hostile-data-") as data:
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"}
        command: list[str | Path] = [sys.executable, CHILD, data, root]
        if model:
            config = Path(data) / "config.toml"
            config.touch()
            environ |= {"FOLDER_MCP_DATA_DIR": data, "FOLDER_MCP_CONFIG": str(config)}
            command = [sys.executable, "-c", ONE_LINE, sys.executable, "-m", "mcp_server", "index", root]
            command += ["--no-daemon", "--json"]
        child = report.run(command, env=environ)
    return {
        "wall_s": child.cost.wall_s,
        "cpu_s": child.cost.cpu_s,
        "others_cpu_s": child.cost.others_cpu_s,
        **child.said,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ignore-files", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", action="store_true", help="the command itself, with the default model")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    figures: dict[str, dict[str, list[Any]]] = {"plain": {}, "hostile": {}}
    with tempfile.TemporaryDirectory(prefix="hostile-") as made:
        trees = {name: Path(made).resolve() / name for name in figures}
        for name, root in trees.items():
            plant(root, chosen.ignore_files, hostile=name == "hostile")
        for _ in range(chosen.rounds):
            for name, root in trees.items():
                whole, alone = indexed(root, model=chosen.model), walked(root)
                files = whole.get("files", whole.get("indexed"))
                for key, value in (
                    ("wall_s", whole["wall_s"]), ("cpu_s", whole["cpu_s"]), ("others_cpu_s", whole["others_cpu_s"]),
                    ("walk_cpu_s", alone["cpu_s"]), ("files", files), ("walked", alone["files"]),
                    ("closed", alone["closed"]), ("refused", alone["refused"]),
                ):  # fmt: skip
                    figures[name].setdefault(key, []).append(value)
    rows = [
        {
            "tree": name,
            **{key: report.spread(values) if key.endswith("_s") else values[-1] for key, values in each.items()},
        }
        for name, each in figures.items()
    ]
    print(report.table(rows))
    ratios = {
        key: report.spread([a / b for a, b in zip(figures["hostile"][key], figures["plain"][key], strict=True)], 2)
        for key in ("wall_s", "cpu_s", "walk_cpu_s")
    }
    print("hostile / plain:", {key: report.shown(value) for key, value in ratios.items()})
    name = "hostile_repository_model" if chosen.model else "hostile_repository"
    report.keep(name, {"ignore_files": chosen.ignore_files, "trees": rows, "hostile_by_plain": ratios}, load)
    sys.exit(0 if ratios["wall_s"]["median"] <= LIMIT and rows[0]["files"] == rows[1]["files"] else 1)


if __name__ == "__main__":
    main()
