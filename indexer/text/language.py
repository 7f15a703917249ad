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
_SCRIPT_LANGUAGES = _OTHER_SCRIPTS | {
    "LATIN": tuple(code for code in FUNCTION_WORDS if all(code not in others for others in _OTHER_SCRIPTS.values()))
}
_ONE_LANGUAGE = {
    "GREEK": "el", "ARMENIAN": "hy", "GEORGIAN": "ka", "TAMIL": "ta", "BENGALI": "bn", "GUJARATI": "gu",
    "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "GURMUKHI": "pa", "SINHALA": "si", "THAI": "th", "LAO": "lo", "KHMER": "km",
    "MYANMAR": "my", "HANGUL": "ko", "ETHIOPIC": "am", "TIBETAN": "bo", "MONGOLIAN": "mn",
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

    Code, tables and single Latin words answer empty rather than a guess: two function words are needed, or one in
    a text of at most eight words, and no other language may have as many.
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
    return _by_words(sample, script)


def _by_words(text: str, script: str) -> str:
    known = _words_of(script)
    if not known:
        return ""
    words = _WORD.findall(text.casefold())
    votes: Counter[str] = Counter()
    for word in words:
        for language, weight in known.get(word, ()):
            votes[language] += weight
    if not text.isascii():
        for letter, language in _LETTERS.items():
            if language in _SCRIPT_LANGUAGES[script] and letter in text:
                votes[language] += 60
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return ""
    needed = 60 if len(words) <= 8 else max(120, len(words))
    return ranked[0][0] if ranked[0][1] >= needed else ""


@cache
def _words_of(script: str) -> dict[str, tuple[tuple[str, int], ...]]:
    """Function words of a script's languages, each with what it says for one: 60 over the languages it is in."""
    owners: dict[str, list[str]] = {}
    for language in _SCRIPT_LANGUAGES.get(script, ()):
        for word in set(FUNCTION_WORDS[language].split()):
            owners.setdefault(word, []).append(language)
    return {word: tuple((language, 60 // len(of) or 1) for language in of) for word, of in owners.items()}
