"""Made-up secrets of the forms that their issuers document, built at run time so that no scanner takes them for leaks.

Written from those documents, not from the rules of ``indexer/text/secrets.py``: a form that the rules do not know
counts as missed.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM = UPPER + LOWER + DIGITS
URL_SAFE = ALNUM + "-_"
BASE64 = ALNUM + "+/"
HEX = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class MadeUp:
    """One secret.

    Attributes:
        kind: What it is.
        text: How it stands in a document, one line or several.
        secret: The part of it that must not leave; of a key block, a line from its middle.
        code: Whether it may stand in source code as it is.
    """

    kind: str
    text: str
    secret: str
    code: bool = True


def pick(chance: random.Random, letters: str, length: int) -> str:
    return "".join(chance.choice(letters) for _ in range(length))


def key_block(chance: random.Random, name: str, lines: int, ending: str = "") -> tuple[str, str]:
    """A key block, and a line from its middle."""
    body = [pick(chance, BASE64, 64) for _ in range(lines)]
    rule = "-" * 5
    block = [f"{rule}BEGIN {name}{rule}", *body, pick(chance, BASE64, 30) + "==", f"{rule}END {ending or name}{rule}"]
    return "\n".join(block), body[lines // 2]


def _jwt(chance: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"sub": pick(chance, DIGITS, 10), "name": pick(chance, LOWER, 8), "iat": chance.randrange(10**9)}
    return ".".join((part({"alg": "HS256", "typ": "JWT"}), part(claims), pick(chance, URL_SAFE, 43)))


def _password(chance: random.Random) -> str:
    word = chance.choice(["Sommer", "hunter", "Tr0ub4dor", "kestrel", "Blaubeere", "octopus"])
    return word + pick(chance, DIGITS, chance.randrange(1, 5)) + chance.choice(["", "!", "#", "$x"])


def _simple(prefix: tuple[str, ...], letters: str, length: int) -> Callable[[random.Random], tuple[str, str]]:
    """A token of a prefix, given in parts, and so many letters."""

    def make(chance: random.Random) -> tuple[str, str]:
        token = "".join(prefix) + pick(chance, letters, length)
        return token, token

    return make


def _named(template: str, letters: str, length: int) -> Callable[[random.Random], tuple[str, str]]:
    """A secret that only the name before it tells."""

    def make(chance: random.Random) -> tuple[str, str]:
        token = pick(chance, letters, length)
        return template.replace("SECRET", token), token

    return make


def _of(*makers: Callable[[random.Random], tuple[str, str]]) -> Callable[[random.Random], tuple[str, str]]:
    return lambda chance: chance.choice(makers)(chance)


def _slack(chance: random.Random) -> tuple[str, str]:
    token = "-".join(("xox" + chance.choice("bpars"), pick(chance, DIGITS, 12), pick(chance, DIGITS, 12)))
    token += "-" + pick(chance, ALNUM, 24)
    return token, token


def _webhook(chance: random.Random) -> tuple[str, str]:
    tail = pick(chance, ALNUM, 24)
    path = "/".join(("T" + pick(chance, UPPER + DIGITS, 8), "B" + pick(chance, UPPER + DIGITS, 8), tail))
    return "https://hooks." + "slack.com/services/" + path, tail


def _url(chance: random.Random) -> tuple[str, str]:
    password = pick(chance, LOWER, 9) if chance.random() < 0.4 else _password(chance).replace("#", "")
    scheme = chance.choice(["postgres", "mysql", "mongodb+srv", "redis", "amqp", "https", "smtp"])
    user = pick(chance, LOWER, 6)
    return f"{scheme}://{user}:{password}@db.{pick(chance, LOWER, 5)}.org/{pick(chance, LOWER, 4)}", password


def _connection(chance: random.Random) -> tuple[str, str]:
    password = _password(chance)
    return f"Server=tcp:db,1433;Database=birds;User ID=reader;Password={password};Encrypt=true;", password


def _plain_password(chance: random.Random) -> tuple[str, str]:
    password = _password(chance)
    form = chance.choice(["password: {}", "Password = {}", "Passwort: {}", "the password is {}", "PASSWORD={}"])
    return form.format(password), password


def _quoted_key(chance: random.Random) -> tuple[str, str]:
    token = pick(chance, ALNUM, 32)
    name = chance.choice(["api_key", "client_secret", "access_token", "apiKey", "SECRET_KEY", "auth_token"])
    return f'{name} = "{token}"', token


def _block(name: str, lines: tuple[int, int]) -> Callable[[random.Random], tuple[str, str]]:
    return lambda chance: key_block(chance, name, chance.randrange(*lines))


def _service_account(chance: random.Random) -> tuple[str, str]:
    block, line = key_block(chance, "PRIVATE" + " KEY", 26)
    return json.dumps({"type": "service_account", "private_key": block + "\n"}), line


def _putty(chance: random.Random) -> tuple[str, str]:
    body = [pick(chance, BASE64, 64) for _ in range(14)]
    head = ["PuTTY-User-Key-File-3: ssh-ed25519", "Encryption: none", "Comment: mine", "Private-" + "Lines: 14"]
    return "\n".join([*head, *body, "Private-MAC: " + pick(chance, HEX, 64)]), body[7]


KINDS: dict[str, tuple[Callable[[random.Random], tuple[str, str]], bool]] = {
    "GitHub": (_of(_simple(("gh", "p_"), ALNUM, 36), _simple(("gh", "s_"), ALNUM, 36)), True),
    "GitHub, fine-grained": (_simple(("github", "_pat_"), ALNUM, 82), True),
    "GitLab": (_simple(("glp", "at-"), URL_SAFE, 20), True),
    "Hugging Face": (_simple(("h", "f_"), UPPER + LOWER, 34), True),
    "npm": (_simple(("np", "m_"), ALNUM, 36), True),
    "PyPI": (_simple(("pyp", "i-AgEIcHlwaS5vcmc"), URL_SAFE, 130), True),
    "SendGrid": (lambda c: (("S" + "G.") + (t := f"{pick(c, URL_SAFE, 22)}.{pick(c, URL_SAFE, 43)}"), t), True),
    "Slack token": (_slack, True),
    "Slack webhook": (_webhook, True),
    "AWS key id": (_simple(("AK", "IA"), UPPER + "234567", 16), True),
    "AWS secret key": (_named("aws_secret_access_key = SECRET", BASE64, 40), False),
    "Azure storage": (
        _named("DefaultEndpointsProtocol=https;AccountName=birds;AccountKey=SECRET==;EndpointSuffix=x", BASE64, 86),
        True,
    ),
    "Google API": (_simple(("AI", "za"), URL_SAFE, 35), True),
    "Google service account": (_service_account, True),
    "OpenAI": (_of(_simple(("sk-", "proj-"), URL_SAFE, 120), _simple(("sk", "-"), ALNUM, 48)), True),
    "Anthropic": (_simple(("sk-", "ant-api03-"), URL_SAFE, 93), True),
    "Stripe": (_of(_simple(("sk_", "live_"), ALNUM, 24), _simple(("rk_", "live_"), ALNUM, 99)), True),
    "Twilio": (_of(_simple(("S", "K"), HEX, 32), _named("TWILIO_AUTH_TOKEN=SECRET", HEX, 32)), False),
    "Telegram": (lambda c: ((t := pick(c, DIGITS, 10) + ":" + "AA" + pick(c, URL_SAFE, 33)), t), True),
    "Discord": (
        lambda c: (
            "the bot's token " + (t := "M" + pick(c, ALNUM, 23) + "." + pick(c, ALNUM, 6) + "." + pick(c, ALNUM, 38)),
            t,
        ),
        True,
    ),
    "DigitalOcean": (_simple(("dop", "_v1_"), HEX, 64), True),
    "Cloudflare": (
        _of(_named("CLOUDFLARE_API_TOKEN=SECRET", ALNUM, 40), _named("X-Auth-Key: SECRET", HEX, 37)),
        False,
    ),
    "JSON web token": (lambda c: ((t := _jwt(c)), t), True),
    "password in a URL": (_url, True),
    "connection string": (_connection, True),
    "password": (_plain_password, False),
    "assignment": (_quoted_key, True),
    "PEM key": (_of(_block("RSA PRIVATE" + " KEY", (12, 60)), _block("PRIVATE" + " KEY", (3, 30))), True),
    "OpenSSH key": (_block("OPENSSH PRIVATE" + " KEY", (5, 40)), True),
    "PGP key": (_block("PGP PRIVATE" + " KEY BLOCK", (40, 400)), True),
    "PuTTY key": (_putty, True),
    "age key": (_simple(("AGE-SECRET", "-KEY-1"), UPPER + DIGITS, 58), True),
}
"""Kind -> what makes one, and whether it may stand in source code as it is."""


def made_up(each: int, seed: int = 1) -> list[MadeUp]:
    """``each`` secrets of every kind; the same for the same seed."""
    out = []
    for kind, (make, code) in KINDS.items():
        for number in range(each):
            text, secret = make(random.Random(f"{seed} {kind} {number}"))
            out.append(MadeUp(kind, text, secret, code))
    return out
