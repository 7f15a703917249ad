"""Who a request of HTTP belongs to, and the end of answers whose token stops to count while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials
from starlette.responses import JSONResponse
from starlette.routing import Route

from indexer.config import OidcSettings
from mcp_server.access.access_file import ACCESS_FILE, AccessFile
from mcp_server.access.oidc import IdentityProvider, ProviderKeys, ProviderUnavailable, http_client
from mcp_server.access.tokens import AccessVerifier, GrantedToken
from mcp_server.page.unproven import proven

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

RETRY_AFTER_S = 10
"""Seconds after which a client may ask again when the identity provider does not answer."""


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """Who gets in by HTTP.

    Attributes:
        verifier: Knows every token.
        metadata: Answers where the identity provider is (RFC 9728); None without one.
        metadata_url: Its address, for clients without a token; may be empty.
    """

    verifier: AccessVerifier
    metadata: Route | None = None
    metadata_url: str = ""


@asynccontextmanager
async def open_access(owner_token: str, data_dir: Path, oidc: OidcSettings) -> AsyncIterator[HttpAccess]:
    """Yield who gets in: the owner, the tokens of ``access.toml``, the users of the identity provider if there is one.

    Args:
        owner_token: Sees all folders.
        data_dir: Has ``access.toml``, or will have it.
        oidc: The identity provider; none without an issuer.
    """
    file = AccessFile(data_dir / ACCESS_FILE)
    if not oidc.issuer:
        yield HttpAccess(AccessVerifier(owner_token, file))
        return
    resource = oidc.resource or (oidc.audience if oidc.audience.startswith("https://") else "")
    metadata, url = None, ""
    if resource:
        address = AnyHttpUrl(resource)
        [metadata] = create_protected_resource_routes(address, [AnyHttpUrl(oidc.issuer)])
        url = str(build_resource_metadata_url(address))
    async with http_client() as client:
        provider = IdentityProvider(oidc, ProviderKeys(oidc.issuer, client))
        yield HttpAccess(AccessVerifier(owner_token, file, provider), metadata, url)


def require_access(inner: App, access: HttpAccess) -> App:
    """Return an application that hands on requests with a token that counts, and knows whose they are.

    The request's user is the SDK's ``AuthenticatedUser`` with a ``GrantedToken``: sessions belong to it. All other
    requests get the same answer, 401; or 503 while the identity provider's keys are not here.
    """
    known = AuthContextMiddleware(inner)
    told = f'Bearer resource_metadata="{access.metadata_url}"' if access.metadata_url else "Bearer"
    refusal = JSONResponse(
        {"error": "missing or wrong token"}, 401, {"www-authenticate": told, "cache-control": "no-store"}
    )
    later = JSONResponse(
        {"error": "the identity provider does not answer; ask again in a few seconds"},
        503,
        {"retry-after": str(RETRY_AFTER_S), "cache-control": "no-store"},
    )

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        if access.metadata is not None and scope["path"] == access.metadata.path:
            await access.metadata.handle(scope, receive, send)
            return
        token = _bearer(scope)
        try:
            granted = await access.verifier.verify_token(token)
        except ProviderUnavailable:
            await later(scope, receive, send)
            return
        if granted is None:
            await refusal(scope, receive, send)
            return
        proven(scope)
        scope["user"], scope["auth"] = AuthenticatedUser(granted), AuthCredentials(granted.scopes)
        answer = _Answer(send, lambda: _still(access.verifier, token, granted))
        with answer.serving:
            await known(scope, receive, answer.send)
        if answer.cut == "before it began":
            await refusal(scope, receive, send)
        elif answer.cut:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def _bearer(scope: Scope) -> str:
    """Return the token of a request; empty when it has none, or more than one."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1 or given[0][:7].lower() != b"bearer ":
        return ""
    return str(given[0][7:].decode("latin-1").strip())


async def _still(verifier: AccessVerifier, token: str, granted: GrantedToken) -> bool:
    """Whether a token still stands for the same user and the same folders."""
    try:
        now = await verifier.verify_token(token)
    except ProviderUnavailable:
        return False
    return now is not None and (principal_components(now), now.access) == (
        principal_components(granted),
        granted.access,
    )


class _Answer:
    """One answer on its way. Before it begins, and before each event of a stream, its token is looked at once more.

    A stream stays open for as long as the client likes and has a part every few seconds, if only to keep it open.

    Attributes:
        serving: Cancelled when the token does not count any more.
        cut: Empty unless that has happened.
    """

    def __init__(self, send: Send, granted: Callable[[], Awaitable[bool]]) -> None:
        self._send = send
        self._granted = granted
        self._streams = False
        self.serving = anyio.CancelScope()
        self.cut = ""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._end_unless_granted("before it began")
            kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
            self._streams = any(kind.startswith(b"text/event-stream") for kind in kinds)
        elif self._streams and message.get("body"):
            await self._end_unless_granted("as a stream")
        await self._send(message)

    async def _end_unless_granted(self, when: str) -> None:
        if not self.cut and not await self._granted():
            self.cut = when
            self.serving.cancel()
        if self.cut:
            await anyio.sleep_forever()  # cancelled: nothing more is sent
