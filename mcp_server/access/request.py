"""The decision on one request: who asks, what that may see, and the engine that tools get for it.

The only place between protocol and engine: nothing in ``protocol/`` touches the engine of a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.context import ServerRequestContext

from indexer.errors import QueryError
from mcp_server.access.access import Access
from mcp_server.access.fenced_engine import FencedEngine
from mcp_server.engine_port import ConnectionContext, EnginePort
from mcp_server.record.record import Asker

READY_WAIT = 10.0
"""Seconds a request waits until the folders that the connection named are registered."""
NOT_READY = "the folders of this server are still being looked at; ask again in a few seconds"


@dataclass(frozen=True, slots=True)
class RequestView:
    """What one request works with.

    Attributes:
        engine: The engine, as this request may see it.
        access: What it may see.
        collected: The notices of its connection, which may still become more.
    """

    engine: EnginePort
    access: Access
    collected: Sequence[str] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """What every answer of this connection says, one sentence each."""
        return tuple(self.collected)

    @property
    def is_fenced(self) -> bool:
        """Whether it may not see everything."""
        return self.access.folders is not None


def access_of(ctx: ServerRequestContext[ConnectionContext, Any]) -> Access:
    """Decide what a request may see: what its user may, within the limits of its connection.

    The user is that of this very request, not of the one that opened the session. A user whose token says nothing of
    access sees nothing.
    """
    connection = ctx.lifespan_context
    access = replace(_access_of_user(ctx.request, by_token=connection.by_token), client=_client_of(ctx))
    return access.narrowed(connection.limits) if connection.only else access


def view_now(ctx: ServerRequestContext[ConnectionContext, Any]) -> RequestView:
    """Return what a request works with; with nothing to see while the limits of its connection are not known."""
    connection, access = ctx.lifespan_context, access_of(ctx)
    if access.folders is None:
        return RequestView(connection.engine, access, connection.notices)
    notices = connection.notices if connection.only else ()  # others speak of folders of the whole server
    return RequestView(FencedEngine(connection.engine, access), access, notices)


async def view_of(ctx: ServerRequestContext[ConnectionContext, Any], wait: float = READY_WAIT) -> RequestView:
    """Return what a request works with, once the limits of its connection are known.

    Args:
        ctx: Of the request.
        wait: Seconds that may take.

    Raises:
        QueryError: They are not known in time.
    """
    connection = ctx.lifespan_context
    if connection.only:
        await wait_until_ready(connection, wait)
    return view_now(ctx)


async def default_folders(
    ctx: ServerRequestContext[ConnectionContext, Any], view: RequestView
) -> tuple[str, ...] | None:
    """Return the folders that a request searches when it names none; None for all that it may see.

    Raises:
        QueryError: The folders that its connection named are not known yet, or none of them can be searched.
    """
    connection = ctx.lifespan_context
    if not connection.named or connection.only:
        return None
    await wait_until_ready(connection, READY_WAIT)
    if view.is_fenced:
        seen = {folder.path for folder in view.engine.folders()}
        return tuple(folder for folder in connection.folders if folder in seen) or None
    if not connection.folders:
        raise QueryError(
            "none of the folders this server was started with can be searched: " + "; ".join(connection.notices)
        )
    return tuple(connection.folders)


async def wait_until_ready(connection: ConnectionContext, wait: float) -> None:
    """Wait until the folders that a connection named are registered.

    Raises:
        QueryError: They are not after so many seconds.
    """
    with anyio.move_on_after(wait):
        await connection.ready.wait()
    if not connection.ready.is_set():
        raise QueryError(NOT_READY)


def _access_of_user(request: Any, *, by_token: bool) -> Access:
    """Return the access of an HTTP request's user; everything for requests of this machine's own user.

    Where users are known by their tokens (``processes.http_access``), a request without one sees nothing.
    """
    user = request.scope.get("user") if request is not None else None
    if not isinstance(user, AuthenticatedUser):
        return Access(folders=()) if by_token else Access()
    access = getattr(user.access_token, "access", None)
    return access if isinstance(access, Access) else Access(user=user.username, folders=())


def asker_of(ctx: ServerRequestContext[ConnectionContext, Any]) -> Asker:
    """Return who asks, for the record."""
    params = ctx.session.client_params
    version = params.client_info.version if params is not None else ""
    return Asker(_client_of(ctx), version, access_of(ctx).user)


def _client_of(ctx: ServerRequestContext[ConnectionContext, Any]) -> str:
    params = ctx.session.client_params
    return params.client_info.name[:100] if params is not None else ""
