"""The catalogue: models with short names, their facts from ``catalogue.toml``, and the languages of a model."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue. The model's own files take precedence over what is stated here.

    Attributes:
        name: Short name, as a user writes it.
        repo: Hub repository, ``owner/name``.
        dim: Length of a vector.
        context: How much of a text the model takes, in tokens, special tokens included.
        languages: What it was trained for, as shown to users.
        language_codes: The same as ISO 639-1 codes, where they are few; empty for multilingual models.
        licence: SPDX identifier, or the licence's name where it has none.
        disk_bytes: Size of the files that ``models pull`` downloads, bytes; 0 when unknown.
        pooling: ``mean``, ``cls``, ``last`` or ``static`` (used when the repository does not say).
        query_prompt: Prepended to a query when the model's own configuration names no prompt.
        passage_prompt: Prepended to a passage, likewise.
        onnx: Path of the ONNX form in the repository, empty when none is used.
        remote_code: Whether the model runs only with code shipped in its repository.
        safetensors: Whether the repository has weights that hold no code.
        gated: Whether the hub asks for an accepted licence and a token.
        distribution: Python distribution that carries the files, empty when none does.
        checks: SHA-256 by file name, verified before the first load.
        note: One sentence shown to users, may be empty.
        kind: ``embedder`` for a folder's model; ``reranker`` for ``search.rerank`` (no dimension, no pooling).
    """

    name: str
    repo: str
    dim: int
    context: int
    languages: str
    licence: str
    disk_bytes: int
    pooling: str
    query_prompt: str = ""
    passage_prompt: str = ""
    onnx: str = ""
    remote_code: bool = False
    safetensors: bool = True
    gated: bool = False
    distribution: str = ""
    checks: tuple[tuple[str, str], ...] = ()
    note: str = ""
    language_codes: tuple[str, ...] = ()
    kind: Literal["embedder", "reranker"] = "embedder"


@cache
def entries() -> tuple[Entry, ...]:
    """Return all entries, in the order of the file."""
    text = resources.files("indexer.models").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(_entry(table) for table in tomllib.loads(text)["model"])


def lookup(name: str) -> Entry | None:
    """Return the entry that ``name`` means (short name or repository, any case), or None."""
    key = name.strip().lower()
    return next((e for e in entries() if key in (e.name.lower(), e.repo.lower())), None)


def nearest(name: str) -> str:
    """Return the catalogue name most like ``name``, or an empty string when none is."""
    by_lower = {e.name.lower(): e.name for e in entries()}
    close = difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""


def _entry(table: dict[str, Any]) -> Entry:
    checks = tuple(sorted(table.pop("sha256", {}).items()))
    codes = tuple(table.pop("language_codes", ()))
    return Entry(**table, checks=checks, language_codes=codes)


# Languages ----------------------------------------------------------------------------------------------------------
# From the catalogue, else from the model card beside the weights. Search counts a model's ranking only for languages
# it was made for (``indexer.search.fusion``); languages that neither source states are unknown, never guessed.

CARD = "README.md"
_CARD_BYTES = 64 * 1024
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LANGUAGE = re.compile(r"^languages?:[ \t]*(.*(?:\r?\n(?:[ \t]*-[ \t].*|[ \t]+.*|\].*|(?=\r?\n)))*)", re.MULTILINE)
_ITEM = re.compile(r"[A-Za-z][A-Za-z_-]*")
# ISO 639-2 and 639-3 codes, and older 639-1 ones, as cards write them, of languages that ``text.language`` knows.
_OTHER_CODES = {
    "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt",
    "nld": "nl", "dut": "nl", "rus": "ru", "ukr": "uk", "pol": "pl", "ces": "cs", "cze": "cs", "slk": "sk",
    "zho": "zh", "chi": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko", "ara": "ar", "heb": "he", "iw": "he",
    "hin": "hi", "tur": "tr", "swe": "sv", "dan": "da", "nor": "no", "nob": "no", "nno": "no", "nb": "no", "nn": "no",
    "fin": "fi", "hun": "hu", "ron": "ro", "rum": "ro", "ell": "el", "gre": "el", "vie": "vi", "tha": "th",
    "ind": "id", "in": "id", "fas": "fa", "per": "fa",
}  # fmt: skip
_NO_LANGUAGE = frozenset({"code"})


def languages_of(name: str, directory: Path | None = None) -> frozenset[str] | None:
    """Return the languages the model ``name`` was made for, ISO 639-1; None when they are many or unknown.

    Args:
        name: As a user writes it.
        directory: Where its files are; its model card is read for a model that is not in the catalogue.
    """
    entry = lookup(name)
    if entry is not None:
        return frozenset(entry.language_codes) or None
    return _languages_of_card(directory) if directory is not None else None


def _languages_of_card(directory: Path) -> frozenset[str] | None:
    try:
        with (directory / CARD).open(encoding="utf-8", errors="replace") as card:
            return card_languages(card.read(_CARD_BYTES))
    except OSError:  # most local models have no card
        return None


def card_languages(card: str) -> frozenset[str] | None:
    """Return the languages in a model card's front matter; None when there are none, or one is not known.

    ``multilingual``, dialects of unknown languages and unknown codes make the whole list unknown: with only the known
    part of it the model would be ignored for languages in which it is good.
    """
    front = _FRONT.match(card)
    listed = _LANGUAGE.search(front[1]) if front else None
    if listed is None:
        return None
    text = re.sub(r"#.*", "", listed[1])
    codes = {_code(word) for word in _ITEM.findall(text)} - _NO_LANGUAGE
    return frozenset(codes) if codes and all(codes) else None


def _code(word: str) -> str:
    """Return the ISO 639-1 code of one item, ``code`` for source code, empty when it is not known."""
    first = re.split(r"[-_]", word.lower(), maxsplit=1)[0]
    if first in _NO_LANGUAGE:
        return first
    return _OTHER_CODES.get(first) or (first if len(first) == 2 else "")
