"""What the keyword index sees of a text, and what a query asks it for.

Both sides go through the same cutting (``text.terms``); the index itself does nothing but split at spaces. A
document's words are stemmed in the document's language, so each word is one token and BM25's lengths and
frequencies stay true. A query asks for each word as it stands and as the stem of every language it may be in:
several languages live in one index, and a query is too short to be sure. Stop words stay: BM25 weighs them down,
and a query made of them alone still finds. The figures behind each choice are in ``docs/search.md``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from indexer.text import terms
from indexer.text.language import detect, script_of
from indexer.text.stemming import by_script, stemmer

MAX_QUERY_TOKENS = 1024
_DEFAULTS = {"LATIN": "en", "CYRILLIC": "ru", "ARABIC": "ar", "DEVANAGARI": "hi", "GREEK": "el", "ARMENIAN": "hy",
             "TAMIL": "ta"}  # fmt: skip
_SCRIPTS = {"uk": "CYRILLIC", "bg": "CYRILLIC", "sr": "CYRILLIC", "ru": "CYRILLIC", "ar": "ARABIC", "fa": "ARABIC",
            "ur": "ARABIC", "hi": "DEVANAGARI", "mr": "DEVANAGARI", "ne": "DEVANAGARI", "yi": "HEBREW",
            "he": "HEBREW", "el": "GREEK", "hy": "ARMENIAN", "ta": "TAMIL"}  # fmt: skip
_QUOTED = re.compile(
    r'"([^"\n]{2,200})"|“([^”\n]{2,200})”|„([^“”\n]{2,200})[“”]|«([^»\n]{2,200})»|「([^」\n]{1,200})」'
)
_KEPT_MARKS = "\u0306"  # the breve of й and ў, which are letters, not accents


def tokens(text: str, heading: str = "", name: str = "", language: str | None = None) -> str:
    """Search tokens of a chunk, separated by single spaces; they go verbatim into the full-text column.

    Args:
        text: The chunk's text.
        heading: Its heading path; its words count once more.
        name: File name, or path below the folder's root; its words count once.
        language: ISO 639-1 code of the document; None to detect it from this text, empty for unknown.
    """
    language = detect(text) if language is None else language
    lookup = _lookup(language)
    found: list[str] = []
    for source in (text, heading, name):
        if source:
            _collect(terms.normal(source), lookup, found)
    return " ".join(found)


def query_tokens(text: str) -> list[str]:
    """Tokens that a query asks for, each once, in the query's order; any of them may match (OR).

    Every word is there as it stands and as the stem of the query's language and of its script's usual one; of all
    languages of the script when the query's own does not show.
    """
    text = terms.normal(text)
    language = detect(text)
    found: dict[str, None] = {}
    for term in terms.cut(text):
        if terms.is_run(term):
            found.update(dict.fromkeys(terms.bigrams(term, single=False)))
            continue
        for candidate in ("", *_candidates(script_of(_first_letter(term)), language)):
            found.update(dict.fromkeys(_lookup(candidate or "-")(term).split()))
    return list(found)[:MAX_QUERY_TOKENS]


def phrases(text: str) -> list[str]:
    """Quoted parts of a query, in order: what must stand in a hit word for word (see ``has_phrase``)."""
    found = [next(group for group in match.groups() if group) for match in _QUOTED.finditer(text)]
    return [phrase.strip() for phrase in found if phrase.strip()]


def has_phrase(text: str, phrase: str) -> bool:
    """Whether ``phrase`` stands in ``text``, whatever the case, the width and the white space between its words."""
    return plain(phrase) in plain(text)


def plain(text: str) -> str:
    """``text`` for comparing: normal form, case folded, every run of white space one space."""
    return " ".join(terms.normal(text).casefold().split())


def _collect(text: str, lookup: Callable[[str], str], found: list[str]) -> None:
    for term in terms.cut(text):
        if terms.is_run(term):
            found.extend(terms.bigrams(term, single=True))
        elif token := lookup(term):
            found.append(token)


@lru_cache(maxsize=64)
def _lookup(language: str) -> Callable[[str], str]:
    """Return the cached function from a raw term to its tokens, space separated, in a document of ``language``.

    ``-`` stands for no stemming at all.
    """

    @lru_cache(maxsize=1 << 16)
    def expand(term: str) -> str:
        own = _SCRIPTS.get(language, "LATIN") if language else ""

        def word(folded: str) -> str:
            if language == "-":
                return _bare(folded)
            script = script_of(_first_letter(folded))
            return _bare(stemmer(language if script == own else _DEFAULTS.get(script, ""))(folded))

        return " ".join(terms.expand(term, word))

    return expand


def _candidates(script: str, language: str) -> tuple[str, ...]:
    """Languages whose stems a query's word may have in the index."""
    default = _DEFAULTS.get(script, "")
    if not language:
        return by_script(script)
    if _SCRIPTS.get(language, "LATIN") != script:
        return (default,) if default else ()
    return tuple(dict.fromkeys((language, default)))


def _first_letter(term: str) -> str:
    return next((letter for letter in term if letter.isalpha()), "0")


def _bare(word: str) -> str:
    """Strip accents from Latin, Greek and Cyrillic letters: people leave them out. Other scripts keep their marks."""
    if word.isascii() or word[0] > "\u052f":
        return word
    apart = unicodedata.normalize("NFD", word.replace("ı", "i").replace("ø", "o").replace("ł", "l").replace("đ", "d"))
    kept = "".join(mark for mark in apart if mark in _KEPT_MARKS or unicodedata.category(mark) != "Mn")
    return unicodedata.normalize("NFC", kept)
