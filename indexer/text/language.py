"""Which language a text is written in: its script first, then its function words. No model, no dictionary file.

Good enough to choose a stemmer and to know whether an embedding model has read such text; not a general
identifier. Figures are in ``docs/search.md``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

from indexer.text.function_words import FUNCTION_WORDS

SAMPLE = 6_000
"""Characters looked at; more does not change the answer on prose."""

_OTHER_SCRIPTS = {
    "CYRILLIC": ("ru", "uk", "bg", "sr"),
    "ARABIC": ("ar", "fa", "ur"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "HEBREW": ("he", "yi"),
}
_LATIN = tuple(sorted(FUNCTION_WORDS.keys() - {code for codes in _OTHER_SCRIPTS.values() for code in codes}))
_SCRIPT_LANGUAGES = {"LATIN": _LATIN, **_OTHER_SCRIPTS}
_ONE_LANGUAGE = {
    "GREEK": "el", "ARMENIAN": "hy", "GEORGIAN": "ka", "TAMIL": "ta", "BENGALI": "bn", "GUJARATI": "gu",
    "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "GURMUKHI": "pa", "SINHALA": "si", "THAI": "th", "LAO": "lo",
    "KHMER": "km", "MYANMAR": "my", "HANGUL": "ko", "ETHIOPIC": "am", "TIBETAN": "bo", "MONGOLIAN": "mn",
}  # fmt: skip
# Letters that one of our languages has and the others lack; a hint worth one function word.
_LETTERS = {
    "ß": "de", "ñ": "es", "¿": "es", "ł": "pl", "ő": "hu", "ű": "hu", "ğ": "tr", "ı": "tr", "ř": "cs", "ů": "cs",
    "ě": "cs", "ľ": "sk", "ã": "pt", "ț": "ro", "ș": "ro", "ė": "lt", "ų": "lt", "œ": "fr", "ĉ": "eo", "ŭ": "eo",
    "ơ": "vi", "ư": "vi", "đ": "vi", "і": "uk", "ї": "uk", "є": "uk", "ы": "ru", "э": "ru", "ј": "sr", "љ": "sr",
    "ћ": "sr", "پ": "fa", "گ": "fa", "ژ": "fa", "ٹ": "ur", "ں": "ur", "ے": "ur", "ة": "ar",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:[\u0900-\u0963][^\W\d_]*)*")
_NON_LATIN = re.compile(r"[^\x00-\u024f\u1e00-\u1eff\u2000-\u2bff\ufb00-\ufb06\ufeff]+")


def script_of(letter: str) -> str:
    """First word of a letter's Unicode name: ``LATIN``, ``CJK``, ``HIRAGANA``; empty for what is no letter."""
    return unicodedata.name(letter, "").split(" ", 1)[0] if letter.isalpha() else ""


@cache
def script_of_language(language: str) -> str:
    """Script a language is usually written in, as ``script_of`` names it; empty for the empty language."""
    if not language:
        return ""
    if language in {"zh", "ja"}:
        return "CJK"
    several = next((script for script, codes in _OTHER_SCRIPTS.items() if language in codes), "")
    return several or next((script for script, code in _ONE_LANGUAGE.items() if code == language), "LATIN")


def scripts(text: str) -> Counter[str]:
    """Letters of each script in ``text``; kana and Han count as three letters, Hangul as two (they say more)."""
    foreign = "".join(_NON_LATIN.findall(text))
    found: Counter[str] = Counter(map(script_of, foreign))
    del found[""]
    for script, weight in (("CJK", 3), ("HIRAGANA", 3), ("KATAKANA", 3), ("HANGUL", 2)):
        if script in found:
            found[script] *= weight
    found["LATIN"] += sum(map(str.isalpha, text)) - sum(map(str.isalpha, foreign))
    return +found


def detect(text: str) -> str:
    """ISO 639-1 code of the language most of ``text`` is written in, or empty when it does not show.

    Code, tables and names in Latin letters answer empty rather than a guess. Scripts of several languages answer
    the one with most readers when nothing tells them apart, so a text in Cyrillic is never taken for English.
    """
    sample = text[:SAMPLE]
    if sample.isascii():
        return _by_words(sample, "LATIN")
    found = scripts(sample)
    if not found:
        return ""
    script = found.most_common(1)[0][0]
    if script in {"CJK", "HIRAGANA", "KATAKANA"}:
        return "ja" if 20 * (found["HIRAGANA"] + found["KATAKANA"]) > found["CJK"] else "zh"
    if script in _ONE_LANGUAGE:
        return _ONE_LANGUAGE[script]
    others = _OTHER_SCRIPTS.get(script)
    return _by_words(sample, script) or (others[0] if others else "")


@cache
def function_words(language: str) -> frozenset[str]:
    """The small words of a language that say little about a text's subject; empty for languages not listed."""
    return frozenset(FUNCTION_WORDS.get(language, "").split())


def _by_words(text: str, script: str) -> str:
    known = _words_of(script)
    if not known:
        return ""
    words = _WORD.findall(text.casefold())
    votes: Counter[str] = Counter()
    heard: Counter[str] = Counter()
    for word, count in Counter(words).items():
        for language, weight in known.get(word, ()):
            votes[language] += min(count, 3) * weight  # "Los Angeles" ten times is not Spanish
            heard[language] += count * weight
    if not text.isascii():
        for letter, language in _LETTERS.items():
            if language in _SCRIPT_LANGUAGES[script] and letter in text:
                votes[language] += 60
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return ""
    # Prose has a function word in two or three; a tenth of them, and never less than most of one, is asked for.
    enough = max(votes[ranked[0][0]], heard[ranked[0][0]]) >= max(40, 6 * len(words))
    return ranked[0][0] if enough else ""


@cache
def _words_of(script: str) -> dict[str, tuple[tuple[str, int], ...]]:
    """Function words of a script's languages, each with what it says for one: 60 over the languages it is in."""
    owners: dict[str, list[str]] = {}
    for language in _SCRIPT_LANGUAGES.get(script, ()):
        for word in set(FUNCTION_WORDS[language].split()):
            owners.setdefault(word, []).append(language)
    return {word: tuple((language, 60 // len(of) or 1) for language in of) for word, of in owners.items()}
