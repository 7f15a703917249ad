"""Paths at the store's door: every path a file system can name becomes valid Unicode, and comes back the same."""

from __future__ import annotations

import hashlib
import os
import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile("\0([0-9a-f]{4})")


def escape(path: str) -> str:
    """Write each lone surrogate as NUL and four hex digits; no file system admits NUL, so this is reversible."""
    if path.isascii():
        return path
    return _SURROGATE.sub(lambda found: f"\0{ord(found[0]):04x}", path)


def unescape(path: str) -> str:
    """The path that ``escape`` was given."""
    if "\0" not in path:
        return path
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path)


def clean(text: str) -> str:
    """Text as it is stored: lone surrogates, which no index could hold, become U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def below(folder: str, path: str) -> str:
    """The path under its folder with forward slashes, as globs see it."""
    rest = path[len(folder) :] if path.startswith(folder) else path
    return rest.replace(os.sep, "/").lstrip("/")


def digest(*parts: str) -> str:
    """32 hex characters of the parts; unambiguous as long as only the middle one may hold NUL."""
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def fingerprint(path: str) -> int:
    """64 bits of a path, for memory-lean sets that may err towards "perhaps known"."""
    return int.from_bytes(hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
