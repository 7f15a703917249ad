"""Who may ask the page's server for what.

The port is on loopback, and every program and every web page of this machine can reach it. So: the Host header must
be ours (against names that are made to point here), the Origin too where there is one, everything that tells of
files needs the token in a header that no other site can send, and nothing of an answer is kept by the browser.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mcp_server.page.visits import Visits

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""Nothing but our own files runs or loads, and text can become markup nowhere."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
OPEN = "/api/hello"
"""The one question that needs no token: it proves who we are."""


def guarded(inner: App, port: int, token: str, visits: Visits) -> App:
    """Return an application that lets through what may come in, and adds ``HEADERS`` to every answer."""
    hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
    origins = {b"http://" + host for host in hosts}

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def sealed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        with visits.one():
            refusal = _refusal(scope, hosts, origins, token)
            if refusal is None:
                await inner(scope, receive, sealed)
            else:
                await refuse(sealed, *refusal)

    return app


def proof(token: str, nonce: str) -> str:
    """Return what only somebody who knows the token can say about a nonce."""
    return hmac.new(token.encode(), f"folder-mcp|page|{nonce}".encode(), "sha256").hexdigest()


def _refusal(scope: Scope, hosts: set[bytes], origins: set[bytes], token: str) -> tuple[int, str] | None:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    host = headers.get(b"host", [])
    if len(host) != 1 or host[0].lower() not in hosts:
        return 421, "this server has another name"
    if any(origin not in origins for origin in headers.get(b"origin", [])):
        return 403, "this page is not for other sites"
    site = headers.get(b"sec-fetch-site", [b"none"])[0]
    if scope["path"].startswith("/api/"):
        if site not in (b"same-origin", b"none"):
            return 403, "this page is not for other sites"
        if scope["path"] != OPEN and not _knows(headers, token):
            return 401, "missing or wrong token: open the address that `folder-mcp ui` prints"
    return None


def _knows(headers: dict[bytes, list[bytes]], token: str) -> bool:
    given = headers.get(b"authorization", [])
    return len(given) == 1 and hmac.compare_digest(given[0], f"Bearer {token}".encode())


async def refuse(send: Send, status: int, why: str) -> None:
    """Answer with an error."""
    body = json.dumps({"error": why}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
