"""An OpenID Connect provider on loopback: real keys and signatures, discovery and JWKS by HTTP; fails and rotates."""

from __future__ import annotations

import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "https://search.example/mcp"


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of a few keys; making one takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class IdentityProvider:
    """Serves while it is open.

    Attributes:
        asked: Paths that were fetched, in order.
        fails: The status that it answers with instead, 0 for none.
        padding: Bytes added to every document.
        answers: Cleared: it accepts requests and says nothing.
        document: What discovery says; change it to lie.
    """

    def __init__(self) -> None:
        provider = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                provider.answers.wait(30)
                body = json.dumps(provider.documents().get(self.path, {}) | {"pad": "x" * provider.padding}).encode()
                self.send_response(provider.fails or (200 if self.path in provider.documents() else 404))
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}/team"
        self.asked: list[str] = []
        self.fails = 0
        self.padding = 0
        self.answers = threading.Event()
        self.answers.set()
        self.keys: dict[str, Any] = {"one": rsa_key(1)}
        self.document = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> IdentityProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def documents(self) -> dict[str, dict[str, Any]]:
        return {
            "/team/.well-known/openid-configuration": self.document,
            "/team/keys": {"keys": [public_key(kid, key) for kid, key in self.keys.items()]},
        }

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token; None takes one out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "u-1",
            "azp": "editor",
            "iat": now - 10,
            "nbf": now - 10,
            "exp": now + 600,
            "groups": ["team"],
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        *,
        kid: str | None = "one",
        key: Any = None,
        algorithm: str = "RS256",
        headers: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A signed token; by default a good one."""
        signing = key if key is not None else self.keys[kid or "one"]
        more = {**({"kid": kid} if kid is not None else {}), **(headers or {})}
        return jwt.encode(self.claims(**changes), signing, algorithm=algorithm, headers=more)


def public_key(kid: str, key: Any) -> dict[str, Any]:
    """A key as JWKS has it."""
    kinds = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm, ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm}
    kind = next(algorithm for private, algorithm in kinds.items() if isinstance(key, private))
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def public_pem(key: Any) -> bytes:
    """The public key as text, which forgers take for a shared secret."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
