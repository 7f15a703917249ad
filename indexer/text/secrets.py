"""Secrets in text: where keys, tokens and passwords stand, and the text with each of them blanked.

A document passes ``blank`` once, between the parser and everything that follows (chunks, reading, snippets), so that
what search does not know cannot leave by another way. The forms of tokens are those that their issuers document;
what is recognised and what is not, with figures, is in ``docs/decisions/0013-secrets.md``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from math import log2
from typing import Any

SECRETS = "secrets/1"
"""Version of these rules: any change of what is blanked raises it, and every file is read again."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret stands in a text: characters from ``start`` to ``end``, and its kind, for people."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Blanked:
    """A text without its secrets.

    Attributes:
        text: The text, each secret replaced by its marker; it has as many line ends as before.
        kinds: The kind of each secret, in order.
        open_key: Whether it ends inside a key block whose END line has not come.
    """

    text: str
    kinds: tuple[str, ...] = ()
    open_key: bool = False


Allowed = tuple[str, ...] | None
"""What a user allows to be shown: RE2 patterns that match a whole secret; None allows every secret of a file."""


def marker(kind: str) -> str:
    """What stands in place of a secret, for example ``[secret: GitHub token]``."""
    return f"[secret: {kind}]"


def count_markers(text: str) -> int:
    """How many secrets have been blanked in a text; a document that quotes a marker counts as one."""
    return sum(match[1] in KINDS for match in _MARKER.finditer(text)) if "[secret: " in text else 0


def blank(text: str, allowed: Allowed = (), *, syntax: str = "", open_key: bool = False) -> Blanked:
    """Replace every secret of a text by its marker.

    Args:
        text: Any text.
        allowed: What is not blanked.
        syntax: ``Document.syntax``: in a programming language what follows ``password =`` is a secret only in quotes.
        open_key: Whether the text continues one that ended inside a key block.

    Raises:
        ValueError: A pattern of ``allowed`` does not compile.
    """
    kinds: list[str] = []
    unfinished = False
    for again in range(_ROUNDS):
        found = find_secrets(text, allowed, syntax=syntax, open_key=open_key and not again)
        if not found:
            break
        if not again:
            last = found[-1]
            rest = text[last.end :]
            unfinished = last.kind == KEY and not rest.strip() and not _END.search(text, last.start, last.end)
        kinds += [secret.kind for secret in found]
        text = _without(text, found)
    return Blanked(text, tuple(kinds), unfinished)


_ROUNDS = 4
"""A secret that follows another without anything between them is seen when the first has been blanked."""


def _without(text: str, found: Sequence[Secret]) -> str:
    parts: list[str] = []
    at = 0
    for secret in found:
        lines = "".join(_LINE_ENDS.findall(text, secret.start, secret.end))
        parts += (text[at : secret.start], marker(secret.kind), lines)
        at = secret.end
    return "".join((*parts, text[at:]))


def find_secrets(text: str, allowed: Allowed = (), *, syntax: str = "", open_key: bool = False) -> tuple[Secret, ...]:
    """The secrets of a text in order, none overlapping; arguments and errors as of ``blank``.

    Characters that do not show (soft hyphens, zero-width spaces) neither hide a secret nor end one.
    """
    if allowed is None or not text:
        return ()
    if not text.isascii() and _INVISIBLE.search(text):
        kept = [(match.start(), match.end()) for match in _VISIBLE.finditer(text)]
        found = _find("".join(text[a:b] for a, b in kept), syntax, open_key)
        ends = list(accumulate(b - a for a, b in kept))
        found = [Secret(_position(kept, ends, s.start), _position(kept, ends, s.end - 1) + 1, s.kind) for s in found]
    else:
        found = _find(text, syntax, open_key)
    if found and allowed:
        shown = allowed_patterns(allowed)
        found = [s for s in found if not any(p.fullmatch(text[s.start : s.end]) for p in shown)]
    return tuple(found)


@lru_cache(maxsize=16)
def allowed_patterns(patterns: tuple[str, ...]) -> tuple[Any, ...]:
    """The patterns compiled by RE2, which matches in time linear in the text.

    Raises:
        ValueError: One does not compile; says which, and why.
    """
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(_re2().compile(pattern, _options()))
        except _re2().error as error:
            why = error.args[0] if error.args else error
            why = why.decode(errors="replace") if isinstance(why, bytes) else why
            raise ValueError(f"{pattern!r} is no regular expression that RE2 knows: {why}") from None
    return tuple(compiled)


def _position(kept: Sequence[tuple[int, int]], ends: Sequence[int], at: int) -> int:
    """The place in the whole text of character ``at`` of its visible spans joined."""
    span = bisect_right(ends, at)
    return kept[span][1] - (ends[span] - at)


def _find(text: str, syntax: str, open_key: bool) -> list[Secret]:
    """The secrets of a text without invisible characters; of those that overlap the clearest gives the name."""
    found = list(_key_blocks(text, open_key)) if open_key or _KEY_WORD.search(text) else []
    found += _tokens(text, syntax in _CODE)
    found.sort(key=lambda secret: (secret.start, -secret.end))
    out: list[Secret] = []
    for secret in found:
        if not out or secret.start >= out[-1].end:
            out.append(secret)
        elif secret.end > out[-1].end:
            last = out.pop()
            named = max(last, secret, key=lambda one: (one.kind not in _ASSIGNED, one.end - one.start))
            out.append(Secret(last.start, secret.end, named.kind))
    return out


_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_MARKER = re.compile(r"\[secret: ([^\]\n]{1,60})\]")
_INVISIBLE_SET = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e007f"
_INVISIBLE = re.compile(f"[{_INVISIBLE_SET}]")
_VISIBLE = re.compile(f"[^{_INVISIBLE_SET}]+")
_CODE = frozenset(("python", "javascript", "typescript", "tsx", "go", "rust", "java", "c", "cpp"))
"""Syntaxes in which a value without quotes is an expression, not a literal."""


# Key blocks ---------------------------------------------------------------------------------------------------------
# From BEGIN to END as a whole, however long; without END as far as the lines are key text. Line by line, because keys
# are quoted in mails, in string literals, in tables and in comments.

KEY = "private key"
_KEY_WORD = re.compile(r"PRIVATE KEY|Private-Lines:")
_KEY_MARK = re.compile(r"-{4,5} ?(?:BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_PUTTY = re.compile(r"Private-Lines: *\d+[ \t]*\r?\n([A-Za-z0-9+/=\r\n]+(?:Private-MAC: *[0-9a-f]+)?)")
_DECORATION = " \t\r\n>#*|\"'`,;+\\()[]{}:!/-"
_KEY_HEADER = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash|MessageID|Subject|x-\w+): ")
_KEY_LINE = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
_LAST_LINE = re.compile(r"[A-Za-z0-9+/]*={0,2}|=[A-Za-z0-9+/]{4}")
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=]{40,}")


def _key_blocks(text: str, open_key: bool) -> Iterator[Secret]:
    """The key blocks of a text; ``open_key`` says that one began before it."""
    lines = [(match.start(), match.end(), match[0]) for match in _KEY_MARK.finditer(text)]
    begins = [start for start, _, line in lines if "BEGIN" in line]
    limits = [*begins, len(text)]
    at = 0
    if open_key:
        end = _end_of_key(text, 0, limits[0])
        if end:
            yield Secret(len(text) - len(text.lstrip()), end, KEY)
            at = end
    for start, end, line in lines:
        if start < at:
            continue
        if "BEGIN" in line:
            at = max(_end_of_key(text, end, limits[bisect_right(begins, start)]), end)
            yield Secret(start, at, KEY)
        else:
            first = _start_of_key(text, at, start)
            if first < start:
                yield Secret(first, end, KEY)
            at = end
    for match in _PUTTY.finditer(text):
        yield Secret(match.start(1), match.start(1) + len(match[1].rstrip()), KEY)


def _end_of_key(text: str, start: int, limit: int) -> int:
    """Where key text from ``start`` ends: after its END line, else after its last line before ``limit``, else 0."""
    last, at, headers = 0, start, True
    while at < limit:
        stop = text.find("\n", at, limit)
        stop = limit if stop < 0 else stop
        end_line = _END.search(text, at, stop)
        line = text[at : end_line.start() if end_line else stop]
        bare = line.replace("\\r", "").replace("\\n", " ").strip(_DECORATION)
        if end_line is not None:
            return end_line.end() if _is_key_text(bare, last=True) else last
        if bare and not (headers and _KEY_HEADER.match(bare)):
            if not _is_key_text(bare, last=False) and not _ends_in_next_line(text, stop, bare):
                return last
            headers = False
        if bare:
            last = at + len(line.rstrip())
        at = stop + 1
    return last


def _is_key_text(bare: str, *, last: bool) -> bool:
    """Whether a line without its decoration is part of a key: base64 in one piece or several, or a long run of it."""
    if not bare:
        return True
    parts = bare.split()
    if all(_KEY_LINE.fullmatch(part) for part in parts[:-1]):
        final = parts[-1]
        if _KEY_LINE.fullmatch(final) or ((last or len(parts) > 1) and _LAST_LINE.fullmatch(final)):
            return True
    return any(_is_mixed(match[0]) for match in _LONG_RUN.finditer(bare))


def _is_mixed(run: str) -> bool:
    return any(c.isdigit() for c in run) and any(c.isupper() for c in run) and any(c.islower() for c in run)


def _ends_in_next_line(text: str, stop: int, bare: str) -> bool:
    """Whether a short line is the last of a key: the line after it, or the one after a checksum, is its END line."""
    if not _LAST_LINE.fullmatch(bare):
        return False
    following = text[stop + 1 : stop + 200].split("\n")[:3]
    for line in following:
        if _END.search(line):
            return True
        if line.strip(_DECORATION) and not _LAST_LINE.fullmatch(line.strip(_DECORATION)):
            return False
    return False


def _start_of_key(text: str, low: int, end: int) -> int:
    """Where the key text before an END line begins that has no BEGIN line; ``end`` when there is none."""
    first, at, strong = end, end, False
    while at > low:
        start = max(low, text.rfind("\n", low, at - 1 if at > low else at) + 1)
        bare = text[start:at].replace("\\n", " ").strip(_DECORATION)
        whole = bool(_KEY_LINE.fullmatch(bare)) and (len(bare) >= 32 or _is_mixed(bare))
        if not whole and (strong or not (not bare or _LAST_LINE.fullmatch(bare))):
            break
        strong = strong or whole
        if whole:
            first = start
        if start == low:
            break
        at = start
    return first


# Tokens -------------------------------------------------------------------------------------------------------------
# A rule is a line of ``_RULES``. First one pass of a set automaton of RE2 asks which keywords occur; only the rules
# of those are searched for. Both take time linear in the text.

Check = Callable[[str], bool]
"""Whether a value that has the form of a rule is a secret, not a placeholder or a name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One form of a secret.

    Attributes:
        kind: Its name for people, as the marker shows it.
        keywords: RE2, without letter case, short: one of them matches in every text that holds it.
        pattern: RE2; its groups, where it has some, are the alternatives of what is blanked.
        check: Asked about what is blanked; None accepts all.
        literal_only: In source code a match that is not in quotes is an expression.
    """

    kind: str
    keywords: tuple[str, ...]
    pattern: str
    check: Check | None = None
    literal_only: bool = False


_PLACEHOLDER_WORDS = (
    "example", "changeme", "change-me", "change_me", "your", "placeholder", "redacted", "dummy", "xxxx", "****",
    "....", "…", "todo", "insert", "replace", "secret:", "mypass", "my-pass", "my_pass", "foobar", "hidden", "masked",
)  # fmt: skip
_PLACEHOLDERS = frozenset((
    "password", "passwd", "passwort", "kennwort", "pass", "pwd", "passphrase", "secret", "token", "apikey", "api_key",
    "api-key", "username", "undefined", "string", "bytes", "optional", "required", "default", "password1", "pass1",
))  # fmt: skip
_IDENTIFIER = re.compile(
    r"[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+|[A-Za-z]+(?:_[A-Za-z0-9]+)+|[A-Z0-9_]+_[A-Z0-9_]*"
)
_NO_LITERAL = re.compile(r"[<{(\[$%@&]|.*(?:\$\{|\{\{|\(\)|=>|%s|%\()|.*[({\[]|https?:|[./~]+/|/[a-z]")
_KEBAB = re.compile(r"[A-Za-z]+(?:[-_ .][A-Za-z]+)+")


def _is_filler(body: str) -> bool:
    """Whether a value only keeps a place: one or two characters again and again, or a word that says so."""
    low = body.lower()
    if len(set(low) - set("-_.=/+")) <= 1 and set(low) & set("x*0."):
        return True
    return low.endswith("...") or any(word in low for word in _PLACEHOLDER_WORDS) or low in _PLACEHOLDERS


def _entropy(value: str) -> float:
    """Bits a character of the value's own distribution."""
    size = len(value)
    return -sum(n / size * log2(n / size) for n in Counter(value).values())


def _is_token(value: str) -> bool:
    """A token of a known form, unless it is one that documentation uses."""
    body = value.rpartition("_")[2]
    return not (len(set(body) - set("-_.")) <= 1 and set(body) & set("xX*0.")) and "EXAMPLE" not in value


def _is_random(value: str) -> bool:
    """At least 16 characters, digits and letters, without the look of a name, a path or a call."""
    if not 16 <= len(value) <= 512 or _is_filler(value) or _NO_LITERAL.match(value) or _KEBAB.fullmatch(value):
        return False
    letters, digits = sum(c.isalpha() for c in value), sum(c.isdigit() for c in value)
    return letters >= 2 and digits >= 2 and " " not in value and len(set(value)) >= 8 and _entropy(value) >= 3.0


def _is_password(value: str) -> bool:
    """One word that is hardly prose: a digit or a sign beside letters, or three words joined by hyphens."""
    value = value.rstrip(".")
    if not 5 <= len(value) <= 128 or _is_filler(value) or _NO_LITERAL.match(value) or _IDENTIFIER.fullmatch(value):
        return False
    if " " in value:
        return False
    digit, letter = any(c.isdigit() for c in value), any(c.isalpha() for c in value)
    sign = any(c in "!@#$%^&*?+~=" for c in value[:-1]) or value[-1:] in "@#$%^&*+~!"
    if not letter:
        return value.isdigit() and 6 <= len(value) <= 16
    return digit or sign or value.count("-") >= 2


def _is_quoted_password(value: str) -> bool:
    """As ``_is_password``, or letters only in both cases: nobody puts an expression in quotes."""
    return _is_password(value) or (
        8 <= len(value) <= 64 and value.isalpha() and _is_camel(value) and not _is_filler(value)
    )


def _is_camel(value: str) -> bool:
    """Whether capitals stand where no identifier has them: three changes of case or more to the letter."""
    changes = sum(a.islower() != b.islower() for a, b in pairwise(value))
    return changes * 3 >= len(value)


def _is_url_password(value: str) -> bool:
    """The password of an address: anything but a placeholder, a variable or a port."""
    if _is_filler(value) or _NO_LITERAL.match(value) or len(value) < 3 or (value.isdigit() and len(value) < 6):
        return False
    return len(value) <= 256 and not (value.isupper() and _IDENTIFIER.fullmatch(value))


def _is_hex_key(value: str) -> bool:
    return len(set(value)) >= 8


_FULL_WORDS = r"password|passphrase|passcode|passwort|kennwort|contrase[^\s:=]{1,2}a|mot de passe"
_PASSWORDS = rf"(?:{_FULL_WORDS}|passwd|pwd|(?:\b|_)pass|(?:\b|_)pw)"
_KEY_NAMES = (
    r"(?:secret|token|api[_. -]?key|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?key|signing[_-]?key|"
    r"encryption[_-]?key|account[_-]?key|master[_-]?key|license[_-]?key|credentials?|auth)"
)
_ASSIGN = r"""["'`\]]{0,2}[ \t]*(?::=|=>|==?|:)[ \t]*(?:[bru]{1,2})?"""
_VALUE = r"""(?:\\?"([^"\n\\]+)|'([^'\n\\]+)|`([^`\n]+)`|([^\s"'`,;<>|]+))"""

_BETWEEN = "(?:\t|\\||—|–| - )"
"""What stands between a name and its value in tables and notes."""

_RULES = (
    Rule("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{36,}", _is_token),
    Rule("GitHub token", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{40,}", _is_token),
    Rule("GitLab token", ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-"),
         r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_-]{20,}", _is_token),
    Rule("Hugging Face token", ("hf_", "api_org_"), r"\b(?:hf|api_org)_[A-Za-z0-9]{34,}", _is_token),
    Rule("npm token", ("npm_",), r"\bnpm_[A-Za-z0-9]{36,}", _is_token),
    Rule("PyPI token", ("pypi-ag",), r"\bpypi-Ag[A-Za-z0-9_-]{50,}", _is_token),
    Rule("RubyGems key", ("rubygems_",), r"\brubygems_[0-9a-f]{48,}"),
    Rule("Docker Hub token", ("dckr_pat_", "dckr_oat_"), r"\bdckr_[po]at_[A-Za-z0-9_-]{20,}", _is_token),
    Rule("SendGrid key", (r"sg\.",), r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,}", _is_token),
    Rule("Slack token", ("xoxa-", "xoxb-", "xoxe", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-", "xoxc-", "xoxd-"),
         r"\b(?:xox[a-eoprs]|xoxe\.xox[bp]|xapp)-[A-Za-z0-9%-]{10,}", _is_token),
    Rule("Slack webhook", ("hooks.slack.com/",),
         r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9_/+-]{20,})", _is_token),
    Rule("AWS key id", ("akia", "asia", "abia", "acca"), r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b", _is_token),
    Rule("AWS secret key", (r"secret[_. -]?(?:access)?[_. -]?key",),
         r"(?i)(?:aws|s3|amazon)?[_. -]?secret[_. -]?(?:access)?[_. -]?key[^A-Za-z0-9\n]{1,16}([A-Za-z0-9/+]{40})\b",
         _is_token),
    Rule("AWS session token", (r"(?:session|security)[_. -]?token",),
         r"(?i)(?:aws)?[_. -]?(?:session|security)[_. -]?token[^A-Za-z0-9\n]{1,16}([A-Za-z0-9/+=]{100,})"),
    Rule("Azure key", ("accountkey=", "sharedaccesskey=", "sharedaccesssignature=", "primarykey="),
         r"(?i)(?:Account|SharedAccess|Primary)Key=([A-Za-z0-9+/]{40,}={0,2})"),
    Rule("Azure shared access signature", ("sig=",), r"[?&;]sig=([A-Za-z0-9%+/_-]{40,}(?:%3D|=){0,2})"),
    Rule("Azure client secret", ("q~",), r"\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,}"),
    Rule("Azure DevOps token", ("azdo",), r"\b[A-Za-z0-9]{70,84}AZDO[A-Za-z0-9]{4}\b"),
    Rule("Google API key", ("aiza",), r"\bAIza[0-9A-Za-z_-]{35,}", _is_token),
    Rule("Google client secret", ("gocspx-",), r"\bGOCSPX-[A-Za-z0-9_-]{20,}", _is_token),
    Rule("Google access token", (r"ya29\.",), r"\bya29\.[A-Za-z0-9_-]{20,}", _is_token),
    Rule("Google refresh token", ("1//0",), r"\b1//0[A-Za-z0-9_-]{40,}"),
    Rule("service account key", ("private_key_id",), r'"?private_key_id"?\s*[:=]\s*"?([0-9a-f]{40})\b'),
    Rule("Anthropic key", ("sk-ant-",), r"\bsk-ant-[A-Za-z0-9_-]{32,}", _is_token),
    Rule("OpenAI key", ("sk-proj-", "sk-svcacct-", "sk-admin-", "sk-none-"),
         r"\bsk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{32,}", _is_token),
    Rule("OpenAI key", ("sk-",), r"\bsk-(?:or-v1-|lf-)?[A-Za-z0-9]{32,}", _is_token),
    Rule("Stripe key", ("k_live_", "k_test_"), r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}", _is_token),
    Rule("webhook secret", ("whsec_",), r"\bwhsec_[A-Za-z0-9+/=]{24,}", _is_token),
    Rule("Twilio key", (r"(?-i:\bSK[0-9a-f]{8})",), r"\bSK[0-9a-f]{32}\b", _is_hex_key),
    Rule("Twilio token", ("twilio",), r"(?i)twilio[^\n]{0,60}?\b([0-9a-f]{32})\b", _is_hex_key),
    Rule("Telegram bot token", (":aa",), r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}\b"),
    Rule("Discord bot token", (r"(?-i:\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.)",),
         r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    Rule("Discord webhook", ("/api/webhooks/",),
         r"discord(?:app)?\.com/api/webhooks/[0-9]{15,20}/([A-Za-z0-9_-]{60,})"),
    Rule("Teams webhook", ("webhook.office.com/",), r"webhook\.office\.com/webhookb2/([A-Za-z0-9@/-]{60,})"),
    Rule("DigitalOcean token", ("_v1_",), r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    Rule("Cloudflare key", ("cloudflare", "cf_api", "cf-api", "x-auth-key"),
         r"(?i)(?:cloudflare|cf[_-]api|x-auth-key)[^\n]{0,60}?[=:\"' ]([A-Za-z0-9_-]{40}|[0-9a-f]{37})\b", _is_random),
    Rule("Cloudflare key", (r"v1\.0-",), r"\bv1\.0-[0-9a-f]{24}-[0-9a-f]{146}\b"),
    Rule("JSON web token", ("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{10,}"),
    Rule("age key", ("age-secret-key-1",), r"\bAGE-SECRET-KEY-1[0-9A-Z]{58,}"),
    Rule("age key", ("age-secret-key-1",), r"\bage-secret-key-1[0-9a-z]{58,}"),
    Rule("Shopify token", ("shpat_", "shpca_", "shppa_", "shpss_"), r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b"),
    Rule("Databricks token", ("dapi",), r"\bdapi[0-9a-f]{32}\b"),
    Rule("Mailgun key", ("key-",), r"\bkey-[0-9a-f]{32}\b", _is_hex_key),
    Rule("Mailchimp key", (r"[0-9a-f]{8}-us[0-9]",), r"\b[0-9a-f]{32}-us[0-9]{1,2}\b"),
    Rule("Square token", ("sq0", ), r"\bsq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,}"),
    Rule("Atlassian token", ("atatt3", "atctt3"), r"\bAT[AC]TT3[A-Za-z0-9_=-]{50,}"),
    Rule("Linear key", ("lin_api_",), r"\blin_api_[A-Za-z0-9]{32,}", _is_token),
    Rule("Notion token", ("ntn_", "secret_"), r"\b(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43})\b", _is_token),
    Rule("New Relic key", ("nrak-",), r"\bNRAK-[A-Z0-9]{27}\b"),
    Rule("Grafana token", ("glsa_", "glc_"), r"\b(?:glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}|glc_[A-Za-z0-9+/=]{40,})"),
    Rule("Vault token", (r"hvs\.", r"hvb\.", r"hvr\."), r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    Rule("Terraform token", (r"\.atlasv1\.",), r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{50,}"),
    Rule("Postman key", ("pmak-",), r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b"),
    Rule("Airtable token", (r"(?-i:\bpat[A-Za-z0-9]{14}\.)",), r"\bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b"),
    Rule("Figma token", ("figd_",), r"\bfigd_[A-Za-z0-9_-]{36,}", _is_token),
    Rule("Sentry token", ("sntry",), r"\bsntry[su]_[A-Za-z0-9+/=_-]{40,}"),
    Rule("Replicate token", ("r8_",), r"\br8_[A-Za-z0-9]{37}\b", _is_token),
    Rule("Groq key", ("gsk_",), r"\bgsk_[A-Za-z0-9]{48,}", _is_token),
    Rule("xAI key", ("xai-",), r"\bxai-[A-Za-z0-9]{70,}", _is_token),
    Rule("Perplexity key", ("pplx-",), r"\bpplx-[A-Za-z0-9]{40,}", _is_token),
    Rule("Supabase key", ("sbp_", "sb_secret_"), r"\b(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,})", _is_token),
    Rule("Pulumi token", ("pul-",), r"\bpul-[a-f0-9]{40}\b"),
    Rule("Tailscale key", ("tskey-",), r"\btskey-[a-z]+-[A-Za-z0-9]{8,}-[A-Za-z0-9]{16,}"),
    Rule("Dropbox token", (r"\bsl\.[A-Za-z0-9_-]{20}",), r"\bsl\.(?:u\.)?[A-Za-z0-9_-]{130,}"),
    Rule("Facebook token", (r"(?-i:EAA[A-Za-z0-9]{20})",), r"""[\s"'=:](EAA[A-Za-z0-9]{100,400})(?:[\s"'&]|$)"""),
    Rule(KEY, ('"kty"',), r'"(?:d|k|p|q|dp|dq|qi)"\s*:\s*"([A-Za-z0-9_-]{22,})"'),
    Rule(KEY, ("privatekey", "presharedkey"), r"\b(?:PrivateKey|PresharedKey)\s*=\s*([A-Za-z0-9+/]{43}=)"),
    Rule("password in an address", ("://",),
         r"""\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"'<>`\\]*:([^\s/@"'<>`\\]+)@[^\s@"'<>`]""", _is_url_password),
    Rule("authorization header", ("authorization", r"\bbearer "),
         r"(?i)\b(?:authorization\W{1,4}(?:bearer|basic|token)|bearer) +([A-Za-z0-9+/=._~-]{16,})", _is_random),
    Rule("password", (rf"{_PASSWORDS}{_ASSIGN}",),
         rf"(?i)\b[\w.-]*{_PASSWORDS}{_ASSIGN}(?:\\?\"([^\"\n\\]+)|'([^'\n\\]+)|`([^`\n]+)`)", _is_quoted_password),
    Rule("password", (rf"{_PASSWORDS}{_ASSIGN}",),
         rf"(?i)\b[\w.-]*{_PASSWORDS}{_ASSIGN}([^\s\"'`,;<>|]+)", _is_password, literal_only=True),
    Rule("password", (rf"(?:{_FULL_WORDS})[ *`]*{_BETWEEN}",),
         rf"(?i)\b(?:{_FULL_WORDS})[ *`]*{_BETWEEN}[ *`]*([^\s\"'`,;<>|]+)", _is_password, literal_only=True),
    Rule("password", ("sshpass", "requirepass"),
         r"\b(?:sshpass +-p *|requirepass +)[\"']?([^\s\"']+)", _is_url_password),
    Rule("password", (r"\bcurl\b",),
         r"\bcurl\b[^\n]*? (?:-u|--user)[ =]*[\"']?[^\s:\"']+:([^\s\"']+)", _is_url_password),
    Rule("password", (r"\bmachine ",),
         r"\bmachine\s+[^\s]+\s+login\s+[^\s]+\s+password\s+([^\s]+)", _is_url_password),
    Rule("password", (r"value=[\"']",),
         r"""(?i)(?:key|name|id)=["'][\w.:-]*(?:password|passwd|pwd|secret|token|api[_-]?key)["']\s+value=["']([^"'\n]+)""",
         _is_password),
    Rule("password", (rf"\b(?:{_FULL_WORDS})\b[^.:=\n]*? (?:is|ist|lautet|est|es) ",),
         rf"(?i)\b(?:{_FULL_WORDS})\b[^.:=\n]{{0,40}}? (?:is|ist|lautet|est|es) [\"'`]?([^\s\"'`,;<>|]+)",
         _is_password, literal_only=True),
    Rule("password", (r";\s*(?:password|pwd)\s*=",),
         r"(?i);\s*(?:password|pwd)\s*=\s*([^;\"'\s]+)", _is_password),
    Rule("password", (r"<[\w:]*(?:password|passwd|passphrase)",),
         r"(?i)<[\w:]*(?:password|passwd|passphrase)[^<>]{0,80}>([^<\s]+)</", _is_password),
    Rule("password", ("--pass", "--token", "--api-key"),
         r"(?i)\s--(?:password|passwd|passphrase|token|api-key)(?:=| +)[\"']?([^\s\"'`;|]+)", _is_password),
    Rule("key", (rf"{_KEY_NAMES}{_ASSIGN}",),
         rf"(?i)\b[\w.-]*{_KEY_NAMES}{_ASSIGN}(?:\\?\"([^\"\n\\]+)|'([^'\n\\]+)|`([^`\n]+)`)", _is_random),
    Rule("key", (rf"{_KEY_NAMES}{_ASSIGN}",),
         rf"(?i)\b[\w.-]*{_KEY_NAMES}{_ASSIGN}([^\s\"'`,;<>|]+)", _is_random, literal_only=True),
    Rule("key", (r"<[\w:]*(?:secret|token|api-?key)>",),
         r"(?i)<[\w:]*(?:secret|token|api-?key)>([^<\s]+)</", _is_random),
)  # fmt: skip

_LOOK_BACK = 500
"""Bytes before a match that say whether it is in a comment."""
_COMMENT = re.compile(rb"(?:^|\s)(?:#|//|\*|/\*)\s")
_ASSIGNED = ("password", "key")
"""Kinds that are known by the name before them; a public key is none."""
KINDS = frozenset((KEY, *(rule.kind for rule in _RULES)))
"""Every kind that a marker can name."""


def _re2() -> Any:
    import re2  # noqa: PLC0415  # 12 ms that a start without documents does not need

    return re2


def _options() -> Any:
    options = _re2().Options()
    options.log_errors = False
    return options


_EDGE = r"(?:\b|_|\\[nrt]|%[0-9A-Fa-f]{2}|=3D)"
"""Where a token can begin: at a word, and after an escaped character, whose last letter would be part of the word."""


def _edged(pattern: str) -> str:
    """A pattern that begins at a word and has no group, with a group and the wider edge."""
    if not pattern.startswith(r"\b") or re.search(r"(?<!\\)\((?!\?)", pattern):
        return pattern
    return f"{_EDGE}({pattern.removeprefix(chr(92) + 'b')})"


@lru_cache(maxsize=1)
def _compiled() -> tuple[Any, tuple[frozenset[int], ...], tuple[Any, ...]]:
    """The automaton of all keywords, the rules of each keyword, and the rules' patterns, for bytes in UTF-8."""
    options = _options()
    options.encoding = _re2().Options.Encoding.LATIN1
    options.case_sensitive = True
    patterns = tuple(_re2().compile(_edged(rule.pattern).encode(), options) for rule in _RULES)
    words: dict[str, set[int]] = {}
    for number, rule in enumerate(_RULES):
        for keyword in rule.keywords:
            words.setdefault(keyword, set()).add(number)
    options.case_sensitive = False
    options.max_mem = 64 << 20
    automaton = _re2().Set.SearchSet(options)
    for keyword in words:
        automaton.Add(keyword.encode())
    automaton.Compile()
    return automaton, tuple(frozenset(rules) for rules in words.values()), patterns


def _in_comment(data: bytes, at: int) -> bool:
    """Whether source code is a comment there, as far as its line tells, or the part of a long line before."""
    low = max(0, at - _LOOK_BACK)
    line = data[max(low, data.rfind(b"\n", low, at) + 1) : at]
    return any(sign in line for sign in (b"#", b"//", b"*")) and _COMMENT.search(line) is not None


def _tokens(text: str, is_code: bool) -> Iterator[Secret]:
    """What the rules find in a text."""
    data = text.encode("utf-8", "surrogatepass")
    automaton, rules_of, patterns = _compiled()
    wanted = frozenset().union(*(rules_of[word] for word in automaton.Match(data) or ()))
    one_byte = len(data) == len(text)
    for number in sorted(wanted):
        rule = _RULES[number]
        byte = character = 0
        for match in patterns[number].finditer(data):
            if is_code and rule.literal_only and not _in_comment(data, match.start()):
                continue
            group = next((n for n in range(1, match.re.groups + 1) if match.start(n) >= 0), 0)
            start, end = match.span(group)
            if rule.kind in _ASSIGNED and b"public" in match[0].lower():
                continue
            if rule.check is None or rule.check(data[start:end].decode("utf-8", "replace")):
                if not one_byte:
                    first = character + len(data[byte:start].decode("utf-8", "surrogatepass"))
                    byte, character = end, first + len(data[start:end].decode("utf-8", "surrogatepass"))
                    start, end = first, character
                yield Secret(start, end, rule.kind)
