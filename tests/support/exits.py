"""Every exit by which text reaches a client, a person or a file, over one engine: what leaves, by the exit's name."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client

from indexer.engine import Engine
from indexer.errors import FolderMcpError
from indexer.types import MAX_CONTEXT, Query
from mcp_server.engine_port import ConnectionContext
from mcp_server.page import api
from mcp_server.protocol.application import create_server
from mcp_server.protocol.render import read_text, search_text, status_text
from mcp_server.protocol.results import ReadResult, SearchResult, StatusResult

MODES = ("keyword", "semantic", "hybrid")
ALL_CHARS = 20_000


async def texts_that_leave(engine: Engine, words: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """Ask an engine everything that it answers, over each of its interfaces in this process.

    Args:
        engine: Open, its folders indexed.
        words: Queries; each in every mode, with and without neighbours.
        paths: Files to read at each of their places, indexed or not; each is searched in and asked for wrongly too.

    Returns:
        Exit -> the text that left by it.
    """
    out = {
        "search": await _searches(engine, words),
        "read": "\n".join([await reading(engine, path) for path in paths]),
        "status": _status(engine),
        "page": await _page(engine, words, paths),
    }
    async with _connected(engine) as client:
        for name, calls in _tool_calls(words, paths).items():
            answers = [await client.call_tool(name, call) for call in calls]
            out[f"tool {name}"] = "\n".join(answer.model_dump_json() for answer in answers)
        out["resource"] = (await client.read_resource("folder-mcp://status")).model_dump_json()
    return out


async def _searches(engine: Engine, words: Sequence[str]) -> str:
    shown = []
    for word in words:
        for mode in MODES:
            for query in (Query(word, 50, mode=mode), Query(word, 50, mode=mode, context=MAX_CONTEXT)):  # type: ignore[arg-type]
                result = SearchResult.of(await engine.search(query), word)
                shown += [result.model_dump_json(), search_text(result)]
    return "\n".join(shown)


async def reading(engine: Engine, path: str) -> str:
    """All of a file, place by place, and what is said when it cannot be read."""
    shown, locator = [], None
    while True:
        try:
            reading = await engine.read(path, locator, max_chars=ALL_CHARS)
        except FolderMcpError as error:
            shown.append(type(error).__name__)  # the sentence goes through the exits' own boundary
            break
        result = ReadResult.of(reading)
        shown += [result.model_dump_json(), read_text(result)]
        if not reading.next:
            break
        locator = reading.next
    return "\n".join(shown)


def _status(engine: Engine) -> str:
    status = engine.status(verbose=True)
    return status_text(status) + StatusResult.of(status).model_dump_json()


async def _page(engine: Engine, words: Sequence[str], paths: Sequence[str]) -> str:
    answers: list[Any] = [await api.files(engine, api.FilesRequest(text="", outcome="", offset=0))]
    answers += [await api.search(engine, api.SearchRequest(query=word, top_k=50)) for word in words]
    for path in paths:
        try:
            answers.append(await api.read(engine, api.ReadRequest(path=path, locator="")))
        except FolderMcpError as error:
            answers.append(type(error).__name__)
    shown = json.dumps(answers, ensure_ascii=False)
    # A snippet's parts are joined, so that one that is cut at a match is still seen.
    parts = [hit["parts"] for answer in answers if isinstance(answer, dict) for hit in answer.get("hits", ())]
    return shown + "\n".join("".join(text for text, _ in each) for each in parts)


@asynccontextmanager
async def _connected(engine: Engine) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield ConnectionContext(engine)

    async with Client(create_server(source)) as client:
        yield client


def _tool_calls(words: Sequence[str], paths: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    searches: list[dict[str, Any]] = [
        {"query": word, "mode": mode, "top_k": 50, "context": context, "max_chars": ALL_CHARS}
        for word in words
        for mode in MODES
        for context in (0, MAX_CONTEXT)
    ]
    few = [path for path in paths if path.count("-") or path.count(".") != 1][:6]
    searches += [{"query": path, "folders": [path]} for path in few]
    reads = [{"path": path, "max_chars": ALL_CHARS} for path in paths]
    reads += [{"path": path + "x"} for path in few]
    reads += [{"path": path, "locator": path} for path in few]
    return {"search": searches, "read": reads, "status": [{"verbose": True}, {}]}


async def texts_of_commands(data: Path, commands: Sequence[Sequence[str]]) -> dict[str, str]:
    """Run commands of the command line on a data directory, each in its own process; what each printed."""
    out = {}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FOLDER_MCP")}
    for number, command in enumerate(commands):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mcp_server", command[0], "--data-dir", str(data), "--no-daemon", *command[1:]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
        printed, _ = await process.communicate()
        out[f"{number} {command[0]}"] = printed.decode(errors="replace")
    return out


def bytes_below(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path from there."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }
