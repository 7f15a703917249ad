"""Mail: one unit per message part of an ``.eml``, one unit per message of an mbox, with the headers people search."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage

from indexer.documents.encoding import decode
from indexer.documents.markup import read_html
from indexer.errors import ParseFailed
from indexer.types import Document, Unit

PARSER = "mail/1"
_HEADERS = ("Subject", "From", "To", "Cc", "Date")
_WORD = re.compile(r"\w+")
_FROM = re.compile(rb"^From [^\r\n]*\r?\n(?=[!-9;-~]+:)", re.MULTILINE)


def read_mail(data: bytes, suffix: str, max_chars: int) -> Document:
    """Messages as text; attachments are named, text attachments are parts of their own.

    Raises:
        ParseFailed: It is not a message, or nested too deeply.
    """
    try:
        if suffix in ("mbox", "mbx") or data.startswith(b"From "):
            return _mailbox(data, max_chars)
        return _message(_envelope(data, suffix), max_chars)
    except RecursionError:
        raise ParseFailed("the message is nested too deeply to be read") from None


def _envelope(data: bytes, suffix: str) -> bytes:
    """The message in an .emlx of Apple, which has its length on a line before it and a property list after it."""
    if suffix != "emlx":
        return data
    length, _, rest = data.partition(b"\n")
    return rest[: int(length)] if length.strip().isdigit() else data


def _message(data: bytes, max_chars: int) -> Document:
    message = _parsed(data)
    parts = _parts(message, max_chars)
    head = _header_lines(message)
    subject = _header(message, "Subject")
    if not head and not message.keys():
        raise ParseFailed("not a mail message: it has no headers")
    first, rest = (parts[0], parts[1:]) if parts else ("", [])
    texts = [f"{head}\n\n{first}".strip("\n"), *rest]
    units = tuple(Unit("part", str(n), text, subject) for n, text in enumerate(texts, 1) if text.strip())
    return Document(units, "text", PARSER, subject)


def _mailbox(data: bytes, max_chars: int) -> Document:
    """Messages of an mbox, which begin with a ``From `` line that a header follows."""
    starts = [match.end() for match in _FROM.finditer(data)]
    ends = [*[match.start() for match in _FROM.finditer(data)][1:], len(data)]
    units = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        message = _parsed(data[start:end])
        text = "\n\n".join([_header_lines(message), *_parts(message, max_chars)]).strip("\n")
        if text.strip():
            units.append(Unit("part", str(number), text, _header(message, "Subject")))
    if not units and data.strip():
        raise ParseFailed("not a mailbox: no message begins with a From line")
    return Document(tuple(units), "text", PARSER)


def _parsed(data: bytes) -> EmailMessage:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _header_lines(message: EmailMessage) -> str:
    values = ((name, _header(message, name)) for name in _HEADERS)
    return "\n".join(f"{name}: {value}" for name, value in values if value)


def _header(message: EmailMessage, name: str) -> str:
    """One header in one line; a malformed one (the parser raises many exceptions) counts as absent."""
    try:
        return " ".join(str(message.get(name, "")).split())[:500]
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):
        return ""


def _parts(message: EmailMessage, max_chars: int) -> list[str]:
    """The body (plain text preferred to the same in HTML), then each attachment: its text, or its name alone."""
    texts: list[str] = []
    attached: list[str] = []
    alternatives = _html_alternatives(message)
    for part in message.walk():
        if part.is_multipart():
            continue
        name = part.get_filename()
        text = _text(part, max_chars) if part.get_content_maintype() == "text" else ""
        if name:
            attached.append(f"Attachment: {name}\n{text}".strip())
        elif text.strip() and not (id(part) in alternatives and _adds_little("\n".join(texts), text)):
            texts.append(text)
    return (["\n\n".join(texts)] if texts else [""] if attached else []) + attached


def _html_alternatives(message: EmailMessage) -> set[int]:
    """Ids of the HTML parts of multipart/alternative that also has plain text."""
    alternatives = set[int]()
    for part in message.walk():
        if part.get_content_type() == "multipart/alternative":
            inner = list(part.iter_parts())
            plain = [p for p in inner if p.get_content_type() == "text/plain" and p.get_payload()]
            alternatives |= {id(p) for p in inner if plain and p.get_content_type() == "text/html"}
    return alternatives


def _adds_little(plain: str, other: str) -> bool:
    """Whether less than a third of a text's words are new: some mails have the message in HTML only."""
    known, words = set(_WORD.findall(plain.casefold())), set(_WORD.findall(other.casefold()))
    return len(words - known) * 3 < max(1, len(words))


def _text(part: EmailMessage, max_chars: int) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    if part.get_content_type() == "text/html":
        document = read_html(_as_utf8(data, part.get_content_charset()), max_chars)
        return "\n\n".join(unit.text for unit in document.units)
    return _decoded(data, part.get_content_charset()).replace("\r\n", "\n").strip("\n")


def _decoded(data: bytes, charset: str | None) -> str:
    """Text of a part by its declared character set, else by ``encoding.decode``."""
    try:
        return data.decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return decode(data)


def _as_utf8(data: bytes, charset: str | None) -> bytes:
    """An HTML part as UTF-8: the character set of the mail header takes precedence over that of the page."""
    return _decoded(data, charset).encode("utf-8", "replace") if charset else data
