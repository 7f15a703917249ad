"""Stems, one algorithm per language: the door to Snowball (PyStemmer)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

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
