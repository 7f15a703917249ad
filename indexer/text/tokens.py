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
import sys
import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import cache, lru_cache
from itertools import pairwise

from indexer.text.language import detect, function_words, script_of, script_of_language

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
    text = normal(text)
    language = detect(text)
    small = function_words(language)
    raw = cut(text)
    found: dict[str, int] = {}
    for term in [term for term in raw if term.casefold() not in small] or raw:
        if is_run(term):
            found.update(dict.fromkeys(bigrams(term, single=False), _WORD_WEIGHT + _STEM_WEIGHT))
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
    for term in cut(normal(text)):
        given = bigrams(term, single=True) if is_run(term) else _lookup(language)(term).split()
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
    return " ".join(normal(text).casefold().split())


def _joined(text: str, language: str) -> str:
    """Search tokens of a document's text."""
    text = normal(text)
    lookup = _lookup(language)
    if text.isascii():  # no run of a script without spaces
        return " ".join(filter(None, map(lookup, cut(text))))
    found: list[str] = []
    for term in cut(text):
        if is_run(term):
            found.extend(bigrams(term, single=True))
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

    return expand(term, word), stemmed


@lru_cache(maxsize=1 << 15)
def _word(folded: str, language: str) -> tuple[str, str]:
    """A case-folded word without accents, and its marked stem in a document of ``language``; empty if it has none."""
    bare = _bare(folded)[:MAX_TOKEN]
    script = script_of(_first_letter(folded))
    own = script == script_of_language(language) and language in ALGORITHMS
    algorithm = language if own else _DEFAULTS.get(script, "")
    if algorithm not in ALGORITHMS:
        return bare, ""
    return bare, _bare(stemmer(algorithm)(folded))[:MAX_TOKEN] + STEM


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


# Terms --------------------------------------------------------------------------------------------------------------
# Cutting text into raw terms and terms into search tokens: the part that is the same for document and query.
#
# A raw term is a word, or words joined the way identifiers, versions and compounds are (``os.path.join``, ``1.2.3``,
# ``state-of-the-art``, ``std::vector``), or a run of a script written without spaces (Han, kana, Thai, ...).

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


# Stemming -----------------------------------------------------------------------------------------------------------
# Stems, one algorithm per language: the door to Snowball (PyStemmer).

ALGORITHMS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho",
    "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""Snowball algorithm by ISO 639-1 code. Languages that are not here keep their words as they are."""

_FAMILIES = {
    "CYRILLIC": ("ru", "sr"),
    "ARABIC": ("ar", "fa"),
    "DEVANAGARI": ("hi", "ne"),
    "GREEK": ("el",),
    "ARMENIAN": ("hy",),
    "TAMIL": ("ta",),
    "HEBREW": ("yi",),
}
LATIN = tuple(code for code in ALGORITHMS if not any(code in family for family in _FAMILIES.values()))
"""Languages with a stemmer that are written in Latin letters."""


def by_script(script: str) -> tuple[str, ...]:
    """Languages with a stemmer that are written in ``script`` (``LATIN``, ``CYRILLIC``, ...)."""
    return LATIN if script == "LATIN" else _FAMILIES.get(script, ())


@lru_cache(maxsize=64)
def stemmer(language: str) -> Callable[[str], str]:
    """Return the stemmer of ``language``: takes a case-folded word. The identity where there is none."""
    algorithm = ALGORITHMS.get(language)
    if algorithm is None:
        return str
    import Stemmer  # noqa: PLC0415  # a compiled library: only a process that indexes or searches pays for it

    stem: Callable[[str], str] = Stemmer.Stemmer(algorithm, 0).stemWord
    return stem
