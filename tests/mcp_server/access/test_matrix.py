"""Who may see one folder sees nothing of another: every tool, argument, page and error, against the real engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from engines import engine_over, settings
from fakes import FakeLoader
from mcp import Client, MCPError
from two_owners import LOCATORS, Person, reads, searches, words_in, write_both

from indexer.engine import Engine, open_engine
from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.application import create_server
from mcp_server.protocol.status_resource import URI

pytestmark = pytest.mark.slow


def limited(engine: Engine, *folders: Path) -> ConnectionContext:
    """A connection of ``serve FOLDER --only``, its folders registered."""
    context = ConnectionContext(engine, named=True, only=True, limits=tuple(map(str, folders)))
    context.ready.set()
    return context


@asynccontextmanager
async def connected(context: ConnectionContext, mode: Any, heard: list[str]) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield context

    async def hear(message: object) -> None:
        heard.append(repr(message))

    async with Client(create_server(source), mode=mode, message_handler=hear) as client:
        yield client


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


async def try_everything(matrix: Matrix, own: Path, other: Person) -> None:
    schemas = {tool.name: tool.input_schema for tool in (await matrix.client.list_tools()).tools}
    matrix.look("tools/list", json.dumps(schemas))
    for arguments in searches(own, other, schemas["search"]):
        await matrix.call("search", **arguments)
    for forbidden, unknown in reads(own, other):
        for locator in LOCATORS:
            texts = [
                (await matrix.call("read", path=path, **({"locator": locator} if locator else {}))).replace(path, "")
                for path in (forbidden, unknown)
            ]
            assert texts[0] == texts[1] != "", f"{forbidden} with {locator} reads otherwise than {unknown}"
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


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_no_try_of_three_users_shows_anything_of_the_others(tmp_path: Path, mode: str) -> None:
    one, two = write_both(tmp_path)
    users = [(one.root, two), (two.root, one)]
    if mode == "auto":  # a part of the second folder: all else of that is the other's too
        rest = Person(two.root, two.asked, ("birchnote", "birchsheet", "birchpage"), ("plan.md", "birchnote03.md"))
        users = [(two.root / "bircharchive" / "deep", rest)]
    tries = hits = 0
    async with open_engine(settings(tmp_path / "data"), version="test", loader=FakeLoader()) as engine:
        await engine.add_folder(str(one.root))
        await engine.add_folder(str(two.root))
        await engine.index()
        for own, other in users:
            heard: list[str] = []
            async with connected(limited(engine, own), mode, heard) as client:
                matrix = Matrix(client, other.never_asked, (str(own),), heard)
                await try_everything(matrix, own, other)
            assert matrix.leaks == []
            tries, hits = tries + matrix.tries, hits + matrix.hits
    print(f"{tries} tries, {hits} hits of the users' own")
    assert tries >= 1000
    assert hits > 100, "where nothing is ever found, nothing is shown"


async def test_the_same_tries_without_limits_show_the_other_folder(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        heard: list[str] = []
        async with connected(ConnectionContext(engine), "legacy", heard) as client:
            matrix = Matrix(client, two.never_asked, (str(one.root),), heard)
            schema = next(t.input_schema for t in (await client.list_tools()).tools if t.name == "search")
            for arguments in [*searches(one.root, two, schema)][::9]:
                await matrix.call("search", **arguments)
            await matrix.call("read", path=str(two.root / "plan.md"))
            await matrix.call("status")
            await try_protocol(matrix, two)
    assert len(matrix.leaks) > matrix.tries / 2
