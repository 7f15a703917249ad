"""Cutting text into raw terms and terms into search tokens: the part that is the same for document and query.

A raw term is a word, or words joined the way identifiers, versions and compounds are (``os.path.join``, ``1.2.3``,
``state-of-the-art``, ``std::vector``), or a run of a script written without spaces (Han, kana, Thai, ...).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import pairwise

MAX_TOKEN = 64
"""Longest token, in characters; longer ones are cut on both sides alike, so they still find each other."""
_MAX_PARTS = 24
_MAX_TERM = 512

# Scripts cut into bigrams: written without spaces, or (Hangul) with particles glued to the word.
_RUN = (
    "\u0e01-\u0e3e\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17d3\u17dc\u17dd"  # Myanmar, Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\uac00-\ud7a3"  # Hangul
)
_HAN = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_JOINT = r"(?:[.'’]|::|-(?:\r?\n[ \t]*)?|(?<=\d),(?=\d{3}(?!\d)))"
# Invisible inside words: joiners, soft hyphen, bidi controls, variation selectors, tags; tatweel and Arabic vowels.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u0640\u064b-\u0652\u0670\u180b-\u180e\u200c-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e01ef]+"
)
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_CAMEL = re.compile(r"_+|(?<=[a-zß-öø-ÿа-яё0-9])(?=[A-ZÀ-ÖØ-ÞА-ЯЁ])|(?<=[A-Z])(?=[A-Z][a-z])(?![A-Z]s(?![a-z]))")
_SPLIT = re.compile(r"[.'’:,\s-]+")
_MIXED = re.compile(r"\d+|[^\W\d]+")
_EXACT = re.compile(r"[._]|::")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_APOSTROPHE = re.compile(r"(?<=[a-zA-Z\u00c0-\u024f])['’]|['’](?=[a-zA-Z\u00c0-\u024f])")


def normal(text: str) -> str:
    """Fold compatibility forms and width (NFKC), drop invisible characters, make every digit ASCII."""
    if text.isascii():
        return text
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    text = _INVISIBLE.sub("", text)
    return _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0])), text)


def cut(text: str) -> list[str]:
    """Raw terms of a text that went through ``normal``, in order."""
    if text.isascii():
        return _ascii().findall(text)
    return (_marked() if _marks().search(text) else _plain()).findall(text)


def is_run(term: str) -> bool:
    """Whether a raw term is a run of a script that is cut into bigrams."""
    return term[0] >= "\u0e01" and _run().match(term) is not None


def bigrams(run: str, *, single: bool) -> list[str]:
    """Overlapping pairs of a run's characters; marks stay with their letter. A run of one is its own token.

    Args:
        run: A raw term for which ``is_run`` holds.
        single: Add every Han character alone (the document's side), so that a query of one character finds it.
    """
    units = _units().findall(run)
    if len(units) < 2:
        return units
    pairs = [first + second for first, second in pairwise(units)]
    return pairs + [unit for unit in units if _HAN.match(unit)] if single else pairs


def expand(term: str, word: Callable[[str], str]) -> list[str]:
    """Search tokens of a raw term: exact form, joined form and parts, each once; words go through ``word``.

    Args:
        term: A raw term that is no run.
        word: Turns a case-folded word into its token (a stem, or itself).
    """
    if term.isalpha() and (term[1:].islower() or not _CAMEL.search(term)):
        return [word(term.casefold())[:MAX_TOKEN]]
    term = term[:_MAX_TERM]
    if term[-1] in "+#":
        bare = term.rstrip("+#")
        return [term.casefold(), bare.casefold()] if len(bare) == 1 else expand(bare, word)
    versions = _versions(term)
    if _VERSION.fullmatch(term):
        return versions
    # Latin apostrophes part a word from what leans on it (l'eau, it's); others stand inside one (п'ять).
    pieces = [piece for piece in _APOSTROPHE.split(term) if len(piece) > 1 or piece.isdigit()] or [term]
    pieces = [piece.replace("'", "").replace("’", "") for piece in pieces]
    found = [token for piece in pieces for token in _compound(piece, word)]
    return list(dict.fromkeys(token[:MAX_TOKEN] for token in (*found, *versions) if token))


def _versions(term: str) -> list[str]:
    """Dotted numbers in a term and their leading parts: ``1.2.3`` is also found as ``1.2``."""
    found: list[str] = []
    for match in _VERSION.finditer(term):
        numbers = match[0].split(".")[:_MAX_PARTS]
        found.extend(".".join(numbers[:end])[:MAX_TOKEN] for end in range(len(numbers), 1, -1))
    return found


def _compound(term: str, word: Callable[[str], str]) -> list[str]:
    if term.isalpha() and not _CAMEL.search(term):
        return [word(term.casefold())]
    segments = _SPLIT.split(term)
    found = ["".join(term.casefold().split())] if _EXACT.search(term) and term.strip("_") else []
    if len(segments) > 1:
        joined = "".join(segments).casefold()
        if not _EXACT.search(term) or all(len(segment) == 1 for segment in segments):
            found.append(word(joined) if joined.isalpha() else joined)
    for segment in segments[:_MAX_PARTS]:
        parts = [part for part in _CAMEL.split(segment) if part][:_MAX_PARTS]
        if len(parts) > 1:
            whole = "".join(parts).casefold()
            found.extend((whole, word(whole)) if whole.isalpha() else (whole,))
        alone = len(segments) == 1 and len(parts) == 1
        for part in parts:
            if len(part) > 1 or part.isdigit() or alone:
                found.extend(_part(part.casefold(), word))
    return found


def _part(part: str, word: Callable[[str], str]) -> list[str]:
    pieces = _MIXED.findall(part) if any(letter.isdigit() for letter in part) else ()
    if len(pieces) < 2:
        return [word(part)]
    return [part, *(word(piece) for piece in pieces if len(piece) > 1)] if len(pieces) <= 3 else [part]


@cache
def _ascii() -> re.Pattern[str]:
    word = "[A-Za-z0-9_]+"
    return re.compile(rf"{word}(?:{_JOINT}{word})*(?:\+\+|#)?", re.ASCII)


@cache
def _plain() -> re.Pattern[str]:
    word = rf"[^\W{_RUN}]+"
    return re.compile(rf"{word}(?:{_JOINT}{word})*(?:\+\+|#)?|[{_RUN}]+")


@cache
def _marked() -> re.Pattern[str]:
    word = rf"(?:[^\W{_RUN}][{_mark_ranges()}]*)+"
    return re.compile(rf"{word}(?:{_JOINT}{word})*(?:\+\+|#)?|[{_RUN}][{_RUN}{_mark_ranges()}]*")


@cache
def _run() -> re.Pattern[str]:
    return re.compile(f"[{_RUN}]")


@cache
def _units() -> re.Pattern[str]:
    return re.compile(rf"[^{_mark_ranges()}][{_mark_ranges()}]*|[{_mark_ranges()}]+")


@cache
def _marks() -> re.Pattern[str]:
    return re.compile(f"[{_mark_ranges()}]")


@cache
def _mark_ranges() -> str:
    """Every combining mark, as ranges of a character class (``re`` does not count them as parts of a word)."""
    ranges: list[list[int]] = []
    for code in range(0x300, min(0x1F000, sys.maxunicode)):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
