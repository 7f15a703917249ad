"""The three tools, ``search``, ``read`` and ``status``: check arguments, call the engine, render the result.

Descriptions are written for the model that reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, BeforeValidator, Field

from indexer.documents.formats import suffixes_of
from indexer.errors import FolderMcpError
from indexer.status_types import Status
from indexer.types import MAX_CHARS, MAX_CONTEXT, MAX_OFFSET, MAX_TOP_K, MIN_CHARS, Mode, Query, Scope
from mcp_server.access.request import RequestView, asker_of, default_folders, view_now, view_of
from mcp_server.engine_port import ConnectionContext, EnginePort
from mcp_server.protocol import arguments, results
from mcp_server.protocol.render import read_text, search_text, status_text
from mcp_server.protocol.results import ReadResult, SearchResult, StatusResult
from mcp_server.protocol.untrusted import without_secrets

log = logging.getLogger(__name__)


READ_CHARS = 16_000

SEARCH = """\
Search the user's own indexed folders (notes, documents, code) by meaning and by word, and get passages with their \
file and place. Use it whenever a question may be answered by the user's files, before saying that you do not know.

Ask in plain words ("how do I rotate the signing key") or with exact names and codes ("ERR_2041"); both halves run at \
once. Each hit has path, locator and snippet: cite path and locator, and call read(path, locator) for the whole \
passage. Indexing may still be running: the answer says how much it could see (semantic, notices). Narrow with \
path_glob ("**/*.md"), file_types, folders, modified_after; go on with offset. No hits: other words, then status."""
READ = """\
Read the text of an indexed file (PDF, Office and mail files too) around a place, with lines numbered. Use it after \
search, with the path and locator of a hit; without a locator it begins at the start. The result says how to go on."""
STATUS = """\
Show what is indexed, how far indexing is, what failed and why, and what the embedding model is doing. Use it when a \
search finds less than expected, or when the user asks about the index. Answers at once."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_types(value: Any) -> Any:
    """Split text at commas and spaces: names of types have neither."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


QueryText = Annotated[str, Field(description="What to look for: a question, a description, or exact words.")]
TopK = Annotated[int, Field(description="How many hits.", ge=1, le=MAX_TOP_K)]
Offset = Annotated[int, Field(description="Hits to pass over; next_offset of the answer before.", ge=0, le=MAX_OFFSET)]
Folders = Annotated[
    list[str] | None,
    BeforeValidator(_as_list),
    Field(description="Search only these indexed folders (path or name); default: all of this connection's."),
]
Glob = Annotated[
    str | None,
    Field(description='Only files whose path below its folder, or name, matches: "*.pdf", "projects/**".'),
]
After = Annotated[str | None, Field(description="Only files modified after this date or time, ISO 8601: 2026-11-01.")]
FileTypes = Annotated[
    list[str] | None,
    BeforeValidator(_as_types),
    Field(
        description='Only files of these types: suffixes ("pdf", "md") or kinds ("code", "documents", "slides", ...).'
    ),
]
ContextChunks = Annotated[
    int, Field(description="Chunks to show before and after each hit, joined to it.", ge=0, le=MAX_CONTEXT)
]
AllChars = Annotated[
    int | None,
    Field(description="Characters of all snippets together; default: a screenful a hit.", ge=MIN_CHARS, le=MAX_CHARS),
]
ModeName = Annotated[
    Mode,
    Field(description="hybrid (best for almost everything), semantic (meaning only), keyword (exact words only)."),
]
FilePath = Annotated[str, Field(description="Path of an indexed file, as search gave it.")]
LocatorText = Annotated[
    str | None, Field(description='Where: the locator of a hit, or "lines 40-80", "page 3", "slide 2", "cell 4".')
]
MaxChars = Annotated[int, Field(description="Characters of text at most.", ge=200, le=40_000)]
Verbose = Annotated[bool, Field(description="Also list files that were skipped or failed, by name.")]


async def search(
    ctx: Context[ConnectionContext],
    query: QueryText,
    top_k: TopK = 8,
    offset: Offset = 0,
    folders: Folders = None,
    path_glob: Glob = None,
    modified_after: After = None,
    mode: ModeName = "hybrid",
    file_types: FileTypes = None,
    context: ContextChunks = 0,
    max_chars: AllChars = None,
) -> Annotated[CallToolResult, SearchResult]:
    """Search; see ``SEARCH``."""

    async def answer() -> CallToolResult:
        text, notices = arguments.cut_query(query)
        view = await view_of(ctx.request_context)
        after = arguments.parse_time(modified_after) if modified_after else None
        suffixes = suffixes_of(file_types) if file_types else None
        scope = Scope(await _folders(ctx, view, folders), path_glob or None, after, suffixes)
        engine_query = Query(text, top_k, offset, scope, mode, context, max_chars)
        found = await with_progress(ctx, view.engine, "searching", lambda: view.engine.search(engine_query))
        result = SearchResult.of(found, text, (*notices, *view.notices))
        result = results.fit_search(result, offset, max_chars or results.MAX_SNIPPET_CHARS)
        return _both(search_text(result), result)

    return await _at_boundary(ctx, "search", answer, query=query, asked=folders or ())


async def read(
    ctx: Context[ConnectionContext], path: FilePath, locator: LocatorText = None, max_chars: MaxChars = READ_CHARS
) -> Annotated[CallToolResult, ReadResult]:
    """Read; see ``READ``."""

    async def answer() -> CallToolResult:
        view = await view_of(ctx.request_context)
        reading = await with_progress(
            ctx,
            view.engine,
            "reading",
            lambda: view.engine.read(arguments.path_from(path), locator or None, max_chars=max_chars),
        )
        result = results.fit_reading(ReadResult.of(reading), max_chars)
        return _both(read_text(result), result)

    return await _at_boundary(ctx, "read", answer, asked=(path,))


async def status(ctx: Context[ConnectionContext], verbose: Verbose = False) -> Annotated[CallToolResult, StatusResult]:
    """Show the status; see ``STATUS``."""

    async def answer() -> CallToolResult:
        view = view_now(ctx.request_context)
        found = replace(view.engine.status(verbose=verbose), notices=view.notices)
        found = results.fit_status(found)
        return _both(status_text(found), StatusResult.of(found))

    return await _at_boundary(ctx, "status", answer)


def tools() -> list[Tool]:
    """Return the tools in the order clients list them."""
    return [
        _tool(search, "Search the user's folders", SEARCH),
        _tool(read, "Read an indexed file", READ),
        _tool(status, "Index status", STATUS),
    ]


async def _folders(
    ctx: Context[ConnectionContext], view: RequestView, names: list[str] | None
) -> tuple[str, ...] | None:
    """Return the roots to search: those of the call, else those of the connection, else all (None)."""
    if not names:
        return await default_folders(ctx.request_context, view)
    roots = [folder.path for folder in view.engine.folders()]
    of = partial(arguments.roots_of, names, roots, follow_links=not view.is_fenced)
    return await anyio.to_thread.run_sync(of, abandon_on_cancel=True)


def _both(text: str, result: BaseModel) -> CallToolResult:
    """Return both forms of a result; each is complete without the other."""
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=result.model_dump(mode="json")
    )


async def _at_boundary(
    ctx: Context[ConnectionContext],
    name: str,
    answer: Callable[[], Awaitable[CallToolResult]],
    *,
    query: str = "",
    asked: Sequence[str] = (),
) -> CallToolResult:
    """Run a tool; an error becomes a sentence on which the model can act, and every unexpected one is logged.

    What it shows is recorded; of a refusal, the paths that were asked for.
    """
    record = ctx.request_context.lifespan_context.record
    try:
        async with record.answer(asker_of(ctx.request_context), name, query=query, asked=asked) as shown:
            result = await answer()
            shown.show(*_shown(result.structured_content or {}))
            return result
    except FolderMcpError as error:
        raise ToolError(without_secrets(str(error))) from error
    except Exception as error:
        log.exception("%s failed", name)
        raise ToolError(
            f"{name} failed inside the server ({type(error).__name__}); the details are in its log. "
            "Try once more; if it stays, tell the user to look at `folder-mcp status`."
        ) from error


def _shown(result: Mapping[str, Any]) -> tuple[list[str], int | None]:
    """Return the files that a result shows, and the number of its hits; None for what is no search."""
    if "hits" in result:
        return [hit["path"] for hit in result["hits"]], len(result["hits"])
    return [result["path"]] if "path" in result else [], None


def _tool(function: Callable[..., Any], title: str, description: str) -> Tool:
    tool = Tool.from_function(
        function,
        title=title,
        description=description,
        annotations=ToolAnnotations(
            title=title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )
    tool.parameters = {**_untitled(tool.parameters), "additionalProperties": False}
    tool.fn_metadata.output_schema = _untitled(tool.fn_metadata.output_schema)
    return tool


def _untitled(schema: Any) -> Any:
    """Return a schema without pydantic's titles, which repeat the names and cost the model tokens."""
    if isinstance(schema, dict):
        return {
            key: {name: _untitled(part) for name, part in value.items()} if key == "properties" else _untitled(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema


# Progress -----------------------------------------------------------------------------------------------------------
# Events while a tool call waits, so that a client neither times out nor leaves its user without information.

T = TypeVar("T")


async def with_progress(ctx: Context[Any], engine: EnginePort, doing: str, work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``work``; meanwhile report to the client what it waits for.

    The first event is sent at once, later ones when the engine's status changes. Costs nothing when the client did not
    ask for progress. Errors of ``work`` are raised as they are, not in a group.
    """
    meta = ctx.request_context.meta
    if not meta or meta.get("progress_token") is None:
        return await work()
    outcome: list[T] = []
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        await ctx.report_progress(0, None, doing)
        group.start_soon(_report_status, ctx, engine, doing)
        try:
            outcome.append(await work())
        except Exception as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return outcome[0]


async def _report_status(ctx: Context[Any], engine: EnginePort, doing: str) -> None:
    step, last = 0, doing
    async for status in engine.watch():
        message = waits_for(status) or doing
        if message != last:
            step, last = step + 1, message
            await ctx.report_progress(step, None, message)


def waits_for(status: Status) -> str:
    """Return what a search would wait for now; empty when nothing."""
    slot = status.slot
    if status.owner.state in ("uninitialized", "initializing"):
        return "the server is starting"
    if slot.state == "loading":
        name = slot.model.name if slot.model else slot.requested
        return f"loading the model {name}: {slot.stage} {slot.progress:.0%}"
    if slot.state == "unloading":
        return "making room for the model"
    if slot.holder is not None and slot.holder.kind == "index":
        return "waiting for the running batch of indexing"
    return ""
