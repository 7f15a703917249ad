"""``folder-mcp serve --http``: the owner in the foreground, with a second door. Relays find it as any other."""

from __future__ import annotations

import os

import anyio

from indexer.errors import ConfigError, FolderMcpError
from mcp_server import logs
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.processes.connections import listen
from mcp_server.processes.http import PATH, TOKEN_FILE, Door, door
from mcp_server.processes.owner import Owner
from mcp_server.processes.owner_lock import OwnerLock, locate, place_of
from mcp_server.processes.owner_process import end_anyway, leave
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
    with OwnerLock(place_of(str(config.data_dir))) as claim:
        if not claim.take():
            pid = read_state(claim.place.note).get("pid")
            raise FolderMcpError(f"process {pid} owns {config.data_dir}; end it first: folder-mcp stop")
        bound, token, hosts = door(
            args.http, config.data_dir, hosts=args.host, certificate=certificate, allow_remote=args.allow_remote
        )
        folders = tuple(os.path.abspath(os.path.expanduser(folder)) for folder in args.folders)
        logs.configure(logs.folder_for(config.data_dir), verbose=args.verbose)
        extra = Door(bound, token, hosts, certificate, folders)
        owner = Owner(location, config, claim.place, claim, call.opener, extra)
        host, port = bound.getsockname()[:2]
        url = f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

        def ready() -> None:
            console.note(f"serving {url}; clients need the header `Authorization: Bearer TOKEN`,")
            console.note(f"with the token in {config.data_dir / TOKEN_FILE}")

        async def live() -> int:
            return await owner.run(listen(claim.place, os.urandom(4).hex()), ready, end_anyway)

        code = anyio.run(live)
    leave(code)
    return code
