"""``folder-mcp ui``: a page of the background process in a browser on this machine."""

from __future__ import annotations

import argparse
import html
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--open", action="store_true", help="open it in the browser as well")


def run(call: Call) -> int:
    """Say where the page is; where there is no background process, serve it until Ctrl-C."""
    import anyio  # noqa: PLC0415 - not for --help

    return anyio.run(_ui, call)


async def _ui(call: Call) -> int:
    from mcp_server.processes.remote_engine import RemoteEngine  # noqa: PLC0415

    async with call.open() as engine:
        if isinstance(engine, RemoteEngine):
            _show(call, await engine.page())
        else:
            await _serve(call, engine)
    return 0


async def _serve(call: Call, engine: EnginePort) -> None:
    """Serve the page of an engine in this process."""
    import anyio  # noqa: PLC0415

    from mcp_server.page.port import PageServer  # noqa: PLC0415

    async def ours() -> EnginePort:
        return engine

    door = PageServer("", ours, engine.connected)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.run)
        address = await door.address()
        console.note("This process serves the page; Ctrl-C ends it.")
        _show(call, address)


def _show(call: Call, url: str) -> None:
    console.say(url)
    sys.stdout.flush()
    if not call.args.open:
        return
    page = _way_in(call, url)
    if not webbrowser.open(page.as_uri()):
        console.note("no browser could be started; open the address above")


def _way_in(call: Call, url: str) -> Path:
    """Write a file that leads to the page: a command line would show the token to everybody on this machine."""
    from mcp_server.processes.owner_lock import owner_files_for  # noqa: PLC0415

    page = Path(owner_files_for(str(call.config.data_dir)).directory) / "open.html"
    page.unlink(missing_ok=True)
    fd = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(url)}">')
    return page
