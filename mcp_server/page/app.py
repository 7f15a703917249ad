"""The page's application: its own files, what is told as it happens, and what it asks."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from indexer.errors import FolderMcpError
from mcp_server.page import api
from mcp_server.page.live import Live
from mcp_server.page.visits import Farewell, Visits

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort


TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAX_BODY = 64_000
"""Bytes of a question."""
EngineWhenOpen = Callable[[], "Awaitable[EnginePort]"]


def application(
    engine: EngineWhenOpen,
    looking: Callable[[], AbstractContextManager[Any]],
    parting: Farewell,
    visits: Visits,
    port: int,
    token: str,
) -> App:
    """Build the application, guarded.

    Args:
        engine: Returns the engine, when there is one.
        looking: Entered for as long as a page is open.
        parting: Tells that the owner ends.
        visits: Kept up to date.
        port: Ours.
        token: What whoever asks must know.
    """

    async def hello(request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not 16 <= len(nonce) <= 128:
            raise HTTPException(400, "a nonce of 16 to 128 characters")
        return JSONResponse({"proof": proof(token, nonce)})

    async def live(request: Request) -> Any:
        return Live(engine, looking, parting)

    routes = [
        Route("/", _asset("index.html")),
        *(Route(f"/{one.name}", _asset(one.name)) for one in _assets() if one.name != "index.html"),
        Route("/api/hello", hello),
        Route("/api/live", live),
        Route("/api/search", _answered(engine, api.SearchAsked, api.search), methods=["POST"]),
        Route("/api/read", _answered(engine, api.ReadAsked, api.read), methods=["POST"]),
        Route("/api/files", _answered(engine, api.FilesAsked, api.files), methods=["POST"]),
    ]
    return guarded(Starlette(routes=routes, exception_handlers={HTTPException: _refused}), port, token, visits)


def _assets() -> list[Any]:
    found = resources("mcp_server.page").joinpath("static").iterdir()
    return [one for one in found if "." + one.name.rpartition(".")[2] in TYPES]


def _asset(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources("mcp_server.page").joinpath("static", name).read_bytes()
    kind = TYPES["." + name.rpartition(".")[2]]

    async def answer(request: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return answer


def _answered(
    engine: EngineWhenOpen, kind: Any, work: Callable[[EnginePort, Any], Awaitable[dict[str, Any]]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers one kind of question, errors included: as sentences."""

    async def answer(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise HTTPException(413, "the question is too long")
        try:
            asked = kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise HTTPException(400, f"{'.'.join(map(str, first['loc'])) or 'question'}: {first['msg']}") from None
        try:
            document = await work(await engine(), asked)
        except FolderMcpError as error:
            raise HTTPException(422, str(error)) from None
        # Paths may hold bytes that are not text: JSON can escape what UTF-8 cannot say.
        return Response(json.dumps(document).encode("ascii"), headers={"content-type": "application/json"})

    return answer


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


# Access -------------------------------------------------------------------------------------------------------------
# Who may ask the page's server for what.
#
# The port is on loopback, and every program and every web page of this machine can reach it. So: the Host header
# must be ours (against names that are made to point here), the Origin too where there is one, everything that tells
# of files needs the token in a header that no other site can send, and nothing of an answer is kept by the browser.

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
