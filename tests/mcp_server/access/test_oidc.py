"""Tokens of an identity provider: a real one on loopback signs them, serves its keys, rotates them, lies and fails."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from identity_provider import AUDIENCE, IdentityProvider, public_key, public_pem, rsa_key

from indexer.config import OidcSettings
from mcp_server.access import oidc
from mcp_server.access.oidc import Identity, ProviderKeys, ProviderUnavailable

pytestmark = pytest.mark.slow  # real keys, real connections


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as one:
        yield one


class Clock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@asynccontextmanager
async def checking(
    provider: IdentityProvider, clock: Clock | None = None, **changes: Any
) -> AsyncIterator[oidc.IdentityProvider]:
    settings = replace(OidcSettings(issuer=provider.issuer, audience=AUDIENCE, leeway=30.0), **changes)
    async with oidc.http_client() as client:
        yield oidc.IdentityProvider(settings, ProviderKeys(settings.issuer, client, clock or Clock()))


async def test_a_good_token_says_who_it_is_and_in_which_groups(provider: IdentityProvider) -> None:
    async with checking(provider) as identity:
        found = await identity.identify(provider.token())
    assert found is not None
    assert replace(found, expires=0) == Identity(provider.issuer, "u-1", "u-1", "editor", ("team",), 0)
    assert found.expires > time.time()


@pytest.mark.parametrize("algorithm", ["RS384", "PS256", "PS512"])
async def test_other_signatures_with_the_same_key_are_taken(provider: IdentityProvider, algorithm: str) -> None:
    async with checking(provider) as identity:
        assert await identity.identify(provider.token(algorithm=algorithm)) is not None


async def test_an_elliptic_key_is_taken(provider: IdentityProvider) -> None:
    provider.keys["curve"] = ec.generate_private_key(ec.SECP256R1())
    async with checking(provider) as identity:
        assert await identity.identify(provider.token(kid="curve", algorithm="ES256")) is not None


def _unsigned(provider: IdentityProvider, algorithm: str) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "kid": "one"}, provider.claims())]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


NOW = int(time.time())
WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "an issuer with a slash more": {"iss": "{issuer}/"},
    "another audience": {"aud": "https://other.example/mcp"},
    "a longer audience": {"aud": AUDIENCE + "/more"},
    "no audience": {"aud": None},
    "expired": {"exp": NOW - 3600},
    "never expiring": {"exp": None},
    "not yet valid": {"nbf": NOW + 3600},
    "issued in the future": {"iat": NOW + 3600},
    "without the time of issue": {"iat": None},
    "expiring at no number": {"exp": "soon"},
    "nobody's": {"sub": None},
    "of an empty subject": {"sub": ""},
}


@pytest.mark.parametrize("what", WRONG_CLAIMS)
async def test_a_signed_token_with_wrong_claims_is_refused(provider: IdentityProvider, what: str) -> None:
    claims = {
        name: value.format(issuer=provider.issuer) if isinstance(value, str) else value
        for name, value in WRONG_CLAIMS[what].items()
    }
    token = jwt.api_jws.encode(
        json.dumps(provider.claims(**claims)).encode(), provider.keys["one"], "RS256", headers={"kid": "one"}
    )
    async with checking(provider) as identity:
        assert await identity.identify(provider.token()) is not None
        assert await identity.identify(token) is None


def forgeries(provider: IdentityProvider) -> dict[str, str]:
    good, mine = provider.token(), rsa_key(9)
    head, body, signature = good.split(".")
    as_secret = public_pem(provider.keys["one"])
    hs = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "one"}).encode()).decode().rstrip("=")
    hmac_key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signed = base64.urlsafe_b64encode(hmac_key.sign(f"{hs}.{body}".encode(), as_secret)).decode().rstrip("=")
    address = f"{provider.issuer}/forged"
    return {
        "algorithm none": _unsigned(provider, "none"),
        "algorithm None": _unsigned(provider, "None"),
        "no algorithm": _unsigned(provider, ""),
        "no signature": f"{head}.{body}.",
        "signature of another token": f"{head}.{body}." + provider.token(sub="u-2").split(".")[2],
        "changed claims": ".".join([head, provider.token(sub="u-2").split(".")[1], signature]),
        "public key as shared secret": f"{hs}.{body}.{signed}",
        "another key under a known id": provider.token(key=mine),
        "another key under an unknown id": provider.token(key=mine, kid="two"),
        "its own key in the header (jwk)": provider.token(key=mine, headers={"jwk": public_key("one", mine)}),
        "an address of keys (jku)": provider.token(key=mine, headers={"jku": address}),
        "an address of certificates (x5u)": provider.token(key=mine, headers={"x5u": address}),
        "a critical extension": provider.token(headers={"crit": ["urn:x"], "urn:x": 1}),
        "a key id that is no text": provider.token(kid=None, headers={}, key=mine),
        "four parts": good + ".x",
        "no token": "hello",
        "empty parts": "..",
        "not base64": "*.*.*",
        "deep JSON": base64.urlsafe_b64encode(b'{"a":' * 5000).decode().rstrip("=") + ".e30.x",
        "a huge one": good + "A" * 1_000_000,
        "encrypted (five parts)": "a.b.c.d.e",
    }


FORGERIES = [
    "algorithm none",
    "algorithm None",
    "no algorithm",
    "no signature",
    "signature of another token",
    "changed claims",
    "public key as shared secret",
    "another key under a known id",
    "another key under an unknown id",
    "its own key in the header (jwk)",
    "an address of keys (jku)",
    "an address of certificates (x5u)",
    "a critical extension",
    "a key id that is no text",
    "four parts",
    "no token",
    "empty parts",
    "not base64",
    "deep JSON",
    "a huge one",
    "encrypted (five parts)",
]


@pytest.mark.parametrize("what", FORGERIES)
async def test_a_forged_token_is_refused_and_nothing_it_names_is_fetched(
    provider: IdentityProvider, what: str
) -> None:
    async with checking(provider) as identity:
        assert await identity.identify(forgeries(provider)[what]) is None
    assert set(forgeries(provider)) == set(FORGERIES)
    assert not [path for path in provider.asked if "forged" in path]


async def test_a_token_with_one_character_changed_is_refused(provider: IdentityProvider) -> None:
    token = provider.token()
    signed = token.rindex(".")
    async with checking(provider) as identity:
        for at in [*range(0, signed, 3), *range(signed + 1, len(token) - 1, 11)]:
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            assert await identity.identify(changed) is None, at


async def test_a_token_expires_after_the_leeway_and_not_before(provider: IdentityProvider) -> None:
    now = int(time.time())
    async with checking(provider, leeway=300.0) as identity:
        assert await identity.identify(provider.token(exp=now - 100)) is not None
        assert await identity.identify(provider.token(exp=now - 400)) is None


async def test_an_expiry_written_as_text_is_a_time_too(provider: IdentityProvider) -> None:
    now = int(time.time())
    async with checking(provider) as identity:
        for exp, counts in ((str(now + 600), True), (now + 600.5, True), (str(now - 600), False), (1e400, False)):
            claims = json.dumps(provider.claims(exp=exp)).encode()
            token = jwt.api_jws.encode(claims, provider.keys["one"], "RS256", headers={"kid": "one"})
            assert (await identity.identify(token) is not None) is counts, exp


async def test_only_the_algorithms_of_the_settings_are_taken(provider: IdentityProvider) -> None:
    async with checking(provider, algorithms=("PS256",)) as identity:
        assert await identity.identify(provider.token(algorithm="PS256")) is not None
        assert await identity.identify(provider.token()) is None


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
async def test_a_key_for_encryption_a_short_key_and_a_secret_key_are_no_keys(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak, other = rsa_key(5, 1024), rsa_key(6)
    secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
    keys = [
        {**public_key("enc", other), "use": "enc"},
        public_key("weak", weak),
        {"kty": "oct", "kid": "secret", "k": secret, "alg": "HS256"},
        {"kty": "RSA", "kid": "torn", "n": "AQAB"},
        {**public_key("fixed", other), "alg": "RS512"},
        "no object",
    ]
    documents = {**provider.documents(), "/team/keys": {"keys": keys}}
    monkeypatch.setattr(provider, "documents", lambda: documents)
    async with checking(provider) as identity:
        for kid, key in {"enc": other, "weak": weak, "torn": other, "fixed": other}.items():
            assert await identity.identify(provider.token(kid=kid, key=key)) is None, kid
        assert await identity.identify(provider.token(kid="secret", key=b"s" * 32, algorithm="HS256")) is None
        assert await identity.identify(provider.token(kid="fixed", key=other, algorithm="RS512")) is not None


async def test_a_token_without_key_id_is_taken_where_there_is_one_key(provider: IdentityProvider) -> None:
    async with checking(provider) as identity:
        assert await identity.identify(provider.token(kid=None)) is not None
    provider.keys["two"] = rsa_key(2)
    async with checking(provider) as identity:
        assert await identity.identify(provider.token(kid=None)) is None


@pytest.mark.parametrize(
    ("claims", "settings", "groups"),
    [
        ({"groups": "team"}, {}, ("team",)),
        ({"groups": None}, {}, ()),
        ({"groups": {"team": True}}, {}, ()),
        ({"groups": ["team", 7, None, "x"]}, {}, ("team", "x")),
        ({"realm_access": {"roles": ["team"]}}, {"groups_claim": "realm_access.roles"}, ("team",)),
        ({"https://x.example/groups": ["team"]}, {"groups_claim": "https://x.example/groups"}, ("team",)),
    ],
)
async def test_groups_are_found_where_the_settings_say(
    provider: IdentityProvider, claims: dict[str, Any], settings: dict[str, str], groups: tuple[str, ...]
) -> None:
    async with checking(provider, **settings) as identity:
        found = await identity.identify(provider.token(**claims))
    assert found is not None and found.groups == groups


async def test_the_user_is_called_by_the_claim_of_the_settings(provider: IdentityProvider) -> None:
    async with checking(provider, subject_claim="email") as identity:
        found = await identity.identify(provider.token(email="ada@x.example"))
        assert found is not None and (found.subject, found.user) == ("u-1", "ada@x.example")
        assert await identity.identify(provider.token()) is None


# The provider's keys ------------------------------------------------------------------------------------------------


async def test_keys_are_fetched_once_for_many_tokens(provider: IdentityProvider) -> None:
    async with checking(provider) as identity:
        for _ in range(20):
            assert await identity.identify(provider.token()) is not None
    assert provider.asked == ["/team/.well-known/openid-configuration", "/team/keys"]


async def test_a_rotated_key_counts_at_once_and_the_old_one_no_more(provider: IdentityProvider) -> None:
    clock = Clock()
    async with checking(provider, clock) as identity:
        old = provider.token()
        assert await identity.identify(old) is not None
        provider.keys = {"two": rsa_key(2)}
        clock.at += 61
        assert await identity.identify(provider.token(kid="two")) is not None
        assert await identity.identify(old) is None


async def test_forged_key_ids_cause_one_fetch_a_minute(provider: IdentityProvider) -> None:
    clock = Clock()
    async with checking(provider, clock) as identity:
        assert await identity.identify(provider.token()) is not None
        for number in range(200):
            assert await identity.identify(provider.token(kid=f"x{number}", key=rsa_key(9))) is None
        assert len(provider.asked) == 2
        clock.at += 60
        for number in range(200):
            assert await identity.identify(provider.token(kid=f"y{number}", key=rsa_key(9))) is None
        assert len(provider.asked) == 4
        assert await identity.identify(provider.token()) is not None


async def test_keys_go_on_for_a_day_when_the_provider_is_down(provider: IdentityProvider) -> None:
    clock = Clock()
    async with checking(provider, clock) as identity:
        assert await identity.identify(provider.token()) is not None
        provider.fails = 503
        clock.at += oidc.KEPT_S - 1
        assert await identity.identify(provider.token()) is not None
        clock.at += 61
        with pytest.raises(ProviderUnavailable, match="does not answer"):
            await identity.identify(provider.token())
        provider.fails = 0
        clock.at += 61
        assert await identity.identify(provider.token()) is not None


LIES: dict[str, dict[str, Any]] = {
    "another issuer": {"issuer": "https://evil.example"},
    "keys by http elsewhere": {"jwks_uri": "http://192.0.2.1/keys"},
    "keys in a file": {"jwks_uri": "file:///etc/passwd"},
    "no address of keys": {"jwks_uri": None},
    "an address that is none": {"jwks_uri": "https://[::1"},
}


@pytest.mark.parametrize("what", LIES)
async def test_a_provider_that_lies_gives_no_keys(provider: IdentityProvider, what: str) -> None:
    provider.document = provider.document | LIES[what]
    async with checking(provider) as identity:
        with pytest.raises(ProviderUnavailable):
            await identity.identify(provider.token())


@pytest.mark.parametrize("how", ["status", "too long", "redirect"])
async def test_a_provider_that_fails_gives_no_keys_and_is_not_asked_by_every_request(
    provider: IdentityProvider, how: str
) -> None:
    if how == "too long":
        provider.padding = oidc.MAX_DOCUMENT
    else:
        provider.fails = 500 if how == "status" else 302
    clock = Clock()
    async with checking(provider, clock) as identity:
        for _ in range(10):
            with pytest.raises(ProviderUnavailable):
                await identity.identify(provider.token())
        assert len(provider.asked) == 1
        provider.fails = provider.padding = 0
        clock.at += oidc.RETRY_S
        assert await identity.identify(provider.token()) is not None


async def test_nobody_listens_at_the_provider(provider: IdentityProvider) -> None:
    async with checking(provider, issuer="http://127.0.0.1:9/team") as identity:
        with pytest.raises(ProviderUnavailable):
            await identity.identify(provider.token())


async def test_a_provider_that_never_answers_costs_a_bounded_time(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "FETCH_S", 0.2)
    provider.answers.clear()
    async with checking(provider) as identity:
        with anyio.fail_after(20), pytest.raises(ProviderUnavailable):
            await identity.identify(provider.token())
    provider.answers.set()


async def test_requests_that_come_together_wait_for_one_fetch(provider: IdentityProvider) -> None:
    found: list[Identity | None] = []
    async with checking(provider) as identity, anyio.create_task_group() as tasks:

        async def ask() -> None:
            found.append(await identity.identify(provider.token()))

        for _ in range(20):
            tasks.start_soon(ask)
    assert len(found) == 20 and all(found)
    assert len(provider.asked) == 2
