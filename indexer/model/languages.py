"""Languages a model was made for: from the catalogue, else from the card that lies beside its weights.

Search lets a model vote only on languages it knows (``indexer.fusion``). What nobody has written down is unknown,
never guessed.
"""

from __future__ import annotations

import re
from pathlib import Path

from indexer.model.catalogue import lookup

CARD = "README.md"
_CARD_BYTES = 64 * 1024
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LANGUAGE = re.compile(r"^languages?:[ \t]*(.*(?:\r?\n(?:[ \t]*-[ \t].*|[ \t]+.*|\].*|(?=\r?\n)))*)", re.MULTILINE)
_ITEM = re.compile(r"[A-Za-z][A-Za-z_-]*")
# ISO 639-2 and 639-3 codes, and older 639-1 ones, as cards write them, of languages that ``text.language`` knows.
_ALSO = {
    "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt",
    "nld": "nl", "dut": "nl", "rus": "ru", "ukr": "uk", "pol": "pl", "ces": "cs", "cze": "cs", "slk": "sk",
    "zho": "zh", "chi": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko", "ara": "ar", "heb": "he", "iw": "he",
    "hin": "hi", "tur": "tr", "swe": "sv", "dan": "da", "nor": "no", "nob": "no", "nno": "no", "nb": "no", "nn": "no",
    "fin": "fi", "hun": "hu", "ron": "ro", "rum": "ro", "ell": "el", "gre": "el", "vie": "vi", "tha": "th",
    "ind": "id", "in": "id", "fas": "fa", "per": "fa",
}  # fmt: skip
_NO_LANGUAGE = frozenset({"code"})


def languages_of(name: str, directory: Path | None = None) -> frozenset[str] | None:
    """Languages the model ``name`` was made for, ISO 639-1; None when it reads many or nobody says.

    Args:
        name: As a user writes it.
        directory: Where its files lie, for a model that the catalogue does not have. Read from disk.
    """
    entry = lookup(name)
    if entry is not None:
        return frozenset(entry.language_codes) or None
    return _by_card(directory) if directory is not None else None


def _by_card(directory: Path) -> frozenset[str] | None:
    try:
        with (directory / CARD).open(encoding="utf-8", errors="replace") as card:
            return card_languages(card.read(_CARD_BYTES))
    except OSError:  # most local models have no card
        return None


def card_languages(card: str) -> frozenset[str] | None:
    """Languages that a model card's front matter names; None when it names none, or one we cannot place.

    ``multilingual``, dialects of unknown languages and codes we have never seen make the whole list unknown: taking
    only the part we understand would silence the model where it is good.
    """
    front = _FRONT.match(card)
    said = _LANGUAGE.search(front[1]) if front else None
    if said is None:
        return None
    text = re.sub(r"#.*", "", said[1])
    codes = {_code(word) for word in _ITEM.findall(text)} - _NO_LANGUAGE
    return frozenset(codes) if codes and all(codes) else None


def _code(word: str) -> str:
    """ISO 639-1 code of one item, ``code`` for source code, empty when it cannot be placed."""
    first = re.split(r"[-_]", word.lower(), maxsplit=1)[0]
    if first in _NO_LANGUAGE:
        return first
    return _ALSO.get(first) or (first if len(first) == 2 else "")
