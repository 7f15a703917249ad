"""The models people can name without reading a model card: facts, kept as data in ``catalogue.toml``."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue. What the model's own files say goes before what stands here.

    Attributes:
        name: Short name, as a user writes it.
        repo: Hub repository, ``owner/name``.
        dim: Length of a vector.
        context: What the model sees of a text, in tokens, special tokens included.
        languages: What it was trained for, in words for people.
        language_codes: The same as ISO 639-1 codes, where they are few; empty for multilingual models.
        licence: SPDX identifier, or the licence's name where it has none.
        disk_bytes: Size of the files that ``models pull`` fetches, bytes; 0 when unknown.
        pooling: ``mean``, ``cls``, ``last`` or ``static`` (used where the repository does not say).
        query_prompt: Put before a query, where the model's own configuration names none.
        passage_prompt: Put before a passage, likewise.
        onnx: Path of the ONNX form in the repository, empty when none is used.
        remote_code: Whether the model runs only with code shipped in its repository.
        safetensors: Whether the repository has weights that hold no code.
        gated: Whether the hub asks for an accepted licence and a token.
        distribution: Python distribution that carries the files, empty when none does.
        checks: SHA-256 by file name, verified before the first load.
        note: One sentence for people, may be empty.
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
    """Return the catalogue, in the order of the file."""
    text = resources.files("indexer.model").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(_entry(table) for table in tomllib.loads(text)["model"])


def lookup(name: str) -> Entry | None:
    """Return the entry that ``name`` means (short name or repository, any case), or None."""
    wanted = name.strip().lower()
    return next((e for e in entries() if wanted in (e.name.lower(), e.repo.lower())), None)


def nearest(name: str) -> str:
    """Return the catalogue name most like ``name``, or an empty string when none is."""
    by_lower = {e.name.lower(): e.name for e in entries()}
    close = difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""


def _entry(table: dict[str, Any]) -> Entry:
    checks = tuple(sorted(table.pop("sha256", {}).items()))
    codes = tuple(table.pop("language_codes", ()))
    return Entry(**table, checks=checks, language_codes=codes)
