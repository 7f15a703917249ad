"""Search tokens of documents and queries for keyword search.

Documents and queries are split into terms in the same way; the index itself only splits at spaces. A document gives
each word twice: unchanged, and as its stem in the document's language, marked with a tilde so that the stem of one
word is never taken for another word (``us`` and ``us~``, the stem of ``use``). A query asks for both; the stem weighs
twice the word, and a term without a stem (number, identifier, bigram) as much as both together. A wrongly detected
language thus costs the stem, never the word. A language without a stemmer uses the default stemmer of its script:
related languages share endings, so a short query whose language was mistaken for a related one still matches. A weight
is expressed by repetition: the index adds up a token's score as often as the query holds it. Function words of the
query's language are left out of a query that has other words. The figures behind each choice are in
``docs/search.md``.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import cache, lru_cache
from itertools import pairwise

from indexer.text.language import detect, function_words, script_of, script_of_language

WORDS = "words/4"
"""Version of the rules below: files whose tokens have another version are read again."""
STEM = "~"
"""Ends every stem."""
MAX_QUERY_TOKENS = 1024
_WORD_WEIGHT, _STEM_WEIGHT = 1, 2
_DEFAULT_LANGUAGE = {
    "LATIN": "en", "CYRILLIC": "ru", "ARABIC": "ar", "DEVANAGARI": "hi", "GREEK": "el", "ARMENIAN": "hy",
    "TAMIL": "ta",
}  # fmt: skip
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
        around: Other pieces of its paragraph (``chunk.surroundings``) by which it is found too; its own words then
        count
            twice, so that the piece that holds a word ranks first.
    """
    language = detect(text) if language is None else language
    # Each piece of a paragraph surrounds the others, hence the cache.
    body = (_joined_cached(text, language),) * 2 + tuple(_joined_cached(t, language) for t in around) if around else ()
    # Many chunks have the same heading, and all have the file's name, hence the cache.
    parts = (*(body or (_joined(text, language),)), _joined_cached(heading, language), _joined_cached(name, language))
    return " ".join(filter(None, parts))


def query_tokens(text: str) -> list[str]:
    """Tokens of a query, each once, in the query's order; any of them may match (OR)."""
    return list(_query_weights(text))


def weighted_tokens(text: str) -> list[str]:
    """``query_tokens`` with each token repeated by its weight, for the keyword index."""
    return [token for token, weight in _query_weights(text).items() for _ in range(weight)]


def _query_weights(text: str) -> dict[str, int]:
    """Tokens of a query with their weights.

    Stems are those of the query's language and of the default language of its script; if the query's language is not
    detected, of every language of its script. Function words are dropped unless nothing else is left.
    """
    text = normalize(text)
    language = detect(text)
    skipped = function_words(language)
    raw = split_terms(text)
    found: dict[str, int] = {}
    for term in [term for term in raw if term.casefold() not in skipped] or raw:
        if is_unspaced(term):
            found.update(dict.fromkeys(bigrams(term, single=False), _WORD_WEIGHT + _STEM_WEIGHT))
            continue
        for candidate in _stem_languages(script_of(_first_letter(term)), language):
            expanded, stemmed = _expanded(term, candidate)
            for token in expanded:
                weight = _WORD_WEIGHT if token in stemmed else _WORD_WEIGHT + _STEM_WEIGHT
                found[token] = min(weight, found.get(token, weight))
            found.update(dict.fromkeys(stemmed.values(), _STEM_WEIGHT))
        if len(found) > MAX_QUERY_TOKENS:
            break
    return dict(list(found.items())[:MAX_QUERY_TOKENS])


def matches(text: str, query: Collection[str], language: str) -> list[str]:
    """Tokens of ``text``, in order, that match the tokens of a query.

    Args:
        text: Part of a document.
        query: Tokens of the query, from ``query_tokens``.
        language: ISO 639-1 code of the document, or empty.
    """
    found: list[str] = []
    for term in split_terms(normalize(text)):
        given = bigrams(term, single=True) if is_unspaced(term) else _lookup(language)(term).split()
        found.extend(token for token in given if token in query)
    return found


def phrases(text: str) -> list[str]:
    """Quoted parts of a query, in order, which a hit must contain word for word (see ``has_phrase``)."""
    found = [next(group for group in match.groups() if group) for match in _QUOTED.finditer(text)]
    return [phrase.strip() for phrase in found if phrase.strip()]


def has_phrase(text: str, phrase: str) -> bool:
    """Whether ``text`` contains ``phrase``, ignoring case, width and the white space between words."""
    return plain(phrase) in plain(text)


def plain(text: str) -> str:
    """``text`` for comparison: normalized, case folded, every run of white space one space."""
    return " ".join(normalize(text).casefold().split())


def _joined(text: str, language: str) -> str:
    """Search tokens of a document's text."""
    text = normalize(text)
    lookup = _lookup(language)
    if text.isascii():  # no run of a script without spaces
        return " ".join(filter(None, map(lookup, split_terms(text))))
    found: list[str] = []
    for term in split_terms(text):
        if is_unspaced(term):
            found.extend(bigrams(term, single=True))
        elif token := lookup(term):
            found.append(token)
    return " ".join(found)


@lru_cache(maxsize=1024)
def _joined_cached(text: str, language: str) -> str:
    """``_joined`` of a heading, a name or a short piece, cached."""
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
    """Unstemmed tokens of a raw term, and the marked stem of each of those that has one."""
    stemmed: dict[str, str] = {}

    def word(folded: str) -> str:
        unaccented, stem = _word_and_stem(folded, language)
        if stem:
            stemmed[unaccented] = stem
        return unaccented

    return expand(term, word), stemmed


@lru_cache(maxsize=1 << 15)
def _word_and_stem(folded: str, language: str) -> tuple[str, str]:
    """A case-folded word without accents, and its marked stem in a document of ``language``; empty if it has none."""
    unaccented = _without_accents(folded)[:MAX_TOKEN]
    script = script_of(_first_letter(folded))
    own = script == script_of_language(language) and language in ALGORITHMS
    algorithm = language if own else _DEFAULT_LANGUAGE.get(script, "")
    if algorithm not in ALGORITHMS:
        return unaccented, ""
    return unaccented, _without_accents(stemmer(algorithm)(folded))[:MAX_TOKEN] + STEM


def _stem_languages(script: str, language: str) -> tuple[str, ...]:
    """Languages whose stems a query's word may have in the index; the empty one stands for the script's default."""
    if not language:
        return ("", *languages_with_stemmer(script))
    if script_of_language(language) != script:
        return ("",)
    return (language, "") if language in ALGORITHMS else (language,)


def _first_letter(term: str) -> str:
    return next((letter for letter in term if letter.isalpha()), "0")


def _without_accents(word: str) -> str:
    """Strip accents from Latin, Greek and Cyrillic letters: people leave them out. Other scripts keep their marks."""
    if word.isascii() or word[0] > "\u052f":
        return word
    apart = unicodedata.normalize("NFD", word.replace("ı", "i").replace("ø", "o").replace("ł", "l").replace("đ", "d"))
    kept = "".join(mark for mark in apart if mark in _KEPT_MARKS or unicodedata.category(mark) != "Mn")
    return unicodedata.normalize("NFC", kept)


# Terms --------------------------------------------------------------------------------------------------------------
# Splitting text into raw terms and terms into search tokens, in the same way for document and query.
#
# A raw term is a word, or words joined the way identifiers, versions and compounds are (``os.path.join``, ``1.2.3``,
# ``state-of-the-art``, ``std::vector``), or a run of a script written without spaces (Han, kana, Thai, ...).

MAX_TOKEN = 64
"""Longest token, in characters; longer ones are cut in documents and queries alike, so they still match."""
_MAX_PARTS = 24
_MAX_TERM = 512

# Scripts that are split into bigrams: written without spaces, or (Hangul) with particles joined to the word.
_UNSPACED = (
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


def normalize(text: str) -> str:
    """Fold compatibility forms and width (NFKC), drop invisible characters, make every digit ASCII."""
    if text.isascii():
        return text
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    text = _INVISIBLE.sub("", text)
    return _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0])), text)


def split_terms(text: str) -> list[str]:
    """Raw terms of a text that went through ``normalize``, in order."""
    if text.isascii():
        return _ascii_terms().findall(text)
    return (_terms_with_marks() if _mark().search(text) else _terms()).findall(text)


def is_unspaced(term: str) -> bool:
    """Whether a raw term is a run of a script that is split into bigrams."""
    return term[0] >= "\u0e01" and _unspaced().match(term) is not None


def bigrams(run: str, *, single: bool) -> list[str]:
    """Overlapping pairs of a run's characters; marks stay with their letter. A run of one is its own token.

    Args:
        run: A raw term for which ``is_unspaced`` holds.
        single: Add every Han character alone (the document's side), so that a query of one character finds it.
    """
    units = _letters().findall(run)
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
        base = term.rstrip("+#")
        return [term.casefold(), base.casefold()] if len(base) == 1 else expand(base, word)
    versions = _versions(term)
    if _VERSION.fullmatch(term):
        return versions
    # A Latin apostrophe separates a word from a clitic (l'eau, it's); others are part of a word (п'ять).
    pieces = [piece for piece in _APOSTROPHE.split(term) if len(piece) > 1 or piece.isdigit()] or [term]
    pieces = [piece.replace("'", "").replace("’", "") for piece in pieces]
    found = [token for piece in pieces for token in _compound_tokens(piece, word)]
    return list(dict.fromkeys(token[:MAX_TOKEN] for token in (*found, *versions) if token))


def _versions(term: str) -> list[str]:
    """Dotted numbers in a term and their leading parts: ``1.2.3`` is also found as ``1.2``."""
    found: list[str] = []
    for match in _VERSION.finditer(term):
        numbers = match[0].split(".")[:_MAX_PARTS]
        found.extend(".".join(numbers[:end])[:MAX_TOKEN] for end in range(len(numbers), 1, -1))
    return found


def _compound_tokens(term: str, word: Callable[[str], str]) -> list[str]:
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
                found.extend(_part_tokens(part.casefold(), word))
    return found


def _part_tokens(part: str, word: Callable[[str], str]) -> list[str]:
    pieces = _MIXED.findall(part) if any(letter.isdigit() for letter in part) else ()
    if len(pieces) < 2:
        return [word(part)]
    return [part, *(word(piece) for piece in pieces if len(piece) > 1)] if len(pieces) <= 3 else [part]


@cache
def _ascii_terms() -> re.Pattern[str]:
    word = "[A-Za-z0-9_]+"
    return re.compile(rf"{word}(?:{_JOINT}{word})*(?:\+\+|#)?", re.ASCII)


@cache
def _terms() -> re.Pattern[str]:
    word = rf"[^\W{_UNSPACED}]+"
    return re.compile(rf"{word}(?:{_JOINT}{word})*(?:\+\+|#)?|[{_UNSPACED}]+")


@cache
def _terms_with_marks() -> re.Pattern[str]:
    word = rf"(?:[^\W{_UNSPACED}][{_mark_ranges()}]*)+"
    return re.compile(rf"{word}(?:{_JOINT}{word})*(?:\+\+|#)?|[{_UNSPACED}][{_UNSPACED}{_mark_ranges()}]*")


@cache
def _unspaced() -> re.Pattern[str]:
    return re.compile(f"[{_UNSPACED}]")


@cache
def _letters() -> re.Pattern[str]:
    return re.compile(rf"[^{_mark_ranges()}][{_mark_ranges()}]*|[{_mark_ranges()}]+")


@cache
def _mark() -> re.Pattern[str]:
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


# Stemming -----------------------------------------------------------------------------------------------------------
# Stems by Snowball (PyStemmer), one algorithm per language.

ALGORITHMS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho",
    "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""Snowball algorithm by ISO 639-1 code. Languages that are not here keep their words as they are."""

_LANGUAGES_BY_SCRIPT = {
    "CYRILLIC": ("ru", "sr"),
    "ARABIC": ("ar", "fa"),
    "DEVANAGARI": ("hi", "ne"),
    "GREEK": ("el",),
    "ARMENIAN": ("hy",),
    "TAMIL": ("ta",),
    "HEBREW": ("yi",),
}
LATIN = tuple(code for code in ALGORITHMS if not any(code in family for family in _LANGUAGES_BY_SCRIPT.values()))
"""Languages with a stemmer that are written in Latin letters."""


def languages_with_stemmer(script: str) -> tuple[str, ...]:
    """Languages with a stemmer that are written in ``script`` (``LATIN``, ``CYRILLIC``, ...)."""
    return LATIN if script == "LATIN" else _LANGUAGES_BY_SCRIPT.get(script, ())


@lru_cache(maxsize=64)
def stemmer(language: str) -> Callable[[str], str]:
    """Return the stemmer of ``language``: takes a case-folded word. The identity where there is none."""
    algorithm = ALGORITHMS.get(language)
    if algorithm is None:
        return str
    import Stemmer  # noqa: PLC0415  # only a process that indexes or searches needs it

    stem: Callable[[str], str] = Stemmer.Stemmer(algorithm, 0).stemWord
    return stem
