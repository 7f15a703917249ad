"""Whose request it is: the owner's own token, the tokens of ``access.toml``, and those of an identity provider.

One verifier for all of them. Nobody else decides who a request belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from mcp.server.auth.provider import AccessToken, TokenVerifier
from pydantic import ConfigDict

from mcp_server.access.access import Access
from mcp_server.access.access_file import AccessFile

if TYPE_CHECKING:
    from mcp_server.access.oidc import IdentityProvider

PREFIX = "fmcp_"
"""Of every token, so that scanners for secrets can know one."""
MAX_TOKEN = 16 * 1024
"""Characters of a token at most: tokens of providers with hundreds of groups are below 8,000."""
OWNER = "owner"
"""Client id of the owner's own token."""


class GrantedToken(AccessToken):
    """A token that was accepted.

    Attributes:
        access: What its requests may see.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    access: Access


def new_token() -> str:
    """Return a token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token; enough for one of 256 random bits, which nobody can guess from it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class AccessVerifier(TokenVerifier):
    """Knows every token.

    A session belongs to the client id that opened it: a token made anew under an old name is another one.
    """

    def __init__(
        self,
        owner_token: str,
        access_file: AccessFile,
        provider: IdentityProvider | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Keep what is needed.

        Args:
            owner_token: Sees all folders.
            access_file: Tokens of their own, and the folders of groups.
            provider: Knows its tokens; None without an identity provider.
            now: Seconds since the epoch.
        """
        self._owner_token = owner_token
        self._file = access_file
        self._provider = provider
        self._now = now
        self._limiter: anyio.CapacityLimiter | None = None

    async def verify_token(self, token: str) -> GrantedToken | None:
        """Return whose token it is; None for all that are not accepted, whatever is wrong with them.

        Raises:
            ProviderUnavailable: The identity provider's keys are not here, so that its tokens cannot be told.
        """
        if not token or len(token) > MAX_TOKEN:
            return None
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(4)  # of its own: others wait in the common threads for long
        found = await anyio.to_thread.run_sync(self._known, token, limiter=self._limiter)
        if found is not None or self._provider is None or token.startswith(PREFIX):
            return found
        identity = await self._provider.identify(token)
        if identity is None:
            return None
        grants = await anyio.to_thread.run_sync(self._file.grants, limiter=self._limiter)
        folders = grants.folders_of(identity.groups)
        if not folders:
            return None
        return GrantedToken(
            token="",
            client_id=f"oidc {identity.client}",
            scopes=[],
            expires_at=identity.expires,
            subject=identity.subject,
            claims={"iss": identity.issuer},
            access=Access(user=identity.user, folders=folders),
        )

    def _known(self, token: str) -> GrantedToken | None:
        """Find a token that is ours; compares with every one of them, so that time tells nothing."""
        granted = partial(GrantedToken, token="", scopes=[])
        digest = digest_of(token)
        is_owner = hmac.compare_digest(digest, digest_of(self._owner_token))
        match = None
        for grant in self._file.grants().users.values():
            if hmac.compare_digest(digest, grant.token_sha256):
                match = grant
        if is_owner:
            return granted(client_id=OWNER, access=Access())
        if match is None or not match.folders or (match.expires is not None and match.expires <= self._now()):
            return None
        return granted(
            client_id=f"token {match.name} {digest[:16]}",
            subject=match.name,
            expires_at=None if match.expires is None else int(match.expires),
            access=Access(user=match.name, folders=match.folders),
        )
