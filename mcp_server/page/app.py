"""The page's web application: its files, the status as it changes, its API, and who may use it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from indexer.errors import FolderMcpError
from mcp_server.engine_port import to_json
from mcp_server.page import api
from mcp_server.page.open_requests import OpenRequests, ShutdownNotice
from mcp_server.page.unproven import proven, token_matches
from mcp_server.protocol.results import StatusResult
from mcp_server.protocol.untrusted import without_secrets

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort


TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAX_BODY = 64_000
"""Bytes of a request."""
BODY_S = 30.0
"""Seconds in which a request's body has to arrive."""
MAX_STREAMS = 32
"""Streams of events at a time: pages that are open and visible."""
EngineWhenOpen = Callable[[], "Awaitable[EnginePort]"]


def application(
    engine: EngineWhenOpen,
    viewed: Callable[[], AbstractContextManager[Any]],
    shutdown: ShutdownNotice,
    open_requests: OpenRequests,
    port: int,
    token: str,
) -> App:
    """Build the application, with its access check.

    Args:
        engine: Returns the engine, when there is one.
        viewed: Entered for as long as a page is open.
        shutdown: Set when the owner ends.
        open_requests: Kept up to date.
        port: Of this server.
        token: That requests must have.
    """

    async def prove_identity(request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not 16 <= len(nonce) <= 128:
            raise HTTPException(400, "a nonce of 16 to 128 characters")
        return JSONResponse({"proof": proof(token, nonce)})

    streams = anyio.CapacityLimiter(MAX_STREAMS)

    async def stream_status(request: Request) -> Any:
        if not streams.available_tokens:
            raise HTTPException(429, f"{MAX_STREAMS} pages are open already; close one")
        return StatusStream(engine, viewed, shutdown, streams)

    routes = [
        Route("/", _asset("index.html")),
        *(Route(f"/{one.name}", _asset(one.name)) for one in _assets() if one.name != "index.html"),
        Route("/api/hello", prove_identity),
        Route("/api/live", stream_status),
        Route("/api/search", _endpoint(engine, api.SearchRequest, api.search), methods=["POST"]),
        Route("/api/read", _endpoint(engine, api.ReadRequest, api.read), methods=["POST"]),
        Route("/api/files", _endpoint(engine, api.FilesRequest, api.files), methods=["POST"]),
    ]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: _error_response})
    return with_access_check(starlette, port, token, open_requests)


def _assets() -> list[Any]:
    found = resources("mcp_server.page").joinpath("static").iterdir()
    return [one for one in found if "." + one.name.rpartition(".")[2] in TYPES]


def _asset(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources("mcp_server.page").joinpath("static", name).read_bytes()
    kind = TYPES["." + name.rpartition(".")[2]]

    async def answer(request: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return answer


def _endpoint(
    engine: EngineWhenOpen, request_type: Any, call: Callable[[EnginePort, Any], Awaitable[dict[str, Any]]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that validates one type of request and answers it; errors are sentences."""

    async def answer(request: Request) -> Response:
        body = b""
        try:
            with anyio.fail_after(BODY_S):
                async for part in request.stream():
                    body += part
                    if len(body) > MAX_BODY:
                        raise HTTPException(413, "the question is too long")
        except TimeoutError:
            raise HTTPException(408, f"the question was not complete within {BODY_S:g} s") from None
        try:
            parsed = request_type.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise HTTPException(400, f"{'.'.join(map(str, first['loc'])) or 'question'}: {first['msg']}") from None
        try:
            document = await call(await engine(), parsed)
        except FolderMcpError as error:
            raise HTTPException(422, without_secrets(str(error))) from None
        # Paths may hold bytes that are not text: JSON can escape what UTF-8 cannot say.
        return Response(json.dumps(document).encode("ascii"), headers={"content-type": "application/json"})

    return answer


async def _error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


# The status as it changes -------------------------------------------------------------------------------------------


class StatusStream:
    """Server-sent events for one page (an ASGI response): the history, the status at every change, why it ended."""

    def __init__(
        self,
        engine: Callable[[], Awaitable[EnginePort]],
        viewed: Callable[[], AbstractContextManager[Any]],
        shutdown: ShutdownNotice,
        streams: anyio.CapacityLimiter,
    ) -> None:
        self._engine = engine
        self._viewed = viewed
        self._shutdown = shutdown
        self._streams = streams

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send events until the page closes or the owner ends."""
        async with self._streams:
            await self._send_stream(receive, send)

    async def _send_stream(self, receive: Any, send: Any) -> None:
        head = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        with self._viewed():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_on_disconnect, receive, tasks.cancel_scope)
                tasks.start_soon(self._send_events, send)
                await self._shutdown.event.wait()
                tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.move_on_after(1, shield=True):
            await send(_event("end", json.dumps({"why": self._shutdown.why})))
            await send({"type": "http.response.body", "body": b""})

    async def _send_events(self, send: Any) -> None:
        engine = await self._engine()
        seen = 0.0
        async for status in engine.watch():
            news = await engine.history(seen)
            if not seen or news.changes or news.searches or news.minutes:
                await send(_event("news" if seen else "past", json.dumps(to_json(news))))
            seen = news.at
            result = await anyio.to_thread.run_sync(StatusResult.of, status)
            await send(_event("status", result.model_dump_json()))


async def _cancel_on_disconnect(receive: Any, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _event(name: str, data: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": f"event: {name}\ndata: {data}\n\n".encode(), "more_body": True}


# Access -------------------------------------------------------------------------------------------------------------
# The port is on loopback, and every program and every web page on this machine can reach it. So: the Host header must
# be ours (against DNS rebinding), and the Origin where there is one; everything that shows files needs the token in a
# header that no other site can send; the browser caches nothing.

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""Only our own files are loaded and run, and text cannot become markup."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
PUBLIC_PATH = "/api/hello"
"""The only API that needs no token: it proves that this server knows it."""


def with_access_check(inner: App, port: int, token: str, open_requests: OpenRequests) -> App:
    """Return an application that refuses requests that are not allowed, and adds ``HEADERS`` to every answer."""
    hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
    origins = {b"http://" + host for host in hosts}

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        with open_requests.counted():
            refusal = _refusal(scope, hosts, origins, token)
            if refusal is None:
                if scope["path"].startswith("/api/") and scope["path"] != PUBLIC_PATH:
                    proven(scope)
                await inner(scope, receive, send_with_headers)
            else:
                await _send_error(send_with_headers, *refusal)

    return app


def proof(token: str, nonce: str) -> str:
    """Return the HMAC of a nonce with the token."""
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
        if scope["path"] != PUBLIC_PATH and not _has_token(headers, token):
            return 401, "missing or wrong token: open the address that `folder-mcp ui` prints"
    return None


def _has_token(headers: dict[bytes, list[bytes]], token: str) -> bool:
    given = headers.get(b"authorization", [])
    return len(given) == 1 and token_matches(given[0], f"Bearer {token}".encode())


async def _send_error(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
