"""The page's application: its own files, what is told as it happens, and what it asks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
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
from mcp_server.page import questions
from mcp_server.page.guard import App, guarded, proof
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
        Route("/api/search", _answered(engine, questions.SearchAsked, questions.search), methods=["POST"]),
        Route("/api/read", _answered(engine, questions.ReadAsked, questions.read), methods=["POST"]),
        Route("/api/files", _answered(engine, questions.FilesAsked, questions.files), methods=["POST"]),
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
