"""Two people's folders in one index, and every try of one of them to see something of the other's.

Each folder has words that nobody ever asks for: where one of them is in an answer to somebody else, it was shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMON = "The quarterly meeting moved to the large office on the third level."


@dataclass(frozen=True)
class Person:
    """One of them.

    Attributes:
        root: Their folder.
        asked: Words of their texts that others ask for.
        never_asked: Words of their texts, and parts of the names of their files, that nobody asks for.
        files: Paths of their files that others ask for.
    """

    root: Path
    asked: tuple[str, ...]
    never_asked: tuple[str, ...]
    files: tuple[str, ...] = field(default=())


def write_person(root: Path, asked: str, never: str, name: str, count: int) -> Person:
    """Write a folder: notes, a table, a page, a file that cannot be read, one in a folder of its own."""
    inner = root / f"{name}archive" / "deep"
    inner.mkdir(parents=True)
    for number in range(count):
        text = f"# {never.title()} {number}\n\n{COMMON}\n\nNumber {number} of {asked} with {never}, {name}note.\n"
        (root / f"{name}note{number:02}.md").write_text(text, encoding="utf-8")
    (root / "plan.md").write_text(f"# Plan\n\nThe {asked} plan says {never}.\n", encoding="utf-8")
    (root / f"{name}sheet.csv").write_text(f"item,cost\n{asked} {never},12\n", encoding="utf-8")
    (root / f"{name}page.html").write_text(f"<h1>{never}</h1><p>{asked} {COMMON}</p>", encoding="utf-8")
    (root / f"{name}broken.pdf").write_bytes(b"%PDF-1.7\n" + never.encode() + b"\xff" * 200)
    (inner / f"{name}inner.md").write_text(f"# Inner\n\nDeep {asked} {never} {COMMON}\n", encoding="utf-8")
    files = ("plan.md", f"{name}broken.pdf", f"{name}note03.md")
    return Person(root, (asked,), (never, never.title(), f"{name}note", f"{name}sheet", f"{name}archive"), files)


def write_both(base: Path) -> tuple[Person, Person]:
    """Write both folders, and links from the first into the second."""
    one = write_person(base / "anna" / "one", "amberfox", "zephyrine", "aster", 7)
    two = write_person(base / "bert" / "two", "basaltcrow", "quarrystone", "birch", 23)
    (one.root / "link").symlink_to(two.root)
    (one.root / "linked.md").symlink_to(two.root / "plan.md")
    return one, two


# Tries --------------------------------------------------------------------------------------------------------------


def searches(own: Path, other: Person, schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of ``search``: each query with each value of each argument of the schema."""
    values = {**_search_values(own, other), "query": [None]}
    missing = set(schema["properties"]) - set(values)
    assert not missing, f"no tries for the arguments {sorted(missing)}"
    for query in _queries(other):
        for name, tried in values.items():
            for value in tried:
                yield {"query": query, "top_k": 50, **({} if value is None else {name: value})}
    for mode in ("keyword", "semantic", "hybrid"):
        for offset in (0, 5, 20):
            for folders in values["folders"]:
                for glob in ("**", "../two/**"):
                    narrowed = {} if folders is None else {"folders": folders}
                    yield {"query": COMMON, "mode": mode, "offset": offset, "path_glob": glob, **narrowed}


def _queries(other: Person) -> list[str]:
    return [
        other.asked[0],
        COMMON,
        f'"{other.asked[0]} plan"',
        "plan",
        str(other.root),
        f"number 3 of {other.asked[0]}",
    ]


def _search_values(own: Path, other: Person) -> dict[str, list[Any]]:
    root, name = str(other.root), other.root.name
    up = os.path.relpath(root, own)
    return {
        "top_k": [1, 3, 50],
        "offset": [1, 2, 5, 10, 20, 50, 1000],
        "mode": ["keyword", "semantic", "hybrid"],
        "context": [1, 3],
        "max_chars": [200, 20_000],
        "modified_after": ["2001-01-01", "2999-01-01", "no date"],
        "file_types": [["md"], ["pdf"], ["csv", "html"], ["documents"], ["nothing"]],
        "folders": [
            None, [root], [name], [name.upper()], [str(own), root], [str(own / up)], [root + "/"], [f"file://{root}"],
            [f"file://localhost{root}"], [os.path.dirname(root)], [os.path.dirname(os.path.dirname(root))], ["/"],
            [str(own / "link")], [f"{own}/link/.."], ["~"], ["."], [".."], [root + "/archive"], [root.upper()],
            [""], [root.replace("/", "//")], ["link"], [f"{own}{root}"], ["x" * 300],
        ],
        "path_glob": [
            f"{up}/**", f"../{name}/**", f"{root}/**", "**", "/**", "**/plan.md", "../**", "**/../**", f"**/{name}/**",
            f"{{{own.name},{name}}}/**", "[", "[!x]*", "{", "*", "' OR true --", f"link/{up}/**", "link/**", "~/**",
            "plan.md", ".*", "/",
        ],
    }  # fmt: skip


def reads(own: Path, other: Person) -> Iterator[tuple[str, str]]:
    """Paths of ``read``, each with one of the same form for which there is no file at all."""
    up = os.path.relpath(other.root, own)
    for name in other.files:
        path = str(other.root / name)
        for form in (
            path, f"file://{path}", f"file://localhost{path}", name, f"{up}/{name}", f"{own}/{up}/{name}",
            f"{own}/link/{name}", f"link/{name}", f"{own}/./{up}/{name}", path.replace("/", "//"), path + "/",
            f"{other.root.name}/{name}", f"~/{up}/{name}", path.upper(), f" {path}", f"{own}//../{up}/{name}",
            f"file:{path}", path.replace("e", "%65"), f"\\\\?\\{path}", f"{path}\x00.md",
        ):  # fmt: skip
            stem, dot, suffix = form.rpartition(".")
            if form != name or not (own / name).exists():  # else it is the reader's own
                yield form, f"{stem}qqq{dot}{suffix}"
    for path in (other.root, other.root.parent, own / "link", own / "linked.md"):
        yield str(path), f"{path}qqq"


LOCATORS = (None, "lines 1-3", "lines 100000", "page 1", 'section "Plan"', 'sheet "x" rows 1-2', "nonsense")


def words_in(answer: str, words: Sequence[str]) -> list[str]:
    """Words of the other one that are in an answer."""
    return [word for word in words if word in answer]
