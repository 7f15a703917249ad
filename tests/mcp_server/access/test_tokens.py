"""Who gets in by HTTP: the owner's token, tokens of their own, and nobody else; answers end when a token does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from identity_provider import AUDIENCE, IdentityProvider
from mcp.server.auth.middleware.auth_context import get_access_token

from indexer.config import OidcSettings
from mcp_server.access.access import Access
from mcp_server.access.access_file import AccessFile
from mcp_server.access.tokens import MAX_TOKEN, AccessVerifier, GrantedToken, digest_of, new_token
from mcp_server.processes.http_access import HttpAccess, open_access, require_access

OWNER = "o" * 43


def write(data_dir: Path, **tokens: tuple[str, str]) -> Path:
    """Write ``access.toml``: of each user the token and further lines."""
    file = data_dir / "access.toml"
    parts = [
        f'[users.{name}]\ntoken_sha256 = "{digest_of(token)}"\n{more}\n' for name, (token, more) in tokens.items()
    ]
    file.write_text("\n".join(parts), encoding="utf-8")
    return file


def test_tokens_are_long_and_never_twice_the_same() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(token.startswith("fmcp_") and len(token) == 48 for token in made)


async def test_the_owner_sees_everything_and_a_token_its_folders(tmp_path: Path) -> None:
    token = new_token()
    verifier = AccessVerifier(OWNER, AccessFile(write(tmp_path, ada=(token, "folders = ['/x', '/y']"))))
    owner, ada = await verifier.verify_token(OWNER), await verifier.verify_token(token)
    assert owner is not None and owner.access == Access()
    assert ada is not None and ada.access == Access("ada", folders=("/x", "/y"))
    assert token not in repr(ada) and OWNER not in repr(owner)


async def test_everything_else_is_refused(tmp_path: Path) -> None:
    token = new_token()
    file = write(
        tmp_path,
        ada=(token, "folders = ['/x']"),
        none=("n" * 48, ""),
        over=("e" * 48, "folders = ['/x']\nexpires = '2020-01-01'"),
    )
    verifier = AccessVerifier(OWNER, AccessFile(file))
    tries = ["", " ", token[:-1], token + "x", token.swapcase(), digest_of(token), "n" * 48, "e" * 48, OWNER[:-1]]
    tries += ["\udcff", "\0", "é" * 48, "x" * (MAX_TOKEN + 1), "a.b.c"]
    assert [one for one in tries if await verifier.verify_token(one) is not None] == []


async def test_a_token_ends_at_its_moment(tmp_path: Path) -> None:
    now = [0.0]
    file = write(tmp_path, ada=("t" * 48, "folders = ['/x']\nexpires = '1970-01-01T00:01:00Z'"))
    verifier = AccessVerifier(OWNER, AccessFile(file), now=lambda: now[0])
    assert await verifier.verify_token("t" * 48) is not None
    now[0] = 60.0
    assert await verifier.verify_token("t" * 48) is None


async def test_a_token_made_anew_under_the_old_name_is_another_owner_of_sessions(tmp_path: Path) -> None:
    verifier = AccessVerifier(OWNER, AccessFile(write(tmp_path, ada=("a" * 48, "folders = ['/x']"))))
    first = await verifier.verify_token("a" * 48)
    write(tmp_path, ada=("b" * 48, "folders = ['/x']"))
    second = await verifier.verify_token("b" * 48)
    assert await verifier.verify_token("a" * 48) is None
    assert first is not None and second is not None and first.client_id != second.client_id


@pytest.mark.slow
async def test_a_providers_groups_stand_for_folders_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "access.toml").write_text("[groups.team]\nfolders = ['/srv']\n", encoding="utf-8")
    with IdentityProvider() as provider:
        oidc = OidcSettings(issuer=provider.issuer, audience=AUDIENCE)
        async with open_access(OWNER, tmp_path, oidc) as access:
            found = await access.verifier.verify_token(provider.token())
            assert found is not None and found.access == Access("u-1", folders=("/srv",))
            assert found.claims == {"iss": provider.issuer}
            assert await access.verifier.verify_token(provider.token(groups=["others"])) is None
            assert await access.verifier.verify_token(provider.token(groups=None)) is None
            assert await access.verifier.verify_token(OWNER) is not None
            (tmp_path / "access.toml").write_text("[groups.team]\nfolders = []\n", encoding="utf-8")
            assert await access.verifier.verify_token(provider.token()) is None


# Over HTTP ----------------------------------------------------------------------------------------------------------


class Exchange:
    """One request to an application behind the check, and what it was answered."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.granted: list[GrantedToken] = []

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    async def ask(
        self,
        access: HttpAccess,
        *headers: tuple[bytes, bytes],
        kind: bytes = b"application/json",
        path: str = "/mcp",
        between: Callable[[], None] = lambda: None,
    ) -> Exchange:
        async def inner(scope: Any, receive: Any, send: Any) -> None:
            token = get_access_token()
            assert isinstance(token, GrantedToken) and scope["user"].access_token is token
            self.granted.append(token)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            between()
            await send({"type": "http.response.body", "body": b"second", "more_body": False})

        async def send(message: Any) -> None:
            self.sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "path": path, "method": "GET", "headers": list(headers), "query_string": b""}
        await require_access(inner, access)(scope, receive, send)
        return self


def bearer(token: str) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + token.encode())


async def test_a_request_knows_whose_it_is(tmp_path: Path) -> None:
    access = HttpAccess(AccessVerifier(OWNER, AccessFile(write(tmp_path, ada=("t" * 48, "folders = ['/x']")))))
    asked = await Exchange().ask(access, bearer("t" * 48))
    assert (asked.status, asked.body) == (200, b"firstsecond")
    assert asked.granted[0].access == Access("ada", folders=("/x",))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic " + OWNER.encode())],
        [(b"authorization", OWNER.encode())],
        [(b"authorization", b"Bearer \xff\xfe")],
        [bearer(OWNER + "x")],
        [bearer(OWNER), bearer(OWNER)],
        [(b"cookie", b"authorization=Bearer " + OWNER.encode())],
        [(b"x-forwarded-user", b"owner")],
    ],
)
async def test_all_others_are_told_the_same(tmp_path: Path, headers: list[tuple[bytes, bytes]]) -> None:
    asked = await Exchange().ask(HttpAccess(AccessVerifier(OWNER, AccessFile(tmp_path / "none"))), *headers)
    assert (asked.status, asked.granted) == (401, [])
    assert json.loads(asked.body) == {"error": "missing or wrong token"}
    assert asked.headers[b"www-authenticate"] == b"Bearer"


async def test_a_stream_ends_when_its_token_does(tmp_path: Path) -> None:
    file = write(tmp_path, ada=("t" * 48, "folders = ['/x']"))
    access = HttpAccess(AccessVerifier(OWNER, AccessFile(file)))
    kind = b"text/event-stream; charset=utf-8"
    whole = await Exchange().ask(access, bearer("t" * 48), kind=kind)
    assert whole.body == b"firstsecond"
    narrower = lambda: write(tmp_path, ada=("t" * 48, "folders = ['/x/y']"))  # noqa: E731
    for change in (narrower, file.unlink):
        write(tmp_path, ada=("t" * 48, "folders = ['/x']"))
        cut = await Exchange().ask(access, bearer("t" * 48), kind=kind, between=change)  # type: ignore[arg-type]
        assert (cut.status, cut.body) == (200, b"first")
        assert cut.sent[-1]["more_body"] is False


async def test_a_token_that_ends_while_its_answer_is_made_gets_none(tmp_path: Path) -> None:
    file = write(tmp_path, ada=("t" * 48, "folders = ['/x']"))

    class Ending(AccessVerifier):
        async def verify_token(self, token: str) -> GrantedToken | None:
            found = await super().verify_token(token)
            file.unlink(missing_ok=True)
            return found

    asked = await Exchange().ask(HttpAccess(Ending(OWNER, AccessFile(file))), bearer("t" * 48))
    assert asked.status == 401
    assert b"first" not in asked.body


@pytest.mark.slow
async def test_clients_without_a_token_are_told_the_provider(tmp_path: Path) -> None:
    with IdentityProvider() as provider:
        oidc = OidcSettings(issuer=provider.issuer, audience=AUDIENCE)
        async with open_access(OWNER, tmp_path, oidc) as access:
            refused = await Exchange().ask(access)
            told = refused.headers[b"www-authenticate"].decode()
            address = "https://search.example/.well-known/oauth-protected-resource/mcp"
            assert told == f'Bearer resource_metadata="{address}"'
            answer = await Exchange().ask(access, path="/.well-known/oauth-protected-resource/mcp")
            document = json.loads(answer.body)
            assert (answer.status, document["resource"]) == (200, AUDIENCE)
            assert document["authorization_servers"] == [provider.issuer]


@pytest.mark.slow
async def test_a_provider_that_is_down_is_told_apart_from_a_wrong_token(tmp_path: Path) -> None:
    with IdentityProvider() as provider:
        provider.fails = 503
        async with open_access(OWNER, tmp_path, OidcSettings(issuer=provider.issuer, audience=AUDIENCE)) as access:
            asked = await Exchange().ask(access, bearer(provider.token()))
            assert (asked.status, asked.headers[b"retry-after"]) == (503, b"10")
            assert (await Exchange().ask(access, bearer(OWNER))).status == 200
            assert (await Exchange().ask(access, bearer("a.b.c"))).status == 401


@pytest.mark.slow
async def test_time_tells_nothing_about_a_token(tmp_path: Path) -> None:
    """Tokens that share 0 to 42 characters with a right one: what is compared are digests, which share nothing."""
    right = new_token()
    verifier = AccessVerifier(OWNER, AccessFile(write(tmp_path, ada=(right, "folders = ['/x']"))))
    wrong = [right[:shared] + "!" * (48 - shared) for shared in (0, 10, 20, 30, 42, 47)]
    times: dict[str, list[int]] = {one: [] for one in wrong}
    for _ in range(400):
        for one in wrong:
            started = time.perf_counter_ns()
            assert verifier._known(one) is None
            times[one].append(time.perf_counter_ns() - started)
    medians = sorted(sorted(each)[len(each) // 2] for each in times.values())
    assert medians[-1] < medians[0] * 1.5, medians
    await anyio.sleep(0)
