"""``serve --http`` and ``ui``: the owner in the foreground with MCP over HTTP, and the page in a browser."""

from __future__ import annotations

import html
import os
import sys
import webbrowser
from pathlib import Path

import anyio

from indexer.errors import ConfigError, FolderMcpError
from mcp_server import logs
from mcp_server.access.recorded_engine import RecordedEngine
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.engine_port import EnginePort
from mcp_server.page.port import PageServer
from mcp_server.processes.connections import listen
from mcp_server.processes.http import PATH, TOKEN_FILE, HttpEndpoint, bind_http
from mcp_server.processes.launch import absolute_folder
from mcp_server.processes.owner import Owner, exit_after_delay, exit_now
from mcp_server.processes.owner_lock import OwnerLock, locate, owner_files_for
from mcp_server.processes.remote_engine import RemoteEngine
from mcp_server.state_files import read_state


def serve_http(call: Call) -> int:
    """``folder-mcp serve --http``: be the owner in the foreground, and listen on a TCP port as well.

    Serves until a signal or ``folder-mcp stop``; then the process ends. Returns only when it cannot begin.

    Raises:
        ConfigError: The address cannot or must not be served.
        FolderMcpError: There is an owner already.
    """
    args, config = call.args, call.config
    if bool(args.tls_cert) != bool(args.tls_key):
        raise ConfigError("--tls-cert and --tls-key belong together; give both")
    location = locate(args.config, args.data_dir, call.environ)
    certificate = (args.tls_cert, args.tls_key) if args.tls_cert else None
    with OwnerLock(owner_files_for(str(config.data_dir))) as lock:
        if not lock.acquire():
            pid = read_state(lock.owner_files.state_file).get("pid")
            raise FolderMcpError(f"process {pid} owns {config.data_dir}; end it first: folder-mcp stop")
        bound, token, hosts = bind_http(
            args.http, config.data_dir, hosts=args.host, certificate=certificate, allow_remote=args.allow_remote
        )
        folders = tuple(absolute_folder(folder) for folder in args.folders)
        logs.configure(logs.folder_for(config.data_dir), verbose=args.verbose)
        http = HttpEndpoint(bound, token, hosts, config.data_dir, config.oidc, certificate, folders, args.only)
        owner = Owner(location, config, lock.owner_files, lock, call.opener, http)
        host, port = bound.getsockname()[:2]
        url = f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

        def ready() -> None:
            console.note(f"serving {url}; clients need the header `Authorization: Bearer TOKEN`,")
            console.note(f"with the token in {config.data_dir / TOKEN_FILE}, which sees every folder, or one of")
            console.note("their own: folder-mcp access add NAME --folder FOLDER")

        async def live() -> int:
            return await owner.run(listen(lock.owner_files, os.urandom(4).hex()), ready, exit_after_delay)

        code = anyio.run(live)
    exit_now(code)
    return code


def run_ui(call: Call) -> int:
    """``folder-mcp ui``: print the page's address; without a background process, serve the page until Ctrl-C."""
    return anyio.run(_ui, call)


async def _ui(call: Call) -> int:
    async with call.open() as engine:
        if isinstance(engine, RemoteEngine):
            _show_address(call, await engine.page())
        else:
            await _serve_page(call, engine)
    return 0


async def _serve_page(call: Call, engine: EnginePort) -> None:
    """Serve the page of an engine in this process."""

    async def this_engine() -> EnginePort:
        return engine.as_asker("page") if isinstance(engine, RecordedEngine) else engine

    port = PageServer("", this_engine, engine.connected)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.run)
        address = await port.address()
        console.note("This process serves the page; Ctrl-C ends it.")
        _show_address(call, address)


def _show_address(call: Call, url: str) -> None:
    console.say(url)
    if sys.stdout is not None:
        sys.stdout.flush()
    if not call.args.open:
        return
    page = redirect_file(call, url)
    if not webbrowser.open(page.as_uri()):
        console.note("no browser could be started; open the address above")


def redirect_file(call: Call, url: str) -> Path:
    """Write a file that redirects to the page; the browser is given its path.

    The command line of a browser would show the token to every user of this machine.
    """
    page = Path(owner_files_for(str(call.config.data_dir)).directory) / "open.html"
    page.unlink(missing_ok=True)
    fd = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(url)}">')
    return page
