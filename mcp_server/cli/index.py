"""``index``, ``folders`` and ``status``: what is indexed, and how far it is."""

from __future__ import annotations

import os
from dataclasses import replace

import anyio
from pydantic import Field

from indexer.errors import ConfigError
from indexer.folders.registry import add_folder, list_folders
from indexer.status_types import IndexReport, Status
from mcp_server.cli import console
from mcp_server.cli.arguments import SLOT_STATES
from mcp_server.cli.call import Call, wait_until_open
from mcp_server.cli.output import index_text, status_text
from mcp_server.engine_port import EnginePort
from mcp_server.protocol.results import Line, Path, Record, StatusResult, record

ON_DISK = "This is the index as it lies on disk; what a running server does now, its client's status tool shows."

IndexResult = record(IndexReport)
"""The document of ``folder-mcp index --json``."""


class KnownRecord(Record):
    """A folder that is indexed."""

    path: Path
    model: str | None = Field(description="Its model; null for the default one.")
    source: str = Field(description="Who named it: config or added.")
    exists: bool = Field(description="Whether it can be reached now.")


class FoldersResult(Record):
    """The document of ``folder-mcp folders --json``."""

    folders: list[KnownRecord]
    refused: list[Line] = Field(description="Configured folders that cannot be indexed, and why.")


def run_index(call: Call) -> int:
    """``folder-mcp index [FOLDER ...]``: index now, show progress, wait; 0 when all that can be indexed is."""
    args = call.args
    named = [add_folder(call.config, folder, model=args.model).path for folder in args.folders]
    listed = list_folders(call.config)
    for reason in listed.refused:
        console.complain(reason)
    if not listed.known:
        raise ConfigError("there is no folder to index; name one: folder-mcp index FOLDER")
    report = anyio.run(_index, call, named or None)
    if args.json:
        console.json_document(IndexResult.of(report))
    else:
        console.say(index_text(report))
    return 0 if report.complete and not listed.refused else 1


async def _index(call: Call, folders: list[str] | None) -> IndexReport:
    from mcp_server.cli.progress import show_indexing  # noqa: PLC0415 - needs rich, which `status` and `folders` do not

    async with call.open() as engine, anyio.create_task_group() as group:
        group.start_soon(show_indexing, engine, folders)
        report = await engine.index(folders)
        group.cancel_scope.cancel()
    return report


def run_folders(call: Call) -> int:
    """``folder-mcp folders [list | add | remove]``: change the list of folders, then show it."""
    args = call.args
    if args.action == "add":
        _add(call)
    elif args.action == "remove":
        _remove(call)
    listed = list_folders(call.config)
    result = FoldersResult(
        folders=[
            KnownRecord(path=each.path, model=each.model, source=each.source, exists=os.path.isdir(each.path))
            for each in listed.known
        ],
        refused=list(listed.refused),
    )
    if args.json:
        console.json_document(result)
    elif args.action in (None, "list"):
        console.say(_folders_text(result))
    return 0


def _add(call: Call) -> None:
    args = call.args
    folder = add_folder(call.config, args.folder, model=args.model, allow_broad=args.allow_broad)
    owner = call.running()
    if owner is not None:
        anyio.run(owner.add_folder, folder.path)
    if not args.json:
        console.say(f"added {folder.path}")
        later = "`folder-mcp index` indexes it now; a server takes it up when it starts."
        console.note("It is being indexed." if owner else later)


def _remove(call: Call) -> None:
    async def remove() -> object:
        async with call.open() as engine:
            return await engine.remove_folder(call.args.folder)

    removed = anyio.run(remove)
    if not call.args.json:
        console.say(f"removed {removed}")


def _folders_text(result: FoldersResult) -> str:
    lines = [
        f"{folder.path}  ({folder.source}{f', {folder.model}' if folder.model else ''})"
        + ("" if folder.exists else "  not there now")
        for folder in result.folders
    ]
    lines += [f"left out: {reason}" for reason in result.refused]
    return "\n".join(lines or ["no folders yet: folder-mcp folders add FOLDER"])


def run_status(call: Call) -> int:
    """``folder-mcp status``: once, live with ``--watch``, or when a state is reached with ``--wait``."""
    return anyio.run(_status, call)


async def _status(call: Call) -> int:
    args = call.args
    # Showing the status starts no work. --wait does, or the state would never be reached without another process.
    async with call.open(read_only=not args.wait) as engine:
        await wait_until_open(engine)
        if args.watch:
            from mcp_server.cli.watch import watch  # noqa: PLC0415 - needs rich

            await watch(engine, as_json=args.json)
            return 0
        in_time = not args.wait or await _wait(args.wait, args.timeout, engine)
        status = engine.status(verbose=args.verbose)
    if status.owner.state == "read_only":
        status = replace(status, notices=(ON_DISK,))
    if args.json:
        console.json_document(StatusResult.of(status))
    else:
        console.say(status_text(status, verbose=args.verbose))
    if not in_time:
        console.complain(
            f"{args.wait} was not reached within {args.timeout:g} s; the status above shows how far it is"
        )
    return 0 if in_time else 1


async def _wait(state: str, timeout: float, engine: EnginePort) -> bool:
    """Wait for a state; return whether it was reached in time."""
    with anyio.move_on_after(timeout):
        async for status in engine.watch():
            if _reached(state, status):
                return True
    return False


def _reached(state: str, status: Status) -> bool:
    """Return whether a status is what ``--wait`` waits for."""
    if state in SLOT_STATES:
        return status.slot.state == state
    if state == "keyword":
        return status.services.keyword != "unavailable"  # degraded: some documents cannot be read; it answers
    if state == "semantic":
        return status.services.semantic == "serving"
    done = [folder.state == "ready" and not folder.files.pending for folder in status.folders]
    return bool(done) and all(done)
