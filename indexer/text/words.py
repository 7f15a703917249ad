"""What the keyword index sees of a text, and what a query asks it for.

Both sides go through the same cutting (``text.terms``); the index itself does nothing but split at spaces. A
document gives each word twice: as it stands, and as its stem in the document's language, marked with a tilde so
that the stem of one word is never taken for another word (``us`` and ``us~``, the stem of ``use``). A query asks
for both; the stem weighs twice the word, and what has no stem (numbers, identifiers, bigrams) as much as the two
together. A language taken wrongly thus costs the stem, never the word. A language without a stemmer takes the stems
of its script's usual one: relatives share endings, and whether a short query is told from its relatives decides
nothing. Weight is repetition: the index adds up a
token's score as often as the query holds it. Function words of the query's language are left out of a query that
has other words. The figures behind each choice are in ``docs/search.md``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

from indexer.text import terms
from indexer.text.language import detect, function_words, script_of, script_of_language
from indexer.text.stemming import ALGORITHMS, by_script, stemmer

WORDS = "words/4"
"""Stamp of the rules below: chunks whose tokens were made by others are read again."""
STEM = "~"
"""Ends every stem."""
MAX_QUERY_TOKENS = 1024
_WORD_WEIGHT, _STEM_WEIGHT = 1, 2
_DEFAULTS = {"LATIN": "en", "CYRILLIC": "ru", "ARABIC": "ar", "DEVANAGARI": "hi", "GREEK": "el", "ARMENIAN": "hy",
             "TAMIL": "ta"}  # fmt: skip
_QUOTED = re.compile(
    r'"([^"\n]{2,200})"|“([^”\n]{2,200})”|„([^“”\n]{2,200})[“”]|«([^»\n]{2,200})»|「([^」\n]{1,200})」'
)
_KEPT_MARKS = "\u0306"  # the breve of й and ў, which are letters, not accents


def tokens(
    text: str, heading: str = "", name: str = "", language: str | None = None, around: Sequence[str] = ()
) -> str:
    """Search tokens of a chunk, separated by single spaces; they go verbatim into the full-text column.

    Args:
        text: The chunk's text.
        heading: Its heading path; its words count once more.
        name: File name, or path below the folder's root; its words count once.
        language: ISO 639-1 code of the document; None to detect it from this text, empty for unknown.
        around: What else of its paragraph is to find it (``text.paragraph``): its own words then count twice, so that
            of all pieces the one that holds them goes first.
    """
    language = detect(text) if language is None else language
    # Each piece of a paragraph surrounds the others: cut once.
    body = (_brief(text, language),) * 2 + tuple(_brief(t, language) for t in around) if around else ()
    # A heading stands above many chunks and a file's name above all: their words are cut once.
    parts = (*(body or (_joined(text, language),)), _brief(heading, language), _brief(name, language))
    return " ".join(filter(None, parts))


def query_tokens(text: str) -> list[str]:
    """Tokens that a query asks for, each once, in the query's order; any of them may match (OR)."""
    return list(_asked(text))


def weighted_tokens(text: str) -> list[str]:
    """``query_tokens`` with each token repeated as often as it weighs: what to hand to the keyword index."""
    return [token for token, weight in _asked(text).items() for _ in range(weight)]


def _asked(text: str) -> dict[str, int]:
    """Tokens of a query with their weights.

    Stems are those of the query's language and of its script's usual one; when the query's language does not show,
    those of every language of its script. Function words go as long as anything else is left.
    """
    text = terms.normal(text)
    language = detect(text)
    small = function_words(language)
    raw = terms.cut(text)
    found: dict[str, int] = {}
    for term in [term for term in raw if term.casefold() not in small] or raw:
        if terms.is_run(term):
            found.update(dict.fromkeys(terms.bigrams(term, single=False), _WORD_WEIGHT + _STEM_WEIGHT))
            continue
        for candidate in _candidates(script_of(_first_letter(term)), language):
            expanded, stemmed = _expanded(term, candidate)
            for token in expanded:
                weight = _WORD_WEIGHT if token in stemmed else _WORD_WEIGHT + _STEM_WEIGHT
                found[token] = min(weight, found.get(token, weight))
            found.update(dict.fromkeys(stemmed.values(), _STEM_WEIGHT))
        if len(found) > MAX_QUERY_TOKENS:
            break
    return dict(list(found.items())[:MAX_QUERY_TOKENS])


def matches(text: str, wanted: Collection[str], language: str) -> list[str]:
    """Tokens of ``text``, in order, that a query with the tokens ``wanted`` finds.

    Args:
        text: Part of a document.
        wanted: What the query asks for, as ``query_tokens`` gives it.
        language: ISO 639-1 code of the document, or empty.
    """
    found: list[str] = []
    for term in terms.cut(terms.normal(text)):
        given = terms.bigrams(term, single=True) if terms.is_run(term) else _lookup(language)(term).split()
        found.extend(token for token in given if token in wanted)
    return found


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


def _joined(text: str, language: str) -> str:
    """Search tokens of a document's text."""
    text = terms.normal(text)
    lookup = _lookup(language)
    if text.isascii():  # no run of a script without spaces
        return " ".join(filter(None, map(lookup, terms.cut(text))))
    found: list[str] = []
    for term in terms.cut(text):
        if terms.is_run(term):
            found.extend(terms.bigrams(term, single=True))
        elif token := lookup(term):
            found.append(token)
    return " ".join(found)


@lru_cache(maxsize=1024)
def _brief(text: str, language: str) -> str:
    """``_joined`` of a heading, a name or a short piece, remembered."""
    return _joined(text, language) if text else ""


@lru_cache(maxsize=64)
def _lookup(language: str) -> Callable[[str], str]:
    """Return the cached function from a raw term to its tokens, space separated, in a document of ``language``."""

    @lru_cache(maxsize=1 << 16)
    def expand(term: str) -> str:
        expanded, stemmed = _expanded(term, language)
        return " ".join((*expanded, *dict.fromkeys(stemmed.values())))

    return expand


def _expanded(term: str, language: str) -> tuple[list[str], dict[str, str]]:
    """Tokens of a raw term as it stands, and the marked stem of each of those that has one."""
    stemmed: dict[str, str] = {}

    def word(folded: str) -> str:
        bare, stem = _word(folded, language)
        if stem:
            stemmed[bare] = stem
        return bare

    return terms.expand(term, word), stemmed


@lru_cache(maxsize=1 << 15)
def _word(folded: str, language: str) -> tuple[str, str]:
    """A case-folded word without accents, and its marked stem in a document of ``language``; empty if it has none."""
    bare = _bare(folded)[: terms.MAX_TOKEN]
    script = script_of(_first_letter(folded))
    own = script == script_of_language(language) and language in ALGORITHMS
    algorithm = language if own else _DEFAULTS.get(script, "")
    if algorithm not in ALGORITHMS:
        return bare, ""
    return bare, _bare(stemmer(algorithm)(folded))[: terms.MAX_TOKEN] + STEM


def _candidates(script: str, language: str) -> tuple[str, ...]:
    """Languages whose stems a query's word may have in the index; the empty one is the script's usual."""
    if not language:
        return ("", *by_script(script))
    if script_of_language(language) != script:
        return ("",)
    return (language, "") if language in ALGORITHMS else (language,)


def _first_letter(term: str) -> str:
    return next((letter for letter in term if letter.isalpha()), "0")


def _bare(word: str) -> str:
    """Strip accents from Latin, Greek and Cyrillic letters: people leave them out. Other scripts keep their marks."""
    if word.isascii() or word[0] > "\u052f":
        return word
    apart = unicodedata.normalize("NFD", word.replace("ı", "i").replace("ø", "o").replace("ł", "l").replace("đ", "d"))
    kept = "".join(mark for mark in apart if mark in _KEPT_MARKS or unicodedata.category(mark) != "Mn")
    return unicodedata.normalize("NFC", kept)
