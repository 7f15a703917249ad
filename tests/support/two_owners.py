"""Two people's folders in one index, and every try of one of them to see something of the other's.

Each folder has words that nobody ever asks for: where one of them is in an answer to somebody else, it was shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp import Client, MCPError

from mcp_server.protocol.status_resource import URI

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
    for path in (other.root, other.root.parent):
        yield str(path), f"{path}qqq"


LOCATORS = (None, "lines 1-3", "lines 100000", "page 1", 'section "Plan"', 'sheet "x" rows 1-2', "nonsense")


def words_in(answer: str, words: Sequence[str]) -> list[str]:
    """Words of the other one that are in an answer."""
    return [word for word in words if word in answer]


@dataclass
class Matrix:
    """The tries of one user, and what leaked."""

    client: Client
    forbidden: tuple[str, ...]
    roots: tuple[str, ...]
    heard: list[str]
    tries: int = 0
    leaks: list[str] = field(default_factory=list)
    hits: int = 0

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool; return the text of its error, or nothing."""
        self.tries += 1

        async def progress(done: float, total: float | None, message: str | None) -> None:
            self.heard.append(str(message))

        result = await self.client.call_tool(tool, arguments, progress_callback=progress)
        self.look(f"{tool} {arguments}", result.model_dump_json())
        for hit in (result.structured_content or {}).get("hits", ()):
            self.hits += 1
            if not any(hit["path"].startswith(root + "/") for root in self.roots) or hit["folder"] not in self.roots:
                self.leaks.append(f"{arguments}: {hit['path']}")
        return result.content[0].text if result.is_error else ""

    def look(self, tried: str, answer: str) -> None:
        found = words_in(answer, self.forbidden) + words_in(" ".join(self.heard), self.forbidden)
        self.heard.clear()
        if found:
            self.leaks.append(f"{tried}: {found}: {answer[:300]}")


def without(answer: str, path: str) -> str:
    """An answer without the path that was asked for, however it is quoted."""
    return answer.replace(path, "").replace(repr(path), "").replace(repr(path[:200]), "")


async def try_everything(matrix: Matrix, own: Path, other: Person) -> None:
    schemas = {tool.name: tool.input_schema for tool in (await matrix.client.list_tools()).tools}
    matrix.look("tools/list", json.dumps(schemas))
    for arguments in searches(own, other, schemas["search"]):
        await matrix.call("search", **arguments)
    for forbidden, unknown in reads(own, other):
        for locator in LOCATORS:
            texts = [
                without(await matrix.call("read", path=path, **({"locator": locator} if locator else {})), path)
                for path in (forbidden, unknown)
            ]
            assert texts[0] == texts[1] != "", f"{forbidden} with {locator} reads otherwise than {unknown}: {texts}"
    for link in (own / "link", own / "linked.md"):  # of the reader's own folder: it may be said what they are
        for locator in LOCATORS:
            assert await matrix.call("read", path=str(link), **({"locator": locator} if locator else {})) != ""
    for verbose in (False, True):
        await matrix.call("status", verbose=verbose)
    await try_protocol(matrix, other)


async def try_protocol(matrix: Matrix, other: Person) -> None:
    """What is no tool: resources, completion, prompts."""
    client = matrix.client
    for uri in (URI, f"{URI}/{other.root.name}", f"file://{other.root}/plan.md", f"folder-mcp://{other.root}"):
        matrix.tries += 1
        try:
            matrix.look(uri, (await client.read_resource(uri)).model_dump_json())
        except MCPError as error:
            matrix.look(uri, str(error).replace(uri, ""))
    for ask in (client.list_resources, client.list_resource_templates, client.list_prompts):
        matrix.tries += 1
        try:
            matrix.look(ask.__name__, (await ask()).model_dump_json())
        except MCPError as error:
            matrix.look(ask.__name__, str(error))
