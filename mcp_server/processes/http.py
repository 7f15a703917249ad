"""MCP over streamable HTTP, served by the owner besides its socket: for containers and other machines.

Clients must know the token. On any address but loopback the connection must also be encrypted, or the user must have
stated that a proxy in front of it does that.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.config import OidcSettings
from indexer.errors import ConfigError

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from indexer.status_types import Status

DEFAULT = "127.0.0.1:8765"
TOKEN_FILE = "http-token"  # noqa: S105 - its name
PATH = "/mcp"
READY_S = 1.0
"""Seconds for which an answer of ``/ready`` is used again."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """Where and how HTTP is served.

    Attributes:
        socket: Bound.
        token: The owner's own, which sees all folders.
        hosts: Values that the Host header may have.
        data_dir: Has ``access.toml`` with the tokens of others.
        oidc: The identity provider whose tokens are taken too; none without an issuer.
        certificate: Files of certificate and key, None for plain HTTP.
        folders: Searched by default by its clients; all when empty.
        only: Whether its clients may see nothing else.
    """

    socket: socket.socket
    token: str
    hosts: tuple[str, ...]
    data_dir: Path
    oidc: OidcSettings
    certificate: tuple[str, str] | None = None
    folders: tuple[str, ...] = ()
    only: bool = False

    async def serve(self, server: Server[Any], status: Callable[[], Status]) -> None:
        """Serve until cancelled."""
        import uvicorn  # noqa: PLC0415 - only where somebody asked for HTTP
        from mcp.server.transport_security import TransportSecuritySettings  # noqa: PLC0415

        from mcp_server.page.web_server import WebServer  # noqa: PLC0415
        from mcp_server.processes.http_access import open_access, require_access  # noqa: PLC0415
        from mcp_server.processes.http_connection import BoundedConnection  # noqa: PLC0415
        from mcp_server.processes.http_sessions import session_application  # noqa: PLC0415

        origins = [f"{scheme}://{host}" for host in self.hosts for scheme in ("http", "https")]
        security = TransportSecuritySettings(allowed_hosts=list(self.hosts), allowed_origins=origins)
        certificate, key = self.certificate or (None, None)
        async with open_access(self.token, self.data_dir, self.oidc) as access:
            app = with_health(require_access(session_application(server, security), access), status, self.hosts)
            config = uvicorn.Config(
                app,
                http=BoundedConnection,
                log_config=None,
                access_log=False,
                lifespan="on",
                server_header=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
            await WebServer(config).serve([self.socket])


def bind_http(
    address: str, data_dir: Path, *, hosts: Sequence[str], certificate: tuple[str, str] | None, allow_remote: bool
) -> tuple[socket.socket, str, tuple[str, ...]]:
    """Bind the address and find the token.

    Args:
        address: ``HOST:PORT`` or ``PORT``; IPv6 hosts in brackets.
        data_dir: Where the token is kept.
        hosts: Further names of this host that clients use.
        certificate: Files of certificate and key, or None.
        allow_remote: Serve plain HTTP on an address that others reach.

    Returns:
        The bound socket, the token and the values the Host header may have.

    Raises:
        ConfigError: The address is invalid or taken, or would be served unprotected.
    """
    host, port = _parse_address(address)
    if not _loopback(host) and certificate is None and not allow_remote:
        raise ConfigError(
            f"--http {address} can be reached from other machines and is not encrypted; give --tls-cert and "
            "--tls-key, or --allow-remote if something in front of it encrypts"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(128)  # clients that connect before the server runs wait instead of being refused
    except OSError as error:
        bound.close()
        raise ConfigError(f"--http {address}: {error.strerror or error}; choose another address") from error
    actual = bound.getsockname()[1]
    names = ["127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host, *hosts]
    allowed = tuple(dict.fromkeys(one for name in names for one in (f"{name}:{actual}", name)))
    return bound, read_token(data_dir / TOKEN_FILE), allowed


def read_token(file: Path) -> str:
    """Return the token of a file that only the user can read; the file is created when it is missing.

    Raises:
        ConfigError: The file cannot be read or written, or others can read it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as stream:
                stream.write(secrets.token_urlsafe(32) + "\n")
        if os.name == "posix" and file.stat().st_mode & 0o077:
            raise ConfigError(f"{file}: other users can read the token; delete the file, a new one is made")
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: the token cannot be read ({error}); delete the file, a new one is made") from error
    if len(token) < 32:
        raise ConfigError(f"{file}: the token is too short to protect anything; delete the file, a new one is made")
    return token


def with_health(inner: App, status: Callable[[], Status], hosts: Sequence[str]) -> App:
    """Return an application that answers ``/health`` and ``/ready`` without a token, and hands on the rest.

    Args:
        inner: Gets the other requests; checks their token, Host and Origin itself.
        status: Returns the engine's status; asked once a ``READY_S``, whoever asks how often.
        hosts: Names under which this server is known; an IP address is one too.
    """
    readiness = _Readiness(status)

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
        elif scope["path"] in ("/health", "/ready") and not _host_is_known(scope, hosts):
            await _answer(send, 421, {"error": "this server has another name"})
        elif scope["path"] == "/health":
            await _answer(send, 200, {"alive": True})
        elif scope["path"] == "/ready":
            await _answer(send, *readiness.answer())
        else:
            await inner(scope, receive, send)

    return app


class _Readiness:
    """The answer of ``/ready``, kept for a moment: a status costs milliseconds, and anybody may ask."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._until = 0.0
        self._answer: tuple[int, dict[str, Any]] = (503, {})

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the document."""
        if time.monotonic() >= self._until:
            services = self._status().services
            code = 503 if services.keyword == "unavailable" else 200
            self._answer = (code, {"keyword": services.keyword, "semantic": services.semantic})
            self._until = time.monotonic() + READY_S
        return self._answer


def _host_is_known(scope: Scope, hosts: Sequence[str]) -> bool:
    """Whether the Host header is one of ours, or an IP address: a page of another site always comes under a name."""
    given = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    if given in {host.lower() for host in hosts}:
        return True
    name = re.sub(r":[0-9]{1,5}$", "", given) if not given.endswith("]") else given
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


async def _answer(send: Send, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    length = (b"content-length", str(len(body)).encode())
    head = [(b"content-type", b"application/json"), length, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _parse_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--http {address}: not an address; write HOST:PORT, for example {DEFAULT}")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError(f"--http {address}: write the host as an IP address, for example {DEFAULT}") from None
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
