"""``folder-mcp serve --http``: the owner in the foreground, with a second bind_http. Relays find it as any other."""

from __future__ import annotations

import os

import anyio

from indexer.errors import ConfigError, FolderMcpError
from mcp_server import logs
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.processes.connections import listen
from mcp_server.processes.http import PATH, TOKEN_FILE, HttpEndpoint, bind_http
from mcp_server.processes.owner import Owner, exit_after_delay, exit_now
from mcp_server.processes.owner_lock import OwnerLock, locate, owner_files_for
from mcp_server.state_files import read_state


def serve_http(call: Call) -> int:
    """Serve until a signal comes or ``folder-mcp stop``; then the process ends. Returns when it cannot begin.

    Raises:
        ConfigError: The address cannot or must not be served.
        FolderMcpError: There is an owner already.
    """
    args, config = call.args, call.config
    if bool(args.tls_cert) != bool(args.tls_key):
        raise ConfigError("--tls-cert and --tls-key belong together; give both")
    location = locate(args.config, args.data_dir, call.environ)
    certificate = (args.tls_cert, args.tls_key) if args.tls_cert else None
    with OwnerLock(owner_files_for(str(config.data_dir))) as claim:
        if not claim.acquire():
            pid = read_state(claim.owner_files.state_file).get("pid")
            raise FolderMcpError(f"process {pid} owns {config.data_dir}; end it first: folder-mcp stop")
        bound, token, hosts = bind_http(
            args.http, config.data_dir, hosts=args.host, certificate=certificate, allow_remote=args.allow_remote
        )
        folders = tuple(os.path.abspath(os.path.expanduser(folder)) for folder in args.folders)
        logs.configure(logs.folder_for(config.data_dir), verbose=args.verbose)
        extra = HttpEndpoint(bound, token, hosts, certificate, folders)
        owner = Owner(location, config, claim.owner_files, claim, call.opener, extra)
        host, port = bound.getsockname()[:2]
        url = f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

        def ready() -> None:
            console.note(f"serving {url}; clients need the header `Authorization: Bearer TOKEN`,")
            console.note(f"with the token in {config.data_dir / TOKEN_FILE}")

        async def live() -> int:
            return await owner.run(listen(claim.owner_files, os.urandom(4).hex()), ready, exit_after_delay)

        code = anyio.run(live)
    exit_now(code)
    return code
