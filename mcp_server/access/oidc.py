"""Tokens of an identity provider (OpenID Connect): its keys, fetched and kept, and the check of a token with them.

This server is a resource server: it issues nothing, sends nobody anywhere, and asks the provider for keys alone. What
a token says of keys (``jku``, ``jwk``, ``x5u``, ``x5c``) is never looked at.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import jwt

from indexer.config import SIGNATURES, OidcSettings
from indexer.errors import FolderMcpError

log = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0, section 4."""
FETCH_S = 5.0
"""Seconds for one document, from the connection to its last byte."""
MAX_DOCUMENT = 512 * 1024
"""Bytes of one document; real ones have below 20,000."""
MAX_KEYS = 100
MIN_RSA_BITS = 2048
FRESH_S = 3600.0
"""Seconds after which the keys are fetched again when a token comes."""
KEPT_S = 24 * 3600.0
"""Seconds for which they count when the provider does not answer."""
BETWEEN_S = 60.0
"""Seconds between two fetches at least, so that forged key ids cause no more."""
RETRY_S = 5.0
"""The same before the first fetch has succeeded."""
MAX_GROUPS = 1000
_LOCAL = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?/")


class ProviderUnavailable(FolderMcpError):
    """The identity provider's keys are not here; nothing can be said about its tokens for now."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a valid token says.

    Attributes:
        issuer: The provider.
        subject: ``sub``, unique at this provider.
        user: How the user is called in the record: the claim that the settings name.
        client: The program that the token was made for; may be empty.
        groups: Names, as the provider writes them.
        expires: Seconds since the epoch.
    """

    issuer: str
    subject: str
    user: str
    client: str
    groups: tuple[str, ...]
    expires: int


class IdentityProvider:
    """Checks the tokens of one provider."""

    def __init__(self, settings: OidcSettings, keys: ProviderKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._algorithms = settings.algorithms or SIGNATURES
        self._limiter = anyio.CapacityLimiter(2)

    async def identify(self, token: str) -> Identity | None:
        """Return what a token says; None when it is not this provider's, not for us, not now, or forged.

        Raises:
            ProviderUnavailable: The keys are not here.
        """
        header = _header(token)
        if header is None or header.get("alg") not in self._algorithms or "crit" in header:
            return None
        kid = header.get("kid")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= 256):
            return None
        key = await self._keys.key(kid, header["alg"])
        if key is None:
            return None
        claims = await anyio.to_thread.run_sync(self._claims, token, header["alg"], key, limiter=self._limiter)
        return None if claims is None else self._identity(claims)

    def _claims(self, token: str, algorithm: str, key: jwt.PyJWK) -> dict[str, Any] | None:
        """Check signature, ``iss``, ``aud``, ``exp``, ``nbf`` and ``iat``; CPU work, for a thread."""
        settings = self._settings
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=settings.leeway,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError) as error:
            log.info("a token of the identity provider is refused: %s", type(error).__name__)
            return None

    def _identity(self, claims: Mapping[str, Any]) -> Identity | None:
        settings = self._settings
        subject, user = claims.get("sub"), _claim(claims, settings.subject_claim)
        if not (isinstance(subject, str) and subject and isinstance(user, str) and user and len(user) <= 256):
            return None
        groups = _claim(claims, settings.groups_claim)
        named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        names = tuple(one for one in named[:MAX_GROUPS] if isinstance(one, str))
        client = claims.get("azp") or claims.get("client_id") or ""
        return Identity(settings.issuer, subject, user, str(client), names, int(claims["exp"]) + int(settings.leeway))


def _header(token: str) -> dict[str, Any] | None:
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, else by the way to it: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


# Keys ---------------------------------------------------------------------------------------------------------------


class ProviderKeys:
    """The provider's keys: fetched when a token needs them, kept, fetched again when a token names an unknown one."""

    def __init__(self, issuer: str, client: httpx2.AsyncClient, now: Callable[[], float] = time.monotonic) -> None:
        """Keep what is needed; fetches nothing yet.

        Args:
            issuer: Address of the provider.
            client: Used for all requests; open for as long as this object is used.
            now: Seconds on a clock that only goes forward.
        """
        self._issuer = issuer
        self._client = client
        self._now = now
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = anyio.Lock()

    async def key(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key that a token names; the only one of its kind where it names none. None if there is none.

        Raises:
            ProviderUnavailable: There are no keys, or none that still count.
        """
        if self._age() > FRESH_S:
            await self._fetch_once()
        if self._age() > KEPT_S:
            raise ProviderUnavailable("the identity provider does not answer; ask again in a few seconds")
        found = self._find(kid, algorithm)
        if found is None:
            await self._fetch_once()
            found = self._find(kid, algorithm)
        return found

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._now() - self._fetched_at

    async def _fetch_once(self) -> None:
        """Fetch, unless that was tried a moment ago; whoever comes meanwhile waits for the same fetch."""
        async with self._fetching:
            pause = RETRY_S if self._fetched_at is None else BETWEEN_S
            if self._tried_at is not None and self._now() - self._tried_at < pause:
                return
            self._tried_at = self._now()
            try:
                with anyio.fail_after(2 * FETCH_S):
                    self._keys = await self._fetch()
                self._fetched_at = self._now()
            except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, ValueError, RecursionError) as error:
                log.warning("the keys of %s cannot be fetched: %s", self._issuer, error or type(error).__name__)

    async def _fetch(self) -> tuple[Mapping[str, Any], ...]:
        about = await self._document(self._issuer.rstrip("/") + DISCOVERY)
        if about.get("issuer") != self._issuer:
            raise ValueError(f"it calls itself {str(about.get('issuer'))[:200]!r}; oidc.issuer must be the same text")
        address = about.get("jwks_uri")
        local = isinstance(address, str) and self._issuer.startswith("http:") and _LOCAL.match(address)
        if not (isinstance(address, str) and (address.startswith("https://") or local)):
            raise ValueError("its jwks_uri is no https address")
        keys = (await self._document(address)).get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise ValueError("its keys are no list of reasonable length")
        return tuple(key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig")

    async def _document(self, address: str) -> dict[str, Any]:
        with anyio.fail_after(FETCH_S):
            async with self._client.stream("GET", address, follow_redirects=False) as response:
                if response.status_code != 200:
                    raise ValueError(f"{address} answered {response.status_code}")
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_DOCUMENT:
                        raise ValueError(f"{address} has more than {MAX_DOCUMENT:,} bytes")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError(f"{address} is no JSON object")
        return document

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if kid is None or key.get("kid") == kid]
        usable = [found for key in fitting if (found := _usable(key, algorithm)) is not None]
        return usable[0] if usable and (kid is not None or len(usable) == 1) else None


def _usable(key: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    """Return a key for an algorithm; None when it is for another, secret, or too short."""
    if key.get("kty") not in ("RSA", "EC", "OKP") or key.get("alg", algorithm) != algorithm:
        return None
    try:
        found = jwt.PyJWK(dict(key), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if getattr(found.key, "key_size", MIN_RSA_BITS) < MIN_RSA_BITS and key["kty"] == "RSA" else found


def http_client() -> httpx2.AsyncClient:
    """Return the client for the provider's documents: certificates checked, no redirects, few connections."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(FETCH_S), follow_redirects=False, limits=httpx2.Limits(max_connections=2)
    )
